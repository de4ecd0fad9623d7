//! Loss and accuracy of every example by itself, for reports that name rows.

use super::score::Totals;
use super::{Tokens, batch_of};
use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use peft_kernels::Backend;
use peft_plan::Result;

/// Tokens computed together.
const BATCH_TOKENS: usize = 1024;

/// Score each of `examples`, with or without the adapters.
pub fn score_each<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    adapters: bool,
) -> Result<Vec<Totals>> {
    let mut all = Vec::with_capacity(examples.len());
    let mut start = 0;
    while start < examples.len() {
        let mut tokens = 0;
        let group = examples[start..].iter().take_while(|example| {
            tokens += example.ids.len();
            tokens <= BATCH_TOKENS
        });
        let end = start + group.count().max(1);
        let indices: Vec<usize> = (start..end).collect();
        let batch = batch_of(examples, &indices);
        let scores = decoder.score(acts, &batch, adapters).map_err(device)?;
        for segment in &batch.segments {
            let range = segment.start..segment.start + segment.len;
            let sum = |values: &[f32]| values[range.clone()].iter().map(|&v| f64::from(v)).sum::<f64>();
            all.push(Totals {
                loss: sum(&scores.loss),
                correct: sum(&scores.correct),
                tokens: batch.targets[range.clone()].iter().filter(|&&target| target >= 0).count() as u64,
            });
        }
        start = end;
    }
    Ok(all)
}
