//! The numbers of an evaluation, as they are printed and written.

use peft_models::train::Totals;
use serde::Serialize;
use serde_json::Value;

/// One model's numbers. What was not measured is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Column {
    /// Mean loss of a learnt token, nats.
    pub loss: f64,
    /// `e` to the loss.
    pub perplexity: f64,
    /// Share of learnt tokens that are the likeliest.
    pub token_accuracy: f64,
    /// Share of answers that are the reference, white space around them aside.
    pub exact_match: Option<f64>,
    /// The same without case, punctuation and articles.
    pub exact_match_normalized: Option<f64>,
    /// Overlap of words with the reference.
    pub f1: Option<f64>,
    /// Share of rows whose right label is the likeliest one.
    pub label_accuracy: Option<f64>,
    /// Share of rows that are answered with the right label.
    pub label_accuracy_generated: Option<f64>,
    /// Share of answers that are JSON, where references are.
    pub json_valid: Option<f64>,
    /// Share of answers that fit their schema.
    pub schema_valid: Option<f64>,
    /// Share of answers that are the same JSON value as the reference.
    pub json_equal: Option<f64>,
}

/// Everything an evaluation found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// With the adapter, where there is one.
    #[serde(flatten)]
    pub tuned: Column,
    /// Learnt tokens that were scored.
    pub tokens: u64,
    /// Rows that were scored.
    pub examples: usize,
    /// Rows cut to the longest length.
    pub truncated: u64,
    /// Rows of which nothing was left.
    pub dropped: u64,
    /// Rows that were answered in words.
    pub generated_rows: usize,
    /// The labels, where answers are labels.
    pub labels: Option<LabelReport>,
    /// Answers as JSON, where references are JSON or a schema is there.
    pub json: Option<JsonReport>,
    /// Without the adapter.
    pub base: Column,
    /// What people should know.
    pub notes: Vec<String>,
}

/// About labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LabelReport {
    /// The labels, the most frequent first.
    pub set: Vec<String>,
    /// They were found in the data.
    pub detected: bool,
    /// Rows that were weighed.
    pub rows: usize,
    /// Rows whose answer is none of the labels; left out.
    pub other: usize,
    /// Accuracy of always giving the commonest label.
    pub majority: f64,
    /// Each label by itself.
    pub each: Vec<LabelRow>,
}

/// One label.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LabelRow {
    /// The label.
    pub label: String,
    /// Rows that have it.
    pub rows: usize,
    /// Of these, rows where it is the likeliest.
    pub right: usize,
    /// The same for the base.
    pub base_right: usize,
}

/// About answers as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JsonReport {
    /// Answers that should be JSON.
    pub rows: usize,
    /// Of these, answers with a schema to fit.
    pub with_schema: usize,
}

/// One row, for the file of all rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RowReport {
    /// Index of the row in the data as read.
    #[serde(skip)]
    pub row: u32,
    /// File it comes from.
    pub file: String,
    /// Line or number in it.
    pub line: usize,
    /// Mean loss of its learnt tokens.
    pub loss: f64,
    /// Learnt tokens.
    pub tokens: u64,
    /// Share of them that are the likeliest.
    pub token_accuracy: f64,
    /// Mean loss without the adapter, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_loss: Option<f64>,
    /// The last question before the reference: `data generate --ask-again` finds its way back by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The base's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_answer: Option<String>,
    /// The answer is the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
    /// The base's answer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_exact: Option<bool>,
    /// The answer is JSON, where it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_valid: Option<bool>,
    /// The answer fits its schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_valid: Option<bool>,
    /// The likeliest label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The likeliest label for the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_label: Option<String>,
    /// The logarithms of the labels' probabilities, in the order of the set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_scores: Option<Value>,
}

impl RowReport {
    /// The losses of a row.
    pub(super) fn new(row: u32, file: String, line: usize, tuned: &Totals, plain: &Totals, has_adapter: bool) -> Self {
        Self {
            row,
            file,
            line,
            loss: tuned.mean_loss(),
            tokens: tuned.tokens,
            token_accuracy: tuned.accuracy(),
            base_loss: has_adapter.then(|| plain.mean_loss()),
            ..Self::default()
        }
    }
}

impl Report {
    /// The losses of all rows.
    pub(super) fn new(tuned: &[Totals], plain: &[Totals]) -> Self {
        let column = |rows: &[Totals]| {
            let sum = rows.iter().fold(Totals::default(), |sum, row| Totals {
                loss: sum.loss + row.loss,
                correct: sum.correct + row.correct,
                tokens: sum.tokens + row.tokens,
            });
            let loss = sum.mean_loss();
            (Column { loss, perplexity: loss.exp(), token_accuracy: sum.accuracy(), ..Column::default() }, sum.tokens)
        };
        let ((tuned_column, tokens), (base, _)) = (column(tuned), column(plain));
        Self { tuned: tuned_column, tokens, examples: tuned.len(), base, ..Self::default() }
    }
}
