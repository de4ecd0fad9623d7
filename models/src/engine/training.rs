//! A run on a backend: build, restore, train, write the result.

use super::merging::write_full;
use super::{Quantization, Workload, memory, memory_plan};
use crate::adapter::{self, AdapterSource, AdapterSpec, spec_of_file};
use crate::base::BaseModel;
use crate::decoder::{BuildOptions, Decoder, build, stays_mapped};
use crate::fault::device;
use crate::peft_format::{self, AdapterConfig, AdapterFile};
use crate::train::{
    GuardJob, Questions, Reference, Request, RunOutcome, RunState, Samples, Tokens, Trainer, checkpoint,
};
use peft_kernels::Backend;
use peft_plan::{EventSink, Fault, Method, Optimizer, Result, RunEvent, Started, TrainingPlan};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A training run, prepared.
pub struct TrainJob<'a, 'q> {
    /// The base.
    pub base: &'a BaseModel,
    /// The complete plan.
    pub plan: &'a TrainingPlan,
    /// Training examples, cut to the sequence length.
    pub train: &'a [Tokens],
    /// Held-out examples.
    pub validation: &'a [Tokens],
    /// Examples that were cut.
    pub truncated: u64,
    /// Where the run writes.
    pub directory: &'a Path,
    /// Id of the run.
    pub run: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Hash of the data, as read.
    pub dataset_hash: &'a str,
    /// Bytes of its files.
    pub data_bytes: u64,
    /// Continue from the newest good checkpoint, if there is one.
    pub resume: bool,
    /// The plan was changed on purpose for the rest of the run.
    pub changed: bool,
    /// Asked between steps.
    pub request: &'a mut dyn FnMut() -> Option<Request>,
    /// Asked after each step: what people ask the model while it trains.
    pub questions: &'a mut Questions<'a, 'q>,
    /// Prompts answered at each evaluation, and at step 0 by the base.
    pub samples: Option<Samples<'a>>,
    /// Peak resident memory of the process.
    pub peak_memory: fn() -> u64,
    /// What the guard needs from outside.
    pub guard: GuardJob<'a>,
}

pub(super) fn run<B: Backend>(be: &B, job: TrainJob, sink: &mut dyn EventSink, backend: &str) -> Result<RunOutcome> {
    let TrainJob {
        base,
        plan,
        train,
        validation,
        truncated,
        directory,
        run,
        name,
        dataset_hash,
        data_bytes,
        resume,
        changed,
        request,
        questions,
        samples,
        peak_memory,
        guard,
    } = job;
    let checkpoint_file = base.checkpoint();
    // Of an embedding that is not the head as well, steps read the rows of their tokens.
    let is_looked_up = |name: &str| name == "model.embed_tokens.weight" && !base.spec().tied;
    let keep = |name: &str| stays_mapped(checkpoint_file, plan, name) && !is_looked_up(name);
    if let Some(tensor) = checkpoint_file.non_finite(keep) {
        return Err(Fault::new(
            "PS-MODEL-005",
            format!("The model holds a number that is not finite, so nothing can be trained on it: {tensor}"),
        ));
    }
    let file = match &plan.init_from {
        Some(dir) => Some(peft_format::read_adapter(Path::new(dir))?),
        None => None,
    };
    let mut spec = AdapterSpec::of_plan(plan);
    let source = match &file {
        Some(file) => {
            let stored = spec_of_file(file);
            if file.config.keeps_tied() && base.spec().tied {
                return Err(Fault::new(
                    "PS-MODEL-002",
                    "This adapter keeps the embedding and the head one matrix (`ensure_weight_tying`), which is answered with but not trained on here",
                ));
            }
            let mut modules_to_save = stored.modules_to_save.clone();
            modules_to_save.extend(spec.modules_to_save.into_iter().filter(|m| !stored.modules_to_save.contains(m)));
            let (dropout, lora_plus_ratio) = (spec.dropout, spec.lora_plus_ratio);
            spec = AdapterSpec { dropout, lora_plus_ratio, modules_to_save, ..stored };
            AdapterSource::File { spec: spec.clone(), file }
        }
        None => AdapterSource::Fresh { spec: spec.clone(), seed: plan.seed },
    };
    let full = plan.method == Method::Full;
    let options = BuildOptions {
        full,
        quantize: Quantization::of_plan(plan),
        adapter: (!full).then_some(source),
        trainable: true,
    };
    let work = Workload::of(plan, train, validation, data_bytes).on_card(super::card::beside(be));
    memory::set_aside(be, base, plan, &work)?;
    let mut decoder = build(be, checkpoint_file, &options)?;
    if let Some(file) = &file {
        adapter::check_all_used(&mut decoder, file)?;
    }
    decoder.neftune_alpha = plan.neftune_alpha;
    if plan.optimizer == Optimizer::AdamW8bit {
        decoder.params_mut().into_iter().try_for_each(|p| p.use_8bit_moments(be)).map_err(device)?;
    }
    // Before anything is restored: what the preferences are measured against.
    let reference = plan.preference.as_ref().map(|_| Reference::new(&mut decoder, file.is_some())).transpose()?;
    let fingerprint = fingerprint(be, base, plan, dataset_hash);
    let mut resumed = None;
    if resume {
        if let Some(step) = guard.rewind_to {
            go_back(directory, step, &fingerprint)?;
        }
        let (state, damaged) = checkpoint::newest_good(directory)?;
        if let Some(state) = state {
            check_fingerprint(&state, &fingerprint, changed)?;
            let mut state = checkpoint::restore(directory, &mut decoder, state.step)?;
            if state.fingerprint != fingerprint {
                // From here on the changed plan holds, also for whoever resumes after a crash.
                forget_remedies(&mut state, plan);
                state.fingerprint.clone_from(&fingerprint);
                checkpoint::save(directory, &mut decoder, &state)?;
            }
            let _continue = sink.emit(&RunEvent::Resumed { step: state.step });
            if damaged > 0 {
                let _continue = sink.emit(&damaged_checkpoints(damaged, state.step));
            }
            resumed = Some(state);
        } else if damaged > 0 {
            return Err(Fault::new(
                "PS-CKPT-001",
                format!("All {damaged} checkpoints of this run are damaged, so there is nothing to go on from"),
            )
            .action("Start the run again into another folder", None));
        }
    }
    if resumed.is_none() {
        let weights = plan.weights(train.iter().map(|t| t.row));
        let drawn = peft_plan::order::drawn(train.len(), &weights, plan.seed, 0);
        let learnt = |i: usize| train[i].trained.iter().skip(1).filter(|&&x| x).count() as u64;
        let _continue = sink.emit(&RunEvent::Started(Started {
            run: run.to_owned(),
            name: name.to_owned(),
            backend: backend.to_owned(),
            device: be.fingerprint(),
            parameters_total: base.spec().parameters(),
            parameters_trainable: decoder.params_mut().iter().map(|p| p.value.len() as u64).sum(),
            total_steps: plan.total_steps,
            examples: train.len() as u64,
            validation_examples: validation.len() as u64,
            tokens_per_epoch: drawn.into_iter().map(learnt).sum(),
            truncated_examples: truncated,
            memory_plan_bytes: memory_plan(base, plan, &work)?.total_bytes,
        }));
    }
    let mut write_result = |decoder: &mut Decoder<B>| -> Result<PathBuf> {
        if full {
            let out = directory.join("model");
            write_full(base, decoder, &out)?;
            return Ok(out);
        }
        let out = directory.join("adapter");
        let config = adapter_config(&spec, base, file.as_ref());
        peft_format::write_adapter(&out, &config, &adapter::tensors(decoder)?)?;
        Ok(out)
    };
    let mut trainer = Trainer {
        plan,
        train,
        validation,
        directory,
        reference,
        fingerprint,
        request,
        questions,
        samples,
        write_result: &mut write_result,
        peak_memory,
        guard,
    };
    let outcome = trainer.run(&mut decoder, sink, resumed);
    // Whoever uses the device next finds it as it was.
    be.set_graph_room(None);
    let ended = be.decode_ahead(None).map_err(device);
    outcome.and_then(|outcome| ended.map(|()| outcome))
}

/// The backend that the run in `directory` was begun on, where it has a checkpoint.
pub(super) fn begun_on(directory: &Path) -> Option<String> {
    let (state, _) = checkpoint::newest_good(directory).ok()?;
    state?.fingerprint.remove("backend")
}

fn fingerprint<B: Backend>(
    be: &B,
    base: &BaseModel,
    plan: &TrainingPlan,
    dataset_hash: &str,
) -> BTreeMap<String, String> {
    let plan = serde_json::to_string(plan).expect("a plan is plain data");
    BTreeMap::from([
        ("backend".to_owned(), be.fingerprint()),
        ("base".to_owned(), base.checkpoint().hash().to_owned()),
        ("data".to_owned(), dataset_hash.to_owned()),
        ("plan".to_owned(), plan),
    ])
}

/// What a person has set by hand is not changed by what the guard did to the old value.
fn forget_remedies(state: &mut RunState, plan: &TrainingPlan) {
    let old = state.fingerprint.get("plan").and_then(|text| serde_json::from_str::<TrainingPlan>(text).ok());
    let Some(old) = old else { return };
    let differs = |a: f64, b: f64| a.to_bits() != b.to_bits();
    if differs(old.learning_rate, plan.learning_rate) {
        state.guard.rate_factor = 1.0;
    }
    if differs(old.max_gradient_norm, plan.max_gradient_norm) {
        state.guard.clip = None;
    }
    state.guard.rewinds = 0;
}

/// Forget what was done after the newest whole checkpoint that is not after `step`; without one, everything.
fn go_back(directory: &Path, step: u64, fingerprint: &BTreeMap<String, String>) -> Result<()> {
    let earlier = checkpoint::steps(directory).into_iter().filter(|&saved| saved <= step);
    let mut target = 0;
    for saved in earlier {
        if let Ok(state) = checkpoint::read(directory, saved) {
            // Before anything is deleted: this run must be able to go on from there.
            check_fingerprint(&state, fingerprint, true)?;
            target = saved;
            break;
        }
    }
    checkpoint::forget_after(directory, target)
}

/// The newest checkpoints did not survive; an older one did.
fn damaged_checkpoints(count: usize, step: u64) -> RunEvent {
    RunEvent::anomaly(
        step,
        "damaged_checkpoint",
        format!("{count} newer checkpoints are damaged and were passed over"),
        format!("went on from step {step}"),
    )
}

/// A fault where something that decides the bits is not what it was. `changed`: the plan may differ.
fn check_fingerprint(state: &RunState, now: &BTreeMap<String, String>, changed: bool) -> Result<()> {
    for (key, value) in now {
        let then = state.fingerprint.get(key);
        if then == Some(value) || (changed && key == "plan") {
            continue;
        }
        return Err(match key.as_str() {
            "data" => Fault::new(
                "PS-DATA-013",
                "The training data is not the same as when this run started, so it cannot go on where it was",
            ),
            "base" => Fault::new("PS-CKPT-002", "The base model's files are not the same as when this run started"),
            "backend" => Fault::new(
                "PS-CKPT-002",
                format!(
                    "This run was started on `{}` and this is `{value}`; the results would differ",
                    then.map_or("another machine", String::as_str)
                ),
            ),
            _ => Fault::new(
                "PS-CKPT-002",
                "The run's settings are not the same as when it started; the results would differ",
            ),
        });
    }
    Ok(())
}

/// The small adapter that a run kept in the file `tensors`, with the settings it was trained with.
pub fn kept_adapter(base: &BaseModel, plan: &TrainingPlan, tensors: &Path) -> Result<AdapterFile> {
    let start = plan.init_from.as_ref().map(|dir| peft_format::read_adapter(Path::new(dir))).transpose()?;
    let mut spec = AdapterSpec::of_plan(plan);
    if let Some(start) = &start {
        let stored = spec_of_file(start);
        spec = AdapterSpec { dropout: spec.dropout, lora_plus_ratio: spec.lora_plus_ratio, ..stored };
    }
    let config = adapter_config(&spec, base, start.as_ref());
    let tensors = peft_format::read_tensors(tensors).map_err(|fault| Fault {
        code: if fault.code == "PS-MODEL-005" { "PS-CKPT-001" } else { fault.code },
        ..fault
    })?;
    if let Some((name, _)) = tensors.iter().find(|(_, (_, values))| values.iter().any(|x| !x.is_finite())) {
        return Err(Fault::new(
            "PS-CKPT-001",
            format!("The kept adapter's tensor `{name}` holds values that are not numbers"),
        ));
    }
    Ok(AdapterFile { config, tensors })
}

/// What is written to `adapter_config.json`.
fn adapter_config(spec: &AdapterSpec, base: &BaseModel, file: Option<&AdapterFile>) -> AdapterConfig {
    let mut config = if let Some(file) = file {
        file.config.clone()
    } else {
        // Bare names load everywhere, in every version of PEFT.
        let targets = peft_format::explicit_targets(&spec.targets, base.spec());
        AdapterConfig::new(spec.rank, spec.alpha, targets)
    };
    config.use_dora = spec.dora;
    config.use_rslora = spec.use_rslora;
    config.lora_dropout = spec.dropout;
    config.modules_to_save.clone_from(&spec.modules_to_save);
    config.base_model = Some(base.id().to_owned());
    config
}
