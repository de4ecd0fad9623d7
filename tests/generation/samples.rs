//! Prompts that a run answers at each evaluation: told, bounded, repeated exactly, and of no consequence.

use peft_tests::home::Home;
use serde_json::Value;
use std::path::Path;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/qwen2/model");

fn data(home: &Home) -> String {
    let rows: Vec<String> = (0..20).map(|n| format!(r#"{{"instruction":"Say {n}","output":"It is {n}"}}"#)).collect();
    home.write("rows.jsonl", rows.join("\n"))
}

fn train(home: &Home, name: &str, settings: &[&str]) -> Vec<Value> {
    let (data, out) = (data(home), home.path(name));
    let mut arguments = vec!["train", "--model", MODEL, "--data", &data, "--name", name, "--out", &out, "--json"];
    let usual = ["training.max_steps=40", "evaluation.every_steps=20", "dataset.validation_split=0.2"];
    for setting in usual.iter().chain(settings) {
        arguments.extend(["--set", setting]);
    }
    let output = home.run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    events(home, name)
}

fn events(home: &Home, name: &str) -> Vec<Value> {
    let file = std::fs::read_to_string(Path::new(&home.path(name)).join("events.jsonl")).expect("events");
    file.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn samples(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| event["event"] == "sample").collect()
}

fn adapter(home: &Home, name: &str) -> Vec<u8> {
    std::fs::read(Path::new(&home.path(name)).join("adapter/adapter_model.safetensors")).expect("an adapter")
}

#[test]
fn held_out_prompts_are_answered_at_each_evaluation_and_kept() {
    let home = Home::new();
    let told = train(&home, "usual", &["evaluation.sample_tokens=8"]);
    let told = samples(&told);
    let steps: Vec<u64> = told.iter().map(|event| event["step"].as_u64().expect("a step")).collect();
    assert_eq!(steps, [0, 0, 0, 20, 20, 20, 40, 40, 40]);
    for event in &told {
        assert!(event["prompt"].as_str().is_some_and(|p| p.starts_with("Say ")), "{event}");
        assert!(event["expected"].as_str().is_some_and(|p| p.starts_with("It is ")), "{event}");
        assert!(event["answer"].is_string());
    }
    // The same prompts every time, and answers that change with the model.
    assert!((0..3).all(|i| told[i]["prompt"] == told[i + 3]["prompt"] && told[i]["prompt"] == told[i + 6]["prompt"]));
    let run = home.json(&["runs", "show", "usual"]);
    let stored = run["events"].as_array().expect("events").iter().filter(|e| e["kind"] == "sample").count();
    assert_eq!(stored, 9);

    // None, and whether or not: the training is the same.
    assert!(samples(&train(&home, "none", &["evaluation.samples=0"])).is_empty());
    assert!(adapter(&home, "none") == adapter(&home, "usual"), "samples changed the training");
    let own = r#"evaluation.sample_prompts=["What?",[{"role":"system","content":"Be brief"},{"role":"user","content":"Who?"}]]"#;
    let told = train(&home, "own", &[own, "evaluation.sample_tokens=5"]);
    let prompts: Vec<&str> = samples(&told).iter().map(|e| e["prompt"].as_str().expect("text")).collect();
    assert_eq!(prompts, ["What?", "Who?"].repeat(3));
    assert!(samples(&told).iter().all(|event| event.get("expected").is_none()));
}

#[test]
fn a_resumed_run_tells_the_same_samples() {
    let home = Home::new();
    let whole = train(&home, "whole", &["checkpoint.every_steps=10", "evaluation.sample_tokens=6"]);
    // Stopped by a limit of steps is not what a kill is: cut the story and the newest state away instead.
    train(&home, "cut", &["checkpoint.every_steps=10", "evaluation.sample_tokens=6", "checkpoint.keep=10"]);
    let run = Path::new(&home.path("cut")).to_owned();
    for step in [20, 30, 40] {
        std::fs::remove_dir_all(run.join(format!("checkpoints/step-{step}"))).expect("removed");
    }
    let id = home.json(&["runs", "show", "cut"])["id"].as_str().expect("an id").to_owned();
    let store = peft_storage::Store::open(Path::new(&home.path("home"))).expect("the store");
    store.update_status(&id, peft_storage::Status::Paused).expect("paused");
    let output = home.run(&["resume", "cut", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(samples(&events(&home, "cut")), samples(&whole));
    let stored = home.json(&["runs", "show", "cut"]);
    let stored = stored["events"].as_array().expect("events").iter().filter(|e| e["kind"] == "sample").count();
    assert_eq!(stored, samples(&whole).len());
}

#[test]
fn impossible_samples_are_refused_before_anything_runs() {
    let home = Home::new();
    let data = data(&home);
    let long = format!("evaluation.sample_prompts=[\"{}\"]", "word ".repeat(5000));
    for setting in [
        "evaluation.sample_prompts=[\" \"]",
        "evaluation.sample_prompts=[[]]",
        "evaluation.sample_prompts=[3]",
        "evaluation.samples=65",
        "evaluation.sample_tokens=0",
        &long,
    ] {
        let out = home.path("out");
        let arguments = ["train", "--model", MODEL, "--data", &data, "--out", &out, "--set", setting];
        let fault = home.fault(3, &arguments);
        assert_eq!(fault["code"], "PS-CFG-001", "{setting}: {fault}");
        assert!(!Path::new(&out).exists(), "{setting}");
    }
}
