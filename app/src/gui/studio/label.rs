//! Rows without answers, and a teacher that answers them (S1.1 to S1.6).

use super::helper::{For, Helper, helper_ui};
use super::{Ask, Job, Picks, Studio, ask};
use crate::cli::quantity::count;
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::errand::Said;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::card;
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{CollapsingHeader, Label, ProgressBar, Ui};
use serde_json::Value;
use std::path::Path;

/// What is labelled, how, and what came of it.
#[derive(Debug)]
pub struct Labelling {
    /// The rows.
    pub file: String,
    /// Rows at the same time.
    pub batch: String,
    /// Longest answer, tokens.
    pub longest: String,
    /// Words are chosen freely.
    pub samples: bool,
    /// How freely.
    pub temperature: String,
    /// Answers that are there stay.
    pub skips: bool,
    /// The last event with numbers.
    pub progress: Option<Value>,
    /// Why it waits.
    pub waits: Option<String>,
    /// What came of it.
    pub report: Option<Value>,
}

impl Default for Labelling {
    fn default() -> Self {
        Self {
            file: String::new(),
            batch: "4".to_owned(),
            longest: "512".to_owned(),
            samples: false,
            temperature: "0.7".to_owned(),
            skips: true,
            progress: None,
            waits: None,
            report: None,
        }
    }
}

impl Labelling {
    /// The command; the answers go to `out`.
    pub(super) fn words(&self, helper: &Helper, out: &Path) -> Vec<String> {
        let mut words = ["data", "label"].map(str::to_owned).to_vec();
        words.push(super::typed_path(&self.file));
        words.push(format!("--out={}", out.display()));
        words.push(format!("--teacher={}", helper.teacher()));
        words.extend(helper.address());
        words.push(format!("--batch-size={}", self.batch.trim()));
        words.push(format!("--max-new-tokens={}", self.longest.trim()));
        if self.samples {
            words.extend(["--do-sample".to_owned(), format!("--temperature={}", self.temperature.trim())]);
        }
        words.extend(self.skips.then(|| "--skip-existing".to_owned()));
        words
    }

    pub(super) fn begin(&mut self) {
        (self.progress, self.waits, self.report) = (None, None, None);
    }

    pub(super) fn hear(&mut self, said: &Said) {
        match said {
            Said::Line(line) if line["event"] == "answered" => {
                (self.progress, self.waits) = (Some(line.clone()), None);
            }
            Said::Line(line) if line["event"].is_string() => {
                self.waits = line["reason"].as_str().map(str::to_owned);
            }
            Said::Line(line) => self.report = Some(line.clone()),
            Said::Remark(_) => {}
            Said::Ended(_) => self.waits = None,
        }
    }
}

pub(super) fn label_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let t = of(ui);
    let is_busy = page.is_busy(Job::Label);
    let is_looking = page.is_busy(Job::Helpers);
    card(ui, |ui| {
        let about = "A teacher answers rows that have only a question. Each row is a line of JSON with `user`, and where you \
                     like `system_hint`, `requires_json` and `json_schema`.";
        ui.add(Label::new(text::body(t, about)).wrap());
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            field::line(ui, "Questions", &mut page.labelling.file, "questions.jsonl", 320.0);
            if button::icon(Icon::Folder, "Choose the file with questions").ui(ui).clicked() {
                out.push(Command::Browse(Purpose::Studio(Picks::Questions)));
            }
            let word = "Use the four example tasks";
            if button::quiet(word).icon(Icon::Spark).enabled(!page.is_busy(Job::Reference)).ui(ui).clicked() {
                out.push(ask(Ask::Reference));
            }
        });
        helper_ui(ui, &mut page.writer, For::Rows, is_looking, out);
        ui.horizontal_wrapped(|ui| {
            let labelling = &mut page.labelling;
            field::line(ui, "Rows at the same time", &mut labelling.batch, "4", 44.0);
            field::line(ui, "Longest answer, tokens", &mut labelling.longest, "512", 60.0);
            ui.checkbox(&mut labelling.skips, "Keep the answers that are there");
            ui.checkbox(&mut labelling.samples, "Choose words freely");
            if labelling.samples {
                field::line(ui, "Temperature", &mut labelling.temperature, "0.7", 50.0);
            }
        });
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            if is_busy {
                if button::secondary("Stop").named("Stop the teacher").icon(Icon::Stop).ui(ui).clicked() {
                    out.push(ask(Ask::Stop(Job::Label)));
                }
                ui.label(text::hint(t, "Answers that came are kept, and the same button goes on from there."));
                return;
            }
            let missing = match (page.labelling.file.trim().is_empty(), page.writer.is_named()) {
                (true, _) => Some("Choose a file with questions"),
                (false, false) => Some("Name the model that answers"),
                (false, true) => None,
            };
            let begin = button::primary("Let the teacher answer").icon(Icon::Play).enabled(missing.is_none());
            if begin.ui(ui).clicked() {
                out.push(ask(Ask::Label));
            }
            if let Some(missing) = missing {
                ui.label(text::hint(t, missing));
            }
        });
        progress_ui(ui, &page.labelling, is_busy);
    });
    let Some(report) = page.labelling.report.clone().filter(|_| !is_busy) else { return };
    ui.add_space(space::M);
    card(ui, |ui| report_ui(ui, page, &report, out));
}

fn progress_ui(ui: &mut Ui, labelling: &Labelling, is_busy: bool) {
    if !is_busy {
        return;
    }
    let t = of(ui);
    let Some(at) = &labelling.progress else { return empty::loading(ui, "Waiting for the first answer") };
    let (over, units) = (at["over"].as_u64().unwrap_or(0), at["units"].as_u64().unwrap_or(0));
    ui.add(ProgressBar::new(over as f32 / units.max(1) as f32).desired_height(8.0).fill(t.accent_fill));
    ui.label(text::value(t, format!("{} of {} rows", count(over), count(units))));
    if let Some(reason) = &labelling.waits {
        ui.add(Label::new(text::body(t, format!("It is asked again soon: {reason}"))).wrap());
    }
}

fn report_ui(ui: &mut Ui, page: &Studio, report: &Value, out: &mut Out) {
    let t = of(ui);
    let file = report["out"].as_str().unwrap_or_default();
    let rows = report["rows"].as_u64().unwrap_or(0);
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let (skipped, failed) = (list("skipped"), list("failed"));
    ui.label(text::card_title(t, format!("{} rows have an answer", count(rows))));
    if !skipped.is_empty() {
        let names: Vec<&str> = skipped.iter().filter_map(Value::as_str).take(20).collect();
        let line = format!("{} kept the answer they had: {}", count(skipped.len() as u64), names.join(", "));
        ui.add(Label::new(text::body(t, line)).wrap());
    }
    if !failed.is_empty() {
        let title = format!("{} have none", count(failed.len() as u64));
        CollapsingHeader::new(text::toned(t.warn.fg, title)).id_salt("unanswered").default_open(true).show(ui, |ui| {
            for row in failed.iter().take(20) {
                let word = |place: usize| row[place].as_str().unwrap_or_default();
                ui.add(Label::new(text::body(t, format!("{}: {}", word(0), word(1)))).wrap());
            }
        });
    }
    super::view::made_ui(ui, file, rows > 0 && !page.is_busy(Job::Versions), out);
}
