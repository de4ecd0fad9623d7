//! How the window looks, and where things are.

use crate::gui::command::{Command, Out};
use crate::gui::settings::{SCALES, Settings};
use crate::gui::theme::{ThemeChoice, of, space, text};
use crate::gui::widgets::button;
use crate::gui::widgets::card::{card, heading};
use eframe::egui::Ui;

/// Draw it.
pub fn settings_ui(ui: &mut Ui, settings: &mut Settings, out: &mut Out) {
    let t = of(ui);
    heading(ui, "Settings", "");
    card(ui, |ui| {
        ui.label(text::card_title(t, "Appearance"));
        ui.add_space(space::XS);
        ui.label(text::hint(t, "Theme"));
        ui.horizontal_wrapped(|ui| {
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
        ui.add_space(space::S);
        ui.label(text::hint(t, "Letters of many languages: Ελλάδα · Україна · 中文 · 日本語 · हिन्दी · العربية"));
    });
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
    card(ui, |ui| {
        ui.label(text::card_title(t, "About"));
        ui.label(text::body(t, format!("PEFT Studio {}", env!("CARGO_PKG_VERSION"))));
        ui.label(text::hint(t, "MIT or Apache-2.0. Letters: Inter and JetBrains Mono, SIL Open Font License."));
    });
}
