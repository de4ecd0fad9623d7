//! Held-out rows that are also trained on: the held-out loss then measures memory.
//!
//! The split keeps rows with the same question on one side, so what is found here came in some other way: as a file of
//! its own, or as a copy that differs in a blank or a word. Rows count as copies when they ask the same, or answer the
//! same to questions that differ in one token. Of the cafe's rows, which ask for the same facts in other words, 2 %
//! are such neighbours by chance; the finding begins at 5 %, exact copies at 1 %.

use super::super::{Finding, FindingKind};
use super::{ExampleView, places};
use std::collections::{HashMap, HashSet};

/// Training rows with one answer that are compared with a held-out row.
const COMPARED: usize = 256;

pub(super) fn leaked(
    train: &[ExampleView],
    validation: &[ExampleView],
    place: &dyn Fn(u32) -> String,
) -> Option<Finding> {
    let asked: HashSet<&[u32]> = train.iter().map(|row| key(row)).collect();
    let mut by_answer: HashMap<&[u32], Vec<&[u32]>> = HashMap::new();
    for row in train {
        let same = by_answer.entry(row.answer()).or_default();
        if same.len() < COMPARED {
            same.push(row.question());
        }
    }
    let (mut exact, mut near) = (Vec::new(), Vec::new());
    for row in validation {
        if asked.contains(key(row)) {
            exact.push(row.row);
        } else if by_answer
            .get(row.answer())
            .is_some_and(|questions| questions.iter().any(|question| differ_by_one(question, row.question())))
        {
            near.push(row.row);
        }
    }
    let all = validation.len() as f64;
    let is_leak = exact.len() as f64 >= 0.01 * all && !exact.is_empty()
        || (exact.len() + near.len()) as f64 >= 0.05 * all && near.len() > 1;
    if !is_leak {
        return None;
    }
    let rows: Vec<u32> = exact.iter().chain(&near).copied().collect();
    let message = format!(
        "{} of {} held-out rows are also trained on ({} exactly, {} but for one token), such as {}: the held-out loss will look \
         better than the model is",
        rows.len(),
        validation.len(),
        exact.len(),
        near.len(),
        places(&rows, place)
    );
    let mut finding = Finding::new(FindingKind::Leak, "PS-DATA-010", 0, message)
        .with("leaked_rows", rows.len() as f64)
        .with("exact", exact.len() as f64)
        .with("share", rows.len() as f64 / all);
    finding.rows = rows;
    Some(finding)
}

/// What makes a row the same as another: its question, or all of it where there is none to speak of.
fn key<'a>(row: &ExampleView<'a>) -> &'a [u32] {
    let question = row.question();
    if question.len() < 3 { row.ids } else { question }
}

/// Whether one token more, less or other makes `a` of `b`.
fn differ_by_one(a: &[u32], b: &[u32]) -> bool {
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if b.len() - a.len() > 1 || b.len() < 4 {
        return false;
    }
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let rest = usize::from(a.len() == b.len());
    a.get(front + rest..).unwrap_or_default() == b.get(front + 1..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_more_less_or_other() {
        let row = [1, 2, 3, 4, 5];
        assert!(differ_by_one(&row, &[1, 2, 9, 4, 5]));
        assert!(differ_by_one(&row, &[1, 2, 3, 4]) && differ_by_one(&[1, 2, 3, 4], &row));
        assert!(differ_by_one(&row, &[2, 3, 4, 5]) && differ_by_one(&row, &[1, 2, 3, 9, 4, 5]));
        assert!(!differ_by_one(&row, &[1, 2, 9, 9, 5]) && !differ_by_one(&row, &[1, 2, 3]));
    }
}
