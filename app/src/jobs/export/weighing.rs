//! An importance matrix for an export: read from a file of llama.cpp's, or gathered by our own forward pass over rows.

use super::Origin;
use crate::cli::{interrupt, output};
use peft_data::ReadOptions;
use peft_models::engine::Engine;
use peft_models::export::gguf::importance::Importance;
use peft_models::prepare::render;
use peft_plan::{Fault, Result};
use std::path::{Path, PathBuf};

/// Rows that are looked at, spread evenly over the data, and tokens of each.
pub const ROWS: usize = 256;
const ROW_TOKENS: usize = 512;
/// The word for the rows that the run was trained on.
pub const TRAINING: &str = "training";

/// The importance of the columns as `asked`: `training`, a GGUF file of `llama-imatrix`, or rows of data. `None`: the
/// person had enough.
pub fn importance(engine: &Engine, origin: &Origin, asked: &str) -> Result<Option<Importance>> {
    let path = Path::new(asked);
    if asked != TRAINING && path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) {
        return Importance::read(path, origin.base.spec()).map(Some);
    }
    let (rows, source) = if asked == TRAINING {
        (origin.training.clone(), "the training data".to_owned())
    } else {
        let name = path.file_name().map_or_else(|| asked.to_owned(), |name| name.to_string_lossy().into_owned());
        (rows_of(origin, path)?, name)
    };
    if rows.is_empty() {
        let detail = match asked {
            TRAINING => "The data of the run cannot be read here; name a file of rows with `--imatrix FILE`".to_owned(),
            _ => format!("`{asked}` holds no row that could be looked at"),
        };
        return Err(Fault::new("PS-DATA-004", detail));
    }
    interrupt::install();
    let has_adapter = origin.adapter.is_some();
    let mut session = engine.session_with(&origin.base, origin.adapter.as_ref(), origin.quantize)?;
    let source = format!("{} rows of {source}", rows.len());
    let found = session.importance(&rows, has_adapter, &source, &mut || !interrupt::requested())?;
    if let Some(found) = &found {
        output::note(&format!("Importance: {}", found.described()));
    }
    Ok(found)
}

fn rows_of(origin: &Origin, path: &Path) -> Result<Vec<Vec<u32>>> {
    let Some(options) = &origin.render else {
        return Err(Fault::new("PS-TMPL-001", "The model has no chat layout, so no rows can be read for `--imatrix`"));
    };
    let dataset = peft_data::read(&[PathBuf::from(path)], &ReadOptions::default())?;
    let chosen = spread(dataset.rows.len());
    let cut = render(&origin.base, &dataset.rows, &chosen, options)?.cut(longest(origin));
    Ok(cut.examples.into_iter().map(|tokens| tokens.ids).collect())
}

/// Rows of tokens that are looked at, of those that a run was trained on.
pub(super) fn chosen(origin: &Origin, rows: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    let (mut rows, longest) = (rows, longest(origin));
    let keep = |row: &mut Vec<u32>| {
        row.truncate(longest);
        std::mem::take(row)
    };
    spread(rows.len()).into_iter().map(|i| keep(&mut rows[i])).collect()
}

fn longest(origin: &Origin) -> usize {
    origin.base.spec().max_positions.min(ROW_TOKENS)
}

/// At most `ROWS` of `count`, evenly.
fn spread(count: usize) -> Vec<usize> {
    let kept = count.min(ROWS);
    (0..kept).map(|i| i * count / kept).collect()
}

#[cfg(test)]
mod tests {
    use super::{ROWS, spread};

    #[test]
    fn rows_are_spread_over_all_of_the_data() {
        assert_eq!(spread(0), Vec::<usize>::new());
        assert_eq!(spread(3), [0, 1, 2]);
        let many = spread(10 * ROWS + 5);
        assert!(many.len() == ROWS && many.windows(2).all(|pair| pair[0] < pair[1]) && many[ROWS - 1] > 9 * ROWS);
    }
}
