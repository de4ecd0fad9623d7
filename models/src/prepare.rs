//! Rows become token ids with a loss mask, through the one rendering function.

mod preference;

pub use preference::{CutPairs, PreparedPairs, render_pairs};

use crate::base::BaseModel;
use crate::train::Tokens;
use peft_plan::{Fault, Result, Row};
use peft_text::{RenderOptions, Rendered};

/// Rendered examples, before the sequence length is decided.
pub struct Prepared {
    rendered: Vec<Rendered>,
    rows: Vec<u32>,
}

/// Examples ready to train on.
pub struct Cut {
    /// The examples.
    pub examples: Vec<Tokens>,
    /// How many were cut to the sequence length.
    pub truncated: u64,
    /// How many had nothing left to learn from and were left out.
    pub dropped: u64,
}

/// Render the rows `indices`. A row that the template refuses is a fault that names its line.
pub fn render(base: &BaseModel, rows: &[Row], indices: &[usize], options: &RenderOptions) -> Result<Prepared> {
    let rendered = indices
        .iter()
        .map(|&i| base.tokenizer().render(&rows[i].example, options).map_err(|fault| at_line(&rows[i], fault)))
        .collect::<Result<_>>()?;
    Ok(Prepared { rendered, rows: indices.iter().map(|&i| i as u32).collect() })
}

/// The fault, with the line of the row that it is about.
fn at_line(row: &Row, fault: Fault) -> Fault {
    Fault { detail: format!("Line {}: {}", row.line, fault.detail), ..fault }
}

impl Prepared {
    /// Tokens of every example.
    pub fn lengths(&self) -> Vec<usize> {
        self.rendered.iter().map(|r| r.ids.len()).collect()
    }

    /// Share of all tokens that is learnt.
    pub fn learnt_share(&self) -> f64 {
        let learnt: usize = self.rendered.iter().map(|r| r.trained.iter().filter(|&&t| t).count()).sum();
        let all: usize = self.rendered.iter().map(|r| r.ids.len()).sum();
        learnt as f64 / all.max(1) as f64
    }

    /// Cut to `max_length`, keeping stop tokens; leave out what has nothing to learn.
    pub fn cut(self, max_length: usize) -> Cut {
        let mut cut = Cut { examples: Vec::with_capacity(self.rendered.len()), truncated: 0, dropped: 0 };
        for (rendered, row) in self.rendered.into_iter().zip(self.rows) {
            let long = rendered.ids.len() > max_length;
            let kept = if long { rendered.truncate(max_length) } else { Some(rendered) };
            match kept {
                // The first token has nothing before it to be predicted from.
                Some(r) if r.trained.iter().skip(1).any(|&t| t) => {
                    cut.truncated += u64::from(long);
                    cut.examples.push(Tokens { ids: r.ids, trained: r.trained, row, pair: None });
                }
                _ => cut.dropped += 1,
            }
        }
        cut
    }
}
