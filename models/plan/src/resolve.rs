//! From what was asked and what was measured to a complete plan.
//!
//! [`TrainingPlan`] has no options left in it: past [`resolve`] nothing is checked again. Every value that the
//! user did not give is filled in by `defaults.rs`, which says why.

mod guards;

use crate::config::{
    EvaluationConfig, Method, RunConfig, SampleRef, Scheduler, TargetModules, TensorboardPlace, TrainOn,
};
use crate::defaults;
pub use crate::facts::Facts;
use crate::fault::{Fault, Result};
use crate::order::OrderParams;
use crate::preference::{self, Objective, PreferencePlan};
use crate::samples::SamplePlan;
use crate::schedule::LrSchedule;
use crate::spec::ModelSpec;
use serde::{Deserialize, Serialize};

pub use guards::{GuardPlan, Reaction, SourceWeight};

/// What keeps the moments of the gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Optimizer {
    /// In f32.
    #[default]
    #[serde(rename = "adamw")]
    AdamW,
    /// In 8 bits (Dettmers et al. 2022).
    #[serde(rename = "adamw_8bit")]
    AdamW8bit,
}

/// What the factors of the large products of training are rounded to; sums and everything else are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arithmetic {
    /// Not rounded.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// To the upper half of an f32.
    #[serde(rename = "bf16")]
    Bf16,
}

/// A field that is left out where it says nothing: a plan of before it was there reads and writes the same.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A complete, consistent run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of the run file, and they do not depend on each other"
)]
pub struct TrainingPlan {
    /// Method.
    pub method: Method,
    /// Rank of the adapters.
    pub rank: usize,
    /// Numerator of their scaling.
    pub alpha: f64,
    /// Dropout on the adapters' input.
    pub dropout: f64,
    /// Scale by `alpha / √rank`.
    pub use_rslora: bool,
    /// An adapter directory to continue from.
    pub init_from: Option<String>,
    /// Learning rate of B over that of A.
    pub lora_plus_ratio: Option<f64>,
    /// Which linear modules carry an adapter.
    pub target_modules: TargetModules,
    /// Modules trained whole beside the adapters, by the ends of their paths.
    #[serde(default, skip_serializing_if = "is_default")]
    pub modules_to_save: Vec<String>,
    /// `nf4` or `fp4`, for a base that is quantised on loading.
    pub quantization_format: String,
    /// Quantise the scales too.
    pub double_quantization: bool,
    /// Optimizer steps of the run.
    pub total_steps: u64,
    /// Passes over the data.
    pub epochs: f64,
    /// Examples or packed rows computed together.
    pub micro_batch_size: usize,
    /// Micro-batches a step.
    pub gradient_accumulation: usize,
    /// Longest example, tokens.
    pub max_sequence_length: usize,
    /// Fill rows with several examples.
    pub packing: bool,
    /// Which tokens are learnt.
    pub train_on: TrainOn,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its shape over time.
    pub scheduler: Scheduler,
    /// Steps of the rise.
    pub warmup_steps: u64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of AdamW's second moment.
    pub adam_beta2: f64,
    /// What keeps the moments.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optimizer: Optimizer,
    /// What the factors of large products are rounded to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub arithmetic: Arithmetic,
    /// Noise on the embeddings while training: `alpha / √(tokens · width)` at most; 0: none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub neftune_alpha: f64,
    /// Clip to this norm; 0: never.
    pub max_gradient_norm: f64,
    /// Recompute activations.
    pub recompute: bool,
    /// Of so many blocks, the highest, they are kept even so.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kept_layers: usize,
    /// Of so many blocks, the lowest, the input is in the computer's memory until the way back needs it; on a card only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub offloaded_layers: usize,
    /// Of so many blocks, the lowest, quantised weights are held decoded beside their codes; on a card only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decoded_layers: usize,
    /// Quantised weights of the others are decoded while the product before theirs runs; on a card only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decode_ahead: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// Steps between evaluations; 0: only at the end.
    pub evaluate_every: u64,
    /// Evaluations without a better loss before stopping.
    pub early_stopping_patience: Option<u32>,
    /// Steps between checkpoints, if by steps.
    pub checkpoint_every_steps: Option<u64>,
    /// Seconds between checkpoints.
    pub checkpoint_every_seconds: f64,
    /// Full states kept.
    pub checkpoint_keep: usize,
    /// Share of the rows held out.
    pub validation_split: f64,
    /// Threads; part of what a resumed run must have.
    pub threads: usize,
    /// How preferences are learnt; `None`: answers are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferencePlan>,
    /// What happens when it goes wrong.
    #[serde(default)]
    pub guards: GuardPlan,
    /// How often rows are drawn, by where they come from; empty where every row is drawn once an epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceWeight>,
    /// What is answered at each evaluation.
    #[serde(default)]
    pub samples: SamplePlan,
}

impl TrainingPlan {
    /// Sets of activations that a run of a model with so many blocks keeps: one a block, or one for all that are
    /// recomputed and one for each that is not.
    pub fn kept_sets(&self, blocks: usize) -> usize {
        if self.recompute { self.kept_layers.saturating_add(1).min(blocks) } else { blocks }.max(1)
    }

    /// Blocks whose weights a card holds decoded: where its products read them so, and they are frozen.
    pub fn held_layers(&self) -> usize {
        if self.arithmetic == Arithmetic::Bf16 && self.method != Method::Full { self.decoded_layers } else { 0 }
    }

    /// Whether a card decodes weights before they are needed: where its products read them so, and they are frozen.
    pub fn decodes_ahead(&self) -> bool {
        self.decode_ahead && self.arithmetic == Arithmetic::Bf16 && self.method != Method::Full
    }

    /// Tokens of the longest example: the limit holds for each sequence, and one that compares has two.
    pub fn longest_example(&self) -> usize {
        self.max_sequence_length * if self.preference.is_some() { 2 } else { 1 }
    }

    /// Whether the values to train are kept as they were: a reference that switching adapters off does not bring back.
    pub fn keeps_reference(&self) -> bool {
        let is_compared = self.preference.as_ref().is_some_and(PreferencePlan::has_reference);
        is_compared && self.init_from.is_some()
    }

    /// Steps between the states that a run can go back to: a twentieth of it, but only where it saves anyway.
    pub fn anchor_every(&self) -> u64 {
        let base = self.checkpoint_every_steps.unwrap_or(1).max(1);
        base * self.total_steps.div_ceil(20).div_ceil(base).max(1)
    }

    /// The learning rate over time.
    pub fn schedule(&self) -> LrSchedule {
        LrSchedule {
            shape: self.scheduler,
            peak: self.learning_rate,
            warmup_steps: self.warmup_steps,
            total_steps: self.total_steps,
        }
    }

    /// How often examples made from these rows of the dataset are drawn in an epoch; empty where each is once.
    pub fn weights(&self, rows: impl IntoIterator<Item = u32>) -> Vec<f64> {
        weights_of(&self.sources, rows)
    }

    /// What the order of the data depends on.
    pub fn order(&self) -> OrderParams {
        OrderParams {
            micro_batch_size: self.micro_batch_size,
            gradient_accumulation: self.gradient_accumulation,
            max_sequence_length: self.max_sequence_length,
            packing: self.packing,
            seed: self.seed,
        }
    }

    /// Multiplies `B·A`: `alpha / rank`, or `alpha / √rank` with rank-stabilised scaling (Kalajdzievski 2023).
    pub fn scaling(&self) -> f64 {
        if self.use_rslora { self.alpha / (self.rank as f64).sqrt() } else { self.alpha / self.rank as f64 }
    }
}

/// The weight of each of `rows`; empty where there are no `sources` that differ.
pub fn weights_of(sources: &[SourceWeight], rows: impl IntoIterator<Item = u32>) -> Vec<f64> {
    if sources.is_empty() {
        return Vec::new();
    }
    let of = |row: u32| sources.iter().find(|source| row < source.end).map_or(1.0, |source| source.weight);
    rows.into_iter().map(of).collect()
}

/// Share of the rows held out where nothing is asked for.
pub fn default_validation_split(rows: usize) -> f64 {
    // Below 40 rows every one of them is needed for training.
    if rows < 40 { 0.0 } else { (500.0 / rows as f64).min(0.1) }
}

fn impossible(field: &str, given: impl std::fmt::Display, allowed: &str) -> Fault {
    Fault::new("PS-CFG-001", format!("`{field}` is {given}; allowed is {allowed}"))
}

fn in_range(field: &str, value: f64, low: f64, high: f64) -> Result<f64> {
    if value.is_finite() && value >= low && value <= high {
        Ok(value)
    } else {
        Err(impossible(field, value, &format!("{low} to {high}")))
    }
}

fn whole(field: &str, value: usize, low: usize, high: usize) -> Result<usize> {
    if (low..=high).contains(&value) { Ok(value) } else { Err(impossible(field, value, &format!("{low} to {high}"))) }
}

/// Each source is one thing, drawn a sensible number of times.
fn check_sources(config: &RunConfig) -> Result<()> {
    for (at, source) in config.dataset.sources.iter().enumerate() {
        let field = |name: &str| format!("dataset.sources[{at}].{name}");
        if source.path.is_some() == source.hub.is_some() {
            let detail = format!("`dataset.sources[{at}]` must name either a `path` or a `hub` dataset");
            return Err(Fault::new("PS-CFG-001", detail));
        }
        if source.hub.is_none() && source.revision.is_some() {
            let detail = format!("`{}` is for datasets of the hub; a path has no revisions", field("revision"));
            return Err(Fault::new("PS-CFG-001", detail));
        }
        if let Some(weight) = source.weight {
            in_range(&field("weight"), weight, 0.01, 100.0)?;
        }
    }
    Ok(())
}

/// Check what can be checked before the model is opened.
pub fn check(config: &RunConfig) -> Result<()> {
    if config.model.id.is_none() {
        return Err(Fault::new("PS-CFG-001", "The run names no model: give `--model DIR` or `model.id`"));
    }
    if config.dataset_paths().is_empty() {
        return Err(Fault::new("PS-CFG-001", "The run names no data: give `--data FILE` or `dataset.path`"));
    }
    check_sources(config)?;
    check_values(config)
}

/// Check every value that is given.
pub fn check_values(config: &RunConfig) -> Result<()> {
    if let Some(name) = &config.use_case {
        crate::profile::find(name)?;
    }
    let a = &config.adapter;
    if let Some(rank) = a.rank {
        whole("adapter.rank", rank, 1, 1024)?;
    }
    if let Some(alpha) = a.alpha {
        in_range("adapter.alpha", alpha, 1e-6, 1e6)?;
    }
    if let Some(p) = a.dropout {
        in_range("adapter.dropout", p, 0.0, 0.95)?;
    }
    if let Some(ratio) = a.lora_plus_ratio {
        in_range("adapter.lora_plus_ratio", ratio, 1e-3, 1e3)?;
    }
    if a.method == Some(Method::Full) && !a.modules_to_save.is_empty() {
        return Err(Fault::new(
            "PS-CFG-001",
            "`adapter.modules_to_save` is for adapters; adapter.method=full trains every module whole already",
        ));
    }
    let t = &config.training;
    let only = |field: &str, value: &Option<String>, allowed: &[&str]| match value {
        Some(v) if !allowed.contains(&v.as_str()) => Err(impossible(field, format!("`{v}`"), &allowed.join(", "))),
        _ => Ok(()),
    };
    preference::check(config)?;
    only("training.optimizer", &t.optimizer, &["adamw", "adamw_8bit"])?;
    only("training.precision", &t.precision, &["f32", "bf16"])?;
    only("quantization.format", &config.quantization.format, &["nf4", "fp4"])?;
    only("guards.on_divergence", &config.guards.on_divergence, &["pause", "rewind", "continue"])?;
    only(
        "guards.on_gradient_explosion",
        &config.guards.on_gradient_explosion,
        &["clip_and_rewind", "pause", "continue"],
    )?;
    for (name, given) in [
        ("training.kept_layers", t.kept_layers),
        ("training.offloaded_layers", t.offloaded_layers),
        ("training.decoded_layers", t.decoded_layers),
    ] {
        if let Some(v) = given {
            whole(name, v, 0, 1 << 16)?;
        }
    }
    if let Some(v) = t.neftune_alpha {
        in_range("training.neftune_alpha", v, 0.0, 1000.0)?;
    }
    if let Some(TensorboardPlace::Folder(folder)) = &config.logging.tensorboard
        && folder.trim().is_empty()
    {
        return Err(impossible("logging.tensorboard", "empty", "true, false or a folder"));
    }
    if let Some(v) = t.epochs {
        in_range("training.epochs", v, 1e-3, 10_000.0)?;
    }
    if let Some(v) = t.max_steps {
        whole("training.max_steps", v as usize, 1, 100_000_000)?;
    }
    if let Some(v) = t.micro_batch_size {
        whole("training.micro_batch_size", v, 1, 4096)?;
    }
    if let Some(v) = t.gradient_accumulation {
        whole("training.gradient_accumulation", v, 1, 4096)?;
    }
    if let Some(v) = t.max_sequence_length {
        whole("training.max_sequence_length", v, 8, 1 << 20)?;
    }
    if let Some(v) = t.learning_rate {
        in_range("training.learning_rate", v, 1e-12, 10.0)?;
    }
    if let Some(v) = t.warmup_ratio {
        in_range("training.warmup_ratio", v, 0.0, 1.0)?;
    }
    if let Some(v) = t.weight_decay {
        in_range("training.weight_decay", v, 0.0, 10.0)?;
    }
    if let Some(v) = t.adam_beta2 {
        in_range("training.adam_beta2", v, 0.5, 0.999_999)?;
    }
    if let Some(v) = t.max_gradient_norm {
        in_range("training.max_gradient_norm", v, 0.0, 1e9)?;
    }
    if let Some(v) = config.dataset.validation_split {
        in_range("dataset.validation_split", v, 0.0, 0.5)?;
    }
    if let Some(v) = config.checkpoint.every_steps {
        whole("checkpoint.every_steps", v as usize, 1, 100_000_000)?;
    }
    if let Some(v) = config.checkpoint.every_seconds {
        in_range("checkpoint.every_seconds", v, 0.0, 1e9)?;
    }
    if let Some(v) = config.checkpoint.keep {
        whole("checkpoint.keep", v, 1, 1000)?;
    }
    if let Some(v) = config.evaluation.every_steps {
        whole("evaluation.every_steps", v as usize, 1, 100_000_000)?;
    }
    check_samples(&config.evaluation)?;
    if let Some(v) = config.guards.memory_limit_fraction {
        in_range("guards.memory_limit_fraction", v, 0.05, 1.0)?;
    }
    Ok(())
}

/// Prompts must ask something, and answering them must stay cheap.
fn check_samples(evaluation: &EvaluationConfig) -> Result<()> {
    if let Some(v) = evaluation.samples {
        whole("evaluation.samples", v, 0, 64)?;
    }
    if let Some(v) = evaluation.sample_tokens {
        whole("evaluation.sample_tokens", v, 1, 1024)?;
    }
    let prompts = evaluation.sample_prompts.iter().flatten();
    for (i, prompt) in prompts.enumerate() {
        let is_empty = match prompt {
            SampleRef::Text(text) => text.trim().is_empty(),
            SampleRef::Turns(turns) => turns.iter().all(|turn| turn.content.trim().is_empty()),
        };
        if is_empty || i >= 64 {
            let why = if is_empty { "is empty" } else { "is one more than the 64 that there can be" };
            return Err(Fault::new("PS-CFG-001", format!("`evaluation.sample_prompts[{i}]` {why}")));
        }
    }
    Ok(())
}

/// The sequence length where nothing is asked for: the longest example, within `most` and the model's context.
pub fn default_sequence_length(spec: &ModelSpec, longest: usize, most: usize) -> usize {
    longest.next_multiple_of(32).min(most).min(spec.max_positions).max(8)
}

/// Fill in everything that was left out.
pub fn resolve(config: &RunConfig, facts: &Facts) -> Result<TrainingPlan> {
    check(config)?;
    build(&defaults::fill(config, facts)?.config, facts)
}

/// The plan of a configuration that [`defaults::fill`] has completed.
pub fn build(config: &RunConfig, facts: &Facts) -> Result<TrainingPlan> {
    let a = &config.adapter;
    let t = &config.training;
    let method = a.method.unwrap_or(if facts.stored_in_4bit { Method::Qlora } else { Method::Lora });
    if method == Method::Full && facts.stored_in_4bit {
        return Err(Fault::new(
            "PS-CFG-001",
            "This checkpoint is stored in 4 bit, and 4-bit weights cannot be trained whole; use adapter.method=qlora or a 16-bit checkpoint",
        ));
    }
    if method == Method::Full && facts.spec.experts.is_some() {
        return Err(Fault::new(
            "PS-CFG-001",
            "The experts of a mixture cannot be trained whole; use adapter.method=lora, which trains its attention",
        ));
    }
    let rank = a.rank.unwrap_or(16);
    let smallest = facts.spec.modules.iter().map(|m| m.in_features.min(m.out_features)).min().unwrap_or(1);
    if method != Method::Full && rank > smallest.max(16) * 4 {
        return Err(impossible("adapter.rank", rank, &format!("1 to {} for this model", smallest.max(16) * 4)));
    }
    crate::saved::paths(facts.spec, &a.modules_to_save)?;
    let longest = facts.lengths.iter().copied().max().unwrap_or(0);
    let max_sequence_length =
        t.max_sequence_length.unwrap_or_else(|| default_sequence_length(facts.spec, longest, 2048));
    if max_sequence_length > facts.spec.max_positions {
        return Err(impossible(
            "training.max_sequence_length",
            max_sequence_length,
            &format!("8 to {} for this model", facts.spec.max_positions),
        ));
    }
    let objective = Objective::of(config);
    // The limit holds for each sequence; an example that compares has two.
    let limit = max_sequence_length * if objective.is_preference() { 2 } else { 1 };
    let cut: Vec<usize> = facts.lengths.iter().map(|&l| l.min(limit)).collect();
    let tokens: usize = cut.iter().sum();
    let average = (tokens / cut.len().max(1)).max(1);
    // Packing saves padding, which this engine never has; it only makes sense of very long runs of short rows.
    let packing = t.packing.unwrap_or(false);
    let row_tokens = if packing { max_sequence_length } else { average };
    // About 1,000 tokens keep every product busy; more only costs memory.
    let micro_batch_size = t.micro_batch_size.unwrap_or_else(|| (1024 / row_tokens).clamp(1, 16));
    // Sixteen examples a step, fewer where the data is so small that an epoch would have fewer than 16 steps.
    let seed = t.seed.unwrap_or(42);
    let draws = crate::order::drawn(cut.len(), facts.weights, seed, 0).len();
    let per_step_goal = (draws / 16).clamp(1, 16);
    let gradient_accumulation = t.gradient_accumulation.unwrap_or_else(|| per_step_goal.div_ceil(micro_batch_size));
    let epochs = t.epochs.unwrap_or(3.0);
    let order = OrderParams { micro_batch_size, gradient_accumulation, max_sequence_length, packing, seed };
    let total_steps = match t.max_steps {
        Some(steps) => steps,
        None => steps_for(&cut, facts.weights, &order, epochs),
    };
    let warmup_ratio = t.warmup_ratio.unwrap_or(objective.warmup_ratio());
    let warmup_steps = ((total_steps as f64 * warmup_ratio).ceil() as u64).min(total_steps.saturating_sub(1));
    let evaluate_every = config.evaluation.every_steps.unwrap_or_else(|| total_steps.div_ceil(10).max(1));
    Ok(TrainingPlan {
        method,
        rank,
        alpha: a.alpha.unwrap_or(2.0 * rank as f64),
        dropout: a.dropout.unwrap_or(0.0),
        use_rslora: a.use_rslora.unwrap_or(false),
        init_from: a.init_from.clone(),
        lora_plus_ratio: a.lora_plus_ratio,
        target_modules: a.target_modules.clone().unwrap_or_else(|| TargetModules::Pattern("all-linear".into())),
        modules_to_save: a.modules_to_save.clone(),
        quantization_format: config.quantization.format.clone().unwrap_or_else(|| "nf4".into()),
        double_quantization: config.quantization.double_quantization.unwrap_or(true),
        total_steps,
        epochs,
        micro_batch_size,
        gradient_accumulation,
        max_sequence_length,
        packing,
        train_on: t.train_on.unwrap_or(TrainOn::Assistant),
        learning_rate: t.learning_rate.unwrap_or(if method == Method::Full { 2e-5 } else { objective.learning_rate() }),
        scheduler: t.scheduler.unwrap_or(Scheduler::Cosine),
        warmup_steps,
        weight_decay: t.weight_decay.unwrap_or(0.01),
        adam_beta2: t.adam_beta2.unwrap_or(0.999),
        optimizer: match t.optimizer.as_deref() {
            Some("adamw_8bit") => Optimizer::AdamW8bit,
            _ => Optimizer::AdamW,
        },
        arithmetic: if t.precision.as_deref() == Some("bf16") { Arithmetic::Bf16 } else { Arithmetic::F32 },
        neftune_alpha: t.neftune_alpha.unwrap_or(0.0),
        max_gradient_norm: t.max_gradient_norm.unwrap_or(1.0),
        recompute: t.activation_checkpointing.unwrap_or(false),
        kept_layers: t.kept_layers.unwrap_or(0),
        offloaded_layers: t.offloaded_layers.unwrap_or(0),
        decoded_layers: t.decoded_layers.unwrap_or(0),
        decode_ahead: t.decode_ahead.unwrap_or(false),
        seed: order.seed,
        evaluate_every,
        early_stopping_patience: config.evaluation.early_stopping_patience,
        checkpoint_every_steps: config.checkpoint.every_steps,
        checkpoint_every_seconds: config.checkpoint.every_seconds.unwrap_or(60.0),
        checkpoint_keep: config.checkpoint.keep.unwrap_or(2),
        validation_split: config.dataset.validation_split.unwrap_or(0.0),
        threads: facts.threads,
        preference: PreferencePlan::of(config),
        guards: GuardPlan::of_config(&config.guards),
        sources: Vec::new(),
        samples: SamplePlan::of_config(&config.evaluation, facts.data.held_out.len()),
    })
}

/// Optimizer steps of `epochs` passes; a broken last pass is rounded up to whole steps.
fn steps_for(lengths: &[usize], weights: &[f64], order: &OrderParams, epochs: f64) -> u64 {
    let full = epochs.floor() as u64;
    let together = (order.micro_batch_size * order.gradient_accumulation).max(1);
    // The number of packed rows differs a little between epochs, and so do the draws of fractional weights.
    let differs = order.packing || !weights.is_empty();
    let per_epoch = |e: u64| {
        if differs {
            crate::order::weighted_steps(lengths, weights, order, e).len() as u64
        } else {
            lengths.len().div_ceil(together) as u64
        }
    };
    let mut steps: u64 = if differs { (0..full).map(per_epoch).sum() } else { per_epoch(0) * full };
    let rest = epochs - full as f64;
    if rest > 0.0 {
        steps += (per_epoch(full) as f64 * rest).ceil() as u64;
    }
    steps.max(1)
}
