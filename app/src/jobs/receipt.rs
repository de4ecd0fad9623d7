//! Receipts (B12): kept while a run goes, written when it ends, and checked by computing its first steps again.

use super::model::starter_files;
use super::setup::{Setup, prepare};
use crate::cli::context::Context;
use crate::cli::progress::{Receiver, rewound_to};
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, TrainJob};
use peft_models::receipt::{HashedFile, Input, Loss, NAME, Program, Receipt, RunSummary, Segment, sha256, sha256_of};
use peft_models::train::{GuardJob, Request};
use peft_plan::config::SourceRef;
use peft_plan::{Fault, Result, RunConfig, RunEvent, TrainingPlan};
use peft_storage::{Run, Store};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What a run did from which step on, until it ends.
const SEGMENTS: &str = "segments.json";
/// Steps that are computed again where nobody says how many.
pub const DEFAULT_STEPS: u64 = 10;
/// Largest relative difference of a loss between machines whose bits may differ.
const TOLERANCE: f64 = 1e-3;
/// Files of a model beside its weights that decide what is trained.
const SMALL_FILES: &[&str] = &[
    "config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// Follows a run and keeps what it did from which step on in its directory.
pub struct Segments {
    directory: PathBuf,
    now: Segment,
}

impl Segments {
    /// For a process that works on the run in `directory` with `plan`.
    pub fn new(directory: &Path, engine: &Engine, plan: &TrainingPlan) -> Self {
        let threads = plan.threads;
        let plan = serde_json::to_value(plan).expect("a plan is plain data");
        let now = Segment {
            from_step: 0,
            reason: "started".to_owned(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: engine.fingerprint(),
            threads,
            plan_sha256: sha256_of(&plan),
            plan,
        };
        Self { directory: directory.to_owned(), now }
    }

    /// The run goes on after `step`: what was done later never happened.
    fn goes_on(&self, step: u64, reason: &str) -> Result<()> {
        let mut segments = read_segments(&self.directory);
        segments.retain(|segment| segment.from_step <= step);
        let now = Segment { from_step: step, reason: reason.to_owned(), ..self.now.clone() };
        let same = |last: &Segment| Segment { from_step: step, reason: now.reason.clone(), ..last.clone() } == now;
        if reason == "rewound" || !segments.last().is_some_and(same) {
            segments.push(now);
        }
        self.write(&segments)
    }

    fn write(&self, segments: &[Segment]) -> Result<()> {
        let path = self.directory.join(SEGMENTS);
        let text = serde_json::to_vec(segments).expect("segments are plain data");
        durable::write_file(&path, &text).map_err(|e| Fault::io("write", &path, e))
    }
}

impl Receiver for Segments {
    fn receive(&mut self, event: &RunEvent) -> Result<()> {
        match event {
            RunEvent::Started(_) => self.write(std::slice::from_ref(&self.now)),
            RunEvent::Resumed { step } => self.goes_on(*step, "resumed"),
            // What the run does differently from there on is no part of its plan.
            other => rewound_to(other).map_or(Ok(()), |step| self.goes_on(step, "rewound")),
        }
    }
}

fn read_segments(directory: &Path) -> Vec<Segment> {
    let bytes = std::fs::read(directory.join(SEGMENTS)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Write the receipt of a run that ended with `outcome`; returns where.
pub fn write(store: &Store, run: &Run, setup: &Setup, outcome: &str) -> Result<PathBuf> {
    let run = store.get_run(run.id.as_str())?;
    let (schema, version) = Receipt::schema();
    let steps: Vec<Loss> = store.metrics(run.id.as_str())?.iter().map(|step| Loss::new(step.step, step.loss)).collect();
    let evaluations = store.evaluations(run.id.as_str())?.iter().map(|e| Loss::new(e.step, e.loss)).collect();
    let receipt = Receipt {
        schema,
        version,
        run: RunSummary {
            id: run.id.as_str().to_owned(),
            name: run.name.clone(),
            outcome: outcome.to_owned(),
            steps: run.last_step,
        },
        program: program()?,
        base: base_input(&setup.base)?,
        data: data_input(setup),
        init_from: setup.plan.init_from.as_deref().map(|dir| init_input(Path::new(dir))).transpose()?,
        configuration_sha256: sha256_of(&run.config),
        configuration: run.config.clone(),
        segments: read_segments(&run.directory),
        steps,
        evaluations,
        result: result_files(&run.directory)?,
    };
    let path = run.directory.join(NAME);
    durable::write_file(&path, &receipt.to_bytes()).map_err(|e| Fault::io("write the receipt", &path, e))?;
    Ok(path)
}

/// The running program.
fn program() -> Result<Program> {
    // On Linux the file that runs, even if another was put in its place since.
    let own = Path::new("/proc/self/exe");
    let path = if own.exists() {
        own.to_owned()
    } else {
        std::env::current_exe().map_err(|e| Fault::io("find", Path::new("this program"), e))?
    };
    let digest = durable::sha256_file(&path).map_err(|e| Fault::io("read", &path, e))?;
    Ok(Program { version: env!("CARGO_PKG_VERSION").to_owned(), bytes: digest.bytes, sha256: digest.sha256 })
}

fn hashed(path: &Path) -> Result<HashedFile> {
    let digest = durable::sha256_file(path).map_err(|e| Fault::io("read", path, e))?;
    Ok(HashedFile { name: file_name(path), bytes: digest.bytes, sha256: digest.sha256 })
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn base_input(base: &BaseModel) -> Result<Input> {
    let files = if let Some(dir) = base.dir() {
        let mut names: BTreeSet<&str> = base.checkpoint().tensors().map(|(_, tensor)| &*tensor.file).collect();
        names.extend(SMALL_FILES);
        let paths = names.into_iter().map(|name| dir.join(name)).filter(|path| path.is_file());
        paths.map(|path| hashed(&path)).collect::<Result<_>>()?
    } else {
        let files = starter_files();
        let parts = [
            ("config.json", files.config),
            ("generation_config.json", files.generation_config),
            ("model.safetensors", files.weights),
            ("tokenizer.json", files.tokenizer),
            ("tokenizer_config.json", files.tokenizer_config),
        ];
        let file = |(name, bytes): (&str, &[u8])| HashedFile {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
        };
        parts.map(file).into()
    };
    Ok(Input { id: base.id().to_owned(), hash: base.checkpoint().hash().to_owned(), files })
}

fn data_input(setup: &Setup) -> Input {
    let files: Vec<HashedFile> = setup
        .data_files
        .iter()
        .map(|(path, bytes, sha256)| HashedFile { name: file_name(path), bytes: *bytes, sha256: sha256.clone() })
        .collect();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    Input { id: names.join(", "), hash: setup.dataset_hash.clone(), files }
}

fn init_input(dir: &Path) -> Result<Input> {
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    let files = names.iter().map(|name| hashed(&dir.join(name))).collect::<Result<Vec<_>>>()?;
    let hash = sha256(files.iter().map(|file| file.sha256.as_str()).collect::<String>().as_bytes());
    Ok(Input { id: dir.display().to_string(), hash, files })
}

/// What a run left for use: its adapter, or its model.
fn result_files(directory: &Path) -> Result<Vec<HashedFile>> {
    for folder in ["adapter", "model"] {
        let folder = directory.join(folder);
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
        paths.sort();
        return paths.iter().map(|path| hashed(path)).collect();
    }
    Ok(Vec::new())
}

/// What is checked, and against what.
#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// The receipt.
    pub receipt: PathBuf,
    /// Steps to compute again; fewer where the run has fewer, or changed earlier.
    pub steps: Option<u64>,
    /// Where the model is now.
    pub model: Option<String>,
    /// Where the data is now.
    pub data: Vec<PathBuf>,
}

/// A step whose loss came out otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The step.
    pub step: u64,
    /// Its loss in the receipt.
    pub recorded: Option<f64>,
    /// Its loss now.
    pub replayed: Option<f64>,
}

/// What the check of a receipt found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own, and a field of what scripts read")]
pub struct Verdict {
    /// Everything that has to be the same is, and the losses agree.
    pub verified: bool,
    /// What is not as the receipt says.
    pub differs: Vec<String>,
    /// The same program and the same backend: the bits have to be the same too.
    pub bits_must_agree: bool,
    /// Steps that the receipt has.
    pub steps: u64,
    /// Steps of it that can be computed again: later ones were computed with other settings.
    pub replayable_steps: u64,
    /// Steps that were.
    pub replayed: u64,
    /// Their losses agree: bit for bit where they must, else within the tolerance.
    pub losses_agree: bool,
    /// Their losses agree bit for bit.
    pub bit_for_bit: bool,
    /// The largest relative difference of a loss.
    pub largest_relative_difference: f64,
    /// What is allowed where the bits need not agree.
    pub tolerance: f64,
    /// The first step whose bits differ.
    pub first_difference: Option<Difference>,
}

/// Check a receipt: its hashes, and its first steps by computing them again.
pub fn verify(context: &Context, request: &VerifyRequest) -> Result<Verdict> {
    let receipt = Receipt::read(&request.receipt)?;
    let mut differs = receipt.contradictions();
    let config = configuration(&receipt, request)?;
    let first = receipt.segments.first().ok_or_else(|| unusable(request, "it does not say how the run began"))?;
    let plan: TrainingPlan = serde_json::from_value(first.plan.clone())
        .map_err(|e| unusable(request, "this version cannot read its settings").caused_by(e))?;
    let setup = prepare(&config, context, Some(plan))?;
    let mut compare = |what: &str, same: bool| {
        if !same {
            differs.push(what.to_owned());
        }
    };
    let base = base_input(&setup.base)?;
    compare("base", base.hash == receipt.base.hash && same_files(&base.files, &receipt.base.files));
    let data = data_input(&setup);
    compare("data", data.hash == receipt.data.hash && same_contents(&data.files, &receipt.data.files));
    if let Some(recorded) = &receipt.init_from {
        let now = setup.plan.init_from.as_deref().map(|dir| init_input(Path::new(dir))).transpose()?;
        compare("init_from", now.is_some_and(|now| now.files == recorded.files));
    }
    // The result may be anywhere by now; where it is beside the receipt it has to be that of the receipt.
    let beside = request.receipt.parent().unwrap_or(Path::new("."));
    let result = result_files(beside)?;
    compare("result", result.is_empty() || result == receipt.result);
    let required = differs.clone();

    let engine = Engine::open(&context.backend, first.threads)?.with_arithmetic(setup.plan.arithmetic);
    let same_program = program()?.sha256 == receipt.program.sha256;
    let same_backend = engine.fingerprint() == first.backend;
    if !same_program {
        differs.push("program".to_owned());
    }
    if !same_backend {
        differs.push("backend".to_owned());
    }
    let replayable_steps = receipt.replayable_steps();
    let wanted = request.steps.unwrap_or(DEFAULT_STEPS).min(replayable_steps);
    let replayed = replay(&engine, &setup, wanted)?;
    let mut verdict = Verdict {
        verified: false,
        differs,
        bits_must_agree: same_program && same_backend,
        steps: receipt.steps.len() as u64,
        replayable_steps,
        replayed: replayed.len() as u64,
        losses_agree: replayed.len() as u64 == wanted,
        bit_for_bit: replayed.len() as u64 == wanted,
        largest_relative_difference: 0.0,
        tolerance: TOLERANCE,
        first_difference: None,
    };
    for (recorded, (step, now)) in receipt.steps.iter().zip(&replayed) {
        let then = recorded.value().unwrap_or(f64::NAN);
        if recorded.step == *step && then.to_bits() == now.to_bits() {
            continue;
        }
        verdict.bit_for_bit = false;
        let relative = (then - now).abs() / then.abs().max(1e-6);
        let relative = if relative.is_finite() && recorded.step == *step { relative } else { f64::MAX };
        verdict.largest_relative_difference = verdict.largest_relative_difference.max(relative);
        let finite = |number: f64| number.is_finite().then_some(number);
        verdict.first_difference.get_or_insert(Difference {
            step: *step,
            recorded: finite(then),
            replayed: finite(*now),
        });
    }
    verdict.losses_agree &=
        verdict.bit_for_bit || (!verdict.bits_must_agree && verdict.largest_relative_difference <= TOLERANCE);
    // Where nothing can be computed again, nothing is proved, unless nothing was asked.
    let is_proof = wanted > 0 || request.steps == Some(0);
    verdict.verified = required.is_empty() && verdict.losses_agree && is_proof;
    Ok(verdict)
}

fn unusable(request: &VerifyRequest, why: &str) -> Fault {
    Fault::new("PS-RUN-005", format!("`{}` cannot be checked: {why}", request.receipt.display()))
}

/// What the run asked for, with the places where model and data are now.
fn configuration(receipt: &Receipt, request: &VerifyRequest) -> Result<RunConfig> {
    let mut config = RunConfig::from_value(receipt.configuration.clone())?;
    if let Some(model) = &request.model {
        config.model.id = Some(model.clone());
    }
    if let Some((first, rest)) = request.data.split_first() {
        config.dataset.path = Some(first.display().to_string());
        let source = |path: &PathBuf| SourceRef { path: Some(path.display().to_string()), ..SourceRef::default() };
        config.dataset.sources = rest.iter().map(source).collect();
    }
    Ok(config)
}

/// The same files with the same contents. One that only one side has is a difference.
fn same_files(now: &[HashedFile], then: &[HashedFile]) -> bool {
    let sorted =
        |files: &[HashedFile]| files.iter().map(|f| (f.name.clone(), f.sha256.clone())).collect::<BTreeSet<_>>();
    sorted(now) == sorted(then)
}

/// The same contents in the same order; files of data may be called otherwise by now.
fn same_contents(now: &[HashedFile], then: &[HashedFile]) -> bool {
    now.iter().map(|file| &file.sha256).eq(then.iter().map(|file| &file.sha256))
}

/// A directory that is gone when it is no longer needed.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("peft-studio-verify-{}", std::process::id()));
        let io = |error| Fault::io("create", &path, error);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => std::fs::create_dir_all(&path).map_err(io)?,
        }
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the system's own place for what is left behind.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

/// Number and loss of the first `steps` steps.
fn replay(engine: &Engine, setup: &Setup, steps: u64) -> Result<Vec<(u64, f64)>> {
    if steps == 0 {
        return Ok(Vec::new());
    }
    let scratch = Scratch::new()?;
    // What is evaluated and saved on the way changes no step.
    let plan = TrainingPlan {
        evaluate_every: 0,
        early_stopping_patience: None,
        checkpoint_every_steps: None,
        checkpoint_every_seconds: f64::MAX,
        ..setup.plan.clone()
    };
    let losses = RefCell::new(Vec::new());
    let mut sink = |event: &RunEvent| {
        if let RunEvent::Step(step) = event {
            losses.borrow_mut().push((step.step, step.loss));
        }
        ControlFlow::Continue(())
    };
    let mut request = || (losses.borrow().len() as u64 >= steps).then_some(Request::Pause);
    let job = TrainJob {
        base: &setup.base,
        plan: &plan,
        train: &setup.train,
        validation: &[],
        truncated: setup.truncated,
        directory: &scratch.0,
        run: "verify",
        name: "verify",
        dataset_hash: &setup.dataset_hash,
        data_bytes: setup.data_bytes,
        resume: false,
        changed: false,
        request: &mut request,
        questions: &mut || None,
        samples: None,
        peak_memory: crate::cli::memory::peak_memory,
        guard: GuardJob::default(),
    };
    engine.train(job, &mut sink)?;
    Ok(losses.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(directory: &Path, backend: &str) -> Segments {
        let plan = serde_json::json!({"seed": 1});
        let now = Segment {
            from_step: 0,
            reason: "started".to_owned(),
            program_version: "1".to_owned(),
            backend: backend.to_owned(),
            threads: 1,
            plan_sha256: sha256_of(&plan),
            plan,
        };
        Segments { directory: directory.to_owned(), now }
    }

    fn kept(directory: &Path) -> Vec<(u64, String)> {
        read_segments(directory).into_iter().map(|segment| (segment.from_step, segment.reason)).collect()
    }

    #[test]
    fn a_segment_begins_where_something_changed_and_nowhere_else() {
        let home = tempfile::tempdir().expect("a directory");
        let of = |list: &[(u64, &str)]| list.iter().map(|(at, why)| (*at, (*why).to_owned())).collect::<Vec<_>>();
        let mut first = segments(home.path(), "a");
        first.write(std::slice::from_ref(&first.now)).expect("written");
        first.receive(&RunEvent::Resumed { step: 3 }).expect("written");
        assert_eq!(kept(home.path()), of(&[(0, "started")]));
        segments(home.path(), "b").receive(&RunEvent::Resumed { step: 5 }).expect("written");
        assert_eq!(kept(home.path()), of(&[(0, "started"), (5, "resumed")]));
        // Back to before the change: it never happened.
        first.receive(&RunEvent::Resumed { step: 4 }).expect("written");
        assert_eq!(kept(home.path()), of(&[(0, "started")]));
        first.goes_on(2, "rewound").expect("written");
        first.receive(&RunEvent::Resumed { step: 2 }).expect("written");
        first.receive(&RunEvent::Resumed { step: 9 }).expect("written");
        assert_eq!(kept(home.path()), of(&[(0, "started"), (2, "rewound")]));
    }
}
