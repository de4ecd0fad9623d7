//! What stands where nothing is yet: says what will appear, and what to do.

use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use eframe::egui::{Align, Layout, Sense, Ui, vec2};

/// A large icon, a title, a sentence, and room for a button.
pub fn empty(ui: &mut Ui, icon: Icon, title: &str, sentence: &str, buttons: impl FnOnce(&mut Ui)) {
    let t = of(ui);
    ui.with_layout(Layout::top_down(Align::Center), |ui| {
        ui.add_space((ui.available_height() * 0.2).clamp(24.0, 120.0));
        let (rect, _) = ui.allocate_exact_size(vec2(64.0, 64.0), Sense::hover());
        icon.paint(ui.painter(), rect, 56.0, t.text3);
        ui.add_space(space::S);
        ui.add(eframe::egui::Label::new(text::section(t, title)).wrap());
        ui.allocate_ui(vec2(ui.available_width().min(460.0), 40.0), |ui| {
            ui.with_layout(Layout::top_down(Align::Center), |ui| ui.label(text::body(t, sentence)));
        });
        ui.add_space(space::S);
        buttons(ui);
    });
}

/// Something is being read.
pub fn loading(ui: &mut Ui, what: &str) {
    let t = of(ui);
    ui.horizontal(|ui| {
        ui.add(eframe::egui::Spinner::new().size(16.0).color(t.text3));
        ui.label(text::hint(t, what));
    });
}
