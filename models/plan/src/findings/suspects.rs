//! Which rows of a whole run are suspicious: those that cost more than others did at the same time, and keep costing.
//!
//! Losses fall as a run goes on, so each visit is compared with the visits around it, by median and robust spread; few
//! tokens make a mean uncertain, and count for less. A row's score is the mean distance of its later visits: an
//! honest row that is only hard is learnt in the end, a wrong one is not until it is known by heart.

use super::rolling::{median, quantile, spread};
use serde::Serialize;
use std::collections::BTreeMap;

/// A row's cost in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowVisit {
    /// The step.
    pub step: u64,
    /// The row.
    pub row: u32,
    /// Its trained tokens.
    pub tokens: u32,
    /// Mean loss over them.
    pub loss: f32,
}

/// What a run makes of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RowScore {
    /// The row: an index into the rows as read.
    pub row: u32,
    /// How suspicious it is: distance from other rows, in robust standard deviations.
    pub score: f64,
    /// How often it was trained on.
    pub visits: u64,
    /// Its trained tokens.
    pub tokens: u32,
    /// Its loss when it was first seen.
    pub first_loss: f64,
    /// Its latest loss.
    pub last_loss: f64,
}

/// Visits that are compared with each other.
const AROUND: usize = 256;
/// Distances beyond this say no more.
const MOST: f64 = 50.0;

/// All rows, the most suspicious first. `visits` in the order in which they happened.
pub fn rank_rows(visits: &[RowVisit]) -> Vec<RowScore> {
    let mut distances: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let mut rows: BTreeMap<u32, RowScore> = BTreeMap::new();
    // A last short piece is compared as part of the one before it.
    let pieces = (visits.len() / AROUND).max(1);
    for piece in 0..pieces {
        let end = if piece + 1 == pieces { visits.len() } else { (piece + 1) * AROUND };
        let piece = &visits[piece * AROUND..end];
        let losses: Vec<f64> = piece.iter().map(|v| f64::from(v.loss)).filter(|loss| loss.is_finite()).collect();
        let usual = median(&losses);
        let scale = spread(&losses).max((quantile(&losses, 0.9) - usual) / 1.2816).max(0.02);
        for visit in piece {
            let loss = f64::from(visit.loss);
            let few = (4.0 / f64::from(visit.tokens.max(1))).sqrt().max(1.0);
            let distance = if loss.is_finite() { ((loss - usual) / (scale * few)).clamp(-MOST, MOST) } else { MOST };
            distances.entry(visit.row).or_default().push(distance);
            let first = RowScore {
                row: visit.row,
                score: 0.0,
                visits: 0,
                tokens: visit.tokens,
                first_loss: loss,
                last_loss: loss,
            };
            let score = rows.entry(visit.row).or_insert(first);
            score.visits += 1;
            score.last_loss = loss;
        }
    }
    for (row, score) in &mut rows {
        let all = distances.get(row).map_or(&[][..], Vec::as_slice);
        let later = &all[all.len() / 3..];
        score.score = later.iter().sum::<f64>() / later.len().max(1) as f64;
    }
    let mut ranked: Vec<RowScore> = rows.into_values().collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_stays_high_while_all_fall_is_on_top_and_one_that_is_only_short_is_not_b7() {
        let mut visits = Vec::new();
        for epoch in 0..3_u64 {
            for row in 0..200_u32 {
                let noise = f64::from(row * 37 % 100) / 100.0;
                let level = 3.0 / (epoch + 1) as f64;
                let loss = match row {
                    17 => 6.0,
                    99 => level + 1.5,
                    _ => level + noise,
                };
                let tokens = if row == 99 { 1 } else { 12 };
                visits.push(RowVisit { step: epoch * 25 + u64::from(row) / 8, row, tokens, loss: loss as f32 });
            }
        }
        let ranked = rank_rows(&visits);
        assert_eq!(ranked.len(), 200);
        assert_eq!((ranked[0].row, ranked[0].visits), (17, 3));
        assert!(ranked[0].score > 2.0 * ranked[1].score, "{:?}", &ranked[..3]);
        assert!(rank_rows(&[]).is_empty());
    }
}
