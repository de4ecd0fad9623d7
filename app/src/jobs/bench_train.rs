//! How fast a model trains: whole steps on made-up tokens.

use super::bench::Spread;
use super::open_model;
use peft_models::engine::{Engine, StepTiming, memory_plan, model_facts};
use peft_plan::memory::{most_away, sharing};
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
    /// The memory decides how much is computed twice; without it the settings do.
    pub fit: Option<MachineFacts>,
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
    /// What the memory plan said before.
    pub planned_memory_bytes: u64,
    /// Layers of the model, and those of them that are computed twice.
    pub layers: usize,
    /// See [`TrainBenchReport::layers`].
    pub layers_computed_twice: usize,
    /// Layers whose input waits in the computer's memory while a card computes.
    pub layers_offloaded: usize,
    /// Layers whose weights a card holds decoded.
    pub layers_decoded: usize,
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
    // Where nothing is asked to fit, everything is given but the precision, and nothing is made smaller.
    let boundless = MachineFacts { memory_bytes: u64::MAX, ..MachineFacts::default() };
    let machine = MachineFacts { fastest: engine.fastest_arithmetic(), ..request.fit.unwrap_or(boundless) };
    let mut facts = Facts::bare(base.spec(), &lengths, engine.threads());
    facts.stored_in_4bit = base.stored_in_4bit();
    facts.model = model_facts(base.checkpoint(), 0);
    facts.machine = Some(machine);
    let plan = resolve::resolve(&config, &facts)?;
    let engine = engine.with_arithmetic(plan.arithmetic);
    let timing = StepTiming { base: &base, plan: &plan, lengths: &lengths, steps, warmup };
    let work = timing.workload().on_card(engine.beside());
    let planned_memory_bytes = memory_plan(&base, &plan, &work)?.without_saving();
    let layers = base.spec().layers.len();
    let step_seconds = engine.time_steps(&timing)?;
    Ok(TrainBenchReport {
        tokens_per_second: Spread::of(step_seconds.iter().map(|s| tokens as f64 / s.max(1e-9)).collect()),
        step_seconds,
        peak_memory_bytes: engine.card_bytes().unwrap_or_else(super::memory::peak_memory),
        planned_memory_bytes,
        layers,
        layers_computed_twice: sharing(layers, plan.kept_sets(layers)).saturating_sub(1),
        layers_offloaded: if work.card { plan.offloaded_layers.min(most_away(layers)) } else { 0 },
        layers_decoded: if work.card { plan.held_layers().min(layers) } else { 0 },
        tokens_per_step: tokens,
        backend: engine.backend().to_owned(),
        device: engine.fingerprint(),
        threads: engine.threads(),
    })
}
