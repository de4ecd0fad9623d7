//! Data that nothing can be learnt from.

use crate::trial::{Trial, detail};
use std::io::Write;
use std::process::Stdio;

fn refused(rows: &[u8], name: &str, code: &str) -> String {
    let mut trial = Trial::of("qwen2");
    trial.data = trial.home.write(name, rows);
    detail(&trial.refused(code, 3)).to_owned()
}

const GOOD: &str = "{\"question\":\"q\",\"answer\":\"a\"}\n";

#[test]
fn nothing_in_it() {
    refused(b"", "x.jsonl", "PS-DATA-005");
    refused(b"\n\n", "x.jsonl", "PS-DATA-005");
    refused(b"[]", "x.json", "PS-DATA-005");
    refused(b"question,answer\n", "x.csv", "PS-DATA-005");
    let trial = Trial::of("qwen2");
    let model = &trial.model;
    trial.refused_with("PS-FILE-001", 3, &["--model", model, "--data", &trial.home.path("none.jsonl")]);
    let folder = trial.home.path("folder");
    std::fs::create_dir(&folder).expect("created");
    let output = trial.home.run(&["train", "--json", "--model", model, "--data", &folder]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(3 | 4)) && stderr.contains("\"code\":\"PS-"), "{stderr}");
    assert_eq!(trial.home.json(&["runs", "list"])["runs"], serde_json::json!([]));
}

#[test]
fn nothing_to_learn() {
    let rows = GOOD.repeat(3) + "{\"question\":\"q\",\"answer\":\"\"}\n";
    let told = refused(rows.as_bytes(), "x.jsonl", "PS-DATA-004");
    assert!(told.contains("line 4"), "{told}");
    refused(b"{\"question\":\"q\",\"answer\":\"  \"}", "x.jsonl", "PS-DATA-004");
    refused(b"{\"question\":\"q\",\"answer\":null}", "x.jsonl", "PS-DATA-004");
    // An answer of which nothing is left.
    let mut trial = Trial::of("qwen2");
    let question = "why ".repeat(300);
    trial.data =
        trial.home.write("long.jsonl", format!("{{\"question\":\"{question}\",\"answer\":\"a\"}}\n").repeat(3));
    let settings = ["--model", &trial.model, "--data", &trial.data, "--set", "training.max_sequence_length=8"];
    let error = trial.refused_with("PS-DATA-006", 3, &settings);
    assert!(detail(&error).contains('8'), "{error}");
}

#[test]
fn not_what_it_says() {
    let told =
        refused((GOOD.repeat(41) + "{\"question\": \"q\", \"answer\" \"a\"}\n").as_bytes(), "x.jsonl", "PS-DATA-002");
    assert!(told.contains("line 42"), "{told}");
    let told = refused((GOOD.repeat(3) + "{\"question\": \"q\"").as_bytes(), "x.jsonl", "PS-DATA-002");
    assert!(told.contains("line 4"), "{told}");
    refused(b"{\"foo\":\"a\",\"bar\":\"b\"}\n", "x.jsonl", "PS-DATA-003");
    refused(b"[1, 2, 3]\n", "x.jsonl", "PS-DATA-002");
    refused(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "x.png", "PS-DATA-001");
    refused(b"PAR1\x15\x04\x15\x10\x15\x14", "x.parquet", "PS-DATA-001");
    // Depth beyond any stack.
    let deep = format!("{{\"question\":{}1{},\"answer\":\"a\"}}\n", "[".repeat(100_000), "]".repeat(100_000));
    refused(deep.as_bytes(), "x.jsonl", "PS-DATA-002");
}

/// Rows of several layouts are no mistake, but nobody mixes them unawares.
#[test]
fn rows_of_several_layouts_are_counted() {
    let trial = Trial::of("qwen2");
    let turns = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
    let data = trial.home.write("mixed.jsonl", format!("{}{turns}\n{{\"text\":\"b\"}}\n", GOOD.repeat(5)));
    let output = trial.home.run(&["train", "--model", &trial.model, "--data", &data, "--set", "training.max_steps=1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.contains("5 question-answer") && stderr.contains("1 messages") && stderr.contains("1 text"),
        "{stderr}"
    );
}

/// The largest resident set of a live process, in bytes, where the system tells.
fn peak_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[test]
fn a_line_of_200_megabytes_does_not_fill_the_memory() {
    let mut trial = Trial::of("qwen2");
    trial.data = trial.home.path("long.jsonl");
    let mut file = std::fs::File::create(&trial.data).expect("created");
    file.write_all(format!("{GOOD}{{\"question\":\"").as_bytes()).expect("space");
    let piece = vec![b'a'; 1 << 20];
    for _ in 0..200 {
        file.write_all(&piece).expect("space");
    }
    file.write_all(b"\",\"answer\":\"a\"}\n").expect("space");
    drop(file);
    let words = ["train", "--json", "--model", &trial.model, "--data", &trial.data];
    let mut process = trial.home.command(&words).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut peak = 0;
    while process.try_wait().expect("alive or not").is_none() {
        peak = peak_of(process.id()).unwrap_or(0).max(peak);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = process.wait_with_output().expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("PS-DATA-002") && stderr.contains("line 2") && stderr.len() < 4000, "{stderr}");
    // Lines of up to 64 MiB are read, into a buffer that doubles.
    assert!(peak < 260 << 20, "{} MiB", peak >> 20);
    assert!(peak > 0 || !cfg!(target_os = "linux"), "the system did not tell");
}
