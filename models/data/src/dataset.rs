//! What reading gives back: the usable rows, a report for each file, and what was left out.

use durable::hex;
use peft_plan::Row;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Everything that was read from a list of files.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// The usable rows, in the order of the files and of the rows in them.
    pub rows: Vec<Row>,
    /// One report for each file, in the order they were given.
    pub files: Vec<FileReport>,
    /// What could not be used, and why.
    pub rejected: Vec<Rejected>,
}

/// What one file turned out to be.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// The file, as an absolute path.
    #[serde(serialize_with = "path_as_text")]
    pub path: PathBuf,
    /// The container: `jsonl`, `json`, `csv`, `tsv`, `text`, `markdown`.
    pub format: String,
    /// How most rows are laid out: `messages`, `sharegpt`, `alpaca`, ...
    pub shape: String,
    /// Share of the records that fit `shape`, lowered where columns had to be guessed; 0 to 1.
    pub confidence: f64,
    /// Usable rows.
    pub rows: usize,
    /// Column names, in the order they first appear.
    pub columns: Vec<String>,
    /// How the text was stored: `utf-8`, `utf-16le`, `windows-1252`, ...
    pub encoding: String,
    /// What a person should know about how the file was read.
    pub notes: Vec<String>,
    /// Hash of the file as it is on disk.
    pub sha256: String,
    /// Size on disk.
    pub bytes: u64,
}

/// Why a record was left out, for code that has to tell the reasons apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectedKind {
    /// The line is not valid JSON or not a valid table row.
    BrokenLine,
    /// There is no answer to learn.
    NoAnswer,
    /// There is no text at all.
    Empty,
    /// The columns do not fit any known layout.
    UnknownShape,
    /// Not an example for this kind of training, such as an answer marked as bad.
    NotForTraining,
    /// Its answers are the same, or not answers to the same question.
    NoPreference,
    /// Left out by a filter the user asked for.
    Filtered,
    /// A copy of an earlier row.
    Duplicate,
}

/// A record that was left out.
#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    /// Index of the file in the list that was read.
    pub file: usize,
    /// Line (JSONL, CSV) or element number (JSON), from 1.
    pub line: usize,
    /// The kind of reason.
    pub kind: RejectedKind,
    /// The reason in plain language.
    pub reason: String,
    /// The beginning of the record.
    pub excerpt: String,
}

/// One hash for a list of files: equal exactly when the same contents come in the same order.
pub fn dataset_hash(files: &[FileReport]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.sha256.as_bytes());
        hasher.update(b"\n");
    }
    hex(&hasher.finalize())
}

/// Paths that are not UTF-8 are shown as well as they can be, instead of failing the report.
pub(crate) fn path_as_text<S: Serializer>(path: &Path, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sha256: &str) -> FileReport {
        FileReport {
            path: PathBuf::from("a.jsonl"),
            format: "jsonl".to_owned(),
            shape: "text".to_owned(),
            confidence: 1.0,
            rows: 1,
            columns: Vec::new(),
            encoding: "utf-8".to_owned(),
            notes: Vec::new(),
            sha256: sha256.to_owned(),
            bytes: 1,
        }
    }

    #[test]
    fn dataset_hash_depends_on_contents_and_order_but_not_on_names() {
        let mut renamed = report("aa");
        renamed.path = PathBuf::from("elsewhere.jsonl");
        let (a, b) = (report("aa"), report("bb"));
        let both = dataset_hash(&[a.clone(), b.clone()]);
        assert_eq!(both.len(), 64);
        assert_eq!(both, dataset_hash(&[renamed, b.clone()]));
        assert_ne!(both, dataset_hash(&[b, a.clone()]));
        assert_ne!(both, dataset_hash(&[a]));
    }
}
