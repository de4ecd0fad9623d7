//! Processes that nobody is the parent of, and how to wait for them.

use peft_tests::home::{Home, text};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A model of a few thousand weights: a step takes milliseconds.
pub(crate) const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/qwen2/model");

/// What a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_mins(2);

/// A process that is ended with the test, whatever becomes of the test.
pub(crate) struct Lone(u32);

impl Lone {
    /// The process of a document of `--detach`.
    pub(crate) fn of(launched: &Value) -> Self {
        Self(launched["process"].as_u64().expect("a process") as u32)
    }

    /// The process with this number.
    pub(crate) fn numbered(number: &Value) -> Self {
        Self(number.as_u64().expect("a process") as u32)
    }

    /// As the system does when memory is short.
    pub(crate) fn kill(&self) {
        signal("-KILL", self.0);
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal; whether anybody was there to get it does not matter.
pub(crate) fn signal(name: &str, process: u32) {
    let _gone = Command::new("kill").args([name, &process.to_string()]).stderr(Stdio::null()).status();
}

/// The words of a run of `steps` steps called `name`, in a folder of that name.
pub(crate) fn words(home: &Home, name: &str, steps: u64) -> Vec<String> {
    let rows: Vec<String> = (0..20).map(|n| format!(r#"{{"instruction":"Say {n}","output":"It is {n}"}}"#)).collect();
    let data = home.path("rows.jsonl");
    // Others may be reading it.
    if !Path::new(&data).exists() {
        home.write("rows.jsonl", rows.join("\n"));
    }
    let out = home.path(name);
    let mut words = ["--model", MODEL, "--data", &data, "--name", name, "--out", &out, "--threads", "1"].to_vec();
    let settings = [
        format!("training.max_steps={steps}"),
        "checkpoint.every_steps=20".to_owned(),
        "dataset.validation_split=0.2".to_owned(),
        "evaluation.every_steps=1000".to_owned(),
    ];
    for setting in &settings {
        words.extend(["--set", setting]);
    }
    words.into_iter().map(str::to_owned).collect()
}

/// Run a command that is followed by these words.
pub(crate) fn json(home: &Home, command: &[&str], words: &[String]) -> Value {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    home.json(&[command, &words].concat())
}

/// Starts a run in a process of its own.
pub(crate) fn detach(home: &Home, name: &str, steps: u64) -> (Value, Lone) {
    let launched = json(home, &["train", "--detach"], &words(home, name, steps));
    let process = Lone::of(&launched);
    (launched, process)
}

/// Waits until `what` is there.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        sleep(Duration::from_millis(50));
    }
}

/// Waits until a run has done so many steps, by its own file.
pub(crate) fn reach(home: &Home, name: &str, step: u64) {
    wait_for(&format!("step {step} of {name}"), || {
        let done = story(home, name).iter().rev().find_map(|event| event["step"].as_u64());
        done.filter(|done| *done >= step)
    });
}

/// The whole lines of the file of a run.
pub(crate) fn story(home: &Home, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(&home.path(name)).join("events.jsonl")).unwrap_or_default();
    text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
}

/// What the run with this name says about itself.
pub(crate) fn shown(home: &Home, name: &str) -> Value {
    home.json(&["runs", "show", name])
}

/// The result of a run.
pub(crate) fn adapter(home: &Home, name: &str) -> Vec<u8> {
    std::fs::read(Path::new(&home.path(name)).join("adapter/adapter_model.safetensors")).expect("an adapter")
}

/// The events that a process printed, and its exit code.
pub(crate) fn heard(output: &Output) -> (Vec<Value>, Option<i32>) {
    let line = |line: &str| serde_json::from_str(line).expect("every line is JSON");
    (text(&output.stdout).lines().map(line).collect(), output.status.code())
}
