//! What is wrong is said before anything starts.

use peft_tests::home::Home;
use serde_json::{Value, json};
use std::path::Path;

fn write(home: &Home, steps: &Value) -> String {
    home.write("rows.jsonl", r#"{"question":"a","answer":"b"}"#);
    home.write("chain.json", json!({"schema": "peft-studio/pipeline", "steps": steps}).to_string())
}

/// Code and detail of the refusal, with everything as it was.
fn refused(home: &Home, steps: &Value) -> (String, String) {
    let file = write(home, steps);
    let fault = home.fault(3, &["pipeline", &file]);
    assert!(!Path::new(&home.path("clean.jsonl")).exists(), "something was started");
    let field = |name: &str| fault[name].as_str().expect("text").to_owned();
    (field("code"), field("detail"))
}

fn convert() -> Value {
    json!({"name": "clean", "command": "data convert", "arguments": ["rows.jsonl"], "options": {"to": "messages", "out": "clean.jsonl"}})
}

#[test]
fn every_step_is_checked_before_the_first_starts_s1_26() {
    let home = Home::new();
    let train = |options: Value| json!({"name": "train", "command": "train", "options": options});
    for (second, code, named) in [
        (json!({"command": "paint"}), "PS-CFG-002", "`paint`"),
        (json!({"command": "serve", "options": {"model": "starter"}}), "PS-CFG-001", "`serve`"),
        (json!({"command": "pipeline", "arguments": ["chain.json"]}), "PS-CFG-001", "`pipeline`"),
        (json!({"command": "chat", "options": {"model": "starter"}}), "PS-CFG-001", "prompt"),
        (train(json!({"model": "starter", "data": "none.jsonl"})), "PS-FILE-001", "none.jsonl"),
        (train(json!({"model": "starter", "data": "clean.jsonl", "lora_rnk": 4})), "PS-CFG-001", "lora-rnk"),
        (train(json!({"model": "starter", "data": "clean.jsonl", "batch_size": 0})), "PS-CFG-001", "micro_batch_size"),
        (
            train(json!({"model": "starter", "data": "clean.jsonl", "set": "adapter.lora_rank=4"})),
            "PS-CFG-002",
            "adapter.rank",
        ),
        (train(json!({"model": "starter", "data": "clean.jsonl", "merge": true})), "PS-CFG-001", "merge"),
        (
            json!({"command": "export", "arguments": ["nobody"], "options": {"to": "peft", "out": "x"}}),
            "PS-RUN-001",
            "nobody",
        ),
        (
            json!({"command": "evaluate", "options": {"model": "no/such", "data": "clean.jsonl"}}),
            "PS-MODEL-001",
            "no/such",
        ),
        (
            json!({"name": "twice", "command": "data convert", "arguments": ["rows.jsonl"],
                "options": {"to": "text", "out": "./clean.jsonl"}}),
            "PS-CFG-001",
            "step `clean`",
        ),
        (
            json!({"command": "evaluate", "options": {"run": "${later.run}", "data": "clean.jsonl"}}),
            "PS-CFG-001",
            "later.run",
        ),
        (json!({"command": "train", "options": {"data": "${"}}), "PS-CFG-001", "no reference"),
        (json!({"command": "data inspect --help"}), "PS-CFG-002", "--help"),
    ] {
        let (found, detail) = refused(&home, &json!([convert(), second]));
        assert_eq!(found, code, "{second}: {detail}");
        assert!(detail.contains(named), "{second}: {detail}");
    }
    assert_eq!(home.json(&["runs", "list"])["runs"], json!([]));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let home = Home::new();
    let steps = json!([{"command": "paint"}, convert(), {"command": "evaluate", "options": {"model": "starter", "data": "none.jsonl"}}]);
    let (code, detail) = refused(&home, &steps);
    assert_eq!(code, "PS-CFG-001");
    assert!(detail.contains("`paint`") && detail.contains("none.jsonl"), "{detail}");
    let (_, detail) = refused(
        &home,
        &json!([convert(),
        {"name": "a", "command": "train", "options": {"model": "${BASE}", "data": "${ROWS}"}},
        {"name": "b", "command": "evaluate", "options": {"model": "${BASE}", "data": "clean.jsonl"}}]),
    );
    assert!(detail.contains("`BASE` (used by a, b)") && detail.contains("`ROWS` (used by a)"), "{detail}");
}

#[test]
fn a_secret_is_not_written_into_a_command() {
    let home = Home::new();
    let (code, detail) = refused(
        &home,
        &json!([convert(), {"command": "train", "options": {"model": "starter", "data": "clean.jsonl", "name": "${HF_TOKEN}"}}]),
    );
    assert_eq!(code, "PS-CFG-001");
    assert!(detail.contains("environment"), "{detail}");
}

#[test]
fn a_missing_or_broken_file_of_values_is_refused_without_telling_its_content() {
    let home = Home::new();
    let file = write(&home, &json!([convert()]));
    assert_eq!(home.fault(3, &["pipeline", &file, "--env", &home.path("none.env")])["code"], "PS-FILE-001");
    let broken = home.write("broken.env", "A=1\nhf_secretsecret\n");
    let fault = home.fault(3, &["pipeline", &file, "--env", &broken]);
    let detail = fault["detail"].as_str().expect("text");
    assert!(detail.contains("Line 2") && !detail.contains("hf_secret"), "{detail}");
}
