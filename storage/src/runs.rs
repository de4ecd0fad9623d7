//! Runs: what was asked for, how far it came, what came out.

use crate::run_id::RunId;
use crate::run_lock::RunLock;
use crate::store::{Durability, Store, count, integer, now, path_text};
use peft_plan::{Fault, Result};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, named_params, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Created; no process works on it yet.
    Queued,
    /// A live process works on it.
    Running,
    /// Halted on request or by a guard, with a checkpoint.
    Paused,
    /// Ended on request, with an adapter.
    Stopped,
    /// Ended as planned.
    Finished,
    /// Ended by an error.
    Failed,
    /// Its process died.
    Interrupted,
}

const STATUSES: [(Status, &str); 7] = [
    (Status::Queued, "queued"),
    (Status::Running, "running"),
    (Status::Paused, "paused"),
    (Status::Stopped, "stopped"),
    (Status::Finished, "finished"),
    (Status::Failed, "failed"),
    (Status::Interrupted, "interrupted"),
];

impl Status {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        STATUSES[self as usize].1
    }

    fn from_stored(text: &str) -> Option<Self> {
        STATUSES.iter().find(|(_, name)| *name == text).map(|(status, _)| *status)
    }
}

/// What a run is created from.
#[derive(Clone, Debug, Default)]
pub struct NewRun {
    /// Need not be unique.
    pub name: String,
    /// Where its files go; without one, a directory of its own under the data directory.
    pub directory: Option<PathBuf>,
    /// The configuration, frozen from now on.
    pub config: Value,
    /// Resolved values that could differ between starts.
    pub plan: Value,
    /// Hash of the data set.
    pub dataset_hash: Option<String>,
    /// Hash of the base model.
    pub base_hash: Option<String>,
    /// The project it belongs to.
    pub project: Option<String>,
    /// Steps until it is finished, where that is known.
    pub total_steps: u64,
}

/// What a process says when it begins to work on a run.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Steps until it is finished.
    pub total_steps: u64,
    /// Backend, as in `cpu`.
    pub backend: String,
    /// The device's own name.
    pub device: String,
    /// Resolved values of this start; `None` keeps those of the first.
    pub plan: Option<Value>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Finished, stopped, failed or paused.
    pub status: Status,
    /// The last step.
    pub last_step: u64,
    /// Active time.
    pub seconds: f64,
    /// Training loss at the end.
    pub loss: Option<f64>,
    /// Held-out loss at the end.
    pub validation_loss: Option<f64>,
    /// 0 to 100.
    pub quality_score: Option<f64>,
    /// The fault, as `--json` shows it.
    pub error: Option<Value>,
}

/// A run, with the field names of `runs list --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Id.
    pub id: RunId,
    /// Name.
    pub name: String,
    /// Status; `running` only while its process lives.
    pub status: Status,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub updated: i64,
    /// Steps done.
    #[serde(rename = "steps")]
    pub last_step: u64,
    /// Steps until it is finished.
    pub total_steps: u64,
    /// The latest training loss.
    pub loss: Option<f64>,
    /// The latest held-out loss.
    pub validation_loss: Option<f64>,
    /// 0 to 100.
    pub quality_score: Option<f64>,
    /// Active time.
    pub seconds: f64,
    /// Trained tokens so far.
    pub tokens: u64,
    /// Peak memory planned before the first step.
    pub memory_plan_bytes: Option<u64>,
    /// Peak resident memory measured, loading included.
    pub peak_memory_bytes: Option<u64>,
    /// Given to a finished run, counted over all runs.
    pub version: Option<u64>,
    /// Where its files are.
    pub directory: PathBuf,
    /// The project it belongs to.
    pub project: Option<String>,
    /// Hash of the data set.
    pub dataset_hash: Option<String>,
    /// Hash of the base model.
    pub base_hash: Option<String>,
    /// Backend, as in `cpu`.
    pub backend: Option<String>,
    /// The device's own name.
    pub device: Option<String>,
    /// The process that last worked on it.
    pub pid: Option<u32>,
    /// The fault that ended it.
    pub error: Option<Value>,
    /// The frozen configuration.
    pub config: Value,
    /// Resolved values that could differ between starts.
    pub plan: Value,
}

impl Run {
    pub(crate) fn from_row(row: &Row) -> rusqlite::Result<Self> {
        let status: String = row.get("status")?;
        let status = Status::from_stored(&status).ok_or_else(|| {
            let message = format!("unknown status `{status}`");
            rusqlite::Error::FromSqlConversionFailure(0, Type::Text, message.into())
        })?;
        let error: Option<String> = row.get("error")?;
        Ok(Self {
            id: RunId::from_stored(row.get("id")?),
            name: row.get("name")?,
            status,
            created: row.get("created")?,
            updated: row.get("updated")?,
            last_step: count(row.get("last_step")?),
            total_steps: count(row.get("total_steps")?),
            loss: row.get("loss")?,
            validation_loss: row.get("validation_loss")?,
            quality_score: row.get("quality_score")?,
            seconds: row.get("seconds")?,
            tokens: count(row.get("tokens")?),
            version: row.get::<_, Option<i64>>("version")?.map(count),
            memory_plan_bytes: row.get::<_, Option<i64>>("memory_plan_bytes")?.map(count),
            peak_memory_bytes: row.get::<_, Option<i64>>("peak_memory_bytes")?.map(count),
            directory: row.get::<_, String>("directory")?.into(),
            project: row.get("project")?,
            dataset_hash: row.get("dataset_hash")?,
            base_hash: row.get("base_hash")?,
            backend: row.get("backend")?,
            device: row.get("device")?,
            pid: row.get::<_, Option<i64>>("pid")?.and_then(|pid| u32::try_from(pid).ok()),
            error: error.as_deref().map(json).transpose()?,
            config: json(&row.get::<_, String>("config")?)?,
            plan: json(&row.get::<_, String>("plan")?)?,
        })
    }
}

/// JSON that was stored as text.
pub(crate) fn json(text: &str) -> rusqlite::Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

impl Store {
    /// Creates a queued run and its directory.
    pub fn create_run(&self, new: &NewRun) -> Result<RunId> {
        loop {
            let id = RunId::generate();
            let directory = new.directory.clone().unwrap_or_else(|| self.layout().run(&id));
            let directory = std::path::absolute(&directory).unwrap_or(directory);
            durable::create_directories(&directory)
                .map_err(|error| Fault::io("create the folder", &directory, error))?;
            let directory = path_text(&directory)?;
            let inserted = self.write(Durability::Committed, |transaction| {
                transaction.execute(
                    "INSERT INTO runs (id, name, status, created, updated, directory, config, plan,
                         dataset_hash, base_hash, project, total_steps)
                     VALUES (:id, :name, 'queued', :now, :now, :directory, :config, :plan,
                         :dataset_hash, :base_hash, :project, :total_steps)
                     ON CONFLICT (id) DO NOTHING",
                    named_params! {
                        ":id": id.as_str(),
                        ":name": new.name,
                        ":now": now(),
                        ":directory": directory,
                        ":config": new.config.to_string(),
                        ":plan": new.plan.to_string(),
                        ":dataset_hash": new.dataset_hash,
                        ":base_hash": new.base_hash,
                        ":project": new.project,
                        ":total_steps": integer(new.total_steps),
                    },
                )
            })?;
            // Another process may have drawn the same id in the same millisecond.
            if inserted == 1 {
                return Ok(id);
            }
        }
    }

    /// The run with this id, or else the newest with this name.
    pub fn get_run(&self, id_or_name: &str) -> Result<Run> {
        match self.find_run(id_or_name)? {
            Some(run) => self.observed(run),
            None => Err(self.unknown_run(id_or_name)?),
        }
    }

    fn find_run(&self, id_or_name: &str) -> Result<Option<Run>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM runs WHERE id = ?1 OR name = ?1
                     ORDER BY id = ?1 DESC, created DESC, id DESC LIMIT 1",
                )?
                .query_row([id_or_name], Run::from_row)
                .optional()
        })
    }

    /// `running` in the table only means that nobody wrote anything later. A process that ends in
    /// order writes first and releases its lock afterwards, so a row that still says `running`
    /// when it is read again after the lock was found free belongs to a process that died.
    pub(crate) fn observed(&self, run: Run) -> Result<Run> {
        if run.status != Status::Running || RunLock::is_held(&run.directory) {
            return Ok(run);
        }
        let mut run = self.find_run(&run.id)?.unwrap_or(run);
        if run.status == Status::Running && !RunLock::is_held(&run.directory) {
            run.status = Status::Interrupted;
        }
        Ok(run)
    }

    /// PS-RUN-001, with the nearest name that exists.
    fn unknown_run(&self, wanted: &str) -> Result<Fault> {
        const COMPARED_NAMES: u32 = 10_000;
        const COMPARED_CHARACTERS: usize = 100;
        let names: Vec<String> = self.read(|connection| {
            connection
                .prepare_cached("SELECT name FROM runs GROUP BY name ORDER BY max(created) DESC LIMIT ?1")?
                .query_map([COMPARED_NAMES], |row| row.get(0))?
                .collect()
        })?;
        let shorten =
            |text: &str| -> String { text.chars().take(COMPARED_CHARACTERS).collect::<String>().to_lowercase() };
        let target = shorten(wanted);
        let nearest = names
            .iter()
            .map(|name| (strsim::jaro_winkler(&shorten(name), &target), name))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|left, right| left.0.total_cmp(&right.0));
        let fault = Fault::new("PS-RUN-001", format!("No run has the id or name `{wanted}`."));
        Ok(match nearest {
            Some((_, name)) => fault.action(
                format!("Use `{name}`, the nearest name"),
                Some(format!("peft-studio runs show '{}'", name.replace('\'', r"'\''"))),
            ),
            None => fault,
        })
    }

    /// A process that holds the run's lock begins to work on it.
    pub fn start_run(&self, run: &str, start: &Start) -> Result<()> {
        self.change(
            run,
            "UPDATE runs SET status = 'running', updated = ?2, error = NULL, pid = ?3,
                 total_steps = ?4, backend = ?5, device = ?6, plan = coalesce(?7, plan)
             WHERE id = ?1",
            params![
                run,
                now(),
                std::process::id(),
                integer(start.total_steps),
                start.backend,
                start.device,
                start.plan.as_ref().map(Value::to_string),
            ],
        )
    }

    /// Writes down what was planned of the memory, or what was measured; `None` leaves what is known.
    pub fn record_memory(&self, run: &str, planned: Option<u64>, peak: Option<u64>) -> Result<()> {
        self.change(
            run,
            "UPDATE runs SET memory_plan_bytes = coalesce(?2, memory_plan_bytes),
                 peak_memory_bytes = max(coalesce(?3, peak_memory_bytes), coalesce(peak_memory_bytes, ?3))
             WHERE id = ?1",
            params![run, planned.map(integer), peak.map(integer)],
        )
    }

    /// From now on the run has this configuration and this data.
    pub fn change_config(&self, run: &str, config: &Value, dataset_hash: &str) -> Result<()> {
        self.change(
            run,
            "UPDATE runs SET config = ?2, dataset_hash = ?3, updated = ?4 WHERE id = ?1",
            params![run, config.to_string(), dataset_hash, now()],
        )
    }

    /// Sets the status alone.
    pub fn update_status(&self, run: &str, status: Status) -> Result<()> {
        self.change(
            run,
            "UPDATE runs SET status = ?2, updated = ?3 WHERE id = ?1",
            params![run, status.as_str(), now()],
        )
    }

    /// Writes down how the run ended. A finished run gets the next version number (S4.14.1), which
    /// is returned; one that has a number keeps it.
    pub fn finish(&self, run: &str, outcome: &Outcome) -> Result<Option<u64>> {
        let Outcome { status, last_step, seconds, loss, validation_loss, quality_score, error } = outcome;
        self.write(Durability::Committed, |transaction| {
            let version: Option<Option<i64>> = transaction
                .query_row(
                    "UPDATE runs SET status = :status, updated = :now, last_step = :last_step,
                         seconds = :seconds, loss = :loss, validation_loss = :validation_loss,
                         quality_score = :quality_score, error = :error
                     WHERE id = :run RETURNING version",
                    named_params! {
                        ":run": run,
                        ":status": status.as_str(),
                        ":now": now(),
                        ":last_step": integer(*last_step),
                        ":seconds": finite(*seconds),
                        ":loss": loss,
                        ":validation_loss": validation_loss,
                        ":quality_score": quality_score,
                        ":error": error.as_ref().map(Value::to_string),
                    },
                    |row| row.get(0),
                )
                .optional()?;
            if version != Some(None) || *status != Status::Finished {
                return Ok(version);
            }
            let next: i64 =
                transaction
                    .query_row("UPDATE version_counter SET last = last + 1 RETURNING last", [], |row| row.get(0))?;
            transaction.execute("UPDATE runs SET version = ?2 WHERE id = ?1", params![run, next])?;
            Ok(Some(Some(next)))
        })?
        .map(|version| version.map(count))
        .ok_or_else(|| no_such_run(run))
    }

    /// Forgets a run and everything that was recorded of it. Its files are not touched.
    pub fn delete_run(&self, run: &str) -> Result<()> {
        self.change(run, "DELETE FROM runs WHERE id = ?1", params![run])
    }

    fn change(&self, run: &str, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<()> {
        let changed =
            self.write(Durability::Committed, |transaction| transaction.prepare_cached(statement)?.execute(values))?;
        if changed == 0 { Err(no_such_run(run)) } else { Ok(()) }
    }
}

/// For changes that must hit a run.
pub(crate) fn no_such_run(run: &str) -> Fault {
    Fault::new("PS-RUN-001", format!("The run `{run}` is not there; it has been deleted."))
}

/// `SQLite` stores "not a number" as NULL, which a time cannot be.
pub(crate) fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { 0.0 }
}
