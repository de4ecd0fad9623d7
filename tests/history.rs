//! Runs side by side, versions, logs and what is deleted, through the real program (S4.11, S4.14).

use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::path::Path;

fn train(home: &Home, name: &str, data: &str, settings: &[&str]) -> String {
    let fixed =
        ["train", "--model", "starter", "--data", data, "--name", name, "--set", "training.max_steps=3", "--json"];
    let output = home.run(&[&fixed, settings].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let runs = home.json(&["runs", "list"]);
    let run = runs["runs"].as_array().expect("a list").iter().find(|r| r["name"] == name).expect("listed").clone();
    run["id"].as_str().expect("an id").to_owned()
}

#[test]
fn runs_are_compared_versioned_and_deleted_s4_11_s4_14() {
    let home = Home::new();
    let rows: Vec<String> = (0..12)
        .map(|i| json!({"instruction": format!("question {i}"), "output": format!("answer {i}")}).to_string())
        .collect();
    let data = rows.join("\n");
    let data = home.write("d.jsonl", data);
    let held_out = "dataset.validation_split=0.25";
    let first = train(&home, "first", &data, &["--set", held_out]);
    let second =
        train(&home, "second", &data, &["--set", held_out, "--set", "training.learning_rate=5e-3", "--rank", "8"]);

    // S4.11.2-4
    let compared = home.json(&["runs", "compare", "first", "second"]);
    let value = |i: usize| compared["metrics"]["validation_loss"][i].as_f64().expect("measured");
    let better = if value(0) <= value(1) { &first } else { &second };
    assert_eq!(compared["best"]["validation_loss"], json!(better));
    let keys: Vec<&str> =
        compared["differences"].as_array().expect("a list").iter().filter_map(|d| d["key"].as_str()).collect();
    assert_eq!(keys, ["adapter.alpha", "adapter.rank", "training.learning_rate"], "only what differs");
    assert_eq!(compared["differences"][1]["values"], json!([16, 8]), "what the planner chose counts");
    assert_eq!(compared["series"]["loss"].as_array().map(Vec::len), Some(2));
    assert_eq!(compared["series"]["loss"][1].as_array().map(Vec::len), Some(3));
    let shown = text(&home.run(&["runs", "compare", "first", "second"]).stdout);
    assert!(shown.contains("(best)") && shown.contains("training.learning_rate"), "{shown}");
    assert_eq!(home.fault(3, &["runs", "compare", "first", "first"])["code"], "PS-CFG-001");

    // A log is what the run said.
    let log = text(&home.run(&["runs", "log", "first", "--follow", "--json"]).stdout);
    let last: Value = serde_json::from_str(log.lines().last().expect("lines")).expect("JSON");
    assert_eq!(last["event"], "finished");
    assert!(text(&home.run(&["runs", "log", "first"]).stdout).contains("Step 3: loss"));

    // S4.14.1-5
    let versions = home.json(&["versions", "list"]);
    assert_eq!((&versions["versions"][0]["version"], &versions["versions"][1]["version"]), (&json!(2), &json!(1)));
    assert_eq!(home.json(&["versions", "activate", "1"])["active"], true);
    home.json(&["versions", "activate", "2"]);
    assert_eq!(home.json(&["versions", "show", "1"])["active"], false);
    let directory = home.json(&["versions", "show", "1"])["directory"].as_str().expect("a path").to_owned();
    let before = home.json(&["versions", "show", "1"])["disk"]["state_bytes"].as_u64().expect("counted");
    assert!(before > 0);
    home.json(&["versions", "archive", "1"]);
    assert_eq!(home.json(&["versions", "show", "1"])["disk"]["state_bytes"], 0);
    assert!(Path::new(&directory).join("adapter/adapter_model.safetensors").is_file(), "what it learned stays");
    let answer = home.json(&["chat", "--run", "first", "--prompt", "hello", "--max-new-tokens", "2"]);
    assert!(answer["answer"].is_string());
    assert_eq!(home.fault(3, &["versions", "delete", "2"])["code"], "PS-CFG-001", "the active one is asked for twice");
    home.json(&["versions", "delete", "2", "--yes"]);
    assert_eq!(home.fault(3, &["versions", "show", "2"])["code"], "PS-RUN-001");

    // Somebody's own file in the folder survives; the adapter does where that is asked for.
    std::fs::write(Path::new(&directory).join("notes.txt"), "mine").expect("written");
    home.json(&["runs", "delete", "first", "--keep-adapter"]);
    assert!(Path::new(&directory).join("adapter/adapter_config.json").is_file());
    assert!(Path::new(&directory).join("notes.txt").is_file());
    assert!(!Path::new(&directory).join("events.jsonl").exists());
    assert_eq!(home.json(&["runs", "list"])["runs"], json!([]));
}
