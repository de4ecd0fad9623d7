//! A run on a backend: build, restore, train, write the result.

use super::merging::write_full;
use super::{Quantization, Workload, memory_plan};
use crate::adapter::{self, AdapterSource, AdapterSpec, spec_of_file};
use crate::base::BaseModel;
use crate::decoder::{BuildOptions, Decoder, build, stays_mapped};
use crate::fault::device;
use crate::peft_format::{self, AdapterConfig, AdapterFile};
use crate::train::{Reference, Request, RunOutcome, RunState, Tokens, Trainer, checkpoint};
use peft_kernels::Backend;
use peft_plan::{EventSink, Fault, Method, Optimizer, Result, RunEvent, Started, TrainingPlan};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A training run, prepared.
pub struct TrainJob<'a> {
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
    /// Peak resident memory of the process.
    pub peak_memory: fn() -> u64,
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
        peak_memory,
    } = job;
    let checkpoint_file = base.checkpoint();
    let keep = |name: &str| stays_mapped(checkpoint_file, plan, name);
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
        let (state, damaged) = checkpoint::newest_good(directory)?;
        if let Some(state) = state {
            check_fingerprint(&state, &fingerprint, changed)?;
            let mut state = checkpoint::restore(directory, &mut decoder, state.step)?;
            state.fingerprint.clone_from(&fingerprint);
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
            tokens_per_epoch: train.iter().map(|t| t.trained.iter().skip(1).filter(|&&x| x).count() as u64).sum(),
            truncated_examples: truncated,
            memory_plan_bytes: memory_plan(base, plan, &Workload::of(plan, train, validation, data_bytes))?.total_bytes,
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
        write_result: &mut write_result,
        peak_memory,
    };
    trainer.run(&mut decoder, sink, resumed)
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

/// The newest checkpoints did not survive; an older one did.
fn damaged_checkpoints(count: usize, step: u64) -> RunEvent {
    RunEvent::Anomaly {
        step,
        kind: "damaged_checkpoint".to_owned(),
        message: format!("{count} newer checkpoints are damaged and were passed over"),
        actions: Vec::new(),
        taken: format!("went on from step {step}"),
    }
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
