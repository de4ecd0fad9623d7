//! Chains that run, stop, and go on.

use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// Clean, train, measure, export, with what must come from outside.
fn chain(home: &Home, name: &str) -> String {
    let rows: Vec<String> = (0..8).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is {n}"}}"#)).collect();
    home.write("rows.jsonl", rows.join("\n"));
    let document = json!({
        "schema": "peft-studio/pipeline", "version": 1, "variables": {"STEPS": 2},
        "steps": [
            {"name": "clean", "command": "convert", "arguments": ["${RAW}"],
             "options": {"to": "messages", "out": "clean.jsonl", "validation_split": 0.25}},
            {"name": "train", "command": "train",
             "options": {"model": "starter", "data": "clean.jsonl", "set": ["training.max_steps=${STEPS}"], "threads": 1}},
            {"name": "measure", "command": "evaluate",
             "options": {"run": "${train.run}", "data": "clean.validation.jsonl", "threads": 1}},
            {"name": "export", "command": "export", "arguments": ["${train.run}"],
             "options": {"to": "merged", "out": "merged"}}]});
    home.write(name, document.to_string())
}

fn events(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Names of the steps with this event.
fn steps<'a>(events: &'a [Value], event: &str) -> Vec<&'a str> {
    events.iter().filter(|e| e["event"] == event).filter_map(|e| e["step"].as_str()).collect()
}

#[test]
fn a_whole_chain_runs_headless_and_only_what_changed_runs_again_s1_28() {
    let home = Home::new();
    let file = chain(&home, "chain.json");
    home.write(".env", "# values\nRAW=rows.jsonl\nHF_TOKEN=hf_secretsecretsecret\n");
    let checked = home.json(&["pipeline", &file, "--check"]);
    assert_eq!(checked["steps"].as_array().map(Vec::len), Some(4));
    assert!(!Path::new(&home.path("clean.jsonl")).exists(), "a check starts nothing");

    let first = home.run(&["pipeline", &file, "--json"]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let first = events(&first);
    assert_eq!(steps(&first, "step_finished"), ["clean", "train", "measure", "export"]);
    let measured = first.iter().find(|e| e["event"] == "step_finished" && e["step"] == "measure").expect("measured");
    assert!(measured["result"]["tuned"]["loss"].is_number() || measured["result"]["loss"].is_number(), "{measured}");
    assert_eq!(first.last().expect("events")["event"], "pipeline_finished");
    assert!(Path::new(&home.path("merged")).join("config.json").is_file());

    let again = events(&home.run(&["pipeline", &file, "--json"]));
    assert_eq!(steps(&again, "step_skipped"), ["clean", "train", "measure", "export"]);
    assert!(steps(&again, "step_started").is_empty());
    assert_eq!(home.json(&["runs", "list"])["runs"].as_array().map(Vec::len), Some(1));

    // Another value of the environment, another result that is gone, another file: what depends on it runs again.
    fs::remove_dir_all(home.path("merged")).expect("removed");
    let exported = events(&home.run(&["pipeline", &file, "--json"]));
    assert_eq!(steps(&exported, "step_started"), ["export"]);
    let changed = home.command(&["pipeline", &file, "--json", "--check"]).env("STEPS", "3").output().expect("starts");
    let done: Vec<bool> =
        events(&changed)[0]["steps"].as_array().expect("steps").iter().map(|s| s["done"] == true).collect();
    assert_eq!(done, [true, false, false, false]);
    home.write("rows.jsonl", r#"{"question":"New","answer":"Data"}"#);
    let changed = home.json(&["pipeline", &file, "--check"]);
    assert!(changed["steps"].as_array().expect("steps").iter().all(|s| s["done"] == false), "{changed}");

    // The secret is nowhere.
    let mut kept = Vec::new();
    everything(Path::new(&home.path("home")), &mut kept);
    assert!(!kept.windows(18).any(|bytes| bytes == b"hf_secretsecretsec"));
}

fn everything(folder: &Path, kept: &mut Vec<u8>) {
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        if entry.path().is_dir() {
            everything(&entry.path(), kept);
        } else {
            kept.extend(fs::read(entry.path()).expect("readable"));
        }
    }
}

#[test]
fn a_chain_goes_on_at_the_step_that_failed_s4_10_5() {
    let home = Home::new();
    let rows = home.write("rows.jsonl", r#"{"question":"a","answer":"b"}"#);
    let broken = home.write("held-out.jsonl", "{\"question\":\n");
    let file = home.write(
        "chain.json",
        json!({"schema": "peft-studio/pipeline", "steps": [
            {"name": "clean", "command": "data convert", "arguments": [rows], "options": {"to": "messages", "out": "clean.jsonl"}},
            {"name": "look", "command": "data inspect", "arguments": ["clean.jsonl"]},
            {"name": "measure", "command": "evaluate", "options": {"model": "starter", "data": broken, "threads": 1}}]})
        .to_string(),
    );
    let failed = home.run(&["pipeline", &file, "--json"]);
    let stderr = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(3), "{stderr}");
    let error: Value = serde_json::from_str(stderr.lines().last().expect("an error")).expect("JSON");
    assert!(error["error"]["code"].as_str().is_some_and(|code| code.starts_with("PS-DATA-")), "{error}");
    assert!(error["error"]["detail"].as_str().is_some_and(|detail| detail.starts_with("Step `measure`")), "{error}");
    assert_eq!(steps(&events(&failed), "step_failed"), ["measure"]);
    home.write("held-out.jsonl", r#"{"question":"a","answer":"b"}"#);
    let again = home.run(&["pipeline", &file, "--json"]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    let again = events(&again);
    assert_eq!(
        (steps(&again, "step_skipped"), steps(&again, "step_started")),
        (vec!["clean", "look"], vec!["measure"])
    );
    let all = events(&home.run(&["pipeline", &file, "--json", "--restart"]));
    assert_eq!(steps(&all, "step_finished"), ["clean", "look", "measure"]);
}

#[cfg(unix)]
#[test]
fn interrupted_training_goes_on_as_the_same_run() {
    let home = Home::new();
    let rows: Vec<String> = (0..40).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is {n}"}}"#)).collect();
    home.write("rows.jsonl", rows.join("\n"));
    let file = home.write(
        "chain.json",
        json!({"schema": "peft-studio/pipeline", "steps": [
            {"command": "train", "options": {"model": "starter", "data": "rows.jsonl", "threads": 1,
             "set": ["training.max_steps=${STEPS}", "training.gradient_accumulation=8"]}}]})
        .to_string(),
    );
    let arguments = ["pipeline", file.as_str(), "--json"];
    let mut command = home.command(&arguments);
    let mut child =
        command.env("STEPS", "40").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    // Ctrl-C once the run is known.
    let begun = Instant::now();
    while home.json(&["runs", "list"])["runs"]
        .as_array()
        .is_none_or(|runs| runs.iter().all(|r| r["status"] != "running"))
    {
        assert!(begun.elapsed() < Duration::from_mins(1), "the run does not begin");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(500));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill starts").success());
    let first = child.wait().expect("it ends");
    assert_eq!(first.code(), Some(130));
    let runs = home.json(&["runs", "list"]);
    assert_eq!(runs["runs"][0]["status"], "paused", "{runs}");
    let id = runs["runs"][0]["id"].as_str().expect("an id").to_owned();
    let again = home.command(&arguments).env("STEPS", "40").output().expect("starts");
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    let again = events(&again);
    let started = again.iter().find(|event| event["event"] == "step_started").expect("started");
    assert_eq!(started["resumed_run"], id.as_str(), "{started}");
    assert_eq!(home.json(&["runs", "list"])["runs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_chain_begins_with_labels_of_a_local_teacher_and_ends_with_a_measurement_s1_28() {
    let home = Home::new();
    let rows: Vec<String> =
        (0..6).map(|n| format!(r#"{{"system_hint":"Answer shortly.","user":"When does shop {n} open?"}}"#)).collect();
    home.write("questions.jsonl", rows.join("\n"));
    let document = json!({
        "schema": "peft-studio/pipeline", "version": 1,
        "steps": [
            {"name": "label", "command": "label", "arguments": ["questions.jsonl"],
             "options": {"out": "labelled.jsonl", "teacher": "starter", "max_new_tokens": 8, "threads": 1}},
            {"name": "train", "command": "train",
             "options": {"model": "starter", "data": "labelled.jsonl", "set": ["training.max_steps=2"], "threads": 1}},
            {"name": "evaluate", "command": "evaluate",
             "options": {"run": "${train.run}", "data": "labelled.jsonl", "threads": 1}},
            {"name": "export", "command": "export", "arguments": ["${train.run}"],
             "options": {"to": "gguf", "quant": "q8_0", "out": "gguf"}},
            {"name": "bench", "command": "bench generate",
             "options": {"model": "starter", "generate": 4, "repeats": 1, "prompt_tokens": 8, "threads": 1}}]});
    let file = home.write("whole.json", document.to_string());
    let output = home.run(&["pipeline", &file, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = events(&output);
    assert_eq!(steps(&told, "step_finished"), ["label", "train", "evaluate", "export", "bench"]);
    let labelled = fs::read_to_string(home.path("labelled.jsonl")).expect("written");
    assert_eq!(labelled.lines().count(), 6);
    let files: Vec<_> = fs::read_dir(home.path("gguf")).expect("exported").flatten().collect();
    assert!(files.iter().any(|file| file.path().extension().is_some_and(|ending| ending == "gguf")));
}
