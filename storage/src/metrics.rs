//! What a run measured at each step and at each evaluation.

use crate::checkpoints::Checkpoint;
use crate::runs::{finite, no_such_run};
use crate::store::{Durability, Store, count, integer, now};
use peft_plan::Result;
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

/// One optimiser step. Numbers that are not finite survive, as "not a number" or infinity.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepMetrics {
    /// Step, from 1.
    pub step: u64,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Training loss.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Trained tokens of this step.
    pub tokens: u64,
    /// Speed.
    pub tokens_per_second: f64,
    /// Peak resident set so far.
    pub memory_bytes: u64,
}

/// One evaluation on held-out data.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// After which step; 0 is the base model.
    pub step: u64,
    /// Held-out loss.
    pub loss: f64,
    /// Perplexity.
    pub perplexity: f64,
    /// Share of tokens that were predicted.
    pub token_accuracy: f64,
}

/// `SQLite` stores "not a number" as NULL.
fn number(row: &Row, column: &str) -> rusqlite::Result<f64> {
    Ok(row.get::<_, Option<f64>>(column)?.unwrap_or(f64::NAN))
}

impl StepMetrics {
    pub(crate) fn from_row(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            step: count(row.get("step")?),
            epoch: number(row, "epoch")?,
            loss: number(row, "loss")?,
            gradient_norm: number(row, "gradient_norm")?,
            learning_rate: number(row, "learning_rate")?,
            tokens: count(row.get("tokens")?),
            tokens_per_second: number(row, "tokens_per_second")?,
            memory_bytes: count(row.get("memory_bytes")?),
        })
    }
}

impl Evaluation {
    fn from_row(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            step: count(row.get("step")?),
            loss: number(row, "loss")?,
            perplexity: number(row, "perplexity")?,
            token_accuracy: number(row, "token_accuracy")?,
        })
    }
}

impl Store {
    /// Records steps in one transaction and brings the run's own figures up to date; `seconds` is
    /// the run's active time so far. A step that is recorded again is replaced.
    ///
    /// A power cut may take the last of them, a crash of the program does not.
    pub fn record_metrics(&self, run: &str, batch: &[StepMetrics], seconds: f64) -> Result<()> {
        let Some(last) = batch.iter().max_by_key(|metrics| metrics.step) else {
            return Ok(());
        };
        let changed = self.write(Durability::Soon, |transaction| {
            let mut known = transaction.prepare_cached("SELECT tokens FROM metrics WHERE run = ?1 AND step = ?2")?;
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO metrics (run, step, epoch, loss, gradient_norm,
                     learning_rate, tokens, tokens_per_second, memory_bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            let mut tokens: i64 = 0;
            for metrics in batch {
                let step = integer(metrics.step);
                let replaced: Option<i64> = known.query_row(params![run, step], |row| row.get(0)).optional()?;
                tokens = tokens.saturating_add(integer(metrics.tokens)).saturating_sub(replaced.unwrap_or(0));
                insert.execute(params![
                    run,
                    step,
                    metrics.epoch,
                    metrics.loss,
                    metrics.gradient_norm,
                    metrics.learning_rate,
                    integer(metrics.tokens),
                    metrics.tokens_per_second,
                    integer(metrics.memory_bytes),
                ])?;
            }
            transaction
                .prepare_cached(
                    "UPDATE runs SET updated = ?2, last_step = ?3, loss = ?4, seconds = ?5,
                         tokens = max(0, tokens + ?6)
                     WHERE id = ?1",
                )?
                .execute(params![run, now(), integer(last.step), last.loss, finite(seconds), tokens])
        })?;
        if changed == 0 { Err(no_such_run(run)) } else { Ok(()) }
    }

    /// All recorded steps of a run, in order.
    pub fn metrics(&self, run: &str) -> Result<Vec<StepMetrics>> {
        self.metrics_after(run, None)
    }

    /// The recorded steps of a run after `step`, in order: for a view that follows it.
    pub fn metrics_after(&self, run: &str, step: Option<u64>) -> Result<Vec<StepMetrics>> {
        let after = step.map_or(-1, integer);
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM metrics WHERE run = ?1 AND step > ?2 ORDER BY step")?
                .query_map(params![run, after], StepMetrics::from_row)?
                .collect()
        })
    }

    /// Records an evaluation; its loss becomes the run's held-out loss.
    pub fn record_evaluation(&self, run: &str, evaluation: &Evaluation) -> Result<()> {
        self.write(Durability::Soon, |transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO evaluations (run, step, loss, perplexity, token_accuracy)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    run,
                    integer(evaluation.step),
                    evaluation.loss,
                    evaluation.perplexity,
                    evaluation.token_accuracy,
                ])?;
            transaction
                .prepare_cached("UPDATE runs SET updated = ?2, validation_loss = ?3 WHERE id = ?1")?
                .execute(params![run, now(), evaluation.loss])
                .map(drop)
        })
    }

    /// All evaluations of a run, in order.
    pub fn evaluations(&self, run: &str) -> Result<Vec<Evaluation>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM evaluations WHERE run = ?1 ORDER BY step")?
                .query_map([run], Evaluation::from_row)?
                .collect()
        })
    }

    /// A run goes on from `step`: forgets everything that was recorded later, and sets the run's
    /// own figures back. Returns the checkpoints that were forgotten, whose directories are the
    /// caller's to remove.
    pub fn truncate_after(&self, run: &str, step: u64) -> Result<Vec<Checkpoint>> {
        let last = step;
        let step = integer(last);
        let (changed, dropped) = self.write(Durability::Committed, |transaction| {
            Self::forget_outlines(transaction, run, last)?;
            for table in ["metrics", "evaluations", "events"] {
                let statement = format!("DELETE FROM {table} WHERE run = ?1 AND step > ?2");
                transaction.execute(&statement, params![run, step])?;
            }
            let mut dropped: Vec<Checkpoint> = transaction
                .prepare("DELETE FROM checkpoints WHERE run = ?1 AND step > ?2 RETURNING *")?
                .query_map(params![run, step], Checkpoint::from_row)?
                .collect::<rusqlite::Result<_>>()?;
            dropped.sort_by_key(|checkpoint| checkpoint.step);
            let latest = "FROM metrics WHERE run = ?1 ORDER BY step DESC LIMIT 1";
            let evaluated = "FROM evaluations WHERE run = ?1 ORDER BY step DESC LIMIT 1";
            let statement = format!(
                "UPDATE runs SET updated = ?2, last_step = ?3, loss = (SELECT loss {latest}),
                     validation_loss = (SELECT loss {evaluated}),
                     tokens = (SELECT coalesce(sum(tokens), 0) FROM metrics WHERE run = ?1)
                 WHERE id = ?1"
            );
            let changed = transaction.execute(&statement, params![run, now(), step])?;
            Ok((changed, dropped))
        })?;
        if changed == 0 { Err(no_such_run(run)) } else { Ok(dropped) }
    }
}
