//! `runs compare`: the best of each metric marked, and only what was set differently (S4.11).

use super::context::Context;
use super::output::{self, printable};
use super::quantity::{bytes, duration, measured};
use super::table;
use crate::jobs::compare::{self, Comparison};
use crate::jobs::run::find;
use peft_plan::Result;
use serde_json::Value;

pub(super) fn run(context: &Context, names: &[String], points: usize) -> Result<()> {
    let store = context.store()?;
    let runs = names.iter().map(|name| find(&store, name)).collect::<Result<Vec<_>>>()?;
    let comparison = compare::compare(&store, runs, points)?;
    if context.json {
        output::print_json(&comparison);
    } else {
        output::text(&printable(&for_people(&comparison)));
    }
    Ok(())
}

fn for_people(comparison: &Comparison) -> String {
    let Comparison { runs, metrics, best, differences, .. } = comparison;
    let titles: Vec<String> = runs.iter().map(|r| r.name.replace(['\n', '\t'], " ")).collect();
    let mut header = vec![""];
    header.extend(titles.iter().map(String::as_str));
    let labels = [
        ("loss", "Loss"),
        ("validation_loss", "Held-out loss"),
        ("token_accuracy", "Tokens right"),
        ("quality_score", "Quality"),
        ("tokens_per_second", "Tokens a second"),
        ("memory_bytes", "Memory"),
        ("seconds", "Time"),
    ];
    let mut rows =
        vec![std::iter::once("Id".to_owned()).chain(runs.iter().map(|r| r.id.to_string())).collect::<Vec<_>>()];
    for (name, label) in labels {
        let mut row = vec![label.to_owned()];
        for (run, value) in runs.iter().zip(&metrics[name]) {
            let shown = match (name, value) {
                (_, None) => "-".to_owned(),
                ("memory_bytes", Some(v)) => bytes(*v as u64),
                ("seconds", Some(v)) => duration(*v),
                ("token_accuracy", Some(v)) => format!("{:.1}%", 100.0 * v),
                ("quality_score" | "tokens_per_second", Some(v)) => format!("{v:.0}"),
                (_, Some(v)) => measured(Some(*v)),
            };
            let mark = if best.get(name).is_some_and(|id| *id == run.id.to_string()) { " (best)" } else { "" };
            row.push(format!("{shown}{mark}"));
        }
        rows.push(row);
    }
    let mut text = table::render(&header, &rows);
    if differences.is_empty() {
        text.push_str("\nTheir settings are the same.\n");
        return text;
    }
    let rows: Vec<Vec<String>> = differences
        .iter()
        .map(|d| {
            let shown = d.values.iter().map(|value| match value {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            std::iter::once(d.key.clone()).chain(shown).collect()
        })
        .collect();
    header[0] = "SET DIFFERENTLY";
    text.push('\n');
    text + &table::render(&header, &rows)
}
