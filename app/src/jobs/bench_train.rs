//! How fast a model trains: whole steps on made-up tokens.

use super::bench::Spread;
use super::open_model;
use peft_models::engine::{Engine, StepTiming};
use peft_plan::{Facts, Fault, MachineFacts, Result, RunConfig, resolve};
use serde::Serialize;

/// Most tokens of a step, and steps, that are measured.
const MOST: usize = 1 << 16;

/// What is measured.
pub struct TrainBenchRequest {
    /// The base.
    pub model: String,
    /// Sequences of a step.
    pub batch: usize,
    /// Their tokens.
    pub sequence_length: usize,
    /// Steps that count.
    pub steps: usize,
    /// Steps before them that do not.
    pub warmup: usize,
    /// Settings of a run, as `--set` takes them: method, rank, precision.
    pub settings: Vec<String>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct TrainBenchReport {
    /// Tokens a second.
    pub tokens_per_second: Spread,
    /// Of each step.
    pub step_seconds: Vec<f64>,
    /// Most memory that this process had; on a card, what it took there.
    pub peak_memory_bytes: u64,
    /// Tokens of a step, all of them learnt.
    pub tokens_per_step: usize,
    /// `cpu` or `cuda`.
    pub backend: String,
    /// What computed.
    pub device: String,
    /// With so many threads.
    pub threads: usize,
}

/// Measure.
pub fn train(engine: &Engine, request: &TrainBenchRequest) -> Result<TrainBenchReport> {
    let &TrainBenchRequest { batch, sequence_length, steps, warmup, .. } = request;
    let tokens = batch.saturating_mul(sequence_length);
    for (name, given, least) in
        [("batch", batch, 1), ("sequence-length", tokens, 2), ("steps", steps, 1), ("warmup", warmup, 0)]
    {
        if !(least..=MOST).contains(&given) {
            let detail = format!("`--{name}` makes {given}, which cannot be measured; it can be {least} to {MOST}");
            return Err(Fault::new("PS-CFG-001", detail));
        }
    }
    let base = open_model(&request.model)?;
    let lengths = vec![sequence_length; batch];
    let mut config = RunConfig::default();
    let sizes =
        [format!("training.max_sequence_length={sequence_length}"), format!("training.micro_batch_size={batch}")];
    let needed = ["model.id=bench".to_owned(), "dataset.path=bench".to_owned()];
    for setting in needed.iter().chain(&sizes).chain(&request.settings) {
        config.set(setting)?;
    }
    // Everything is given but the precision, so nothing is made smaller for want of memory.
    let machine = Some(MachineFacts { fastest: engine.fastest_arithmetic(), ..MachineFacts::default() });
    let stored_in_4bit = base.stored_in_4bit();
    let facts = Facts { stored_in_4bit, machine, ..Facts::bare(base.spec(), &lengths, engine.threads()) };
    let plan = resolve::resolve(&config, &facts)?;
    let engine = engine.with_arithmetic(plan.arithmetic);
    let timing = StepTiming { base: &base, plan: &plan, lengths: &lengths, steps, warmup };
    let step_seconds = engine.time_steps(&timing)?;
    Ok(TrainBenchReport {
        tokens_per_second: Spread::of(step_seconds.iter().map(|s| tokens as f64 / s.max(1e-9)).collect()),
        step_seconds,
        peak_memory_bytes: engine.card_bytes().unwrap_or_else(super::memory::peak_memory),
        tokens_per_step: tokens,
        backend: engine.backend().to_owned(),
        device: engine.fingerprint(),
        threads: engine.threads(),
    })
}
