//! Fourth step: three plain sliders, why each value is what it is, and everything else under Advanced.

use super::Wizard;
use crate::gui::command::Out;
use crate::gui::glossary;
use crate::gui::problem::Problem;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::card;
use crate::gui::widgets::chart::plain;
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Align, CollapsingHeader, Grid, Label, Layout, RichText, Slider, SliderClamping, TextEdit, Ui};
use peft_plan::RunConfig;
use peft_plan::defaults::{Reasoned, Source};
use peft_plan::settings::Meaning;
use serde_json::Value;

/// Draw it.
pub(super) fn settings_ui(ui: &mut Ui, wizard: &mut Wizard, out: &mut Out) {
    let values: Vec<Reasoned> = match &wizard.answer {
        Some(Ok(answer)) => answer.planned.values.clone(),
        Some(Err(problem)) => {
            problem_card(ui, problem, false, out);
            ui.add_space(space::S);
            // What cannot be is changed where it was typed.
            wizard.known.clone()
        }
        None => Vec::new(),
    };
    if values.is_empty() && wizard.is_planning {
        empty::loading(ui, "Working out what suits your machine and your examples");
        return;
    }
    sliders_ui(ui, wizard, &values);
    ui.add_space(space::M);
    why_ui(ui, wizard, &values, out);
}

fn number(values: &[Reasoned], key: &str) -> Option<f64> {
    values.iter().find(|v| v.key == key)?.value.as_f64()
}

/// Speed against quality, memory, strength: each moves a real value, which stands beside it.
fn sliders_ui(ui: &mut Ui, wizard: &mut Wizard, values: &[Reasoned]) {
    let t = of(ui);
    card(ui, |ui| {
        ui.label(text::card_title(t, "In plain words"));
        ui.spacing_mut().slider_width = 200.0;
        if let Some(mut epochs) = number(values, "training.epochs") {
            let name = "How thoroughly";
            let what = "How often it goes through your examples. More takes longer, and too many teach it by heart.";
            let slider = Slider::new(&mut epochs, 0.5..=20.0).step_by(0.5).suffix(" passes");
            if slider_ui(ui, name, what, "quick", "thorough", slider) {
                wizard.config.training.epochs = Some(epochs);
            }
        }
        if let Some(rank) = number(values, "adapter.rank") {
            let mut power = rank.max(1.0).log2();
            let name = "How much it can learn";
            let what = "The room that the add-on has (its rank). More learns more, and uses more memory.";
            let slider = Slider::new(&mut power, 1.0..=8.0)
                .step_by(1.0)
                .custom_formatter(|value, _| format!("rank {}", 2_f64.powf(value) as u64));
            if slider_ui(ui, name, what, "lean", "roomy", slider) {
                let rank = 2_f64.powf(power.round()) as usize;
                wizard.config.adapter.rank = Some(rank);
                wizard.config.adapter.alpha = Some(2.0 * rank as f64);
            }
        }
        if let Some(rate) = number(values, "training.learning_rate") {
            let mut power = rate.max(1e-7).log10();
            let name = "How strongly it learns";
            let what = "The size of each correction (the learning rate). Too big is wild, too small is endless.";
            let slider = Slider::new(&mut power, -6.0..=-2.0)
                .step_by(0.1)
                .custom_formatter(|value, _| plain(10_f64.powf(value)))
                .custom_parser(|typed| typed.trim().parse().ok().filter(|rate: &f64| *rate > 0.0).map(f64::log10));
            if slider_ui(ui, name, what, "gently", "strongly", slider) {
                // Two digits: more would be a precision that nobody has.
                let rounded = format!("{:.1e}", 10_f64.powf(power)).parse().unwrap_or(rate);
                wizard.config.training.learning_rate = Some(rounded);
            }
        }
    });
}

fn slider_ui(ui: &mut Ui, name: &str, what: &str, low: &str, high: &str, slider: Slider) -> bool {
    let t = of(ui);
    let is_wide = ui.available_width() > 640.0;
    ui.spacing_mut().slider_width = if is_wide { 220.0 } else { 130.0 };
    ui.horizontal(|ui| {
        let size = eframe::egui::vec2(180.0, 28.0);
        let label = ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
            ui.set_min_width(180.0);
            let label = ui.label(text::value(t, name));
            field::explain(ui, name, what);
            label
        });
        if is_wide {
            let size = eframe::egui::vec2(48.0, 28.0);
            ui.allocate_ui_with_layout(size, Layout::right_to_left(Align::Center), |ui| {
                ui.set_min_width(48.0);
                ui.label(text::hint(t, low));
            });
        }
        // What was recommended stays as it is until somebody moves it, also between two steps of the slider.
        let response = ui.add(slider.clamping(SliderClamping::Edits).trailing_fill(true)).labelled_by(label.inner.id);
        if is_wide {
            ui.label(text::hint(t, high));
        }
        response.changed()
    })
    .inner
}

fn source(source: Source) -> &'static str {
    match source {
        Source::You => "you",
        Source::Profile => "your goal",
        Source::Data => "your examples",
        Source::Model => "the model",
        Source::Hardware => "this computer",
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// S4.2.5: each value and why; under Advanced each can be changed.
fn why_ui(ui: &mut Ui, wizard: &mut Wizard, values: &[Reasoned], out: &mut Out) {
    let t = of(ui);
    if values.is_empty() {
        return;
    }
    card(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.label(text::card_title(t, "Why these values"));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.checkbox(&mut wizard.shows_advanced, "Change values (advanced)");
            });
        });
        field::search(ui, "Search settings", &mut wizard.words, 220.0);
        ui.add_space(space::XS);
        let words = wizard.words.to_lowercase();
        let is_wanted = |key: &str, reason: &str| {
            let what = peft_plan::settings::meaning(key).map_or("", |meaning| meaning.what.as_str());
            words.is_empty() || [key, reason, what].iter().any(|text| text.to_lowercase().contains(&words))
        };
        let is_wide = ui.available_width() > 640.0;
        Grid::new("why").striped(true).num_columns(if is_wide { 3 } else { 2 }).spacing([16.0, 8.0]).show(ui, |ui| {
            let config = wizard.config.to_value();
            let own = |key: &str| config.pointer(&format!("/{}", key.replace('.', "/"))).filter(|set| !is_unset(set));
            for value in values.iter().filter(|value| is_wanted(&value.key, &value.reason)) {
                let reason = format!("{} ({})", value.reason, source(value.source));
                let shown = own(&value.key).unwrap_or(&value.value);
                value_ui(ui, wizard, (&value.key, shown, value.source == Source::You), &reason, is_wide);
                ui.end_row();
            }
            if wizard.shows_advanced {
                for (key, meaning) in others(values).filter(|(key, meaning)| is_wanted(key, &meaning.what)) {
                    let shown = own(key).unwrap_or(&Value::Null);
                    value_ui(ui, wizard, (key, shown, !shown.is_null()), &meaning.what, is_wide);
                    ui.end_row();
                }
            }
        });
        if let Some(problem) = wizard.refused.take()
            && !problem_card(ui, &problem, true, out)
        {
            wizard.refused = Some(problem);
        }
        let RunConfig { name, use_case, model, dataset, schema, version, .. } = wizard.config.clone();
        let recommended = RunConfig { name, use_case, model, dataset, schema, version, ..RunConfig::default() };
        if wizard.config != recommended
            && button::quiet("Back to what was recommended").icon(Icon::Refresh).ui(ui).clicked()
        {
            wizard.config = recommended;
            wizard.refused = None;
            wizard.edits.clear();
        }
    });
    if wizard.shows_advanced {
        ui.add_space(space::S);
        CollapsingHeader::new(text::value(t, "The run file")).show(ui, |ui| {
            let text = serde_json::to_string_pretty(&wizard.config.to_value()).unwrap_or_default();
            ui.label(text::code(t, text));
        });
    }
}

/// Settings that are not among `values`: what is not set there is not used. Model and data have steps of their own.
fn others(values: &[Reasoned]) -> impl Iterator<Item = (&'static str, &'static Meaning)> {
    let elsewhere = |key: &str| key.starts_with("model.") || key.starts_with("dataset.") || !key.contains('.');
    let all = peft_plan::settings::all().iter().map(|(key, meaning)| (key.as_str(), meaning));
    all.filter(move |(key, _)| !elsewhere(key) && !values.iter().any(|value| value.key == *key))
}

fn is_unset(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// One setting: `(key, value, whether it was set by hand)`.
fn value_ui(ui: &mut Ui, wizard: &mut Wizard, (key, value, is_own): (&str, &Value, bool), reason: &str, is_wide: bool) {
    let t = of(ui);
    let name = key.rsplit('.').next().unwrap_or(key).replace('_', " ");
    ui.horizontal(|ui| {
        if is_own {
            let (rect, _) = ui.allocate_exact_size(eframe::egui::vec2(8.0, 8.0), eframe::egui::Sense::hover());
            ui.painter().circle_filled(rect.center(), 3.5, t.accent);
        }
        glossary::setting(ui.label(text::value(t, name.as_str())), key);
    });
    let shown = if is_unset(value) { String::new() } else { written(value) };
    let can_change = wizard.shows_advanced && !key.starts_with("model") && !key.starts_with("dataset.path");
    if can_change {
        let edit = wizard.edits.entry(key.to_owned()).or_insert_with(|| shown.clone());
        let response = ui.add(TextEdit::singleline(edit).hint_text("not set").desired_width(120.0));
        let typed = edit.clone();
        response.widget_info(|| {
            let mut info = eframe::egui::WidgetInfo::text_edit(true, "", &typed, "");
            info.label = Some(key.to_owned());
            info
        });
        if !response.lost_focus() && !response.has_focus() {
            *edit = shown;
        } else if response.lost_focus() && typed != shown {
            let typed = if typed.trim().is_empty() { "auto" } else { typed.trim() };
            wizard.refused = wizard.config.set(&format!("{key}={typed}")).err().map(|mut fault| {
                // The words for the command line say what was typed there.
                if let Some((_, why)) = fault.detail.split_once("cannot be used. ") {
                    fault.detail = format!("`{typed}` does not go with `{key}`. {why}");
                }
                wizard.edits.remove(key);
                Problem::from(&fault)
            });
        }
    } else {
        let short: String = shown.chars().take(28).collect();
        ui.label(RichText::new(short).monospace().size(12.5).color(t.text)).on_hover_text(shown);
    }
    if is_wide {
        let width = ui.available_width().max(260.0);
        ui.scope(|ui| {
            ui.set_max_width(width);
            ui.add(Label::new(text::hint(t, reason)).wrap());
        });
    }
}
