//! Start a run or go on with one, recorded in the store from its first to its last event.

use super::answer::Wording;
use super::facts::machine;
use super::hardware::free_space;
use super::receipt::{self, Segments};
use super::setup::{Setup, prepare};
use super::{disk, live};
use crate::cli::context::Context;
use crate::cli::memory::{memory_reading, peak_memory};
use crate::cli::{interrupt, output, progress};
use peft_models::engine::{Engine, TrainJob, Workload, memory_plan, trainable_parameters};
use peft_models::train::{GuardJob, Request, RunOutcome, Samples};
use peft_plan::config::TensorboardPlace;
use peft_plan::{Fault, MemoryPlan, Result, RunConfig, RunEvent, SamplePlan, TrainingPlan};
use peft_storage::{CommandKind, NewRun, Outcome, Run, RunLock, Start, Status, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What `train` asks for.
pub struct RunRequest {
    /// The configuration.
    pub config: RunConfig,
    /// The run's directory; default: one under the data directory.
    pub out: Option<PathBuf>,
}

/// How a run ended, with its place.
pub struct RunEnd {
    /// Its record.
    pub run: Run,
    /// How.
    pub outcome: RunOutcome,
}

/// A file in the run's directory that says which run it is.
const MARKER: &str = "run.json";

/// A run that is recorded and that nobody has begun to work on.
pub(crate) struct Created {
    pub(crate) store: Store,
    pub(crate) run: Run,
    setup: Setup,
    engine: Engine,
    is_new_folder: bool,
}

impl Created {
    /// As if it had never been asked for.
    pub(crate) fn forget(&self) {
        forget(&self.store, &self.run, self.is_new_folder);
    }
}

/// Train from the beginning.
pub fn start(context: &Context, request: RunRequest) -> Result<RunEnd> {
    let created = create(context, request)?;
    let Created { store, run, setup, engine, .. } = &created;
    let end = execute(context, engine, store, run, setup, Begin::Fresh, None);
    if end.is_err() && !has_begun(store, run) {
        created.forget();
    }
    end
}

/// Check everything that can be checked before a run begins, and record the run.
pub(crate) fn create(context: &Context, request: RunRequest) -> Result<Created> {
    let RunRequest { mut config, out } = request;
    peft_plan::resolve::check(&config)?;
    super::sources::pin(&mut config)?;
    absolute_paths(&mut config)?;
    let setup = prepare(&config, context, None)?;
    config = setup.config.clone();
    let engine = Engine::open(&context.backend, context.threads)?.with_arithmetic(setup.plan.arithmetic);
    for note in &setup.notes {
        output::note(note);
    }
    check_memory(context, &config, &setup)?;
    let place = out.as_deref().unwrap_or(&context.data_dir);
    check_disk(place, &setup).map_err(|fault| disk::with_remedy(context, fault))?;
    disk::warn_if_short(context, place);
    let out = out.map(|p| std::path::absolute(&p).map_err(|e| Fault::io("find", &p, e))).transpose()?;
    if let Some(dir) = &out {
        check_free(dir)?;
    }
    let is_new_folder = out.as_ref().is_none_or(|dir| !dir.exists());
    let store = context.store()?;
    let name = config.name.clone().unwrap_or_else(|| default_name(&config));
    config.name = Some(name.clone());
    let plan = serde_json::to_value(&setup.plan).expect("a plan is plain data");
    let id = store.create_run(&NewRun {
        name,
        directory: out,
        config: config.to_value(),
        plan,
        dataset_hash: Some(setup.dataset_hash.clone()),
        base_hash: Some(setup.base.checkpoint().hash().to_owned()),
        project: None,
        total_steps: setup.plan.total_steps,
    })?;
    let run = store.get_run(id.as_str())?;
    durable::create_directories(&run.directory).map_err(|e| Fault::io("create", &run.directory, e))?;
    let created = Created { store, run, setup, engine, is_new_folder };
    if let Err(fault) = write_marker(&created.run, &config) {
        created.forget();
        return Err(fault);
    }
    Ok(created)
}

/// Whether anybody was told that the run began. Where nobody can say, it did.
pub(crate) fn has_begun(store: &Store, run: &Run) -> bool {
    store.events(run.id.as_str(), 0).map_or(true, |events| events.iter().any(|event| event.kind == "started"))
}

/// A run that was refused before it began is no run: its folder can be named again. What cannot be removed stays.
pub(crate) fn forget(store: &Store, run: &Run, is_new_folder: bool) {
    for name in [MARKER, "events.jsonl", "run.lock", super::background::LOG] {
        let _removed = std::fs::remove_file(run.directory.join(name));
    }
    if is_new_folder {
        // Only where it is empty.
        let _removed = std::fs::remove_dir(&run.directory);
    }
    let _forgotten = store.delete_run(run.id.as_str());
}

/// What is different from where a run goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResumeChanges {
    /// Settings, as `key=value`.
    pub set: Vec<String>,
    /// Rows that are no longer trained on: numbers counted from 1, or `FILE:LINE`.
    pub exclude_rows: Vec<String>,
    /// Go back to the newest checkpoint that is not after this step.
    pub rewind_to: Option<u64>,
    /// Whether this process shows notifications, where that was said. It changes nothing about the run.
    pub notify: Option<bool>,
}

impl ResumeChanges {
    pub(crate) fn is_none(&self) -> bool {
        self.set.is_empty() && self.exclude_rows.is_empty() && self.rewind_to.is_none()
    }
}

/// Go on with a run. A finished run is left as it is, unless it is to go back.
pub fn resume(context: &Context, id_or_name: &str, changes: &ResumeChanges) -> Result<Option<RunEnd>> {
    let store = context.store()?;
    let run = find(&store, id_or_name)?;
    if matches!(run.status, Status::Finished) && changes.rewind_to.is_none() {
        progress::tell_the_end(&store, &run)?;
        if changes.is_none() {
            return Ok(None);
        }
        return Err(Fault::new(
            "PS-CFG-001",
            "The run is finished; to change something about it, say which step it is to go back to",
        )
        .action("Go back to its beginning", Some(format!("peft-studio resume {} --rewind-to 0", run.id))));
    }
    let mut config = RunConfig::from_value(run.config.clone())?;
    let mut frozen = frozen_plan(&run)?;
    if !changes.set.is_empty() {
        for change in &changes.set {
            config.set(change)?;
        }
        // Whatever was not changed stays as it was, also where today's default would differ.
        let fresh = prepare(&config, context, None)?.plan;
        let mut guards = fresh.guards.clone();
        guards.exclude_rows.extend(&frozen.guards.exclude_rows);
        frozen = TrainingPlan { threads: frozen.threads, guards, ..fresh };
    }
    config.guards.exclude_rows.extend(changes.exclude_rows.iter().cloned());
    let setup = prepare(&config, context, Some(frozen))?;
    if run.dataset_hash.as_deref().is_some_and(|hash| hash != setup.dataset_hash) && changes.is_none() {
        return Err(Fault::new(
            "PS-DATA-013",
            "The training data is not the same as when this run started, so it cannot go on where it was",
        ));
    }
    let engine = Engine::open(&context.backend, setup.plan.threads)?.with_arithmetic(setup.plan.arithmetic);
    let begin = match run.status {
        Status::Queued => Begin::Fresh,
        _ if changes.is_none() => Begin::Resume,
        _ => Begin::Change(changes.rewind_to),
    };
    let run = if changes.is_none() { run } else { remember(&store, &run, &config, &setup.dataset_hash)? };
    execute(context, &engine, &store, &run, &setup, begin, changes.notify).map(Some)
}

/// A run that goes on otherwise is from now on described as it goes on, in the store and in its folder.
fn remember(store: &Store, run: &Run, config: &RunConfig, dataset_hash: &str) -> Result<Run> {
    let _lock = RunLock::take(&run.directory)?;
    store.change_config(run.id.as_str(), &config.to_value(), dataset_hash)?;
    write_marker(run, config)?;
    store.get_run(run.id.as_str())
}

fn write_marker(run: &Run, config: &RunConfig) -> Result<()> {
    let marker = run.directory.join(MARKER);
    let text = serde_json::to_vec_pretty(&json!({"run": run.id, "config": config.to_value()})).expect("plain data");
    durable::write_file(&marker, &text).map(drop).map_err(|e| Fault::io("write", &marker, e))
}

/// End a run that no process works on: its adapter is written from its newest checkpoint.
pub fn stop(context: &Context, run: &Run) -> Result<RunEnd> {
    let store = context.store()?;
    let config = RunConfig::from_value(run.config.clone())?;
    let frozen = frozen_plan(run)?;
    let setup = prepare(&config, context, Some(frozen))?;
    let engine = Engine::open(&context.backend, setup.plan.threads)?.with_arithmetic(setup.plan.arithmetic);
    execute(context, &engine, &store, run, &setup, Begin::Stop, Some(false))
}

fn frozen_plan(run: &Run) -> Result<TrainingPlan> {
    serde_json::from_value(run.plan.clone()).map_err(|e| {
        Fault::new("PS-CKPT-002", "The settings that this run was started with cannot be read").caused_by(e)
    })
}

/// How a process takes up a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Fresh,
    Resume,
    /// With other settings from here on, or from an earlier step.
    Change(Option<u64>),
    /// Only to write the adapter of the newest checkpoint.
    Stop,
}

/// A run by id, name, or its directory.
pub fn find(store: &Store, id_or_name: &str) -> Result<Run> {
    let marker = Path::new(id_or_name).join(MARKER);
    if let Ok(text) = std::fs::read(&marker)
        && let Ok(value) = serde_json::from_slice::<Value>(&text)
        && let Some(id) = value["run"].as_str()
    {
        return store.get_run(id);
    }
    store.get_run(id_or_name)
}

fn execute(
    context: &Context,
    engine: &Engine,
    store: &Store,
    run: &Run,
    setup: &Setup,
    begin: Begin,
    notify: Option<bool>,
) -> Result<RunEnd> {
    let _lock = RunLock::take(&run.directory)?;
    if begin == Begin::Fresh && store.get_run(run.id.as_str())?.status != Status::Queued {
        return Err(Fault::new("PS-RUN-002", "Another process has taken up this run in the meantime."));
    }
    // Requests to an earlier process are not for this one.
    store.take_commands(run.id.as_str())?;
    store.start_run(
        run.id.as_str(),
        &Start {
            total_steps: setup.plan.total_steps,
            backend: engine.backend().to_owned(),
            device: engine.fingerprint(),
            plan: Some(serde_json::to_value(&setup.plan).expect("a plan is plain data")),
        },
    )?;
    interrupt::install();
    let config = RunConfig::from_value(run.config.clone())?;
    let dataset = &config.dataset;
    let wording = Wording::new(&setup.base, dataset.chat_template.as_deref(), dataset.system_prompt.as_deref())?;
    let inbox = RefCell::new(Inbox { last_look: Instant::now(), requests: VecDeque::new(), asked: VecDeque::new() });
    let mut request = || {
        if begin == Begin::Stop {
            return Some(Request::Stop);
        }
        if interrupt::requested() {
            return Some(Request::Interrupt);
        }
        inbox.borrow_mut().look(store, run.id.as_str());
        inbox.borrow_mut().requests.pop_front()
    };
    let full = setup.plan.method == peft_plan::Method::Full;
    let mut questions = || {
        loop {
            let payload = inbox.borrow_mut().asked.pop_front()?;
            if let Some(question) = live::question(&wording, &run.directory, full, &payload) {
                return Some(question);
            }
        }
    };
    let place = |row: u32| setup.places.of(row);
    let guard = GuardJob {
        place: Some(&place),
        memory: Some(memory_reading),
        rewind_to: if let Begin::Change(step) = begin { step } else { None },
    };
    let mut sink = progress::for_run(context, store, run, &setup.plan)?;
    sink.also(Box::new(Segments::new(&run.directory, engine, &setup.plan)));
    let wish = notify.or(config.logging.notify);
    if let Some(notices) = super::notices::follow(store, &run.name, wish, setup.plan.total_steps) {
        sink.also(Box::new(notices));
    }
    let monitor = sink.watch();
    let job = TrainJob {
        base: &setup.base,
        plan: &setup.plan,
        train: &setup.train,
        validation: &setup.validation,
        truncated: setup.truncated,
        directory: &run.directory,
        run: run.id.as_str(),
        name: &run.name,
        dataset_hash: &setup.dataset_hash,
        data_bytes: setup.data_bytes,
        resume: begin != Begin::Fresh,
        changed: matches!(begin, Begin::Change(_)),
        request: &mut request,
        questions: &mut questions,
        samples: Some(Samples {
            prompts: &setup.samples,
            tokens: SamplePlan::of_config(&config.evaluation, setup.validation.len()).tokens,
            stop_ids: wording.stop_ids(),
            tokenizer: setup.base.tokenizer(),
        }),
        peak_memory,
        guard,
    };
    let result = engine.train(job, &mut sink);
    drop(monitor);
    // However it ended, this is what it took.
    let peak = engine.card_bytes().unwrap_or_else(peak_memory);
    let measured = store.record_memory(run.id.as_str(), None, Some(peak));
    let result = result.and_then(|outcome| measured.map(|()| outcome));
    if let (Ok(RunOutcome::Finished(end)), Some(known), Begin::Fresh) = (&result, &setup.facts, begin) {
        super::plan::learn(context, &setup.plan, known, &engine.fingerprint(), end.seconds);
    }
    let summary = sink.finish();
    // A run whose events cannot be written was asked to halt; the reason is what people need to hear.
    let result = sink.take_fault().map_or(result, Err);
    let mut end = Outcome {
        status: Status::Failed,
        last_step: summary.step,
        seconds: summary.seconds,
        loss: summary.loss,
        validation_loss: summary.validation_loss,
        quality_score: None,
        error: None,
    };
    match result {
        Ok(outcome) => {
            end.status = match &outcome {
                RunOutcome::Finished(f) => {
                    end.last_step = f.step;
                    end.seconds = f.seconds;
                    // The recorder has written the score, which is computed from the whole story.
                    end.quality_score = store.get_run(run.id.as_str())?.quality_score;
                    Status::Finished
                }
                RunOutcome::Paused(_) | RunOutcome::Interrupted(_) | RunOutcome::Halted(_) => Status::Paused,
                RunOutcome::Stopped(_) => Status::Stopped,
            };
            store.finish(run.id.as_str(), &end)?;
            if matches!(end.status, Status::Finished | Status::Stopped) {
                let word = if end.status == Status::Finished { "finished" } else { "stopped" };
                // What was trained is there whether or not its receipt is.
                if let Err(fault) = receipt::write(store, run, setup, word) {
                    output::note(&format!("The run has no receipt: {}", fault.detail));
                }
            }
            Ok(RunEnd { run: store.get_run(run.id.as_str())?, outcome })
        }
        Err(fault) => {
            end.error = Some(crate::cli::error::to_json(&fault));
            sink.failed(&RunEvent::Failed { error: crate::cli::error::to_json(&fault)["error"].clone() });
            // Where the reason cannot be recorded, as on a full disk, it is still what people need to hear.
            let _recorded = store.finish(run.id.as_str(), &end);
            Err(fault)
        }
    }
}

/// What other processes ask of this run.
struct Inbox {
    last_look: Instant,
    requests: VecDeque<Request>,
    asked: VecDeque<Value>,
}

impl Inbox {
    /// A look at the store costs a fraction of a millisecond; twenty a second are quick enough for a person.
    fn look(&mut self, store: &Store, run: &str) {
        if self.last_look.elapsed() < Duration::from_millis(50) {
            return;
        }
        self.last_look = Instant::now();
        for command in store.take_commands(run).unwrap_or_default() {
            match command.kind {
                CommandKind::Pause => self.requests.push_back(Request::Pause),
                CommandKind::Stop => self.requests.push_back(Request::Stop),
                CommandKind::Answer => self.asked.push_back(command.payload),
                CommandKind::Evaluate => self.requests.push_back(Request::Evaluate),
                CommandKind::Snapshot => self.requests.push_back(Request::Snapshot),
            }
        }
    }
}

/// Refuse a run whose planned peak is beyond the share of the memory that it may use, the card's where one computes.
fn check_memory(context: &Context, config: &RunConfig, setup: &Setup) -> Result<()> {
    let fraction = config.guards.memory_limit_fraction.unwrap_or(0.9);
    let machine = machine(context);
    let work = Workload::of(&setup.plan, &setup.train, &setup.validation, setup.data_bytes)
        .on_card(machine.card.then_some(machine.beside));
    let need = memory_plan(&setup.base, &setup.plan, &work)?;
    let budget = (machine.memory_bytes as f64 * fraction) as u64;
    too_large(&need, budget).map_or(Ok(()), Err)
}

/// PS-MEM-001 where a plan needs more than it may use, with its largest parts.
pub fn too_large(need: &MemoryPlan, budget: u64) -> Option<Fault> {
    if need.total_bytes <= budget {
        return None;
    }
    let mut largest = need.items.clone();
    largest.sort_by_key(|item| std::cmp::Reverse(item.bytes));
    let top: Vec<String> = largest.iter().take(3).map(|i| format!("{} {}", i.name, output::bytes(i.bytes))).collect();
    Some(Fault::new(
        "PS-MEM-001",
        format!(
            "The run needs about {} and may use {}; the largest parts are {}",
            output::bytes(need.total_bytes),
            output::bytes(budget),
            top.join(", ")
        ),
    ))
}

/// PS-DISK-001 where a run would fill the disk.
pub fn disk_too_small(need: u64, free: u64) -> Option<Fault> {
    (need > free).then(|| {
        let detail = format!(
            "The run needs about {} on disk for its states and its result, and {} is free",
            output::bytes(need),
            output::bytes(free)
        );
        Fault::new("PS-DISK-001", detail)
    })
}

/// Refuse a run whose states and result would not fit on the disk they go to.
fn check_disk(directory: &Path, setup: &Setup) -> Result<()> {
    let trained = trainable_parameters(setup.base.spec(), &setup.plan)?;
    let need = peft_plan::estimate::disk_bytes(&setup.plan, trained, setup.base.checkpoint().total_bytes(), 1);
    disk_too_small(need, free_space(directory)?).map_or(Ok(()), Err)
}

/// Refuse a directory that another run lives in, so that nothing is lost.
fn check_free(dir: &Path) -> Result<()> {
    if dir.join(MARKER).exists() || dir.join("checkpoints").exists() {
        return Err(Fault::new("PS-CFG-001", format!("`{}` already holds a run", dir.display()))
            .action("Choose another folder", Some("--out DIR".to_owned()))
            .action("Go on with the run that is there", Some(format!("peft-studio resume {}", dir.display()))));
    }
    Ok(())
}

/// A run must not depend on the directory it was started from.
pub(super) fn absolute_paths(config: &mut RunConfig) -> Result<()> {
    let absolute = |path: &str| {
        std::path::absolute(path).map(|p| p.display().to_string()).map_err(|e| Fault::io("find", Path::new(path), e))
    };
    let dataset = &mut config.dataset;
    for path in dataset.path.iter_mut().chain(dataset.sources.iter_mut().filter_map(|s| s.path.as_mut())) {
        *path = absolute(path)?;
    }
    if let Some(id) = &mut config.model.id
        && Path::new(id.as_str()).is_dir()
        && id != super::model::STARTER
    {
        *id = absolute(id)?;
    }
    if let Some(dir) = &mut config.adapter.init_from {
        *dir = absolute(dir)?;
    }
    if let Some(TensorboardPlace::Folder(dir)) = &mut config.logging.tensorboard {
        *dir = absolute(dir)?;
    }
    if let Some(template) = &mut config.dataset.chat_template
        && Path::new(template.as_str()).is_file()
    {
        *template = absolute(template)?;
    }
    Ok(())
}

pub(super) fn default_name(config: &RunConfig) -> String {
    let stem =
        |text: &str| Path::new(text).file_stem().map_or_else(|| text.to_owned(), |s| s.to_string_lossy().into_owned());
    let data = config.dataset_paths().first().map(|p| stem(p)).unwrap_or_default();
    let model = config.model.id.as_deref().map(|m| m.rsplit('/').next().unwrap_or(m).to_owned()).unwrap_or_default();
    format!("{data} on {model}")
}

#[cfg(test)]
mod tests {
    use super::disk_too_small;

    #[test]
    fn a_run_that_would_fill_the_disk_is_refused_with_both_sizes() {
        assert!(disk_too_small(5, 5).is_none());
        let fault = disk_too_small(6_000_000_000, 2_000_000_000).expect("refused");
        assert_eq!((fault.code, fault.entry().exit), ("PS-DISK-001", 4));
        assert!(fault.detail.contains("6.0 GB") && fault.detail.contains("2.0 GB"), "{}", fault.detail);
    }
}
