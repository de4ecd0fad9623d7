//! Second step: which model learns.

use super::Wizard;
use crate::cli::quantity::bytes;
use crate::gui::command::{Command, Out, Purpose, Shelf};
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::views::models::{discover, parameters};
use crate::gui::widgets::card::{chip, pressable};
use crate::gui::widgets::{button, empty, field};
use crate::jobs::library::LocalModel;
use eframe::egui::{Align, CornerRadius, Label, Layout, Sense, Ui, vec2};

/// Models that are suggested.
const SUGGESTED: usize = 3;

/// Draw it.
pub(super) fn model_ui(ui: &mut Ui, data: &Data, wizard: &mut Wizard, offers: &discover::State, out: &mut Out) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        let width = (ui.available_width() - 330.0).clamp(120.0, 420.0);
        let response = field::line(ui, "Folder or name", &mut wizard.model, "/models/my-model or owner/name", width);
        let is_entered = response.lost_focus() && ui.input(|input| input.key_pressed(eframe::egui::Key::Enter));
        let can = !wizard.model.trim().is_empty();
        if (button::secondary("Use it").named("Use this model").enabled(can).ui(ui).clicked() || is_entered) && can {
            wizard.choose_model(wizard.model.trim().to_owned().as_str());
        }
        if button::quiet("Browse…").named("Browse for a model").icon(Icon::Folder).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Model));
        }
    });
    ui.add_space(space::S);
    let chosen = wizard.model_id();
    let Some(models) = &data.models else {
        empty::loading(ui, "Looking at what is on this computer");
        return;
    };
    if let Some(id) = chosen.as_deref().filter(|id| !models.iter().any(|model| model.id == *id)) {
        pressable(ui, id, true, 48.0, |ui| drop(ui.add(Label::new(text::card_title(t, id)).truncate())));
    }
    ui.label(text::hint(t, "On this computer"));
    for model in models.iter().filter(|model| model.supported) {
        let is_chosen = chosen.as_deref() == Some(model.id.as_str());
        if one_ui(ui, model, is_chosen) {
            wizard.choose_model(&model.id);
        }
    }
    discover::suggestions_ui(ui, offers, models, SUGGESTED, out);
    if button::quiet("Find more models").icon(Icon::Search).ui(ui).clicked() {
        out.push(Command::Open(Shelf::Discover));
    }
}

fn one_ui(ui: &mut Ui, model: &LocalModel, is_chosen: bool) -> bool {
    let t = of(ui);
    let title = if model.id == "starter" { "Starter (built in)" } else { model.id.as_str() };
    let response = pressable(ui, title, is_chosen, 120.0, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let fits = model.fits.iter().any(|fit| fit.fits);
                chip(ui, if fits { t.ok } else { t.warn }, if fits { "Fits" } else { "Too large here" });
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(text::card_title(t, title)).truncate());
                });
            });
        });
        ui.horizontal(|ui| {
            let mut words = vec![bytes(model.bytes)];
            words.extend(model.parameters.map(parameters));
            words.extend(model.licence.clone());
            ui.add(Label::new(text::hint(t, words.join("  ·  "))).truncate());
        });
        fit_ui(ui, model);
    });
    response.clicked()
}

/// What the leanest way of training takes.
fn fit_ui(ui: &mut Ui, model: &LocalModel) {
    let t = of(ui);
    let Some(fit) = model.fits.iter().find(|fit| fit.fits).or(model.fits.last()) else { return };
    let share = (fit.memory_bytes as f64 / total_memory().max(1) as f64) as f32;
    let words = format!("Training takes about {} of {}", bytes(fit.memory_bytes), bytes(total_memory()));
    ui.spacing_mut().interact_size.y = 18.0;
    ui.horizontal(|ui| {
        let (rect, _) =
            ui.allocate_exact_size(vec2((ui.available_width() - 270.0).clamp(40.0, 320.0), 6.0), Sense::hover());
        ui.painter().rect_filled(rect, CornerRadius::same(3), t.hover);
        let mut filled = rect;
        filled.set_width(rect.width() * share.clamp(0.01, 1.0));
        let color = if fit.fits { t.ok.fg } else { t.warn.fg };
        ui.painter().rect_filled(filled, CornerRadius::same(3), tokens::faded(color, 0.9));
        ui.add(Label::new(text::hint(t, words)).truncate());
    });
}

/// Installed memory; asked once.
fn total_memory() -> u64 {
    static TOTAL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *TOTAL.get_or_init(crate::jobs::memory::total_memory)
}
