//! What people think of the rows that a helper wrote: taken, changed, refused (S2.3). The file follows each decision, and
//! a generation that goes on in another process adds its rows to the same list.

use super::generate::write;
use peft_plan::{Fault, Result};
use peft_storage::{RowState, Store, TeachingJob, TeachingRow};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A job whose rows are reviewed.
#[derive(Clone, Debug)]
pub struct Review {
    /// The job.
    pub job: TeachingJob,
    /// The file that follows.
    pub out: PathBuf,
}

/// What a person says about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is good.
    Accept,
    /// It is not wanted.
    Reject,
    /// It is good with another first question, or with another answer to it.
    Edit {
        /// In place of the question.
        question: Option<String>,
        /// In place of the answer.
        answer: Option<String>,
    },
}

impl Review {
    /// The job with this number or this file; the newest generation where nothing is named.
    pub fn find(store: &Store, name: Option<&str>) -> Result<Self> {
        let jobs = store.teaching_jobs()?.into_iter().filter(|job| job.settings["kind"] == "generate");
        let path =
            name.map(|name| std::path::absolute(name).unwrap_or_else(|_| PathBuf::from(name)).display().to_string());
        let is_meant = |job: &TeachingJob| match (name, &path) {
            (Some(name), Some(path)) => name == job.id.to_string() || job.settings["out"] == path.as_str(),
            _ => true,
        };
        let Some(job) = jobs.into_iter().find(is_meant) else {
            let detail = match name {
                Some(name) => format!("No rows were generated under the number or the file `{name}`."),
                None => "No rows were generated yet.".to_owned(),
            };
            return Err(Fault::new("PS-CFG-001", detail)
                .action("See what was generated", Some("peft-studio data review --list".to_owned())));
        };
        let out = PathBuf::from(job.settings["out"].as_str().unwrap_or_default());
        Ok(Self { job, out })
    }

    /// Its rows in this state, in the order in which they were made; all of them where none is named.
    pub fn rows(&self, store: &Store, state: Option<RowState>) -> Result<Vec<TeachingRow>> {
        let rows = store.teaching_rows(self.job.id, false)?;
        Ok(rows.into_iter().filter(|row| state.is_none_or(|state| row.state == state)).collect())
    }

    /// Keep a decision. PS-CFG-001 for a row that is not there or did not pass the checks, and for a change that says
    /// nothing.
    pub fn decide(&self, store: &Store, row: i64, decision: &Decision) -> Result<()> {
        let changed = match decision {
            Decision::Accept => store.decide_row(self.job.id, row, true, None)?,
            Decision::Reject => store.decide_row(self.job.id, row, false, None)?,
            Decision::Edit { question, answer } => {
                let rows = store.teaching_rows(self.job.id, false)?;
                let found = rows.into_iter().find(|known| known.id == row);
                let content =
                    found.map(|known| edited(known.content, question.as_deref(), answer.as_deref())).transpose()?;
                content.map_or(Ok(false), |content| store.decide_row(self.job.id, row, true, Some(&content)))?
            }
        };
        if changed {
            return Ok(());
        }
        let detail = format!("There is no row {row} to decide on; rows that did not pass the checks stay out.");
        Err(Fault::new("PS-CFG-001", detail))
    }

    /// Writes the file as the decisions are now; how many rows it has.
    pub fn write(&self, store: &Store) -> Result<usize> {
        if self.out == Path::new("") {
            return Ok(0);
        }
        write(store, self.job.id, &self.out)
    }
}

fn edited(mut content: Value, question: Option<&str>, answer: Option<&str>) -> Result<Value> {
    for (place, text) in [(0, question), (1, answer)] {
        let Some(text) = text else { continue };
        if text.trim().is_empty() {
            return Err(Fault::new("PS-CFG-001", "A question or an answer cannot be empty; reject the row instead."));
        }
        match content.pointer_mut(&format!("/exchanges/0/{place}")) {
            Some(old) => *old = json!(text.trim()),
            None => return Err(Fault::new("PS-CFG-001", "This row did not pass the checks and cannot be changed.")),
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_storage::NewCall;

    fn row(question: &str) -> Value {
        json!({"exchanges": [[question, "Old."]], "evidence": null, "chunk": null, "source": null, "heading": [], "task": "facts"})
    }

    #[test]
    fn the_file_follows_what_people_decide_s2_3() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        assert_eq!(Review::find(&store, None).expect_err("nothing yet").code, "PS-CFG-001");
        let out = home.path().join("rows.jsonl");
        let settings = json!({"kind": "generate", "out": out.display().to_string()});
        let job = store.teaching_job("k", None, &settings).expect("new");
        let refused = vec![("ungrounded".to_owned(), json!({"exchanges": [["No?", "No."]], "evidence": "x"}))];
        let taken = vec![row("One?"), row("Two?"), row("Three?")];
        store.keep_call(job, &NewCall { taken, refused, ..NewCall::default() }).expect("kept");
        let review = Review::find(&store, Some(&out.display().to_string())).expect("by its file");
        assert_eq!(Review::find(&store, Some(&job.to_string())).expect("by its number").job.id, review.job.id);
        let rows = review.rows(&store, Some(RowState::Taken)).expect("readable");
        let edit = Decision::Edit { question: None, answer: Some(" New. ".to_owned()) };
        review.decide(&store, rows[0].id, &edit).expect("changed");
        review.decide(&store, rows[1].id, &Decision::Reject).expect("refused");
        review.decide(&store, rows[2].id, &Decision::Accept).expect("taken");
        assert_eq!(review.write(&store).expect("written"), 2);
        let text = std::fs::read_to_string(&out).expect("there");
        let first: Value = serde_json::from_str(text.lines().next().expect("a row")).expect("JSON");
        assert_eq!((&first["instruction"], &first["output"]), (&json!("One?"), &json!("New.")));
        assert!(!text.contains("Two?") && text.contains("Three?"));
        let bad = review.rows(&store, Some(RowState::Refused)).expect("readable")[0].id;
        for decision in [Decision::Accept, edit, Decision::Reject] {
            assert_eq!(review.decide(&store, bad, &decision).expect_err("no chunk proves it").code, "PS-CFG-001");
        }
        let empty = Decision::Edit { question: Some(" ".to_owned()), answer: None };
        assert_eq!(review.decide(&store, rows[2].id, &empty).expect_err("says nothing").code, "PS-CFG-001");
    }
}
