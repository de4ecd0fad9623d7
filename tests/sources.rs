//! Where examples come from: Parquet, folders, the hub's cache, several sources with weights.

use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::path::Path;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/llama/model");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/data/messages-zstd.parquet");

fn rows(word: &str, count: usize) -> String {
    let rows: Vec<String> =
        (0..count).map(|n| format!("{{\"question\":\"{word} {n}?\",\"answer\":\"{word} {n}.\"}}\n")).collect();
    rows.concat()
}

fn put(home: &Home, name: &str, content: impl AsRef<[u8]>) {
    let path = home.path(name);
    std::fs::create_dir_all(Path::new(&path).parent().expect("inside")).expect("created");
    std::fs::write(path, content).expect("written");
}

/// The program with the hub's cache in this home.
fn run(home: &Home, words: &[&str]) -> (Option<i32>, String, Value) {
    let output = home.command(words).env("HF_HUB_CACHE", home.path("cache")).output().expect("starts");
    let stdout = text(&output.stdout);
    let last = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    (output.status.code(), text(&output.stderr), last)
}

fn inspected(home: &Home, what: &str) -> Value {
    let (code, stderr, value) = run(home, &["data", "inspect", what, "--json"]);
    assert_eq!(code, Some(0), "{what}: {stderr}");
    value
}

fn refused(home: &Home, what: &str, code: &str, word: &str) {
    let (_, stderr, _) = run(home, &["data", "inspect", what, "--json"]);
    let error: Value = serde_json::from_str(&stderr).expect("a fault");
    assert_eq!(error["error"]["code"], code, "{what}: {stderr}");
    assert!(error["error"]["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{stderr}");
}

/// A dataset as other programs leave it in the cache.
fn cached(home: &Home) {
    let root = "cache/datasets--ada--talks";
    put(home, &format!("{root}/refs/main"), "c0ffee");
    let at = |name: &str| format!("{root}/snapshots/c0ffee/{name}");
    let card = "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n  \
                - split: test\n    path: data/test-*\n- config_name: small\n  data_files: small.csv\n- config_name: gone\n  \
                data_files: gone/*.json\n---\n# Talks\n";
    put(home, &at("README.md"), card);
    put(home, &at("data/train-00000-of-00002.jsonl"), rows("a", 3));
    put(home, &at("data/train-00001-of-00002.jsonl"), rows("b", 4));
    put(home, &at("data/test-00000-of-00001.jsonl"), rows("t", 2));
    put(home, &at("small.csv"), "question,answer\nWhy?,So.\n");
    put(home, "cache/datasets--plain/snapshots/1/train.jsonl", rows("p", 5));
    put(home, "cache/datasets--plain/snapshots/1/valid.jsonl", rows("v", 2));
}

#[test]
fn datasets_of_the_hub_are_read_from_its_cache_s3_8() {
    let home = Home::new();
    cached(&home);
    for (what, count) in [
        ("hub:ada/talks", 7),
        ("hub:ada/talks#test", 2),
        ("hub:ada/talks:small", 1),
        ("hub:plain", 5),
        ("hub:plain#validation", 2),
        (&home.path("cache/datasets--plain/snapshots/1"), 5),
    ] {
        assert_eq!(inspected(&home, what)["rows"], count, "{what}");
    }
    refused(&home, "hub:ada/other", "PS-FILE-001", "cache");
    refused(&home, "hub:ada/talks:gone", "PS-FILE-001", "not here");
    refused(&home, "hub:ada/talks:large", "PS-CFG-001", "default, small, gone");
    refused(&home, "hub:ada/talks#dev", "PS-CFG-001", "train, test");
    refused(&home, "hub:../etc", "PS-CFG-001", "owner/name");
    refused(&home, "hub:", "PS-CFG-001", "owner/name");
    put(&home, "nothing/notes.png", "x");
    refused(&home, &home.path("nothing"), "PS-DATA-001", "no files");
}

/// Train on `config` for `steps`; the adapter's bytes.
fn trained(home: &Home, name: &str, config: &Value) -> Vec<u8> {
    let file = home.write(&format!("{name}.json"), config.to_string());
    let out = home.path(name);
    let (code, stderr, _) = run(home, &["train", &file, "--out", &out, "--name", name, "--json", "--threads", "2"]);
    assert_eq!(code, Some(0), "{stderr}");
    std::fs::read(Path::new(&out).join("adapter/adapter_model.safetensors")).expect("the adapter")
}

fn config(sources: &Value, steps: u64, every: u64) -> Value {
    json!({"model": {"id": MODEL}, "dataset": {"sources": sources, "chat_template": "plain", "validation_split": 0},
           "adapter": {"rank": 2}, "checkpoint": {"every_steps": every},
           "training": {"max_steps": steps, "micro_batch_size": 2, "gradient_accumulation": 1, "max_sequence_length": 32}})
}

#[test]
fn a_weighted_run_goes_on_exactly_where_it_was_s3_8() {
    let home = Home::new();
    cached(&home);
    home.write("own.jsonl", rows("own", 6));
    let sources = json!([
        {"hub": "ada/talks", "split": "train", "weight": 2},
        {"path": home.path("own.jsonl")},
        {"path": TABLE, "weight": 0.25},
    ]);
    let whole = trained(&home, "whole", &config(&sources, 90, 100));
    // Paused in the middle of an epoch and resumed.
    let part = home.write("part.json", config(&sources, 90, 13).to_string());
    let out = home.path("part");
    let words = ["train", &part, "--out", &out, "--name", "part", "--json", "--threads", "2"];
    let mut child = home
        .command(&words)
        .env("HF_HUB_CACHE", home.path("cache"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let events = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    for line in events {
        let event: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        if event["event"] == "checkpoint" && event["step"] == 13 {
            child.kill().expect("killed");
            break;
        }
    }
    child.wait().expect("ended");
    // What `main` means may change meanwhile; the run stays with what it began with.
    put(&home, "cache/datasets--ada--talks/refs/main", "beef");
    put(&home, "cache/datasets--ada--talks/snapshots/beef/train.jsonl", rows("new", 9));
    let (code, stderr, _) = run(&home, &["resume", "part", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let story = std::fs::read_to_string(Path::new(&out).join("events.jsonl")).expect("events");
    assert!(story.contains(r#""event":"resumed""#), "it was killed before its end");
    let resumed = std::fs::read(Path::new(&out).join("adapter/adapter_model.safetensors")).expect("the adapter");
    assert_eq!(resumed, whole);
    // Weights matter.
    let equal = json!([{"hub": "ada/talks", "revision": "c0ffee"}, {"path": home.path("own.jsonl")}, {"path": TABLE}]);
    assert_ne!(trained(&home, "equal", &config(&equal, 40, 100)), whole);
}

#[test]
fn impossible_sources_are_refused() {
    let home = Home::new();
    let own = home.write("own.jsonl", rows("own", 6));
    for (source, word) in [
        (json!({"path": own, "weight": 0}), "weight"),
        (json!({"path": own, "weight": -1}), "weight"),
        (json!({"path": own, "weight": 1e9}), "weight"),
        (json!({"path": own, "hub": "a/b"}), "either"),
        (json!({"weight": 1}), "either"),
        (json!({"path": own, "split": "train"}), "split"),
        (json!({"path": own, "revision": "main"}), "revision"),
    ] {
        let file = home.write("run.json", config(&json!([{"path": own}, source]), 1, 1).to_string());
        let error = home.fault(3, &["train", &file, "--out", &home.path("out")]);
        assert_eq!(error["code"], "PS-CFG-001", "{source}");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{source}: {error}");
    }
}

#[test]
fn a_parquet_table_trains_like_its_rows() {
    let home = Home::new();
    let expected: Value = serde_json::from_str(include_str!("fixtures/data/expected.json")).expect("JSON");
    let lines: Vec<String> = expected["messages-none"].as_array().expect("rows").iter().map(Value::to_string).collect();
    let lines = home.write("rows.jsonl", lines.join("\n"));
    let table = trained(&home, "table", &config(&json!([{"path": TABLE}]), 4, 100));
    assert_eq!(table, trained(&home, "lines", &config(&json!([{"path": lines}]), 4, 100)));
}
