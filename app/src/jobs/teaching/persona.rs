//! `data persona`: conversations of one person as a dataset (S3.1 to S3.4).

use peft_data::{ConvertOptions, ConvertReport, Dataset, FileReport, Target, convert};
use peft_plan::{Fault, Result, Row};
use peft_teach::persona::{Persona, Wishes, conversations};
use std::path::{Path, PathBuf};

/// Longest file that is read, bytes.
const LONGEST: u64 = 1 << 30;
/// Files of a folder that are not looked into: pictures and sounds of an export.
const TEXTS: [&str; 6] = ["txt", "md", "markdown", "json", "jsonl", "text"];

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
    let mut files = Vec::new();
    for path in &paths {
        let bytes = std::fs::metadata(path).map_err(|error| Fault::io("read", path, error))?.len();
        if bytes > LONGEST {
            let detail = format!("`{}` has {bytes} bytes; at most {LONGEST} are read.", path.display());
            return Err(Fault::new("PS-DATA-001", detail));
        }
        let bytes = std::fs::read(path).map_err(|error| Fault::io("read", path, error))?;
        files.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    let persona = conversations(&files, wishes)?;
    let mut dataset = Dataset::default();
    for (number, path) in paths.iter().enumerate() {
        let digest = durable::sha256_file(path).map_err(|error| Fault::io("read", path, error))?;
        dataset.files.push(FileReport {
            path: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
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
    let numbered = persona.examples.iter().enumerate();
    dataset.rows = numbered
        .map(|(index, (file, example))| Row { file: *file, line: index + 1, example: example.clone() })
        .collect();
    let report = convert(&dataset, Target::Messages, out, options)?;
    Ok((report, persona, paths))
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
        let is_text = path
            .extension()
            .and_then(|end| end.to_str())
            .is_some_and(|end| TEXTS.contains(&end.to_lowercase().as_str()));
        if path.is_dir() && depth < 8 {
            gather(&path, paths, depth + 1)?;
        } else if is_text && path.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}
