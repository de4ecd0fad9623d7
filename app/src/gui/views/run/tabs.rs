//! Below the charts: answers over time, what happened when, and the settings.

use crate::gui::command::Out;
use crate::gui::story::{Sample, Story};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, icon_label, row};
use crate::gui::widgets::{field, markdown};
use eframe::egui::{Label, Ui};
use peft_storage::Run;
use serde_json::Value;

/// The same questions, answered again and again.
pub(super) fn samples_ui(ui: &mut Ui, story: &Story, out: &mut Out) {
    let t = of(ui);
    if story.samples.is_empty() {
        ui.label(text::body(
            t,
            "At each check the run answers a few fixed questions; how the answers change shows here.",
        ));
        return;
    }
    let mut prompts: Vec<&str> = Vec::new();
    for sample in &story.samples {
        if !prompts.contains(&sample.prompt.as_str()) {
            prompts.push(&sample.prompt);
        }
    }
    for prompt in prompts {
        let answers: Vec<&Sample> = story.samples.iter().filter(|s| s.prompt == prompt).collect();
        card(ui, |ui| {
            ui.label(text::card_title(t, prompt));
            if let Some(expected) = answers.iter().find_map(|s| s.expected.as_deref()) {
                ui.horizontal_top(|ui| {
                    icon_label(ui, Icon::Flag, t.text3, 14.0);
                    ui.label(text::hint(t, format!("Your data says: {expected}")));
                });
            }
            let first = answers.first().filter(|_| answers.len() > 1);
            for sample in first.into_iter().chain(answers.last()) {
                ui.add_space(space::XS);
                let when =
                    if sample.step == 0 { "Before training".to_owned() } else { format!("After step {}", sample.step) };
                ui.label(text::hint(t, when));
                markdown::markdown(ui, &sample.answer, out);
            }
        });
    }
}

/// What happened, the latest first.
pub(super) fn events_ui(ui: &mut Ui, story: &Story) {
    let t = of(ui);
    if story.notes.is_empty() {
        ui.label(text::body(t, "Checks, checkpoints, pauses and whatever the run decided by itself appear here."));
        return;
    }
    card(ui, |ui| {
        for note in story.notes.iter().rev().take(300) {
            let (icon, color) = match note.kind {
                "anomaly" => (Icon::Warning, t.warn.fg),
                "failed" => (Icon::Warning, t.bad.fg),
                "finished" => (Icon::Check, t.ok.fg),
                "checkpoint" => (Icon::Download, t.text3),
                "evaluation" => (Icon::Flag, t.accent),
                "paused" => (Icon::Pause, t.text2),
                _ => (Icon::Play, t.text2),
            };
            ui.horizontal(|ui| {
                icon_label(ui, icon, color, 15.0);
                ui.add_sized(
                    [72.0, 18.0],
                    Label::new(text::hint(t, format!("step {}", note.step))).halign(eframe::egui::Align::LEFT),
                );
                ui.add(Label::new(text::body(t, &note.text)).wrap());
            });
        }
    });
}

/// The settings, with what was decided for those left open.
pub(super) fn config_ui(ui: &mut Ui, run: &Run, words: &mut String) {
    field::search(ui, "Search settings", words, 220.0);
    card(ui, |ui| {
        row(ui, "Folder", &run.directory.display().to_string());
        row(ui, "Id", run.id.as_str());
        let mut flat = Vec::new();
        flatten("", &run.config, &mut flat);
        for (key, value) in flat {
            let is_wanted = words.is_empty() || key.contains(words.to_lowercase().as_str());
            if !is_wanted || (value.is_null() && run.plan.get(last(&key)).is_none()) {
                continue;
            }
            let chosen = run.plan.get(last(&key)).filter(|_| value.is_null());
            let shown = match (chosen, &value) {
                (Some(plan), _) => format!("{}  (chosen for you)", written(plan)),
                (None, value) => written(value),
            };
            row(ui, &key.replace('_', " "), &shown);
        }
    });
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        other => other.to_string(),
    }
}

fn flatten(path: &str, value: &Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                flatten(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, inner, into);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        other => into.push((path.to_owned(), other.clone())),
    }
}
