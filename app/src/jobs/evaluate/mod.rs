//! How well a model answers examples it was not trained on, with its adapter and without.
//!
//! Losses are over all rows. What costs more (answering in words, weighing labels) is done for so many rows as are asked
//! for, spread evenly over the data, so that a sorted file is not judged by its beginning.

mod answers;
mod labels;
mod report;

pub use report::{Column, JsonReport, LabelReport, LabelRow, Report, RowReport};

use super::{open_model, setup};
use answers::Reference;
use peft_data::Dataset;
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, Quantization, Session};
use peft_models::prepare::render;
use peft_models::train::{Tokens, Totals};
use peft_plan::judge::{self, Labels};
use peft_plan::{Fault, Result, TrainOn};
use peft_text::RenderOptions;
use serde_json::Value;
use std::path::PathBuf;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct EvaluateRequest {
    /// The base.
    pub model: String,
    /// The adapter.
    pub adapter: Option<PathBuf>,
    /// How the base is loaded.
    pub quantize: Option<Quantization>,
    /// Files, folders or datasets of the hub.
    pub data: Vec<PathBuf>,
    /// Chat layout; none is the model's own.
    pub template: Option<String>,
    /// For conversations without a system turn.
    pub system: Option<String>,
    /// Longest example in tokens.
    pub max_sequence_length: Option<usize>,
    /// Also answer in words and compare.
    pub generate: bool,
    /// The labels; none is to find out whether answers are labels.
    pub labels: Option<Vec<String>>,
    /// What answers must fit.
    pub schema: Option<Value>,
    /// Rows that are answered and whose labels are weighed.
    pub max_rows: usize,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
}

/// Score `dataset`, the rows of `request.data`, on `engine`. `on_row` gets every row's numbers at the end, in order.
pub fn evaluate(
    engine: &Engine,
    request: &EvaluateRequest,
    dataset: &Dataset,
    on_row: &mut dyn FnMut(&RowReport) -> Result<()>,
) -> Result<Report> {
    let given = request.labels.as_deref().map(checked_labels).transpose()?;
    let base = open_model(&request.model)?;
    let render_options =
        setup::render_options(&base, request.template.as_deref(), TrainOn::Assistant, request.system.as_deref())?;
    let indices: Vec<usize> = (0..dataset.rows.len()).collect();
    let longest = base.spec().max_positions;
    let limit = request.max_sequence_length.unwrap_or(longest).min(longest);
    let cut = render(&base, &dataset.rows, &indices, &render_options)?.cut(limit);
    if cut.examples.is_empty() {
        return Err(Fault::new("PS-DATA-004", "None of the examples has an answer to score"));
    }
    let session = engine.session(&base, request.adapter.as_deref(), request.quantize)?;
    let mut judge = Judge { base: &base, session, render: render_options, limit, tuned: request.adapter.is_some() };
    let (tuned, plain) = judge.losses(&cut.examples)?;
    let mut report = Report::new(&tuned, &plain);
    report.truncated = cut.truncated;
    report.dropped = cut.dropped;
    let mut rows: Vec<RowReport> = cut
        .examples
        .iter()
        .zip(tuned.iter().zip(&plain))
        .map(|(example, (tuned, plain))| {
            let row = &dataset.rows[example.row as usize];
            let file = dataset.files[row.file].path.display().to_string();
            RowReport::new(example.row, file, row.line, tuned, plain, judge.tuned)
        })
        .collect();
    let references: Vec<Reference> =
        (0..dataset.rows.len()).filter_map(|row| Reference::of(&dataset.rows, row)).collect();
    let expected: Vec<&str> = references.iter().map(|reference| reference.expected.as_str()).collect();
    let detected = given.is_none();
    let labels = match given {
        Some(labels) => labels,
        None => match judge::labels(&expected) {
            Labels::Set(labels) => labels.into_iter().map(|(label, _)| label).collect(),
            Labels::Single(label) => {
                report.notes.push(format!(
                    "All {} answers are `{label}`: whoever always says it is always right, so there is no label accuracy",
                    expected.len()
                ));
                Vec::new()
            }
            Labels::Free => Vec::new(),
        },
    };
    let chosen = spread(&references, request.max_rows);
    if request.generate {
        answers::answer(&mut judge, &chosen, &labels, request, &mut rows, &mut report)?;
    }
    if !labels.is_empty() {
        labels::weigh(&mut judge, &chosen, labels, detected, &mut rows, &mut report)?;
    }
    if chosen.len() < references.len() && (request.generate || report.labels.is_some()) {
        report.notes.push(format!(
            "{} of {} rows were looked at more closely, evenly spread; --max-rows changes that",
            chosen.len(),
            references.len()
        ));
    }
    rows.iter().try_for_each(on_row)?;
    Ok(report)
}

/// Labels that a person gave.
fn checked_labels(given: &[String]) -> Result<Vec<String>> {
    let mut labels: Vec<String> = Vec::new();
    for label in given.iter().map(|label| label.trim()).filter(|label| !label.is_empty()) {
        if judge::label_of(label, &labels).is_none() {
            labels.push(label.to_owned());
        }
    }
    if labels.len() < 2 {
        let known = labels.first().map_or_else(|| "none".to_owned(), |label| format!("only `{label}`"));
        let detail = format!("A choice needs at least two different labels, and `--labels` names {known}");
        return Err(Fault::new("PS-CFG-001", detail));
    }
    Ok(labels)
}

/// At most `count` of `all`, evenly spread.
fn spread(all: &[Reference], count: usize) -> Vec<&Reference> {
    let count = count.min(all.len());
    (0..count).map(|i| &all[i * all.len() / count]).collect()
}

/// A model that judges rows, and is judged.
struct Judge<'a> {
    base: &'a BaseModel,
    session: Box<dyn Session>,
    render: RenderOptions,
    /// Longest example in tokens.
    limit: usize,
    /// There is an adapter.
    tuned: bool,
}

impl Judge<'_> {
    /// Of each example, tuned and base; the same where there is no adapter.
    fn losses(&mut self, examples: &[Tokens]) -> Result<(Vec<Totals>, Vec<Totals>)> {
        let plain = self.session.score_each(examples, false)?;
        let tuned = if self.tuned { self.session.score_each(examples, true)? } else { plain.clone() };
        Ok((tuned, plain))
    }
}
