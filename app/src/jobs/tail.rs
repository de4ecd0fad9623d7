//! The story of a run as its own file tells it, line by line, while another process writes it.
//!
//! A run that goes on from a checkpoint cuts its file: what came after the checkpoint is told again. Whoever reads
//! along goes back to the event that says so (`started`, `resumed`), and misses nothing after it.

use peft_plan::{Fault, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Reads `events.jsonl` of a run from its beginning, and whatever is written later.
#[derive(Debug)]
pub struct EventTail {
    path: PathBuf,
    /// Where the next line begins.
    position: u64,
    /// The line before it: where it begins, and what it says.
    last: Option<(u64, Vec<u8>)>,
    /// The lines so far after which a story began anew.
    beginnings: Vec<(u64, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Kind {
    event: String,
}

impl EventTail {
    /// Of the run in `directory`, whose file may not be there yet.
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join("events.jsonl"), position: 0, last: None, beginnings: Vec::new() }
    }

    /// The whole lines that were written since, in order, until `tell` says false.
    pub fn read(&mut self, mut tell: impl FnMut(&str) -> bool) -> Result<()> {
        match self.read_lines(&mut tell) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Fault::io("read the events of the run", &self.path, error))
            }
            _ => Ok(()),
        }
    }

    fn read_lines(&mut self, tell: &mut impl FnMut(&str) -> bool) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(&self.path)?);
        if !self.is_as_it_was(&mut reader)? {
            self.go_back(&mut reader)?;
        }
        reader.seek(SeekFrom::Start(self.position))?;
        let mut line = Vec::new();
        while next_line(&mut reader, &mut line)? {
            if is_beginning(&line) {
                self.beginnings.push((self.position, line.clone()));
            }
            self.last = Some((self.position, line.clone()));
            self.position += line.len() as u64;
            if !tell(String::from_utf8_lossy(&line).trim_end()) {
                break;
            }
        }
        Ok(())
    }

    /// Whether the line that was read last is still there.
    fn is_as_it_was(&self, reader: &mut BufReader<File>) -> io::Result<bool> {
        let Some((start, text)) = &self.last else { return Ok(true) };
        reader.seek(SeekFrom::Start(*start))?;
        let mut line = Vec::new();
        Ok(next_line(reader, &mut line)? && line == *text)
    }

    /// To the first beginning that was not there before, or to the last one.
    fn go_back(&mut self, reader: &mut BufReader<File>) -> io::Result<()> {
        reader.seek(SeekFrom::Start(0))?;
        let (mut position, mut line, mut target) = (0, Vec::new(), None);
        let mut known = 0;
        while next_line(reader, &mut line)? {
            if is_beginning(&line) {
                let beginning = (position, line.clone());
                let is_known = self.beginnings.get(known) == Some(&beginning);
                target = Some(position);
                if !is_known {
                    break;
                }
                known += 1;
            }
            position += line.len() as u64;
        }
        // Without any beginning the file is cut and its next line not written yet.
        self.position = target.unwrap_or(position);
        self.beginnings.retain(|(start, _)| *start < self.position);
        self.last = None;
        Ok(())
    }
}

/// A whole line with its line feed; false where there is none, or only half of one.
fn next_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    reader.read_until(b'\n', line)?;
    Ok(line.ends_with(b"\n"))
}

fn is_beginning(line: &[u8]) -> bool {
    // Every line is looked at, and few are beginnings.
    let is_candidate = |word: &[u8]| line.windows(word.len()).take(64).any(|window| window == word);
    (is_candidate(b"\"started\"") || is_candidate(b"\"resumed\""))
        && serde_json::from_slice::<Kind>(line).is_ok_and(|kind| kind.event == "started" || kind.event == "resumed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn heard(tail: &mut EventTail) -> Vec<String> {
        let mut lines = Vec::new();
        tail.read(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            lines.push(format!("{} {}", value["event"].as_str().unwrap_or_default(), value["step"]));
            true
        })
        .expect("readable");
        lines
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options().append(true).create(true).open(path).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn event(kind: &str, step: u64) -> String {
        format!("{{\"event\":\"{kind}\",\"step\":{step}}}\n")
    }

    #[test]
    fn lines_are_told_once_they_are_whole() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("events.jsonl");
        let mut tail = EventTail::new(home.path());
        assert!(heard(&mut tail).is_empty(), "there is no file yet");
        append(&path, "{\"event\":\"started\",");
        assert!(heard(&mut tail).is_empty());
        append(&path, "\"step\":0}\n");
        append(&path, &event("step", 1));
        assert_eq!(heard(&mut tail), ["started 0", "step 1"]);
        assert!(heard(&mut tail).is_empty());
        append(&path, &event("step", 2));
        assert_eq!(heard(&mut tail), ["step 2"]);
    }

    #[test]
    fn a_file_that_was_cut_is_told_again_from_the_cut_however_long_it_has_grown() {
        for grown in [0_u64, 1, 5, 40] {
            let home = tempfile::tempdir().expect("a directory");
            let path = home.path().join("events.jsonl");
            let mut tail = EventTail::new(home.path());
            let whole: String = (1..=6).map(|step| event("step", step)).collect();
            append(&path, &(event("started", 0) + &whole));
            assert_eq!(heard(&mut tail).len(), 7);
            // It goes on from step 3, twice: the second time in the very same place.
            for _ in 0..2 {
                let kept: String = (1..=3).map(|step| event("step", step)).collect();
                std::fs::write(&path, event("started", 0) + &kept + &event("resumed", 3)).expect("written");
                append(&path, &(4..4 + grown).map(|step| event("step", step * 100)).collect::<String>());
                let again = heard(&mut tail);
                let expected: Vec<String> = std::iter::once("resumed 3".to_owned())
                    .chain((4..4 + grown).map(|step| format!("step {}", step * 100)))
                    .collect();
                // What was told already and is still so is not told twice.
                assert!(again == expected || again.is_empty(), "{grown}: {again:?}");
                append(&path, &event("step", 9_999));
                assert_eq!(heard(&mut tail).last().expect("told"), "step 9999");
            }
        }
    }
}
