//! Four processes train on one store while others read and write it (issue 5: "no error, nothing lost").

use crate::lone::{MODEL, json, shown, words};
use peft_storage::Store;
use peft_tests::home::{Home, text};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

/// Commands that are tried all the time; whatever else they say, nobody is ever in anybody's way.
const COMMANDS: [&[&str]; 7] = [
    &["runs", "list"],
    &["runs", "show", "run-0"],
    &["runs", "queue", "list"],
    &["runs", "queue", "move", "waits", "1"],
    &["runs", "snapshot", "run-1"],
    &["notifications", "set", "sound", "off"],
    &["notifications", "set", "sound", "on"],
];

/// Four trainings of `steps` steps one after the other in each of four threads until `time` is over, and two threads
/// of commands. Returns runs and commands.
fn share(home: &Home, steps: u64, time: Duration) -> (usize, usize) {
    json(home, &["runs", "queue", "add"], &words(home, "waits", 5));
    let begun = Instant::now();
    let (is_over, runs, commands) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let train = |thread: usize| {
        loop {
            let name = format!("run-{thread}");
            let out = format!("{name}-{}", runs.fetch_add(1, Ordering::SeqCst));
            let mut words = words(home, &out, steps);
            let at = words.iter().position(|word| *word == out).expect("its name");
            words[at] = name;
            let arguments: Vec<&str> =
                ["train", "--json"].into_iter().chain(words.iter().map(String::as_str)).collect();
            let output = home.command(&arguments).stderr(Stdio::piped()).output().expect("starts");
            assert_eq!(output.status.code(), Some(0), "{out}: {}", text(&output.stderr));
            let told = text(&output.stdout).lines().filter(|line| line.contains(r#""event":"step""#)).count() as u64;
            assert_eq!(told, steps, "{out}");
            if begun.elapsed() >= time {
                return;
            }
        }
    };
    let command = || {
        for arguments in COMMANDS.iter().cycle() {
            let output = home.run(&[*arguments, &["--json"]].concat());
            let stderr = text(&output.stderr);
            // A run may not be there yet, or be over: that is an answer.
            let answers = output.status.success() || stderr.contains("PS-RUN-001") || stderr.contains("PS-RUN-003");
            assert!(answers, "{arguments:?}: {stderr}");
            commands.fetch_add(1, Ordering::SeqCst);
            if is_over.load(Ordering::SeqCst) {
                return;
            }
        }
    };
    scope(|threads| {
        let trainings: Vec<_> = (0..4).map(|thread| threads.spawn(move || train(thread))).collect();
        let others = [threads.spawn(command), threads.spawn(command)];
        let trained: Vec<_> = trainings.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::SeqCst);
        let commanded = others.map(std::thread::ScopedJoinHandle::join);
        assert!(trained.iter().chain(&commanded).all(Result::is_ok), "see above");
    });
    let runs = runs.into_inner();
    nothing_is_lost(home, runs, steps);
    (runs, commands.into_inner())
}

fn nothing_is_lost(home: &Home, runs: usize, steps: u64) {
    let store = Store::open(Path::new(&home.path("home"))).expect("a store");
    store.check().expect("whole");
    let listed = home.json(&["runs", "list", "--status", "finished"]);
    let listed = listed["runs"].as_array().expect("runs");
    assert_eq!(listed.len(), runs);
    let mut versions: Vec<u64> = listed.iter().filter_map(|run| run["version"].as_u64()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=runs as u64).collect::<Vec<_>>(), "each has its own version");
    for run in listed {
        let metrics = store.metrics(run["id"].as_str().expect("an id")).expect("metrics");
        assert_eq!(metrics.len() as u64, steps, "{run}");
    }
    let waits = shown(home, "waits");
    assert_eq!(waits["status"], "queued");
    let place: Vec<Value> = home.json(&["runs", "queue", "list"])["queue"].as_array().expect("runs").clone();
    assert_eq!(place.len(), 1);
    assert!(Path::new(MODEL).is_dir());
}

#[test]
fn four_processes_train_on_one_store_and_nobody_is_in_the_way() {
    share(&Home::new(), 60, Duration::ZERO);
}

#[test]
#[ignore = "a campaign of five minutes"]
fn four_processes_share_one_store_for_five_minutes() {
    let (runs, commands) = share(&Home::new(), 400, Duration::from_mins(5));
    let _told = writeln!(std::io::stderr(), "{runs} runs and {commands} commands");
}
