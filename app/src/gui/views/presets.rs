//! Settings kept under a name; settings that came in a file, with what does not suit.

use crate::gui::command::{Command, Out, Purpose};
use crate::gui::problem::Problem;
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip, heading, icon_label};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field};
use crate::jobs::incoming::Incoming;
use eframe::egui::{Align, Key, Label, Layout, Ui};
use peft_plan::preset::Preset;
use std::path::PathBuf;

/// What the page remembers.
#[derive(Debug, Default)]
pub struct State {
    words: String,
    only_own: bool,
    path: String,
    /// A file is being read.
    pub is_reading: bool,
    /// Settings that came in a file.
    pub incoming: Option<Result<Box<Incoming>, Problem>>,
}

impl State {
    /// A file was read.
    pub fn arrived(&mut self, read: Result<Box<Incoming>, Problem>) {
        self.is_reading = false;
        self.incoming = Some(read);
    }
}

/// Remarks about a file that are shown.
const REMARKS: usize = 60;

/// Draw it.
pub fn presets_ui(ui: &mut Ui, data: &Data, state: &mut State, out: &mut Out) {
    heading(ui, "Presets", "Settings that worked, kept under a name, shared as a file.");
    take_in_ui(ui, state, out);
    ui.horizontal_wrapped(|ui| {
        field::search(ui, "Search presets", &mut state.words, 220.0);
        ui.checkbox(&mut state.only_own, "Only my own");
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

/// S4.8.5: a file is read, judged, and only then kept or used.
fn take_in_ui(ui: &mut Ui, state: &mut State, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.label(text::card_title(t, "From a file"));
        ui.add(
            Label::new(text::body(
                t,
                "A preset that somebody shared, or a configuration of Axolotl, LLaMA-Factory, TRL, Unsloth or torchtune.",
            ))
            .wrap(),
        );
        ui.horizontal_wrapped(|ui| {
            if button::secondary("Import…").icon(Icon::Upload).ui(ui).clicked() {
                out.push(Command::Browse(Purpose::Preset));
            }
            let width = (ui.available_width() - 180.0).clamp(120.0, 340.0);
            let response = field::line(ui, "or a path", &mut state.path, "settings.json, with its folders", width);
            let is_entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            let can = !state.path.trim().is_empty() && !state.is_reading;
            let read = button::secondary("Read it").named("Read these settings").enabled(can);
            if (read.ui(ui).clicked() || is_entered) && can {
                out.push(Command::TakeIn(PathBuf::from(state.path.trim())));
            }
        });
        if state.is_reading {
            empty::loading(ui, "Reading the file and comparing it with this computer");
        }
    });
    match state.incoming.take() {
        Some(Ok(incoming)) => {
            ui.add_space(space::S);
            if !incoming_ui(ui, &incoming, out) {
                state.incoming = Some(Ok(incoming));
            }
        }
        Some(Err(problem)) => {
            ui.add_space(space::S);
            if !problem_card(ui, &problem, true, out) {
                state.incoming = Some(Err(problem));
            }
        }
        None => {}
    }
    ui.add_space(space::M);
}

/// What came in a file. `true`: it was closed.
fn incoming_ui(ui: &mut Ui, incoming: &Incoming, out: &mut Out) -> bool {
    let t = of(ui);
    let mut is_closed = false;
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                is_closed = button::icon(Icon::Cross, "Close these settings").small().ui(ui).clicked();
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(text::card_title(t, &incoming.preset.name)).truncate());
                });
            });
        });
        if let Some(program) = incoming.program {
            let line = format!("A configuration of {program}: {} settings mean the same here.", incoming.mapped);
            ui.label(text::body(t, line));
        }
        let is_fine = incoming.mismatches.is_empty();
        ui.horizontal(|ui| {
            let (icon, color) = if is_fine { (Icon::Check, t.ok.fg) } else { (Icon::Warning, t.warn.fg) };
            icon_label(ui, icon, color, 16.0);
            let line = if is_fine { "It suits this computer" } else { "It does not suit this computer as it is" };
            ui.label(text::value(t, line));
        });
        for mismatch in &incoming.mismatches {
            remark_ui(ui, &mismatch.field, &mismatch.message);
        }
        if !incoming.remarks.is_empty() {
            ui.label(text::value(t, if incoming.program.is_some() { "Not the same here" } else { "Left out" }));
        }
        for (field, why) in incoming.remarks.iter().take(REMARKS) {
            remark_ui(ui, field, why);
        }
        if incoming.remarks.len() > REMARKS {
            ui.label(text::hint(t, format!("and {} more", incoming.remarks.len() - REMARKS)));
        }
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            if let Some(adapted) = &incoming.adapted {
                let word =
                    if incoming.left.is_empty() { "Change it so that it suits" } else { "Change what can be changed" };
                if button::primary(word).ui(ui).clicked() {
                    out.push(Command::UseSettings(Box::new(adapted.config.clone())));
                    is_closed = true;
                }
            }
            let name = if incoming.adapted.is_some() { "Use it as it is" } else { "Use it in a new run" };
            if button::secondary(name).icon(Icon::Plus).ui(ui).clicked() {
                out.push(Command::UseSettings(Box::new(incoming.preset.config.clone())));
                is_closed = true;
            }
            if button::secondary("Keep it as a preset").ui(ui).clicked() {
                out.push(Command::Keep(Box::new(incoming.preset.clone())));
                is_closed = true;
            }
        });
    });
    is_closed
}

fn remark_ui(ui: &mut Ui, field: &str, why: &str) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        icon_label(ui, Icon::ChevronRight, t.text3, 13.0);
        ui.label(text::code(t, field));
        ui.label(text::body(t, why));
    });
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
                let written = || serde_json::to_string_pretty(&preset.to_value()).unwrap_or_default() + "\n";
                let save = format!("Save the preset {} as a file", preset.name);
                if button::icon(Icon::Download, &save).small().ui(ui).clicked() {
                    out.push(Command::SaveAs(file_name(&preset.name), written().into_bytes()));
                }
                let copy = format!("Copy the preset {} as JSON", preset.name);
                if button::icon(Icon::Copy, &copy).small().ui(ui).clicked() {
                    out.push(Command::Copy(written()));
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

/// A name for the file of a preset: what no file system minds.
fn file_name(preset: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let name: String = preset.trim().chars().take(60).map(plain).collect();
    format!("{}.preset.json", name.trim_matches('-'))
}
