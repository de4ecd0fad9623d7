//! How answers are made.

use crate::gui::playground::Drawer;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::{button, field};
use eframe::egui::{DragValue, Response, ScrollArea, Slider, TextEdit, Ui};

/// Draw it.
pub(super) fn drawer_ui(ui: &mut Ui, drawer: &mut Drawer) {
    let t = of(ui);
    ScrollArea::vertical().id_salt("drawer").show(ui, |ui| {
        ui.spacing_mut().slider_width = (ui.available_width() - 70.0).max(60.0);
        ui.label(text::card_title(t, "Answer settings"));
        ui.add_space(space::S);
        let s = &mut drawer.sampling;
        named(ui, "Temperature", "How adventurous answers are; 0 always picks the likeliest word.", |ui| {
            ui.add(Slider::new(&mut s.temperature, 0.0..=2.0).step_by(0.05))
        });
        named(ui, "Top-p", "Only the likeliest words that together have this share of the chances; 1 is all.", |ui| {
            ui.add(Slider::new(&mut s.top_p, 0.05..=1.0).step_by(0.05))
        });
        named(ui, "Top-k", "Only so many of the likeliest words; 0 is all.", |ui| {
            ui.add(DragValue::new(&mut s.top_k).range(0..=1000))
        });
        named(ui, "Min-p", "Only words at least this likely, compared with the likeliest; 0 is all.", |ui| {
            ui.add(Slider::new(&mut s.min_p, 0.0..=1.0).step_by(0.01))
        });
        named(ui, "Repetition penalty", "Above 1, words that were used become less likely.", |ui| {
            ui.add(Slider::new(&mut s.repetition_penalty, 0.5..=2.0).step_by(0.05))
        });
        named(ui, "Seed", "The same seed gives the same answer again.", |ui| ui.add(DragValue::new(&mut s.seed)));
        named(ui, "Longest answer", "In tokens; a token is a piece of a word.", |ui| {
            ui.add(DragValue::new(&mut drawer.max_new_tokens).range(1..=8192))
        });
        named(ui, "System prompt", "Standing instructions given before the talk starts.", |ui| {
            ui.add(TextEdit::multiline(&mut drawer.system).desired_rows(3).desired_width(f32::INFINITY))
        });
        named(ui, "Stop texts", "An answer ends where one of these lines would appear.", |ui| {
            ui.add(TextEdit::multiline(&mut drawer.stop).desired_rows(2).desired_width(f32::INFINITY))
        });
        if button::quiet("Reset").small().ui(ui).clicked() {
            *drawer = Drawer { is_open: true, ..Drawer::default() };
        }
    });
}

fn named(ui: &mut Ui, name: &str, what: &str, add: impl FnOnce(&mut Ui) -> Response) {
    let label = ui.horizontal(|ui| {
        let label = ui.label(text::hint(of(ui), name));
        field::explain(ui, name, what);
        label
    });
    add(ui).labelled_by(label.inner.id);
    ui.add_space(space::XS);
}
