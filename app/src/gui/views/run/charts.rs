//! The loss with its zones and its sentence, and the other curves.

use super::State;
use crate::gui::command::{Command, Out};
use crate::gui::story::{Metric, Story};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, icon_label};
use crate::gui::widgets::chart::{Chart, Look, Series, chart, plain, sized};
use crate::gui::widgets::{button, field};
use eframe::egui::{Align, Layout, Slider, Ui};
use peft_plan::zones::{Limits, Verdict, Zone, limits, verdict};
use peft_storage::Run;

/// The loss.
pub(super) fn main_ui(ui: &mut Ui, run: &Run, story: &Story, state: &mut State, out: &mut Out) {
    let t = of(ui);
    let mut is_kept = false;
    let shown = card(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.label(text::card_title(t, "Loss"));
            field::explain(ui, "Loss", "How wrong the model is on average; lower is better. Held-out loss is measured on examples that it never trains on.");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let is_empty = !story.has_steps();
                if button::quiet("Save as CSV").icon(Icon::Download).small().enabled(!is_empty).ui(ui).clicked() {
                    out.push(Command::Write(run.directory.join("metrics.csv"), story.csv().into_bytes()));
                }
                is_kept = button::quiet("As picture").icon(Icon::Camera).small().enabled(!is_empty).ui(ui).clicked();
                ui.checkbox(&mut state.look.log, text::hint(t, "Log scale"));
                ui.spacing_mut().slider_width = 110.0;
                let slider = ui.add(Slider::new(&mut state.look.smoothing, 0.0..=0.99).show_value(false));
                slider.labelled_by(ui.label(text::hint(t, "Smoothing")).id);
            });
        });
        if !story.has_steps() {
            ui.add_space(space::XL);
            ui.vertical_centered(|ui| ui.label(text::body(t, "The curve begins with the first step")));
            ui.add_space(space::XL);
            return;
        }
        let train = story.curve(Metric::Loss);
        let mine = |judged: &&Judged| judged.run == run.id.as_str();
        if state.judged.as_ref().filter(mine).is_none_or(|judged| judged.revision != story.revision) {
            if train.len() <= SHORT {
                state.judged = Some(judge(run.id.as_str(), story)());
            } else if !std::mem::replace(&mut state.is_judging, true) {
                out.push(Command::Judge(run.id.to_string()));
            }
        }
        // A long curve shows meanwhile what was said of it last.
        let judged = state.judged.as_ref().filter(mine);
        let zones = judged.map_or(&[][..], |judged| judged.zones.as_slice());
        let checks: Vec<[f64; 2]> = story.evaluations.iter().map(|e| [e.step as f64, e.loss]).collect();
        let flags: Vec<(f64, String)> =
            story.findings.iter().map(|f| (f.step as f64, f.kind.replace('_', " "))).collect();
        let loss = Chart { name: "Loss chart", height: 280.0, look: state.look, zones, flags: &flags, write: plain };
        let series = [
            Series { name: "training loss", points: train, order: 0, marks: false },
            Series { name: "held-out loss", points: &checks, order: 1, marks: true },
        ];
        chart(ui, &loss, &series);
        let (icon, color, sentence) = match judged.map(|judged| &judged.said) {
            None => (Icon::Clock, t.text3, "Looking at the curve"),
            Some(said) => match said.zone {
                Zone::Good => (Icon::Check, t.ok.fg, said.sentence.as_str()),
                Zone::Acceptable => (Icon::Info, t.info.fg, said.sentence.as_str()),
                Zone::Attention => (Icon::Warning, t.warn.fg, said.sentence.as_str()),
            },
        };
        ui.horizontal_wrapped(|ui| {
            icon_label(ui, icon, color, 16.0);
            ui.label(text::value(t, sentence));
        });
        legend_ui(ui, !checks.is_empty());
    });
    if is_kept {
        out.push(Command::Picture(run.directory.join("loss.png"), shown.response.rect));
    }
}

/// Steps up to which a curve is judged while it is painted: that takes less than a thread does.
const SHORT: usize = 2000;
/// Most limits that are kept: more than are drawn.
const LIMITS: usize = 1000;

/// How good a curve is: worked out when it changes, not with every frame.
#[derive(Clone, Debug)]
pub struct Judged {
    run: String,
    revision: u64,
    zones: Vec<Limits>,
    said: Verdict,
}

impl Judged {
    /// Whether it is about the curve as it was then.
    pub fn is_of(&self, revision: u64) -> bool {
        self.revision == revision
    }
}

/// What works out how good the curve of a run is, with all that it needs for that.
pub fn judge(run: &str, story: &Story) -> impl FnOnce() -> Judged + Send + use<> {
    let (run, revision) = (run.to_owned(), story.revision);
    let (curve, evaluations) = (story.curve(Metric::Loss).to_vec(), story.evaluations.clone());
    move || {
        let pairs: Vec<(f64, f64)> = curve.iter().map(|p| (p[0], p[1])).collect();
        let all = limits(&pairs);
        let mut zones: Vec<Limits> = all.iter().step_by(all.len().div_ceil(LIMITS).max(1)).copied().collect();
        zones.extend(all.last());
        Judged { run, revision, zones, said: verdict(&pairs, &evaluations) }
    }
}

fn legend_ui(ui: &mut Ui, has_checks: bool) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        let mut entry = |color, word: &str| {
            let (rect, _) = ui.allocate_exact_size(eframe::egui::vec2(14.0, 14.0), eframe::egui::Sense::hover());
            ui.painter().hline(rect.x_range(), rect.center().y, (2.5, color));
            ui.label(text::hint(t, word));
        };
        entry(t.series[0], "training loss, smoothed; each step behind it");
        if has_checks {
            entry(t.series[1], "held-out loss");
        }
        ui.label(text::hint(t, "·  drag to move, Ctrl+wheel to zoom, double-click to see all"));
    });
}

/// A chart's name, what it draws, how values are written, and what it means.
type Shown = (&'static str, Metric, fn(f64) -> String, &'static str);

/// The other curves.
pub(super) fn more_ui(ui: &mut Ui, story: &Story, look: Look) {
    let t = of(ui);
    if !story.has_steps() {
        ui.label(text::body(t, "Learning rate, gradient, speed and memory appear with the first step."));
        return;
    }
    let charts: [Shown; 4] = [
        (
            "Learning rate",
            Metric::LearningRate,
            plain,
            "The size of each correction; it rises at first and then shrinks.",
        ),
        (
            "Gradient norm",
            Metric::GradientNorm,
            plain,
            "How strongly the examples pull; peaks mean surprising examples.",
        ),
        ("Tokens a second", Metric::Speed, plain, "How fast the run works. A token is a piece of a word."),
        ("Memory", Metric::Memory, sized, "The most memory that the run has used so far."),
    ];
    let columns = if ui.available_width() > 820.0 { 2 } else { 1 };
    let look = Look { log: false, ..look };
    for pair in charts.chunks(columns) {
        ui.columns(columns, |uis| {
            for (ui, (name, metric, write, what)) in uis.iter_mut().zip(pair) {
                card(ui, |ui| {
                    ui.horizontal(|ui| {
                        ui.label(text::card_title(t, *name));
                        field::explain(ui, name, what);
                    });
                    let points = story.curve(*metric);
                    let id = format!("{name} chart");
                    let shown = Chart { name: &id, height: 150.0, look, zones: &[], flags: &[], write: *write };
                    chart(ui, &shown, &[Series { name, points, order: 0, marks: false }]);
                });
            }
        });
    }
}
