//! The queue: runs that wait for their turn, in the order in which they were made.
//!
//! A run that is being started also says `queued` for a moment; only those with an event `queued` wait.

use crate::runs::{Run, json};
use crate::store::{Durability, Store};
use peft_plan::Result;
use rusqlite::params;
use serde_json::Value;

/// A run that waits for its turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The run.
    pub run: Run,
    /// What its process is to be told, as it was put in.
    pub wishes: Value,
}

impl Store {
    /// Puts a run that nobody has started behind those that wait already.
    pub fn enqueue(&self, run: &str, wishes: &Value) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            transaction
                .execute(
                    "INSERT INTO events (run, sequence, step, kind, json)
                     VALUES (?1, (SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE run = ?1), 0, 'queued', ?2)",
                    params![run, wishes.to_string()],
                )
                .map(|_| ())
        })
    }

    /// The runs that wait, the next one first. Their order does not depend on the clock.
    pub fn queue(&self) -> Result<Vec<Waiting>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT runs.*, events.json AS wishes FROM runs JOIN events ON events.run = runs.id
                     WHERE runs.status = 'queued' AND events.kind = 'queued' ORDER BY runs.rowid",
                )?
                .query_map([], |row| {
                    Ok(Waiting { run: Run::from_row(row)?, wishes: json(&row.get::<_, String>("wishes")?)? })
                })?
                .collect()
        })
    }
}
