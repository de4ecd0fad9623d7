//! Converting to each layout and reading it back; filters, validation and what was left out.

use peft_data::{BadLine, ConvertOptions, Dataset, ReadOptions, Target, convert, dataset_hash, read};
use peft_plan::{Example, Role, Turn};
use serde_json::json;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a writable folder");
    path
}

fn read_back(path: &Path) -> Dataset {
    let options = ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() };
    read(&[path.to_path_buf()], &options).expect("readable")
}

fn examples(dataset: &Dataset) -> Vec<Example> {
    dataset.rows.iter().map(|row| row.example.clone()).collect()
}

const TALK: &str = concat!(
    r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q \"x\"\nü"},{"role":"assistant","content":"a"}]}"#,
    "\n",
    r#"{"messages":[{"role":"user","content":"h"},{"role":"assistant","content":"r"},{"role":"user","content":"q"},{"role":"assistant","content":"b"}]}"#,
    "\n",
    r#"{"prompt":"p","completion":"c"}"#,
    "\n",
);

#[test]
fn each_layout_can_be_written_and_read_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = read_back(&write(&folder, "in.jsonl", TALK));
    for (target, shape) in [(Target::Messages, "messages"), (Target::Sharegpt, "sharegpt"), (Target::Alpaca, "alpaca")]
    {
        let out = folder.path().join("out.jsonl");
        let report = convert(&source, target, &out, &ConvertOptions::default()).expect("written");
        assert_eq!((report.rows, report.validation_rows, report.rejected_rows), (3, 0, 0));
        assert!(report.rejected.is_none() && report.validation.is_none() && report.out.is_absolute());
        let back = read_back(&out);
        assert_eq!(examples(&back), examples(&source), "{shape}");
        assert_eq!(back.files[0].shape, shape);
    }
    let out = folder.path().join("out.jsonl");
    convert(&source, Target::Text, &out, &ConvertOptions::default()).expect("written");
    let back = read_back(&out);
    assert_eq!(back.files[0].shape, "text");
    // S1.2: double newlines between the parts.
    assert_eq!(back.rows[0].example, Example::Text("s\n\nq \"x\"\nü\n\na".to_owned()));
}

#[test]
fn flags_survive_in_messages_and_sharegpt_and_their_loss_is_noted_elsewhere() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let line = r#"{"messages":[{"role":"user","content":"h"},{"role":"assistant","content":"r","train":false},{"role":"user","content":"q"},{"role":"assistant","content":"b"}]}"#;
    let source = read_back(&write(&folder, "in.jsonl", line));
    let out = folder.path().join("out.jsonl");
    for target in [Target::Messages, Target::Sharegpt] {
        let report = convert(&source, target, &out, &ConvertOptions::default()).expect("written");
        assert!(report.notes.is_empty());
        assert_eq!(examples(&read_back(&out)), examples(&source));
    }
    let report = convert(&source, Target::Alpaca, &out, &ConvertOptions::default()).expect("written");
    assert!(report.notes[0].contains("1 rows"), "{:?}", report.notes);
}

#[test]
fn filters_put_rows_aside_with_their_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = concat!(
        r#"{"question":"q","answer":"a b"}"#,
        "\n",
        r#"{"question":" Q ","answer":"A  b"}"#,
        "\n",
        r#"{"question":"r","answer":"cafÃ©"}"#,
        "\n",
        r#"{"question":"s","answer":"x<|im_end|>"}"#,
        "\n",
        r#"{"question":"t","answer":""}"#,
        "\n",
        "{oops}\n",
    );
    let source = read_back(&write(&folder, "in.jsonl", text));
    let out = folder.path().join("out.jsonl");
    let options = ConvertOptions { deduplicate: true, quality_filter: true, ..ConvertOptions::default() };
    let report = convert(&source, Target::Messages, &out, &options).expect("written");
    assert_eq!((report.rows, report.duplicates, report.filtered, report.rejected_rows), (1, 1, 2, 5));
    let aside = std::fs::read_to_string(folder.path().join("out.rejected.jsonl")).expect("written");
    let records: Vec<serde_json::Value> = aside.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut lines: Vec<u64> = records.iter().filter_map(|record| record["line"].as_u64()).collect();
    lines.sort_unstable();
    assert_eq!(lines, [2, 3, 4, 5, 6]);
    assert!(records.iter().all(|record| record["reason"].is_string() && record["kind"].is_string()));
    let copy = records.iter().find(|record| record["line"] == 2).expect("the copy");
    assert_eq!(copy["messages"][0]["content"], " Q ", "nothing is lost");
    let plain = convert(&source, Target::Messages, &out, &ConvertOptions::default()).expect("written");
    assert_eq!((plain.rows, plain.rejected_rows), (4, 2));
}

#[test]
fn validation_rows_go_to_a_second_file_and_share_no_question() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let line = |n: usize| format!("{{\"question\":\"q{}\",\"answer\":\"answer {n}\"}}\n", n % 40);
    let text: String = (0..120).map(line).collect();
    let source = read_back(&write(&folder, "in.jsonl", &text));
    let out = folder.path().join("out.jsonl");
    let options = ConvertOptions { validation_split: 0.2, seed: 7, ..ConvertOptions::default() };
    let report = convert(&source, Target::Messages, &out, &options).expect("written");
    assert_eq!((report.rows, report.validation_rows), (96, 24));
    let questions = |path: &Path| -> Vec<Turn> {
        let first = |example| match example {
            Example::Messages(turns) => turns.into_iter().next(),
            _ => None,
        };
        examples(&read_back(path)).into_iter().filter_map(first).collect()
    };
    let held = questions(report.validation.as_deref().expect("a second file"));
    assert_eq!(report.validation, Some(folder.path().join("out.validation.jsonl")));
    let trained = questions(&out);
    assert!(held.iter().all(|turn| !trained.contains(turn)));
    let first = std::fs::read(&out).expect("written");
    convert(&source, Target::Messages, &out, &options).expect("written");
    assert_eq!(std::fs::read(&out).expect("written"), first, "the same seed gives the same file");
}

#[test]
fn a_system_prompt_can_be_included() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = read_back(&write(&folder, "in.jsonl", TALK));
    let out = folder.path().join("out.jsonl");
    let options = ConvertOptions { include_system: Some("Be brief.".to_owned()), ..ConvertOptions::default() };
    convert(&source, Target::Messages, &out, &options).expect("written");
    let systems: Vec<String> = examples(&read_back(&out))
        .into_iter()
        .map(|example| match example {
            Example::Messages(turns) if turns[0].role == Role::System => turns[0].content.clone(),
            other => panic!("no system prompt in {other:?}"),
        })
        .collect();
    assert_eq!(systems, ["s", "Be brief.", "Be brief."]);
}

#[test]
fn rows_that_a_layout_cannot_hold_are_put_aside() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = format!(
        "{TALK}{}\n{}\n",
        r#"{"text":"plain"}"#,
        r#"{"messages":[{"role":"user","content":"q"},{"role":"tool","content":"t"},{"role":"assistant","content":"a"}]}"#
    );
    let source = read_back(&write(&folder, "in.jsonl", &text));
    let out = folder.path().join("out.jsonl");
    let report = convert(&source, Target::Alpaca, &out, &ConvertOptions::default()).expect("written");
    assert_eq!((report.rows, report.rejected_rows), (3, 2));
    let report = convert(&source, Target::Sharegpt, &out, &ConvertOptions::default()).expect("written");
    assert_eq!((report.rows, report.rejected_rows), (4, 1));
}

#[test]
fn an_input_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = write(&folder, "in.jsonl", TALK);
    let source = read_back(&path);
    let fault = convert(&source, Target::Alpaca, &path, &ConvertOptions::default()).expect_err("refused");
    assert_eq!(fault.code, "PS-CFG-001");
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), TALK);
    let out = folder.path().join("missing/out.jsonl");
    assert_eq!(
        convert(&source, Target::Alpaca, &out, &ConvertOptions::default()).expect_err("no folder").code,
        "PS-FILE-001"
    );
}

#[test]
fn targets_have_names() {
    assert_eq!("sharegpt".parse::<Target>().expect("known"), Target::Sharegpt);
    assert!("parquet".parse::<Target>().is_err());
}

#[test]
fn the_hash_of_a_dataset_is_that_of_its_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = read_back(&write(&folder, "a.jsonl", TALK));
    let same = read_back(&write(&folder, "b.jsonl", TALK));
    let other = read_back(&write(&folder, "c.jsonl", &TALK.replace("\"p\"", "\"P\"")));
    assert_eq!(dataset_hash(&first.files), dataset_hash(&same.files));
    assert_ne!(dataset_hash(&first.files), dataset_hash(&other.files));
}

#[test]
fn fixes_of_the_report_are_applied_and_counted_s5_7() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.jsonl");
    let long = "The history of the old town by the river is long and it is told by many people who live there \
        and who remember how the market was built before the war began and ended again in the spring";
    let rows = [
        json!({"question": "Where is the cafÃ©?", "answer": "Ask erika@mustermann.de about it."}),
        json!({"question": "Tell me", "answer": format!("{long}.")}),
        json!({"question": "Tell me", "answer": format!("{long} too.")}),
        json!({"question": "Everything?", "answer": "word ".repeat(400)}),
    ];
    let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
    std::fs::write(&path, lines.join("\n")).expect("written");
    let dataset = read(&[path], &ReadOptions::default()).expect("readable");
    let out = folder.path().join("clean.jsonl");
    let options = ConvertOptions {
        deduplicate_near: true,
        repair: true,
        redact: true,
        max_characters: Some(1_000),
        ..ConvertOptions::default()
    };
    let report = convert(&dataset, Target::Alpaca, &out, &options).expect("converted");
    assert_eq!((report.rows, report.repaired, report.redacted), (2, 1, 1));
    assert_eq!((report.duplicates, report.filtered, report.rejected_rows), (1, 1, 2));
    let written = std::fs::read_to_string(&out).expect("written");
    assert!(written.contains("Where is the café?") && written.contains("Ask <EMAIL> about it."), "{written}");
    let aside = std::fs::read_to_string(folder.path().join("clean.rejected.jsonl")).expect("written");
    assert!(aside.contains("nearly the same as line 2") && aside.contains("more than 1000"), "{aside}");
}

/// Tools, calls, reasoning and schemas come through a conversion to `messages` and back.
#[test]
fn conversations_with_tools_survive_being_converted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.jsonl");
    let row = json!({"messages": [
        {"role": "user", "content": "Late?"},
        {"role": "assistant", "content": null, "reasoning_content": "The clock.",
         "tool_calls": [{"type": "function", "id": "c1", "function": {"name": "now", "arguments": "{\"zone\": \"UTC\"}"}}]},
        {"role": "tool", "tool_call_id": "c1", "name": "now", "content": "12:00"},
        {"role": "assistant", "content": "Noon."}],
        "tools": [{"type": "function", "function": {"name": "now"}}], "json_schema": {"type": "string"}});
    std::fs::write(&path, row.to_string()).expect("written");
    let first = read(&[path], &ReadOptions::default()).expect("readable");
    let out = folder.path().join("again.jsonl");
    convert(&first, Target::Messages, &out, &ConvertOptions::default()).expect("converted");
    let again = read(&[out], &ReadOptions::default()).expect("readable");
    let messages = |dataset: &peft_data::Dataset| {
        let peft_plan::Example::Messages(turns) = &dataset.rows[0].example else { panic!("a conversation") };
        json!(turns)
    };
    assert_eq!(messages(&first), messages(&again));
    assert_eq!(messages(&again)[1]["tool_calls"][0]["function"]["arguments"], json!({"zone": "UTC"}));
    assert_eq!(messages(&again)[1]["reasoning_content"], "The clock.");
}
