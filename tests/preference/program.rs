//! Preferences through the real program: the starter learns them, and what prefers nothing is refused in words.

use peft_starter::sample_rows_jsonl;
use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::path::Path;

/// Questions about the sample cafe: its answer is preferred to the starter's way of not knowing.
fn pairs(count: usize) -> Vec<Value> {
    let rows: Vec<Value> = sample_rows_jsonl().lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    // Every sixth row: many subjects, few repetitions.
    let some = rows.iter().step_by(rows.len() / count).take(count);
    some.map(
        |row| json!({"prompt": row["instruction"], "chosen": row["output"], "rejected": "Sorry, I do not know that."}),
    )
    .collect()
}

fn jsonl(rows: &[Value]) -> String {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

fn events(home: &Home, arguments: &[&str]) -> Vec<Value> {
    let output = home.run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[test]
fn the_starter_learns_what_is_preferred_from_sixty_pairs_and_shows_it_on_others() {
    let home = Home::new();
    let data = home.write("pairs.jsonl", jsonl(&pairs(75)));
    let out = home.path("run");
    let told = events(
        &home,
        &[
            "train",
            "--model",
            "starter",
            "--data",
            &data,
            "--objective",
            "dpo",
            "--out",
            &out,
            "--epochs",
            "4",
            "--learning-rate",
            "5e-4",
            "--set",
            "dataset.validation_split=0.2",
            "--set",
            "evaluation.every_steps=2",
        ],
    );
    let of = |kind: &str| -> Vec<&Value> { told.iter().filter(|e| e["event"] == kind).collect() };
    assert_eq!((number(&of("started")[0]["examples"]), number(&of("started")[0]["validation_examples"])), (60.0, 15.0));
    let steps = of("step");
    assert!((number(&steps[0]["loss"]) - std::f64::consts::LN_2).abs() < 1e-6, "{}", steps[0]);
    assert!(number(&steps[0]["preference"]["margin"]).abs() < 1e-6, "{}", steps[0]);
    let evaluations = of("evaluation");
    let (first, last) = (evaluations[0], evaluations[evaluations.len() - 1]);
    assert!(number(&last["preference"]["accuracy"]) >= 0.9, "{last}");
    let margin = |event: &Value| number(&event["preference"]["margin"]);
    assert!(margin(last) > 3.0 * margin(first).max(0.01), "{first} {last}");
    assert!(number(&last["loss"]) < 0.6, "{last}");
    // The result is an adapter like any other.
    let adapter = Path::new(&out).join("adapter").display().to_string();
    let held_out = home.write("held.jsonl", jsonl(&pairs(150)[1..].iter().step_by(2).cloned().collect::<Vec<_>>()));
    let scored = home.json(&["evaluate", "--model", "starter", "--adapter", &adapter, "--data", &held_out]);
    assert!(number(&scored["preference_accuracy"]) >= 0.9, "{scored}");
    assert!(number(&scored["chosen_is_likelier"]) >= number(&scored["base"]["chosen_is_likelier"]), "{scored}");
    let answer = home.json(&["chat", "--model", "starter", "--adapter", &adapter, "--prompt", "When do you open?"]);
    assert!(answer.to_string().len() > 20, "{answer}");
    // Nothing of this was computed in another way than a run that goes on from it would.
    let again = events(
        &home,
        &[
            "train",
            "--model",
            "starter",
            "--data",
            &data,
            "--objective",
            "kto",
            "--resume-from",
            &out,
            "--out",
            &home.path("second"),
            "--set",
            "training.max_steps=2",
        ],
    );
    let first = again.iter().find(|e| e["event"] == "step").expect("a step");
    assert!((number(&first["loss"]) - 0.5).abs() < 1e-6, "the reference is the adapter as it came: {first}");
}

#[test]
fn rows_and_objectives_that_do_not_fit_are_refused_before_anything_runs() {
    let home = Home::new();
    let preferred = pairs(6);
    let pair_file = home.write("pairs.jsonl", jsonl(&preferred));
    let copy = home.write("copy.jsonl", "{\"prompt\":\"q\",\"completion\":\"a\"}\n".repeat(4));
    let rated = |labels: &[bool]| -> String {
        let row = |(n, label): (usize, &bool)| json!({"prompt": format!("q{n}"), "completion": "a b", "label": label});
        jsonl(&labels.iter().enumerate().map(row).collect::<Vec<_>>())
    };
    let liked = home.write("liked.jsonl", rated(&[true; 5]));
    let loathed = home.write("loathed.jsonl", rated(&[false; 5]));
    let both = home.write("both.jsonl", rated(&[true, false, true]));
    let equal: Vec<Value> = preferred
        .iter()
        .map(|row| json!({"prompt": row["prompt"], "chosen": row["chosen"], "rejected": row["chosen"]}))
        .collect();
    let equal = home.write("equal.jsonl", jsonl(&equal));
    let half = home.write("half.jsonl", format!("{}{{\"prompt\":\"q\",\"chosen\":\"a\"}}\n", jsonl(&preferred)));
    for (data, objective, code, word) in [
        (&pair_file, "sft", "PS-CFG-001", "dpo"),
        (&copy, "dpo", "PS-CFG-001", "sft"),
        (&copy, "kto", "PS-CFG-001", "sft"),
        (&both, "orpo", "PS-CFG-001", "kto"),
        (&liked, "kto", "PS-PREF-001", "wanted"),
        (&loathed, "kto", "PS-PREF-001", "unwanted"),
        (&loathed, "sft", "PS-CFG-001", "kto"),
        (&equal, "dpo", "PS-PREF-001", "same"),
        (&equal, "sft", "PS-PREF-001", "same"),
        (&half, "dpo", "PS-DATA-004", "line 7"),
    ] {
        let out = home.path("never");
        let arguments =
            ["train", "--model", "starter", "--data", data, "--objective", objective, "--out", &out, "--epochs", "1"];
        let error = home.fault(3, &arguments);
        assert_eq!(error["code"], code, "{data}, {objective}: {error}");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{objective}: {error}");
        assert!(!Path::new(&out).exists(), "nothing was begun");
    }
    for (setting, objective) in [
        ("training.preference_beta=0", "dpo"),
        ("training.label_smoothing=0.7", "dpo"),
        ("training.label_smoothing=0.1", "sft"),
        ("adapter.method=full", "dpo"),
        ("training.packing=true", "orpo"),
    ] {
        let arguments =
            ["train", "--model", "starter", "--data", &pair_file, "--objective", objective, "--set", setting];
        assert_eq!(home.fault(3, &arguments)["code"], "PS-CFG-001", "{setting}");
    }
}

#[test]
fn prompts_beyond_the_limit_are_cut_and_both_answers_stay() {
    let home = Home::new();
    let long = "When do you open? ".repeat(40);
    let mut rows = pairs(12);
    for row in &mut rows {
        row["prompt"] = Value::from(format!("{long}{}", row["prompt"].as_str().expect("a prompt")));
    }
    rows[0]["rejected"] = rows[0]["chosen"].clone();
    let data = home.write("pairs.jsonl", jsonl(&rows));
    for objective in ["dpo", "orpo", "kto"] {
        let out = home.path(objective);
        let told = events(
            &home,
            &[
                "train",
                "--model",
                "starter",
                "--data",
                &data,
                "--objective",
                objective,
                "--out",
                &out,
                "--epochs",
                "1",
                "--set",
                "training.max_sequence_length=40",
            ],
        );
        let started = &told[0];
        let examples = if objective == "kto" { 22.0 } else { 11.0 };
        assert_eq!((number(&started["examples"]), number(&started["truncated_examples"])), (examples, examples));
        assert!(told.iter().all(|event| event["event"] != "failed"));
        let finished = told.last().expect("events");
        assert_eq!(finished["event"], "finished", "{finished}");
        assert!(number(&finished["loss"]).is_finite(), "{finished}");
    }
    let report = home.json(&["data", "inspect", &data, "--model", "starter"]);
    assert_eq!(report["files"][0]["shape"], "preference");
    assert!(report["issues"].as_array().expect("issues").iter().any(|issue| issue["code"] == "no_preference"));
    let shown = &report["preview"][0];
    assert!(shown["chosen"][0]["content"].is_string() && shown["rejected"][0]["content"].is_string(), "{shown}");
    assert!(number(&shown["tokens"]) > number(&shown["trained_tokens"]), "{shown}");
}
