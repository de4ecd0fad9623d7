//! What errors say, and that what they offer is done (S4.10.2, S4.10.3, S4.10.5).

use peft_tests::home::{Home, text};
use serde_json::{Value, json};

#[test]
fn every_error_can_be_looked_up_without_a_network_s4_10_4() {
    let home = Home::new();
    let listed = home.json(&["errors", "list"]);
    let errors = listed["errors"].as_array().expect("a list");
    assert!(errors.len() > 50);
    for error in errors {
        assert!(error["actions"].as_array().is_some_and(|actions| actions.len() >= 2), "{error}");
    }
    // What a failure prints as its help can be typed.
    let failed = text(&home.run(&["data", "inspect", &home.path("none.jsonl")]).stderr);
    let help = failed.lines().last().and_then(|line| line.split("peft-studio ").nth(1)).expect("a command").trim();
    let words: Vec<&str> = help.split(' ').collect();
    let shown = home.run(&words);
    assert!(shown.status.success(), "{help}: {}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains("PS-FILE-001") && text(&shown.stdout).contains("exit code 3"));
    let one = home.json(&["errors", "show", "ps-mem-001"]);
    assert_eq!(
        (&one["code"], &one["exit_code"], &one["help"]),
        (&json!("PS-MEM-001"), &json!(4), &json!("help/#ps-mem-001"))
    );
    let unknown = home.fault(3, &["errors", "show", "PS-MEM-01"]);
    assert_eq!(unknown["code"], "PS-CFG-002");
    assert!(
        unknown["actions"][0]["command"].as_str().is_some_and(|command| command.contains("PS-MEM-00")),
        "{unknown}"
    );
    let page = home.path("help.md");
    home.json(&["errors", "page", "--out", &page]);
    let page = std::fs::read_to_string(&page).expect("written");
    assert!(errors.iter().all(|error| page.contains(&format!("## {}\n", error["code"].as_str().expect("text")))));
}

#[test]
fn actions_tell_a_program_what_they_do_s4_10_3() {
    let home = Home::new();
    let fault = home.fault(3, &["runs", "show", "nobody"]);
    let command = fault["actions"].as_array().expect("actions").iter().find(|a| a["command"].is_string()).expect("one");
    assert_eq!((&command["kind"], &command["blanks"]), (&json!("command"), &json!([])));
    let labels: Vec<&Value> = fault["actions"].as_array().expect("actions").iter().map(|a| &a["label"]).collect();
    assert!(labels.iter().all(|label| labels.iter().filter(|other| other == &label).count() == 1), "{labels:?}");
}

/// Six rows.
fn rows(home: &Home) -> String {
    let rows: Vec<String> = (0..6).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is {n}"}}"#)).collect();
    home.write("rows.jsonl", rows.join("\n"))
}

#[test]
fn a_refused_run_is_begun_again_with_the_change_that_its_refusal_offers_s4_10_3() {
    let home = Home::new();
    let data = rows(&home);
    let arguments = [
        "train",
        "--model",
        "starter",
        "--data",
        &data,
        "--target-modules",
        "no_such_module",
        "--name",
        "fixed",
        "--set",
        "training.max_steps=1",
        "--threads",
        "1",
    ];
    assert_eq!(home.fault(3, &arguments)["code"], "PS-CFG-003");
    assert_eq!(home.json(&["runs", "list"])["runs"], json!([]));
    let fixed = home.run(&[&arguments[..], &["--fix"]].concat());
    let told = text(&fixed.stderr);
    assert_eq!(fixed.status.code(), Some(0), "{told}");
    assert!(told.contains("PS-CFG-003") && told.contains("adapter.target_modules=all-linear"), "{told}");
    assert_eq!(home.json(&["runs", "show", "fixed"])["config"]["adapter"]["target_modules"], "all-linear");
    // What no setting can change is refused as without it.
    let missing = ["train", "--model", "starter", "--data", &home.path("none.jsonl"), "--fix"];
    assert_eq!(home.fault(3, &missing)["code"], "PS-FILE-001");
}

#[test]
fn a_run_that_goes_on_otherwise_is_described_as_it_goes_on() {
    let home = Home::new();
    let data = rows(&home);
    let out = home.path("out");
    let trained = home.run(&[
        "train",
        "--model",
        "starter",
        "--data",
        &data,
        "--name",
        "one",
        "--out",
        &out,
        "--set",
        "training.max_steps=2",
        "--threads",
        "1",
    ]);
    assert_eq!(trained.status.code(), Some(0), "{}", text(&trained.stderr));
    let resumed = home.run(&["resume", "one", "--rewind-to", "0", "--set", "training.learning_rate=0.0001"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    assert_eq!(home.json(&["runs", "show", "one"])["config"]["training"]["learning_rate"], 0.0001);
    for name in ["run.json", "receipt.json"] {
        let kept: Value = serde_json::from_slice(&std::fs::read(format!("{out}/{name}")).expect("kept")).expect("JSON");
        let config = if name == "run.json" { &kept["config"] } else { &kept["configuration"] };
        assert_eq!(config["training"]["learning_rate"], 0.0001, "{name}");
    }
}
