//! How many tokens a run computes together: what its examples, its order and its objective make of a micro-batch.

use crate::facts::score_rows;
use crate::memory::Rows;
use crate::order;
use crate::preference::Objective;
use crate::resolve::TrainingPlan;

/// Tokens of examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Of each, all of it.
    pub whole: Vec<usize>,
    /// Of the first of two sequences, where examples compare; empty otherwise.
    pub firsts: Vec<usize>,
}

impl Lengths {
    /// As `plan` cuts them: its limit holds for each sequence.
    pub fn cut(whole: &[usize], firsts: &[usize], plan: &TrainingPlan) -> Self {
        let limit = plan.max_sequence_length;
        if firsts.len() != whole.len() {
            let longest = plan.longest_example();
            return Self { whole: whole.iter().map(|&l| l.min(longest)).collect(), firsts: Vec::new() };
        }
        let both = whole.iter().zip(firsts);
        Self {
            whole: both.map(|(&all, &first)| first.min(limit) + all.saturating_sub(first).min(limit)).collect(),
            firsts: firsts.iter().map(|&first| first.min(limit)).collect(),
        }
    }

    /// Tokens of the sequences of example `i`; the second has none where there is one.
    pub fn sequences(&self, i: usize) -> [usize; 2] {
        let first = self.firsts.get(i).copied().unwrap_or(self.whole[i]);
        [first, self.whole[i] - first]
    }

    /// Most tokens that `plan` computes together. `weights`: how often each example is drawn; empty where that is once.
    pub fn rows(&self, held_out: &[usize], weights: &[f64], plan: &TrainingPlan) -> Rows {
        let params = plan.order();
        let widest = |of: &[usize], weights: &[f64]| order::widest(&self.whole, of, weights, &params, plan.total_steps);
        let all = widest(&self.whole, weights);
        let score = score_rows(held_out);
        let Some(preference) = &plan.preference else { return Rows { train: all, score } };
        // A reference looks at the micro-batches of an epoch in which every example is drawn once.
        let referred = if preference.has_reference() && !weights.is_empty() { widest(&self.whole, &[]) } else { 0 };
        match preference.objective {
            // Somebody else's answer is only scored.
            Objective::Kto if !self.firsts.is_empty() => {
                Rows { train: widest(&self.firsts, weights), score: score.max(all).max(referred) }
            }
            _ => Rows { train: all, score: score.max(referred) },
        }
    }
}
