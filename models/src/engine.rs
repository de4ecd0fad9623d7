//! Where the device's type disappears: the app asks an [`Engine`], never a backend.

use crate::adapter::{self, AdapterSource, AdapterSpec, spec_of_file};
use crate::base::BaseModel;
use crate::decoder::{Activations, BuildOptions, Decoder, build};
use crate::fault::device;
use crate::generate::{GenerateOptions, Generated, Prompt, generate};
use crate::golden::{self, SelftestReport};
use crate::merge::Merger;
use crate::merge_writer::{self, Options, base_bytes, narrow};
use crate::peft_format::{self, AdapterConfig, AdapterFile};
use crate::train::{self, Request, RunOutcome, RunState, Tokens, Totals, Trainer, checkpoint};
use crate::verify::{Verification, verify};
use durable::Manifest;
use peft_kernels::cpu::Cpu;
use peft_kernels::{Backend, DType, FourBitKind};
use peft_plan::{
    EventSink, Fault, MemoryFacts, MemoryPlan, Method, ModelSpec, Result, RunEvent, Started, TrainingPlan,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The chosen device.
pub struct Engine {
    device: Device,
    threads: usize,
}

enum Device {
    Cpu(Cpu),
}

/// Calls `$body` with the backend of `$engine` in `$be`.
macro_rules! on {
    ($engine:expr, $be:ident => $body:expr) => {
        match &$engine.device {
            Device::Cpu($be) => $body,
        }
    };
}

/// How a dense base is quantised on loading: what a QLoRA run trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantization {
    /// Code table.
    pub kind: FourBitKind,
    /// The scales are quantised too.
    pub double: bool,
}

impl Quantization {
    /// What `plan` loads its base with.
    pub fn of_plan(plan: &TrainingPlan) -> Option<Self> {
        let kind = if plan.quantization_format == "fp4" { FourBitKind::Fp4 } else { FourBitKind::Nf4 };
        plan.method.is_quantized().then_some(Self { kind, double: plan.double_quantization })
    }
}

/// How base and adapter become one model.
#[derive(Clone, Copy, Debug)]
pub struct MergeOptions {
    /// Type of the weights.
    pub dtype: DType,
    /// Most bytes of one file; a larger model is cut into shards.
    pub shard_bytes: Option<u64>,
    /// The base was quantised on loading while the adapter was trained.
    pub quantize: Option<Quantization>,
}

impl MergeOptions {
    /// One file, onto the base as it is stored.
    pub fn of(dtype: DType) -> Self {
        Self { dtype, shard_bytes: None, quantize: None }
    }
}

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
    /// Continue from the newest good checkpoint, if there is one.
    pub resume: bool,
    /// The plan was changed on purpose for the rest of the run.
    pub changed: bool,
    /// Asked between steps.
    pub request: &'a mut dyn FnMut() -> Option<Request>,
    /// Peak resident memory of the process.
    pub peak_memory: fn() -> u64,
}

/// A model ready to answer and to be scored.
pub trait Session {
    /// Answer prompts together; see [`generate`].
    fn generate(
        &mut self,
        prompts: &[Prompt],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Generated>;
    /// Score examples with or without the adapter.
    fn score(&mut self, examples: &[Tokens], adapters: bool) -> Result<Totals>;
}

struct Loaded<B: Backend> {
    decoder: Decoder<B>,
    acts: Activations<B>,
}

impl<B: Backend> Session for Loaded<B> {
    fn generate(
        &mut self,
        prompts: &[Prompt],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Generated> {
        generate(&mut self.decoder, &mut self.acts, prompts, options, on_token)
    }

    fn score(&mut self, examples: &[Tokens], adapters: bool) -> Result<Totals> {
        train::score(&mut self.decoder, &mut self.acts, examples, adapters)
    }
}

impl Engine {
    /// Open a device: `auto` or `cpu`, with so many threads.
    pub fn open(backend: &str, threads: usize) -> Result<Self> {
        match backend {
            "auto" | "cpu" => Ok(Self { device: Device::Cpu(Cpu::new(threads).map_err(device)?), threads }),
            other => Err(Fault::new(
                "PS-HW-001",
                format!("The backend `{other}` cannot be used: this version computes on the processor"),
            )),
        }
    }

    /// `cpu` or `cuda`.
    pub fn backend(&self) -> &'static str {
        on!(self, be => name_of(be))
    }

    /// The device, and whatever of it could change a bit of a result.
    pub fn fingerprint(&self) -> String {
        on!(self, be => be.fingerprint())
    }

    /// Threads it computes with.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Train (or go on training). The result is in `job.directory`.
    pub fn train(&self, job: TrainJob, sink: &mut dyn EventSink) -> Result<RunOutcome> {
        on!(self, be => run(be, job, sink, self.backend()))
    }

    /// Load a model, with the adapter in `adapter` if given.
    pub fn session(
        &self,
        base: &BaseModel,
        adapter: Option<&Path>,
        quantize: Option<Quantization>,
    ) -> Result<Box<dyn Session>> {
        on!(self, be => session(be, base, adapter, quantize))
    }

    /// Replay a reference run of another framework.
    pub fn verify(&self, base: &BaseModel, reference: &Path) -> Result<Verification> {
        on!(self, be => verify(be, base.checkpoint(), reference))
    }

    /// Compare every operation with the reference, on inputs drawn from `seed`, and replay the golden steps.
    pub fn selftest(&self, seed: u64) -> Result<SelftestReport> {
        on!(self, be => golden::selftest(be, seed))
    }

    /// Write base and adapter as one model into `out`.
    pub fn merge(
        &self,
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        options: &MergeOptions,
        out: &Path,
    ) -> Result<Manifest> {
        on!(self, be => merge(be, base, adapter, options, out))
    }
}

fn name_of<B: Backend>(_: &B) -> &'static str {
    B::NAME
}

/// Parameters that `plan` trains in a model of this shape.
pub fn trainable_parameters(spec: &ModelSpec, plan: &TrainingPlan) -> Result<u64> {
    if plan.method == Method::Full {
        return Ok(spec.parameters());
    }
    let mut total = 0;
    for i in 0..spec.layers.len() {
        for m in &spec.modules {
            if peft_format::matches(&plan.target_modules, &format!("model.layers.{i}.{}", m.name))? {
                total += plan.rank * (m.in_features + m.out_features)
                    + if plan.method.is_dora() { m.out_features } else { 0 };
            }
        }
    }
    Ok(total as u64)
}

/// The memory plan of a run.
pub fn memory_plan(base: &BaseModel, plan: &TrainingPlan, tokens: usize) -> Result<MemoryPlan> {
    let spec = base.spec();
    let stored = base.checkpoint().total_bytes();
    let weight_bytes = match plan.method {
        Method::Full => 0,
        m if m.is_quantized() && !base.stored_in_4bit() => {
            let linear: usize = spec.modules.iter().map(|m| m.in_features * m.out_features).sum();
            let linear = (linear * spec.layers.len()) as u64;
            // Half a byte a weight and its scale; everything else stays as stored.
            let dense = base.dense_bytes();
            linear / 2 + linear / 64 + linear / (64 * 64) + stored.saturating_sub(linear * dense)
        }
        _ => stored,
    };
    let facts = MemoryFacts {
        weight_bytes,
        trainable: trainable_parameters(spec, plan)?,
        rank: plan.rank,
        method: plan.method,
        dropout: plan.dropout > 0.0,
        tokens,
        recompute: plan.recompute,
    };
    Ok(peft_plan::memory::plan(spec, &facts))
}

fn run<B: Backend>(be: &B, job: TrainJob, sink: &mut dyn EventSink, backend: &str) -> Result<RunOutcome> {
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
        resume,
        changed,
        request,
        peak_memory,
    } = job;
    let checkpoint_file = base.checkpoint();
    if let Some(tensor) = checkpoint_file.non_finite() {
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
            spec = AdapterSpec { dropout: spec.dropout, lora_plus_ratio: spec.lora_plus_ratio, ..stored };
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
        let lengths: Vec<usize> = train.iter().map(|t| t.ids.len()).collect();
        let widest = peft_plan::order::epoch_steps(&lengths, &plan.order(), 0)
            .iter()
            .flatten()
            .map(|micro| micro.iter().map(|&i| lengths[i]).sum::<usize>())
            .max()
            .unwrap_or(0);
        let _continue = sink.emit(&RunEvent::Started(Started {
            run: run.to_owned(),
            name: name.to_owned(),
            backend: backend.to_owned(),
            device: be.fingerprint(),
            parameters_total: base.spec().parameters(),
            parameters_trainable: trainable_parameters(base.spec(), plan)?,
            total_steps: plan.total_steps,
            examples: train.len() as u64,
            validation_examples: validation.len() as u64,
            tokens_per_epoch: train.iter().map(|t| t.trained.iter().skip(1).filter(|&&x| x).count() as u64).sum(),
            truncated_examples: truncated,
            memory_plan_bytes: memory_plan(base, plan, widest)?.total_bytes,
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
    config.base_model = Some(base.id().to_owned());
    config
}

fn session<B: Backend>(
    be: &B,
    base: &BaseModel,
    adapter: Option<&Path>,
    quantize: Option<Quantization>,
) -> Result<Box<dyn Session>> {
    let file = adapter.map(peft_format::read_adapter).transpose()?;
    let source = file.as_ref().map(|file| AdapterSource::File { spec: spec_of_file(file), file });
    let options = BuildOptions { full: false, quantize, adapter: source, trainable: false };
    let mut decoder = build(be, base.checkpoint(), &options)?;
    if let Some(file) = &file {
        adapter::check_all_used(&mut decoder, file)?;
    }
    let acts = decoder.activations(true).map_err(device)?;
    Ok(Box::new(Loaded { decoder, acts }))
}

fn write_full<B: Backend>(base: &BaseModel, decoder: &mut Decoder<B>, out: &Path) -> Result<()> {
    let trained = adapter::tensors(decoder)?;
    let dtype = base.dtype();
    if out.exists() {
        // A run that is resumed after its last step writes its result again.
        std::fs::remove_dir_all(out).map_err(|e| Fault::io("replace", out, e))?;
    }
    let tensors = merge_writer::tensors_of(base.checkpoint(), dtype)?;
    let options = Options { dtype, shard_bytes: None, extra_files: base.embedded_files_to_copy() };
    merge_writer::write_model(out, base.checkpoint(), &tensors, &options, |t| match trained.get(&t.canonical) {
        Some((_, data)) => Ok(narrow(dtype, data)),
        None => base_bytes(base.checkpoint(), t),
    })?;
    Ok(())
}

fn merge<B: Backend>(
    be: &B,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
    out: &Path,
) -> Result<Manifest> {
    let MergeOptions { dtype, shard_bytes, quantize } = *options;
    let merger = Merger::new(be, base.checkpoint(), adapter, quantize)?;
    if adapter.is_some() && merger.merged_modules() == 0 {
        return Err(Fault::new(
            "PS-CFG-003",
            "The adapter's modules match nothing in this model; is it an adapter of another one?",
        ));
    }
    let tensors = merge_writer::tensors_of(base.checkpoint(), dtype)?;
    let options = Options { dtype, shard_bytes, extra_files: base.embedded_files_to_copy() };
    merge_writer::write_model(out, base.checkpoint(), &tensors, &options, |t| match merger.tensor(&t.canonical)? {
        Some(merged) => Ok(narrow(dtype, &merged)),
        None => base_bytes(base.checkpoint(), t),
    })
}
