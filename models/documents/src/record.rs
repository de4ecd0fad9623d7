//! A chunk as a line of a file: its text, and where it is from (S0.5).

use crate::apart::Reader;
use crate::block::{BlockKind, Document};
use crate::chunk::{ChunkOptions, chunks};
use crate::limits::Limits;
use crate::ruler::Ruler;
use peft_plan::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A chunk with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// The first half of `hash`; with a number behind it where the same words come again in the document.
    pub id: String,
    /// The file, as it was named.
    pub source: String,
    /// The title of the document, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Counts from 0 within the document.
    pub index: usize,
    /// What is in it, with the overlap.
    pub text: String,
    /// Byte of the document's text at which it begins.
    pub start: usize,
    /// Byte behind its end.
    pub end: usize,
    /// How many bytes of `text` repeat the end of the chunk before.
    pub overlap: usize,
    /// Its length in the units that were asked for.
    pub length: usize,
    /// The page it begins on, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// The headings it stands under, outermost first.
    pub headings: Vec<String>,
    /// What most of it is.
    pub kind: BlockKind,
    /// SHA-256 of headings and text: equal for chunks that need nothing new made for them.
    pub hash: String,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chunked {
    /// How it was read.
    pub format: &'static str,
    /// Its title, where it has one.
    pub title: Option<String>,
    /// How many chunks came of it.
    pub chunks: usize,
    /// Bytes of its text.
    pub bytes: usize,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// Read the file at `path` and give each of its chunks to `sink`, in order. Stretches without a word are left out.
pub fn chunk_file(
    reader: &mut Reader,
    path: &Path,
    options: ChunkOptions,
    ruler: &dyn Ruler,
    limits: &Limits,
    sink: &mut dyn FnMut(ChunkRecord) -> Result<()>,
) -> Result<Chunked> {
    let source = path.display().to_string();
    let mut done = Chunked { format: "", title: None, chunks: 0, bytes: 0, warnings: Vec::new() };
    let mut seen = std::collections::HashMap::new();
    let format = reader.read(path, limits, &mut |document| {
        if done.title.is_none() {
            done.title.clone_from(&document.title);
        }
        for chunk in chunks(&document, options, ruler) {
            let text = &document.text[chunk.span.clone()];
            if text.trim().is_empty() {
                continue;
            }
            let headings = headings(&document, chunk.section);
            let hash = hash(&headings, text);
            let again: &mut u32 = seen.entry(hash.clone()).or_default();
            let id = if *again == 0 { hash[..32].to_owned() } else { format!("{}-{again}", &hash[..32]) };
            *again += 1;
            sink(ChunkRecord {
                id,
                source: source.clone(),
                title: done.title.clone(),
                index: done.chunks,
                text: text.to_owned(),
                start: done.bytes + chunk.span.start,
                end: done.bytes + chunk.span.end,
                overlap: chunk.fresh - chunk.span.start,
                length: chunk.units,
                page: chunk.page,
                headings,
                kind: chunk.kind,
                hash,
            })?;
            done.chunks += 1;
        }
        done.bytes += document.text.len();
        done.warnings.extend(document.warnings);
        Ok(())
    })?;
    done.format = format.name();
    if done.chunks == 0 && done.warnings.is_empty() {
        done.warnings.push("there is no text in it".to_owned());
    }
    Ok(done)
}

fn headings(document: &Document, section: usize) -> Vec<String> {
    document.sections.get(section).cloned().unwrap_or_default()
}

fn hash(headings: &[String], text: &str) -> String {
    let mut hasher = Sha256::new();
    for heading in headings {
        hasher.update(heading.as_bytes());
        hasher.update([0]);
    }
    hasher.update(text.as_bytes());
    peft_data::hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruler::Characters;

    fn chunked(name: &str, bytes: &[u8], limits: &Limits) -> (Vec<ChunkRecord>, Chunked) {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let mut records = Vec::new();
        let options = ChunkOptions::new(50, 10).expect("allowed");
        let done = chunk_file(&mut Reader::here(), &path, options, &Characters, limits, &mut |record| {
            records.push(record);
            Ok(())
        });
        (records, done.expect("readable"))
    }

    #[test]
    fn s0_5_records_say_where_they_are_from() {
        let text = "# Title\n\nFirst paragraph of the text. It goes on.\n\n## Part\n\nSecond paragraph, longer than the first.\n";
        let (records, done) = chunked("a.md", text.as_bytes(), &Limits::default());
        assert_eq!((done.chunks, done.bytes, done.format), (records.len(), text.len(), "markdown"));
        assert_eq!(done.title.as_deref(), Some("Title"));
        let mut covered = 0;
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record.index, index);
            assert_eq!(record.text, text[record.start..record.end]);
            assert_eq!(record.start + record.overlap, covered);
            covered = record.end;
        }
        assert_eq!(covered, text.len());
        assert_eq!(records.last().expect("some").headings, ["Title", "Part"]);
        let line = serde_json::to_string(&records[0]).expect("plain data");
        assert_eq!(serde_json::from_str::<ChunkRecord>(&line).expect("the way back"), records[0]);
    }

    #[test]
    fn a_file_in_pieces_is_chunked_as_one() {
        let text = "A sentence that is here. ".repeat(3).trim().to_owned() + "\n";
        let text = text.repeat(40);
        let (records, done) = chunked("a.txt", text.as_bytes(), &Limits { piece: 500, ..Limits::default() });
        assert_eq!(done.bytes, text.len());
        let fresh: String = records.iter().map(|record| &record.text[record.overlap..]).collect();
        assert_eq!(fresh, text);
        let ids: std::collections::HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids.len(), records.len(), "each has an id of its own");
    }

    #[test]
    fn a_file_without_words_is_named() {
        let (records, done) = chunked("a.txt", b" \n \n", &Limits::default());
        assert!(records.is_empty() && done.warnings.len() == 1);
    }
}
