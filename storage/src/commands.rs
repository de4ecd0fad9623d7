//! What another process asks a live run to do. The run looks between two steps.

use crate::runs::json;
use crate::store::{Durability, Store, now};
use peft_plan::Result;
use rusqlite::types::Type;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Save a checkpoint and halt.
    Pause,
    /// Save a checkpoint, write the adapter and end.
    Stop,
    /// Evaluate on the held-out data.
    Evaluate,
    /// Save a checkpoint and go on.
    Snapshot,
    /// Answer a question with the model as it is.
    Answer,
}

const KINDS: [(CommandKind, &str); 5] = [
    (CommandKind::Pause, "pause"),
    (CommandKind::Stop, "stop"),
    (CommandKind::Evaluate, "evaluate"),
    (CommandKind::Snapshot, "snapshot"),
    (CommandKind::Answer, "answer"),
];

impl CommandKind {
    fn as_str(self) -> &'static str {
        KINDS[self as usize].1
    }
}

/// A request to a live run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Command {
    /// Counts up over all runs.
    pub id: i64,
    /// What is asked for.
    pub kind: CommandKind,
    /// Details; `null` where there are none.
    pub payload: Value,
    /// Unix seconds.
    pub created: i64,
}

impl Command {
    fn from_row(row: &Row) -> rusqlite::Result<Self> {
        let kind: String = row.get("kind")?;
        let kind = KINDS.iter().find(|(_, name)| *name == kind).ok_or_else(|| {
            let message = format!("unknown command `{kind}`");
            rusqlite::Error::FromSqlConversionFailure(0, Type::Text, message.into())
        })?;
        Ok(Self {
            id: row.get("id")?,
            kind: kind.0,
            payload: json(&row.get::<_, String>("payload")?)?,
            created: row.get("created")?,
        })
    }
}

impl Store {
    /// Asks `run` for something; returns the request's id.
    pub fn push_command(&self, run: &str, kind: CommandKind, payload: &Value) -> Result<i64> {
        self.write(Durability::Committed, |transaction| {
            transaction.query_row(
                "INSERT INTO commands (run, kind, payload, created) VALUES (?1, ?2, ?3, ?4)
                 RETURNING id",
                params![run, kind.as_str(), payload.to_string(), now()],
                |row| row.get(0),
            )
        })
    }

    /// The requests to `run` that nobody has taken, in the order in which they were made; each is
    /// handed out once. Cheap enough to ask after every step.
    ///
    /// A process that begins to work on a run also finds what was asked of one that died.
    pub fn take_commands(&self, run: &str) -> Result<Vec<Command>> {
        let waiting: bool = self.read(|connection| {
            connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM commands WHERE run = ?1 AND taken IS NULL)")?
                .query_row([run], |row| row.get(0))
        })?;
        if !waiting {
            return Ok(Vec::new());
        }
        let mut commands: Vec<Command> = self.write(Durability::Committed, |transaction| {
            transaction
                .prepare_cached("UPDATE commands SET taken = ?2 WHERE run = ?1 AND taken IS NULL RETURNING *")?
                .query_map(params![run, now()], Command::from_row)?
                .collect()
        })?;
        commands.sort_by_key(|command| command.id);
        Ok(commands)
    }
}
