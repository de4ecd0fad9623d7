//! Holding rows out for validation, so that nothing the model was trained on is tested.

use crate::fingerprint::{Key, of_prompt, seeded};
use peft_plan::Row;
use std::collections::{HashMap, HashSet};

/// Indices into the rows that were split, each in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows held out.
    pub validation: Vec<usize>,
}

/// Hold out about `fraction` of `rows`.
///
/// Rows that ask the same (up to case and spacing) stay together on one side. Which prompts are
/// held out depends on `seed` and on the set of prompts only, not on their order. At least one row
/// is left to train on, and none is held out if every choice would be further from `fraction` than
/// that.
pub fn split(rows: &[Row], fraction: f64, seed: u64) -> Split {
    let prompts: Vec<Key> = rows.iter().map(|row| of_prompt(&row.example)).collect();
    split_prompts(&prompts, fraction, seed)
}

/// [`split`] for rows whose prompts are known by their keys.
pub(crate) fn split_prompts(prompts: &[Key], fraction: f64, seed: u64) -> Split {
    // Also refuses NaN.
    let is_asked_for = fraction > 0.0 && prompts.len() > 1;
    let held = if is_asked_for { held_out(prompts, fraction.min(1.0), seed) } else { HashSet::new() };
    let (validation, train) = (0..prompts.len()).partition(|index| held.contains(&prompts[*index]));
    Split { train, validation }
}

fn held_out(prompts: &[Key], fraction: f64, seed: u64) -> HashSet<Key> {
    let wanted = (prompts.len() as f64 * fraction).round() as usize;
    let wanted = wanted.clamp(1, prompts.len() - 1);
    let mut sizes: HashMap<Key, usize> = HashMap::new();
    for prompt in prompts {
        *sizes.entry(*prompt).or_default() += 1;
    }
    let mut groups: Vec<(Key, Key, usize)> =
        sizes.iter().map(|(prompt, size)| (seeded(seed, *prompt), *prompt, *size)).collect();
    groups.sort_unstable();
    let mut held = HashSet::new();
    let mut count = 0;
    for (_, prompt, size) in &groups {
        if count + size <= wanted {
            held.insert(*prompt);
            count += size;
        }
    }
    if held.is_empty() {
        // Every group is larger than what is wanted: the smallest, if that is nearer than nothing.
        let smallest = groups.iter().min_by_key(|(order, _, size)| (*size, *order));
        let near = |(_, _, size): &&(Key, Key, usize)| *size <= 2 * wanted && *size < prompts.len();
        held.extend(smallest.filter(near).map(|(_, prompt, _)| *prompt));
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::{Example, Role, Turn};
    use proptest::prelude::*;

    fn rows(prompts: &[u8]) -> Vec<Row> {
        let row = |(line, prompt): (usize, &u8)| {
            let spacing = if line % 2 == 0 { "  Prompt" } else { "prompt " };
            let turns = vec![
                Turn::new(Role::User, format!("{spacing} {prompt}")),
                Turn::new(Role::Assistant, format!("answer {line}")),
            ];
            Row { file: 0, line, example: Example::Messages(turns) }
        };
        prompts.iter().enumerate().map(row).collect()
    }

    proptest! {
        #[test]
        fn the_same_prompt_never_straddles_s1_9(
            prompts in prop::collection::vec(0_u8..40, 0..200), fraction in -0.5_f64..1.5, seed: u64,
        ) {
            let rows = rows(&prompts);
            let Split { train, validation } = split(&rows, fraction, seed);
            for index in &validation {
                prop_assert!(train.iter().all(|other| prompts[*other] != prompts[*index]));
            }
            let mut all: Vec<usize> = train.iter().chain(&validation).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..rows.len()).collect::<Vec<_>>());
            prop_assert!(rows.is_empty() || !train.is_empty());
            prop_assert!(fraction > 0.0 || validation.is_empty());
        }

        #[test]
        fn sizes_are_close_to_the_fraction(count in 20_usize..250, fraction in 0.05_f64..0.95, seed: u64) {
            let prompts: Vec<u8> = (0..count).map(|n| n as u8).collect();
            let validation = split(&rows(&prompts), fraction, seed).validation.len() as f64;
            prop_assert!((validation - count as f64 * fraction).abs() <= 1.0);
        }
    }

    #[test]
    fn the_same_rows_give_the_same_split_and_another_seed_another() {
        let prompts: Vec<u8> = (0..100).collect();
        let rows = rows(&prompts);
        let first = split(&rows, 0.1, 42);
        assert_eq!(first, split(&rows, 0.1, 42));
        assert_ne!(first, split(&rows, 0.1, 43));
        assert_eq!(first.validation.len(), 10);
        // Pinned: a resumed run must hold out what it held out before an update.
        assert_eq!(first.validation, PINNED);
    }

    const PINNED: [usize; 10] = [3, 17, 22, 32, 54, 55, 62, 78, 84, 90];

    #[test]
    fn the_order_of_the_rows_does_not_matter() {
        let prompts: Vec<u8> = (0..50).collect();
        let forward = rows(&prompts);
        let held = |rows: &[Row]| {
            let indices = split(rows, 0.2, 7).validation;
            let mut lines: Vec<usize> = indices.iter().map(|index| rows[*index].line).collect();
            lines.sort_unstable();
            lines
        };
        let backward: Vec<Row> = forward.iter().rev().cloned().collect();
        assert_eq!(held(&forward), held(&backward));
    }

    #[test]
    fn one_prompt_only_is_all_trained_on() {
        assert_eq!(split(&rows(&[1; 10]), 0.5, 1).train.len(), 10);
        assert_eq!(split(&rows(&[1]), 0.9, 1).train, [0]);
        assert_eq!(split(&rows(&[1, 2]), 0.01, 1).validation.len(), 1);
        assert!(split(&rows(&[1, 2, 3]), f64::NAN, 1).validation.is_empty());
        assert_eq!(split(&[], 0.5, 1), Split::default());
    }
}
