//! How fast files are inspected, and in how much memory: `throughput FILE...` (Linux), `throughput make FILE ROWS KIND`.

use peft_data::{ReadOptions, inspect};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// The largest amount of memory this process has held, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Rows of words drawn from a small world; one in a hundred nearly repeats an earlier one.
fn make(path: &str, rows: u64) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    let word = |seed: u64| {
        let n = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
        format!("{}{}", ["ka", "lo", "mi", "ter", "sun", "wal", "über", "né"][(n % 8) as usize], n % 4_001)
    };
    for row in 0..rows {
        let base = if row % 100 == 99 { row - 50 } else { row };
        let words =
            |from: u64, count: u64| (0..count).map(|i| word(base * 1_000 + from + i)).collect::<Vec<_>>().join(" ");
        let (question, mut answer) = (words(0, 12), words(100, 45));
        if base != row {
            answer.push_str(" indeed");
        }
        writeln!(
            out,
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{question}?\"}},{{\"role\":\"assistant\",\"content\":\"{answer}.\"}}]}}"
        )?;
    }
    out.flush()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout();
    if words.first().is_some_and(|word| word == "make") {
        let rows = words[2].parse().expect("a number of rows");
        make(&words[1], rows).expect("the file can be written");
        return;
    }
    let files: Vec<PathBuf> = words.iter().map(PathBuf::from).collect();
    let bytes: u64 =
        files.iter().filter(|file| file.is_file()).map(|file| std::fs::metadata(file).expect("a file").len()).sum();
    if words.first().is_some_and(|word| word == "read") {
        let begun = Instant::now();
        let dataset = peft_data::read(&files[1..], &ReadOptions::default()).expect("it can be read");
        let seconds = begun.elapsed().as_secs_f64();
        writeln!(out, "{} rows read in {seconds:.2} s, peak {} MiB", dataset.rows.len(), peak())
            .expect("stdout is there");
        return;
    }
    let begun = Instant::now();
    let inspection = inspect(&files, &ReadOptions::default()).expect("it can be inspected");
    let seconds = begun.elapsed().as_secs_f64();
    let mib = bytes as f64 / f64::from(1 << 20);
    let issues: Vec<String> = inspection.issues.iter().map(|issue| format!("{} {}", issue.code, issue.count)).collect();
    writeln!(
        out,
        "{} rows, {mib:.0} MiB in {seconds:.2} s: {:.1} MiB/s, peak {} MiB, score {}, {}",
        inspection.rows,
        mib / seconds,
        peak(),
        inspection.score,
        issues.join(", ")
    )
    .expect("stdout is there");
}
