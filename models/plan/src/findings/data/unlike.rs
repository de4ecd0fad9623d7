//! Rows whose answers are made of tokens that no other row has: garbled text, another language, another file.
//!
//! ## What it does
//! Scores each answer by how rare its tokens are among the other rows, and compares the scores by median and robust
//! spread. A model that knows the language sees such rows at once (`outliers.rs`); this sees them for one that does not.
//!
//! ## Why this threshold
//! Rows of the campaign's datasets stay within 3 spreads, where answers are uniform garbled ones begin at 11. Where rows
//! differ much from each other nothing stands out, and nothing is said.

use super::super::rolling::{median, quantile, spread};
use super::super::{Finding, FindingKind};
use super::{ExampleView, places};
use std::collections::HashMap;

const FEWEST: usize = 50;
const DISTANCE: f64 = 8.0;
/// More rows than this share are not exceptions.
const SHARE: f64 = 0.1;

pub(super) fn unlike_the_rest(train: &[ExampleView], place: &dyn Fn(u32) -> String) -> Option<Finding> {
    if train.len() < FEWEST {
        return None;
    }
    let mut rows_with: HashMap<u32, u32> = HashMap::new();
    for row in train {
        let mut tokens = row.answer().to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        for token in tokens {
            *rows_with.entry(token).or_default() += 1;
        }
    }
    let all = train.len() as f64;
    let rarity = |row: &ExampleView| {
        let others = |token: &u32| f64::from(rows_with.get(token).copied().unwrap_or(1) - 1).max(0.5);
        let sum: f64 = row.answer().iter().map(|token| (all / others(token)).ln()).sum();
        sum / row.answer().len().max(1) as f64
    };
    let scores: Vec<f64> = train.iter().map(rarity).collect();
    let usual = median(&scores);
    let scale = spread(&scores).max((quantile(&scores, 0.9) - usual) / 1.2816).max(0.1);
    let mut odd: Vec<(f64, u32)> =
        scores.iter().zip(train).map(|(score, row)| ((score - usual) / scale, row.row)).collect();
    odd.retain(|(distance, _)| *distance > DISTANCE);
    if odd.is_empty() || odd.len() as f64 > SHARE * all {
        return None;
    }
    odd.sort_by(|a, b| b.0.total_cmp(&a.0));
    let rows: Vec<u32> = odd.iter().map(|(_, row)| *row).collect();
    let numbers: Vec<String> = rows.iter().take(20).map(|row| (row + 1).to_string()).collect();
    let message = format!(
        "{} made of tokens that hardly any other answer has: {}. Are they garbled, or from another file?",
        if rows.len() == 1 {
            "The answer of one row is".to_owned()
        } else {
            format!("The answers of {} rows are", rows.len())
        },
        places(&rows, place)
    );
    let mut finding = Finding::new(FindingKind::Rows, "PS-TRAIN-007", 0, message)
        .with("distance", odd[0].0)
        .with("rows", rows.len() as f64)
        .action("Look at these rows", Some("peft-studio data inspect FILE".to_owned()))
        .action(
            "Leave them out and begin again",
            Some(format!("peft-studio resume RUN --exclude-rows {} --rewind-to 0", numbers.join(","))),
        );
    finding.rows = rows;
    Some(finding)
}
