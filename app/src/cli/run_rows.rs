//! `runs rows`: the ledger of a run, the most suspicious rows first (B7).

use super::context::Context;
use super::output::{self, note, printable};
use super::table;
use crate::jobs::run::find;
use crate::jobs::setup::{Places, read_data};
use peft_models::train::ledger;
use peft_plan::findings::{RowScore, rank_rows};
use peft_plan::{Example, Fault, Role, Row, RunConfig};
use serde_json::json;

/// Characters of a row that are shown.
const SHOWN: usize = 48;

pub(super) fn run(context: &Context, name: &str, limit: usize) -> Result<(), Fault> {
    let store = context.store()?;
    let run = find(&store, name)?;
    let ranked = rank_rows(&ledger::read(&run.directory)?);
    let config = RunConfig::from_value(run.config.clone())?;
    // The ledger knows numbers; the words are in the files, if they are still there and still the same.
    let dataset = read_data(&config).map(|sourced| sourced.dataset);
    let dataset = match &dataset {
        Ok(data) if run.dataset_hash.as_deref().is_some_and(|hash| hash == peft_data::dataset_hash(&data.files)) => {
            Some(data)
        }
        _ => None,
    };
    let places = dataset.map(Places::new).unwrap_or_default();
    let row_of = |score: &RowScore| dataset.and_then(|data| data.rows.get(score.row as usize));
    let shown = &ranked[..limit.min(ranked.len())];
    if context.json {
        let rows: Vec<_> = shown
            .iter()
            .map(|score| {
                let row = row_of(score);
                let file = row.and_then(|row| dataset?.files.get(row.file)).map(|file| file.path.display().to_string());
                json!({
                    "row": u64::from(score.row) + 1,
                    "file": file,
                    "line": row.map(|row| row.line),
                    "score": score.score,
                    "visits": score.visits,
                    "tokens": score.tokens,
                    "first_loss": score.first_loss,
                    "last_loss": score.last_loss,
                    "text": row.map(beginning),
                })
            })
            .collect();
        output::print_json(&json!({ "run": run.id, "name": run.name, "rows_seen": ranked.len(), "rows": rows }));
        return Ok(());
    }
    if ranked.is_empty() {
        note("This run has not trained on any row yet.");
        return Ok(());
    }
    if dataset.is_none() {
        note("The data is not what the run was trained on any more, so only numbers of rows are shown.");
    }
    let lines: Vec<Vec<String>> = shown
        .iter()
        .map(|score| {
            vec![
                places.of(score.row),
                format!("{:.1}", score.score),
                format!("{:.2}", score.first_loss),
                format!("{:.2}", score.last_loss),
                score.visits.to_string(),
                row_of(score).map(beginning).unwrap_or_default(),
            ]
        })
        .collect();
    let header = ["ROW", ">SCORE", ">FIRST LOSS", ">LAST LOSS", ">SEEN", "BEGINS WITH"];
    output::text(&printable(&table::render(&header, &lines)));
    Ok(())
}

/// The first words of a row: of its last answer, or of its text.
fn beginning(row: &Row) -> String {
    let conversation = row.example.conversation();
    let text = match (&row.example, &conversation) {
        (Example::Text(text), _) => text,
        (_, Some(turns)) => {
            turns.iter().rfind(|turn| turn.role == Role::Assistant).map_or("", |turn| turn.content.as_str())
        }
        (_, None) => "",
    };
    let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= SHOWN {
        return words;
    }
    words.chars().take(SHOWN - 1).chain(['…']).collect()
}
