//! Finished runs as versions of a model (S4.14): which is active, which are archived.

use crate::runs::{Run, no_such_run};
use crate::store::{Durability, Store, integer, now};
use peft_plan::{Fault, Result};
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Version {
    /// Its number, never given twice.
    pub number: u64,
    /// The one to use, of its project.
    pub active: bool,
    /// When its training state was thrown away, Unix seconds.
    pub archived: Option<i64>,
    /// The run itself.
    pub run: Run,
}

impl Version {
    fn from_row(row: &rusqlite::Row) -> rusqlite::Result<Self> {
        let run = Run::from_row(row)?;
        Ok(Self {
            number: run.version.unwrap_or_default(),
            active: row.get("active")?,
            archived: row.get("archived")?,
            run,
        })
    }
}

impl Store {
    /// All versions, the newest first; with a project, only its own.
    pub fn versions(&self, project: Option<&str>) -> Result<Vec<Version>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM runs WHERE version IS NOT NULL AND (?1 IS NULL OR project = ?1)
                     ORDER BY version DESC",
                )?
                .query_map([project], Version::from_row)?
                .collect()
        })
    }

    /// Version `number`.
    ///
    /// # Errors
    /// PS-RUN-001 where there is none.
    pub fn version(&self, number: u64) -> Result<Version> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM runs WHERE version = ?1")?
                .query_row([integer(number)], Version::from_row)
                .optional()
        })?
        .ok_or_else(|| {
            Fault::new("PS-RUN-001", format!("There is no version {number}"))
                .action("List the versions", Some("peft-studio versions list".to_owned()))
        })
    }

    /// The active version of a project, or of the runs without one.
    pub fn active_version(&self, project: Option<&str>) -> Result<Option<Version>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM runs WHERE active = 1 AND version IS NOT NULL AND project IS ?1")?
                .query_row([project], Version::from_row)
                .optional()
        })
    }

    /// Make version `number` the active one of its project.
    pub fn activate_version(&self, number: u64) -> Result<()> {
        let number = integer(number);
        let changed = self.write(Durability::Committed, |transaction| {
            transaction.execute(
                "UPDATE runs SET active = 0
                 WHERE active = 1 AND project IS (SELECT project FROM runs WHERE version = ?1)",
                [number],
            )?;
            transaction.execute("UPDATE runs SET active = 1 WHERE version = ?1", [number])
        })?;
        if changed == 0 { Err(no_such_run(&format!("version {number}"))) } else { Ok(()) }
    }

    /// Note that the training state of version `number` is gone; its checkpoints are forgotten.
    pub fn archive_version(&self, number: u64) -> Result<()> {
        let number = integer(number);
        let changed = self.write(Durability::Committed, |transaction| {
            transaction
                .execute("DELETE FROM checkpoints WHERE run = (SELECT id FROM runs WHERE version = ?1)", [number])?;
            transaction
                .execute("UPDATE runs SET archived = coalesce(archived, ?2) WHERE version = ?1", params![number, now()])
        })?;
        if changed == 0 { Err(no_such_run(&format!("version {number}"))) } else { Ok(()) }
    }
}
