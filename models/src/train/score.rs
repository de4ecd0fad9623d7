//! Loss and accuracy over held-out examples.

use super::room::is_want;
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

/// Where the group of examples that begins at `start` ends: one, or as many as have `most` tokens together.
fn group(examples: &[Tokens], start: usize, most: usize) -> usize {
    let mut end = start + 1;
    let mut tokens = examples[start].ids.len();
    while end < examples.len() && tokens + examples[end].ids.len() <= most {
        tokens += examples[end].ids.len();
        end += 1;
    }
    end
}

/// Most tokens that a run computes together.
pub fn rows(plan: &TrainingPlan, train: &[Tokens], validation: &[Tokens]) -> Rows {
    let whole = |examples: &[Tokens]| -> Vec<usize> { examples.iter().map(|t| t.ids.len()).collect() };
    let firsts = train.iter().filter_map(|t| t.pair.map(|pair| pair.border as usize)).collect();
    let weights = plan.weights(train.iter().map(|t| t.row));
    Lengths { whole: whole(train), firsts }.rows(&whole(validation), &weights, plan)
}

/// Score `examples` in order, with or without the adapters. Where there is no memory for as many as are scored together
/// otherwise, fewer are: a fault for want of memory says that there is none for a single one.
pub fn score<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    adapters: bool,
) -> Result<Totals> {
    let mut most = SCORE_TOKENS;
    loop {
        match score_within(decoder, acts, examples, adapters, most) {
            Err(fault) if is_want(&fault) && most > 1 => {
                most = if most > FEWEST_TOKENS { most / 2 } else { 1 };
                // What the buffers had grown to is given back first.
                acts.release(&decoder.be);
                decoder.be.trim();
            }
            scored => return scored,
        }
    }
}

/// With fewer tokens there is one example at a time.
const FEWEST_TOKENS: usize = SCORE_TOKENS / 16;

/// The same in groups of at most `most` tokens, or of one example.
pub(super) fn score_within<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    adapters: bool,
    most: usize,
) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut start = 0;
    while start < examples.len() {
        let end = group(examples, start, most);
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
