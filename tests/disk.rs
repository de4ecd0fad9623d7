//! What the program takes on the disk, and what it gives back (S4.14.5).

use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn train(home: &Home, name: &str) {
    let rows: Vec<String> = (0..6).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is {n}"}}"#)).collect();
    let data = home.write("rows.jsonl", rows.join("\n"));
    let arguments = [
        "train",
        "--model",
        "starter",
        "--data",
        &data,
        "--name",
        name,
        "--set",
        "training.max_steps=2",
        "--threads",
        "1",
    ];
    let output = home.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

fn of_kind<'a>(survey: &'a Value, kind: &str) -> Vec<&'a Value> {
    survey["items"].as_array().expect("items").iter().filter(|item| item["kind"] == kind).collect()
}

#[test]
fn a_look_at_the_disk_leaves_no_trace() {
    let home = Home::new();
    let survey = home.json(&["disk"]);
    assert_eq!((&survey["total_bytes"], &survey["freeable_bytes"]), (&json!(0), &json!(0)));
    assert!(survey["free_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(!Path::new(&home.path("home")).exists());
    assert_eq!(home.json(&["disk", "free", "--yes"])["items"], json!([]));
}

#[test]
fn states_of_finished_runs_backups_and_leftovers_go_and_results_stay_s4_14_5() {
    let home = Home::new();
    train(&home, "one");
    let folder = home.path("home");
    let run = home.json(&["runs", "show", "one"]);
    let id = run["id"].as_str().expect("an id").to_owned();
    fs::write(format!("{folder}/studio.sqlite.bak-3"), vec![0; 5000]).expect("written");
    // Left by a run that was deleted; its adapter was kept, and a note of its owner lies beside it.
    let left = format!("{folder}/runs/gone");
    fs::create_dir_all(format!("{left}/checkpoints/step-1")).expect("made");
    fs::create_dir_all(format!("{left}/adapter")).expect("made");
    fs::write(format!("{left}/checkpoints/step-1/state"), vec![0; 7000]).expect("written");
    fs::write(format!("{left}/adapter/a"), "x").expect("written");
    fs::write(format!("{left}/note.txt"), "mine").expect("written");
    // Just made: perhaps a run that begins in this moment.
    fs::create_dir_all(format!("{folder}/runs/fresh/checkpoints")).expect("made");
    fs::write(format!("{folder}/runs/fresh/checkpoints/x"), "x").expect("written");
    let earlier = SystemTime::now() - Duration::from_hours(1);
    File::open(&left).and_then(|file| file.set_modified(earlier)).expect("older");

    let survey = home.json(&["disk"]);
    assert_eq!(of_kind(&survey, "training_state").len(), 1, "{survey}");
    assert_eq!(of_kind(&survey, "backups")[0]["freeable_bytes"], 5000);
    assert_eq!(of_kind(&survey, "leftovers")[0]["freeable_bytes"], 7000);
    assert_eq!(of_kind(&survey, "leftovers").len(), 1, "{survey}");
    let sum: u64 = survey["items"].as_array().expect("items").iter().filter_map(|item| item["bytes"].as_u64()).sum();
    assert_eq!(survey["total_bytes"].as_u64(), Some(sum));

    // Nothing without `--yes`.
    let looked = home.json(&["disk", "free"]);
    assert_eq!(looked["deleted"], false);
    assert_eq!(home.json(&["disk"])["freeable_bytes"], survey["freeable_bytes"]);
    // One kind at a time, or all.
    let freed = home.json(&["disk", "free", "--what", "backups", "--yes"]);
    assert_eq!((&freed["freed_bytes"], &freed["refused"]), (&json!(5000), &json!([])));
    let freed = home.json(&["disk", "free", "--yes"]);
    assert_eq!(freed["deleted"], true);
    assert_eq!(home.json(&["disk"])["freeable_bytes"], 0);
    let results = format!("{folder}/runs/{id}/adapter/adapter_model.safetensors");
    assert!(Path::new(&results).is_file() && !Path::new(&format!("{folder}/runs/{id}/checkpoints")).exists());
    assert!(Path::new(&format!("{left}/note.txt")).is_file() && Path::new(&format!("{left}/adapter/a")).is_file());
    assert!(Path::new(&format!("{folder}/runs/fresh/checkpoints/x")).is_file());
    // The run is as good as before.
    let chat = home.json(&["chat", "--run", "one", "--prompt", "Hi", "--max-new-tokens", "1", "--threads", "1"]);
    assert!(chat["answer"].is_string());
}
