//! Whether the answers belong to their questions, told without a model.
//!
//! ## What it does
//! From one half of the rows it counts which tokens of answers go with which tokens of questions; in the other half it
//! compares how well each answer goes with its own question and with those of other rows. Words that an answer takes
//! over from its question are compared in the same way. Rows belong together when either comparison says so.
//!
//! ## Why these thresholds
//! Both are paired comparisons, so that their mean over its standard error is about normal. Datasets of the campaign
//! reach 6 with 80 rows and 20 with 500; with answers shuffled it stays between -3 and 2. Three lies between them.

use super::super::{Finding, FindingKind};
use super::ExampleView;
use crate::order::{SplitMix, permutation};
use std::collections::HashMap;

/// Rows that are compared; more make it no clearer.
const COMPARED: usize = 400;
/// Fewer rows say nothing.
const FEWEST: usize = 60;
/// Different tokens of a question or an answer that are looked at.
const TOKENS: usize = 48;
/// Other rows that each is compared with.
const OTHERS: usize = 4;
/// Mean over standard error that ties answers to questions.
const TIED: f64 = 3.0;

/// Different tokens of both sides of a row.
struct Sides<'a> {
    question: Vec<u32>,
    answer: Vec<u32>,
    whole_answer: &'a [u32],
}

fn different(tokens: &[u32]) -> Vec<u32> {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.truncate(TOKENS);
    sorted
}

/// Rows with both sides, a sample of them in random order.
fn sample<'a>(rows: &[ExampleView<'a>]) -> Vec<Sides<'a>> {
    permutation(rows.len(), 1, 0)
        .into_iter()
        .map(|i| &rows[i])
        .filter(|row| row.question().len() > 2 && !row.answer().is_empty())
        .take(COMPARED)
        .map(|row| Sides {
            question: different(row.question()),
            answer: different(row.answer()),
            whole_answer: row.answer(),
        })
        .collect()
}

/// How often tokens occur, alone and together.
#[derive(Default)]
struct Counts {
    rows: f64,
    questions: HashMap<u32, f64>,
    answers: HashMap<u32, f64>,
    pairs: HashMap<(u32, u32), f64>,
}

impl Counts {
    fn of(rows: &[Sides]) -> Self {
        let mut counts = Self { rows: rows.len() as f64, ..Self::default() };
        for row in rows {
            for &q in &row.question {
                *counts.questions.entry(q).or_default() += 1.0;
                for &a in &row.answer {
                    *counts.pairs.entry((q, a)).or_default() += 1.0;
                }
            }
            for &a in &row.answer {
                *counts.answers.entry(a).or_default() += 1.0;
            }
        }
        counts
    }

    /// How well `answer` goes with `question`: of each of its tokens, the log of how much likelier its best companion
    /// makes it; shrunk by two rows so that a single meeting proves little. What nearly every row has says nothing.
    fn fit(&self, question: &[u32], answer: &[u32]) -> Option<f64> {
        let telling = |count: f64| count > 0.0 && count <= 0.9 * self.rows;
        let (mut sum, mut tokens) = (0.0, 0);
        for a in answer {
            let Some(&alone) = self.answers.get(a).filter(|count| telling(**count)) else { continue };
            let share = alone / self.rows;
            let mut best: f64 = 0.0;
            for q in question {
                let Some(&asked) = self.questions.get(q).filter(|count| telling(**count)) else { continue };
                let together = self.pairs.get(&(*q, *a)).copied().unwrap_or(0.0);
                best = best.max(((together + 2.0 * share) / (asked + 2.0) / share).ln());
            }
            sum += best;
            tokens += 1;
        }
        (tokens > 0).then(|| sum / f64::from(tokens))
    }
}

/// Mean over standard error; `None` where there are too few.
fn clarity(differences: &[f64]) -> Option<f64> {
    let n = differences.len() as f64;
    if differences.len() < FEWEST / 2 {
        return None;
    }
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some(mean / (variance / n).sqrt().max(1e-9))
}

/// Of each row its fit minus the mean fit of other rows' answers.
fn differences(rows: &[Sides], fit: &dyn Fn(&Sides, &Sides) -> Option<f64>, random: &mut SplitMix) -> Vec<f64> {
    let mut found = Vec::new();
    for row in rows {
        let Some(own) = fit(row, row) else { continue };
        let others: Vec<f64> = (0..OTHERS)
            .map(|_| &rows[random.below(rows.len())])
            .filter(|other| other.whole_answer != row.whole_answer)
            .filter_map(|other| fit(row, other))
            .collect();
        if !others.is_empty() {
            found.push(own - others.iter().sum::<f64>() / others.len() as f64);
        }
    }
    found
}

/// The finding that answers and questions have nothing to do with each other, to be confirmed by the model.
pub(super) fn unrelated(train: &[ExampleView]) -> Option<Finding> {
    let rows = sample(train);
    if rows.len() < FEWEST {
        return None;
    }
    let mut random = SplitMix::new(1);
    let (one, two) = rows.split_at(rows.len() / 2);
    let mut fits = Vec::new();
    for (learn, test) in [(one, two), (two, one)] {
        let counts = Counts::of(learn);
        fits.extend(differences(test, &|row, other| counts.fit(&row.question, &other.answer), &mut random));
    }
    let all = Counts::of(&rows);
    let taken_over = |row: &Sides, other: &Sides| {
        let both = row.question.iter().filter(|q| other.answer.binary_search(q).is_ok());
        let weight = |q: &u32| {
            let count = all.questions.get(q).unwrap_or(&0.0).max(*all.answers.get(q).unwrap_or(&0.0));
            (all.rows / count.max(1.0)).ln()
        };
        Some(both.map(weight).sum())
    };
    let copies = differences(&rows, &taken_over, &mut random);
    let fit = clarity(&fits)?;
    let copied = clarity(&copies).unwrap_or(0.0);
    if fit >= TIED || copied >= TIED {
        return None;
    }
    let message = format!(
        "The answers do not seem to belong to their questions: in {} rows they go with them no better than with the questions of \
         other rows. Have they been shuffled, or the columns mixed up?",
        rows.len()
    );
    let finding = Finding::new(FindingKind::Answers, "PS-TRAIN-009", 0, message)
        .with("rows", rows.len() as f64)
        .with("association", fit)
        .with("copying", copied);
    Some(finding)
}

/// A finding where nearly all answers are one and the same.
pub(super) fn all_the_same(train: &[ExampleView]) -> Option<Finding> {
    const SHARE: f64 = 0.95;
    const ROWS: usize = 20;
    let mut counts: HashMap<&[u32], usize> = HashMap::new();
    for row in train {
        *counts.entry(row.answer()).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    if train.len() < ROWS || (most as f64) < SHARE * train.len() as f64 {
        return None;
    }
    let message = format!(
        "{most} of {} rows have the same answer: the model will learn to give it whatever it is asked",
        train.len()
    );
    Some(Finding::new(FindingKind::Answers, "PS-TRAIN-009", 0, message).with("rows", most as f64))
}

/// Pairs of rows, of which the first is asked and the second answers, with different answers: what a model that
/// understands the rows must find odd.
pub fn mismatched(rows: &[ExampleView], count: usize) -> Vec<(usize, usize)> {
    let order = permutation(rows.len(), 2, 0);
    let is_good = |i: &usize| rows[*i].question().len() > 2 && !rows[*i].answer().is_empty();
    let good: Vec<usize> = order.into_iter().filter(is_good).take(count + 1).collect();
    let next = good.iter().cycle().skip(1);
    let pairs = good.iter().zip(next).filter(|(a, b)| rows[**a].answer() != rows[**b].answer());
    pairs.map(|(a, b)| (*a, *b)).take(count).collect()
}
