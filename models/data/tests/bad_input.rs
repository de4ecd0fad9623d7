//! What must be refused, with which code and in which words (S4.10, S1.9).

use peft_data::{BadLine, Dataset, ReadOptions, RejectedKind, read};
use peft_plan::Fault;
use std::io::Write as _;

fn read_as(name: &str, bytes: impl AsRef<[u8]>, on_bad_line: BadLine) -> Result<Dataset, Fault> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a writable folder");
    read(&[path], &ReadOptions { on_bad_line, ..ReadOptions::default() })
}

fn fault(name: &str, bytes: impl AsRef<[u8]>) -> Fault {
    read_as(name, bytes, BadLine::Fail).expect_err("a fault")
}

const GOOD: &str = "{\"question\":\"q\",\"answer\":\"a\"}\n";

#[test]
fn empty_files_have_too_few_examples() {
    for name in ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.txt", "x.md", "x"] {
        for bytes in ["", "\u{feff}", "\n\n  \n", "\u{feff}\r\n"] {
            assert_eq!(fault(name, bytes).code, "PS-DATA-005", "{name} {bytes:?}");
        }
    }
    for (name, bytes) in [("x.csv", "question,answer\n"), ("x.json", "[]"), ("x.json", "{\"data\": []}")] {
        assert_eq!(fault(name, bytes).code, "PS-DATA-005", "{name} {bytes:?}");
    }
    assert_eq!(read(&[], &ReadOptions::default()).expect_err("nothing").code, "PS-DATA-005");
}

#[test]
fn broken_json_names_line_and_column_and_points_at_it() {
    let text = format!("{}{{\"question\": \"q\" \"answer\": \"a\"}}\n{GOOD}", GOOD.repeat(147));
    let fault = fault("x.jsonl", &text);
    assert_eq!(fault.code, "PS-DATA-002");
    assert!(fault.detail.contains("line 148, column 18"), "{}", fault.detail);
    let shown: Vec<&str> = fault.detail.lines().collect();
    let caret = shown[shown.len() - 1].find('^').expect("a caret");
    assert_eq!(shown[shown.len() - 2].as_bytes()[caret], b'"');
    assert!(fault.shown_actions().len() >= 2);

    let dataset = read_as("x.jsonl", &text, BadLine::Skip).expect("the rest is good");
    assert_eq!(dataset.rows.len(), 148);
    let rejected = &dataset.rejected[0];
    assert_eq!((rejected.line, rejected.kind), (148, RejectedKind::BrokenLine));
    assert!(rejected.excerpt.starts_with("{\"question\""));
}

#[test]
fn broken_documents_name_the_line_too() {
    let fault = fault("x.json", "[\n  {\"question\": \"q\", \"answer\": \"a\"},\n  {\"question\": oops}\n]");
    assert_eq!(fault.code, "PS-DATA-002");
    assert!(fault.detail.contains("line 3, column 16"), "{}", fault.detail);
    let python = self::fault("x.jsonl", "{'question': 'q', 'answer': 'a'}\n");
    assert!(python.detail.contains("Python"), "{}", python.detail);
}

#[test]
fn rows_without_answers_stop_training_and_are_counted_s1_9() {
    let mut lines = vec![GOOD.trim(); 20];
    lines[2] = r#"{"question":"q","answer":""}"#;
    lines[7] = r#"{"question":"q","answer":null}"#;
    lines[11] = r#"{"question":"q"}"#;
    lines[13] = r#"{"question":"q","answer":" \n "}"#;
    let text = lines.join("\n");
    let fault = fault("x.jsonl", &text);
    assert_eq!(fault.code, "PS-DATA-004");
    assert!(fault.detail.contains("4 of 20"), "{}", fault.detail);
    assert!(fault.detail.contains("lines 3, 8, 12, 14"), "{}", fault.detail);
    let dataset = read_as("x.jsonl", &text, BadLine::Skip).expect("the rest is good");
    assert_eq!(dataset.rows.len(), 16);
    assert!(dataset.rejected.iter().all(|r| r.kind == RejectedKind::NoAnswer && r.reason == "no answer"));
}

#[test]
fn files_where_nothing_is_answered_are_told_so() {
    for line in [
        r#"{"user":"u","system_hint":"s"}"#,
        r#"{"question":"q","answer":""}"#,
        r#"{"messages":[{"role":"user","content":"q"}]}"#,
        r#"{"messages":[]}"#,
        r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null}]}"#,
        r#"{"prompt":"q","completion":[]}"#,
    ] {
        for policy in [BadLine::Fail, BadLine::Skip] {
            let fault = read_as("x.jsonl", line, policy).expect_err("no answers");
            assert_eq!(fault.code, "PS-DATA-004", "{line}: {fault:?}");
        }
    }
}

#[test]
fn unknown_columns_are_listed_with_a_suggestion() {
    let text = "{\"foo\":\"a question of some length\",\"n\":1,\"bar\":\"an answer\"}\n".repeat(30);
    for policy in [BadLine::Fail, BadLine::Skip] {
        let fault = read_as("x.jsonl", &text, policy).expect_err("unknown");
        assert_eq!(fault.code, "PS-DATA-003");
        assert!(fault.detail.contains("`foo`, `n`, `bar`"), "{}", fault.detail);
        assert!(fault.actions[0].label.contains(r#"{"user": "foo", "assistant": "bar"}"#), "{:?}", fault.actions);
    }
    assert_eq!(fault("x.jsonl", "{\"input_ids\":[1,2]}\n").code, "PS-DATA-003");
}

#[test]
fn files_that_are_not_text_are_refused_by_name() {
    for (bytes, name) in [
        (&b"\x89PNG\r\n\x1a\n0000"[..], "PNG"),
        (b"PK\x03\x04zip", "ZIP"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"<html><body>", "HTML"),
        (b"\0\0\0\0\0\0\0\0\0\0", "binary"),
    ] {
        for extension in ["jsonl", "csv", "txt"] {
            let fault = fault(&format!("x.{extension}"), bytes);
            assert_eq!(fault.code, "PS-DATA-001");
            assert!(fault.detail.contains(name), "{}", fault.detail);
        }
    }
}

#[test]
fn folders_and_missing_files_are_told_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |path: &std::path::Path| read(&[path.to_path_buf()], &ReadOptions::default()).expect_err("a fault");
    assert_eq!(at(folder.path()).code, "PS-DATA-001");
    assert_eq!(at(&folder.path().join("missing.jsonl")).code, "PS-FILE-001");
}

#[test]
fn zero_bytes_spoil_only_their_line() {
    let text = format!("{GOOD}{{\"question\":\"q\0\",\"answer\":\"a\"}}\n{}", GOOD.repeat(40));
    let fault = fault("x.jsonl", &text);
    assert!(fault.code == "PS-DATA-002" && fault.detail.contains("zero bytes"), "{}", fault.detail);
    assert!(!fault.detail.contains('\0'));
    assert_eq!(read_as("x.jsonl", &text, BadLine::Skip).expect("the rest is good").rows.len(), 41);
    let table = format!("question,answer\na\0b,c\n{}", "d,e\n".repeat(40));
    let dataset = read_as("x.csv", table, BadLine::Fail).expect("zeroes are removed");
    assert!(dataset.files[0].notes.iter().any(|note| note.contains("zero bytes")));
}

#[test]
fn a_quote_that_is_never_closed_does_not_swallow_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.csv");
    let mut file = std::fs::File::create(&path).expect("a writable folder");
    file.write_all(b"question,answer\na,b\nc,\"d\n").expect("space");
    let piece = "e,f\n".repeat(1 << 18);
    for _ in 0..70 {
        file.write_all(piece.as_bytes()).expect("space");
    }
    drop(file);
    let options = ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() };
    let dataset = read(std::slice::from_ref(&path), &options).expect("one row is good");
    assert_eq!(dataset.rows.len(), 1);
    assert_eq!(dataset.rejected[0].line, 3);
    assert!(dataset.rejected[0].reason.contains("quotation mark"));
    assert_eq!(dataset.files[0].bytes, std::fs::metadata(&path).expect("the file").len());
}

#[test]
fn values_that_are_not_records_are_bad_lines() {
    let text = format!("{GOOD}42\nnull\n[1,2]\n");
    assert_eq!(fault("x.jsonl", &text).code, "PS-DATA-002");
    assert_eq!(read_as("x.jsonl", &text, BadLine::Skip).expect("one row").rejected.len(), 3);
}

#[test]
fn hostile_nesting_and_width_are_survived() {
    let deep = format!("{GOOD}{}\n", "[".repeat(200_000));
    assert_eq!(read_as("x.jsonl", &deep, BadLine::Skip).expect("one row").rejected.len(), 1);
    assert!(read_as("x.json", "[".repeat(500_000), BadLine::Skip).is_err());
    assert!(read_as("x.json", "{\"a\":".repeat(500_000), BadLine::Skip).is_err());
    let wide = format!("{}\n1\n", ",".repeat(300_000));
    assert_eq!(fault("x.csv", wide).code, "PS-DATA-001");
    let keys: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":1")).collect();
    let many = fault("x.jsonl", format!("{{{}}}\n", keys.join(",")));
    assert!(many.code == "PS-DATA-003" && many.detail.len() < 1_000, "{}", many.detail);
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn never_panic(bytes: Vec<u8>, kind in 0_usize..4) {
            let name = ["x.jsonl", "x.json", "x.csv", "x.md"][kind];
            let dataset = read_as(name, &bytes, BadLine::Skip);
            prop_assert!(dataset.is_err() || dataset.is_ok_and(|dataset| !dataset.rows.is_empty()));
        }

        #[test]
        fn nearly_json_never_panics(text in r#"([\[\]{},:"\\ \nua0-9é]|"text"|"a":|\{"text":"b"\}){0,60}"#, kind in 0_usize..4) {
            let name = ["x.jsonl", "x.json", "x.csv", "x.md"][kind];
            let dataset = read_as(name, &text, BadLine::Fail);
            prop_assert!(dataset.is_err() || dataset.is_ok_and(|dataset| !dataset.rows.is_empty()));
        }
    }
}
