//! Presets and configurations of other programs, through the real program (S4.8, S3.5).

use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::fs;

/// Code and exit status of a command that fails.
fn fails(home: &Home, exit: i32, arguments: &[&str]) -> String {
    home.fault(exit, arguments)["code"].as_str().expect("a code").to_owned()
}

#[test]
fn a_preset_is_saved_found_exported_and_taken_in_again_s4_8() {
    let home = Home::new();
    let data = home.write("d.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n");
    let run = json!({"model": {"id": "starter"}, "dataset": {"path": data}, "adapter": {"rank": 4}});
    let run = home.write("run.json", run.to_string());
    home.run(&["presets", "save", &run, "--name", "Support", "--tag", "chat", "--description", "what worked"]);
    let found = home.json(&["presets", "list", "--search", "worked", "--tag", "CHAT"]);
    assert_eq!(found["presets"][0]["name"], "Support");
    assert_eq!(found["presets"][0]["config"]["adapter"]["rank"], 4);
    assert_eq!(home.json(&["presets", "list", "--search", "nothing like it"])["presets"], json!([]));

    let file = home.path("support.json");
    home.run(&["presets", "export", "support", "--out", &file]);
    let text = fs::read_to_string(&file).expect("written");
    assert!(text.lines().count() > 10 && !text.contains("null"), "a file for people: {text}");
    assert_eq!(fails(&home, 3, &["presets", "import", &file]), "PS-CFG-001", "the name is taken");
    let report = home.json(&["presets", "import", &file, "--name", "again"]);
    assert_eq!((&report["problems"], &report["left_out"]), (&json!([]), &json!([])));
    home.run(&["presets", "delete", "again"]);
    assert_eq!(fails(&home, 3, &["presets", "show", "again"]), "PS-RUN-001");
}

#[test]
fn what_does_not_suit_is_said_and_adapted_s4_8_5() {
    let home = Home::new();
    let preset = json!({"schema": "peft-studio/preset", "version": 1, "name": "x", "config": {
        "model": {"id": "starter"}, "dataset": {"path": "/not/here.jsonl"}, "adapter": {"target_modules": ["c_attn"], "rnak": 4},
        "training": {"max_sequence_length": 100_000}}});
    let file = home.write("p.json", preset.to_string());
    let report = home.json(&["presets", "import", &file, "--check"]);
    assert_eq!(report["left_out"][0]["field"], "adapter.rnak");
    let fields: Vec<&str> =
        report["problems"].as_array().expect("a list").iter().filter_map(|p| p["field"].as_str()).collect();
    assert_eq!(fields, ["dataset.path", "training.max_sequence_length"]);
    assert_eq!(report["problems"][1]["code"], "PS-PRE-002");
    assert_eq!(home.json(&["presets", "list", "--search", "/not"])["presets"], json!([]), "nothing was kept");
    let report = home.json(&["presets", "import", &file, "--adapt"]);
    let problems: Vec<&Value> = report["problems"].as_array().expect("a list").iter().collect();
    assert!(problems.iter().all(|p| p["field"] == "dataset.path"), "data cannot be made up: {problems:?}");
    assert_eq!(report["preset"]["config"]["adapter"]["target_modules"], "all-linear");
}

#[test]
fn bad_presets_are_refused_and_nothing_is_kept() {
    let home = Home::new();
    for (content, code) in [
        (r#"{"schema":"peft-studio/preset","version":7,"config":{}}"#, "PS-PRE-003"),
        (r#"{"colour":"blue"}"#, "PS-PRE-001"),
        ("base_model: x\n", "PS-PRE-001"),
        ("", "PS-PRE-001"),
    ] {
        let file = home.write("bad.json", content);
        assert_eq!(fails(&home, 3, &["presets", "import", &file]), code, "{content}");
    }
    assert_eq!(fails(&home, 3, &["presets", "import", &home.path("none.json")]), "PS-FILE-001");
    assert_eq!(fails(&home, 3, &["presets", "delete", "llama3-8b"]), "PS-CFG-001");
}

#[test]
fn a_built_in_preset_starts_a_run_s3_5() {
    let home = Home::new();
    let data = home.write("d.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n".repeat(4));
    // Its model is not here; another one takes its place, the other settings stay.
    let output = home.run(&[
        "train",
        "--preset",
        "phi-3-mini",
        "--model",
        "starter",
        "--data",
        &data,
        "--set",
        "training.max_steps=1",
        "--set",
        "training.max_sequence_length=64",
        "--json",
    ]);
    let events = text(&output.stdout);
    assert!(events.contains("\"finished\""), "{events} {}", text(&output.stderr));
    let run = &home.json(&["runs", "list"])["runs"][0];
    assert_eq!(run["config"]["adapter"]["method"], "qlora");
    home.run(&["presets", "save", run["id"].as_str().expect("an id"), "--name", "mine"]);
    assert_eq!(home.json(&["presets", "show", "mine"])["config"]["training"]["gradient_accumulation"], 4);
}

#[test]
fn an_axolotl_file_becomes_a_run_file_with_a_word_on_every_field() {
    let home = Home::new();
    let yaml = "base_model: starter\nadapter: lora\nlora_r: 4\nlora_alpha: 8\nlora_target_linear: true\ndatasets:\n  - path: ./d.jsonl\n    type: alpaca\nlearning_rate: 2e-4\nnum_epochs: 1\nwandb_project: p\nloss_watchdog_threshold: 5.0\n";
    let file = home.write("a.yml", yaml);
    let out = home.path("run.json");
    let report = home.json(&["config", "import", &file, "--out", &out]);
    assert_eq!(report["program"], "axolotl");
    assert_eq!(report["ignored"], 2);
    let config: Value = serde_json::from_slice(&fs::read(&out).expect("written")).expect("JSON");
    assert_eq!((&config["adapter"]["rank"], &config["dataset"]["path"]), (&json!(4), &json!("./d.jsonl")));
    let file = home.write("b.yml", "- just\n- a list\n");
    assert_eq!(fails(&home, 3, &["config", "import", &file]), "PS-PRE-001");
    let mut bomb = "b0: &b0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let aliases = vec![format!("*b{}", i - 1); 9].join(",");
        bomb = format!("{bomb}b{i}: &b{i} [{aliases}]\n");
    }
    let file = home.write("bomb.yml", &bomb);
    assert_eq!(fails(&home, 3, &["config", "import", &file]), "PS-PRE-001", "aliases cannot blow up");
}
