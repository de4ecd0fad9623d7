//! Rows that helper models write: jobs, calls with their raw answers, and rows with what people think of them (S2.3).

use crate::runs::json;
use crate::store::{Durability, Store, count, integer, now};
use peft_plan::{Fault, Result};
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// It passed the checks.
    Taken,
    /// A person took it.
    Approved,
    /// It did not pass the checks.
    Refused,
    /// A person did not want it.
    Rejected,
}

impl RowState {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
        }
    }

    /// It belongs into the dataset.
    pub fn is_wanted(self) -> bool {
        matches!(self, Self::Taken | Self::Approved)
    }

    fn from_str(text: &str) -> rusqlite::Result<Self> {
        let all = [Self::Taken, Self::Approved, Self::Refused, Self::Rejected];
        all.into_iter().find(|state| state.as_str() == text).ok_or(rusqlite::Error::InvalidQuery)
    }
}

/// An answer of a helper, or none, with what was made of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewCall {
    /// What was asked about.
    pub unit: String,
    /// Counts the questions about the unit, from 0.
    pub round: u32,
    /// `answered`, or the kind of setback.
    pub outcome: String,
    /// As it came.
    pub raw: String,
    /// USD.
    pub cost: f64,
    /// Nothing more is asked about the unit.
    pub is_over: bool,
    /// Rows that were taken.
    pub taken: Vec<Value>,
    /// Rows that were not, with the reason.
    pub refused: Vec<(String, Value)>,
}

/// A row of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct TeachingRow {
    /// Its number.
    pub id: i64,
    /// What it is about.
    pub unit: String,
    /// What became of it.
    pub state: RowState,
    /// Why it was refused.
    pub reason: Option<String>,
    /// As it is now: a person's words before the helper's.
    pub content: Value,
    /// A person changed it.
    pub is_edited: bool,
}

/// A job as a person looks for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TeachingJob {
    /// Its number.
    pub id: i64,
    /// The project it is for.
    pub project: Option<String>,
    /// What was wished, who answers, and the file that the rows go to.
    pub settings: Value,
    /// When it began, unix seconds.
    pub created: i64,
    /// Answers and failures.
    pub calls: u64,
    /// USD.
    pub spent: f64,
    /// Rows that passed the checks and wait for a person.
    pub taken: u64,
    /// Rows that a person took.
    pub approved: u64,
    /// Rows that did not pass the checks.
    pub refused: u64,
    /// Rows that a person did not want.
    pub rejected: u64,
}

/// How far a unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitState {
    /// Its name.
    pub unit: String,
    /// How often it was answered.
    pub rounds: u32,
    /// Nothing more is asked about it.
    pub is_over: bool,
}

impl Store {
    /// The job of this key; a new one with these settings where there is none.
    pub fn teaching_job(&self, key: &str, project: Option<&str>, settings: &Value) -> Result<i64> {
        self.write(Durability::Committed, |transaction| {
            transaction.execute(
                "INSERT INTO teaching_jobs (key, project, settings, created) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO NOTHING",
                params![key, project, settings.to_string(), now()],
            )?;
            transaction.query_row("SELECT id FROM teaching_jobs WHERE key = ?1", [key], |row| row.get(0))
        })
    }

    /// The job of this key, if there is one.
    pub fn find_teaching_job(&self, key: &str) -> Result<Option<i64>> {
        self.read(|connection| {
            connection.query_row("SELECT id FROM teaching_jobs WHERE key = ?1", [key], |row| row.get(0)).optional()
        })
    }

    /// All jobs, the newest first.
    pub fn teaching_jobs(&self) -> Result<Vec<TeachingJob>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT j.id, j.project, j.settings, j.created,
                         (SELECT count(*) FROM teaching_calls c WHERE c.job = j.id) AS calls,
                         (SELECT coalesce(sum(cost), 0.0) FROM teaching_calls c WHERE c.job = j.id) AS spent,
                         coalesce(sum(r.state = 'taken'), 0) AS taken, coalesce(sum(r.state = 'approved'), 0) AS approved,
                         coalesce(sum(r.state = 'refused'), 0) AS refused, coalesce(sum(r.state = 'rejected'), 0) AS rejected
                     FROM teaching_jobs j LEFT JOIN teaching_rows r ON r.job = j.id GROUP BY j.id ORDER BY j.id DESC",
                )?
                .query_map([], teaching_job)?
                .collect()
        })
    }

    /// Forgets a job with everything it holds, so that the same work begins anew.
    pub fn forget_teaching_job(&self, job: i64) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            transaction.execute("DELETE FROM teaching_jobs WHERE id = ?1", [job]).map(|_| ())
        })
    }

    /// Keeps a call and its rows: all of it, durably, or nothing.
    pub fn keep_call(&self, job: i64, call: &NewCall) -> Result<()> {
        let NewCall { unit, round, outcome, raw, cost, is_over, taken, refused } = call;
        self.write(Durability::Committed, |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO teaching_calls (job, unit, round, outcome, raw, cost, is_over, created)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![job, unit, round, outcome, raw, cost, is_over, now()])?;
            let id = transaction.last_insert_rowid();
            let mut insert = transaction.prepare_cached(
                "INSERT INTO teaching_rows (job, call, unit, state, reason, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for content in taken {
                let state = RowState::Taken.as_str();
                insert.execute(params![job, id, unit, state, None::<&str>, content.to_string()])?;
            }
            for (reason, content) in refused {
                let state = RowState::Refused.as_str();
                insert.execute(params![job, id, unit, state, reason, content.to_string()])?;
            }
            Ok(())
        })
    }

    /// How far the units of a job are. One that was never answered is not among them.
    pub fn teaching_units(&self, job: i64) -> Result<Vec<UnitState>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT unit, sum(outcome = 'answered') AS rounds, max(is_over) AS is_over
                     FROM teaching_calls WHERE job = ?1 GROUP BY unit ORDER BY unit",
                )?
                .query_map([job], |row| {
                    let rounds = count(row.get("rounds")?);
                    let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
                    Ok(UnitState { unit: row.get("unit")?, rounds, is_over: row.get("is_over")? })
                })?
                .collect()
        })
    }

    /// The rows of a job in the order in which they were made; only those that belong into the dataset, if so wished.
    pub fn teaching_rows(&self, job: i64, only_wanted: bool) -> Result<Vec<TeachingRow>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, unit, state, reason, content, edited FROM teaching_rows
                     WHERE job = ?1 AND (NOT ?2 OR state IN ('taken', 'approved')) ORDER BY id",
                )?
                .query_map(params![job, only_wanted], teaching_row)?
                .collect()
        })
    }

    /// The first rows of a job in one state, in the order in which they were made.
    pub fn teaching_page(&self, job: i64, state: RowState, most: usize) -> Result<Vec<TeachingRow>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, unit, state, reason, content, edited FROM teaching_rows
                     WHERE job = ?1 AND state = ?2 ORDER BY id LIMIT ?3",
                )?
                .query_map(params![job, state.as_str(), integer(most as u64)], teaching_row)?
                .collect()
        })
    }

    /// What a job was begun with; nothing where there is no such job.
    pub fn teaching_settings(&self, job: i64) -> Result<Option<Value>> {
        self.read(|connection| {
            let settings: Option<String> = connection
                .query_row("SELECT settings FROM teaching_jobs WHERE id = ?1", [job], |row| row.get(0))
                .optional()?;
            settings.map(|settings| json(&settings)).transpose()
        })
    }

    /// Another version of what a job was begun with. What makes it the same work stays in its key.
    pub fn put_teaching_settings(&self, job: i64, settings: &Value) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            transaction
                .execute("UPDATE teaching_jobs SET settings = ?2 WHERE id = ?1", params![job, settings.to_string()])
                .map(drop)
        })
    }

    /// The rows of a job that passed the checks, as the helper wrote them and, once more, as a person changed them.
    pub fn teaching_wordings(&self, job: i64) -> Result<Vec<Value>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT content FROM teaching_rows WHERE job = ?1 AND reason IS NULL
                 UNION ALL SELECT edited FROM teaching_rows WHERE job = ?1 AND edited IS NOT NULL",
            )?;
            let wordings = statement.query_map([job], |row| json(&row.get::<_, String>(0)?))?;
            wordings.collect()
        })
    }

    /// The text of a project's chunk, by its document and the name that rows know it by.
    pub fn chunk_text(&self, project: i64, path: &str, name: &str) -> Result<Option<String>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT c.text FROM documents d JOIN chunks c ON c.document = d.id
                     WHERE d.project = ?1 AND d.path = ?2 AND json_extract(c.details, '$.id') = ?3",
                )?
                .query_row(params![project, path, name], |row| row.get(0))
                .optional()
        })
    }

    /// What a person thinks of a row of a job: taken, taken with changes, or not wanted. False where there is no such
    /// row, or it did not pass the checks: what no chunk proves cannot be waved through.
    pub fn decide_row(&self, job: i64, row: i64, is_wanted: bool, edited: Option<&Value>) -> Result<bool> {
        if edited.is_some_and(|edited| !edited.is_object()) {
            return Err(Fault::new("PS-CFG-001", "A row is a JSON object; what was written is something else."));
        }
        let state = if is_wanted { RowState::Approved } else { RowState::Rejected };
        let changed = self.write(Durability::Committed, |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE teaching_rows SET state = ?3, edited = coalesce(?4, edited)
                     WHERE id = ?1 AND job = ?2 AND state <> 'refused'",
                )?
                .execute(params![row, job, state.as_str(), edited.map(Value::to_string)])
        })?;
        Ok(changed > 0)
    }

    /// Calls of a job, and what they cost in USD.
    pub fn teaching_cost(&self, job: i64) -> Result<(u64, f64)> {
        self.read(|connection| {
            connection.query_row(
                "SELECT count(*), coalesce(sum(cost), 0.0) FROM teaching_calls WHERE job = ?1",
                [job],
                |row| Ok((count(row.get(0)?), row.get(1)?)),
            )
        })
    }

    /// The newest raw answers of a job, for looking into what went wrong: unit, outcome and text.
    pub fn raw_answers(&self, job: i64, most: u64) -> Result<Vec<(String, String, String)>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT unit, outcome, raw FROM teaching_calls WHERE job = ?1 ORDER BY id DESC LIMIT ?2",
                )?
                .query_map(params![job, integer(most)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })
    }
}

fn teaching_job(row: &Row) -> rusqlite::Result<TeachingJob> {
    Ok(TeachingJob {
        id: row.get("id")?,
        project: row.get("project")?,
        settings: json(&row.get::<_, String>("settings")?)?,
        created: row.get("created")?,
        calls: count(row.get("calls")?),
        spent: row.get("spent")?,
        taken: count(row.get("taken")?),
        approved: count(row.get("approved")?),
        refused: count(row.get("refused")?),
        rejected: count(row.get("rejected")?),
    })
}

fn teaching_row(row: &Row) -> rusqlite::Result<TeachingRow> {
    let edited: Option<String> = row.get("edited")?;
    let content: String = row.get("content")?;
    Ok(TeachingRow {
        id: row.get("id")?,
        unit: row.get("unit")?,
        state: RowState::from_str(&row.get::<_, String>("state")?)?,
        reason: row.get("reason")?,
        content: json(edited.as_deref().unwrap_or(&content))?,
        is_edited: edited.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(unit: &str, round: u32, taken: &[Value], is_over: bool) -> NewCall {
        let (unit, outcome, raw) = (unit.to_owned(), "answered".to_owned(), "{raw".to_owned());
        let refused = vec![("ungrounded".to_owned(), json!({"instruction": "no"}))];
        NewCall { unit, round, outcome, raw, cost: 0.25, is_over, taken: taken.to_vec(), refused }
    }

    #[test]
    fn the_same_work_goes_on_where_it_was() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let job = store.teaching_job("k", Some("p"), &json!({"pairs": 3})).expect("new");
        store.keep_call(job, &call("u1", 0, &[json!({"instruction": "a"})], false)).expect("kept");
        store.keep_call(job, &call("u1", 1, &[json!({"instruction": "b"})], true)).expect("kept");
        let failed = NewCall { unit: "u2".into(), outcome: "busy".into(), ..NewCall::default() };
        store.keep_call(job, &failed).expect("kept");
        drop(store);
        let store = Store::open(home.path()).expect("a store");
        assert_eq!(store.teaching_job("k", None, &Value::Null).expect("the same"), job);
        assert_eq!(store.find_teaching_job("other").expect("readable"), None);
        let units = store.teaching_units(job).expect("readable");
        let state = |unit: &str, rounds, is_over| UnitState { unit: unit.to_owned(), rounds, is_over };
        assert_eq!(units, [state("u1", 2, true), state("u2", 0, false)]);
        assert_eq!(store.teaching_rows(job, true).expect("readable").len(), 2);
        assert_eq!(store.teaching_rows(job, false).expect("readable").len(), 4);
        let (calls, cost) = store.teaching_cost(job).expect("readable");
        assert!(calls == 3 && (cost - 0.5).abs() < 1e-9);
        assert_eq!(store.raw_answers(job, 2).expect("readable").len(), 2);
        store.forget_teaching_job(job).expect("forgotten");
        assert!(store.teaching_rows(job, false).expect("readable").is_empty());
        store.check().expect("whole");
    }

    #[test]
    fn people_take_change_and_refuse_rows() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let job = store.teaching_job("k", None, &Value::Null).expect("new");
        store
            .keep_call(job, &call("u", 0, &[json!({"instruction": "a"}), json!({"instruction": "b"})], true))
            .expect("kept");
        let rows = store.teaching_rows(job, true).expect("readable");
        let refused = store.teaching_rows(job, false).expect("readable").pop().expect("one that was refused");
        assert!(!store.decide_row(job, refused.id, true, None).expect("readable"), "it did not pass the checks");
        assert!(store.decide_row(job, rows[0].id, true, Some(&json!({"instruction": "better"}))).expect("changed"));
        assert!(store.decide_row(job, rows[1].id, false, None).expect("refused"));
        assert!(!store.decide_row(job, 99, true, None).expect("nobody"));
        assert!(!store.decide_row(job + 1, rows[1].id, true, None).expect("another job's"));
        assert_eq!(
            store.decide_row(job, rows[0].id, true, Some(&json!("text"))).expect_err("no row").code,
            "PS-CFG-001"
        );
        let rows = store.teaching_rows(job, true).expect("readable");
        assert_eq!((rows.len(), &rows[0].content["instruction"], rows[0].is_edited), (1, &json!("better"), true));
        assert_eq!(rows[0].state, RowState::Approved);
        let jobs = store.teaching_jobs().expect("readable");
        let counts = (jobs[0].taken, jobs[0].approved, jobs[0].refused, jobs[0].rejected, jobs[0].calls);
        assert_eq!((jobs.len(), jobs[0].id, counts), (1, job, (0, 1, 1, 1, 1)));
    }
}
