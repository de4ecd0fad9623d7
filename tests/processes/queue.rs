//! Runs that wait for their turn (issue 5, item 10).

use crate::lone::{Lone, heard, json, reach, shown, story, wait_for, words};
use peft_tests::home::{Home, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const QUEUE: [&str; 2] = ["runs", "queue"];

fn add(home: &Home, name: &str, steps: u64) -> Value {
    json(home, &["runs", "queue", "add"], &words(home, name, steps))
}

/// A worker that is this test's own.
fn worker(home: &Home) -> Child {
    let mut command = home.command(&["runs", "queue", "start", "--foreground", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

/// Name and status of every turn that a worker told of, and how the worker ended.
fn turns(worker: Child) -> (Vec<(String, String)>, String) {
    let output = worker.wait_with_output().expect("ends");
    let (events, code) = heard(&output);
    assert_eq!(code, Some(0), "{}", text(&output.stderr));
    let word = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let turns = events.iter().filter(|event| event["event"] == "turn");
    let turns = turns.map(|event| (word(event, "name"), word(event, "status"))).collect();
    (turns, word(events.last().expect("an end"), "ended"))
}

fn names(home: &Home) -> Vec<String> {
    let queue = home.json(&["runs", "queue", "list"]);
    queue["queue"].as_array().expect("runs").iter().map(|run| run["name"].as_str().expect("text").to_owned()).collect()
}

/// The next checkpoint of a run that is at work has no place to go. Returns where those before it are.
fn bar_the_way(home: &Home, name: &str) -> PathBuf {
    let (way, saved) = (Path::new(&home.path(name)).join("checkpoints"), PathBuf::from(home.path("saved")));
    std::fs::rename(&way, &saved).expect("moved");
    // It may have made the folder again in the meantime.
    wait_for("a file in the way", || {
        let _absent = std::fs::remove_dir_all(&way);
        std::fs::write(&way, "in the way").ok()
    });
    saved
}

#[test]
fn the_queue_goes_on_after_runs_that_fail_and_two_workers_never_take_one_run() {
    let home = Home::new();
    assert_eq!(home.json(&["runs", "queue", "start"])["worker"], Value::Null, "nothing waits");
    for (place, name) in (1_u64..).zip(["a", "breaks", "refused", "removed", "last"]) {
        let mut words = words(&home, name, if name == "breaks" { 600 } else { 45 });
        if name == "refused" {
            // Its data will not be what it was.
            words[3] = home.write("changed.jsonl", std::fs::read(&words[3]).expect("rows"));
        }
        let added = json(&home, &["runs", "queue", "add"], &words);
        assert_eq!((&added["place"], &added["status"]), (&place.into(), &"queued".into()), "{added}");
    }
    assert_eq!(home.json(&["runs", "queue", "remove", "removed"])["name"], "removed");
    assert_eq!(shown(&home, "removed")["status"], "stopped");
    assert_eq!(home.fault(3, &["runs", "queue", "remove", "removed"])["code"], "PS-RUN-003");
    assert_eq!(home.fault(3, &["runs", "queue", "move", "nobody", "1"])["code"], "PS-RUN-001");
    home.json(&["runs", "queue", "move", "last", "1"]);
    assert_eq!(names(&home), ["last", "a", "breaks", "refused"]);
    assert_eq!(home.fault(3, &["runs", "attach", "a"])["code"], "PS-RUN-003", "nobody works on the queue");
    // A run whose model is not there does not even get in.
    let missing = ["--model".to_owned(), home.path("no-model"), "--data".to_owned(), home.path("rows.jsonl")];
    assert!(
        !home
            .run(&[&["runs", "queue", "add"][..], &missing.iter().map(String::as_str).collect::<Vec<_>>()].concat())
            .status
            .success()
    );
    home.write("changed.jsonl", [r#"{"instruction":"Say 1","output":"It is 1"}"#; 9].join("\n"));
    let (first, second) = (worker(&home), worker(&home));
    reach(&home, "breaks", 21);
    let saved = bar_the_way(&home, "breaks");
    let told = [turns(first), turns(second)];
    let (worked, idle) = if told[0].1 == "taken" { (&told[1], &told[0]) } else { (&told[0], &told[1]) };
    assert_eq!((idle.0.len(), idle.1.as_str()), (0, "taken"));
    let expected = [("last", "finished"), ("a", "finished"), ("breaks", "failed"), ("refused", "failed")];
    let worked: Vec<(&str, &str)> = worked.0.iter().map(|(name, status)| (name.as_str(), status.as_str())).collect();
    assert_eq!(worked, expected);
    assert!(names(&home).is_empty());
    let (broken, refused) = (shown(&home, "breaks"), shown(&home, "refused"));
    assert!(broken["steps"].as_u64() > Some(0), "it failed on its way: {broken}");
    assert_eq!(refused["error"]["error"]["code"], "PS-DATA-013");
    assert_eq!(home.fault(3, &["runs", "attach", "refused"])["code"], "PS-DATA-013");
    // What failed can wait again, and what was taken out as well.
    let way = Path::new(&home.path("breaks")).join("checkpoints");
    std::fs::remove_file(&way).expect("removed");
    std::fs::rename(saved, way).expect("moved back");
    for name in ["breaks", "removed"] {
        home.json(&["runs", "queue", "add", name]);
    }
    assert_eq!(home.fault(3, &["runs", "queue", "add", "a"])["code"], "PS-RUN-003", "it is finished");
    assert_eq!(home.fault(3, &["runs", "queue", "add", "breaks", "--rank", "4"])["code"], "PS-CFG-001");
    let (again, _) = turns(worker(&home));
    assert_eq!(again, [("breaks".to_owned(), "finished".to_owned()), ("removed".to_owned(), "finished".to_owned())]);
    assert!(home.json(&["runs", "queue", "list"])["worker"].is_null());
    assert!(text(&home.run(&[&QUEUE[..], &["list"]].concat()).stderr).contains("Nothing waits"));
}

#[test]
fn a_queue_whose_machine_went_down_goes_on_where_it_was() {
    let home = Home::new();
    add(&home, "first", 20_000);
    add(&home, "second", 45);
    let started = home.json(&["runs", "queue", "start"]);
    let worker_process = Lone::numbered(&started["worker"]);
    assert_eq!(home.json(&["runs", "queue", "start"])["worker"], started["worker"], "one lives already");
    reach(&home, "first", 25);
    // The worker alone: its run goes on, and the next worker waits for it.
    worker_process.kill();
    wait_for("the end of the worker", || home.json(&["runs", "queue", "list"])["worker"].is_null().then_some(()));
    assert_eq!(shown(&home, "first")["status"], "running");
    let next = home.json(&["runs", "queue", "start"]);
    let next_process = Lone::numbered(&next["worker"]);
    assert_eq!(home.fault(3, &["runs", "queue", "remove", "first"])["code"], "PS-RUN-003", "it is at work");
    assert_eq!(shown(&home, "second")["status"], "queued");
    // Now both, as a power cut would.
    let run = shown(&home, "first");
    next_process.kill();
    Lone::numbered(&run["pid"]).kill();
    wait_for("the end of both", || {
        let queue = home.json(&["runs", "queue", "list"]);
        (queue["worker"].is_null() && queue["queue"][0]["status"] == "interrupted").then_some(())
    });
    assert_eq!(names(&home), ["first", "second"], "nothing is lost");
    let last = worker(&home);
    // It is resumed, not started anew; then it is paused, and the queue goes on.
    wait_for("the first to go on", || (shown(&home, "first")["status"] == "running").then_some(()));
    wait_for("the request", || home.run(&["pause", "first"]).status.success().then_some(()));
    let (told, ended) = turns(last);
    assert_eq!(told, [("first".to_owned(), "paused".to_owned()), ("second".to_owned(), "finished".to_owned())]);
    assert_eq!(ended, "done");
    let story = story(&home, "first");
    let count = |kind: &str| story.iter().filter(|event| event["event"] == kind).count();
    assert_eq!(count("started"), 1);
    assert!(count("resumed") >= 1);
    let steps: Vec<u64> =
        story.iter().filter(|e| e["event"] == "step").filter_map(|event| event["step"].as_u64()).collect();
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>(), "each step is told once");
}

#[test]
fn a_stopped_queue_pauses_its_run_and_begins_no_other() {
    let home = Home::new();
    add(&home, "first", 20_000);
    let mut second = words(&home, "second", 45);
    second.push("--start".to_owned());
    let added = json(&home, &["runs", "queue", "add"], &second);
    let _worker = Lone::numbered(&added["worker"]);
    reach(&home, "first", 5);
    assert_eq!(home.json(&["runs", "queue", "stop", "--pause"])["worker"], added["worker"]);
    wait_for("the end of the worker", || home.json(&["runs", "queue", "list"])["worker"].is_null().then_some(()));
    assert_eq!(shown(&home, "first")["status"], "paused");
    assert_eq!(names(&home), ["second"], "its turn is over");
    assert_eq!(shown(&home, "second")["status"], "queued");
    assert!(home.json(&["runs", "queue", "stop"])["worker"].is_null());
    // A run that waits can be started by hand; the queue then has nothing left to do for it.
    assert_eq!(home.run(&["resume", "second", "--json"]).status.code(), Some(0));
    let (told, _) = turns(worker(&home));
    assert_eq!(told, [("second".to_owned(), "finished".to_owned())]);
    assert_eq!(shown(&home, "second")["version"], 1, "and it was trained once");
    home.json(&["runs", "queue", "add", "first"]);
    assert_eq!(home.run(&["stop", "first"]).status.code(), Some(0));
    assert!(names(&home).is_empty(), "what is stopped does not wait");
    assert_eq!(shown(&home, "first")["status"], "stopped");
}
