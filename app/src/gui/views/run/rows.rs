//! The rows that a run found hardest to learn: wrong or garbled ones are on top (B7).

use super::State;
use crate::gui::command::{Command, Out};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::card;
use crate::gui::widgets::chart::plain;
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty};
use eframe::egui::{Label, Ui};
use peft_storage::Run;
use serde_json::Value;

/// Draw it.
pub(super) fn rows_ui(ui: &mut Ui, run: &Run, state: &State, out: &mut Out) {
    let t = of(ui);
    let found = state.rows.as_ref().filter(|(of, _)| of == run.id.as_str()).map(|(_, found)| found);
    let Some(found) = found else {
        out.push(Command::HardRows(run.id.to_string()));
        return;
    };
    ui.horizontal_wrapped(|ui| {
        ui.label(text::body(
            t,
            "What a run learns badly is often wrong or garbled. Look at these rows of your data first.",
        ));
        if button::quiet("Look again").named("Look at the rows again").icon(Icon::Refresh).small().ui(ui).clicked() {
            out.push(Command::HardRows(run.id.to_string()));
        }
    });
    ui.add_space(space::XS);
    let rows = match found {
        None => return empty::loading(ui, "Looking them up"),
        Some(Err(problem)) => {
            problem_card(ui, problem, false, out);
            return;
        }
        Some(Ok(document)) => document["rows"].as_array().map_or(&[][..], Vec::as_slice),
    };
    if rows.is_empty() {
        ui.label(text::hint(t, "It has not trained on any row yet."));
        return;
    }
    card(ui, |ui| rows.iter().for_each(|row| row_ui(ui, row)));
}

fn row_ui(ui: &mut Ui, row: &Value) {
    let t = of(ui);
    let number = |key: &str| row[key].as_f64().map_or("–".to_owned(), plain);
    ui.horizontal(|ui| {
        let place = match (row["file"].as_str(), row["line"].as_u64()) {
            (Some(file), Some(line)) => format!("{}:{line}", file.rsplit(['/', '\\']).next().unwrap_or(file)),
            _ => format!("row {}", row["row"]),
        };
        ui.add_sized([170.0, 18.0], Label::new(text::code(t, place)).truncate().halign(eframe::egui::Align::LEFT));
        let loss = format!("loss {} → {}", number("first_loss"), number("last_loss"));
        ui.add_sized([150.0, 18.0], Label::new(text::hint(t, loss)).truncate().halign(eframe::egui::Align::LEFT));
        let words = row["text"].as_str().unwrap_or("");
        ui.add(Label::new(text::body(t, words)).truncate());
    });
}
