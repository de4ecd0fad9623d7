//! What of a pipeline is done, kept in the data directory from step to step.

use peft_models::receipt::sha256;
use peft_plan::{Fault, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Progress {
    Begun,
    Done,
}

/// One step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) hash: String,
    pub(super) progress: Progress,
    /// The run that it made.
    pub(super) run: Option<String>,
    pub(super) seconds: f64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Mixed into every hash, so that nobody finds short values by trying.
    salt: String,
    pipeline: PathBuf,
    steps: Vec<Record>,
}

/// The records of one pipeline file.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    kept: Kept,
}

impl State {
    /// Of the pipeline in the file `pipeline`. Writes nothing.
    pub(super) fn open(data_dir: &Path, pipeline: &Path) -> Result<Self> {
        let name = sha256(pipeline.to_string_lossy().as_bytes());
        let path = data_dir.join("pipelines").join(format!("{}.json", &name[..16]));
        let kept = match std::fs::read(&path) {
            // What cannot be read is begun again: every step can be repeated.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(Fault::io("read", &path, error)),
        };
        let mut state = Self { path, kept };
        if state.kept.salt.is_empty() || state.kept.pipeline != pipeline {
            let random = || RandomState::new().hash_one(0);
            state.kept = Kept {
                salt: format!("{:016x}{:016x}", random(), random()),
                pipeline: pipeline.to_owned(),
                steps: Vec::new(),
            };
        }
        Ok(state)
    }

    pub(super) fn salt(&self) -> &str {
        &self.kept.salt
    }

    /// The record of step `index`.
    pub(super) fn record(&self, index: usize) -> Option<&Record> {
        self.kept.steps.get(index)
    }

    /// Forget every step.
    pub(super) fn forget(&mut self) {
        self.kept.steps.clear();
    }

    /// Forget everything from step `length` on.
    pub(super) fn truncate(&mut self, length: usize) {
        self.kept.steps.truncate(length);
    }

    /// Write the record of step `index` down; those before it are there.
    pub(super) fn put(&mut self, index: usize, record: Record) -> Result<()> {
        self.kept.steps.truncate(index);
        self.kept.steps.push(record);
        let text = serde_json::to_vec_pretty(&self.kept).expect("plain data with text for keys");
        durable::write_file(&self.path, &text).map(drop).map_err(|error| Fault::io("write", &self.path, error))
    }

    /// Held while this process runs the pipeline.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.path.with_extension("lock");
        let io = |error| Fault::io("lock", &path, error);
        durable::create_directories(path.parent().unwrap_or(&path)).map_err(io)?;
        let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(Fault::new("PS-RUN-002", "Another process runs this pipeline; wait until it ends"))
            }
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }
}
