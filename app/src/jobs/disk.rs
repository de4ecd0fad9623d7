//! What everything of ours takes on the disk, and what of it can be deleted without losing anything (S4.14.5).
//!
//! Results are never deleted here, nor anything of a run that may go on, nor what other programs own: models are in
//! a cache that they share, and go only with `models remove`.

use super::disposal::{self, disk_use};
use super::{hardware::free_space, library};
use crate::cli::context::Context;
use crate::cli::output::{bytes, note};
use clap::ValueEnum;
use peft_plan::{Fault, Result};
use peft_storage::{Run, RunFilter, RunLock, Status, Store};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// With less free space than this, a run or a download begins with a word about it.
const SHORT_BYTES: u64 = 2 << 30;
/// A run's folder is made a moment before the run is known.
const SETTLED: Duration = Duration::from_mins(10);

/// What can be deleted without losing a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Checkpoints of finished and stopped runs; their results stay
    TrainingState,
    /// Checkpoints and records in folders of runs that were deleted
    Leftovers,
    /// Copies of the library from before updates of the program
    Backups,
    /// What is computed again when it is needed
    Caches,
    /// Log files
    Logs,
}

/// One thing that takes room.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// `models`, `runs`, `library`, `exports`, `caches`, `logs` or `other`.
    pub area: &'static str,
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it takes.
    pub bytes: u64,
    /// How much of it can be freed.
    pub freeable_bytes: u64,
    /// As what.
    pub kind: Option<Kind>,
    #[serde(skip)]
    run: Option<Box<Run>>,
}

/// Everything of ours.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Free on its disk.
    pub free_bytes: u64,
    /// All items together.
    pub total_bytes: u64,
    /// What can be freed, all kinds together.
    pub freeable_bytes: u64,
    /// The largest first.
    pub items: Vec<Item>,
}

/// What was deleted, or would be.
#[derive(Debug, Serialize)]
pub struct Freed {
    /// Whether it was.
    pub deleted: bool,
    /// Bytes together.
    pub freed_bytes: u64,
    /// The items.
    pub items: Vec<Item>,
    /// What could not be deleted, and why.
    pub refused: Vec<String>,
}

/// Look at everything. Makes nothing, not even the data directory.
pub fn survey(context: &Context) -> Result<Survey> {
    let root = &context.data_dir;
    let mut items = models()?;
    items.extend(own_files(root));
    if root.join("studio.sqlite").is_file() {
        items.extend(runs(&context.store()?, root)?);
    }
    items.retain(|item| item.bytes > 0);
    items.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    Ok(Survey {
        data_dir: root.clone(),
        free_bytes: free_space(root)?,
        total_bytes: items.iter().map(|item| item.bytes).sum(),
        freeable_bytes: items.iter().map(|item| item.freeable_bytes).sum(),
        items,
    })
}

fn item(area: &'static str, name: &str, path: PathBuf, kind: Option<Kind>) -> Item {
    let bytes = disposal::size(&path);
    let freeable_bytes = if kind.is_some() { bytes } else { 0 };
    Item { area, name: name.to_owned(), path, bytes, freeable_bytes, kind, run: None }
}

/// Downloaded models; what other programs downloaded is not ours to count.
fn models() -> Result<Vec<Item>> {
    let of_the_hub = library::list()?.into_iter().filter(|model| model.source == "huggingface");
    let found = of_the_hub.map(|model| Item {
        area: "models",
        name: model.id,
        path: model.path.unwrap_or_default(),
        bytes: model.bytes + model.unfinished_bytes,
        freeable_bytes: 0,
        kind: None,
        run: None,
    });
    Ok(found.collect())
}

/// What lies directly in the data directory, runs aside.
fn own_files(root: &Path) -> Vec<Item> {
    let entry = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        match name.as_str() {
            "runs" => None,
            "exports" => Some(item("exports", "exported models", path, None)),
            "logs" => Some(item("logs", "logs", path, Some(Kind::Logs))),
            "cache" => Some(item("caches", "measurements and facts", path, Some(Kind::Caches))),
            backup if backup.starts_with("studio.sqlite.bak-") => {
                Some(item("library", "copy of an earlier library", path, Some(Kind::Backups)))
            }
            library if library.starts_with("studio.") => Some(item("library", library, path, None)),
            other => Some(item("other", other, path, None)),
        }
    };
    fs::read_dir(root).into_iter().flatten().flatten().filter_map(entry).collect()
}

/// Runs, wherever they are, and folders that runs have left.
fn runs(store: &Store, root: &Path) -> Result<Vec<Item>> {
    let known = store.list_runs(&RunFilter::default())?;
    let folders: BTreeSet<PathBuf> = known.iter().map(|run| run.directory.clone()).collect();
    let mut found: Vec<Item> = known.into_iter().map(of_run).collect();
    for entry in fs::read_dir(root.join("runs")).into_iter().flatten().flatten() {
        let path = entry.path();
        if folders.contains(&path) || !is_settled(&path) {
            continue;
        }
        let mut left = item("runs", "left by a deleted run", path, None);
        left.freeable_bytes = disposal::left_behind(&left.path);
        left.kind = (left.freeable_bytes > 0).then_some(Kind::Leftovers);
        found.push(left);
    }
    Ok(found)
}

fn of_run(run: Run) -> Item {
    let used = disk_use(&run);
    let is_over = matches!(run.status, Status::Finished | Status::Stopped);
    let freeable_bytes = if is_over && !RunLock::is_held(&run.directory) { used.state_bytes } else { 0 };
    Item {
        area: "runs",
        name: format!("{} ({})", run.name, run.id),
        path: run.directory.clone(),
        bytes: used.total(),
        freeable_bytes,
        kind: (freeable_bytes > 0).then_some(Kind::TrainingState),
        run: Some(Box::new(run)),
    }
}

/// A folder of its own, not a link, that nobody is just making or working in.
fn is_settled(path: &Path) -> bool {
    let Ok(data) = fs::symlink_metadata(path) else { return false };
    let age = data.modified().ok().and_then(|time| time.elapsed().ok());
    data.is_dir() && age.is_some_and(|age| age > SETTLED) && !RunLock::is_held(path)
}

/// Delete what can be deleted of `kinds`, or only say what that is.
pub fn free(context: &Context, kinds: &[Kind], really: bool) -> Result<Freed> {
    let mut items = survey(context)?.items;
    items.retain(|item| item.kind.is_some_and(|kind| kinds.contains(&kind)));
    let mut freed = Freed { deleted: really, freed_bytes: 0, items: Vec::new(), refused: Vec::new() };
    for item in items {
        let outcome = if really { delete(context, &item) } else { Ok(item.freeable_bytes) };
        match outcome {
            Ok(bytes) => {
                freed.freed_bytes += bytes;
                freed.items.push(item);
            }
            // One run that somebody works on just now does not keep the others.
            Err(fault) => freed.refused.push(format!("{}: {}", item.name, fault.detail)),
        }
    }
    Ok(freed)
}

fn delete(context: &Context, item: &Item) -> Result<u64> {
    match (item.kind, &item.run) {
        (Some(Kind::TrainingState), Some(run)) => {
            let store = context.store()?;
            // It may have gone on since it was listed.
            let now = store.get_run(&run.id)?;
            if !matches!(now.status, Status::Finished | Status::Stopped) {
                return Err(Fault::new("PS-RUN-002", format!("The run `{}` goes on", now.name)));
            }
            disposal::archive(&store, &now)
        }
        (Some(Kind::Leftovers), _) => disposal::remove_left_behind(&item.path),
        (Some(Kind::Backups | Kind::Caches | Kind::Logs), _) => {
            let data = fs::symlink_metadata(&item.path).map_err(|error| Fault::io("look at", &item.path, error))?;
            let removed = if data.is_dir() { fs::remove_dir_all(&item.path) } else { fs::remove_file(&item.path) };
            removed.map_err(|error| Fault::io("delete", &item.path, error))?;
            Ok(item.freeable_bytes)
        }
        _ => Ok(0),
    }
}

/// A word before a run or a download begins, where the disk of `place` is nearly full.
pub fn warn_if_short(context: &Context, place: &Path) {
    let Ok(free) = free_space(place) else { return };
    if let Some(words) = short(free, || survey(context).map_or(0, |survey| survey.freeable_bytes)) {
        note(&words);
    }
}

fn short(free: u64, freeable: impl FnOnce() -> u64) -> Option<String> {
    if free >= SHORT_BYTES {
        return None;
    }
    let more = match freeable() {
        0 => "`peft-studio disk` shows what takes it".to_owned(),
        some => format!("`peft-studio disk free --yes` frees {} more", bytes(some)),
    };
    Some(format!("Only {} are free on the disk; {more}", bytes(free)))
}

/// A refusal for want of space says what would make some.
pub fn with_remedy(context: &Context, fault: Fault) -> Fault {
    if fault.code != "PS-DISK-001" {
        return fault;
    }
    match survey(context).map_or(0, |survey| survey.freeable_bytes) {
        0 => fault,
        some => fault.action(
            format!("Free {}: states of finished runs and the like", bytes(some)),
            Some("peft-studio disk free --yes".to_owned()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_said_only_where_space_is_short_s4_14_5() {
        assert_eq!(short(SHORT_BYTES, || panic!("nobody asks")), None);
        assert!(short(1_000_000, || 0).is_some_and(|words| words.contains("`peft-studio disk`")));
        let words = short(1_000_000, || 3_000_000).expect("short");
        assert!(words.contains("1.0 MB") && words.contains("3.0 MB"), "{words}");
    }
}
