//! Versions of the project's rows: keep, compare, go back.

use super::{Ask, Job, Studio, ask};
use crate::cli::quantity::{ago, bytes, count};
use crate::gui::command::Out;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::card::card;
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Align, Label, Layout, Ui};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn versions_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let is_busy = page.is_busy(Job::Versions);
    ui.horizontal_wrapped(|ui| {
        field::line(ui, "Note", &mut page.typed.note, "what is special about these rows", 260.0);
        let can_save = page.has_rows && !is_busy;
        if button::primary("Keep as a version").icon(Icon::Flag).enabled(can_save).ui(ui).clicked() {
            out.push(ask(Ask::Save(std::mem::take(&mut page.typed.note))));
        }
    });
    ui.add_space(space::S);
    let list: Vec<&Value> = page.versions.iter().filter_map(|found| found["versions"].as_array()).flatten().collect();
    if list.is_empty() {
        if is_busy {
            empty::loading(ui, "Reading the versions");
        } else {
            let sentence = "Keep the rows before you change them; here is then shown what changed, with a way back.";
            empty::empty(ui, Icon::Clock, "No versions yet", sentence, |_| {});
        }
        return;
    }
    for version in list.iter().rev() {
        version_ui(ui, version, is_busy, out);
        if let Some((number, found)) = &page.diff
            && Some(*number) == version["version"].as_u64()
        {
            diff_ui(ui, found);
        }
    }
}

fn version_ui(ui: &mut Ui, version: &Value, is_busy: bool, out: &mut Out) {
    let t = of(ui);
    let number = version["version"].as_u64().unwrap_or(0);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let back = format!("Go back to version {number}");
                if button::secondary("Go back to it").named(&back).small().enabled(!is_busy).ui(ui).clicked() {
                    out.push(ask(Ask::Restore(number)));
                }
                let what = format!("What changed since version {number}");
                if button::secondary("What changed since").named(&what).small().ui(ui).clicked() {
                    out.push(ask(Ask::Diff(number)));
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    let note = version["note"].as_str().unwrap_or_default();
                    let title =
                        if note.is_empty() { format!("Version {number}") } else { format!("Version {number}: {note}") };
                    ui.add(Label::new(text::card_title(t, title)).truncate());
                });
            });
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
        let line = format!(
            "{} rows, {}, kept {}",
            count(version["rows"].as_u64().unwrap_or(0)),
            bytes(version["bytes"].as_u64().unwrap_or(0)),
            ago(version["created"].as_i64().unwrap_or(now), now)
        );
        ui.label(text::hint(t, line));
    });
}

fn diff_ui(ui: &mut Ui, found: &Value) {
    let t = of(ui);
    let number = |name: &str| count(found[name].as_u64().unwrap_or(0));
    card(ui, |ui| {
        let line = format!(
            "{} rows as they were, {} new, {} gone, {} answered in another way",
            number("kept"),
            number("added"),
            number("removed"),
            number("changed")
        );
        ui.label(text::value(t, line));
        let kinds = [("additions", "+", t.ok), ("removals", "−", t.bad), ("changes", "~", t.warn)];
        for (name, sign, tone) in kinds {
            for change in found[name].as_array().into_iter().flatten() {
                change_ui(ui, change, sign, tone);
            }
        }
    });
}

fn change_ui(ui: &mut Ui, change: &Value, sign: &str, tone: tokens::Tone) {
    let t = of(ui);
    let word = |name: &str| change[name].as_str();
    ui.horizontal_wrapped(|ui| {
        ui.label(text::toned_strong(tone.fg, sign));
        ui.label(text::value(t, word("question").unwrap_or_default()));
        match (word("old"), word("new")) {
            (Some(old), Some(new)) => ui.label(text::body(t, format!("{old} → {new}"))),
            (Some(only), None) | (None, Some(only)) => ui.label(text::body(t, only)),
            (None, None) => return,
        };
    });
}
