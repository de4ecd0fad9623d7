//! One optimizer step: micro-batches, clipping, AdamW.

use super::ledger::row_losses;
use super::{Tokens, batch_of};
use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use peft_kernels::{AdamW, Backend};
use peft_plan::findings::RowLoss;
use peft_plan::order::StepBatches;
use peft_plan::{PreferenceMetrics, Result, TrainingPlan};

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean loss over the step's trained tokens.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Trained tokens.
    pub tokens: u64,
    /// Tokens that went through the model.
    pub computed_tokens: u64,
    /// Of a step that learns preferences.
    pub preference: Option<PreferenceMetrics>,
    /// Loss of every row that was in it.
    pub rows: Vec<RowLoss>,
}

impl StepOutcome {
    /// Loss and gradient are numbers. Where they are not, nothing was updated.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

/// Run the micro-batches of `step` (from 1), clip, update.
///
/// The loss is the mean over all trained tokens of the step, however they are spread over micro-batches. Where loss
/// or gradient is not finite, no parameter and no moment is touched; see [`StepOutcome::is_finite`].
pub fn optimizer_step<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    batches: &StepBatches,
    plan: &TrainingPlan,
    step: u64,
    rate: f64,
) -> Result<StepOutcome> {
    let indices = batches;
    let batches: Vec<_> = indices.iter().map(|micro| batch_of(examples, micro)).collect();
    let tokens: u64 = batches.iter().map(crate::decoder::Batch::trained_tokens).sum();
    let computed_tokens: u64 = batches.iter().map(|b| b.tokens.len() as u64).sum();
    let gradient_scale = 1.0 / tokens.max(1) as f32;
    let be = decoder.be.clone();
    decoder.prepare().map_err(device)?;
    for p in decoder.params_mut() {
        p.zero_grad(&be).map_err(device)?;
    }
    let mut total = 0.0;
    let mut rows = Vec::new();
    for (micro, batch) in batches.iter().enumerate() {
        // 2¹⁶ micro-steps a step are far more than any plan has.
        let stream = (step << 16) | micro as u64;
        let scores = decoder.train_pass(acts, batch, gradient_scale, (plan.seed, stream)).map_err(device)?;
        total += scores.total_loss();
        row_losses(examples, &indices[micro], batch, &scores, &mut rows);
    }
    let loss = total / tokens.max(1) as f64;
    let gradient_norm = update(decoder, plan, step, rate, loss)?;
    Ok(StepOutcome { loss, gradient_norm, tokens, computed_tokens, preference: None, rows })
}

/// Clip the gradients that are there and update; returns their norm before clipping. Nothing is updated where loss or
/// gradient is not finite.
pub(super) fn update<B: Backend>(
    decoder: &mut Decoder<B>,
    plan: &TrainingPlan,
    step: u64,
    rate: f64,
    loss: f64,
) -> Result<f64> {
    let be = decoder.be.clone();
    let params = decoder.params_mut();
    let gradients: Vec<_> = params.into_iter().filter_map(|p| p.grad().map(|grad| &*grad)).collect();
    let gradient_norm = be.sum_squares_of(&gradients).map_err(device)?.sqrt();
    if !loss.is_finite() || !gradient_norm.is_finite() {
        return Ok(gradient_norm);
    }
    let clip =
        if plan.max_gradient_norm > 0.0 { (plan.max_gradient_norm / (gradient_norm + 1e-6)).min(1.0) } else { 1.0 };
    let params = AdamW {
        learning_rate: rate as f32,
        beta1: 0.9,
        beta2: plan.adam_beta2 as f32,
        eps: 1e-8,
        weight_decay: plan.weight_decay as f32,
        step: step as u32,
        gradient_scale: clip as f32,
    };
    for p in decoder.params_mut() {
        // All memory that updates need, before the first of them: a step is done or not.
        p.optimizer_state(&be).map_err(device)?;
    }
    for p in decoder.params_mut() {
        p.step(&be, &params).map_err(device)?;
    }
    be.submit().map_err(device)?;
    Ok(gradient_norm)
}
