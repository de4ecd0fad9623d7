//! A folder that Hugging Face takes as a repository, and its way there.
//!
//! What the folder holds is recorded with its hashes before anything is sent. A folder that still is what its record
//! says is not written again: the same command, after whatever ended it, only sends what the hub lacks.

use super::card::{self, Form};
use super::{Exported, Origin, license};
use crate::cli::context::Context;
use crate::cli::interrupt;
use crate::jobs::download::hub;
use durable::sha256_file;
use peft_models::merge_writer::copy_assets;
use peft_plan::{Fault, Result};
use peft_remote::upload::{LocalFile, Upload, Uploaded};
use peft_remote::{Event, RepositoryId};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The record, which stays here.
const RECORD: &str = "upload.json";
/// Files that stay here: the record, and what was set aside.
const KEPT: [&str; 2] = [RECORD, durable::MANIFEST_NAME];
/// Largest record that is read.
const RECORD_BYTES: u64 = 1 << 20;

/// What a folder holds, with its hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it was made from.
    pub of: String,
    /// The files.
    pub files: Vec<Entry>,
}

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the folder, with slashes.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
}

/// Tokenizer, licence and card beside what is in `folder` already.
pub fn complete(origin: &Origin, files: &[Exported], form: Form, folder: &Path) -> Result<()> {
    copy_assets(origin.base.dir(), &origin.base.embedded_files_to_copy(), folder)?;
    license::copy(origin, folder)?;
    card::write(origin, files, form, folder)
}

/// Note what `folder` holds.
pub fn record(of: &str, folder: &Path) -> Result<Record> {
    let mut found = Vec::new();
    walk(folder, folder, &mut found)?;
    found.sort();
    let mut files = Vec::new();
    for path in found {
        let digest = sha256_file(&folder.join(&path)).map_err(|error| Fault::io("read", &folder.join(&path), error))?;
        files.push(Entry { path, bytes: digest.bytes, sha256: digest.sha256 });
    }
    let record = Record { of: of.to_owned(), files };
    let text = serde_json::to_vec_pretty(&record).expect("a record is plain data");
    let path = folder.join(RECORD);
    durable::write_file(&path, &text).map_err(|error| Fault::io("write", &path, error))?;
    Ok(record)
}

/// The record of `folder`, if it was made from the same and all files are as they were then.
pub fn recorded(of: &str, folder: &Path) -> Option<Record> {
    let path = folder.join(RECORD);
    if std::fs::metadata(&path).ok()?.len() > RECORD_BYTES {
        return None;
    }
    let record: Record = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
    let is_plain =
        |entry: &Entry| Path::new(&entry.path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let is_same = |entry: &Entry| {
        is_plain(entry)
            && sha256_file(&folder.join(&entry.path))
                .is_ok_and(|digest| digest.bytes == entry.bytes && digest.sha256 == entry.sha256)
    };
    (record.of == of && !record.files.is_empty() && record.files.iter().all(is_same)).then_some(record)
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<()> {
    let failed = |error| Fault::io("look into", folder, error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let path: PathBuf = entry.path();
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if kind.is_file() {
            let inside = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            if !KEPT.contains(&inside.as_str()) && !inside.ends_with(".failed") {
                found.push(inside);
            }
        }
    }
    Ok(())
}

/// Send the files of `record` to the repository `id`. `None`: the person had enough.
pub fn send(
    context: &Context,
    record: &Record,
    folder: &Path,
    (id, private): (RepositoryId, bool),
    receive: &mut dyn FnMut(&Event),
) -> Result<Option<Uploaded>> {
    interrupt::install();
    let hub = hub(context)?;
    let files = record.files.iter().map(|entry| LocalFile {
        path: entry.path.clone(),
        from: folder.join(&entry.path),
        bytes: entry.bytes,
        sha256: entry.sha256.clone(),
    });
    let upload = Upload { id, private, summary: "Upload with PEFT Studio".to_owned(), files: files.collect() };
    hub.upload(&upload, &mut |event| {
        receive(event);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// The name of a repository. PS-CFG-001 for what is none.
pub fn repository(text: &str) -> Result<RepositoryId> {
    RepositoryId::new(text).ok_or_else(|| {
        let detail = format!("`--repo {text}` is no name of a repository; write it as OWNER/NAME.");
        Fault::new("PS-CFG-001", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_by_its_record_until_something_in_it_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path();
        std::fs::create_dir(place.join("more")).expect("created");
        for name in ["a.gguf", "more/b.txt", "c.gguf.failed"] {
            std::fs::write(place.join(name), name).expect("written");
        }
        let made = record("run 1", place).expect("recorded");
        assert_eq!(made.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a.gguf", "more/b.txt"]);
        assert_eq!(recorded("run 1", place), Some(made));
        assert_eq!(recorded("run 2", place), None);
        std::fs::write(place.join("a.gguf"), "b.gguf").expect("written");
        assert_eq!(recorded("run 1", place), None);
        std::fs::write(place.join(RECORD), r#"{"of":"run 1","files":[{"path":"../x","bytes":0,"sha256":""}]}"#)
            .expect("written");
        assert_eq!(recorded("run 1", place), None);
    }
}
