//! Last step: what the run takes, what else could be done, and the start.

use super::Wizard;
use crate::cli::quantity::{bytes, duration, interval};
use crate::gui::command::{Command, Out};
use crate::gui::problem::Problem;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::card::{card, icon_label, legend, stat};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field};
use crate::jobs::plan::Answer;
use eframe::egui::{CornerRadius, DragValue, Label, Sense, Ui, vec2};
use peft_plan::alternatives::Alternative;

/// Draw it.
pub(super) fn review_ui(ui: &mut Ui, wizard: &mut Wizard, out: &mut Out) {
    match wizard.answer.take() {
        Some(Ok(answer)) => {
            answer_ui(ui, wizard, &answer, out);
            wizard.answer = Some(Ok(answer));
        }
        Some(Err(problem)) => {
            problem_card(ui, &problem, false, out);
            wizard.answer = Some(Err(problem));
        }
        None => empty::loading(ui, "Working out what this takes"),
    }
}

fn answer_ui(ui: &mut Ui, wizard: &mut Wizard, answer: &Answer, out: &mut Out) {
    let t = of(ui);
    for fault in &answer.problems {
        problem_card(ui, &Problem::from(fault).as_warning(), false, out);
    }
    card(ui, |ui| {
        estimate_ui(ui, wizard, answer);
    });
    ui.add_space(space::M);
    if !answer.alternatives.is_empty() {
        ui.label(text::section(t, "You could also"));
        let columns = if ui.available_width() > 760.0 { answer.alternatives.len().clamp(1, 3) } else { 1 };
        for row in answer.alternatives.chunks(columns) {
            ui.columns(columns, |uis| {
                for (ui, alternative) in uis.iter_mut().zip(row) {
                    if alternative_ui(ui, alternative) {
                        for (key, value) in &alternative.changes {
                            // What the planner offers, it understands.
                            let _set = wizard.config.set(&format!("{key}={}", spelled(value)));
                        }
                    }
                }
            });
        }
        ui.add_space(space::M);
    }
    card(ui, |ui| {
        let mut name = wizard.config.name.clone().unwrap_or_default();
        let placeholder = answer.planned.config.name.clone().unwrap_or_default();
        let width = (ui.available_width() - 300.0).clamp(120.0, 320.0);
        ui.horizontal_wrapped(|ui| {
            let label = field::name(ui, "Name of the run", None);
            if field::named_line(ui, &label, &mut name, &placeholder, width).changed() {
                wizard.config.name = (!name.trim().is_empty()).then_some(name);
            }
        });
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            let label = field::name(ui, "Keep as a preset", None);
            field::named_line(ui, &label, &mut wizard.preset, "its name", width);
            let can = !wizard.preset.trim().is_empty();
            if button::secondary("Keep").named("Keep the preset").enabled(can).ui(ui).clicked() {
                let name = std::mem::take(&mut wizard.preset).trim().to_owned();
                out.push(Command::SavePreset(name, Box::new(wizard.config.clone())));
            }
        });
    });
}

fn spelled(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// S4.9.1 - S4.9.4: time, energy, money, carbon, memory, disk; the price can be changed in place.
fn estimate_ui(ui: &mut Ui, wizard: &mut Wizard, answer: &Answer) {
    let t = of(ui);
    let e = &answer.planned.estimate;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 40.0;
        stat(ui, "Time", &interval(&e.seconds));
        stat(ui, "Device hours", &few(e.device_hours));
        stat(
            ui,
            "Energy",
            &if e.energy_kwh < 0.1 {
                format!("{} Wh", few(1000.0 * e.energy_kwh))
            } else {
                format!("{:.2} kWh", e.energy_kwh)
            },
        );
        stat(ui, "Electricity", &format!("{} {}", few(e.cost), e.currency));
        stat(ui, "CO₂", &format!("{} g", few(e.carbon_grams)));
        stat(ui, "Disk", &bytes(e.disk_bytes));
    });
    ui.add_space(space::S);
    ui.horizontal_wrapped(|ui| {
        let label = ui.label(text::hint(t, "Price of a kilowatt-hour"));
        let price = DragValue::new(&mut wizard.rates.electricity_rate).range(0.0..=10.0).speed(0.01).max_decimals(3);
        if ui.add(price).labelled_by(label.id).changed() {
            "given".clone_into(&mut wizard.rates.electricity_source);
        }
        ui.label(text::hint(t, &e.currency)).on_hover_text(&e.electricity_source);
        let line = format!("·  {:.0} g CO₂ a kilowatt-hour", e.carbon_grams_per_kwh);
        ui.label(text::hint(t, line)).on_hover_text(&e.carbon_source);
        ui.label(text::hint(t, format!("·  {} steps of {} examples", e.steps, e.examples_per_step)));
    });
    ui.add_space(space::S);
    memory_ui(ui, answer);
}

/// Two digits; what is next to nothing is said to be.
fn few(number: f64) -> String {
    match number {
        n if n <= 0.0 => "0".to_owned(),
        n if n < 0.01 => "under 0.01".to_owned(),
        n if n < 10.0 => format!("{n:.2}"),
        n => format!("{n:.0}"),
    }
}

/// The memory as a bar of its parts against what may be used.
fn memory_ui(ui: &mut Ui, answer: &Answer) {
    let t = of(ui);
    let memory = &answer.planned.memory;
    let budget = answer.budget_bytes.max(1);
    let words = format!("Memory: about {} of {} that may be used", bytes(memory.total_bytes), bytes(budget));
    ui.label(text::value(t, words));
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width().min(560.0), 12.0), Sense::hover());
    ui.painter().rect_filled(rect, CornerRadius::same(6), t.hover);
    let mut items = memory.items.clone();
    items.sort_by_key(|item| std::cmp::Reverse(item.bytes));
    let whole = budget.max(memory.total_bytes) as f32;
    let mut x = rect.left();
    for (index, item) in items.iter().take(6).enumerate() {
        let width = rect.width() * item.bytes as f32 / whole;
        let part = eframe::egui::Rect::from_min_size(eframe::egui::pos2(x, rect.top()), vec2(width, rect.height()));
        ui.painter().rect_filled(part, CornerRadius::ZERO, t.series[index]);
        x += width;
    }
    ui.horizontal_wrapped(|ui| {
        for (index, item) in items.iter().take(6).enumerate() {
            legend(ui, t.series[index], &format!("{} {}", item.name, bytes(item.bytes)));
        }
    });
}

/// One other way. `true`: it is wanted.
fn alternative_ui(ui: &mut Ui, alternative: &Alternative) -> bool {
    let t = of(ui);
    let mut is_wanted = false;
    card(ui, |ui| {
        let (title, icon) = match alternative.name {
            "faster" => ("Faster", Icon::Clock),
            "leaner" => ("Leaner", Icon::Chip),
            _ => ("Better", Icon::Star),
        };
        ui.horizontal(|ui| {
            icon_label(ui, icon, t.accent, 18.0);
            ui.label(text::card_title(t, title));
        });
        ui.add(Label::new(text::body(t, &alternative.description)).wrap());
        let d = &alternative.deltas;
        let sign = |is_more: bool| if is_more { "+" } else { "−" };
        let memory = match d.memory_bytes {
            0 => "same memory".to_owned(),
            more => format!("{}{}", sign(more > 0), bytes(more.unsigned_abs())),
        };
        let line = format!("{}{}  ·  {memory}", sign(d.seconds > 0.0), duration(d.seconds.abs()));
        ui.label(text::hint(t, line).color(tokens::faded(t.text3, 1.0)));
        let name = format!("Switch to {}", title.to_lowercase());
        is_wanted = button::secondary("Switch").named(&name).small().ui(ui).clicked();
    });
    is_wanted
}
