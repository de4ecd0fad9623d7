//! Documents to chunks: in a file, in a project, or both (S0.2 to S0.5, S2.1).

use super::copy_watch::CopyWatch;
use peft_documents::{ChunkOptions, ChunkRecord, Limits, Reader, Ruler, chunk_file};
use peft_plan::{Fault, Result};
use peft_storage::{NewChunk, NewDocument, Store, StoredDocument};
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What is to be chunked, and how.
pub struct ChunkRequest<'a> {
    /// Documents, in order.
    pub files: &'a [PathBuf],
    /// The file to write.
    pub out: Option<&'a Path>,
    /// How long chunks are.
    pub options: ChunkOptions,
    /// What lengths are counted in, for people and to tell whether that changed.
    pub unit: &'a str,
    /// What counts them.
    pub ruler: &'a dyn Ruler,
    /// The project that keeps them.
    pub project: Option<(&'a Store, &'a str)>,
}

/// A document that was chunked.
#[derive(Clone, Debug, Serialize)]
pub struct ChunkedFile {
    /// As it was named.
    pub path: PathBuf,
    /// How it was read.
    pub format: String,
    /// How many chunks it has.
    pub chunks: usize,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// A file that was left out.
#[derive(Clone, Debug, Serialize)]
pub struct Unreadable {
    /// As it was named.
    pub path: PathBuf,
    /// Code of the fault.
    pub code: &'static str,
    /// What happened.
    pub reason: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChunkReport {
    /// The file that was written.
    pub out: Option<PathBuf>,
    /// Documents that were read.
    pub files: Vec<ChunkedFile>,
    /// Files that could not be.
    pub unreadable: Vec<Unreadable>,
    /// Chunks of all documents.
    pub chunks: usize,
    /// Documents of the project that were as they had been.
    pub unchanged: usize,
    /// Chunks that say the same as an earlier one.
    pub exact_copies: usize,
    /// Chunks that say nearly the same as an earlier one.
    pub near_copies: usize,
}

/// Chunk every file that can be read, and name the others. Where there is none that can, the file to write is left as it
/// is, and the report names no file.
pub fn chunk(request: &ChunkRequest<'_>, reader: &mut Reader) -> Result<ChunkReport> {
    let mut report = ChunkReport { out: request.out.map(Path::to_owned), ..ChunkReport::default() };
    let Some(out) = request.out else {
        all(request, reader, None, &mut report)?;
        return Ok(report);
    };
    let mut broken = None;
    let written = durable::write_file_with(out, |file| {
        let done = all(request, reader, Some(file), &mut report);
        broken = done.err();
        // What was there before is better than nothing.
        if broken.is_some() || report.files.is_empty() { Err(std::io::Error::other("stopped")) } else { Ok(()) }
    });
    match broken {
        Some(fault) => Err(fault),
        None if report.files.is_empty() => Ok(ChunkReport { out: None, ..report }),
        None => written.map(|_| report).map_err(|error| Fault::io("write", out, error)),
    }
}

/// Chunk all files. What stops everything is returned: a full disk, or a database that cannot be written. Nothing else
/// does.
fn all(
    request: &ChunkRequest<'_>,
    reader: &mut Reader,
    mut out: Option<&mut dyn Write>,
    report: &mut ChunkReport,
) -> Result<()> {
    let mut copies = CopyWatch::start().map_err(|error| Fault::io("start", Path::new("a thread"), error))?;
    let keeper = request.project.map(|(store, name)| Keeper::open(store, name, request)).transpose()?;
    for path in request.files {
        match one(request, reader, keeper.as_ref(), path, &mut out, &mut copies, report) {
            Ok(()) => {}
            Err(Trouble::Here(fault)) => {
                report.unreadable.push(Unreadable { path: path.clone(), code: fault.code, reason: fault.detail });
            }
            Err(Trouble::Everywhere(fault)) => return Err(fault),
        }
    }
    let found = copies.finish();
    report.exact_copies = found.exact.len();
    report.near_copies = found.near.iter().map(|group| group.len() - 1).sum();
    Ok(())
}

/// Whose fault it is.
enum Trouble {
    /// That of one file: the others go on.
    Here(Fault),
    /// That of the place where chunks go.
    Everywhere(Fault),
}

fn one(
    request: &ChunkRequest<'_>,
    reader: &mut Reader,
    keeper: Option<&Keeper<'_>>,
    path: &Path,
    out: &mut Option<&mut dyn Write>,
    copies: &mut CopyWatch,
    report: &mut ChunkReport,
) -> std::result::Result<(), Trouble> {
    let sha256 = match keeper {
        Some(_) => digest(path).map_err(Trouble::Here)?,
        None => String::new(),
    };
    if let Some(known) = keeper.and_then(|keeper| keeper.unchanged(path, &sha256))
        && out.is_none()
    {
        report.unchanged += 1;
        report.chunks += known.chunks as usize;
        report.files.push(ChunkedFile {
            path: path.to_owned(),
            format: known.format.clone(),
            chunks: known.chunks as usize,
            warnings: known.warnings.clone(),
        });
        return Ok(());
    }
    let mut kept = Vec::new();
    let mut broken = None;
    let done = chunk_file(reader, path, request.options, request.ruler, &Limits::default(), &mut |record| {
        copies.add(&record.text[record.overlap..]);
        if let Some(out) = out.as_mut() {
            let line = serde_json::to_string(&record).unwrap_or_default();
            if let Err(error) = writeln!(out, "{line}") {
                let fault = Fault::io("write", request.out.unwrap_or(path), error);
                broken = Some(fault);
                return Err(Fault::new("PS-DISK-003", "stopped"));
            }
        }
        if keeper.is_some() {
            kept.push(stored(record));
        }
        Ok(())
    });
    if let Some(fault) = broken {
        return Err(Trouble::Everywhere(fault));
    }
    let done = done.map_err(Trouble::Here)?;
    if let Some(keeper) = keeper {
        let document = NewDocument {
            path: absolute(path),
            title: done.title.clone(),
            format: done.format.to_owned(),
            sha256,
            chunking: keeper.chunking.clone(),
            warnings: done.warnings.clone(),
        };
        keeper.store.replace_document(keeper.project, &document, &kept).map_err(Trouble::Everywhere)?;
    }
    report.chunks += done.chunks;
    report.files.push(ChunkedFile {
        path: path.to_owned(),
        format: done.format.to_owned(),
        chunks: done.chunks,
        warnings: done.warnings,
    });
    Ok(())
}

/// The part of a project that documents go to.
struct Keeper<'a> {
    store: &'a Store,
    project: i64,
    chunking: String,
    known: HashMap<String, StoredDocument>,
}

impl<'a> Keeper<'a> {
    fn open(store: &'a Store, name: &str, request: &ChunkRequest<'_>) -> Result<Self> {
        let project = store.open_project(name)?.id;
        let known = store.documents(project)?.into_iter().map(|document| (document.path.clone(), document)).collect();
        let chunking = json!({
            "size": request.options.size(),
            "overlap": request.options.overlap(),
            "unit": request.unit,
        });
        Ok(Self { store, project, chunking: chunking.to_string(), known })
    }

    /// The document at `path`, if it is as it was and was chunked like this.
    fn unchanged(&self, path: &Path, sha256: &str) -> Option<&StoredDocument> {
        let known = self.known.get(&absolute(path))?;
        (known.sha256 == sha256 && known.chunking == self.chunking).then_some(known)
    }
}

/// The chunks of a project as `data chunk` writes them into a file.
pub fn chunk_lines(store: &Store, project: &str) -> Result<String> {
    const BATCH: usize = 1_000;
    let project = store.project(project)?.id;
    let (mut lines, mut after) = (String::new(), 0);
    loop {
        let batch = store.chunks(project, after, BATCH)?;
        let Some(last) = batch.last() else { return Ok(lines) };
        after = last.id;
        for chunk in batch {
            let mut record = chunk.details;
            record["source"] = chunk.path.into();
            record["text"] = chunk.text.into();
            record["hash"] = chunk.hash.into();
            lines.push_str(&record.to_string());
            lines.push('\n');
        }
    }
}

fn digest(path: &Path) -> Result<String> {
    durable::sha256_file(path).map(|digest| digest.sha256).map_err(|error| Fault::io("read", path, error))
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// A record as the store keeps it: what has no column of its own is in the details.
fn stored(record: ChunkRecord) -> NewChunk {
    let ChunkRecord { id, start, end, overlap, length, page, headings, kind, hash, text, .. } = record;
    let details = json!({
        "id": id,
        "start": start,
        "end": end,
        "overlap": overlap,
        "length": length,
        "page": page,
        "headings": headings,
        "kind": kind,
    });
    NewChunk { hash, text, details }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::document_search::by_words;
    use peft_documents::Characters;

    fn request<'a>(files: &'a [PathBuf], out: Option<&'a Path>, store: Option<&'a Store>) -> ChunkRequest<'a> {
        ChunkRequest {
            files,
            out,
            options: ChunkOptions::new(100, 10).expect("allowed"),
            unit: "characters",
            ruler: &Characters,
            project: store.map(|store| (store, "p")),
        }
    }

    #[test]
    fn s0_2_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on() {
        let home = tempfile::tempdir().expect("a directory");
        let files = [home.path().join("good.md"), home.path().join("bad.pdf")];
        std::fs::write(&files[0], "# Title\n\nSome words of text.\n").expect("written");
        std::fs::write(&files[1], "%PDF-1.4").expect("written");
        let out = home.path().join("out.jsonl");
        let report = chunk(&request(&files, Some(&out), None), &mut Reader::here()).expect("in part");
        assert_eq!((report.chunks, report.files.len(), report.unreadable.len()), (1, 1, 1));
        assert_eq!(report.unreadable[0].code, "PS-DATA-011");
        let line = std::fs::read_to_string(&out).expect("there");
        let record: ChunkRecord = serde_json::from_str(line.trim()).expect("a record");
        assert_eq!(record.headings, ["Title"]);
        let nothing = chunk(&request(&files[1..], Some(&out), None), &mut Reader::here()).expect("a warning");
        assert_eq!((nothing.chunks, nothing.unreadable.len(), nothing.out), (0, 1, None));
        assert_eq!(std::fs::read_to_string(&out).expect("there").lines().count(), 1, "the file is as it was");
    }

    #[test]
    fn s2_1_a_project_is_chunked_anew_only_where_it_changed() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(&home.path().join("data")).expect("a store");
        let files = [home.path().join("a.txt"), home.path().join("b.txt")];
        for file in &files {
            std::fs::write(file, "Words that are here. ".repeat(20)).expect("written");
        }
        let first = chunk(&request(&files, None, Some(&store)), &mut Reader::here()).expect("chunked");
        assert_eq!((first.unchanged, first.files.len()), (0, 2));
        assert!(first.exact_copies > 0, "both files say the same");
        std::fs::write(&files[1], "Other words now.").expect("written");
        let second = chunk(&request(&files, None, Some(&store)), &mut Reader::here()).expect("chunked");
        assert_eq!((second.unchanged, second.files[1].chunks), (1, 1));
        let project = store.project("p").expect("there").id;
        assert_eq!(store.documents(project).expect("readable").len(), 2);
        let found = by_words(&store, "p", "other", 5).expect("searched");
        assert_eq!(found.iter().map(|chunk| chunk.text.as_str()).collect::<Vec<_>>(), ["Other words now."]);
        assert_eq!(by_words(&store, "q", "other", 5).expect_err("no such project").code, "PS-RUN-001");
    }
}
