//! The quality report of a dataset (S4.4.3, S4.4.4): what is wrong, how often, an example, what it
//! does to training, and what to do about it.
//!
//! The score starts at 100. Each issue has a weight, the points it costs when it touches a fifth of
//! all rows or more; below that it costs the proportional part, and an error costs at least one
//! point. A dataset of fewer than [`ENOUGH`] rows loses up to 40 points, in proportion to what is
//! missing. The score is rounded and never below 0.

use crate::dataset::{Dataset, FileReport, RejectedKind};
use crate::private_data::{self, Kind};
use crate::read::{BadLine, ReadOptions, read};
use crate::{bad_line, duplicates, fingerprint, row_defects};
use peft_plan::{Example, Result, Row};
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;

/// Rows from which on a dataset is not small.
const ENOUGH: usize = 50;

/// Share of the rows at which an issue costs its full weight, and at which repetition is an issue.
const SERIOUS: f64 = 0.2;

/// Examples shown for each issue.
const SHOWN: usize = 3;

/// Rows in the preview (S4.4.5).
const PREVIEW: usize = 5;

/// How much an issue matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Rows are lost or must not be trained on.
    Error,
    /// Training works, but the result suffers.
    Warning,
    /// Worth knowing.
    Info,
}

/// A row that shows an issue.
#[derive(Clone, Debug, Serialize)]
pub struct IssueExample {
    /// Index of the file in the list that was read.
    pub file: usize,
    /// Line or element number, from 1.
    pub line: usize,
    /// What was found there; secrets are masked.
    pub text: String,
}

/// One thing that is wrong with a dataset.
#[derive(Clone, Debug, Serialize)]
pub struct Issue {
    /// Stable name, such as `exact_duplicates`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Rows concerned.
    pub count: usize,
    /// What is wrong and what it does to training.
    pub message: String,
    /// A few rows concerned.
    pub examples: Vec<IssueExample>,
    /// What to do about it.
    pub fix: String,
    #[serde(skip)]
    weight: f64,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// What each file is.
    pub files: Vec<FileReport>,
    /// Usable rows.
    pub rows: usize,
    /// Rows left out.
    pub rejected: usize,
    /// Quality from 0 to 100; the formula is in the module's documentation.
    pub score: u32,
    /// What is wrong, the most important first.
    pub issues: Vec<Issue>,
    /// The first rows, to be rendered and counted by whoever has a tokenizer.
    pub preview: Vec<Row>,
}

/// Read `paths` and report on them. Bad lines become an issue, whatever `options` says.
pub fn inspect(paths: &[PathBuf], options: &ReadOptions) -> Result<Inspection> {
    let options = ReadOptions { on_bad_line: BadLine::Skip, ..options.clone() };
    Ok(of_dataset(read(paths, &options)?))
}

fn of_dataset(dataset: Dataset) -> Inspection {
    let mut issues = rejections(&dataset);
    issues.extend(too_few(&dataset.rows));
    issues.extend(one_label(&dataset.rows));
    issues.extend(copies(&dataset.rows));
    issues.extend(single_rows(&dataset.rows));
    issues.extend(answers(&dataset.rows));
    let total = dataset.rows.len() + dataset.rejected.len();
    let score = score(&issues, total, dataset.rows.len());
    issues.sort_by_key(|issue| (issue.severity as u8, std::cmp::Reverse(issue.count)));
    Inspection {
        rows: dataset.rows.len(),
        rejected: dataset.rejected.len(),
        files: dataset.files,
        score,
        issues,
        preview: dataset.rows.into_iter().take(PREVIEW).collect(),
    }
}

fn score(issues: &[Issue], total: usize, usable: usize) -> u32 {
    let cost = |issue: &Issue| {
        let share = issue.count as f64 / total.max(1) as f64;
        let least = if issue.severity == Severity::Error { 1.0 } else { 0.0 };
        (issue.weight * (share / SERIOUS).min(1.0)).max(least)
    };
    let missing = 1.0 - usable.min(ENOUGH) as f64 / ENOUGH as f64;
    let points = 100.0 - 40.0 * missing - issues.iter().map(cost).sum::<f64>();
    points.round().clamp(0.0, 100.0) as u32
}

/// Collects the rows of one issue.
#[derive(Default)]
struct Tally {
    count: usize,
    examples: Vec<IssueExample>,
}

impl Tally {
    fn add(&mut self, row: &Row, text: impl Into<String>) {
        self.add_at(row.file, row.line, text);
    }

    fn add_at(&mut self, file: usize, line: usize, text: impl Into<String>) {
        self.count += 1;
        if self.examples.len() < SHOWN {
            self.examples.push(IssueExample { file, line, text: text.into() });
        }
    }

    /// The issue, if any row has it; `message` follows the count and "row has" or "rows have".
    fn issue(self, code: &'static str, severity: Severity, weight: f64, message: &str, fix: &str) -> Option<Issue> {
        let Self { count, examples } = self;
        let subject = if count == 1 { "row" } else { "rows" };
        let message = format!("{count} {subject} {message}");
        (count > 0).then(|| Issue { code, severity, count, message, examples, fix: fix.to_owned(), weight })
    }
}

/// What reading left out.
fn rejections(dataset: &Dataset) -> Vec<Issue> {
    use RejectedKind::{BrokenLine, Empty, NoAnswer, NoPreference, NotForTraining, UnknownShape};
    let tally = |kinds: &[RejectedKind]| {
        let mut tally = Tally::default();
        for rejected in dataset.rejected.iter().filter(|rejected| kinds.contains(&rejected.kind)) {
            let text = match rejected.kind {
                NoAnswer | Empty => rejected.excerpt.clone(),
                _ => format!("{}: {}", rejected.reason, rejected.excerpt),
            };
            tally.add_at(rejected.file, rejected.line, text);
        }
        tally
    };
    let clean = "Repair them, or leave them out with `data convert`, which keeps them aside";
    [
        tally(&[BrokenLine]).issue(
            "broken_lines",
            Severity::Error,
            40.0,
            "cannot be read. Training refuses a file with broken lines",
            clean,
        ),
        tally(&[NoAnswer]).issue(
            "no_answer",
            Severity::Error,
            30.0,
            "without an answer, so there is nothing to learn from them",
            "Write the missing answers, label them with a teacher model, or leave them out with `data convert`",
        ),
        tally(&[NoPreference]).issue(
            "no_preference",
            Severity::Warning,
            20.0,
            "without a preference are left out: both answers are the same, or they answer different questions",
            "Write a worse answer beside the better one, or leave these rows out",
        ),
        tally(&[UnknownShape, NotForTraining]).issue(
            "unknown_layout",
            Severity::Warning,
            30.0,
            "with another layout are left out",
            "Give all rows the same columns, or name the columns in the run file",
        ),
        tally(&[Empty]).issue("empty_rows", Severity::Info, 10.0, "without any text are left out", clean),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn too_few(rows: &[Row]) -> Option<Issue> {
    (rows.len() < ENOUGH).then(|| Issue {
        code: "too_few",
        severity: Severity::Warning,
        count: rows.len(),
        message: format!(
            "Only {} usable rows. The model will learn them by heart instead of learning from them",
            rows.len()
        ),
        examples: Vec::new(),
        fix: format!("Add more examples; {ENOUGH} is a start, a few hundred are better"),
        // The score counts missing rows by itself.
        weight: 0.0,
    })
}

/// Rated answers that all have the same label.
fn one_label(rows: &[Row]) -> Option<Issue> {
    let label = |row: &Row| match &row.example {
        Example::Rated { desirable, .. } => Some(*desirable),
        _ => None,
    };
    let first = rows.iter().find_map(label)?;
    let is_pair = |row: &Row| matches!(row.example, Example::Preference { .. });
    if rows.iter().any(|row| label(row) == Some(!first) || is_pair(row)) {
        return None;
    }
    let mut tally = Tally::default();
    rows.iter().filter(|row| label(row).is_some()).for_each(|row| tally.add(row, beginning(row)));
    tally.issue(
        "one_label",
        Severity::Warning,
        30.0,
        "with the same label. There is no difference to learn from; training by `kto` refuses them",
        "Add answers with the other label, or learn to give the wanted ones with `training.objective` sft",
    )
}

fn copies(rows: &[Row]) -> Vec<Issue> {
    let copies = duplicates::exact(rows);
    let mut exact = Tally::default();
    for (row, first) in rows.iter().zip(&copies) {
        if let Some(first) = first {
            exact.add(row, format!("the same as line {}: {}", rows[*first].line, beginning(row)));
        }
    }
    let mut near = Tally::default();
    let groups = duplicates::near(rows, &copies);
    for group in &groups {
        let first = &rows[group[0]];
        for (number, index) in group.iter().skip(1).enumerate() {
            let row = &rows[*index];
            // One example for each group says more than three of the largest.
            if number == 0 {
                near.add(row, format!("nearly the same as line {}: {}", first.line, beginning(first)));
            } else {
                near.count += 1;
            }
        }
    }
    let largest = groups.first().map_or(0, Vec::len);
    let near_message = format!(
        "nearly repeat an earlier one ({} groups, the largest of {largest}). They count more than the others",
        groups.len()
    );
    let fix = "Remove the copies: `data convert --deduplicate`";
    [
        exact.issue(
            "exact_duplicates",
            Severity::Warning,
            20.0,
            "copy an earlier one word for word. Training repeats them in every epoch",
            fix,
        ),
        near.issue("near_duplicates", Severity::Warning, 15.0, &near_message, "Keep one of each group, or vary them"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Issues that one row has by itself.
fn single_rows(rows: &[Row]) -> Vec<Issue> {
    let [mut garbled, mut markers, mut order, mut secrets, mut personal] = [(); 5].map(|()| Tally::default());
    for row in rows {
        if let Some(place) = row_defects::garbled(&row.example) {
            garbled.add(row, bad_line::excerpt(&place));
        }
        if let Some(marker) = row_defects::chat_marker(&row.example) {
            markers.add(row, marker);
        }
        if let Some(disorder) = row_defects::role_order(&row.example) {
            order.add(row, format!("the conversation {disorder}"));
        }
        let found: Vec<(Kind, String)> = row_defects::texts(&row.example).flat_map(private_data::find).collect();
        let first = |secret: bool| found.iter().find(|(kind, _)| kind.is_secret() == secret);
        for (tally, secret) in [(&mut secrets, true), (&mut personal, false)] {
            if let Some((kind, masked)) = first(secret) {
                tally.add(row, format!("{} {masked}", kind.name()));
            }
        }
    }
    [
        garbled.issue(
            "garbled_text",
            Severity::Warning,
            25.0,
            "with garbled characters, probably UTF-8 that was read as Windows-1252. The model learns to write them",
            "Export the data again as UTF-8, or leave these rows out: `data convert --quality-filter`",
        ),
        markers.issue(
            "chat_markers",
            Severity::Warning,
            20.0,
            "with markers of a chat template in the text. They confuse the model and may end answers early",
            "Remove the markers, or leave these rows out: `data convert --quality-filter`",
        ),
        order.issue(
            "role_order",
            Severity::Warning,
            15.0,
            "with an unusual order of speakers. Some models refuse such conversations",
            "Merge neighbouring messages of one speaker and end with an answer, or use `data convert --quality-filter`",
        ),
        secrets.issue(
            "secrets",
            Severity::Error,
            25.0,
            "with something like a key or a card number. Models can repeat these to anybody",
            "Replace them with placeholders such as <KEY>, and revoke keys that are real",
        ),
        personal.issue(
            "personal_data",
            Severity::Warning,
            10.0,
            "with personal data such as e-mail addresses. Models can repeat these",
            "Replace them with placeholders such as <EMAIL>, or make sure you may use them",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Issues of the answers taken together.
fn answers(rows: &[Row]) -> Vec<Issue> {
    let (mut short, mut cut) = (Tally::default(), Tally::default());
    let mut same: HashMap<fingerprint::Key, (usize, &Row)> = HashMap::new();
    let mut total = 0;
    for row in rows {
        let Some(answer) = row_defects::answer(row) else { continue };
        total += 1;
        same.entry(fingerprint::of_text(answer)).or_insert((0, row)).0 += 1;
        if row_defects::is_one_word(answer) {
            short.add(row, bad_line::excerpt(answer));
        }
        if row_defects::stops_mid_sentence(answer) {
            cut.add(row, ending(answer));
        }
    }
    let often = |count: usize| count as f64 > SERIOUS * total as f64;
    let commonest = same.into_values().max_by_key(|(count, row)| (*count, std::cmp::Reverse(row.line)));
    let repeated = commonest.filter(|(count, _)| often(*count) && *count > 2).and_then(|(count, row)| {
        let text = bad_line::excerpt(row_defects::answer(row).unwrap_or_default());
        let examples = vec![IssueExample { file: row.file, line: row.line, text }];
        let message = format!(
            "have the same answer ({}%). The model learns to give it to everything",
            (100 * count) / total.max(1)
        );
        Tally { count, examples }.issue(
            "same_answers",
            Severity::Warning,
            20.0,
            &message,
            "Leave out some of them, or add rows with other answers",
        )
    });
    let cut = if often(cut.count) { cut } else { Tally::default() };
    [
        repeated,
        cut.issue(
            "truncated_answers",
            Severity::Warning,
            15.0,
            "with an answer that stops in the middle of a sentence. Was the export cut at a fixed length?",
            "Export the answers again in full",
        ),
        short.issue(
            "one_word_answers",
            Severity::Info,
            5.0,
            "with a one-word answer. That is right for labels and teaches a chatbot to be curt",
            "Write fuller answers, unless these are labels",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn beginning(row: &Row) -> String {
    let text: String = row_defects::texts(&row.example).next().unwrap_or_default().chars().take(80).collect();
    bad_line::excerpt(&text)
}

fn ending(answer: &str) -> String {
    let skipped = answer.chars().count().saturating_sub(60);
    bad_line::excerpt(&answer.chars().skip(skipped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(count: usize, weight: f64, severity: Severity) -> Issue {
        let tally = Tally { count, examples: Vec::new() };
        tally.issue("x", severity, weight, "", "").expect("a count")
    }

    #[test]
    fn the_score_follows_the_formula() {
        assert_eq!(score(&[], 1_000, 1_000), 100);
        assert_eq!(score(&[issue(200, 20.0, Severity::Warning)], 1_000, 1_000), 80);
        assert_eq!(score(&[issue(100, 20.0, Severity::Warning)], 1_000, 1_000), 90);
        assert_eq!(score(&[issue(1, 20.0, Severity::Error)], 10_000, 10_000), 99);
        assert_eq!(score(&[], 25, 25), 80);
        assert_eq!(score(&[issue(5, 90.0, Severity::Error), issue(5, 90.0, Severity::Error)], 5, 0), 0);
    }
}
