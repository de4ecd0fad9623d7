//! Runs as they look while they train and when they broke, without training: their rows in the store and their events.

use peft_plan::{Evaluation, Fault, GpuReading, Interval, Reading, RunEvent, StepMetrics};
use peft_storage::{NewRun, Outcome, RunLock, Status, Store};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// One step of a long run.
pub(crate) fn step(step: u64) -> RunEvent {
    let noise = f64::from((step as u32).wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
    RunEvent::Step(StepMetrics {
        step,
        epoch: step as f64 / 50_000.0,
        tokens: 512,
        eta_seconds: Interval { low: 50.0, expected: 60.0, high: 70.0 },
        preference: None,
        loss: 2.0 * (-(step as f64) / 30_000.0).exp() + 0.3 * noise,
        gradient_norm: 1.0 + noise,
        learning_rate: 2e-4,
        tokens_per_second: 900.0 + 100.0 * noise,
        memory_bytes: 1 << 30,
    })
}

/// What a machine with a graphics card is doing.
fn reading() -> RunEvent {
    let card = GpuReading {
        utilization: Some(97.0),
        memory_used_bytes: Some(9 << 30),
        memory_bytes: Some(12 << 30),
        temperature_celsius: Some(71.0),
        power_watts: Some(188.0),
    };
    RunEvent::Hardware(Reading {
        cpu_utilization: 43.0,
        ram_used_bytes: 11 << 30,
        ram_available_bytes: 5 << 30,
        gpus: vec![card],
        ..Reading::default()
    })
}

/// `events` as a run writes them.
pub(crate) fn lines(events: impl IntoIterator<Item = RunEvent>) -> String {
    let mut text = String::new();
    for event in events {
        writeln!(text, "{}", serde_json::to_string(&event).expect("plain data")).expect("memory");
    }
    text
}

/// Everything that `steps` steps said.
pub(crate) fn events(steps: u64) -> String {
    let mut all = Vec::new();
    for at in 1..=steps {
        all.push(step(at));
        if at % (steps / 50).max(1) == 0 {
            let (loss, perplexity, token_accuracy) = (1.0, std::f64::consts::E, 0.5);
            all.push(RunEvent::Evaluation(Evaluation { step: at, loss, perplexity, token_accuracy, preference: None }));
        }
    }
    all.push(reading());
    lines(all)
}

/// A run in the store below `home` that somebody is at work on: its id, its folder, and the lock that says so.
pub(crate) fn live(home: &Path, name: &str, said: &str) -> (String, PathBuf, RunLock) {
    let store = Store::open(home).expect("a store");
    let id = store.create_run(&NewRun { name: name.to_owned(), ..NewRun::default() }).expect("a run");
    store.update_status(&id, Status::Running).expect("changed");
    let folder = store.get_run(&id).expect("just made").directory;
    std::fs::create_dir_all(&folder).expect("created");
    let lock = RunLock::take(&folder).expect("free");
    std::fs::write(folder.join("events.jsonl"), said).expect("written");
    (id.to_string(), folder, lock)
}

/// More that a run says.
pub(crate) fn say(folder: &Path, event: RunEvent) {
    let file = std::fs::OpenOptions::new().append(true).open(folder.join("events.jsonl"));
    file.expect("there").write_all(lines([event]).as_bytes()).expect("written");
}

/// A run that broke.
pub(crate) fn broken(home: &Path) -> String {
    let store = Store::open(home).expect("a store");
    let id = store.create_run(&NewRun { name: "broken".to_owned(), ..NewRun::default() }).expect("a run");
    let fault = Fault::new("PS-DISK-002", "The disk is full: 12 MB are needed, 3 MB are free. Nothing is lost");
    let error = serde_json::json!({ "code": fault.code, "detail": fault.detail, "actions": fault.shown_actions() });
    let (loss, validation_loss, quality_score) = (Some(1.5), None, None);
    let status = Status::Failed;
    let outcome =
        Outcome { status, last_step: 40, seconds: 12.0, loss, validation_loss, quality_score, error: Some(error) };
    store.finish(&id, &outcome).expect("kept");
    let folder = store.get_run(&id).expect("just made").directory;
    std::fs::create_dir_all(&folder).expect("created");
    let strange = RunEvent::anomaly(
        30,
        "divergence",
        "The loss climbed from 1.2 to 4.8 within ten steps".to_owned(),
        "The run was halted".to_owned(),
    );
    std::fs::write(folder.join("events.jsonl"), events(40) + &lines([strange])).expect("written");
    id.to_string()
}
