//! `evaluate`: numbers that can be checked against each other, and what is refused.

use peft_tests::home::Home;
use serde_json::{Value, json};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/llama/model");
const ADAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/llama/adapter-lora");
/// The tiny models have no layout of their own.
const LAYOUT: [&str; 2] = ["--chat-template", "plain"];

fn rows(home: &Home, name: &str, rows: &[Value]) -> String {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    home.write(name, lines.join("\n"))
}

fn evaluate(home: &Home, words: &[&str]) -> Value {
    home.json(&[&["evaluate", "--model", MODEL], &LAYOUT[..], words].concat())
}

fn lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("written");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn rows_add_up_to_the_whole_and_the_base_answers_as_by_itself_s3_6() {
    let home = Home::new();
    let data: Vec<Value> = (0..13)
        .map(|n| json!({"question": format!("What is {n}?"), "answer": format!("It is {n} of many.")}))
        .collect();
    let data = rows(&home, "x.jsonl", &data);
    let per_row = home.path("rows.jsonl");
    let common = ["--data", &data, "--generate", "--max-new-tokens", "6", "--per-row", &per_row];
    let tuned = evaluate(&home, &[&["--adapter", ADAPTER], &common[..]].concat());
    let with = lines(&per_row);
    let plain = evaluate(&home, &common);
    let without = lines(&per_row);
    assert_eq!((with.len(), without.len()), (13, 13));
    assert_eq!(tuned["generated_rows"], 13);
    // The base column is that of a run without the adapter, to the last bit and letter.
    for name in ["loss", "perplexity", "token_accuracy", "exact_match", "f1"] {
        assert_eq!(tuned["base"][name], plain[name], "{name}");
        assert_eq!(plain["base"][name], plain[name], "{name}");
    }
    assert_ne!(tuned["loss"], plain["loss"], "the adapter changes nothing");
    let (mut loss, mut tokens) = (0.0, 0.0);
    for (number, (with, without)) in with.iter().zip(&without).enumerate() {
        assert_eq!(with["line"], number + 1);
        assert_eq!(with["base_answer"], without["answer"]);
        assert_eq!(with["base_loss"], without["loss"]);
        assert_eq!(with["exact"], with["answer"] == with["expected"]);
        let count = with["tokens"].as_f64().expect("a number");
        loss += with["loss"].as_f64().expect("a number") * count;
        tokens += count;
    }
    assert_eq!(tuned["tokens"].as_f64(), Some(tokens));
    assert!((tuned["loss"].as_f64().expect("a number") - loss / tokens).abs() < 1e-9);
    assert_eq!(tuned["examples"], 13);
    // Fewer rows are spread over the data.
    let few = evaluate(&home, &[&common[..], &["--max-rows", "3"]].concat());
    assert_eq!(few["generated_rows"], 3);
    assert_eq!(few["loss"], plain["loss"]);
    let answered: Vec<Value> = lines(&per_row).into_iter().filter(|row| row.get("answer").is_some()).collect();
    assert_eq!(answered.iter().map(|row| row["line"].clone()).collect::<Vec<_>>(), [1, 5, 9]);
}

/// The likeliest label is the one whose answer has the lowest loss, and each can be scored by itself.
#[test]
fn labels_are_found_and_weighed_by_their_likelihood_s3_6() {
    let home = Home::new();
    let row = |n: usize, label: &str| json!({"question": format!("Is {n} odd?"), "answer": label});
    let data: Vec<Value> = (0..10).map(|n| row(n, if n % 3 == 0 { "yes" } else { "no" })).collect();
    let data = rows(&home, "x.jsonl", &data);
    let per_row = home.path("rows.jsonl");
    let report = evaluate(&home, &["--data", &data, "--per-row", &per_row, "--adapter", ADAPTER]);
    assert_eq!(report["labels"]["set"], json!(["no", "yes"]));
    assert_eq!((&report["labels"]["detected"], &report["labels"]["rows"]), (&json!(true), &json!(10)));
    assert_eq!(report["labels"]["majority"], 0.6);
    let weighed = lines(&per_row);
    let right = weighed.iter().filter(|row| row["label"] == row["expected"]).count();
    assert_eq!(report["label_accuracy"], right as f64 / 10.0);
    let right = weighed.iter().filter(|row| row["base_label"] == row["expected"]).count();
    assert_eq!(report["base"]["label_accuracy"], right as f64 / 10.0);
    // What a label is worth is the loss of a row that has it as its answer.
    for (number, weighed) in weighed.iter().enumerate().take(2) {
        for (at, label) in ["no", "yes"].into_iter().enumerate() {
            let single = rows(&home, "single.jsonl", &[row(number, label)]);
            let alone = evaluate(&home, &["--data", &single, "--adapter", ADAPTER]);
            let total = alone["loss"].as_f64().expect("a number") * alone["tokens"].as_f64().expect("a number");
            let score = weighed["label_scores"][at].as_f64().expect("a number");
            assert!((score + total).abs() < 1e-4 * total, "{label}: {score} and {total}");
        }
    }
    // Labels that are given need not be in the data, and rows with others are left out.
    let given = evaluate(&home, &["--data", &data, "--labels", "no,maybe"]);
    assert_eq!((&given["labels"]["rows"], &given["labels"]["other"]), (&json!(6), &json!(4)));
    assert!(given["notes"][0].as_str().is_some_and(|note| note.contains("4 rows")), "{given}");
}

#[test]
fn one_label_is_no_choice() {
    let home = Home::new();
    let data: Vec<Value> = (0..9).map(|n| json!({"question": format!("Is {n} odd?"), "answer": "spam"})).collect();
    let data = rows(&home, "x.jsonl", &data);
    let report = evaluate(&home, &["--data", &data]);
    assert_eq!((&report["labels"], &report["label_accuracy"]), (&Value::Null, &Value::Null));
    assert!(report["notes"][0].as_str().is_some_and(|note| note.contains("`spam`")), "{report}");
    for labels in ["spam", "spam,Spam!", ","] {
        let words = ["evaluate", "--model", MODEL, "--data", &data, "--labels", labels];
        let error = home.fault(3, &words);
        assert_eq!(error["code"], "PS-CFG-001");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("at least two")), "{error}");
    }
}

#[test]
fn answers_that_should_be_json_are_checked() {
    let home = Home::new();
    let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    let data: Vec<Value> = (0..4)
        .map(|n| json!({"messages": [{"role": "user", "content": format!("{n} as JSON")}, {"role": "assistant", "content": json!({"n": n}).to_string()}], "json_schema": schema}))
        .collect();
    let data = rows(&home, "x.jsonl", &data);
    let report = evaluate(&home, &["--data", &data, "--generate", "--max-new-tokens", "5"]);
    assert_eq!(report["json"], json!({"rows": 4, "with_schema": 4}));
    // The tiny model talks nonsense, so nothing of it is JSON.
    assert_eq!(
        (&report["json_valid"], &report["schema_valid"], &report["json_equal"]),
        (&json!(0.0), &json!(0.0), &json!(0.0))
    );
    let bad = home.write("schema.json", "[1, 2");
    let error = home.fault(3, &["evaluate", "--model", MODEL, "--data", &data, "--schema", &bad]);
    assert_eq!(error["code"], "PS-CFG-001");
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    let home = Home::new();
    let text = home.write("x.jsonl", "{\"text\": \"Once upon a time there was a model.\"}\n");
    // Plain text has a loss and no answers.
    let report = evaluate(&home, &["--data", &text, "--generate"]);
    assert!(report["loss"].as_f64().is_some_and(|loss| loss > 0.0));
    assert_eq!((&report["generated_rows"], &report["exact_match"]), (&json!(0), &Value::Null));
    // An answer that does not fit behind its question is counted.
    let long = json!({"question": "why ".repeat(60), "answer": "so"});
    let long = rows(&home, "long.jsonl", &[long]);
    let report = evaluate(&home, &["--data", &long, "--generate", "--max-new-tokens", "100000"]);
    assert_eq!(report["generated_rows"], 0);
    assert!(report["notes"][0].as_str().is_some_and(|note| note.contains("do not fit")), "{report}");
    let error = home.fault(3, &["evaluate", "--model", MODEL, "--data", &home.path("none.jsonl")]);
    assert_eq!(error["code"], "PS-FILE-001");
}
