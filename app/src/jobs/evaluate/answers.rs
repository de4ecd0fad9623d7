//! Answers in words, beside the references of the rows.

use super::report::{Column, JsonReport, Report, RowReport};
use super::{EvaluateRequest, Judge};
use crate::jobs::answer::stop_ids;
use peft_models::generate::{GenerateOptions, Prompt, Sampling};
use peft_plan::judge::{f1, fits_schema, is_exact, json_of, label_of, words};
use peft_plan::{Example, Result, Role, Row, Turn, schema_of};
use serde_json::Value;
use std::ops::ControlFlow;

/// Rows answered together.
const TOGETHER: usize = 8;

/// A row with the answer that it should get.
pub(super) struct Reference {
    /// Index of the row.
    pub row: usize,
    /// Everything before the answer.
    pub turns: Vec<Turn>,
    /// The answer, calls of tools included.
    pub expected: String,
}

impl Reference {
    /// The last answer of a conversation; plain text has none.
    pub(super) fn of(rows: &[Row], row: usize) -> Option<Self> {
        let Example::Messages(turns) = &rows[row].example else { return None };
        let last = turns.iter().rposition(|turn| turn.role == Role::Assistant && turn.train != Some(false))?;
        // A model answers a conversation, not nothing.
        if last == 0 {
            return None;
        }
        Some(Self { row, turns: turns[..last].to_vec(), expected: turns[last].as_text().trim().to_owned() })
    }
}

/// Sums over answered rows of one model.
#[derive(Default)]
struct Sums {
    rows: usize,
    exact: usize,
    normalized: usize,
    f1: f64,
    labels: (usize, usize),
    json: (usize, usize),
    equal: (usize, usize),
    schema: (usize, usize),
}

/// What is known of the form of an answer.
struct Form<'a> {
    wanted: Option<Value>,
    schema: Option<&'a Value>,
}

impl Sums {
    /// Count one answer; whether it is JSON and fits, where it should.
    fn add(&mut self, answer: &str, expected: &str, labels: &[String], form: &Form) -> (Option<bool>, Option<bool>) {
        self.rows += 1;
        self.exact += usize::from(is_exact(answer, expected));
        self.normalized += usize::from(words(answer) == words(expected));
        self.f1 += f1(answer, expected);
        if let Some(right) = label_of(expected, labels) {
            self.labels.0 += usize::from(label_of(answer, labels) == Some(right));
            self.labels.1 += 1;
        }
        if form.wanted.is_none() && form.schema.is_none() {
            return (None, None);
        }
        let value = json_of(answer);
        let fits = form.schema.map(|schema| value.as_ref().is_some_and(|value| fits_schema(value, schema)));
        self.json.0 += usize::from(value.is_some());
        self.json.1 += 1;
        if let Some(wanted) = &form.wanted {
            self.equal.0 += usize::from(value.as_ref() == Some(wanted));
            self.equal.1 += 1;
        }
        if let Some(fits) = fits {
            self.schema.0 += usize::from(fits);
            self.schema.1 += 1;
        }
        (Some(value.is_some()), fits)
    }

    fn write(&self, column: &mut Column) {
        let share = |(right, all): (usize, usize)| (all > 0).then(|| right as f64 / all as f64);
        column.exact_match = share((self.exact, self.rows));
        column.exact_match_normalized = share((self.normalized, self.rows));
        column.f1 = (self.rows > 0).then(|| self.f1 / self.rows as f64);
        column.label_accuracy_generated = share(self.labels);
        column.json_valid = share(self.json);
        column.schema_valid = share(self.schema);
        column.json_equal = share(self.equal);
    }
}

/// Answer `chosen` with the likeliest tokens, tuned and base, and compare.
pub(super) fn answer(
    judge: &mut Judge,
    chosen: &[&Reference],
    labels: &[String],
    request: &EvaluateRequest,
    rows: &mut [RowReport],
    report: &mut Report,
) -> Result<()> {
    let (mut tuned, mut plain) = (Sums::default(), Sums::default());
    let mut too_long = 0;
    let mut with_schema = 0;
    let mut fitting = Vec::new();
    for reference in chosen {
        let ids = judge.base.tokenizer().render_prompt(&reference.turns, &judge.render)?;
        if ids.len() + request.max_new_tokens > judge.base.spec().max_positions {
            too_long += 1;
        } else {
            fitting.push((*reference, ids));
        }
    }
    let adapters: &[bool] = if judge.tuned { &[true, false] } else { &[false] };
    for group in fitting.chunks(TOGETHER) {
        let prompts: Vec<Prompt> = adapters
            .iter()
            .flat_map(|&adapter| group.iter().map(move |(_, ids)| Prompt { ids: ids.clone(), adapter }))
            .collect();
        let texts = generated(judge, &prompts, request.max_new_tokens)?;
        let (first, second) = texts.split_at(group.len());
        let base_answers = if judge.tuned { second } else { first };
        for (((reference, _), answer), base_answer) in group.iter().zip(first).zip(base_answers) {
            let expected = &reference.expected;
            let schema = schema_of(&reference.turns).or(request.schema.as_ref());
            with_schema += usize::from(schema.is_some());
            let form = Form { wanted: json_of(expected), schema };
            let (is_json, fits) = tuned.add(answer, expected, labels, &form);
            plain.add(base_answer, expected, labels, &form);
            // A row that was too long to score is not in the list.
            if let Some(row) = rows.iter_mut().find(|row| row.row as usize == reference.row) {
                let asked = reference.turns.iter().rfind(|turn| turn.role == Role::User);
                row.question = asked.map(|turn| turn.as_text().trim().to_owned());
                row.expected = Some(expected.clone());
                row.exact = Some(is_exact(answer, expected));
                row.json_valid = is_json;
                row.schema_valid = fits;
                row.answer = Some(answer.clone());
                if judge.tuned {
                    row.base_exact = Some(is_exact(base_answer, expected));
                    row.base_answer = Some(base_answer.clone());
                }
            }
        }
    }
    tuned.write(&mut report.tuned);
    plain.write(&mut report.base);
    report.generated_rows = tuned.rows;
    report.json = (tuned.json.1 > 0).then_some(JsonReport { rows: tuned.json.1, with_schema });
    if too_long > 0 {
        report.notes.push(format!(
            "{too_long} rows were not answered: their questions and {} tokens of answer do not fit into the model's {} tokens",
            request.max_new_tokens,
            judge.base.spec().max_positions
        ));
    }
    Ok(())
}

/// The answers to `prompts`, always with the likeliest token.
fn generated(judge: &mut Judge, prompts: &[Prompt], max_new_tokens: usize) -> Result<Vec<String>> {
    let sampling = Sampling::default();
    let stop_ids = stop_ids(judge.base, &judge.render);
    let options = GenerateOptions { sampling, max_new_tokens, stop_ids, grammar: None };
    let mut on_token = |_: usize, _: u32| ControlFlow::Continue(());
    let generated = judge.session.generate(prompts, &options, &mut on_token)?;
    generated.answers.iter().map(|answer| judge.base.tokenizer().decode(&answer.ids)).collect()
}
