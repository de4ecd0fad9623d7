//! A run that outlives whoever started it (issue 5, item 12).

use crate::lone::{Lone, adapter, detach, heard, json, reach, shown, signal, story, wait_for, words};
use peft_tests::home::{Home, text};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

fn follow(home: &Home, run: &str, from: &str) -> std::process::Child {
    let mut command = home.command(&["runs", "attach", run, "--from", from, "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

#[test]
fn two_follow_a_detached_run_one_leaves_and_it_is_paused_with_what_it_took_s4_13_5() {
    let home = Home::new();
    let (launched, _process) = detach(&home, "r", 20_000);
    let id = launched["run"].as_str().expect("an id");
    assert_eq!(launched["directory"], home.path("r"));
    assert_eq!(launched["status"], "running", "{launched}");
    assert!(Path::new(launched["log"].as_str().expect("a log")).is_file());
    let (first, second) = (follow(&home, id, "start"), follow(&home, "r", "30"));
    reach(&home, "r", 40);
    // Ctrl-C at one who follows is no business of the run.
    signal("-INT", first.id());
    let (events, code) = heard(&first.wait_with_output().expect("ends"));
    assert_eq!(code, Some(130));
    assert_eq!(events.last().expect("told")["event"], "detached");
    assert_eq!(events[0]["event"], "started");
    assert!(events.iter().any(|event| event["event"] == "step" && event["step"] == 1));
    assert_eq!(shown(&home, "r")["status"], "running");
    assert_eq!(home.json(&["pause", "r"])["requested"], "pause");
    let (events, code) = heard(&second.wait_with_output().expect("ends"));
    assert_eq!(code, Some(0), "a pause that was asked for is no failure");
    assert_eq!(events.last().expect("told")["event"], "paused");
    let told = story(&home, "r");
    let from_there: Vec<&Value> = told.iter().filter(|e| e["step"].as_u64().is_none_or(|step| step >= 30)).collect();
    assert_eq!(events.iter().collect::<Vec<_>>(), from_there, "what is followed is what the run told");

    let run = shown(&home, "r");
    assert_eq!(run["status"], "paused");
    let standing = &run["standing"];
    assert_eq!(standing["resumes_after_step"], run["steps"], "{standing}");
    assert!(standing["elapsed_seconds"].as_f64() > Some(0.0), "{standing}");
    let left = |name: &str| standing["remaining_seconds"][name].as_f64().expect("a number");
    assert!(left("low") > 0.0 && left("low") <= left("expected") && left("expected") <= left("high"), "{standing}");
    assert!(standing["memory_bytes"].as_u64() > Some(1_000_000), "{standing}");
    assert!(standing["disk_bytes"].as_u64() > Some(1000), "{standing}");
    assert_eq!(standing["actions"][0]["command"], format!("peft-studio resume {id}"));
    let people = text(&home.run(&["runs", "show", "r"]).stdout);
    for word in ["so far", "left", "of memory", "on the disk", "peft-studio resume"] {
        assert!(people.contains(word), "{word}: {people}");
    }
    // Who follows a run that halted hears its story, and from a process that has nothing to say nothing.
    let (again, code) = heard(&follow(&home, "r", "start").wait_with_output().expect("ends"));
    assert_eq!((again.len(), code), (told.len(), Some(0)));
    let (nothing, code) = heard(&follow(&home, "r", "now").wait_with_output().expect("ends"));
    assert_eq!((nothing.len(), code), (0, Some(0)));
    assert_eq!(home.run(&["runs", "attach", "r", "--from", "later"]).status.code(), Some(2));
    assert_eq!(home.fault(3, &["runs", "attach", "nobody"])["code"], "PS-RUN-001");
}

#[test]
fn a_killed_process_costs_only_its_run_which_goes_on_to_the_same_bytes() {
    let home = Home::new();
    let whole = json(&home, &["train", "--detach"], &words(&home, "whole", 600));
    let _whole = Lone::of(&whole);
    let (launched, process) = detach(&home, "killed", 600);
    let follower = follow(&home, "killed", "start");
    reach(&home, "killed", 45);
    process.kill();
    let output = follower.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let fault: Value = serde_json::from_str(text(&output.stderr).trim()).expect("one document");
    assert_eq!(fault["error"]["code"], "PS-RUN-006", "{fault}");
    let id = launched["run"].as_str().expect("an id");
    assert_eq!(fault["error"]["actions"][0]["command"], format!("peft-studio resume {id}"));
    let run = shown(&home, "killed");
    assert_eq!(run["status"], "interrupted", "by its lock, not by what the dead process wrote");
    assert_eq!(run["standing"]["actions"][0]["command"], format!("peft-studio resume {id}"));
    let resumed = home.json(&["resume", "killed", "--detach"]);
    let _resumed = Lone::of(&resumed);
    assert_eq!(resumed["run"], launched["run"]);
    for name in ["killed", "whole"] {
        let output = follow(&home, name, "now").wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        wait_for("the end", || (shown(&home, name)["status"] == "finished").then_some(()));
    }
    assert!(adapter(&home, "killed") == adapter(&home, "whole"), "the adapters differ");
    let steps = |name| story(&home, name).iter().filter(|event| event["event"] == "step").count();
    assert_eq!((steps("killed"), steps("whole")), (600, 600));
    // A finished run has nothing left to do, detached or not.
    let output = home.run(&["resume", "killed", "--detach"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn what_is_wrong_is_said_before_anything_is_left_behind() {
    let home = Home::new();
    let mut bad = words(&home, "r", 5);
    bad[3] = home.path("nothing.jsonl");
    let output = home.run(&[&["train", "--detach"][..], &bad.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let (launched, _process) = detach(&home, "r", 20_000);
    let again = home.fault(1, &["resume", "r", "--detach"]);
    assert_eq!(again["code"], "PS-RUN-002", "the fault of the other process is the fault of this one: {again}");
    assert_eq!(home.json(&["stop", "r"])["requested"], "stop");
    let (_, code) =
        heard(&follow(&home, launched["run"].as_str().expect("id"), "now").wait_with_output().expect("ends"));
    assert_eq!(code, Some(0));
    assert_eq!(shown(&home, "r")["status"], "stopped");
    assert_eq!(home.json(&["runs", "list"])["runs"].as_array().expect("runs").len(), 1);
}
