//! Settings kept under a name.

use crate::gui::command::{Command, Out, Purpose};
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip, heading};
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Align, Label, Layout, Ui};
use peft_plan::preset::Preset;

/// What the page remembers.
#[derive(Clone, Debug, Default)]
pub struct State {
    words: String,
    only_own: bool,
}

/// Draw it.
pub fn presets_ui(ui: &mut Ui, data: &Data, state: &mut State, out: &mut Out) {
    heading(ui, "Presets", "Settings that worked, kept under a name, shared as a file.");
    ui.horizontal_wrapped(|ui| {
        field::search(ui, "Search presets", &mut state.words, 220.0);
        ui.checkbox(&mut state.only_own, "Only my own");
        if button::secondary("Import…").icon(Icon::Upload).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Preset));
        }
    });
    ui.add_space(space::S);
    let presets = data.presets.as_deref().unwrap_or_default();
    let words = state.words.to_lowercase();
    let fits = |preset: &Preset| {
        let text = format!("{} {} {}", preset.name, preset.description, preset.tags.join(" ")).to_lowercase();
        words.split_whitespace().all(|word| text.contains(word))
    };
    let shown: Vec<_> = presets.iter().filter(|(preset, own)| (*own || !state.only_own) && fits(preset)).collect();
    if shown.is_empty() {
        let sentence = "Settings can be kept on the last step of a new run, or imported from a file.";
        empty::empty(ui, Icon::Sliders, "No presets here", sentence, |_| {});
        return;
    }
    for (preset, is_own) in shown {
        preset_ui(ui, preset, *is_own, out);
    }
}

fn preset_ui(ui: &mut Ui, preset: &Preset, is_own: bool, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let name = format!("Use the preset {}", preset.name);
                if button::primary("Use").named(&name).small().ui(ui).clicked() {
                    out.push(Command::UsePreset(preset.name.clone()));
                }
                let copy = format!("Copy the preset {} as JSON", preset.name);
                if button::icon(Icon::Copy, &copy).small().ui(ui).clicked() {
                    let text = serde_json::to_string_pretty(&preset.to_value()).unwrap_or_default();
                    out.push(Command::Copy(text));
                }
                let delete = format!("Delete the preset {}", preset.name);
                if is_own && button::icon(Icon::Trash, &delete).small().ui(ui).clicked() {
                    out.push(Command::DeletePreset(preset.name.clone()));
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(text::card_title(t, &preset.name)).truncate());
                });
            });
        });
        if !preset.description.is_empty() {
            ui.label(text::body(t, &preset.description));
        }
        ui.horizontal_wrapped(|ui| {
            chip(ui, t.info, if is_own { "Yours" } else { "Built in" });
            for tag in &preset.tags {
                ui.label(text::hint(t, format!("#{tag}")));
            }
        });
    });
}
