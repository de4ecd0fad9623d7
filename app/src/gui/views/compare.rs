//! Two to five runs side by side: curves, numbers with the best marked, and what was set differently.

use crate::gui::command::{Command, Out};
use crate::gui::glossary;
use crate::gui::problem::Problem;
use crate::gui::route::Route;
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, heading, icon_label};
use crate::gui::widgets::chart::{Chart, Look, Series, chart, plain, sized};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field};
use crate::jobs::compare::Comparison;
use eframe::egui::{Grid, RichText, Role, ScrollArea, Ui, WidgetInfo};
use serde_json::Value;

/// Most runs that can be told apart.
const MOST: usize = 5;

/// What the page remembers.
#[derive(Debug, Default)]
pub struct State {
    chosen: Vec<String>,
    /// Of which runs the comparison is, or was asked for.
    asked: Vec<String>,
    result: Option<Result<Box<Comparison>, Problem>>,
    metric: Metric,
    look: Look,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Metric {
    #[default]
    Loss,
    HeldOut,
    GradientNorm,
    LearningRate,
    Speed,
}

const METRICS: [(Metric, &str); 5] = [
    (Metric::Loss, "Loss"),
    (Metric::HeldOut, "Held-out loss"),
    (Metric::GradientNorm, "Gradient norm"),
    (Metric::LearningRate, "Learning rate"),
    (Metric::Speed, "Tokens a second"),
];

impl Metric {
    fn key(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::HeldOut => "validation_loss",
            Self::GradientNorm => "gradient_norm",
            Self::LearningRate => "learning_rate",
            Self::Speed => "tokens_per_second",
        }
    }
}

impl State {
    /// Take a run in, or out.
    pub fn take(&mut self, run: &str, is_in: bool) {
        self.chosen.retain(|id| id != run);
        if is_in && self.chosen.len() < MOST {
            self.chosen.push(run.to_owned());
        }
    }

    /// Whether a run is chosen.
    pub fn holds(&self, run: &str) -> bool {
        self.chosen.iter().any(|id| id == run)
    }

    /// How many are chosen.
    pub fn count(&self) -> usize {
        self.chosen.len()
    }

    /// The runs whose comparison is wanted and was not asked for.
    pub fn wanted(&mut self) -> Option<Vec<String>> {
        if self.chosen.len() < 2 || self.asked == self.chosen {
            return None;
        }
        self.asked.clone_from(&self.chosen);
        Some(self.chosen.clone())
    }

    /// A comparison is here.
    pub fn arrived(&mut self, runs: &[String], result: Result<Box<Comparison>, Problem>) {
        if runs == self.chosen {
            self.result = Some(result);
        }
    }
}

/// Draw it.
pub fn compare_ui(ui: &mut Ui, data: &Data, state: &mut State, out: &mut Out) {
    heading(ui, "Compare", "Put two to five runs side by side and see which settings did best.");
    let runs = data.runs.as_deref().unwrap_or_default();
    if runs.len() < 2 {
        let sentence = "With two runs or more, their curves, numbers and settings stand side by side here.";
        empty::empty(ui, Icon::Compare, "Nothing to compare yet", sentence, |ui| {
            if button::primary("New run").icon(Icon::Plus).ui(ui).clicked() {
                out.push(Command::Go(Route::New));
            }
        });
        return;
    }
    ui.horizontal_wrapped(|ui| {
        for run in runs.iter().filter(|run| run.last_step > 0 || state.holds(run.id.as_str())).take(24) {
            let is_in = state.holds(run.id.as_str());
            let can = is_in || state.count() < MOST;
            let label = format!("{}  #{}", run.name, &run.id.as_str()[run.id.as_str().len().saturating_sub(4)..]);
            let response = ui.add_enabled_ui(can, |ui| ui.selectable_label(is_in, label)).inner;
            if response.clicked() {
                out.push(Command::Compare(run.id.to_string(), !is_in));
            }
        }
    });
    ui.add_space(space::S);
    if state.count() < 2 {
        ui.label(text::body(of(ui), "Choose two to five runs above."));
        return;
    }
    match state.result.take() {
        Some(Ok(found)) if found.runs.iter().map(|run| run.id.as_str()).eq(state.chosen.iter().map(String::as_str)) => {
            curves_ui(ui, &found, state);
            ui.add_space(space::M);
            numbers_ui(ui, &found, out);
            ui.add_space(space::M);
            differences_ui(ui, &found);
            state.result = Some(Ok(found));
        }
        Some(Err(problem)) => {
            problem_card(ui, &problem, false, out);
            state.result = Some(Err(problem));
        }
        other => {
            state.result = other;
            empty::loading(ui, "Comparing");
        }
    }
}

fn curves_ui(ui: &mut Ui, found: &Comparison, state: &mut State) {
    card(ui, |ui| {
        field::tabs(ui, &mut state.metric, &METRICS);
        ui.add_space(space::S);
        let key = state.metric.key();
        let curves: Vec<Vec<[f64; 2]>> = found.series.get(key).map_or_else(Vec::new, |lines| {
            lines.iter().map(|line| line.iter().map(|(step, value)| [*step as f64, *value]).collect()).collect()
        });
        let series: Vec<Series> = curves
            .iter()
            .zip(&found.runs)
            .enumerate()
            .map(|(order, (points, run))| Series { name: &run.name, points, order, marks: false })
            .collect();
        let look = if state.metric == Metric::HeldOut { Look { smoothing: 0.0, ..state.look } } else { state.look };
        let shown = Chart { name: "Comparison chart", height: 300.0, look, zones: &[], flags: &[], write: plain };
        chart(ui, &shown, &series);
        legend_ui(ui, found);
    });
}

fn legend_ui(ui: &mut Ui, found: &Comparison) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        for (order, run) in found.runs.iter().enumerate() {
            let (rect, _) = ui.allocate_exact_size(eframe::egui::vec2(16.0, 14.0), eframe::egui::Sense::hover());
            ui.painter().hline(rect.x_range(), rect.center().y, (3.0, t.series[order]));
            ui.label(text::hint(t, &run.name));
            ui.add_space(space::S);
        }
    });
}

/// The numbers of a metric in words, and how they are written.
fn metric(key: &str) -> (&'static str, fn(f64) -> String) {
    match key {
        "loss" => ("Loss", plain),
        "validation_loss" => ("Held-out loss", plain),
        "token_accuracy" => ("Tokens predicted", |share| format!("{:.1} %", 100.0 * share)),
        "quality_score" => ("Quality", |score| format!("{score:.0}")),
        "tokens_per_second" => ("Tokens a second", plain),
        "memory_bytes" => ("Memory", sized),
        _ => ("Training time", crate::cli::quantity::duration),
    }
}

fn numbers_ui(ui: &mut Ui, found: &Comparison, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.label(text::card_title(t, "Numbers"));
        ScrollArea::horizontal().id_salt("numbers").show(ui, |ui| {
            Grid::new("numbers").striped(true).spacing([28.0, 8.0]).show(ui, |ui| {
                ui.label("");
                found.runs.iter().for_each(|run| drop(ui.label(text::card_title(t, &run.name))));
                ui.end_row();
                for (key, values) in &found.metrics {
                    let (name, write) = metric(key);
                    glossary::explained(ui.label(text::hint(t, name)), name);
                    for (value, run) in values.iter().zip(&found.runs) {
                        let shown = value.map_or("–".to_owned(), write);
                        let is_best = found.best.get(key).is_some_and(|id| id == run.id.as_str());
                        ui.horizontal(|ui| {
                            if is_best {
                                icon_label(ui, Icon::Star, t.ok.fg, 14.0).height();
                                let best = format!("Best: {shown}");
                                let label = ui.label(text::toned_strong(t.text, shown));
                                label.widget_info(|| WidgetInfo::labeled(Role::Label, true, best.as_str()));
                                label.on_hover_text("The best of these runs");
                            } else {
                                ui.label(text::body(t, shown));
                            }
                        });
                    }
                    ui.end_row();
                }
                ui.label("");
                for run in &found.runs {
                    let name = format!("New run with the settings of {}", run.name);
                    if button::secondary("Use these settings").named(&name).small().ui(ui).clicked() {
                        out.push(Command::NewFrom(run.id.to_string()));
                    }
                }
                ui.end_row();
            });
        });
    });
}

fn differences_ui(ui: &mut Ui, found: &Comparison) {
    let t = of(ui);
    card(ui, |ui| {
        ui.label(text::card_title(t, "What was set differently"));
        if found.differences.is_empty() {
            ui.label(text::body(t, "Nothing: these runs have the same settings."));
            return;
        }
        ScrollArea::horizontal().id_salt("differences").show(ui, |ui| {
            Grid::new("differences").striped(true).spacing([28.0, 6.0]).show(ui, |ui| {
                for difference in &found.differences {
                    ui.label(text::hint(t, difference.key.replace('_', " ")));
                    for value in &difference.values {
                        let shown = match value {
                            Value::Null => "left open".to_owned(),
                            Value::String(text) => text.clone(),
                            other => other.to_string(),
                        };
                        let short: String = shown.chars().take(40).collect();
                        ui.label(RichText::new(short).size(13.0).color(t.text)).on_hover_text(shown);
                    }
                    ui.end_row();
                }
            });
        });
    });
}
