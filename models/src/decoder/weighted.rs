//! A pass in which every position has a weight of its own, decided once its loss is known.
//!
//! A loss of whole sequences (preference tuning) is `f(logp₁, logp₂, …)`; its gradient is the cross entropy's, each
//! sequence's times `-∂f/∂logp`. So one forward pass is enough: its losses give the weights, and the weights scale the
//! gradient that enters the blocks.

use super::{Activations, Batch, Decoder, Scores, Weights};
use peft_kernels::{Backend, LossParams, Result};
use std::ops::Range;

impl<B: Backend> Decoder<B> {
    /// Forward and backward of `Σ weight·loss` over the positions of `batch`; gradients are added.
    /// `weigh` gets the losses and gives a weight for each position; where there is no target it does not matter.
    pub fn weighted_pass(
        &mut self,
        acts: &mut Activations<B>,
        batch: &Batch,
        dropout: (u64, u64),
        weigh: impl FnOnce(&Scores) -> Vec<f32>,
    ) -> Result<Scores> {
        self.learn(acts, batch, dropout, |decoder, acts| {
            let base = decoder.head.as_ref().unwrap_or(&decoder.embedding);
            let frozen = decoder.saved.head.is_none() && matches!(base, Weights::Frozen(_));
            decoder.head_pass(acts, batch, frozen.then_some(1.0), true)?;
            let scores = decoder.scores(acts)?;
            let weights = weigh(&scores);
            for run in runs(&weights, &batch.targets) {
                if frozen {
                    // The gradient of a position is proportional to its weight.
                    decoder.be.scale(acts.dnormed.view_mut().rows(run.clone()), weights[run.start])?;
                } else {
                    decoder.weighted_head(acts, batch, run.clone(), weights[run.start])?;
                }
            }
            Ok(scores)
        })
    }

    /// The gradient of the head and of what enters it for the positions `rows`, which share a weight.
    fn weighted_head(
        &mut self,
        acts: &mut Activations<B>,
        batch: &Batch,
        rows: Range<usize>,
        weight: f32,
    ) -> Result<()> {
        let Self { be, spec, embedding, head, saved, .. } = self;
        let params = LossParams { softcap: spec.logit_softcap.map(|c| c as f32), gradient_scale: weight };
        be.reshape(&mut acts.loss, rows.len(), 1)?;
        be.reshape(&mut acts.correct, rows.len(), 1)?;
        let (matrix, dw) = saved.head_and_grad(head.as_mut().unwrap_or(embedding), true);
        let dx = Some(acts.dnormed.view_mut().rows(rows.clone()));
        let x = acts.normed.view().rows(rows.clone());
        be.head_loss(&mut acts.loss, &mut acts.correct, dx, dw, x, matrix, &batch.targets[rows], &params)
    }
}

/// Positions that follow each other and share a weight; those without a target go with the run before them.
fn runs(weights: &[f32], targets: &[i32]) -> Vec<Range<usize>> {
    let mut runs: Vec<(Range<usize>, Option<f32>)> = Vec::new();
    for (at, (&weight, &target)) in weights.iter().zip(targets).enumerate() {
        let own = (target >= 0).then_some(weight);
        match runs.last_mut() {
            Some((run, shared)) if own.is_none() || *shared == own => run.end = at + 1,
            _ => runs.push((at..at + 1, own)),
        }
    }
    // A run that begins without a target has the weight of nobody: zero gradient stays zero.
    runs.into_iter().map(|(run, _)| run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_position_and_never_mix_weights() {
        let weights = [9.0, 1.0, 1.0, 5.0, 2.0, 2.0, 1.0];
        let targets = [-100, 3, 4, -100, 5, 6, 7];
        assert_eq!(runs(&weights, &targets), [0..1, 1..4, 4..6, 6..7]);
        assert!(runs(&[], &[]).is_empty());
    }
}
