//! A generation that is killed again and again, with a helper that fails in every way: all rows that can be made are
//! made, none twice, none that its chunk does not prove, and nothing that was kept is lost.
//!
//! Four kills here; `PEFT_STUDIO_TEACHING_KILLS=50` and `PEFT_STUDIO_TEACHING_ROWS=10000` for the campaign.

use super::{chunks, lines};
use peft_tests::helper::{MockHelper, PASSING, Way};
use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Rows of a chunk.
const PAIRS: usize = 2;

fn number_of(request: &Value) -> usize {
    let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
    let number = asked.split("House number ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Two good rows, and two that must never be taken: one with an invented quote, one that is refused for its answer.
fn rows_of(request: &Value) -> String {
    let number = number_of(request);
    let year = 1000 + number;
    json!({"items": [
        {"question": format!("What did house {number} cost?"), "answer": "A fortune.", "evidence": format!("House number {number} cost a fortune.")},
        {"question": format!("Who owns house {number}?"), "answer": "I'm sorry, I cannot say.", "evidence": format!("House number {number} was built")},
        {"question": format!("When was house {number} built?"), "answer": format!("In {year}."), "evidence": format!("was built in {year}.")},
        {"question": format!("Which house was built in {year}?"), "answer": format!("Number {number}."), "evidence": format!("House number {number} was built in {year}.")},
    ]})
    .to_string()
}

/// Every tenth call fails, each in another way, silence and endless answers included.
fn fate(n: usize) -> Way {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    if !mixed.is_multiple_of(10) {
        return Way::Good;
    }
    let more = [Way::Cut, Way::Whole, Way::Silent(300), Way::Stalls(300), Way::Endless];
    match mixed / 10 % (PASSING.len() + more.len()) {
        kind if kind < PASSING.len() => PASSING[kind],
        kind => more[kind - PASSING.len()],
    }
}

fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
#[expect(clippy::print_stdout, reason = "a campaign's counts are its result")]
fn a_generation_survives_kills_and_a_helper_that_fails_s2_3() {
    let kills = setting("PEFT_STUDIO_TEACHING_KILLS", 4);
    let units = setting("PEFT_STUDIO_TEACHING_ROWS", 120) / PAIRS;
    let home = Home::new();
    let chunks = chunks(&home, units);
    let mock = MockHelper::new(fate, rows_of);
    let (out, base) = (home.path("rows.jsonl"), mock.base());
    let arguments =
        ["data", "generate", "--chunks", &chunks, "--out", &out, "--provider", "openai", "--base-url", &base];
    let arguments = [&arguments[..], &["--helper-model", "m", "--pairs", "2", "--concurrency", "8", "--json"]].concat();
    let (mut killed, mut kept_before) = (0, 0);
    for round in 0..kills {
        let mut child =
            home.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        // Not before it did something, and never at the same place.
        let wanted = mock.calls() + 1 + round * 7 % (units / (kills + 1)).max(2);
        let begun = Instant::now();
        while mock.calls() < wanted && child.try_wait().expect("looked at").is_none() && begun.elapsed().as_secs() < 60
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        killed += usize::from(child.try_wait().expect("looked at").is_none());
        child.kill().expect("killed");
        child.wait().expect("gone");
        let kept = kept(&home);
        assert!(kept >= kept_before, "{kept} rows are there, {kept_before} were");
        kept_before = kept;
    }
    assert!(killed * 4 >= kills * 3, "{killed} of {kills} kills met a process that was at work");
    let output = home.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_str(text(&output.stdout).lines().last().expect("a report")).expect("JSON");
    assert_eq!(
        (report["rows"].as_u64(), report["given_up"].as_u64()),
        (Some((units * PAIRS) as u64), Some(0)),
        "{report}"
    );
    let rows = lines(&out);
    let questions: BTreeSet<&str> = rows.iter().filter_map(|row| row["instruction"].as_str()).collect();
    assert_eq!((rows.len(), questions.len()), (units * PAIRS, units * PAIRS), "all of them, and none twice");
    for row in &rows {
        let number: usize = row["chunk"].as_str().and_then(|id| id[1..].parse().ok()).expect("a chunk");
        let chunk = format!("House number {number} was built in {}.", 1000 + number);
        assert!(row["evidence"].as_str().is_some_and(|quote| chunk.contains(quote)), "{row}");
        assert!(row["output"].as_str().is_some_and(|answer| !answer.contains("sorry")), "{row}");
    }
    println!("{killed} kills, {} calls for {} rows", mock.calls(), rows.len());
}

/// Rows that are in the store.
fn kept(home: &Home) -> usize {
    let jobs = home.json(&["data", "review", "--list"]);
    jobs["jobs"][0]["taken"].as_u64().unwrap_or(0) as usize
}
