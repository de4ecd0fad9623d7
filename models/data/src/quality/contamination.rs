//! Evaluation rows that a training set gives away: the same row, the same question, or most of the same words.

use crate::fingerprint::{self, Key};
use crate::row_defects::texts;
use peft_plan::{Example, Role, Row, Turn};
use serde::Serialize;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Words in a run that is looked for.
const RUN: usize = 8;

/// Share of an evaluation row's runs that a training row may have.
const SHARED: f64 = 0.5;

/// Runs in more than one evaluation row of this many are phrases of the form, not of the question; but in fewer rows
/// than this anything may be.
const COMMON: usize = 10;
const FEW: usize = 5;

/// How a row is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakKind {
    /// Question and answer are the same.
    SameRow,
    /// The question is the same.
    SameQuestion,
    /// Most of its words stand in the same order.
    SharedText,
}

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RowPlace {
    /// Index of the file in the list that was read.
    pub file: usize,
    /// Line or element number, from 1.
    pub line: usize,
}

/// An evaluation row that a training row gives away.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leak {
    /// The row that is given away.
    pub evaluation: RowPlace,
    /// The row that does it; of several the one with most of it.
    pub training: RowPlace,
    /// Index of that row among the training rows.
    #[serde(skip)]
    pub training_row: usize,
    /// How.
    pub kind: LeakKind,
    /// The share of its runs of eight words that are in the training row; 1 for the same question.
    pub share: f64,
}

/// Every training row that gives an evaluation row away, in the order of the training rows.
pub fn contamination(training: &[Row], evaluation: &[Row]) -> Vec<Leak> {
    let mut rows: HashMap<Key, usize> = HashMap::new();
    let mut questions: HashMap<Key, usize> = HashMap::new();
    for (index, row) in evaluation.iter().enumerate().rev() {
        rows.insert(fingerprint::of_example(&row.example), index);
        questions.insert(fingerprint::of_prompt(&row.example), index);
    }
    let runs = Runs::of(evaluation);
    let mut leaks = Vec::new();
    for (at, row) in training.iter().enumerate() {
        let same = rows.get(&fingerprint::of_example(&row.example)).map(|index| (*index, LeakKind::SameRow, 1.0));
        let asked = || {
            let index = questions.get(&fingerprint::of_prompt(&row.example))?;
            Some((*index, LeakKind::SameQuestion, 1.0))
        };
        let shared = || runs.nearest(&row.example).map(|(index, share)| (index, LeakKind::SharedText, share));
        if let Some((index, kind, share)) = same.or_else(asked).or_else(shared) {
            leaks.push(Leak {
                evaluation: place(&evaluation[index]),
                training: place(row),
                training_row: at,
                kind,
                share,
            });
        }
    }
    leaks
}

fn place(row: &Row) -> RowPlace {
    RowPlace { file: row.file, line: row.line }
}

/// The runs of words of evaluation rows.
struct Runs {
    /// Which rows have a run; those that many have are left out.
    rows: HashMap<u64, Vec<u32>>,
    /// How many runs each row has.
    counts: Vec<u32>,
}

impl Runs {
    fn of(evaluation: &[Row]) -> Self {
        let mut rows: HashMap<u64, Vec<u32>> = HashMap::new();
        for (index, row) in evaluation.iter().enumerate() {
            for run in runs(&row.example) {
                let having = rows.entry(run).or_default();
                if having.last() != Some(&(index as u32)) {
                    having.push(index as u32);
                }
            }
        }
        let most = (evaluation.len() / COMMON).max(FEW);
        rows.retain(|_, having| having.len() <= most);
        let mut counts = vec![0; evaluation.len()];
        for index in rows.values().flatten() {
            counts[*index as usize] += 1;
        }
        Self { rows, counts }
    }

    /// The row of which most is in `example`, if it is enough.
    fn nearest(&self, example: &Example) -> Option<(usize, f64)> {
        let mut found = runs(example);
        found.sort_unstable();
        found.dedup();
        let mut hits: HashMap<u32, u32> = HashMap::new();
        for index in found.iter().filter_map(|run| self.rows.get(run)).flatten() {
            *hits.entry(*index).or_default() += 1;
        }
        let share =
            |(index, hits): (u32, u32)| (index as usize, f64::from(hits) / f64::from(self.counts[index as usize]));
        let nearest = hits.into_iter().map(share).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
        (nearest.1 >= SHARED).then_some(nearest)
    }
}

/// Hashes of the runs of words of what is asked and answered; a system prompt is that of many rows.
fn runs(example: &Example) -> Vec<u64> {
    let spoken: Vec<String> = if let Example::Text(_) = example {
        texts(example).map(std::borrow::Cow::into_owned).collect()
    } else {
        let turns = example.parts().into_iter().flatten().filter(|turn| turn.role != Role::System);
        turns.map(|turn| Turn::as_text(turn).into_owned()).collect()
    };
    let words: Vec<String> = spoken
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    words.windows(RUN).map(|run| hasher.hash_one(run)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: usize, question: &str, answer: &str) -> Row {
        let turns = vec![
            Turn::new(Role::System, "You are a helpful assistant that answers the questions of people kindly."),
            Turn::new(Role::User, question),
            Turn::new(Role::Assistant, answer),
        ];
        Row { file: 0, line, example: Example::Messages(turns) }
    }

    #[test]
    fn the_same_row_question_or_text_is_found_and_a_shared_form_is_not() {
        let long = "The old bridge over the river was built by two brothers who had never seen a bridge before";
        let evaluation = [
            row(1, "Who built the bridge?", "Two brothers."),
            row(2, "How deep is the lake?", "Very deep."),
            row(3, "Tell me of the old bridge", long),
        ];
        let training = [
            row(1, "How deep  is the LAKE?", "Very deep."),
            row(2, "Who built the bridge?", "Nobody knows that any more."),
            row(3, "A story", &format!("Once upon a time. {long} in their lives.")),
            row(4, "What is a bridge?", "Something to walk over."),
        ];
        let leaks = contamination(&training, &evaluation);
        let found: Vec<(usize, usize, LeakKind)> =
            leaks.iter().map(|leak| (leak.training.line, leak.evaluation.line, leak.kind)).collect();
        let expected = [(1, 2, LeakKind::SameRow), (2, 1, LeakKind::SameQuestion), (3, 3, LeakKind::SharedText)];
        assert_eq!(found, expected);
        assert!(leaks[2].share > 0.5 && leaks[2].share < 1.0);
        assert!(contamination(&training[3..], &evaluation).is_empty());
        assert!(contamination(&[], &evaluation).is_empty() && contamination(&training, &[]).is_empty());
    }

    #[test]
    fn phrases_of_the_form_give_nothing_away() {
        let form = "Read the following text and say in one sentence what it is about";
        let rows = |from: usize| -> Vec<Row> {
            (from..from + 60).map(|n| row(n, &format!("{form}: number {n}"), &format!("It is about {n}."))).collect()
        };
        assert!(contamination(&rows(100), &rows(0)).is_empty());
    }
}
