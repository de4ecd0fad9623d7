//! What changed between two versions of a dataset, row by row, whatever their order.

use crate::bad_line;
use crate::fingerprint::{self, Key};
use crate::row_defects::{answer_of, texts};
use peft_plan::{Example, Row};
use serde::Serialize;
use std::collections::HashMap;

/// Changes that are shown of each kind.
const SHOWN: usize = 20;

/// A row that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The line in the old version.
    pub before: Option<usize>,
    /// The line in the new one.
    pub after: Option<usize>,
    /// What it asks.
    pub question: String,
    /// The old answer.
    pub old: Option<String>,
    /// The new one.
    pub new: Option<String>,
}

/// What changed. Counts are complete, lists show the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Rows that are in both as they were.
    pub kept: usize,
    /// Rows that are new.
    pub added: usize,
    /// Rows that are gone.
    pub removed: usize,
    /// Rows with the same question and another answer.
    pub changed: usize,
    /// Some of the new rows.
    pub additions: Vec<Change>,
    /// Some of those that are gone.
    pub removals: Vec<Change>,
    /// Some of those that are answered in another way.
    pub changes: Vec<Change>,
}

/// From `before` to `after`.
pub fn difference(before: &[Row], after: &[Row]) -> Difference {
    let mut difference = Difference::default();
    let mut old = Pool::new(before, fingerprint::of_example);
    let new: Vec<&Row> = after
        .iter()
        .filter(|row| {
            let is_kept = old.take(fingerprint::of_example(&row.example)).is_some();
            difference.kept += usize::from(is_kept);
            !is_kept
        })
        .collect();
    let rest = old.rest();
    let mut rest = Pool::new(rest.iter().copied(), fingerprint::of_prompt);
    for row in new {
        if let Some(earlier) = rest.take(fingerprint::of_prompt(&row.example)) {
            difference.changed += 1;
            keep(&mut difference.changes, || change(Some(earlier), Some(row)));
        } else {
            difference.added += 1;
            keep(&mut difference.additions, || change(None, Some(row)));
        }
    }
    for row in rest.rest() {
        difference.removed += 1;
        keep(&mut difference.removals, || change(Some(row), None));
    }
    difference
}

fn keep(list: &mut Vec<Change>, change: impl FnOnce() -> Change) {
    if list.len() < SHOWN {
        list.push(change());
    }
}

fn change(before: Option<&Row>, after: Option<&Row>) -> Change {
    let answer = |row: &Row| answer_of(&row.example).map(|text| bad_line::excerpt(&text));
    Change {
        before: before.map(|row| row.line),
        after: after.map(|row| row.line),
        question: after.or(before).map(|row| bad_line::excerpt(&question(&row.example))).unwrap_or_default(),
        old: before.and_then(answer),
        new: after.and_then(answer),
    }
}

/// What a row asks, without what a system says.
fn question(example: &Example) -> String {
    let asked = example.parts().into_iter().flatten().find(|turn| turn.role == peft_plan::Role::User);
    asked.map_or_else(|| texts(example).next().unwrap_or_default().into_owned(), |turn| turn.as_text().into_owned())
}

/// Rows by a key; those with the same key in their order.
struct Pool<'a> {
    rows: HashMap<Key, Vec<&'a Row>>,
}

impl<'a> Pool<'a> {
    fn new(rows: impl IntoIterator<Item = &'a Row>, key: fn(&Example) -> Key) -> Self {
        let mut pool: HashMap<Key, Vec<&'a Row>> = HashMap::new();
        for row in rows {
            pool.entry(key(&row.example)).or_default().push(row);
        }
        for rows in pool.values_mut() {
            rows.reverse();
        }
        Self { rows: pool }
    }

    fn take(&mut self, key: Key) -> Option<&'a Row> {
        self.rows.get_mut(&key)?.pop()
    }

    /// What was not taken, in the order of lines.
    fn rest(self) -> Vec<&'a Row> {
        let mut rest: Vec<&Row> = self.rows.into_values().flatten().collect();
        rest.sort_by_key(|row| (row.file, row.line));
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::{Role, Turn};

    fn rows(pairs: &[(&str, &str)]) -> Vec<Row> {
        let row = |(at, (question, answer)): (usize, &(&str, &str))| Row {
            file: 0,
            line: at + 1,
            example: Example::Messages(vec![Turn::new(Role::User, *question), Turn::new(Role::Assistant, *answer)]),
        };
        pairs.iter().enumerate().map(row).collect()
    }

    #[test]
    fn rows_are_kept_changed_added_or_removed_whatever_their_order() {
        let before = rows(&[("a", "1"), ("b", "2"), ("c", "3"), ("c", "3")]);
        let after = rows(&[("c", "3"), ("d", "4"), ("a", "one"), ("e", "5")]);
        let found = difference(&before, &after);
        assert_eq!((found.kept, found.changed, found.added, found.removed), (1, 1, 2, 2));
        let Change { before: old_line, after: new_line, old, new, .. } = &found.changes[0];
        assert_eq!((*old_line, *new_line, old.as_deref(), new.as_deref()), (Some(1), Some(3), Some("1"), Some("one")));
        assert_eq!(found.removals.iter().map(|change| change.question.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        let same = difference(&after, &after);
        assert_eq!((same.kept, same.changed + same.added + same.removed), (4, 0));
    }
}
