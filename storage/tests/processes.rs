//! G1, G16: several processes share one database and lose nothing, also when they are killed.
//!
//! The processes are this test program, started again with one of the tests named `process_…`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use peft_storage::{CommandKind, NewRun, RunFilter, RunLock, Start, Status, StepMetrics, Store};
use serde_json::json;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const HOME: &str = "PEFT_STORAGE_TEST_HOME";
const RUN: &str = "PEFT_STORAGE_TEST_RUN";
/// The test harness prints lines of its own.
const MARK: &str = "said: ";

fn start(name: &str, home: &Path, run: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(HOME, home)
        .env(RUN, run)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn given() -> (PathBuf, String) {
    (env::var_os(HOME).expect("started by a test").into(), env::var(RUN).unwrap())
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK}{what}").unwrap();
    out.flush().unwrap();
}

fn heard(line: &str) -> Option<&str> {
    line.strip_prefix(MARK)
}

fn next_said(output: &mut BufReader<ChildStdout>) -> String {
    output.lines().find_map(|line| heard(&line.unwrap()).map(str::to_owned)).expect("the process says something")
}

fn new_run(store: &Store, name: &str) -> String {
    let new = NewRun { name: name.to_owned(), ..NewRun::default() };
    store.create_run(&new).unwrap().to_string()
}

fn metrics(step: u64) -> StepMetrics {
    StepMetrics { step, tokens: 1, loss: step as f64, ..StepMetrics::default() }
}

#[test]
#[ignore = "one of the processes of g16_processes_share_the_database"]
fn process_hammers() {
    let (home, shared) = given();
    let (mut steps, mut pushed, mut taken) = (0, 0, 0);
    let mut store = Store::open(&home).unwrap();
    let run = new_run(&store, "hammer");
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        store.record_metrics(&run, &[metrics(steps + 1), metrics(steps + 2)], 1.0).unwrap();
        steps += 2;
        store.record_event(&shared, steps, "anomaly", &json!({})).unwrap();
        store.push_command(&shared, CommandKind::Snapshot, &json!({})).unwrap();
        pushed += 1;
        taken += store.take_commands(&shared).unwrap().len();
        store.record_checkpoint(&run, steps, Path::new("/x"), 1, true).unwrap();
        assert_eq!(store.metrics(&run).unwrap().len() as u64, steps);
        assert!(store.list_runs(&RunFilter::default()).unwrap().len() >= 2);
        if steps % 20 == 0 {
            store = Store::open(&home).unwrap();
        }
    }
    say(&format!("{run} {steps} {pushed} {taken}"));
}

#[test]
fn g16_processes_share_the_database() {
    let home = tempfile::tempdir().unwrap();
    // The database itself is created by whoever is first; the shared run needs it.
    let shared = new_run(&Store::open(home.path()).unwrap(), "shared");
    let mut children: Vec<_> = (0..4).map(|_| start("process_hammers", home.path(), &shared)).collect();
    let (mut pushed, mut taken) = (0, 0);
    let mut expected = Vec::new();
    for (child, output) in &mut children {
        let said = next_said(output);
        let words: Vec<&str> = said.split(' ').collect();
        expected.push((words[0].to_owned(), words[1].parse::<usize>().unwrap()));
        pushed += words[2].parse::<usize>().unwrap();
        taken += words[3].parse::<usize>().unwrap();
        assert!(child.wait().unwrap().success());
    }
    let store = Store::open(home.path()).unwrap();
    store.check().unwrap();
    for (run, steps) in expected {
        assert!(steps > 0);
        assert_eq!(store.metrics(&run).unwrap().len(), steps);
        assert_eq!(store.checkpoints(&run).unwrap().len() * 2, steps);
        assert_eq!(store.get_run(&run).unwrap().tokens, steps as u64);
    }
    assert_eq!(store.events(&shared, 0).unwrap().len(), pushed);
    assert_eq!(store.take_commands(&shared).unwrap().len() + taken, pushed);
}

#[test]
fn g16_many_may_create_the_database_at_the_same_time() {
    for _ in 0..5 {
        let home = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d", "e", "f"] {
                let home = home.path();
                scope.spawn(move || new_run(&Store::open(home).unwrap(), name));
            }
        });
        let store = Store::open(home.path()).unwrap();
        assert_eq!(store.list_runs(&RunFilter::default()).unwrap().len(), 6);
    }
}

#[test]
#[ignore = "the process of a_run_whose_process_was_killed_is_interrupted"]
fn process_works_on_a_run() {
    let (home, run) = given();
    let store = Store::open(&home).unwrap();
    let _lock = RunLock::take(&store.get_run(&run).unwrap().directory).unwrap();
    store.start_run(&run, &Start::default()).unwrap();
    say("started");
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
fn a_run_whose_process_was_killed_is_interrupted() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let run = new_run(&store, "long");
    let directory = store.get_run(&run).unwrap().directory;
    assert!(!RunLock::is_held(&directory));
    let with = |status| {
        let filter = RunFilter { status: Some(status), ..RunFilter::default() };
        store.list_runs(&filter).unwrap().len()
    };

    let (mut child, mut output) = start("process_works_on_a_run", home.path(), &run);
    assert_eq!(next_said(&mut output), "started");
    assert!(RunLock::is_held(&directory));
    assert_eq!(store.get_run(&run).unwrap().status, Status::Running);
    assert_eq!((with(Status::Running), with(Status::Interrupted)), (1, 0));
    let fault = RunLock::take(&directory).unwrap_err();
    assert_eq!(fault.code, "PS-RUN-002");
    if cfg!(unix) {
        let process = format!("Process {} ", child.id());
        assert!(fault.detail.starts_with(&process), "{}", fault.detail);
    }

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!RunLock::is_held(&directory));
    assert_eq!(store.get_run(&run).unwrap().status, Status::Interrupted);
    assert_eq!((with(Status::Running), with(Status::Interrupted)), (0, 1));

    // The next process takes over.
    let lock = RunLock::take(&directory).unwrap();
    assert_eq!(RunLock::take(&directory).unwrap_err().code, "PS-RUN-002");
    store.start_run(&run, &Start::default()).unwrap();
    assert_eq!(store.get_run("long").unwrap().status, Status::Running);
    drop(lock);
    assert_eq!(store.get_run("long").unwrap().status, Status::Interrupted);
}

#[test]
fn looking_at_a_lock_takes_it_from_nobody() {
    let home = tempfile::tempdir().unwrap();
    let end = Instant::now() + Duration::from_millis(400);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < end {
                    RunLock::is_held(home.path());
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        }
        let mut taken = 0;
        while Instant::now() < end {
            let lock = RunLock::take(home.path()).unwrap();
            assert!(RunLock::is_held(home.path()));
            assert_eq!(RunLock::holder(home.path()), Some(std::process::id()));
            drop(lock);
            taken += 1;
        }
        assert!(taken > 0);
    });
}

#[test]
#[ignore = "the process of g1_a_killed_process_loses_nothing_it_acknowledged"]
fn process_records_until_killed() {
    let (home, run) = given();
    let store = Store::open(&home).unwrap();
    let known = store.metrics(&run).unwrap().len() as u64;
    for step in known + 1.. {
        store.record_metrics(&run, &[metrics(step)], 1.0).unwrap();
        say(&step.to_string());
    }
}

#[test]
fn g1_a_killed_process_loses_nothing_it_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let run = new_run(&Store::open(home.path()).unwrap(), "killed");
    let mut acknowledged = 0;
    for round in 0..12 {
        let (mut child, mut output) = start("process_records_until_killed", home.path(), &run);
        next_said(&mut output);
        std::thread::sleep(Duration::from_micros(1700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in output.lines() {
            // The last line may have been cut off anywhere.
            let Ok(line) = line else { break };
            if let Some(step) = heard(&line).and_then(|step| step.parse::<usize>().ok()) {
                acknowledged = acknowledged.max(step);
            }
        }
        let store = Store::open(home.path()).unwrap();
        store.check().unwrap();
        let found = store.metrics(&run).unwrap();
        assert!(found.len() >= acknowledged, "{} of {acknowledged}", found.len());
        assert!(found.iter().enumerate().all(|(at, row)| row.step == at as u64 + 1));
        assert_eq!(store.get_run(&run).unwrap().tokens, found.len() as u64);
    }
    assert!(acknowledged >= 12, "{acknowledged}");
}
