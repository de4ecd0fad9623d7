//! Answers taken together: the same one everywhere, labels out of balance, ends that are cut.

use super::issues::Tally;
use super::{Issue, IssueExample, SERIOUS, Severity};
use crate::bad_line;
use peft_plan::Row;
use peft_plan::judge::{LabelCounts, Labels};

/// Answers that are candidates for the commonest; one that a fifth of the rows have cannot be missed.
const CANDIDATES: usize = 8;

/// A label this frequent drowns the others; one this rare is hardly learnt.
const LOPSIDED: (f64, f64) = (0.8, 0.02);

/// What is known of the answers that passed.
#[derive(Default)]
pub(super) struct Answers {
    total: usize,
    /// Key, count by the rule of Misra and Gries, and a row that has it.
    frequent: Vec<(u64, usize, IssueExample)>,
    /// Every answer's key, to count exactly at the end.
    keys: Vec<u64>,
    labels: LabelCounts,
}

impl Answers {
    /// An answer passes.
    pub(super) fn add(&mut self, row: &Row, answer: &str, key: u64, keeps: bool) {
        self.total += 1;
        self.labels.add(answer);
        if keeps {
            self.keys.push(key);
        }
        if let Some((_, count, _)) = self.frequent.iter_mut().find(|(known, ..)| *known == key) {
            *count += 1;
        } else if self.frequent.len() < CANDIDATES {
            let example = IssueExample { file: row.file, line: row.line, text: bad_line::excerpt(answer) };
            self.frequent.push((key, 1, example));
        } else {
            self.frequent.iter_mut().for_each(|(_, count, _)| *count -= 1);
            self.frequent.retain(|(_, count, _)| *count > 0);
        }
    }

    /// What is wrong with them.
    pub(super) fn issues(self, short: Tally, cut: Tally) -> Vec<Issue> {
        let Self { total, frequent, keys, labels } = self;
        let often = |count: usize| count as f64 > SERIOUS * total as f64;
        let labels = match labels.finish() {
            Labels::Set(counts) => counts,
            Labels::Single(_) | Labels::Free => Vec::new(),
        };
        let counted =
            frequent.into_iter().map(|(key, _, example)| (keys.iter().filter(|k| **k == key).count(), example));
        let commonest = counted.max_by_key(|(count, example)| (*count, std::cmp::Reverse(example.line)));
        let repeated = commonest.filter(|(count, _)| often(*count) && *count > 2 && labels.is_empty()).and_then(
            |(count, example)| {
                let message = format!(
                    "have the same answer ({}%). The model learns to give it to everything",
                    (100 * count) / total.max(1)
                );
                Tally { count, examples: vec![example] }.issue(
                    "same_answers",
                    Severity::Warning,
                    20.0,
                    &message,
                    "Leave out some of them, or add rows with other answers",
                )
            },
        );
        let cut = if often(cut.count) { cut } else { Tally::default() };
        [
            repeated,
            imbalance(&labels, total),
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
}

/// Labels of which one drowns the others, or some hardly occur.
fn imbalance(labels: &[(String, usize)], total: usize) -> Option<Issue> {
    let share = |count: usize| count as f64 / total.max(1) as f64;
    let (first, most) = labels.first()?;
    let rare: usize = labels.iter().filter(|(_, count)| share(*count) < LOPSIDED.1).map(|(_, count)| *count).sum();
    if share(*most) <= LOPSIDED.0 && rare == 0 {
        return None;
    }
    let shown: Vec<String> = labels.iter().take(6).map(|(label, count)| format!("{label} {count}")).collect();
    let more = if labels.len() > 6 { ", …" } else { "" };
    let list = shown.join(", ");
    Some(Issue {
        code: "label_imbalance",
        severity: Severity::Warning,
        count: if share(*most) > LOPSIDED.0 { *most } else { rare },
        message: format!(
            "The labels are out of balance: {list}{more}. Always answering `{first}` is right in {:.0}% of the rows, and \
             rare labels are hardly learnt",
            100.0 * share(*most)
        ),
        examples: Vec::new(),
        fix: "Add rows with the rare labels, or give their file a higher weight in dataset.sources".to_owned(),
        weight: 10.0,
    })
}
