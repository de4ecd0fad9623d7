//! A question to the project's documents, and the vectors that find what is meant besides what is written (S0.6, S0.7).

use super::helper::{For, Helper, helper_ui};
use super::{Ask, Job, Studio, ask, chunks};
use crate::cli::quantity::count;
use crate::gui::command::Out;
use crate::gui::errand::{Said, Secret};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, icon_label};
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Key, Label, ProgressBar, Ui};
use peft_storage::StoredChunk;
use serde_json::Value;

/// What is asked, and what was found.
#[derive(Debug)]
pub struct Meaning {
    /// Who makes vectors.
    pub helper: Helper,
    /// The question.
    pub question: String,
    /// What was found, and whether also by meaning.
    pub found: Option<(bool, Vec<StoredChunk>)>,
    /// Why only words were looked for.
    pub remark: Option<String>,
    /// Whose vectors there are: model, chunks with one, all chunks.
    pub vectors: Option<Vec<(String, usize, usize)>>,
    /// How far the making of vectors is.
    pub progress: Option<Value>,
    /// What came of it.
    pub report: Option<Value>,
    /// A question was asked, and nothing came yet.
    pub is_asking: bool,
    /// Whoever looks, with the words it was started by and its keys: the index stays open between questions.
    pub(super) searcher: Option<(u64, Vec<String>, Vec<Secret>)>,
}

impl Default for Meaning {
    fn default() -> Self {
        Self {
            helper: Helper::embedder(),
            question: String::new(),
            found: None,
            remark: None,
            vectors: None,
            progress: None,
            report: None,
            is_asking: false,
            searcher: None,
        }
    }
}

impl Meaning {
    /// The command that makes vectors.
    pub(super) fn words(&self, project: &str) -> Vec<String> {
        let mut words = vec!["data".to_owned(), "embed".to_owned(), format!("--project={project}")];
        words.extend(self.helper.words());
        words.push(format!("--embedding-model={}", self.helper.model.trim()));
        words
    }

    /// The command that looks for whatever it is told.
    pub(super) fn searcher(&self, project: &str, most: usize) -> Vec<String> {
        let mut words = ["data", "search", "--lines"].map(str::to_owned).to_vec();
        words.extend([format!("--project={project}"), format!("--top-k={most}")]);
        words.extend(self.helper.address());
        words
    }

    /// The search said something.
    pub(super) fn hear_search(&mut self, said: &Said) {
        match said {
            Said::Line(line) => {
                self.is_asking = false;
                let chunks = serde_json::from_value(line["results"].clone()).unwrap_or_default();
                self.found = Some((line["by"] == "words_and_meaning", chunks));
            }
            Said::Remark(remark) if !remark.starts_with('{') => self.remark = Some(remark.clone()),
            Said::Remark(_) => {}
            Said::Ended(_) => (self.is_asking, self.searcher) = (false, None),
        }
    }

    /// The making of vectors said something.
    pub(super) fn hear_embedding(&mut self, said: &Said) {
        match said {
            Said::Line(line) if line["event"] == "embedding" => self.progress = Some(line.clone()),
            Said::Line(line) => self.report = Some(line.clone()),
            Said::Remark(_) | Said::Ended(_) => {}
        }
    }
}

pub(super) fn meaning_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let is_asking = page.is_busy(Job::Meaning);
    ui.horizontal_wrapped(|ui| {
        let width = (ui.available_width() - 110.0).clamp(160.0, 560.0);
        let typed = field::search(ui, "Ask your documents", &mut page.meaning.question, width);
        let can = !page.meaning.question.trim().is_empty() && !is_asking;
        let entered = typed.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        let pressed = button::primary("Find").named("Find what is meant").enabled(can).ui(ui).clicked();
        if can && (pressed || entered) {
            out.push(ask(Ask::Meaning(page.meaning.question.clone())));
        }
    });
    if is_asking {
        empty::loading(ui, "Looking through the documents");
    }
    found_ui(ui, &page.meaning, is_asking);
    ui.add_space(space::M);
    card(ui, |ui| vectors_ui(ui, page, out));
}

fn found_ui(ui: &mut Ui, meaning: &Meaning, is_asking: bool) {
    let t = of(ui);
    let Some((by_meaning, found)) = meaning.found.as_ref().filter(|_| !is_asking) else { return };
    let how = match (found.is_empty(), by_meaning) {
        (true, _) => "Nothing in the project answers that",
        (false, true) => "Found by words and by meaning, the best first",
        (false, false) => "Found by words alone, the best first",
    };
    ui.label(text::hint(t, how));
    if let Some(remark) = meaning.remark.as_ref().filter(|_| !by_meaning) {
        ui.horizontal_wrapped(|ui| {
            icon_label(ui, Icon::Info, t.info.fg, 14.0);
            ui.add(Label::new(text::body(t, remark)).wrap());
        });
    }
    for (index, chunk) in found.iter().enumerate() {
        chunks::chunk_ui(ui, chunk, index, true);
    }
}

fn vectors_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let t = of(ui);
    let (is_busy, is_looking) = (page.is_busy(Job::Embed), page.is_busy(Job::Embedders));
    let has_chunks = page.has_chunks();
    ui.label(text::card_title(t, "Search by meaning"));
    for (model, done, total) in page.meaning.vectors.iter().flatten() {
        let line = format!("{} of {} chunks have a vector of {model}", count(*done as u64), count(*total as u64));
        ui.add(Label::new(text::value(t, line)).wrap());
    }
    if page.meaning.vectors.as_ref().is_some_and(Vec::is_empty) {
        let line = "Words are found as they stand. A model that turns chunks into vectors also finds what is said in other words.";
        ui.add(Label::new(text::body(t, line)).wrap());
    }
    helper_ui(ui, &mut page.meaning.helper, For::Vectors, is_looking, out);
    ui.add_space(space::S);
    ui.horizontal_wrapped(|ui| {
        if is_busy {
            if button::secondary("Stop").named("Stop making vectors").icon(Icon::Stop).ui(ui).clicked() {
                out.push(ask(Ask::Stop(Job::Embed)));
            }
            ui.label(text::hint(t, "The vectors that are there are kept."));
            return;
        }
        let can = has_chunks && page.meaning.helper.is_named();
        if button::secondary("Make vectors").icon(Icon::Play).enabled(can).ui(ui).clicked() {
            out.push(ask(Ask::Embed));
        }
        if !has_chunks {
            ui.label(text::hint(t, "Add documents first"));
        }
    });
    if is_busy {
        match &page.meaning.progress {
            None => empty::loading(ui, "Waiting for the model"),
            Some(at) => {
                let (done, total) = (at["done"].as_u64().unwrap_or(0), at["total"].as_u64().unwrap_or(0));
                ui.add(ProgressBar::new(done as f32 / total.max(1) as f32).desired_height(8.0).fill(t.accent_fill));
                ui.label(text::value(t, format!("{} of {} texts", count(done), count(total))));
            }
        }
    } else if let Some(report) = &page.meaning.report {
        for reason in report["left_out"].as_array().into_iter().flatten().filter_map(Value::as_str).take(5) {
            ui.horizontal_wrapped(|ui| {
                icon_label(ui, Icon::Warning, t.warn.fg, 14.0);
                ui.add(Label::new(text::body(t, format!("A text has no vector: {reason}"))).wrap());
            });
        }
    }
}
