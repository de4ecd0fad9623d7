//! How fast a model trains: whole steps on made-up tokens, timed one by one.

use super::{Quantization, Workload, memory};
use crate::adapter::{AdapterSource, AdapterSpec};
use crate::base::BaseModel;
use crate::calibrate::batch;
use crate::decoder::{Activations, Batch, BuildOptions, Decoder, build};
use crate::fault::device;
use crate::train::room;
use peft_kernels::{AdamW, Backend};
use peft_plan::{Method, Optimizer, Result, Rows, TrainingPlan};
use std::time::Instant;

/// What is timed.
pub struct StepTiming<'a> {
    /// The base.
    pub base: &'a BaseModel,
    /// Method, adapter, optimizer, precision; nothing else of it is read.
    pub plan: &'a TrainingPlan,
    /// Lengths of the sequences of a step; every token is learnt.
    pub lengths: &'a [usize],
    /// Steps that count.
    pub steps: usize,
    /// Steps before them that do not.
    pub warmup: usize,
}

impl StepTiming<'_> {
    /// What a step computes.
    pub fn workload(&self) -> Workload {
        let rows = Rows { train: self.lengths.iter().sum(), score: 0 };
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        Workload { rows, longest, example_tokens: rows.train as u64, ..Workload::default() }
    }
}

/// Seconds of each step that counts: forward, loss, backward, norm of the gradients, update.
pub(super) fn run<B: Backend>(be: &B, timing: &StepTiming) -> Result<Vec<f64>> {
    let &StepTiming { base, plan, lengths, steps, warmup } = timing;
    let full = plan.method == Method::Full;
    let source = AdapterSource::Fresh { spec: AdapterSpec::of_plan(plan), seed: plan.seed };
    let options = BuildOptions {
        full,
        quantize: Quantization::of_plan(plan),
        adapter: (!full).then_some(source),
        trainable: true,
    };
    let work = timing.workload().on_card(super::card::beside(be));
    memory::set_aside(be, base, plan, &work)?;
    let mut decoder = build(be, base.checkpoint(), &options)?;
    if plan.optimizer == Optimizer::AdamW8bit {
        decoder.params_mut().into_iter().try_for_each(|p| p.use_8bit_moments(be)).map_err(device)?;
    }
    for p in decoder.params_mut() {
        p.optimizer_state(be).map_err(device)?;
    }
    let mut acts = room::take(&decoder, plan, work.rows, plan.kept_sets(decoder.layers.len()))?;
    let batch = batch(decoder.spec.vocab_size, lengths, 1.0);
    let mut seconds = Vec::with_capacity(steps);
    for number in 0..warmup + steps {
        let begun = Instant::now();
        step(be, &mut decoder, &mut acts, &batch, plan, number as u32).map_err(device)?;
        if number >= warmup {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    be.set_graph_room(None);
    be.decode_ahead(None).map_err(device)?;
    Ok(seconds)
}

fn step<B: Backend>(
    be: &B,
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    batch: &Batch,
    plan: &TrainingPlan,
    number: u32,
) -> peft_kernels::Result<()> {
    for p in decoder.params_mut() {
        p.zero_grad(be)?;
    }
    decoder.prepare()?;
    let scale = 1.0 / batch.trained_tokens().max(1) as f32;
    decoder.train_pass(acts, batch, scale, (plan.seed, u64::from(number)))?;
    let params = decoder.params_mut();
    let gradients: Vec<_> = params.into_iter().filter_map(|p| p.grad().map(|grad| &*grad)).collect();
    let squares = be.sum_squares_of(&gradients)?;
    // Small, so that made-up tokens lead nowhere; clipped, as a run does.
    let params = AdamW {
        learning_rate: 1e-5,
        beta1: 0.9,
        beta2: plan.adam_beta2 as f32,
        eps: 1e-8,
        weight_decay: plan.weight_decay as f32,
        step: number + 1,
        gradient_scale: (1.0 / squares.sqrt().max(1.0)) as f32,
    };
    decoder.params_mut().into_iter().try_for_each(|p| p.step(be, &params))?;
    be.submit()
}
