//! Helper models through the real program: rows from chunks, labels, a person's conversations, and every failure.

#[path = "teaching/chain.rs"]
mod chain;
#[path = "teaching/exports.rs"]
mod exports;
#[path = "teaching/kills.rs"]
mod kills;
#[path = "teaching/people.rs"]
mod people;

use peft_tests::helper::{MockHelper, PASSING, Way};
use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::fmt::Write as _;

pub(crate) fn lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("written");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

pub(crate) fn chunks(home: &Home, count: usize) -> String {
    let mut file = String::new();
    for n in 0..count {
        let chunk = json!({"id": format!("c{n}"), "text": format!("House number {n} was built in {}.", 1000 + n), "source": "h.md"});
        writeln!(file, "{chunk}").expect("a String takes everything");
    }
    home.write("chunks.jsonl", file)
}

/// A row of the chunk that is asked about.
pub(crate) fn row(request: &Value) -> String {
    let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
    let number = asked.split("House number ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?");
    let year = 1000 + number.parse::<usize>().unwrap_or(0);
    json!({"items": [{
        "question": format!("When was house {number} built?"), "answer": format!("In {year}."),
        "evidence": format!("number {number} was built in {year}."),
    }]})
    .to_string()
}

/// The fault of a command that answered some questions before it failed.
pub(crate) fn fault_of(home: &Home, arguments: &[&str]) -> Value {
    let output = home.run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let document: Value = serde_json::from_str(&text(&output.stderr)).expect("one document");
    document["error"].clone()
}

pub(crate) fn generate(home: &Home, mock: &MockHelper, more: &[&str]) -> Value {
    let (chunks, out, base) = (home.path("chunks.jsonl"), home.path("rows.jsonl"), mock.base());
    let fixed = ["data", "generate", "--chunks", &chunks, "--out", &out, "--provider", "openai", "--base-url", &base];
    let output = home.run(&[&fixed[..], &["--helper-model", "m", "--pairs", "1", "--json"], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_str(text(&output.stdout).lines().last().expect("a report")).expect("JSON")
}

#[test]
fn rows_come_from_chunks_through_every_failure_and_go_on_s2_3() {
    let home = Home::new();
    chunks(&home, 12);
    // Every third call fails, each time in another way.
    let fate = |n: usize| if n % 3 == 1 { PASSING[n / 3 % PASSING.len()] } else { Way::Good };
    let mock = MockHelper::new(fate, row);
    let report = generate(&home, &mock, &[]);
    assert_eq!((report["rows"].as_u64(), report["end"].as_str()), (Some(12), Some("done")), "{report}");
    let rows = lines(&home.path("rows.jsonl"));
    assert!(rows.iter().all(|row| row["evidence"].as_str().is_some_and(|quote| quote.contains("was built"))));
    let calls = mock.calls();
    assert_eq!(generate(&home, &mock, &[])["rows"], 12);
    assert_eq!(mock.calls(), calls, "what is there is not asked for again");
    assert_eq!(generate(&home, &mock, &["--restart"])["rows"], 12);
    assert!(mock.calls() > calls);
}

#[test]
fn a_service_that_refuses_is_told_with_its_code() {
    let home = Home::new();
    let chunks = chunks(&home, 2);
    let out = home.path("rows.jsonl");
    let cases =
        [(Way::Status(401), "PS-OR-001", 5), (Way::Status(402), "PS-OR-002", 5), (Way::Status(404), "PS-HELP-002", 3)];
    for (way, code, exit) in cases {
        let mock = MockHelper::new(move |_| way, row);
        let base = mock.base();
        let fixed =
            ["data", "generate", "--chunks", &chunks, "--out", &out, "--provider", "openai", "--base-url", &base];
        let fault = home.fault(exit, &[&fixed[..], &["--helper-model", "m"]].concat());
        assert_eq!(fault["code"], code);
    }
    let joke = MockHelper::new(|_| Way::Good, |_| "A joke.".to_owned());
    let base = joke.base();
    let fixed = ["data", "generate", "--chunks", &chunks, "--out", &out, "--provider", "openai", "--base-url", &base];
    let command = [&fixed[..], &["--helper-model", "m"]].concat();
    for (more, why) in [("--restart", "nothing in them was a row"), ("--resume", "asked before")] {
        let fault = fault_of(&home, &[&command[..], &[more]].concat());
        assert!(
            fault["code"] == "PS-OR-003" && fault["detail"].as_str().is_some_and(|told| told.contains(why)),
            "{fault}"
        );
    }
    assert!(!std::path::Path::new(&out).exists(), "no rows, no file");
    let fault = home.fault(5, &["data", "helpers"]);
    assert_eq!(fault["code"], "PS-OLL-001");
}

#[test]
fn rows_are_labelled_and_answers_that_are_there_stay_s1_4() {
    let home = Home::new();
    let file = home.write(
        "q.jsonl",
        "{\"id\":\"a\",\"user\":\"One?\"}\n{\"id\":\"b\",\"user\":\"Two?\",\"assistant\":\"Kept.\"}\n",
    );
    let out = home.path("l.jsonl");
    let mock = MockHelper::new(|_| Way::Good, |_| "Answered.".to_owned());
    let mut command =
        home.command(&["data", "label", &file, "--out", &out, "--teacher", "ollama:teacher:8b", "--skip_existing"]);
    let output = command.env("OLLAMA_HOST", mock.host()).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("b keeps its answer"));
    let rows = lines(&out);
    assert_eq!((&rows[0]["assistant"], &rows[1]["assistant"]), (&json!("Answered."), &json!("Kept.")));
}

#[test]
fn a_model_of_this_computer_labels_without_any_service_d8() {
    let home = Home::new();
    let schema = r#"{"type":"object","properties":{"open":{"type":"boolean"}},"required":["open"],"additionalProperties":false}"#;
    let rows = format!(
        "{{\"id\":\"a\",\"system_hint\":\"Be brief.\",\"user\":\"How early do you unlock the door?\"}}\n\
         {{\"id\":\"b\",\"user\":\"Is it open?\",\"requires_json\":true,\"json_schema\":{schema}}}\n"
    );
    let file = home.write("q.jsonl", rows);
    let out = home.path("l.jsonl");
    let arguments =
        ["data", "label", &file, "--out", &out, "--teacher", "starter", "--max_new_tokens", "24", "--offline"];
    let output = home.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rows = lines(&out);
    assert!(rows[0]["assistant"].as_str().is_some_and(|answer| !answer.is_empty()));
    let answer: Value = serde_json::from_str(rows[1]["assistant"].as_str().expect("text")).expect("valid JSON");
    assert!(answer["open"].is_boolean(), "{answer}");
    let models = home.json(&["data", "helpers", "--provider", "local"]);
    assert_eq!(models["models"][0]["name"], "starter");
    let missing = ["data", "label", &file, "--out", &out, "--teacher", "no/such-model"];
    assert_eq!(home.fault(3, &missing)["code"], "PS-MODEL-001");
}

#[test]
fn a_persons_chats_become_conversations_s3_1() {
    let home = Home::new();
    let chat = home.write("chat.txt", "31.12.23, 21:05 - Ana: Where are you?\n31.12.23, 21:06 - Me: At home.\n");
    let personality = home.write("me.txt", "You are Me, who is always at home.");
    let out = home.path("me.jsonl");
    let report = home.json(&[
        "data",
        "persona",
        "--memories",
        &chat,
        "--personality",
        &personality,
        "--out",
        &out,
        "--me",
        "me",
    ]);
    assert_eq!((report["rows"].as_u64(), report["me"].as_str()), (Some(1), Some("Me")));
    let rows = lines(&out);
    let roles: Vec<&str> =
        rows[0]["messages"].as_array().expect("turns").iter().filter_map(|turn| turn["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(home.json(&["data", "reference", "--out", &home.path("tasks.jsonl")])["rows"], 4);
}
