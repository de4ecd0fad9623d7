//! The checkpoints of a run that are whole on the disk.

use crate::store::{Durability, Store, count, integer, now, path_text};
use peft_plan::Result;
use rusqlite::{Row, params};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// After which step.
    pub step: u64,
    /// Its directory.
    pub path: PathBuf,
    /// Length of its files.
    pub bytes: u64,
    /// Unix seconds.
    pub created: i64,
    /// The one with the lowest held-out loss.
    pub best: bool,
}

impl Checkpoint {
    pub(crate) fn from_row(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            step: count(row.get("step")?),
            path: row.get::<_, String>("path")?.into(),
            bytes: count(row.get("bytes")?),
            created: row.get("created")?,
            best: row.get("best")?,
        })
    }
}

impl Store {
    /// Records a checkpoint, after its directory has been committed. Of all checkpoints of a run
    /// at most one is the best: the last that was recorded as such.
    pub fn record_checkpoint(&self, run: &str, step: u64, path: &Path, bytes: u64, best: bool) -> Result<()> {
        let path = path_text(path)?;
        self.write(Durability::Committed, |transaction| {
            if best {
                transaction.execute("UPDATE checkpoints SET best = 0 WHERE run = ?1", [run])?;
            }
            transaction
                .execute(
                    "INSERT OR REPLACE INTO checkpoints (run, step, path, bytes, created, best)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![run, integer(step), path, integer(bytes), now(), best],
                )
                .map(drop)
        })
    }

    /// Forgets a checkpoint, before its directory is removed. One that is not there is no error.
    pub fn delete_checkpoint(&self, run: &str, step: u64) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            transaction
                .execute("DELETE FROM checkpoints WHERE run = ?1 AND step = ?2", params![run, integer(step)])
                .map(drop)
        })
    }

    /// The checkpoints of a run, the oldest first.
    pub fn checkpoints(&self, run: &str) -> Result<Vec<Checkpoint>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM checkpoints WHERE run = ?1 ORDER BY step")?
                .query_map([run], Checkpoint::from_row)?
                .collect()
        })
    }
}
