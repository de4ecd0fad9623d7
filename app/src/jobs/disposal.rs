//! What a run takes on the disk, and how to give it back without touching anybody else's files.

use peft_plan::{Fault, Result};
use peft_storage::{Run, RunLock, Store};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// Files and folders that a run writes, beside its result. Whatever else is in the folder is not ours.
const STATE: [&str; 4] = ["checkpoints", "adapters", "best.safetensors", "answers"];
/// What is left of a run that only keeps its result.
const RECORDS: [&str; 7] =
    ["events.jsonl", "process.log", "rows.ledger", "receipt.json", "run.json", "run.lock", "tensorboard"];
/// The result.
const RESULTS: [&str; 3] = ["adapter", "model", "merged"];

/// Bytes that a run takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// The adapter or model.
    pub result_bytes: u64,
    /// Checkpoints, which only matter for going on or going back.
    pub state_bytes: u64,
    /// Events and other records.
    pub record_bytes: u64,
}

impl DiskUse {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.result_bytes + self.state_bytes + self.record_bytes
    }
}

/// What `run` takes on the disk.
pub fn disk_use(run: &Run) -> DiskUse {
    let sum = |names: &[&str]| names.iter().map(|name| size(&run.directory.join(name))).sum();
    DiskUse { result_bytes: sum(&RESULTS), state_bytes: sum(&STATE), record_bytes: sum(&RECORDS) }
}

/// Bytes of a file, or of everything in a folder.
pub(super) fn size(path: &Path) -> u64 {
    // A link is not followed: what it points to is not ours.
    let Ok(data) = fs::symlink_metadata(path) else { return 0 };
    if !data.is_dir() {
        return data.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
}

/// Delete a run and its files. `keep_result`: the adapter stays where it is.
///
/// # Errors
/// PS-RUN-002 while a process works on it.
pub fn delete(store: &Store, run: &Run, keep_result: bool) -> Result<DiskUse> {
    let before = disk_use(run);
    {
        let _lock = if run.directory.is_dir() { Some(RunLock::take(&run.directory)?) } else { None };
        // The row goes first: a row without files would be offered and fail, files without a row only take room.
        store.delete_run(&run.id)?;
        remove(&run.directory, &STATE)?;
        if !keep_result {
            remove(&run.directory, &RESULTS)?;
        }
        remove(&run.directory, &RECORDS)?;
    }
    // Only where nothing of anybody is left in it.
    let _removed = fs::remove_dir(&run.directory);
    let kept = if keep_result { before.result_bytes } else { 0 };
    Ok(DiskUse { result_bytes: before.result_bytes - kept, ..before })
}

/// Throw the training state of a finished run away; result and records stay. Returns the freed bytes.
///
/// # Errors
/// PS-RUN-002 while a process works on it.
pub fn archive(store: &Store, run: &Run) -> Result<u64> {
    let freed = disk_use(run).state_bytes;
    let _lock = if run.directory.is_dir() { Some(RunLock::take(&run.directory)?) } else { None };
    if let Some(version) = run.version {
        store.archive_version(version)?;
    }
    remove(&run.directory, &STATE)?;
    Ok(freed)
}

/// Bytes that a run which nobody knows any more has left in `directory`, its result aside.
pub(super) fn left_behind(directory: &Path) -> u64 {
    STATE.iter().chain(&RECORDS).map(|name| size(&directory.join(name))).sum()
}

/// Delete what [`left_behind`] counts. Returns the freed bytes.
///
/// # Errors
/// PS-RUN-002 while a process works there.
pub(super) fn remove_left_behind(directory: &Path) -> Result<u64> {
    let freed = left_behind(directory);
    {
        let _lock = RunLock::take(directory)?;
        remove(directory, &STATE)?;
        remove(directory, &RECORDS)?;
    }
    // Only where nothing of anybody is left in it.
    let _removed = fs::remove_dir(directory);
    Ok(freed)
}

fn remove(directory: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let path = directory.join(name);
        let Ok(data) = fs::symlink_metadata(&path) else { continue };
        let removed = if data.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|e| Fault::io("delete", &path, e))?;
    }
    Ok(())
}
