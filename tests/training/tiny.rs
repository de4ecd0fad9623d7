//! Tiny models, examples and plans.

use peft_kernels::Backend;
use peft_kernels::cpu::Cpu;
use peft_models::adapter::{AdapterSource, AdapterSpec};
use peft_models::base::BaseModel;
use peft_models::checkpoint::Checkpoint;
use peft_models::decoder::{BuildOptions, Decoder, build};
use peft_models::engine::{Engine, Quantization, TrainJob};
use peft_models::train::{GuardJob, Request, RunOutcome, Tokens};
use peft_plan::order::SplitMix;
use peft_plan::{Facts, Method, ModelSpec, Result, RunConfig, RunEvent, TrainingPlan, resolve};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// One model of every family, and one whose head is its embedding.
pub(crate) const FAMILIES: [&str; 8] = ["llama", "llama-tied", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3"];

pub(crate) fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(family)
}

pub(crate) fn base(family: &str) -> BaseModel {
    BaseModel::open(family, &folder(family).join("model")).expect("a fixture opens")
}

pub(crate) fn checkpoint(family: &str) -> Checkpoint {
    Checkpoint::open(&folder(family).join("model")).expect("a fixture opens")
}

pub(crate) fn cpu() -> Cpu {
    Cpu::new(2).expect("two threads")
}

/// Examples of 6 to 17 tokens: within and beyond the windows of 8 and the original context of 14. The first third
/// of each is read, the rest learnt.
pub(crate) fn examples(vocabulary: usize, count: usize) -> Vec<Tokens> {
    let mut random = SplitMix::new(count as u64);
    (0..count)
        .map(|e| {
            let length = 6 + (e * 5) % 12;
            Tokens {
                ids: (0..length).map(|_| random.below(vocabulary) as u32).collect(),
                trained: (0..length).map(|i| i >= length / 3).collect(),
                row: e as u32,
                pair: None,
            }
        })
        .collect()
}

/// The plan that these settings give.
pub(crate) fn plan(spec: &ModelSpec, examples: &[Tokens], settings: &[&str]) -> TrainingPlan {
    let mut config = RunConfig::default();
    let usual =
        ["model.id=m", "dataset.path=d", "adapter.rank=4", "training.learning_rate=1e-3", "training.warmup_ratio=0"];
    for setting in usual.iter().chain(settings) {
        config.set(setting).expect("a good setting");
    }
    let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
    let facts = Facts::bare(spec, &lengths, 2);
    resolve::resolve(&config, &facts).expect("a good plan")
}

/// The model as `plan` trains it, with a B that is not zero so that every part of an adapter matters.
pub(crate) fn decoder<B: Backend>(be: &B, checkpoint: &Checkpoint, plan: &TrainingPlan) -> Decoder<B> {
    let full = plan.method == Method::Full;
    let source = AdapterSource::Fresh { spec: AdapterSpec::of_plan(plan), seed: 3 };
    let options = BuildOptions {
        full,
        quantize: Quantization::of_plan(plan),
        adapter: (!full).then_some(source),
        trainable: true,
    };
    let mut decoder = build(be, checkpoint, &options).expect("a fixture builds");
    let mut random = SplitMix::new(7);
    for p in decoder.params_mut() {
        let stir = if p.name.contains("lora_B") { 0.1 } else { 0.0 };
        // The magnitude starts at the norm of the weight, where its ratio is one and hides mistakes.
        let scale = if p.name.contains("magnitude") { 1.2 } else { 1.0 };
        let values = be.download(&p.value).expect("downloaded");
        let stirred: Vec<f32> = values.iter().map(|v| v * scale + stir * (random.unit() as f32 - 0.5)).collect();
        be.upload(&mut p.value, &stirred).expect("the same shape");
    }
    decoder.prepare().expect("prepared");
    decoder
}

/// Every trained value, one after the other.
pub(crate) fn values<B: Backend>(decoder: &mut Decoder<B>) -> Vec<f32> {
    let be = decoder.be.clone();
    decoder.params_mut().iter().flat_map(|p| be.download(&p.value).expect("downloaded")).collect()
}

/// `‖a − b‖ / ‖b‖`
pub(crate) fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    let size: f64 = b.iter().map(|y| f64::from(*y).powi(2)).sum();
    (difference / size).sqrt()
}

/// One run of the engine in a directory of its own.
pub(crate) struct Job<'a> {
    pub(crate) base: &'a BaseModel,
    pub(crate) plan: &'a TrainingPlan,
    pub(crate) train: &'a [Tokens],
    pub(crate) validation: &'a [Tokens],
    pub(crate) directory: &'a Path,
}

impl Job<'_> {
    /// Train; before each step `request` is asked, with the number of steps done so far by this call.
    pub(crate) fn run(
        &self,
        resume: bool,
        request: &dyn Fn(u64) -> Option<Request>,
    ) -> Result<(RunOutcome, Vec<RunEvent>)> {
        let engine = Engine::open("cpu", self.plan.threads).expect("an engine");
        let mut events = Vec::new();
        let mut asked = 0;
        let mut ask = || {
            asked += 1;
            request(asked - 1)
        };
        let job = TrainJob {
            base: self.base,
            plan: self.plan,
            train: self.train,
            validation: self.validation,
            truncated: 0,
            directory: self.directory,
            run: "r",
            name: "a run",
            dataset_hash: "d",
            data_bytes: 0,
            resume,
            changed: false,
            request: &mut ask,
            questions: &mut || None,
            samples: None,
            peak_memory: || 0,
            guard: GuardJob::default(),
        };
        let mut sink = |event: &RunEvent| {
            events.push(event.clone());
            ControlFlow::Continue(())
        };
        let outcome = engine.train(job, &mut sink)?;
        Ok((outcome, events))
    }

    /// Train to the end.
    pub(crate) fn finish(&self) -> Vec<RunEvent> {
        let (outcome, events) = self.run(false, &|_| None).expect("trained");
        assert!(matches!(outcome, RunOutcome::Finished(_)), "{outcome:?}");
        events
    }

    /// The bytes of every file that a finished run leaves for use.
    pub(crate) fn result(&self) -> Vec<(String, Vec<u8>)> {
        let folder = if self.plan.method == Method::Full { "model" } else { "adapter" };
        let entries = std::fs::read_dir(self.directory.join(folder)).expect("a result");
        let mut files: Vec<(String, Vec<u8>)> = entries
            .map(|entry| entry.expect("readable").path())
            .map(|path| (path.display().to_string().rsplit('/').next().unwrap_or("").to_owned(), path))
            .map(|(name, path)| (name, std::fs::read(path).expect("readable")))
            .collect();
        files.sort();
        files
    }
}

/// Loss of every step that the events tell, with its number.
pub(crate) fn losses(events: &[RunEvent]) -> Vec<(u64, f64)> {
    let loss = |event: &RunEvent| match event {
        RunEvent::Step(step) => Some((step.step, step.loss)),
        _ => None,
    };
    events.iter().filter_map(loss).collect()
}
