//! How good a model is on examples that it has not seen, beside its base.

use super::view::{file_ui, go_ui, sentence, state_ui};
use super::{Tool, Tools, newest};
use crate::cli::quantity::count;
use crate::gui::command::{Command, Out, Purpose, Slot};
use crate::gui::state::Data;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::card;
use crate::gui::widgets::chart::plain;
use crate::gui::widgets::chooser::{Chooser, Runs, chooser_ui};
use crate::gui::widgets::field;
use eframe::egui::{Grid, Label, Ui};
use serde_json::Value;

/// Figures by their key: what they are called, whether they are shares, and whether more is better.
const FIGURES: [(&str, &str, bool, bool); 13] = [
    ("loss", "Loss", false, false),
    ("perplexity", "Perplexity", false, false),
    ("token_accuracy", "Right tokens", true, true),
    ("exact_match", "Same answer", true, true),
    ("exact_match_normalized", "Same answer, but for case and marks", true, true),
    ("f1", "Shared words (F1)", true, true),
    ("label_accuracy", "Right label likeliest", true, true),
    ("label_accuracy_generated", "Right label answered", true, true),
    ("json_valid", "Answer is JSON", true, true),
    ("schema_valid", "Answer fits the schema", true, true),
    ("json_equal", "Same JSON value", true, true),
    ("preference_accuracy", "Better answer preferred", true, true),
    ("accuracy", "Right choices", true, true),
];

/// Draw it.
pub(super) fn evaluate_ui(ui: &mut Ui, data: &Data, page: &mut Tools, out: &mut Out) {
    card(ui, |ui| {
        sentence(
            ui,
            "Scores examples with their right answers: how surprised the model is by them, before and after training.",
        );
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            field::name(ui, "What", None);
            let first = newest(data);
            let chosen = page.evaluated.as_ref().or(first.as_ref());
            let what = Chooser {
                name: "What is evaluated",
                slot: Slot::Evaluate,
                runs: Runs::Over,
                nothing: "Choose a model",
                width: 240.0,
            };
            if let Some(target) = chooser_ui(ui, data, chosen, &what, out, |_| {}) {
                page.evaluated = Some(target);
            }
        });
        ui.horizontal_wrapped(|ui| {
            let browse = Command::Browse(Purpose::Scored);
            file_ui(ui, "Examples", &mut page.data, "held-out.jsonl, with its folders", browse, out);
        });
        ui.checkbox(&mut page.generates, "Let it answer, too, and compare the answers");
        ui.add_space(space::S);
        let can = page.words(Tool::Evaluate, data).is_some();
        go_ui(ui, page, Tool::Evaluate, "Evaluate", can, out);
    });
    let Some(job) = page.job(Tool::Evaluate) else { return };
    ui.add_space(space::M);
    card(ui, |ui| {
        if state_ui(ui, job, out)
            && let Some(report) = job.result()
        {
            report_ui(ui, report);
        }
    });
}

fn written(value: f64, is_share: bool) -> String {
    if is_share { format!("{:.1} %", 100.0 * value) } else { plain(value) }
}

fn report_ui(ui: &mut Ui, report: &Value) {
    let t = of(ui);
    let number = |key: &str| report[key].as_u64().map(count).unwrap_or_default();
    ui.label(text::body(t, format!("{} examples, {} tokens of answers", number("examples"), number("tokens"))));
    ui.add_space(space::S);
    Grid::new("evaluation").num_columns(3).spacing([32.0, 6.0]).show(ui, |ui| {
        for word in ["", "This model", "Its base"] {
            ui.label(text::hint(t, word));
        }
        ui.end_row();
        for (key, name, is_share, more_is_better) in FIGURES {
            let Some(tuned) = report[key].as_f64() else { continue };
            let base = report["base"][key].as_f64();
            ui.label(text::body(t, name));
            let is_better = base.is_some_and(|base| if more_is_better { tuned > base } else { tuned < base });
            let mark = if is_better { "  ★" } else { "" };
            ui.label(text::value(t, format!("{}{mark}", written(tuned, is_share))));
            ui.label(text::value(t, base.map_or("–".to_owned(), |base| written(base, is_share))));
            ui.end_row();
        }
    });
    for note in report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        ui.add(Label::new(text::hint(t, note)).wrap());
    }
}
