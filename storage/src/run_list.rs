//! Lists of runs: filtered, sorted, cut.

use crate::runs::{Run, Status};
use crate::store::Store;
use peft_plan::Result;
use rusqlite::named_params;

/// What to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunSort {
    /// Time of creation.
    #[default]
    Created,
    /// Name.
    Name,
    /// Status.
    Status,
    /// Training loss.
    Loss,
    /// Held-out loss.
    ValidationLoss,
    /// Quality score.
    QualityScore,
    /// Active time.
    Seconds,
}

impl RunSort {
    fn column(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Name => "name COLLATE NOCASE",
            Self::Status => "status",
            Self::Loss => "loss",
            Self::ValidationLoss => "validation_loss",
            Self::QualityScore => "quality_score",
            Self::Seconds => "seconds",
        }
    }
}

/// Which runs to list. The default: all of them, the newest first.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only these.
    pub status: Option<Status>,
    /// Only those of this project.
    pub project: Option<String>,
    /// Only those whose name holds this, in upper or lower case.
    pub name_contains: Option<String>,
    /// What to sort by; runs without a value come last either way.
    pub sort: RunSort,
    /// The smallest, oldest or first in the alphabet first.
    pub ascending: bool,
    /// At most this many.
    pub limit: Option<usize>,
}

/// The runs that a filter means, before any process is looked for.
const CHOSEN: &str = "(:status IS NULL OR status IN (:status, :other_status))
    AND (:project IS NULL OR project = :project)
    AND (:name IS NULL OR instr(lower(name), lower(:name)) > 0)";

impl Store {
    /// How many runs `filter` lets through, whatever its limit. Whether processes live is not looked at: where the
    /// status depends on it, there is no number.
    pub fn count_runs(&self, filter: &RunFilter) -> Result<Option<usize>> {
        if matches!(filter.status, Some(Status::Running | Status::Interrupted)) {
            return Ok(None);
        }
        let status = filter.status.map(Status::as_str);
        let count: i64 = self.read(|connection| {
            connection.prepare_cached(&format!("SELECT count(*) FROM runs WHERE {CHOSEN}"))?.query_row(
                named_params! {
                    ":status": status,
                    ":other_status": status,
                    ":project": filter.project,
                    ":name": filter.name_contains,
                },
                |row| row.get(0),
            )
        })?;
        Ok(usize::try_from(count).ok())
    }

    /// The runs that `filter` lets through.
    pub fn list_runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        // Whether a process lives is not in the table, so for these two the rest is done below.
        let is_observed = matches!(filter.status, Some(Status::Running | Status::Interrupted));
        let (status, other_status) = match filter.status {
            _ if is_observed => (Some(Status::Running), Some(Status::Interrupted)),
            status => (status, status),
        };
        let limit = match filter.limit {
            Some(limit) if !is_observed => i64::try_from(limit).unwrap_or(i64::MAX),
            _ => -1,
        };
        let column = filter.sort.column();
        let direction = if filter.ascending { "ASC" } else { "DESC" };
        // Every run has a time, which an index keeps in order.
        let order = match filter.sort {
            RunSort::Created => format!("created {direction}, id {direction}"),
            _ => format!("{column} IS NULL, {column} {direction}, id {direction}"),
        };
        // First which: an index has all that it takes. The settings beside it are many times as large.
        let statement = format!("SELECT id FROM runs WHERE {CHOSEN} ORDER BY {order} LIMIT :limit");
        // All rows are read before the first process is looked for: an open statement would hold
        // on to the state of the table at its start.
        let rows: Vec<Run> = self.read(|connection| {
            let ids: Vec<String> = connection
                .prepare_cached(&statement)?
                .query_map(
                    named_params! {
                        ":status": status.map(Status::as_str),
                        ":other_status": other_status.map(Status::as_str),
                        ":project": filter.project,
                        ":name": filter.name_contains,
                        ":limit": limit,
                    },
                    |row| row.get(0),
                )?
                .collect::<rusqlite::Result<_>>()?;
            let mut one = connection.prepare_cached("SELECT * FROM runs WHERE id = ?1")?;
            ids.iter().map(|id| one.query_row([id], Run::from_row)).collect()
        })?;
        let mut runs = Vec::with_capacity(rows.len());
        for run in rows {
            let run = self.observed(run)?;
            if filter.status.is_none_or(|status| status == run.status || !is_observed) {
                runs.push(run);
            }
        }
        runs.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(runs)
    }
}
