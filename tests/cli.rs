//! The command line as a script meets it: exit codes, streams, fields.

#[path = "cli/live.rs"]
mod live;

use peft_tests::home::{Home, text};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

#[test]
fn wrong_usage_exits_with_2_and_says_why_on_stderr() {
    let home = Home::new();
    let cases: &[&[&str]] = &[
        &["trian"],
        &["train"],
        &["train", "--model", "starter"],
        &["train", "--model", "starter", "--data", "a", "--rank", "none"],
        &["data"],
        &["data", "inspect"],
        &["data", "convert", "a", "--to", "parquet", "--out", "b"],
        &["hardware", "--backend", "abacus"],
        &["runs", "list", "--sort", "colour"],
        &["completions", "tcsh"],
        &["chat"],
    ];
    for arguments in cases {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    let hint = text(&home.run(&["trian"]).stderr);
    assert!(hint.contains("train"), "{hint}");
}

#[test]
fn help_and_version_are_results() {
    let home = Home::new();
    for arguments in [&["--help"][..], &["--version"], &["train", "--help"], &["data", "convert", "-h"], &[]] {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
    let help = text(&home.run(&["train", "--help"]).stdout);
    assert!(help.contains("Example"), "{help}");
    assert!(!text(&home.run(&["--help"]).stdout).contains("starter  "), "hidden commands are not listed");
    assert!(text(&home.run(&[]).stdout).contains("peft-studio quickstart"));
}

#[test]
fn faults_have_their_exit_code_and_the_same_words_for_people_and_scripts_s4_10_1() {
    let home = Home::new();
    let missing = home.path("none.jsonl");
    let error = home.fault(3, &["data", "inspect", &missing]);
    assert_eq!(error["code"], "PS-FILE-001");
    assert!(error["detail"].as_str().expect("text").contains("none.jsonl"), "{error}");
    assert_eq!(error["help"], "help/#ps-file-001");
    assert_eq!(home.fault(3, &["runs", "show", "nobody"])["code"], "PS-RUN-001");
    assert_eq!(home.fault(3, &["pause", "nobody"])["code"], "PS-RUN-001");
    assert_eq!(home.fault(4, &["hardware", "--backend", "cuda:1"])["code"], "PS-HW-001");
    let broken = home.write("broken.jsonl", "{\"text\": \"a\"}\n\u{0}\u{1}\u{2}");
    assert!(home.fault(3, &["data", "inspect", &broken])["code"].as_str().expect("text").starts_with("PS-DATA-"));
}

#[test]
fn technical_causes_are_for_those_who_ask() {
    let home = Home::new();
    let arguments = ["data", "inspect", &home.path("none.jsonl")];
    let asked = home.command(&arguments).env("RUST_BACKTRACE", "1").output().expect("starts");
    assert!(text(&asked.stderr).contains("caused by"), "{}", text(&asked.stderr));
    assert!(!text(&home.run(&arguments).stderr).contains("caused by"));
}

#[test]
fn completions_are_scripts_for_four_shells() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = home.run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        assert!(script.contains("quickstart") && script.contains("peft-studio"), "{shell}");
        assert!(output.stderr.is_empty(), "{shell}");
    }
}

#[test]
fn hardware_has_its_fields_and_leaves_no_traces() {
    let home = Home::new();
    let hardware = home.json(&["hardware"]);
    assert!(hardware["gpus"].is_array());
    assert!(hardware["cpu"]["model"].as_str().is_some_and(|model| !model.is_empty()), "{hardware}");
    assert!(hardware["cpu"]["cores"].as_u64().is_some_and(|cores| cores > 0), "{hardware}");
    assert!(hardware["cpu"]["features"].is_array(), "{hardware}");
    assert!(hardware["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 24), "{hardware}");
    assert!(hardware["disk_free_bytes"].is_u64(), "{hardware}");
    assert_eq!(hardware["backend"]["chosen"], "cpu");
    assert!(hardware["backend"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{hardware}");
    assert!(!Path::new(&home.path("home")).exists());
    let shown = text(&home.run(&["hardware", "--threads", "3"]).stdout);
    assert!(shown.contains("with 3 threads"), "{shown}");
}

/// One question and answer in every container.
fn containers(home: &Home) -> Vec<(&'static str, String)> {
    let rows = |line: fn(usize) -> String, between: &str| (1..=3).map(line).collect::<Vec<_>>().join(between);
    let json: fn(usize) -> String = |n| format!(r#"{{"instruction":"Question {n}?","output":"Answer {n}."}}"#);
    vec![
        ("jsonl", home.write("a.jsonl", rows(json, "\n"))),
        ("json", home.write("a.json", format!("[{}]", rows(json, ",\n")))),
        ("csv", home.write("a.csv", format!("question,answer\n{}\n", rows(|n| format!("Q {n}?,\"A, {n}\""), "\n")))),
        ("tsv", home.write("a.tsv", format!("question\tanswer\n{}\n", rows(|n| format!("Q {n}?\tA {n}"), "\n")))),
        ("text", home.write("a.txt", rows(|n| format!("A paragraph about number {n}."), "\n\n"))),
        ("markdown", home.write("a.md", format!("# Title\n\n{}\n", rows(|n| format!("Paragraph {n}."), "\n\n")))),
    ]
}

#[test]
fn inspection_recognises_every_container_s4_4_1_s4_4_2() {
    let home = Home::new();
    for (format, path) in containers(&home) {
        let report = home.json(&["data", "inspect", &path]);
        let file = &report["files"][0];
        assert_eq!(file["format"], format, "{report}");
        assert!(Path::new(file["path"].as_str().expect("text")).is_absolute());
        assert!(file["rows"].as_u64().is_some_and(|rows| rows > 0), "{report}");
        for field in ["shape", "confidence", "columns", "encoding"] {
            assert!(!file[field].is_null(), "{format} has no {field}: {report}");
        }
        assert!(report["score"].as_u64().is_some_and(|score| score <= 100), "{report}");
        let issue = report["issues"].as_array().and_then(|issues| issues.first()).expect("three rows are few");
        for field in ["code", "severity", "count", "message", "examples", "fix"] {
            assert!(issue.get(field).is_some(), "an issue has no {field}: {issue}");
        }
        let preview = &report["preview"][0];
        assert!(preview["messages"].is_array(), "{preview}");
        assert!(preview.get("tokens").is_some_and(Value::is_null), "{preview}");
        assert!(preview.get("trained_tokens").is_some_and(Value::is_null), "{preview}");
        let shown = text(&home.run(&["data", "inspect", &path]).stdout);
        assert!(shown.contains("Quality") && shown.contains("What helps"), "{shown}");
    }
}

#[test]
fn inspection_takes_named_columns_and_several_files() {
    let home = Home::new();
    let odd = home.write("odd.csv", "foo,bar\nfirst,second\n");
    assert_eq!(home.fault(3, &["data", "inspect", &odd])["code"], "PS-DATA-003");
    let report = home.json(&["data", "inspect", &odd, &odd, "--columns", "user=foo,assistant=bar"]);
    assert_eq!(report["files"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["preview"][0]["messages"][1]["content"], "second");
}

#[test]
fn a_preview_counts_tokens_as_the_model_does() {
    let home = Home::new();
    let path = home.write("a.jsonl", r#"{"prompt":"Hi","completion":"Hello"}"#);
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/qwen2/model");
    let report = home.json(&["data", "inspect", &path, "--model", model]);
    let preview = &report["preview"][0];
    let (tokens, trained) = (preview["tokens"].as_u64(), preview["trained_tokens"].as_u64());
    assert!(trained > Some(0) && trained < tokens, "{preview}");
    let missing = home.path("no-model");
    assert_eq!(home.fault(3, &["data", "inspect", &path, "--model", &missing])["code"], "PS-MODEL-001");
}

#[test]
fn a_preview_cannot_steer_the_terminal() {
    let home = Home::new();
    let path = home.write("a.jsonl", r#"{"prompt":"clear \u001b[2J it","completion":"\u001b]0;title\u0007"}"#);
    let output = home.run(&["data", "inspect", &path]);
    assert_eq!(output.status.code(), Some(0));
    assert!(!text(&output.stdout).contains(['\u{1b}', '\u{7}']));
}

#[test]
fn every_container_converts_and_what_is_written_reads_back() {
    let home = Home::new();
    for (format, path) in containers(&home) {
        let targets = if matches!(format, "text" | "markdown") {
            &["messages", "text"][..]
        } else {
            &["messages", "alpaca", "sharegpt", "text"]
        };
        for target in targets {
            let out = home.path(&format!("{format}-{target}.jsonl"));
            let report = home.json(&["data", "convert", &path, "--to", target, "--output", &out]);
            let written = std::fs::read_to_string(&out).expect("written");
            assert_eq!(report["rows"].as_u64(), Some(written.lines().count() as u64), "{report}");
            let again = home.json(&["data", "inspect", &out]);
            assert_eq!(again["files"][0]["rows"], report["rows"], "{format} to {target}");
        }
    }
}

#[test]
fn conversion_cleans_splits_and_adds_a_system_prompt() {
    let home = Home::new();
    let row = |n: usize| format!(r#"{{"instruction":"Question {n}?","output":"A full answer to question {n}."}}"#);
    let mut lines: Vec<String> = (0..20).map(row).collect();
    lines.extend([row(0), "{broken".to_owned(), r#"{"instruction":"No answer?","output":""}"#.to_owned()]);
    let path = home.write("a.jsonl", lines.join("\n"));
    let out = home.path("clean.jsonl");
    let report = home.json(&[
        "data",
        "convert",
        &path,
        "--to",
        "messages",
        "--out",
        &out,
        "--deduplicate",
        "--quality_filter",
        "--validation-split",
        "0.1",
        "--include-system",
        "Be kind.",
    ]);
    assert_eq!(
        (&report["rows"], &report["validation_rows"], &report["duplicates"]),
        (&18.into(), &2.into(), &1.into()),
        "{report}"
    );
    assert_eq!(report["rejected_rows"], 3, "{report}");
    for (field, rows) in [("out", 18), ("validation", 2), ("rejected", 3)] {
        let file = report[field].as_str().expect("a path");
        assert_eq!(std::fs::read_to_string(file).expect("written").lines().count(), rows, "{field}");
    }
    let first = std::fs::read_to_string(&out).expect("written");
    let first: Value = serde_json::from_str(first.lines().next().expect("a row")).expect("JSON");
    assert_eq!(first["messages"][0]["content"], "Be kind.");
    assert_eq!(
        home.fault(3, &["data", "convert", &path, "--to", "text", "--out", &path])["code"].as_str().map(|c| &c[..3]),
        Some("PS-")
    );
    assert_eq!(std::fs::read_to_string(&path).expect("untouched"), lines.join("\n"));
}

#[test]
fn an_empty_store_has_no_runs() {
    let home = Home::new();
    assert_eq!(home.json(&["runs", "list"]), serde_json::json!({"runs": [], "total": 0}));
    let output = home.run(&["runs", "list"]);
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("no runs yet"));
    assert!(Path::new(&home.path("home/studio.sqlite")).is_file());
    let elsewhere = home.path("elsewhere");
    home.json(&["runs", "list", "--data_dir", &elsewhere]);
    assert!(Path::new(&elsewhere).join("studio.sqlite").is_file());
}

#[test]
fn runs_are_listed_shown_and_stopped() {
    let home = Home::new();
    let store = peft_storage::Store::open(Path::new(&home.path("home"))).expect("a store");
    let config = serde_json::json!({"model": {"id": "starter"}});
    let new = |name: &str| {
        let run = peft_storage::NewRun { name: name.to_owned(), config: config.clone(), ..Default::default() };
        store.create_run(&run).expect("new").to_string()
    };
    let (first, second) = (new("first"), new("second"));
    let list = home.json(&["runs", "list", "--sort", "name", "--limit", "1"]);
    let run = &list["runs"][0];
    for field in
        ["id", "name", "status", "created", "steps", "loss", "validation_loss", "quality_score", "seconds", "config"]
    {
        assert!(run.get(field).is_some(), "no {field}: {run}");
    }
    assert_eq!((&run["id"], &run["config"]["model"]["id"]), (&first.as_str().into(), &"starter".into()));
    assert_eq!(home.json(&["runs", "list", "--status", "finished"])["runs"], serde_json::json!([]));
    assert_eq!(home.json(&["runs", "show", "second"])["id"], second.as_str());
    assert_eq!(home.fault(3, &["pause", "second"])["code"], "PS-RUN-003");
    assert_eq!(home.json(&["stop", &second])["status"], "stopped");
    assert_eq!(home.json(&["runs", "show", &second])["status"], "stopped");
    let shown = text(&home.run(&["runs", "list"]).stdout);
    assert!(shown.lines().count() == 3 && shown.contains("just now"), "{shown}");
    assert!(
        home.fault(3, &["runs", "show", "secnd"])["actions"][0]["label"].as_str().expect("text").contains("second")
    );
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let home = Home::new();
    for arguments in [&["completions", "bash"][..], &["hardware", "--json"], &["--help"], &[]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = home.command(arguments).stdout(writer).stderr(Stdio::piped()).output().expect("starts");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let home = Home::new();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = home.command(&["hardware", "--json"]).stdout(full).output().expect("starts");
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("PS-DISK-002"), "{}", text(&output.stderr));
}

#[test]
fn colours_only_where_they_are_wanted() {
    let home = Home::new();
    let stderr = |variables: &[(&str, &str)]| {
        let mut command = home.command(&["runs", "show", "nobody"]);
        command.envs(variables.iter().copied());
        text(&command.output().expect("starts").stderr)
    };
    assert!(stderr(&[("CLICOLOR_FORCE", "1")]).contains("\u{1b}["), "nothing to take away");
    assert!(!stderr(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!stderr(&[]).contains('\u{1b}'));
}
