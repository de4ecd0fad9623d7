//! Loss and accuracy over held-out examples.

use super::{Tokens, batch_of};
use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use peft_kernels::Backend;
use peft_plan::lengths::Lengths;
use peft_plan::memory::Rows;
use peft_plan::order::SCORE_TOKENS;
use peft_plan::{Result, TrainingPlan};

/// Sums over trained tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Sum of the losses, nats.
    pub loss: f64,
    /// Right predictions.
    pub correct: f64,
    /// Trained tokens.
    pub tokens: u64,
}

impl Totals {
    /// Mean loss.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.tokens.max(1) as f64
    }

    /// Share of right predictions.
    pub fn accuracy(&self) -> f64 {
        self.correct / self.tokens.max(1) as f64
    }
}

/// Where the group of examples that begins at `start` ends, and its tokens.
fn group(examples: &[Tokens], start: usize) -> (usize, usize) {
    let mut end = start + 1;
    let mut tokens = examples[start].ids.len();
    while end < examples.len() && tokens + examples[end].ids.len() <= SCORE_TOKENS {
        tokens += examples[end].ids.len();
        end += 1;
    }
    (end, tokens)
}

/// Most tokens that a run computes together.
pub fn rows(plan: &TrainingPlan, train: &[Tokens], validation: &[Tokens]) -> Rows {
    let whole = |examples: &[Tokens]| -> Vec<usize> { examples.iter().map(|t| t.ids.len()).collect() };
    let firsts = train.iter().filter_map(|t| t.pair.map(|pair| pair.border as usize)).collect();
    let weights = plan.weights(train.iter().map(|t| t.row));
    Lengths { whole: whole(train), firsts }.rows(&whole(validation), &weights, plan)
}

/// Score `examples` in order, with or without the adapters.
pub fn score<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    adapters: bool,
) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut start = 0;
    while start < examples.len() {
        let (end, _) = group(examples, start);
        let indices: Vec<usize> = (start..end).collect();
        let batch = batch_of(examples, &indices);
        let scores = decoder.score(acts, &batch, adapters).map_err(device)?;
        totals.loss += scores.total_loss();
        totals.correct += scores.total_correct();
        totals.tokens += batch.trained_tokens();
        start = end;
    }
    Ok(totals)
}
