//! Preferences from files of every kind, and back into files (issue 3, item 10).

use peft_data::{BadLine, ConvertOptions, Dataset, ReadOptions, Target, convert, inspect, read};
use peft_plan::{Example, Result, Role, Turn};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

fn file(home: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn columns(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(part, column)| ((*part).to_owned(), (*column).to_owned())).collect()
}

fn read_as(name: &str, text: &str, options: &ReadOptions) -> Result<Dataset> {
    let home = tempfile::tempdir().expect("a directory");
    read(&[file(&home, name, text)], options)
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Example {
    Example::Preference {
        prompt: vec![Turn::new(Role::User, prompt)],
        chosen: vec![Turn::new(Role::Assistant, chosen)],
        rejected: vec![Turn::new(Role::Assistant, rejected)],
    }
}

fn rated(prompt: &str, answer: &str, desirable: bool) -> Example {
    let (prompt, answer) = (vec![Turn::new(Role::User, prompt)], vec![Turn::new(Role::Assistant, answer)]);
    Example::Rated { prompt, answer, desirable }
}

#[test]
fn tables_hold_pairs_and_ratings_with_or_without_a_mapping() {
    let plain = ReadOptions::default();
    let found = read_as("a.csv", "prompt,chosen,rejected\nq,a,b\n", &plain).expect("pairs");
    assert_eq!(found.rows[0].example, pair("q", "a", "b"));
    assert_eq!(found.files[0].shape, "preference");
    let mapped = |pairs: &[(&str, &str)]| ReadOptions { columns: columns(pairs), ..ReadOptions::default() };
    let options = mapped(&[("user", "Frage"), ("chosen", "gut"), ("rejected", "schlecht")]);
    let found = read_as("a.csv", "Frage,gut,schlecht\nq,a,b\n", &options).expect("mapped pairs");
    assert_eq!(found.rows[0].example, pair("q", "a", "b"));
    let found = read_as("a.csv", "prompt,completion,label\nq,a,True\nq,b,FALSE\n", &plain).expect("ratings");
    assert_eq!([&found.rows[0].example, &found.rows[1].example], [&rated("q", "a", true), &rated("q", "b", false)]);
    assert_eq!(found.files[0].shape, "rated");
    let options = mapped(&[("user", "ask"), ("assistant", "said"), ("label", "stars")]);
    let found = read_as("a.csv", "ask,said,stars\nq,a,1\nq,b,0\n", &options).expect("mapped ratings");
    assert_eq!([&found.rows[0].example, &found.rows[1].example], [&rated("q", "a", true), &rated("q", "b", false)]);
    let options = ReadOptions { format: Some("rated".to_owned()), ..ReadOptions::default() };
    let found = read_as("a.jsonl", "{\"prompt\":\"q\",\"response\":\"a\",\"label\":0}\n", &options).expect("ratings");
    assert_eq!(found.rows[0].example, rated("q", "a", false));
    for half in [&[("chosen", "a")][..], &[("rejected", "a")], &[("label", "a")], &[("label", "a"), ("text", "b")]] {
        assert_eq!(read_as("a.csv", "a,b\nq,a\n", &mapped(half)).expect_err("half a mapping").code, "PS-DATA-003");
    }
    let options = mapped(&[("user", "a"), ("chosen", "b"), ("rejected", "c")]);
    let fault = read_as("a.csv", "a,b\nq,a\n", &options).expect_err("no such column");
    assert_eq!(fault.code, "PS-DATA-003");
    assert!(fault.detail.contains("`c`"), "{fault}");
}

#[test]
fn rows_without_a_preference_are_left_out_and_counted_and_never_all() {
    let same = "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"a \"}\n";
    let good = "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}\n";
    let found = read_as("a.jsonl", &format!("{same}{good}{same}"), &ReadOptions::default()).expect("one is good");
    assert_eq!((found.rows.len(), found.rejected.len()), (1, 2));
    assert!(found.rejected[0].reason.contains("same"));
    let fault = read_as("a.jsonl", &same.repeat(3), &ReadOptions::default()).expect_err("nothing to learn");
    assert_eq!(fault.code, "PS-PREF-001");
    assert!(fault.detail.contains("same"), "{fault}");
    // A missing side is a missing answer: refused as in any other layout, or put aside on request.
    for half in ["{\"prompt\":\"q\",\"chosen\":\"a\"}\n", "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\" \"}\n"] {
        let text = format!("{good}{half}");
        assert_eq!(read_as("a.jsonl", &text, &ReadOptions::default()).expect_err("one-sided").code, "PS-DATA-004");
        let options = ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() };
        assert_eq!(read_as("a.jsonl", &text, &options).expect("put aside").rows.len(), 1);
    }
}

#[test]
fn the_report_names_the_layout_and_what_is_one_sided() {
    let home = tempfile::tempdir().expect("a directory");
    let line = |n: usize, label: bool| format!("{{\"prompt\":\"q{n}\",\"completion\":\"a{n}\",\"label\":{label}}}\n");
    let one: String = (0..4).map(|n| line(n, true)).collect();
    let both: String = (0..4).map(|n| line(n, n % 2 == 0)).collect();
    let same = "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"a\"}\n{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}\n";
    let codes = |text: &str| {
        let report = inspect(&[file(&home, "a.jsonl", text)], &ReadOptions::default()).expect("a report");
        report.issues.iter().map(|issue| (issue.code, issue.count)).collect::<Vec<_>>()
    };
    assert!(codes(&one).contains(&("one_label", 4)));
    assert!(codes(&both).iter().all(|(code, _)| *code != "one_label"));
    assert!(codes(same).contains(&("no_preference", 1)));
}

#[test]
fn messages_keep_preferences_and_other_layouts_put_them_aside() {
    let home = tempfile::tempdir().expect("a directory");
    let text = "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}\n\
                {\"prompt\":\"q\",\"completion\":\"c\",\"label\":false}\n\
                {\"prompt\":\"q\",\"completion\":\"d\",\"label\":true}\n";
    let dataset = read(&[file(&home, "a.jsonl", text)], &ReadOptions::default()).expect("known");
    let out = home.path().join("out.jsonl");
    let options = ConvertOptions { include_system: Some("s".to_owned()), ..ConvertOptions::default() };
    let report = convert(&dataset, Target::Messages, &out, &options).expect("written");
    assert_eq!((report.rows, report.rejected_rows), (3, 0));
    let back = read(std::slice::from_ref(&out), &ReadOptions::default()).expect("read again");
    for (row, before) in back.rows.iter().zip(&dataset.rows) {
        let texts: Vec<&str> = row.example.texts().collect();
        assert_eq!(texts[0], "s");
        assert_eq!(texts[1..], before.example.texts().collect::<Vec<_>>());
    }
    assert!(matches!(back.rows[1].example, Example::Rated { desirable: false, .. }));
    for target in [Target::Alpaca, Target::Sharegpt, Target::Text] {
        let report = convert(&dataset, target, &out, &ConvertOptions::default()).expect("written");
        assert_eq!((report.rows, report.rejected_rows), (1, 2), "{target:?}: the wanted answer alone");
    }
}
