//! A run of a tiny model that remembers everything a run can, and what it leaves behind.

use peft_tests::home::{Home, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/gemma3/model");

/// Everything that could carry something from step to step: dropout, DoRA, accumulation, packing, evaluation.
const SETTINGS: [&str; 9] = [
    "adapter.method=dora",
    "adapter.dropout=0.2",
    "adapter.rank=4",
    "training.packing=true",
    "training.max_sequence_length=64",
    "training.micro_batch_size=1",
    "training.gradient_accumulation=2",
    "dataset.validation_split=0.2",
    "checkpoint.every_seconds=1e6",
];

/// What `train` is told for the run `name`. Its data is written, if it is not there.
pub(crate) fn words(home: &Home, name: &str, steps: u64, checkpoint_every: u64) -> Vec<String> {
    let data = home.path("rows.jsonl");
    if !Path::new(&data).exists() {
        let row = |n| format!(r#"{{"instruction":"Say {n}","output":"It is {n} and not {}"}}"#, n + 1);
        home.write("rows.jsonl", (0..30).map(row).collect::<Vec<_>>().join("\n"));
    }
    let own = [
        format!("training.max_steps={steps}"),
        format!("checkpoint.every_steps={checkpoint_every}"),
        format!("evaluation.every_steps={}", checkpoint_every * 3),
    ];
    let mut words: Vec<String> =
        ["train", "--model", MODEL, "--data", &data, "--name", name, "--out", &home.path(name)]
            .map(String::from)
            .into();
    for setting in SETTINGS.iter().map(ToString::to_string).chain(own) {
        words.extend(["--set".to_owned(), setting]);
    }
    words.extend(["--json", "--threads", "2"].map(String::from));
    words
}

/// `words` as arguments.
pub(crate) fn as_given(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Exit code and stderr of a command that runs to its end.
pub(crate) fn ended(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("starts");
    (output.status.code(), text(&output.stderr))
}

/// Train to the end without trouble.
pub(crate) fn undisturbed(home: &Home, name: &str, steps: u64, checkpoint_every: u64) -> Legacy {
    let (code, stderr) = ended(home.command(&as_given(&words(home, name, steps, checkpoint_every))));
    assert_eq!(code, Some(0), "{stderr}");
    let legacy = Legacy::of(home, name);
    assert_eq!(legacy.steps.iter().map(|s| s.0).collect::<Vec<_>>(), (1..=steps).collect::<Vec<_>>());
    assert_eq!(story(home, name).last().expect("events")["event"], "finished", "the story has its end");
    legacy
}

/// `resume` that ends in a fault: events go to stdout, and the fault to stderr as everywhere.
pub(crate) fn refused(home: &Home, exit: i32, name: &str) -> Value {
    let output = home.run(&["resume", name, "--json"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{stderr}");
    let document: Value = serde_json::from_str(&stderr).expect("one JSON document on stderr");
    let told: Option<Value> = text(&output.stdout).lines().last().map(|line| serde_json::from_str(line).expect("JSON"));
    if let Some(told) = told {
        assert_eq!((&told["event"], &told["error"]), (&"failed".into(), &document["error"]));
    }
    assert_ne!(home.json(&["runs", "show", name])["status"], "running");
    document["error"].clone()
}

/// `resume` to the end.
pub(crate) fn resumed(home: &Home, name: &str) {
    let (code, stderr) = ended(home.command(&["resume", name, "--json"]));
    assert_eq!(code, Some(0), "{stderr}");
}

/// What a finished run leaves: all of it must be the same, however often it was disturbed.
#[derive(Debug, PartialEq)]
pub(crate) struct Legacy {
    adapter: Vec<u8>,
    /// Step and loss of every step in `events.jsonl`.
    pub(crate) steps: Vec<(u64, f64)>,
    /// The same of every evaluation.
    evaluations: Vec<(u64, f64)>,
    /// What the store holds of every step and evaluation, without times.
    stored: Vec<Value>,
    /// Fields of the run that do not depend on time.
    run: Vec<Value>,
}

impl Legacy {
    pub(crate) fn of(home: &Home, name: &str) -> Self {
        let story = story(home, name);
        let of_kind = |kind: &str| {
            let events = story.iter().filter(|event| event["event"] == kind);
            events.map(|e| (e["step"].as_u64().expect("a step"), e["loss"].as_f64().expect("a loss"))).collect()
        };
        let run = home.json(&["runs", "show", name]);
        let rows = ["metrics", "evaluations"].iter().flat_map(|field| run[*field].as_array().expect("rows").clone());
        let timeless = rows.map(|mut row| {
            for field in ["tokens_per_second", "memory_bytes", "time", "at", "created"] {
                row.as_object_mut().expect("an object").remove(field);
            }
            row
        });
        Self {
            adapter: adapter(home, name),
            steps: of_kind("step"),
            evaluations: of_kind("evaluation"),
            stored: timeless.collect(),
            run: ["status", "steps", "total_steps", "loss", "validation_loss", "tokens"].map(|f| run[f].clone()).into(),
        }
    }

    /// Like `assert_eq`, without thousands of bytes on the screen.
    pub(crate) fn must_be(&self, other: &Self, context: &str) {
        assert!(self.adapter == other.adapter, "{context}: the adapters differ");
        assert_eq!(self.steps, other.steps, "{context}");
        assert_eq!(self.evaluations, other.evaluations, "{context}");
        assert_eq!(steps_of(&self.stored), steps_of(&other.stored), "{context}: in the store");
        assert!(self.stored == other.stored, "{context}: the store tells other numbers");
        assert_eq!(self.run, other.run, "{context}");
    }
}

fn steps_of(rows: &[Value]) -> Vec<Option<u64>> {
    rows.iter().map(|row| row["step"].as_u64()).collect()
}

/// Every event of the run's own file.
pub(crate) fn story(home: &Home, name: &str) -> Vec<Value> {
    let file = std::fs::read_to_string(Path::new(&home.path(name)).join("events.jsonl")).expect("events");
    file.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

pub(crate) fn adapter(home: &Home, name: &str) -> Vec<u8> {
    std::fs::read(Path::new(&home.path(name)).join("adapter/adapter_model.safetensors")).expect("an adapter")
}

/// Folders of the full states of a run, the newest first.
pub(crate) fn checkpoints(home: &Home, name: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(home.path(name)).join("checkpoints");
    let run = peft_models::train::checkpoint::steps(Path::new(&home.path(name)));
    run.iter().map(|step| folder.join(format!("step-{step}"))).collect()
}

/// The database is whole, as SQLite sees it.
pub(crate) fn database_is_whole(home: &Home) {
    let database = rusqlite::Connection::open(home.path("home/studio.sqlite")).expect("opens");
    let one = |pragma: &str| database.query_row(pragma, [], |row| row.get::<_, String>(0));
    assert_eq!(one("PRAGMA integrity_check").expect("an answer"), "ok");
    assert!(matches!(one("PRAGMA foreign_key_check"), Err(rusqlite::Error::QueryReturnedNoRows)));
}

/// A training process whose events are read as they come.
pub(crate) struct Live {
    pub(crate) process: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Live {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let events = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, events }
    }

    fn event(&mut self) -> Option<Value> {
        let line = self.events.next()?.expect("readable");
        Some(serde_json::from_str(&line).expect("every line is JSON"))
    }

    /// Read until an event of this kind about `step` or a later one.
    pub(crate) fn reach(&mut self, kind: &str, step: u64) {
        while let Some(event) = self.event() {
            if event["event"] == kind && event["step"].as_u64().unwrap_or(0) >= step {
                return;
            }
        }
        panic!("the run ended before {kind} {step}");
    }

    /// `kill -9`
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("dead");
    }

    /// Wait for the end: the exit code, and what stderr says.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        while self.event().is_some() {}
        let output = self.process.wait_with_output().expect("ends");
        (output.status.code(), text(&output.stderr))
    }
}
