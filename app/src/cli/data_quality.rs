//! `data score`, `data contamination`, `data versions` and `data card`.

use super::args::{CardArgs, ContaminationArgs, DataVersionsCommand, ScoreArgs};
use super::context::Context;
use super::output::{self, printable};
use super::quantity::count;
use crate::jobs::dataset_card::{self, Words};
use crate::jobs::dataset_versions::{DatasetVersion, Versions};
use crate::jobs::sources;
use peft_data::{BadLine, Change, Dataset, Difference, LeakKind, ReadOptions, RowScore};
use peft_plan::{Fault, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Rows by their score: ten bars of ten points.
const BARS: usize = 10;

fn dataset(files: &[PathBuf]) -> Result<Dataset> {
    let options = ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() };
    peft_data::read(&sources::files_of(files)?, &options)
}

/// `data score`.
pub(super) fn score(context: &Context, args: &ScoreArgs) -> Result<()> {
    let ScoreArgs { files, out, below, show } = args;
    let dataset = dataset(files)?;
    let mut scores = peft_data::score_rows(&dataset.rows);
    let all = scores.len();
    let mean = scores.iter().map(|row| f64::from(row.score)).sum::<f64>() / all.max(1) as f64;
    let mut bars = [0_usize; BARS];
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &scores {
        bars[(row.score as usize / BARS).min(BARS - 1)] += 1;
        for reason in &row.reasons {
            *reasons.entry(reason.code).or_default() += 1;
        }
    }
    if let Some(below) = below {
        scores.retain(|row| row.score < *below);
    }
    if let Some(out) = out {
        let line = |row: &RowScore| format!("{}\n", placed(row, &dataset));
        let lines: String = scores.iter().map(line).collect();
        durable::write_file(out, lines.as_bytes()).map_err(|error| Fault::io("write", out, error))?;
    }
    let chosen = scores.len();
    scores.sort_by_key(|row| row.score);
    scores.truncate(*show);
    let worst: Vec<Value> = scores.iter().map(|row| placed(row, &dataset)).collect();
    if context.json {
        output::print_json(&json!({
            "rows": all, "mean": (mean * 10.0).round() / 10.0, "histogram": bars, "reasons": reasons,
            "selected": chosen, "worst": worst, "out": out,
        }));
        return Ok(());
    }
    let mut lines = vec![format!("{} rows, {mean:.0} of 100 points on average", count(all as u64))];
    for (code, rows) in &reasons {
        lines.push(format!("  {code:<12} {} rows", count(*rows as u64)));
    }
    for row in scores.iter().filter(|row| row.score < 100) {
        lines.push(format!("Line {}: {} points", row.line, row.score));
        lines.extend(row.reasons.iter().map(|reason| format!("  -{} {}", reason.points, reason.text)));
    }
    if let Some(out) = out {
        lines.push(format!("{} scores in {}", count(chosen as u64), out.display()));
    }
    output::line(&printable(&lines.join("\n")));
    Ok(())
}

/// A score with the path of its file.
fn placed(row: &RowScore, dataset: &Dataset) -> Value {
    let RowScore { file, line, score, language, reasons } = row;
    let path = dataset.files.get(*file).map(|file| file.path.display().to_string());
    json!({"file": path, "line": line, "score": score, "language": language, "reasons": reasons})
}

/// `data contamination`.
pub(super) fn contamination(context: &Context, args: &ContaminationArgs) -> Result<()> {
    let (training, evaluation) = (dataset(&args.files)?, dataset(&args.evaluation)?);
    let leaks = peft_data::contamination(&training.rows, &evaluation.rows);
    let mut given: Vec<(usize, usize)> =
        leaks.iter().map(|leak| (leak.evaluation.file, leak.evaluation.line)).collect();
    given.sort_unstable();
    given.dedup();
    let of = |kind: LeakKind| leaks.iter().filter(|leak| leak.kind == kind).count();
    let path = |dataset: &Dataset, file: usize| dataset.files.get(file).map(|file| file.path.display().to_string());
    if context.json {
        let list: Vec<Value> = leaks
            .iter()
            .map(|leak| {
                json!({
                    "kind": leak.kind, "share": (leak.share * 1000.0).round() / 1000.0,
                    "training": {"file": path(&training, leak.training.file), "line": leak.training.line},
                    "evaluation": {"file": path(&evaluation, leak.evaluation.file), "line": leak.evaluation.line},
                })
            })
            .collect();
        output::print_json(&json!({
            "training_rows": training.rows.len(), "evaluation_rows": evaluation.rows.len(),
            "leaking_training_rows": leaks.len(), "contaminated_evaluation_rows": given.len(),
            "same_row": of(LeakKind::SameRow), "same_question": of(LeakKind::SameQuestion),
            "shared_text": of(LeakKind::SharedText), "leaks": list,
        }));
        return Ok(());
    }
    let mut lines = vec![format!(
        "{} of {} evaluation rows are given away by {} of {} training rows",
        count(given.len() as u64),
        count(evaluation.rows.len() as u64),
        count(leaks.len() as u64),
        count(training.rows.len() as u64)
    )];
    for leak in leaks.iter().take(args.show) {
        let how = match leak.kind {
            LeakKind::SameRow => "is".to_owned(),
            LeakKind::SameQuestion => "asks the same as".to_owned(),
            LeakKind::SharedText => format!("has {:.0}% of", 100.0 * leak.share),
        };
        lines.push(format!("  line {} {how} evaluation line {}", leak.training.line, leak.evaluation.line));
    }
    if !leaks.is_empty() {
        lines.push("What helps: `data convert FILE --evaluation FILE` leaves these rows out".to_owned());
    }
    output::line(&printable(&lines.join("\n")));
    Ok(())
}

/// `data versions`.
pub(super) fn versions(context: &Context, command: &DataVersionsCommand) -> Result<()> {
    let of = |project: &str| Versions::of(&context.store()?, &context.data_dir, project);
    match command {
        DataVersionsCommand::Save { project, from, note } => {
            // Rows that are brought along begin a project; without any there has to be one.
            if from.is_some() {
                context.store()?.open_project(project)?;
            }
            let versions = of(project)?;
            if let Some(from) = from {
                versions.take(from)?;
            }
            let (version, is_new) = versions.save(note)?;
            let text = if is_new {
                described(&version)
            } else {
                format!("Nothing has changed since version {}", version.version)
            };
            tell(context, &json!({"version": version, "is_new": is_new, "rows": versions.current()}), &text);
        }
        DataVersionsCommand::List { project } => {
            let versions = of(project)?;
            let list = versions.list()?;
            let lines: Vec<String> = list.iter().map(described).collect();
            let text = if lines.is_empty() { "There are no versions yet".to_owned() } else { lines.join("\n") };
            tell(context, &json!({"versions": list, "rows": versions.current()}), &text);
        }
        DataVersionsCommand::Diff { before, after, project } => {
            let found = of(project)?.diff(*before, *after)?;
            tell(context, &json!(found), &difference(&found));
        }
        DataVersionsCommand::Restore { version, project } => {
            let versions = of(project)?;
            versions.restore(*version)?;
            let text = format!("The rows are those of version {version} again: {}", versions.current().display());
            tell(context, &json!({"restored": version, "rows": versions.current()}), &text);
        }
    }
    Ok(())
}

fn described(version: &DatasetVersion) -> String {
    let DatasetVersion { version, rows, bytes, note, .. } = version;
    let note = if note.is_empty() { String::new() } else { format!(": {note}") };
    format!("Version {version}, {} rows, {} bytes{note}", count(*rows as u64), count(*bytes))
}

fn difference(found: &Difference) -> String {
    let Difference { kept, added, removed, changed, additions, removals, changes } = found;
    let mut lines = vec![format!(
        "{} rows as they were, {} new, {} gone, {} answered in another way",
        count(*kept as u64),
        count(*added as u64),
        count(*removed as u64),
        count(*changed as u64)
    )];
    let answer = |answer: &Option<String>| answer.clone().unwrap_or_default();
    lines.extend(additions.iter().map(|Change { question, new, .. }| format!("+ {question} → {}", answer(new))));
    lines.extend(removals.iter().map(|Change { question, old, .. }| format!("- {question} → {}", answer(old))));
    for Change { question, old, new, .. } in changes {
        lines.extend([format!("~ {question}"), format!("    {}", answer(old)), format!("  → {}", answer(new))]);
    }
    lines.join("\n")
}

/// `data card`.
pub(super) fn card(context: &Context, args: &CardArgs) -> Result<()> {
    let CardArgs { file, out, title, license, description } = args;
    let words = Words { title: title.as_deref(), license: license.as_deref(), description: description.as_deref() };
    dataset_card::write(file, out, &words)?;
    tell(context, &json!({"out": out}), &format!("The card is {}", out.display()));
    Ok(())
}

fn tell(context: &Context, document: &Value, text: &str) {
    if context.json {
        output::print_json(document);
    } else {
        output::line(&printable(text));
    }
}
