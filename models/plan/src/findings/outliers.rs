//! Rows that cost far more than all others (B7): what a spike is made of.
//!
//! ## What it does
//! Compares the loss of each row with those of the last 256 rows that were trained on, by median and robust spread.
//!
//! ## Why these thresholds
//! Losses of rows are skewed to the right, so the spread is the larger of the one around the median and the one that
//! the ninth decile tells. Healthy rows of the campaign reach 7 such spreads late in a run, when nearly all others are
//! learnt, but stay within a third of what guessing costs, ln(vocabulary); garbled ones begin at 7 spreads and cost as
//! much as guessing, or more. Six spreads, two nats, and two fifths of guessing above the usual are between them. Few
//! tokens make a mean uncertain: below eight the distance must be larger by √(8/n).

use super::rolling::{Window, median, quantile, spread};
use super::{Finding, FindingKind, RowLoss, RunFacts};
use serde::{Deserialize, Serialize};

/// Watches single rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowWatch {
    recent: Window,
    /// Rows that were told of.
    told: Vec<u32>,
    findings: u32,
    /// Loss of the last step without its wild rows, where it had some.
    calm: Option<(u64, f64)>,
}

/// Rows compared with.
const COMPARED: usize = 256;
/// Fewer say nothing.
const FEWEST: usize = 24;
/// A person reads so many findings about rows; the ledger has the rest.
const MOST: u32 = 5;

impl Default for RowWatch {
    fn default() -> Self {
        Self { recent: Window::new(COMPARED), told: Vec::new(), findings: 0, calm: None }
    }
}

impl RowWatch {
    /// Loss of `step` without its wild rows, where it had some: what the model is to be judged by.
    pub fn calm_loss(&self, step: u64) -> Option<f64> {
        self.calm.filter(|(at, _)| *at == step).map(|(_, loss)| loss)
    }

    /// The rows of `step`. `place` says where a row is, for people.
    pub fn observe(
        &mut self,
        step: u64,
        rows: &[RowLoss],
        facts: &RunFacts,
        place: &dyn Fn(u32) -> String,
    ) -> Option<Finding> {
        let recent = self.recent.last(COMPARED);
        for row in rows {
            if row.loss.is_finite() {
                self.recent.push(f64::from(row.loss));
            }
        }
        if recent.len() < FEWEST {
            return None;
        }
        let usual = median(&recent);
        let scale = spread(&recent).max((quantile(&recent, 0.9) - usual) / 1.2816).max(0.1);
        let least = (0.4 * (facts.vocabulary.max(2) as f64).ln()).max(2.0);
        let distance = |row: &RowLoss| {
            let few = (8.0 / f64::from(row.tokens.max(1))).sqrt().max(1.0);
            (f64::from(row.loss) - usual) / (scale * few)
        };
        let is_wild =
            |row: &RowLoss| row.loss.is_finite() && f64::from(row.loss) - usual > least && distance(row) > 6.0;
        let (wild, calm): (Vec<RowLoss>, Vec<RowLoss>) = rows.iter().partition(|row| is_wild(row));
        // Where half of a step is wild the rows are not the reason.
        if wild.is_empty() || 2 * wild.len() > rows.len().max(2) {
            return None;
        }
        let tokens: f64 = calm.iter().map(|row| f64::from(row.tokens)).sum();
        if tokens > 0.0 {
            let sum: f64 = calm.iter().map(|row| f64::from(row.loss) * f64::from(row.tokens)).sum();
            self.calm = Some((step, sum / tokens));
        }
        let mut wild: Vec<(f64, RowLoss)> =
            wild.into_iter().filter(|row| !self.told.contains(&row.row)).map(|row| (distance(&row), row)).collect();
        if wild.is_empty() || self.findings >= MOST {
            return None;
        }
        wild.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.findings += 1;
        self.told.extend(wild.iter().map(|(_, row)| row.row));
        let named: Vec<String> =
            wild.iter().take(3).map(|(_, row)| format!("{} (loss {:.1})", place(row.row), row.loss)).collect();
        let numbers: Vec<String> = wild.iter().take(20).map(|(_, row)| (row.row + 1).to_string()).collect();
        let more = if wild.len() > 3 { format!(" and {} more", wild.len() - 3) } else { String::new() };
        let message = format!(
            "{} of step {step} cost far more than the usual {usual:.1}: {}{more}",
            if wild.len() == 1 { "One row".to_owned() } else { format!("{} rows", wild.len()) },
            named.join(", ")
        );
        let mut finding = Finding::new(FindingKind::Rows, "PS-TRAIN-007", step, message)
            .with("usual_loss", usual)
            .with("loss", f64::from(wild[0].1.loss))
            .with("distance", wild[0].0)
            .action("Look at these rows", Some("peft-studio runs rows RUN".to_owned()))
            .action(
                "Leave them out and go back before them",
                Some(format!(
                    "peft-studio resume RUN --exclude-rows {} --rewind-to {}",
                    numbers.join(","),
                    step.saturating_sub(1)
                )),
            );
        finding.rows = wild.iter().map(|(_, row)| row.row).collect();
        Some(finding)
    }
}
