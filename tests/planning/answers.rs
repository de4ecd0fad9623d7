//! `plan` and `profiles`, as a person or a script meets them.

use peft_tests::home::{Home, text};
use serde_json::Value;
use std::time::Instant;

fn data(home: &Home, rows: usize) -> String {
    let row = |i: usize| {
        let words = "word ".repeat(3 + i % 20);
        format!("{{\"instruction\":\"Say {i} {words}?\",\"output\":\"Here is {words}and {i}.\"}}\n")
    };
    home.write(&format!("d{rows}.jsonl"), (0..rows).map(row).collect::<String>())
}

#[test]
fn train_trains_exactly_what_plan_prints() {
    let home = Home::new();
    let data = data(&home, 120);
    for more in [&[][..], &["--profile", "classification"], &["--rank", "4", "--set", "training.seed=7"]] {
        let arguments = [&["--model", "starter", "--data", &data, "--set", "training.max_steps=1"][..], more].concat();
        let planned = home.json(&[&["plan"][..], &arguments].concat());
        let trained = home.run(&[&["train", "--json"][..], &arguments].concat());
        assert!(trained.status.success(), "{}", text(&trained.stderr));
        let stdout = text(&trained.stdout);
        let started: Value = serde_json::from_str(stdout.lines().next().expect("events")).expect("JSON");
        let run = home.json(&["runs", "show", started["run"].as_str().expect("an id")]);
        assert_eq!(run["config"], planned["config"], "{more:?}");
        assert_eq!(started["memory_plan_bytes"], planned["memory"]["total_bytes"], "{more:?}");
        // What `plan` writes is a run file that plans to itself.
        let out = home.path("planned.json");
        home.json(&[&["plan"][..], &arguments, &["--out", &out]].concat());
        assert_eq!(home.json(&["plan", &out])["config"], planned["config"]);
    }
}

#[test]
fn a_plan_has_reasons_memory_estimates_and_alternatives_s4_9() {
    let home = Home::new();
    let data = data(&home, 300);
    let asked = ["plan", "--model", "starter", "--data", &data, "--profile", "chatbot", "--set", "training.epochs=2"];
    let answer = home.json(&asked);
    for value in answer["values"].as_array().expect("values") {
        let (reason, source) = (value["reason"].as_str().expect("text"), value["source"].as_str().expect("text"));
        assert!(reason.ends_with('.') && ["you", "profile", "data", "model", "hardware"].contains(&source), "{value}");
    }
    let items = answer["memory"]["items"].as_array().expect("items");
    let sum: u64 = items.iter().map(|item| item["bytes"].as_u64().expect("a size")).sum();
    assert_eq!(Some(sum), answer["memory"]["total_bytes"].as_u64());
    assert!(answer["memory"]["budget_bytes"].as_u64().expect("a size") > sum);
    let estimate = &answer["estimate"];
    let number = |value: &Value| value.as_f64().expect("a number");
    let (low, high) = (number(&estimate["seconds"]["low"]), number(&estimate["seconds"]["high"]));
    assert!(low > 0.0 && high / low <= if high < 30.0 { 2.0 } else { 1.5 }, "{estimate}");
    for field in ["energy_kwh", "cost", "carbon_grams", "disk_bytes", "device_hours"] {
        assert!(number(&estimate[field]) > 0.0, "{field}: {estimate}");
    }
    for field in ["currency", "carbon_source", "electricity_source", "power_source"] {
        assert!(estimate[field].as_str().is_some_and(|s| s.len() > 2), "{field}: {estimate}");
    }
    let alternatives = answer["alternatives"].as_array().expect("alternatives");
    assert!(alternatives.len() >= 3);
    for a in alternatives {
        assert!(a["changes"].as_object().is_some_and(|c| !c.is_empty()), "{a}");
        assert!(a["deltas"]["seconds"].is_number() && a["estimate"]["seconds"]["high"].is_number(), "{a}");
    }
    // The user's own rate (S4.9.4).
    let own = [&asked[..], &["--electricity-rate", "0.5", "--currency", "usd", "--carbon-intensity", "fr"]].concat();
    let own = home.json(&own);
    let e = &own["estimate"];
    assert!((number(&e["cost"]) - 0.5 * number(&e["energy_kwh"])).abs() < 1e-12, "{e}");
    assert_eq!((e["currency"].as_str(), e["carbon_grams_per_kwh"].as_f64()), (Some("USD"), Some(56.0)));
    let shown = text(&home.run(&asked).stdout);
    for word in ["setting", "Memory", "Estimate", "Alternatives", "faster", "leaner", "better", "CO2"] {
        assert!(shown.contains(word), "{word} is not in: {shown}");
    }
}

#[test]
fn a_second_look_is_fast_and_the_same() {
    let home = Home::new();
    let data = data(&home, 2000);
    let asked = ["plan", "--model", "starter", "--data", &data];
    let first = home.json(&asked);
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let again = home.json(&asked);
        best = best.min(begun.elapsed().as_secs_f64());
        assert_eq!(again["config"], first["config"]);
        assert_eq!(again["memory"], first["memory"]);
    }
    // A process is started and its answer read as well, unoptimised and beside other tests.
    assert!(best < 0.5, "{best} s");
    // Other data are looked at anew.
    let more = data.replace(".jsonl", "-more.jsonl");
    std::fs::copy(&data, &more).expect("copied");
    let row = format!("{{\"instruction\":\"Long\",\"output\":\"{}\"}}\n", "word ".repeat(200));
    let mut content = std::fs::read_to_string(&more).expect("read");
    content += &row;
    std::fs::write(&more, &content).expect("written");
    let longer = home.json(&["plan", "--model", "starter", "--data", &more]);
    assert_ne!(longer["config"]["training"]["max_sequence_length"], first["config"]["training"]["max_sequence_length"]);
}

#[test]
fn what_does_not_fit_is_reduced_explained_and_trained_so_s4_2_3() {
    let home = Home::new();
    let data = data(&home, 60);
    let machine = home.json(&["hardware"])["memory_bytes"].as_u64().expect("a size") as f64;
    // Just too little for what would be chosen.
    let roomy = home.json(&["plan", "--model", "starter", "--data", &data]);
    let need = roomy["memory"]["total_bytes"].as_f64().expect("a size");
    let fraction = format!("guards.memory_limit_fraction={}", (need - 1e5) / machine);
    let tight = home.run(&["plan", "--model", "starter", "--data", &data, "--set", &fraction, "--json"]);
    if (need - 1e5) / machine < 0.05 {
        // This machine has so much memory that the smallest share that may be asked for is enough.
        assert_eq!(tight.status.code(), Some(3));
        return;
    }
    let tight: Value = serde_json::from_str(&text(&tight.stdout)).expect("JSON");
    assert_eq!(tight["config"]["adapter"]["method"], "qlora");
    let values = tight["values"].as_array().expect("values");
    let why = values.iter().find(|v| v["key"] == "adapter.method").expect("the method");
    assert!(why["source"] == "hardware" && why["reason"].as_str().expect("text").contains("4 bit"), "{why}");
}

#[test]
fn problems_are_told_before_the_run() {
    let home = Home::new();
    let answer = home.json(&["plan", "--model", "starter", "--data", &data(&home, 45)]);
    let codes: Vec<&str> =
        answer["problems"].as_array().expect("problems").iter().filter_map(|p| p["code"].as_str()).collect();
    assert!(codes.contains(&"PS-DATA-005"), "{codes:?}");
    let cut = home.json(&[
        "plan",
        "--model",
        "starter",
        "--data",
        &data(&home, 200),
        "--set",
        "training.max_sequence_length=24",
    ]);
    let codes: Vec<&str> =
        cut["problems"].as_array().expect("problems").iter().filter_map(|p| p["code"].as_str()).collect();
    assert_eq!(codes, ["PS-DATA-006"]);
    // More states than any disk holds: told by `plan`, refused by `train`.
    let keep = ["--set", "checkpoint.keep=1000", "--set", "adapter.rank=64"];
    let big = data(&home, 200);
    let arguments = [&["--model", "starter", "--data", &big][..], &keep].concat();
    let answer = home.json(&[&["plan"][..], &arguments].concat());
    let need = answer["estimate"]["disk_bytes"].as_u64().expect("a size");
    let free = home.json(&["hardware"])["disk_free_bytes"].as_u64().expect("a size");
    let told = answer["problems"].as_array().expect("problems").iter().any(|p| p["code"] == "PS-DISK-001");
    assert_eq!(told, need > free, "{need} of {free}");
    if told {
        assert_eq!(home.fault(4, &[&["train"][..], &arguments].concat())["code"], "PS-DISK-001");
    }
}

#[test]
fn profiles_are_listed_with_time_and_memory_here_s4_3_1_s4_3_3() {
    let home = Home::new();
    let found = home.json(&["profiles"]);
    let profiles = found["profiles"].as_array().expect("profiles");
    assert!(profiles.len() >= 9);
    for p in profiles {
        assert!(p["example_uses"].as_array().is_some_and(|u| u.len() >= 3), "{p}");
        assert!(p["example_prompts"].as_array().is_some_and(|u| u.len() >= 3), "{p}");
        assert!(p["estimate"]["seconds"]["expected"].as_f64().is_some_and(|s| s > 0.0), "{p}");
        assert!(p["memory_bytes"].as_u64().is_some_and(|b| b > 1 << 20), "{p}");
    }
    assert!(text(&home.run(&["profiles"]).stdout).contains("classification"));
    let mine = home.json(&["profiles", "--model", "starter", "--data", &data(&home, 100)]);
    assert!(mine["counted_with"].as_str().expect("text").contains("100"));
}

#[test]
fn bad_input_is_named_with_what_is_allowed() {
    let home = Home::new();
    let data = data(&home, 50);
    let asked = ["plan", "--model", "starter", "--data", &data];
    let with = |more: &[&'static str]| -> Vec<String> {
        asked.iter().map(ToString::to_string).chain(more.iter().map(ToString::to_string)).collect()
    };
    let cases: [(&[&str], &str, &str); 6] = [
        (&["--profile", "chatbt"], "PS-CFG-001", "chatbot"),
        (&["--set", "use_case=nothing"], "PS-CFG-001", "use_case"),
        (&["--set", "training.learnin_rate=1"], "PS-CFG-002", "learning_rate"),
        (&["--set", "guards.memory_limit_fraction=0.01"], "PS-CFG-001", "0.05"),
        (&["--carbon-intensity", "atlantis"], "PS-CFG-001", "world"),
        (&["--currency", "usd"], "PS-CFG-001", "price"),
    ];
    for (more, code, said) in cases {
        let arguments = with(more);
        let error = home.fault(3, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(error["code"], code, "{more:?}");
        assert!(error.to_string().contains(said), "{more:?}: {error}");
    }
    for more in [&["--electricity-rate", "-1"][..], &["--currency", "euros"], &["--electricity-rate", "nan"]] {
        let arguments = with(more);
        let output = home.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
    }
    assert_eq!(home.run(&["plan"]).status.code(), Some(2));
    assert_eq!(home.fault(3, &["plan", &home.path("none.json")])["code"], "PS-FILE-001");
    // A kept fact or calibration that is damaged is made anew.
    let first = home.json(&asked);
    let cache = std::path::PathBuf::from(home.path("home")).join("cache");
    for entry in std::fs::read_dir(cache).expect("a cache") {
        std::fs::write(entry.expect("an entry").path(), "{\"key\": 1").expect("written");
    }
    assert_eq!(home.json(&asked)["config"], first["config"]);
}

#[test]
fn a_change_is_worked_out_within_100_ms_s4_9_3() {
    use peft_plan::alternatives::{alternatives, planned};
    use peft_plan::estimate::{Calibration, Point, Rates};
    use peft_plan::{DataFacts, Facts, MachineFacts, Method, RunConfig};
    let config = &peft_plan::profile::reference_model().config;
    let spec = peft_plan::family::spec_from_config(config).expect("a known model");
    let lengths: Vec<usize> = (0..50_000).map(|i| 20 + i * 7 % 400).collect();
    let memory_bytes = 64_000_000_000;
    let facts = Facts {
        data: DataFacts { rows: 50_500, held_out: vec![200; 500], learnt_share: 0.5, ..DataFacts::default() },
        machine: Some(MachineFacts {
            memory_bytes,
            available_bytes: memory_bytes,
            cores: 8,
            disk_free_bytes: 1 << 40,
            ..MachineFacts::default()
        }),
        ..Facts::bare(&spec, &lengths, 8)
    };
    let calibration = Calibration {
        method: Method::Lora,
        rank: 16,
        dropout: false,
        points: vec![Point { tokens: 500, squares: 100_000.0, seconds: 0.1, forward_seconds: 0.04 }],
        head_row_seconds: 1e-3,
        answer_seconds: 0.01,
        update_seconds: 1e-9,
        build_seconds: 0.01,
        sync_seconds: 0.003,
        write_seconds_per_byte: 3e-9,
        threads: 8,
        watts: None,
        correction: 1.0,
    };
    let mut config = RunConfig::default();
    for one in ["model.id=m", "dataset.path=d", "training.epochs=2"] {
        config.set(one).expect("a known setting");
    }
    let rates = Rates::default();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let current = planned(&config, &facts, &calibration, &rates).expect("planned");
        assert_eq!(alternatives(&current, &facts, &calibration, &rates).len(), 3);
        best = best.min(begun.elapsed().as_secs_f64());
    }
    // Beside other tests, and not all of it optimised; the program as people get it is several times faster.
    let limit = if cfg!(debug_assertions) { 0.5 } else { 0.1 };
    assert!(best < limit, "{best} s");
}
