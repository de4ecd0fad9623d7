//! `hardware` and the readings beside a run.

use peft_tests::home::{Home, text};
use serde_json::Value;

#[test]
fn hardware_is_described_without_a_card_or_a_driver_s4_2_1() {
    let home = Home::new();
    let found = home.json(&["hardware"]);
    assert!(
        found["memory_bytes"].as_u64().expect("a size") >= found["memory_available_bytes"].as_u64().expect("a size")
    );
    assert!(found["cpu"]["cores"].as_u64().expect("a count") > 0 && found["cpu"]["features"].is_array());
    assert!(found["disk_free_bytes"].as_u64().expect("a size") > 0);
    assert_eq!(found["backend"]["chosen"], "cpu");
    assert!(found["backend"]["reason"].as_str().expect("text").len() > 10);
    assert!(found["system"]["os"].is_string() && found["system"]["wsl"].is_boolean());
    // What the kernels for graphics cards would need is told either way (D7).
    assert_eq!(found["requirement"]["driver"], "525");
    if found["gpus"].as_array().expect("a list").is_empty() {
        assert!(found["gpu_reason"].as_str().expect("a reason").len() > 10);
        assert_eq!(found["requirement"]["satisfied"], Value::Null);
    }
}

#[test]
fn a_run_tells_what_the_machine_does_between_its_first_and_its_last_event_s4_5_5() {
    let home = Home::new();
    let row = |i: usize| format!("{{\"instruction\":\"Question {i}?\",\"output\":\"Answer number {i}.\"}}\n");
    let rows = (0..40).map(row).collect::<Vec<_>>().concat();
    let data = home.write("d.jsonl", rows);
    // Long enough for a reading, however fast the machine is.
    let arguments = ["train", "--model", "starter", "--data", &data, "--set", "training.max_steps=100000", "--json"];
    let mut run = home.command(&arguments).stdout(std::process::Stdio::piped()).spawn().expect("starts");
    let mut seen = Vec::new();
    let mut events = Vec::new();
    for line in std::io::BufRead::lines(std::io::BufReader::new(run.stdout.take().expect("piped"))) {
        let event: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
        if event["event"] == "hardware" && seen.is_empty() {
            seen.push(event.clone());
            let id =
                events.first().map(|e: &Value| e["run"].as_str().expect("an id").to_owned()).expect("started first");
            assert!(home.run(&["stop", &id]).status.success());
        }
        events.push(event);
    }
    assert!(run.wait().expect("ends").success());
    let reading = seen.first().expect("a reading");
    assert!(reading["cpu_utilization"].as_f64().expect("per cent") > 0.0);
    assert!(reading["ram_used_bytes"].as_u64().expect("a size") > 0);
    assert!(reading["step"].as_u64().is_some() && reading["gpus"].is_array());
    assert_eq!(events.first().expect("events")["event"], "started");
    assert_eq!(events.last().expect("events")["event"], "stopped");
    let id = events[0]["run"].as_str().expect("an id");
    let shown = home.json(&["runs", "show", id]);
    let stored = shown["events"].as_array().expect("events");
    assert!(stored.iter().any(|e| e["kind"] == "hardware"), "{stored:?}");
    // Predicted and measured memory are kept with every run (B3).
    let (planned, peak) = (&shown["memory_plan_bytes"], &shown["peak_memory_bytes"]);
    assert!(planned.as_u64().expect("a size") > 0 && peak.as_u64().expect("a size") > 0);
    assert!(text(&home.run(&["runs", "show", id]).stdout).contains("planned"));
}
