//! The steps of a run that its curves are drawn from: all of them, or of a very long run those that shape it.

use crate::metrics::StepMetrics;
use crate::store::{Store, integer};
use peft_plan::Result;
use rusqlite::params;

/// Steps up to which a curve has every one.
const WHOLE: u64 = 1 << 16;

impl Store {
    /// The number of the last recorded step; 0 before the first.
    pub fn last_recorded_step(&self, run: &str) -> Result<u64> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT coalesce(max(step), 0) FROM metrics WHERE run = ?1")?
                .query_row([run], |row| row.get::<_, i64>(0))
        })
        .map(|step| step.try_into().unwrap_or(0))
    }

    /// The steps of a run in order. Of more than 65,536 there are, of every 512, the lowest and the highest loss and
    /// the largest gradient, so that no spike is lost; the first and the newest are always there.
    pub fn curve(&self, run: &str) -> Result<Vec<StepMetrics>> {
        if self.last_recorded_step(run)? <= WHOLE {
            return self.metrics(run);
        }
        self.read(|connection| {
            let outlined: i64 = connection
                .prepare_cached("SELECT coalesce(max(block) + 1, 0) * 512 FROM outlines WHERE run = ?1")?
                .query_row([run], |row| row.get(0))?;
            let mut steps: Vec<StepMetrics> = connection
                .prepare_cached("SELECT * FROM metrics WHERE run = ?1 ORDER BY step LIMIT 1")?
                .query_map([run], StepMetrics::from_row)?
                .collect::<rusqlite::Result<_>>()?;
            let shaping = "SELECT m.* FROM outlines AS o
                 JOIN metrics AS m ON m.run = o.run AND m.step IN (o.lowest, o.highest, o.steepest)
                 WHERE o.run = ?1 ORDER BY o.block, m.step";
            for found in connection.prepare_cached(shaping)?.query_map([run], StepMetrics::from_row)? {
                let found = found?;
                if steps.last().is_none_or(|last| last.step < found.step) {
                    steps.push(found);
                }
            }
            let rest = "SELECT * FROM metrics WHERE run = ?1 AND step > ?2 ORDER BY step";
            for found in connection.prepare_cached(rest)?.query_map(params![run, outlined], StepMetrics::from_row)? {
                steps.push(found?);
            }
            Ok(steps)
        })
    }

    /// The run goes on from `step`: what is known of later steps is not true any more.
    pub(crate) fn forget_outlines(transaction: &rusqlite::Transaction, run: &str, step: u64) -> rusqlite::Result<()> {
        let statement = "DELETE FROM outlines WHERE run = ?1 AND (block + 1) * 512 > ?2";
        transaction.execute(statement, params![run, integer(step)]).map(drop)
    }
}
