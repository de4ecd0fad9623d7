//! What happened in a run besides steps and evaluations.

use crate::runs::json;
use crate::store::{Durability, Store, count, integer};
use peft_plan::Result;
use rusqlite::{Row, params};
use serde::Serialize;
use serde_json::Value;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Counts up within its run.
    pub sequence: u64,
    /// At which step.
    pub step: u64,
    /// As in cli.md: `anomaly`, `paused`, …
    pub kind: String,
    /// The whole event.
    pub json: Value,
}

impl Event {
    fn from_row(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            sequence: count(row.get("sequence")?),
            step: count(row.get("step")?),
            kind: row.get("kind")?,
            json: json(&row.get::<_, String>("json")?)?,
        })
    }
}

impl Store {
    /// Records an event after those that are there; returns its number.
    pub fn record_event(&self, run: &str, step: u64, kind: &str, event: &Value) -> Result<u64> {
        self.write(Durability::Soon, |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO events (run, sequence, step, kind, json)
                     VALUES (?1, (SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE run = ?1),
                         ?2, ?3, ?4)
                     RETURNING sequence",
                )?
                .query_row(params![run, integer(step), kind, event.to_string()], |row| row.get(0).map(count))
        })
    }

    /// The events of a run after number `sequence` (0: all), in order.
    pub fn events(&self, run: &str, sequence: u64) -> Result<Vec<Event>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM events WHERE run = ?1 AND sequence > ?2 ORDER BY sequence")?
                .query_map(params![run, integer(sequence)], Event::from_row)?
                .collect()
        })
    }
}
