//! What people do with generated rows: take, change, refuse, and ask again where a model is weak (S2.3, B14).

use super::{chunks, fault_of, generate, lines, row};
use peft_tests::helper::{MockHelper, Way};
use peft_tests::home::{Home, text};
use serde_json::{Value, json};

#[test]
fn rows_are_taken_changed_and_refused_and_the_file_follows_s2_3() {
    let home = Home::new();
    chunks(&home, 4);
    assert_eq!(home.fault(3, &["data", "review"])["code"], "PS-CFG-001", "nothing was generated yet");
    let mock = MockHelper::new(|_| Way::Good, row);
    generate(&home, &mock, &[]);
    let out = home.path("rows.jsonl");
    let shown = home.json(&["data", "review", &out]);
    let numbers: Vec<String> =
        shown["rows"].as_array().expect("rows").iter().map(|row| row["row"].to_string()).collect();
    assert_eq!((numbers.len(), &shown["job"]["taken"]), (4, &json!(4)));
    let changed = ["data", "review", "--edit", &numbers[0], "--answer", "A long time ago.", "--reject", &numbers[1]];
    let standing = home.json(&[&changed[..], &["--accept", &numbers[2]]].concat())["job"].clone();
    assert_eq!((&standing["approved"], &standing["rejected"], &standing["taken"]), (&json!(2), &json!(1), &json!(1)));
    let rows = lines(&out);
    assert_eq!((rows.len(), &rows[0]["output"]), (3, &json!("A long time ago.")));
    assert_eq!(home.json(&["data", "review", "--state", "rejected"])["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(home.json(&["data", "review", "--list"])["jobs"][0]["settings"]["out"], json!(out));
    assert_eq!(home.fault(3, &["data", "review", "--accept", "999"])["code"], "PS-CFG-001");
    // What a person said stays said when the same command goes on.
    let calls = mock.calls();
    assert_eq!(generate(&home, &mock, &["--resume"])["rows"], 3);
    assert_eq!((mock.calls(), &lines(&out)[0]["output"]), (calls, &json!("A long time ago.")));
    let output = home.run(&["data", "review"]);
    assert!(text(&output.stdout).contains("A long time ago."), "{}", text(&output.stdout));
}

#[test]
fn badly_answered_questions_lead_to_their_chunks_b14() {
    let home = Home::new();
    let chunks = chunks(&home, 30);
    let asked: String = (0..30)
        .map(|n| {
            let answer = if n == 7 || n == 19 { "No idea.".to_owned() } else { format!("In {}.", 1000 + n) };
            let right = n != 7 && n != 19;
            json!({"question": format!("In which year was house number {n} built?"), "expected": format!("In {}.", 1000 + n),
                   "answer": answer, "exact": right})
            .to_string()
                + "\n"
        })
        .collect();
    let judged = home.write("judged.jsonl", asked);
    let mock = MockHelper::new(|_| Way::Good, row);
    let (out, base) = (home.path("again.jsonl"), mock.base());
    let fixed = ["data", "generate", "--chunks", &chunks, "--out", &out, "--provider", "openai", "--base-url", &base];
    let fixed = [&fixed[..], &["--helper-model", "m", "--pairs", "1"]].concat();
    let output = home.run(&[&fixed[..], &["--ask-again", &judged, "--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_str(text(&output.stdout).lines().last().expect("a report")).expect("JSON");
    assert_eq!(report["failed_questions"], 2);
    let rows = lines(&out);
    let has = |n: usize| rows.iter().any(|row| row["chunk"] == format!("c{n}"));
    assert!(has(7) && has(19) && rows.len() <= 6, "{rows:?}");
    // A helper that writes the evaluation's own questions has them refused.
    let leaking = MockHelper::new(
        |_| Way::Good,
        |request| {
            row(request).replace("When was house", "In which year was house number").replacen(
                "house number number",
                "house number",
                1,
            )
        },
    );
    let (out, base) = (home.path("leak.jsonl"), leaking.base());
    let fixed = ["data", "generate", "--chunks", &chunks, "--out", &out, "--provider", "openai", "--base-url", &base];
    let fault =
        fault_of(&home, &[&fixed[..], &["--helper-model", "m", "--pairs", "1", "--ask-again", &judged]].concat());
    assert!(
        fault["code"] == "PS-OR-003" && fault["detail"].as_str().is_some_and(|why| why.contains("held_out")),
        "{fault}"
    );
}

#[test]
fn an_evaluation_says_what_was_asked_b14() {
    let home = Home::new();
    let data = home.write(
        "e.jsonl",
        "{\"instruction\":\"How early do you unlock the door?\",\"output\":\"At dawn, with a key of ice.\"}\n",
    );
    let per_row = home.path("judged.jsonl");
    home.json(&[
        "evaluate",
        "--model",
        "starter",
        "--data",
        &data,
        "--generate",
        "--per-row",
        &per_row,
        "--max-new-tokens",
        "16",
    ]);
    let rows = lines(&per_row);
    assert_eq!(rows[0]["question"], "How early do you unlock the door?");
}
