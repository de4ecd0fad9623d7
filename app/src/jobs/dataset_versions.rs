//! Versions of a project's rows: whole copies beside them, each written once (S2.8).

use super::sources;
use peft_data::{BadLine, Dataset, Difference, ReadOptions, difference};
use peft_plan::{Fault, Result};
use peft_storage::{DataDir, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetVersion {
    /// Counts up from 1.
    pub version: u32,
    /// Unix seconds.
    pub created: i64,
    /// Of its rows as they are in the file.
    pub sha256: String,
    /// How many rows can be trained on.
    pub rows: usize,
    /// Length of the file.
    pub bytes: u64,
    /// What is special about it, in the words of whoever kept it.
    pub note: String,
    /// This program kept it, before it changed the rows; so the note is its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_automatic: bool,
}

/// The rows of a project and their versions.
pub struct Versions {
    rows: PathBuf,
    folder: PathBuf,
}

/// Whether there is a file that holds something.
pub fn has_rows(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.len() > 0)
}

impl Versions {
    /// Of the project `name`, which exists.
    pub fn of(store: &Store, data_dir: &Path, name: &str) -> Result<Self> {
        let project = store.project(name)?;
        Ok(Self::at(data_dir, &project.name))
    }

    fn at(data_dir: &Path, project: &str) -> Self {
        let layout = DataDir::new(data_dir);
        Self { rows: layout.project_data(project), folder: layout.project(project).join("versions") }
    }

    /// The file of the rows as they are.
    pub fn current(&self) -> &Path {
        &self.rows
    }

    fn file(&self, version: u32) -> PathBuf {
        self.folder.join(format!("{version:04}.jsonl"))
    }

    /// All versions, the oldest first. One whose description is damaged is left out.
    pub fn list(&self) -> Result<Vec<DatasetVersion>> {
        let io = |error| Fault::io("read", &self.folder, error);
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut versions = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|ending| ending == "json")
                && let Ok(bytes) = std::fs::read(&path)
                && let Ok(version) = serde_json::from_slice::<DatasetVersion>(&bytes)
                && self.file(version.version).is_file()
            {
                versions.push(version);
            }
        }
        versions.sort_by_key(|version| version.version);
        Ok(versions)
    }

    /// Keep the rows as they are. Where the newest version is just these, it is the answer, with `false`; a note takes the
    /// place of one that this program made.
    pub fn save(&self, note: &str) -> Result<(DatasetVersion, bool)> {
        let (mut version, is_new) = self.keep_as(note, false)?;
        let note = note.trim();
        if version.is_automatic && !note.is_empty() {
            (version.note, version.is_automatic) = (note.to_owned(), false);
            self.describe(&version)?;
        }
        Ok((version, is_new))
    }

    fn keep_as(&self, note: &str, is_automatic: bool) -> Result<(DatasetVersion, bool)> {
        let (bytes, sha256) = self.read(&self.rows)?;
        let versions = self.list()?;
        if let Some(newest) = versions.last()
            && newest.sha256 == sha256
        {
            return Ok((newest.clone(), false));
        }
        let rows = dataset(&self.rows)?.rows.len();
        let mut version = versions.last().map_or(1, |newest| newest.version + 1);
        durable::create_directories(&self.folder).map_err(|e| Fault::io("create", &self.folder, e))?;
        // A number whose description was lost is not given again.
        while self.file(version).exists() {
            version += 1;
        }
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
        let (bytes_of, note) = (bytes.len() as u64, note.trim().to_owned());
        let kept = DatasetVersion { version, created, sha256, rows, bytes: bytes_of, note, is_automatic };
        write(&self.file(version), &bytes)?;
        self.describe(&kept)?;
        Ok((kept, true))
    }

    fn describe(&self, version: &DatasetVersion) -> Result<()> {
        let description = serde_json::to_vec_pretty(version).expect("a version is plain data");
        write(&self.folder.join(format!("{:04}.json", version.version)), &description)
    }

    /// Make the rows of `from` those of the project. What they were is kept first, if it is not yet.
    pub fn take(&self, from: &Path) -> Result<()> {
        let (bytes, _) = self.read(from)?;
        // Whether it can be trained on is said before anything changes.
        dataset(from)?;
        self.keep_current("before other rows were taken")?;
        if let Some(folder) = self.rows.parent() {
            durable::create_directories(folder).map_err(|e| Fault::io("create", folder, e))?;
        }
        write(&self.rows, &bytes)
    }

    /// Make a version the rows again.
    pub fn restore(&self, version: u32) -> Result<()> {
        let known = self.find(version)?;
        let (bytes, sha256) = self.read(&self.file(version))?;
        if sha256 != known.sha256 {
            let detail = format!("version {version} is not what it was when it was kept");
            return Err(Fault::new("PS-DATA-013", detail));
        }
        self.keep_current(&format!("before version {version} was restored"))?;
        write(&self.rows, &bytes)
    }

    /// Keep the rows as they are, because others are about to take their place; returns where that is.
    pub fn make_room(&self) -> Result<PathBuf> {
        self.keep_current("before rows were generated")?;
        if let Some(folder) = self.rows.parent() {
            durable::create_directories(folder).map_err(|e| Fault::io("create", folder, e))?;
        }
        Ok(self.rows.clone())
    }

    /// Keep the rows as they are, because others are about to be put behind them; where they are kept, if there are any.
    pub fn keep(&self) -> Result<Option<PathBuf>> {
        if !self.has_rows() {
            return Ok(None);
        }
        let (kept, _) = self.keep_as("before rows were generated", true)?;
        Ok(Some(self.file(kept.version)))
    }

    fn keep_current(&self, note: &str) -> Result<()> {
        if self.has_rows() { self.keep_as(note, true).map(drop) } else { Ok(()) }
    }

    /// A generation that was stopped before its first row leaves an empty file.
    fn has_rows(&self) -> bool {
        has_rows(&self.rows)
    }

    /// How many rows were made from each document, by what their lines say.
    pub fn rows_by_source(&self) -> Result<HashMap<String, usize>> {
        let mut rows = HashMap::new();
        for row in self.lines()?.iter().filter_map(|line| row_of(line)) {
            if let Some(source) = row["source"].as_str() {
                *rows.entry(source.to_owned()).or_default() += 1;
            }
        }
        Ok(rows)
    }

    /// Leave out the rows that are like this, and say how many. The rows as they were are kept as a version.
    pub fn leave_out(&self, is_unwanted: &dyn Fn(&Value) -> bool) -> Result<usize> {
        self.keep_current("before documents were taken out")?;
        let mut all = self.lines()?;
        let before = all.len();
        all.retain(|line| !row_of(line).is_some_and(|row| is_unwanted(&row)));
        let mut text = all.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        write(&self.rows, text.as_bytes())?;
        Ok(before - all.len())
    }

    /// The lines of the rows as they are; none where there are no rows.
    fn lines(&self) -> Result<Vec<String>> {
        if !self.has_rows() {
            return Ok(Vec::new());
        }
        let text = std::fs::read(&self.rows).map_err(|error| Fault::io("read", &self.rows, error))?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// What changed from one version to another, or to the rows as they are.
    pub fn diff(&self, before: u32, after: Option<u32>) -> Result<Difference> {
        self.find(before)?;
        let after = match after {
            Some(after) => {
                self.find(after)?;
                self.file(after)
            }
            None => self.rows.clone(),
        };
        Ok(difference(&dataset(&self.file(before))?.rows, &dataset(&after)?.rows))
    }

    fn find(&self, version: u32) -> Result<DatasetVersion> {
        let versions = self.list()?;
        let known: Vec<String> = versions.iter().map(|known| known.version.to_string()).collect();
        versions.into_iter().find(|known| known.version == version).ok_or_else(|| {
            let list = if known.is_empty() {
                "there is none yet".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            Fault::new("PS-RUN-001", format!("There is no version {version} of these rows; {list}"))
        })
    }

    fn read(&self, path: &Path) -> Result<(Vec<u8>, String)> {
        if !path.exists() && path == self.rows {
            let detail = format!("The project has no rows yet; they are expected in `{}`", path.display());
            return Err(Fault::new("PS-FILE-001", detail));
        }
        let io = |error| Fault::io("read", path, error);
        let digest = durable::sha256_file(path).map_err(io)?;
        Ok((std::fs::read(path).map_err(io)?, digest.sha256))
    }
}

/// The row that a line is; `None` where it is none.
fn row_of(line: &str) -> Option<Value> {
    serde_json::from_str(line.trim_start_matches('\u{feff}')).ok()
}

fn dataset(path: &Path) -> Result<Dataset> {
    let options = ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() };
    peft_data::read(&sources::files_of(&[path.to_owned()])?, &options)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    durable::write_file(path, bytes).map_err(|error| Fault::io("write", path, error)).map(drop)
}

/// The file with the rows of a project, for training (S2.8): in the data directory, or in `projects/` of the folder we
/// are in.
pub fn rows_of(data_dir: &Path, project: &str) -> Result<PathBuf> {
    let kept = DataDir::new(data_dir).project_data(project);
    let here = Path::new("projects").join(project).join("data").join("sft_data.jsonl");
    let places = [kept.clone(), here];
    let is_name = Path::new(project).components().count() == 1 && !project.starts_with('.');
    if let Some(found) = places.into_iter().find(|path| is_name && path.is_file()) {
        return Ok(found);
    }
    let detail = format!("The project `{project}` has no rows to train on; they are expected in `{}`", kept.display());
    Err(Fault::new("PS-FILE-001", detail)
        .action("Make rows from its documents", Some("peft-studio data generate --help".to_owned()))
        .action("Put a file with rows there", None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pairs: &[(&str, &str)]) -> String {
        let row = |(i, o): &(&str, &str)| format!("{{\"instruction\":\"{i}\",\"output\":\"{o}\"}}\n");
        pairs.iter().map(row).collect()
    }

    #[test]
    fn versions_are_kept_compared_and_restored() {
        let home = tempfile::tempdir().expect("a directory");
        let versions = Versions::at(home.path(), "p");
        assert_eq!(versions.save("").expect_err("no rows yet").code, "PS-FILE-001");
        assert_eq!(rows_of(home.path(), "p").expect_err("no rows yet").code, "PS-FILE-001");
        let file = home.path().join("rows.jsonl");
        std::fs::write(&file, rows(&[("a", "one"), ("b", "two")])).expect("written");
        versions.take(&file).expect("taken");
        assert_eq!(rows_of(home.path(), "p").expect("there"), versions.current());
        let (first, is_new) = versions.save("the first").expect("kept");
        assert!(is_new && first.version == 1 && first.rows == 2 && first.note == "the first");
        assert_eq!(versions.save("again").expect("known"), (first.clone(), false));
        std::fs::write(versions.current(), rows(&[("a", "other"), ("c", "three")])).expect("written");
        let found = versions.diff(1, None).expect("compared");
        assert_eq!((found.kept, found.changed, found.added, found.removed), (0, 1, 1, 1));
        versions.restore(1).expect("restored");
        assert_eq!(versions.list().expect("listed").len(), 2, "what was there was kept");
        assert_eq!(versions.diff(1, None).expect("compared").kept, 2);
        assert_eq!(versions.diff(2, Some(1)).expect("compared").changed, 1);
        assert_eq!(versions.restore(9).expect_err("unknown").code, "PS-RUN-001");
        std::fs::write(versions.file(1), "{}").expect("written");
        assert_eq!(versions.restore(1).expect_err("damaged").code, "PS-DATA-013");
    }

    #[test]
    fn what_somebody_says_of_rows_that_this_program_kept_is_not_lost() {
        let home = tempfile::tempdir().expect("a directory");
        let versions = Versions::at(home.path(), "p");
        let file = home.path().join("rows.jsonl");
        std::fs::write(&file, rows(&[("a", "one")])).expect("written");
        versions.take(&file).expect("taken");
        versions.make_room().expect("kept");
        assert!(versions.list().expect("listed")[0].is_automatic);
        let (named, is_new) = versions.save("by hand").expect("named");
        assert!(!is_new && named.version == 1 && named.note == "by hand" && !named.is_automatic);
        // Nor is it by what this program would say.
        versions.make_room().expect("kept");
        assert_eq!(versions.list().expect("listed"), [named]);
    }

    #[test]
    fn a_project_is_a_name_and_no_path() {
        let home = tempfile::tempdir().expect("a directory");
        for wrong in ["..", "../p", "a/b", "", "/"] {
            assert_eq!(rows_of(home.path(), wrong).expect_err(wrong).code, "PS-FILE-001");
        }
    }
}
