//! Masks that hide the answers: what is learnt of a row is not what it should teach.
//!
//! ## What it looks for
//! Nothing here knows the chat layout, but every layout treats all rows alike: what is learnt begins behind the same
//! token (the end of the assistant's header), is longer than its stop token, ends with one of a few tokens, and nothing
//! to speak of follows it. Rows that break one of these are counted.
//!
//! ## Why a tenth
//! Datasets of the campaign and the built-in layouts break none of these rules in any row; conversations that end with
//! a question break the last. A tenth leaves room for odd rows without letting a fault that matters pass.

use super::super::{Finding, FindingKind};
use super::{ExampleView, places};
use std::collections::HashMap;

/// Rows that may be odd.
const SHARE: f64 = 0.1;
/// Fewer rows say nothing.
const FEWEST: usize = 20;
/// Tokens behind the last learnt one that layouts put there.
const TAIL: usize = 4;

/// The runs of learnt tokens of a row, as (start, end).
fn spans(row: &ExampleView) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut start = None;
    for (i, &learnt) in row.trained.iter().chain([&false]).enumerate() {
        match (start, learnt) {
            (None, true) => start = Some(i),
            (Some(from), false) => {
                spans.push((from, i));
                start = None;
            }
            _ => {}
        }
    }
    spans
}

/// Whether a row is not learnt as the others are, given what of it is learnt.
type Check<'c> = dyn Fn(&ExampleView, &[(usize, usize)]) -> bool + 'c;

pub(super) fn masked(train: &[ExampleView], place: &dyn Fn(u32) -> String) -> Option<Finding> {
    if train.len() < FEWEST {
        return None;
    }
    let rows: Vec<(&ExampleView, Vec<(usize, usize)>)> = train.iter().map(|row| (row, spans(row))).collect();
    let least = FEWEST.max((SHARE * train.len() as f64).ceil() as usize).min(train.len() / 2);
    let of = |is_odd: &Check| -> Vec<u32> {
        let odd: Vec<u32> = rows.iter().filter(|(row, spans)| is_odd(row, spans)).map(|(row, _)| row.row).collect();
        if odd.len() >= least { odd } else { Vec::new() }
    };
    let before = |row: &ExampleView, start: usize| start.checked_sub(1).map(|at| row.ids[at]);
    // Whole texts begin with their first token; they have no header.
    let begins = |row: &ExampleView, spans: &[(usize, usize)]| -> Vec<Option<u32>> {
        spans.iter().filter(|(start, _)| *start > 1).map(|(start, _)| before(row, *start)).collect()
    };
    let headers = commonest(rows.iter().flat_map(|(row, spans)| begins(row, spans)), 2);
    let ends = commonest(rows.iter().flat_map(|(row, spans)| spans.iter().map(|s| Some(row.ids[s.1 - 1]))), 3);
    let checks: [(Vec<u32>, &str); 4] = [
        (
            of(&|row, spans| row.ids.len() > 2 && spans.iter().all(|(start, end)| end - start <= 1)),
            "of these rows only the end token is learnt, nothing of the answer",
        ),
        (
            of(&|row, spans| spans.last().is_some_and(|(_, end)| row.ids.len() - end > TAIL)),
            "the end of these rows, where the answer should be, is not learnt",
        ),
        (
            of(&|row, spans| spans.iter().any(|(_, end)| !ends.contains(&Some(row.ids[end - 1])))),
            "what is learnt of these rows breaks off before the answer ends",
        ),
        (
            of(&|row, spans| begins(row, spans).iter().any(|header| !headers.contains(header))),
            "what is learnt of these rows begins in the middle of the answer",
        ),
    ];
    let (odd, why) = checks.into_iter().find(|(odd, _)| !odd.is_empty())?;
    let message = format!(
        "The answers of {} of {} rows seem to be masked: {why} (such as {})",
        odd.len(),
        train.len(),
        places(&odd, place)
    );
    let mut finding = Finding::new(FindingKind::Masking, "PS-TRAIN-008", 0, message)
        .with("rows", odd.len() as f64)
        .with("share", odd.len() as f64 / train.len() as f64);
    finding.rows = odd;
    Some(finding)
}

/// The `n` values that occur most often.
fn commonest(values: impl Iterator<Item = Option<u32>>, n: usize) -> Vec<Option<u32>> {
    let mut counts: HashMap<Option<u32>, usize> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
    sorted.into_iter().take(n).map(|(value, _)| value).collect()
}
