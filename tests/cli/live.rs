//! Runs that are killed, interrupted and paused from outside, with the real program.

use peft_tests::home::{Home, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

/// A model of a few thousand weights: a step takes milliseconds.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/qwen2/model");

/// A training process whose events are read as they come.
struct Live {
    process: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Live {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(&[arguments, &["--json", "--threads", "1"]].concat());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let events = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, events }
    }

    fn train(home: &Home, name: &str) -> Self {
        let rows: Vec<String> =
            (0..20).map(|n| format!(r#"{{"instruction":"Say {n}","output":"It is {n}"}}"#)).collect();
        let data = home.write("live.jsonl", rows.join("\n"));
        let out = home.path(name);
        let set = |text: &'static str| ["--set", text];
        let settings = [
            set("training.max_steps=400"),
            set("checkpoint.every_steps=40"),
            set("evaluation.every_steps=25"),
            set("dataset.validation_split=0.2"),
        ];
        let arguments = ["train", "--model", MODEL, "--data", &data, "--name", name, "--out", &out];
        Self::start(home, &[&arguments[..], settings.as_flattened()].concat())
    }

    fn event(&mut self) -> Option<Value> {
        let line = self.events.next()?.expect("readable");
        Some(serde_json::from_str(&line).expect("every line is JSON"))
    }

    /// Read until `step` is done.
    fn reach(&mut self, step: u64) {
        while let Some(event) = self.event() {
            if event["event"] == "step" && event["step"].as_u64() >= Some(step) {
                return;
            }
        }
        panic!("the run ended before step {step}");
    }

    /// Wait for the end: the exit code, and what stderr says.
    fn end(mut self) -> (Option<i32>, String) {
        while self.event().is_some() {}
        let output = self.process.wait_with_output().expect("ends");
        (output.status.code(), text(&output.stderr))
    }
}

/// Step and loss of every event of this kind in the run's own file.
fn story(home: &Home, name: &str, kind: &str) -> Vec<(u64, Option<f64>)> {
    let file = std::fs::read_to_string(Path::new(&home.path(name)).join("events.jsonl")).expect("events");
    let events = file.lines().map(|line| serde_json::from_str::<Value>(line).expect("every line is JSON"));
    let of_kind = events.filter(|event| event["event"] == kind);
    of_kind.map(|event| (event["step"].as_u64().unwrap_or(0), event["loss"].as_f64())).collect()
}

fn adapter(home: &Home, name: &str) -> Vec<u8> {
    std::fs::read(Path::new(&home.path(name)).join("adapter/adapter_model.safetensors")).expect("an adapter")
}

#[test]
fn a_killed_run_resumes_and_tells_the_story_of_one_that_was_not() {
    let home = Home::new();
    let (code, stderr) = Live::train(&home, "whole").end();
    assert_eq!(code, Some(0), "{stderr}");
    let mut live = Live::train(&home, "killed");
    live.reach(110);
    live.process.kill().expect("killed");
    live.process.wait().expect("dead");
    let run = home.json(&["runs", "show", "killed"]);
    assert_eq!(run["status"], "interrupted", "{run}");
    let (code, stderr) = Live::start(&home, &["resume", "killed"]).end();
    assert_eq!(code, Some(0), "{stderr}");
    for kind in ["step", "evaluation", "checkpoint"] {
        assert_eq!(story(&home, "killed", kind), story(&home, "whole", kind), "{kind}");
    }
    assert_eq!(story(&home, "killed", "step").len(), 400);
    assert!(adapter(&home, "killed") == adapter(&home, "whole"), "the adapters differ");
    let (whole, killed) = (home.json(&["runs", "show", "whole"]), home.json(&["runs", "show", "killed"]));
    for field in ["status", "steps", "total_steps", "loss", "validation_loss", "tokens", "evaluations"] {
        assert_eq!(whole[field], killed[field], "{field}");
    }
    assert_eq!((&whole["version"], &killed["version"]), (&1.into(), &2.into()));
    assert_eq!(home.run(&["resume", "whole"]).status.code(), Some(0), "nothing is left to do");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_exits_with_130_and_other_processes_can_pause_and_stop() {
    let home = Home::new();
    let mut live = Live::train(&home, "r");
    live.reach(5);
    let id = live.process.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("starts").success());
    let (code, stderr) = live.end();
    assert_eq!(code, Some(130), "{stderr}");
    let run = home.json(&["runs", "show", "r"]);
    assert_eq!(run["status"], "paused");
    assert_eq!(run["checkpoints"][0]["step"], run["steps"], "{run}");

    let mut live = Live::start(&home, &["resume", "r"]);
    live.reach(run["steps"].as_u64().expect("steps") + 2);
    assert_eq!(home.json(&["pause", "r"])["requested"], "pause");
    assert_eq!(live.end().0, Some(0));
    assert_eq!(home.json(&["runs", "show", "r"])["status"], "paused");
    assert_eq!(home.fault(3, &["pause", "r"])["code"], "PS-RUN-003");

    let mut live = Live::start(&home, &["resume", "r"]);
    live.reach(run["steps"].as_u64().expect("steps") + 4);
    assert_eq!(home.fault(1, &["resume", "r"])["code"], "PS-RUN-002");
    assert_eq!(home.json(&["stop", "r"])["requested"], "stop");
    assert_eq!(live.end().0, Some(0));
    let run = home.json(&["runs", "show", "r"]);
    assert_eq!(run["status"], "stopped");
    assert!(!adapter(&home, "r").is_empty());
    let steps: Vec<u64> = story(&home, "r", "step").iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..=run["steps"].as_u64().expect("steps")).collect::<Vec<_>>());
}
