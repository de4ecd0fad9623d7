//! A run before it is started: settings with their reasons, memory, time, energy, money, carbon, alternatives.

use super::facts::{RunFacts, gather, keep, machine};
use super::hardware_watch::joules;
use super::model::spelled;
use super::open_model;
use super::run::{absolute_paths, default_name};
use crate::cli::context::Context;
use peft_models::calibrate::{Sample, Whole, weights_read};
use peft_models::checkpoint::Checkpoint;
use peft_models::engine::{Engine, model_facts};
use peft_plan::alternatives::{Alternative, Planned, alternatives, planned};
use peft_plan::estimate::{Calibration, Rates};
use peft_plan::lengths::Lengths;
use peft_plan::order::epoch_steps;
use peft_plan::profile::{Profile, profiles, reference_model};
use peft_plan::{DataFacts, Facts, Fault, Method, ModelFacts, ModelSpec, Result, RunConfig, Targets, TrainingPlan};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Tokens that a calibration computes together at most, in multiplications of its blocks.
const WORK: usize = 12_000_000_000;

/// Everything `plan` says.
#[derive(Debug)]
pub struct Answer {
    /// The configuration with what follows from it.
    pub planned: Planned,
    /// What may be used of the memory.
    pub budget_bytes: u64,
    /// The same run, otherwise.
    pub alternatives: Vec<Alternative>,
    /// What stands in the way, or is worth knowing.
    pub problems: Vec<Fault>,
    /// What the reader of the data noticed.
    pub notes: Vec<String>,
    /// What was measured of this machine.
    pub calibration: Calibration,
}

/// Plan a run. `gathered`: facts that are known already.
pub fn plan(context: &Context, mut config: RunConfig, rates: &Rates) -> Result<Answer> {
    peft_plan::resolve::check(&config)?;
    absolute_paths(&mut config)?;
    let (known, notes) = gather(context, &config)?;
    config.name.get_or_insert(default_name(&config));
    let facts = known.facts(context.threads, machine(context));
    let draft = peft_plan::resolve::resolve(&config, &facts)?;
    let calibration = calibration(context, &config, &known, &draft)?;
    let planned = planned(&config, &facts, &calibration, rates)?;
    let fraction = planned.config.guards.memory_limit_fraction.unwrap_or(0.9);
    let installed = facts.machine.map_or(0, |m| m.memory_bytes);
    let budget_bytes = (installed as f64 * fraction) as u64;
    let problems = problems(&planned, &facts, budget_bytes);
    let alternatives = alternatives(&planned, &facts, &calibration, rates);
    Ok(Answer { planned, budget_bytes, alternatives, problems, notes, calibration })
}

/// What would stop the run, and what would make its result worse.
fn problems(planned: &Planned, facts: &Facts, budget: u64) -> Vec<Fault> {
    let mut found = Vec::new();
    found.extend(super::run::too_large(&planned.memory, budget));
    let free = facts.machine.map_or(u64::MAX, |m| m.disk_free_bytes);
    found.extend(super::run::disk_too_small(planned.estimate.disk_bytes, free));
    let rows = facts.data.rows;
    if rows < 100 {
        let detail = format!("There are {rows} examples; results get reliable from about 100 on.");
        found.push(Fault::new("PS-DATA-005", detail));
    }
    let most = planned.plan.longest_example();
    let cut = facts.lengths.iter().filter(|&&length| length > most).count();
    if cut * 20 > facts.lengths.len() {
        let detail =
            format!("{cut} of {} examples are longer than {most} tokens and lose their end.", facts.lengths.len());
        found.push(Fault::new("PS-DATA-006", detail));
    }
    found
}

/// How fast this machine trains this model: as it was kept, or measured now.
pub fn calibration(
    context: &Context,
    config: &RunConfig,
    known: &RunFacts,
    plan: &TrainingPlan,
) -> Result<Calibration> {
    let model = spelled(&config.model);
    let whole = Whole { stored_bytes: known.model.stored_bytes, blocks: known.spec.layers.len() };
    calibrated(context, known, plan, whole, |engine, sample| engine.calibrate(open_model(&model)?.checkpoint(), sample))
}

fn calibrated(
    context: &Context,
    known: &RunFacts,
    plan: &TrainingPlan,
    whole: Whole,
    measure: impl FnOnce(&Engine, &Sample) -> Result<Calibration>,
) -> Result<Calibration> {
    let engine = Engine::open(&context.backend, context.threads)?;
    let micro_batches = typical(known, plan);
    let fingerprint = engine.with_arithmetic(plan.arithmetic).fingerprint();
    let key = calibration_key(&fingerprint, &known.model_hash, plan);
    let path = kept_at(context);
    let mut kept = read_kept(&path);
    if let Some(found) = kept.get(&key)
        && covers(found, &micro_batches)
    {
        return Ok(found.clone());
    }
    durable::create_directories(&context.data_dir).map_err(|e| Fault::io("create", &context.data_dir, e))?;
    let sample = Sample {
        plan,
        whole,
        micro_batches: [&micro_batches[0], &micro_batches[1]],
        learnt_share: known.data.learnt_share,
        directory: &context.data_dir,
        joules: &joules,
    };
    let measured = measure(&engine, &sample)?;
    let correction = kept.get(&key).map_or(1.0, |old| old.correction);
    let measured = Calibration { correction, ..measured };
    kept.insert(key, measured.clone());
    write_kept(&path, &kept);
    Ok(measured)
}

fn kept_at(context: &Context) -> PathBuf {
    context.data_dir.join("cache").join("calibration.json")
}

fn read_kept(path: &std::path::Path) -> BTreeMap<String, Calibration> {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write_kept(path: &std::path::Path, kept: &BTreeMap<String, Calibration>) {
    if let Ok(bytes) = serde_json::to_vec_pretty(kept) {
        keep(path, &bytes);
    }
}

/// What a calibration holds for.
fn calibration_key(fingerprint: &str, model: &str, plan: &TrainingPlan) -> String {
    let method = match plan.method {
        Method::Lora => "lora",
        Method::Qlora => "qlora",
        Method::Dora => "dora",
        Method::Qdora => "qdora",
        Method::Full => "full",
    };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let model = model.get(..16).unwrap_or(model);
    format!("{} {fingerprint} {build} {model} {method} dropout={}", env!("CARGO_PKG_VERSION"), plan.dropout > 0.0)
}

/// The lengths of a rather small and a rather large micro-batch of the run, within what can be timed quickly.
fn typical(known: &RunFacts, plan: &TrainingPlan) -> [Vec<usize>; 2] {
    let first = |all: &[usize]| -> Vec<usize> { all.iter().take(16_000).copied().collect() };
    let cut = Lengths::cut(&first(&known.lengths), &first(&known.data.firsts), plan);
    let mut micro: Vec<Vec<usize>> = epoch_steps(&cut.whole, &plan.order(), 0)
        .into_iter()
        .flatten()
        .map(|micro| micro.into_iter().flat_map(|i| cut.sequences(i)).filter(|&length| length > 0).collect())
        .collect();
    micro.sort_by_key(|lengths: &Vec<usize>| lengths.iter().sum::<usize>());
    let block: usize = known.spec.modules.iter().map(|m| m.in_features * m.out_features).sum();
    let most = (WORK / (4 * 2 * block.max(1))).clamp(64, 4096);
    let at = |share: f64| {
        let all = micro.get((micro.len() as f64 * share) as usize).cloned().unwrap_or_else(|| vec![64]);
        let mut room = most;
        all.into_iter()
            .map(|length| {
                let taken = length.min(room);
                room -= taken;
                taken
            })
            .filter(|&length| length > 0)
            .collect()
    };
    [at(0.2), at(0.8)]
}

/// Whether these sizes are about what was measured.
fn covers(calibration: &Calibration, micro_batches: &[Vec<usize>; 2]) -> bool {
    let (Some(first), Some(last)) = (calibration.points.first(), calibration.points.last()) else { return false };
    micro_batches.iter().all(|lengths| {
        let tokens: usize = lengths.iter().sum();
        tokens * 2 >= first.tokens && tokens <= last.tokens * 2
    })
}

/// A run has ended: what it took against what was expected moves the next estimate (B11).
pub fn learn(context: &Context, plan: &TrainingPlan, known: &RunFacts, fingerprint: &str, seconds: f64) {
    let path = kept_at(context);
    let mut kept = read_kept(&path);
    let Some(found) = kept.get_mut(&calibration_key(fingerprint, &known.model_hash, plan)) else { return };
    let facts = known.facts(plan.threads, machine(context));
    let expected = peft_plan::estimate::estimate(&facts, plan, found, &Rates::default()).seconds.expected;
    // A run of a moment says more about starting than about training.
    if seconds < 3.0 || expected <= 0.0 {
        return;
    }
    let ratio = (seconds / expected).clamp(0.5, 2.0);
    found.correction = (found.correction * (1.0 + 0.3 * (ratio - 1.0))).clamp(0.3, 3.0);
    write_kept(&path, &kept);
}

/// A profile on this machine.
#[derive(Clone, Debug)]
pub struct Suited {
    /// The profile.
    pub profile: &'static Profile,
    /// What a run with it would be.
    pub planned: Planned,
    /// Examples that were counted with.
    pub examples: usize,
}

/// Every profile with its time and memory on this machine (S4.3.3): with the model and data of `config` where it
/// names them, with a typical model and typical examples otherwise. The second is what was counted with.
pub fn profiles_here(context: &Context, config: Option<RunConfig>) -> Result<(Vec<Suited>, String)> {
    let rates = Rates::default();
    if let Some(mut config) = config {
        absolute_paths(&mut config)?;
        let (known, _) = gather(context, &config)?;
        let facts = known.facts(context.threads, machine(context));
        let draft = peft_plan::resolve::resolve(&config, &facts)?;
        let calibration = calibration(context, &config, &known, &draft)?;
        let name = format!("{} and your {} examples", config.model.id.as_deref().unwrap_or_default(), known.data.rows);
        let of = |profile: &'static Profile| {
            let mut config = config.clone();
            config.use_case = Some(profile.id.clone());
            let planned = planned(&config, &facts, &calibration, &rates)?;
            Ok(Suited { profile, planned, examples: known.data.rows })
        };
        return Ok((profiles().iter().map(of).collect::<Result<_>>()?, name));
    }
    let model = reference_model();
    let spec = peft_plan::family::spec_from_config(&model.config)?;
    let linear: u64 = spec.modules.iter().map(|m| (m.in_features * m.out_features) as u64).sum();
    let sizes = ModelFacts {
        stored_bytes: model.stored_bytes,
        linear_bytes: linear * spec.layers.len() as u64 * 2,
        embedding_bytes: 0,
        tokenizer_bytes: model.tokenizer_bytes,
    };
    let calibration = on_reference(context, &spec)?;
    let of = |profile: &'static Profile| {
        let held_out = profile.examples_needed / 10;
        let lengths = vec![profile.typical_tokens; profile.examples_needed - held_out];
        let data = DataFacts {
            rows: profile.examples_needed,
            learnt_share: 0.5,
            held_out: vec![profile.typical_tokens; held_out],
            ..DataFacts::default()
        };
        let machine = Some(machine(context));
        let facts = Facts { model: sizes, data, machine, ..Facts::bare(&spec, &lengths, context.threads) };
        let mut config = RunConfig::default();
        for assignment in ["model.id=reference", "dataset.path=typical"] {
            config.set(assignment)?;
        }
        config.use_case = Some(profile.id.clone());
        let planned = planned(&config, &facts, &calibration, &rates)?;
        Ok(Suited { profile, planned, examples: profile.examples_needed })
    };
    Ok((profiles().iter().map(of).collect::<Result<_>>()?, model.name.clone()))
}

/// Rows of the head that are measured where no model is named; a larger one takes as much longer.
const HEAD_ROWS: usize = 8192;

/// The speed of this machine where no model is named: one block of the typical model, without its weights.
fn on_reference(context: &Context, spec: &ModelSpec) -> Result<Calibration> {
    let mut shape = reference_model().config.clone();
    shape["num_hidden_layers"] = 1.into();
    shape["vocab_size"] = HEAD_ROWS.into();
    let checkpoint = Checkpoint::blank(shape)?;
    let known = RunFacts {
        spec: checkpoint.spec().clone(),
        stored_in_4bit: false,
        model_hash: checkpoint.hash().to_owned(),
        model: model_facts(&checkpoint, 0),
        lengths: vec![256; 64],
        weights: Vec::new(),
        data: DataFacts { rows: 64, learnt_share: 0.5, ..DataFacts::default() },
        targets: Targets::all(checkpoint.spec()),
    };
    let mut config = RunConfig::default();
    for assignment in ["model.id=reference", "dataset.path=typical"] {
        config.set(assignment)?;
    }
    let plan = peft_plan::resolve::resolve(&config, &known.facts(context.threads, machine(context)))?;
    let whole = Whole { stored_bytes: reference_model().stored_bytes, blocks: spec.layers.len() };
    let found = calibrated(context, &known, &plan, whole, |engine, sample| engine.calibrate(&checkpoint, sample))?;
    let wider = spec.vocab_size as f64 / HEAD_ROWS as f64;
    let answer = weights_read(spec, spec.layers.len(), spec.vocab_size) / weights_read(spec, 1, HEAD_ROWS);
    let answer_seconds = found.answer_seconds * answer;
    Ok(Calibration { head_row_seconds: found.head_row_seconds * wider, answer_seconds, ..found })
}
