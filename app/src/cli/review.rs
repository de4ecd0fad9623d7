//! `data review`: rows of a helper, and what a person says about each.

use super::args::ReviewArgs;
use super::context::Context;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::teaching::review::{Decision, Review};
use peft_plan::{Fault, Result};
use peft_storage::{RowState, Store, TeachingJob, TeachingRow};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};

/// Characters of a question or an answer that a list shows.
const SHOWN: usize = 300;
/// Raw answers that are shown.
const RAW: u64 = 20;

pub(super) fn run(context: &Context, args: &ReviewArgs) -> Result<()> {
    let ReviewArgs { job, list, raw, state, accept, reject, edit, question, answer } = args;
    let store = context.store()?;
    if *list {
        return list_jobs(context, &store);
    }
    let review = Review::find(&store, job.as_deref())?;
    if *raw {
        return show_raw(context, &store, &review);
    }
    let accepted = accept.iter().map(|row| (*row, Decision::Accept));
    let rejected = reject.iter().map(|row| (*row, Decision::Reject));
    let edited = edit.map(|row| (row, Decision::Edit { question: question.clone(), answer: answer.clone() }));
    let decisions: Vec<(i64, Decision)> = accepted.chain(rejected).chain(edited).collect();
    for (row, decision) in &decisions {
        review.decide(&store, *row, decision)?;
    }
    if !decisions.is_empty() {
        review.write(&store)?;
    } else if state.is_none() && !context.json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        return ask(&store, &review);
    }
    let state = state.as_deref().map(state_of);
    // Whoever decides by numbers wants to know how it stands, not to see everything again.
    let rows = if decisions.is_empty() || state.is_some() { review.rows(&store, state)? } else { Vec::new() };
    show(context, &store, &review, &rows)
}

/// What the helper wrote, the newest first.
fn show_raw(context: &Context, store: &Store, review: &Review) -> Result<()> {
    let answers = store.raw_answers(review.job.id, RAW)?;
    if context.json {
        let answers: Vec<Value> =
            answers.iter().map(|(unit, outcome, raw)| json!({"unit": unit, "outcome": outcome, "raw": raw})).collect();
        output::print_json(&json!({"job": review.job, "answers": answers}));
        return Ok(());
    }
    for (unit, outcome, raw) in &answers {
        output::line(&printable(&format!("{unit}  {outcome}\n{raw}\n")));
    }
    Ok(())
}

fn state_of(name: &str) -> RowState {
    match name {
        "approved" => RowState::Approved,
        "refused" => RowState::Refused,
        "rejected" => RowState::Rejected,
        _ => RowState::Taken,
    }
}

fn list_jobs(context: &Context, store: &Store) -> Result<()> {
    let jobs = store.teaching_jobs()?;
    if context.json {
        output::print_json(&json!({"jobs": jobs}));
        return Ok(());
    }
    if jobs.is_empty() {
        output::line("No rows were generated yet");
    }
    for job in &jobs {
        let text = |name: &str| job.settings[name].as_str().unwrap_or_default().to_owned();
        let line = format!("{:>4}  {:<8}  {}  {}  {}", job.id, text("kind"), standing(job), text("model"), text("out"));
        output::line(&printable(&line));
    }
    Ok(())
}

fn standing(job: &TeachingJob) -> String {
    let TeachingJob { taken, approved, refused, rejected, spent, .. } = job;
    let cost = if *spent > 0.0 { format!(", {spent:.4} USD") } else { String::new() };
    format!("{taken} wait, {approved} approved, {rejected} rejected, {refused} refused by the checks{cost}")
}

fn show(context: &Context, store: &Store, review: &Review, rows: &[TeachingRow]) -> Result<()> {
    // Counted again: decisions were made since.
    let review = Review::find(store, Some(&review.job.id.to_string()))?;
    if context.json {
        let rows: Vec<Value> = rows.iter().map(document).collect();
        output::print_json(&json!({"job": review.job, "out": review.out.display().to_string(), "rows": rows}));
        return Ok(());
    }
    for row in rows {
        output::line(&printable(&for_people(row, SHOWN)));
    }
    output::line(&printable(&format!("{}; {}", standing(&review.job), review.out.display())));
    Ok(())
}

fn document(row: &TeachingRow) -> Value {
    let TeachingRow { id, state, reason, content, is_edited, .. } = row;
    json!({"row": id, "state": state, "reason": reason, "is_edited": is_edited, "content": content})
}

fn for_people(row: &TeachingRow, longest: usize) -> String {
    let short = |text: &str| {
        let cut: String = text.chars().take(longest).collect();
        if cut.len() < text.len() { format!("{cut}…") } else { cut }
    };
    let why = row.reason.as_ref().map_or_else(|| row.state.as_str().to_owned(), |reason| format!("refused: {reason}"));
    let place = [row.content["source"].as_str(), row.content["heading"][0].as_str()];
    let place: Vec<&str> = place.into_iter().flatten().collect();
    let mut lines = vec![format!("{}  ({why})  {}", row.id, place.join(" > "))];
    for exchange in row.content["exchanges"].as_array().into_iter().flatten() {
        for (name, place) in [("Q", 0), ("A", 1)] {
            lines.push(format!("  {name}  {}", short(exchange[place].as_str().unwrap_or_default())));
        }
    }
    let quote = row.content["evidence"]["quote"].as_str().or_else(|| row.content["evidence"].as_str());
    lines.extend(quote.map(|quote| format!("  “{}”", short(quote))));
    lines.join("\n")
}

/// One row after the other, those included that a generation adds meanwhile.
fn ask(store: &Store, review: &Review) -> Result<()> {
    let mut passed = Vec::new();
    loop {
        let waiting = review.rows(store, Some(RowState::Taken))?;
        let Some(row) = waiting.iter().find(|row| !passed.contains(&row.id)) else {
            note("No row waits. Enter looks again, q ends");
            match line()?.as_deref() {
                None | Some("q") => break,
                Some(_) => continue,
            }
        };
        output::line(&printable(&for_people(row, usize::MAX)));
        note(&format!(
            "{} wait.  a accept   r reject   e edit the answer   s later   q end",
            count(waiting.len() as u64)
        ));
        match line()?.as_deref() {
            Some("a" | "y") => review.decide(store, row.id, &Decision::Accept)?,
            Some("r" | "n") => review.decide(store, row.id, &Decision::Reject)?,
            Some("e") => {
                note("The answer as it should be, on one line; an empty one changes nothing");
                match line()? {
                    Some(text) if !text.is_empty() => {
                        review.decide(store, row.id, &Decision::Edit { question: None, answer: Some(text) })?;
                    }
                    _ => continue,
                }
            }
            Some("s") => {
                passed.push(row.id);
                continue;
            }
            None | Some("q") => break,
            Some(_) => continue,
        }
        review.write(store)?;
    }
    let rows = review.write(store)?;
    output::line(&printable(&format!("{} rows in {}", count(rows as u64), review.out.display())));
    Ok(())
}

/// A line without its end; `None` where there will be no more.
fn line() -> Result<Option<String>> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_line(&mut text);
    let bytes = read.map_err(|error| Fault::io("read from", std::path::Path::new("standard input"), error))?;
    Ok((bytes > 0).then(|| text.trim().to_owned()))
}
