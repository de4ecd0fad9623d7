//! A line that is too long to hold, in a process of its own so that its memory can be measured.

use peft_data::{BadLine, ReadOptions, read};
use std::io::Write as _;

const GOOD: &str = "{\"question\":\"q\",\"answer\":\"a\"}\n";

#[test]
fn a_line_of_200_megabytes_is_put_aside_and_the_rest_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.jsonl");
    let mut file = std::fs::File::create(&path).expect("a writable folder");
    file.write_all(GOOD.as_bytes()).expect("space");
    file.write_all(b"{\"question\":\"").expect("space");
    let piece = vec![b'a'; 1 << 20];
    for _ in 0..200 {
        file.write_all(&piece).expect("space");
    }
    file.write_all(format!("\",\"answer\":\"a\"}}\n{GOOD}").as_bytes()).expect("space");
    drop(file);
    let options = ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() };
    let before = peak_memory();
    let dataset = read(std::slice::from_ref(&path), &options).expect("the rest is good");
    let grown = peak_memory().saturating_sub(before);
    assert_eq!(dataset.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
    assert!(dataset.rejected[0].reason.contains("200 MiB"), "{}", dataset.rejected[0].reason);
    // The limit for a line is 64 MiB, and a growing buffer doubles.
    assert!(grown < 140 << 20, "grew by {} MiB", grown >> 20);
    let fault = read(&[path], &ReadOptions::default()).expect_err("too long");
    assert!(fault.code == "PS-DATA-002" && fault.detail.contains("line 2"), "{}", fault.detail);
    assert!(fault.detail.len() < 2_000);
}

/// The largest resident set of this process so far, where the system tells.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    kilobytes.unwrap_or(0_usize) << 10
}
