//! How the window looks, and where things are.

use crate::gui::command::{Command, Out};
use crate::gui::settings::{SCALES, Settings};
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{ThemeChoice, of, space, text};
use crate::gui::widgets::card::{card, heading};
use crate::gui::widgets::{button, empty};
use eframe::egui::{Checkbox, Ui};

/// Draw it.
pub fn settings_ui(ui: &mut Ui, data: &Data, settings: &mut Settings, out: &mut Out) {
    let t = of(ui);
    heading(ui, "Settings", "");
    card(ui, |ui| {
        ui.label(text::card_title(t, "Appearance"));
        ui.add_space(space::XS);
        ui.label(text::hint(t, "Theme"));
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = space::L;
            for (choice, name) in ThemeChoice::ALL {
                if ui.radio(settings.theme == choice, name).clicked() {
                    out.push(Command::Theme(choice));
                }
            }
        });
        ui.add_space(space::S);
        ui.label(text::hint(t, "Size of everything"));
        ui.horizontal(|ui| {
            if button::secondary("Smaller").enabled(settings.scale > *SCALES.start()).ui(ui).clicked() {
                out.push(Command::Scale(settings.scale - 0.1));
            }
            ui.label(text::value(t, format!("{:.0} %", 100.0 * settings.scale)));
            if button::secondary("Larger").enabled(settings.scale < *SCALES.end()).ui(ui).clicked() {
                out.push(Command::Scale(settings.scale + 0.1));
            }
            if button::quiet("Usual size").ui(ui).clicked() {
                out.push(Command::Scale(1.0));
            }
        });
        ui.add_space(space::S);
        if ui.checkbox(&mut settings.wide_rail, "Names beside the icons at the left").changed() {
            out.push(Command::Scale(settings.scale));
        }
    });
    ui.add_space(space::M);
    card(ui, |ui| notices_ui(ui, data, out));
    ui.add_space(space::M);
    card(ui, |ui| {
        ui.label(text::card_title(t, "Privacy"));
        ui.label(text::body(
            t,
            "Nothing is sent anywhere. The network is used only when you download a model or a dataset, and never while \
             you train or talk.",
        ));
    });
    ui.add_space(space::M);
    card(ui, |ui| trouble_ui(ui, data, out));
    ui.add_space(space::M);
    card(ui, |ui| {
        ui.label(text::card_title(t, "About"));
        ui.label(text::body(t, format!("PEFT Studio {}", env!("CARGO_PKG_VERSION"))));
        ui.label(text::hint(
            t,
            "MIT or Apache-2.0. Letters: Inter, JetBrains Mono and Noto Emoji, SIL Open Font License.",
        ));
    });
}

/// S4.12: what the desktop is told, each with its switch.
fn notices_ui(ui: &mut Ui, data: &Data, out: &mut Out) {
    let t = of(ui);
    ui.label(text::card_title(t, "Notifications"));
    let Some(chosen) = data.notices else {
        empty::loading(ui, "Reading what was chosen");
        return;
    };
    let switches = [
        ("enabled", chosen.enabled, "Tell me about runs on the desktop"),
        ("progress", chosen.progress, "A quarter, half and three quarters of a run are done"),
        ("completion", chosen.completion, "A run is finished"),
        ("errors", chosen.errors, "A run breaks, or is paused because something is wrong"),
        ("sound", chosen.sound, "A sound when a run is finished"),
        ("launcher", chosen.launcher, "Progress on the icon of the program"),
    ];
    for (name, mut on, words) in switches {
        let can = name == "enabled" || chosen.enabled;
        if ui.add_enabled(can, Checkbox::new(&mut on, words)).changed() {
            out.push(Command::Notify(name, on));
        }
    }
    if button::quiet("Show one now").icon(Icon::Send).ui(ui).clicked() {
        out.push(Command::TestNotice);
    }
}

/// A file that can be given to somebody who helps.
fn trouble_ui(ui: &mut Ui, data: &Data, out: &mut Out) {
    let t = of(ui);
    ui.label(text::card_title(t, "When something goes wrong"));
    ui.label(text::body(
        t,
        "One text file tells what this computer is, what your last runs did and how they failed. It has no examples, no \
         answers, no names and no keys in it, and nothing is sent: look at it before you give it to anybody.",
    ));
    ui.horizontal_wrapped(|ui| {
        if button::secondary("Write the file").named("Write diagnostics").icon(Icon::File).ui(ui).clicked() {
            out.push(Command::Diagnose);
        }
        if let Some(path) = &data.diagnostics {
            if button::quiet("Show it").icon(Icon::Folder).ui(ui).clicked() {
                out.push(Command::Reveal(path.clone()));
            }
            ui.label(text::hint(t, path.display().to_string()));
        }
    });
}
