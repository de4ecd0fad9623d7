//! `data persona`: conversations of one person as a dataset (S3.1 to S3.4).

use peft_data::{ConvertOptions, ConvertReport, Dataset, FileReport, Target, TextFile, convert};
use peft_plan::{Fault, Result, Row};
use peft_teach::persona::{Persona, Wishes, conversations};
use std::path::{Path, PathBuf};

/// Longest file that is read, bytes.
const LONGEST: u64 = 1 << 30;
/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;
/// What is looked into, of a folder or an archive: the rest are pictures and sounds of an export.
const TEXTS: [&str; 6] = ["txt", "md", "markdown", "json", "jsonl", "text"];
/// What a phone packs a chat into.
const ARCHIVE: &str = "zip";

/// A text, and the file that it is in.
struct Found {
    /// The file, and behind it the name in an archive.
    shown: PathBuf,
    file: PathBuf,
    text: String,
}

/// Reads `places`, files or folders, and writes ChatML messages to `out`.
pub fn write(
    places: &[PathBuf],
    wishes: &Wishes,
    options: &ConvertOptions,
    out: &Path,
) -> Result<(ConvertReport, Persona, Vec<PathBuf>)> {
    let mut paths = Vec::new();
    for place in places {
        gather(place, &mut paths, 0)?;
    }
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for path in &paths {
        match texts_of(path) {
            Ok(texts) if texts.is_empty() => unread.push((path.clone(), "there is no text in it".to_owned(), None)),
            Ok(texts) => found.extend(texts),
            Err(fault) => unread.push((path.clone(), fault.detail.clone(), Some(fault))),
        }
    }
    // Where nothing can be read, that is what is told.
    if found.is_empty()
        && let Some(fault) = unread.iter_mut().find_map(|(.., fault)| fault.take())
    {
        return Err(fault);
    }
    let files: Vec<(String, String)> =
        found.iter_mut().map(|found| (found.shown.display().to_string(), std::mem::take(&mut found.text))).collect();
    let mut persona = conversations(&files, wishes)?;
    drop(files);
    let mut dataset = Dataset::default();
    for (number, Found { shown, file, .. }) in found.iter().enumerate() {
        let digest = durable::sha256_file(file).map_err(|error| Fault::io("read", file, error))?;
        dataset.files.push(FileReport {
            path: std::path::absolute(shown).unwrap_or_else(|_| shown.clone()),
            format: "persona".to_owned(),
            shape: "messages".to_owned(),
            confidence: 1.0,
            rows: persona.examples.iter().filter(|(file, _)| *file == number).count(),
            columns: Vec::new(),
            encoding: "utf-8".to_owned(),
            notes: Vec::new(),
            sha256: digest.sha256,
            bytes: digest.bytes,
        });
    }
    let mut paths: Vec<PathBuf> = found.into_iter().map(|found| found.shown).collect();
    for (path, why, _) in unread {
        persona.passed.push((paths.len(), why));
        paths.push(path);
    }
    let numbered = persona.examples.iter().enumerate();
    dataset.rows = numbered
        .map(|(index, (file, example))| Row { file: *file, line: index + 1, example: example.clone() })
        .collect();
    let report = convert(&dataset, Target::Messages, out, options)?;
    Ok((report, persona, paths))
}

/// The texts of a file: its own, or those of an archive.
fn texts_of(path: &Path) -> Result<Vec<Found>> {
    if end_of(path) == ARCHIVE {
        let is_text = |name: &str| TEXTS.contains(&end_of(Path::new(name)).as_str());
        let texts = peft_documents::texts_in(path, &is_text)?.into_iter();
        return Ok(texts.map(|(name, text)| Found { shown: path.join(name), file: path.to_owned(), text }).collect());
    }
    let bytes = std::fs::metadata(path).map_err(|error| Fault::io("read", path, error))?.len();
    if bytes > LONGEST {
        let detail = format!("`{}` has {bytes} bytes; at most {LONGEST} are read.", path.display());
        return Err(Fault::new("PS-DATA-001", detail));
    }
    let (mut file, mut text) = (TextFile::open(path)?, String::new());
    while let Some(piece) = file.next_piece(PIECE)? {
        text.push_str(&piece);
    }
    Ok(vec![Found { shown: path.to_owned(), file: path.to_owned(), text }])
}

fn end_of(path: &Path) -> String {
    path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_lowercase()
}

fn gather(place: &Path, paths: &mut Vec<PathBuf>, depth: usize) -> Result<()> {
    let io = |error| Fault::io("read", place, error);
    if !std::fs::metadata(place).map_err(io)?.is_dir() {
        paths.push(place.to_owned());
        return Ok(());
    }
    let mut inside: Vec<PathBuf> = std::fs::read_dir(place)
        .map_err(io)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(io)?;
    inside.sort();
    for path in inside {
        let end = end_of(&path);
        let is_text = TEXTS.contains(&end.as_str()) || end == ARCHIVE;
        if path.is_dir() && depth < 8 {
            gather(&path, paths, depth + 1)?;
        } else if is_text && path.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}
