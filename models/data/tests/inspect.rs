//! The quality report (S4.4.3, S4.4.4, S4.4.5): each issue is found, counted, shown, and has a fix.

use peft_data::{Inspection, ReadOptions, Severity, inspect};
use serde_json::json;

fn report(lines: &[String]) -> Inspection {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.jsonl");
    std::fs::write(&path, lines.join("\n")).expect("a writable folder");
    inspect(&[path], &ReadOptions::default()).expect("a readable dataset")
}

fn pair(question: &str, answer: &str) -> String {
    json!({"question": question, "answer": answer}).to_string()
}

/// Rows with nothing wrong: every word depends on the number.
fn clean(count: usize) -> Vec<String> {
    let word = |n: usize| ["river", "mountain", "city", "forest", "island", "desert", "lake"][n % 7];
    (0..count)
        .map(|n| {
            pair(
                &format!("What about the {} number {n}?", word(n)),
                &format!(
                    "The {} {n} lies near the {} {} and was first seen in {}.",
                    word(n),
                    word(n / 7),
                    n * 31,
                    1500 + n
                ),
            )
        })
        .collect()
}

fn count(report: &Inspection, code: &str) -> usize {
    report.issues.iter().find(|issue| issue.code == code).map_or(0, |issue| issue.count)
}

#[test]
fn a_clean_dataset_has_no_issues_and_a_full_score() {
    let report = report(&clean(100));
    assert!(report.issues.is_empty(), "{:?}", report.issues);
    assert_eq!((report.score, report.rows, report.preview.len()), (100, 100, 5));
    assert_eq!(report.files[0].shape, "question-answer");
}

#[test]
fn every_issue_is_found_and_lowers_the_score() {
    let long = "The history of the old town by the river is long and it is told by many people who live there \
        and who remember how the market was built before the war began and ended again in the spring";
    let key = format!("{}{}", "ghp_", "a1B2c3D4e5".repeat(4));
    let messages = |turns: &[(&str, &str)]| {
        let turns: Vec<_> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        json!({ "messages": turns }).to_string()
    };
    let cases: Vec<(&str, Severity, Vec<String>)> = vec![
        ("broken_lines", Severity::Error, vec!["{\"question\": oops}".to_owned()]),
        ("no_answer", Severity::Error, vec![pair("Why?", "  ")]),
        ("unknown_layout", Severity::Warning, vec!["{\"foo\": \"a\", \"bar\": \"b\"}".to_owned()]),
        ("exact_duplicates", Severity::Warning, vec![clean(1)[0].clone()]),
        (
            "near_duplicates",
            Severity::Warning,
            vec![pair("Tell me", &format!("{long}.")), pair("Tell me", &format!("{long} too."))],
        ),
        ("one_word_answers", Severity::Info, vec![pair("Which colour?", "Red")]),
        ("garbled_text", Severity::Warning, vec![pair("Where is the cafÃ©?", "It is over there.")]),
        ("secrets", Severity::Error, vec![pair("What is the key?", &format!("It is {key}."))]),
        ("personal_data", Severity::Warning, vec![pair("Who?", "Write to erika@mustermann.de please.")]),
        ("chat_markers", Severity::Warning, vec![pair("Why is that?", "Because of that.<|im_end|>")]),
        ("role_order", Severity::Warning, vec![messages(&[("user", "a b"), ("user", "c d"), ("assistant", "e f.")])]),
    ];
    for (code, severity, extra) in cases {
        let mut lines = clean(60);
        lines.extend(extra);
        let report = report(&lines);
        let issue = report.issues.iter().find(|issue| issue.code == code);
        let issue = issue.unwrap_or_else(|| panic!("{code} in {:?}", report.issues));
        assert_eq!((issue.count, issue.severity), (1, severity), "{code}");
        assert!(issue.examples[0].line > 60, "{code}: {:?}", issue.examples);
        assert!(!issue.fix.is_empty() && issue.message.contains("1 row"), "{code}: {}", issue.message);
        assert!(report.score < 100 || severity == Severity::Info, "{code}");
        assert_eq!(report.issues.len(), 1, "{code}: {:?}", report.issues);
        assert!(!serde_json::to_string(&report).expect("a report").contains(&key), "secrets are masked");
    }
}

#[test]
fn small_datasets_are_warned_about() {
    let report = report(&clean(10));
    assert_eq!(count(&report, "too_few"), 10);
    assert_eq!(report.score, 68);
}

#[test]
fn answers_that_repeat_or_stop_short_are_noticed_together() {
    let mut lines = clean(60);
    lines.extend((0..30).map(|n| pair(&format!("Unanswerable question {n}?"), "I do not know that.")));
    let repeated = report(&lines);
    assert_eq!(count(&repeated, "same_answers"), 30);
    let mut lines = clean(60);
    lines.extend((0..30).map(|n| {
        pair(&format!("Question {n}?"), &format!("The answer number {n} was cut off right in the middle of"))
    }));
    let cut = report(&lines);
    assert_eq!(count(&cut, "truncated_answers"), 30);
    lines.truncate(65);
    assert_eq!(count(&report(&lines), "truncated_answers"), 0);
}

#[test]
fn the_report_is_json_with_the_fields_scripts_read() {
    let mut lines = clean(3);
    lines.push("{".to_owned());
    let value = serde_json::to_value(report(&lines)).expect("a report");
    for key in ["path", "format", "shape", "confidence", "rows", "columns", "encoding"] {
        assert!(!value["files"][0][key].is_null(), "{key}");
    }
    for key in ["code", "severity", "count", "message", "examples", "fix"] {
        assert!(!value["issues"][0][key].is_null(), "{key}");
    }
    assert!(value["score"].is_u64());
    assert_eq!(value["issues"][0]["severity"], "error");
    assert_eq!(value["issues"][0]["examples"][0]["line"], 4);
}

#[test]
fn test_rows_that_are_training_rows_are_found_across_files_s5_7() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let put = |name: &str, lines: &[String]| {
        let path = folder.path().join(name);
        std::fs::write(&path, lines.join("\n")).expect("a writable folder");
        path
    };
    let rows = clean(80);
    let mut tested = clean(100).split_off(90);
    tested.push(pair("WHAT about the mountain  number 8?", "Something else is said here."));
    let train = put("train.jsonl", &rows);
    let test = put("test.jsonl", &tested);
    let report = inspect(&[train.clone(), test], &ReadOptions::default()).expect("a readable dataset");
    let issue = report.issues.iter().find(|issue| issue.code == "split_leakage").expect("a leak");
    assert_eq!((issue.count, issue.severity), (1, Severity::Error));
    assert_eq!((issue.examples[0].file, issue.examples[0].line), (1, 11));
    assert!(issue.examples[0].text.contains("line 9"), "{:?}", issue.examples);
    // Files whose names say nothing of splits are parts of one.
    let part = put("part.jsonl", &tested);
    let report = inspect(&[train, part], &ReadOptions::default()).expect("a readable dataset");
    assert_eq!(count(&report, "split_leakage"), 0);
}

#[test]
fn labels_languages_and_lengths_are_looked_at_s5_7() {
    let labelled =
        |n: usize| pair(&format!("Is message number {n} spam?"), if n.is_multiple_of(20) { "spam" } else { "ham" });
    let report_of_labels = report(&(0..100).map(labelled).collect::<Vec<_>>());
    let issue = report_of_labels.issues.iter().find(|issue| issue.code == "label_imbalance").expect("out of balance");
    assert!(issue.message.contains("ham 95, spam 5") && issue.message.contains("95%"), "{}", issue.message);
    assert_eq!(count(&report_of_labels, "same_answers"), 0);
    let even: Vec<String> =
        (0..100).map(|n| pair(&format!("Is {n} odd?"), if n % 2 == 0 { "no" } else { "yes" })).collect();
    assert_eq!(count(&report(&even), "label_imbalance"), 0);

    let mut lines = clean(80);
    lines.extend((0..20).map(|n| {
        pair(
            &format!("Wie groß ist der See Nummer {n}?"),
            &format!("Der See {n} ist nicht groß und das Wasser ist {} Meter tief.", n * 7),
        )
    }));
    let mixed = report(&lines);
    assert_eq!(mixed.languages[0].language, "en");
    assert_eq!(mixed.languages[1].language, "de");
    assert_eq!(count(&mixed, "mixed_languages"), 20);

    let mut lines = clean(60);
    lines.push(pair("Tell me everything", &(0..4_000).map(|n| format!("word{n} ")).collect::<Vec<_>>().concat()));
    let long = report(&lines);
    assert_eq!(count(&long, "over_length"), 1);
    assert!(long.lengths.longest > 16_000 && long.lengths.p95 < 200, "{:?}", long.lengths);
    assert!((60..130).contains(&long.lengths.median), "{:?}", long.lengths);
}

#[test]
fn copies_far_apart_are_shown_with_their_text() {
    let mut lines = clean(1_000);
    lines.push(lines[700].clone());
    let report = report(&lines);
    let issue = report.issues.iter().find(|issue| issue.code == "exact_duplicates").expect("a copy");
    assert_eq!(issue.examples[0].line, 1_001);
    assert!(
        issue.examples[0].text.starts_with("the same as line 701: What about the river number 700?"),
        "{:?}",
        issue.examples
    );
}
