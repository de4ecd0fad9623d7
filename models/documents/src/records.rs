//! Files of records (JSON, JSON Lines, CSV and its relatives): each record a block of `name: value` lines.
//!
//! Written out like this, a helper model reads a record as easily as prose, and no value is left out. A record that has
//! nothing but one text is that text.

use crate::block::{BlockKind, Builder, Outline};
use crate::limits::Limits;
use crate::read::{Notes, Sink};
use csv::ReaderBuilder;
use peft_data::{Bounded, Dialect, TextFile, next_record, sniff_table};
use peft_plan::{Fault, Result};
use serde_json::Value;
use std::io::{self, Read};
use std::path::Path;

/// How much of a table decides how it is written.
const SNIFFED: usize = 64 << 10;

/// Bytes of one row of a table. A quotation mark that is never closed would swallow the file.
const LONGEST_ROW: usize = 16 << 20;

/// Read a file with a JSON value on each line. A line that is none is noted, and the rest goes on.
pub(crate) fn read_lines(file: &mut TextFile, limits: &Limits, sink: &mut Sink<'_>) -> Result<()> {
    let mut line_number = 0_usize;
    let mut notes = Notes::new(limits.warnings);
    // A line that a piece cuts is put together again.
    let mut carried = String::new();
    loop {
        let piece = file.next_piece(limits.piece)?;
        let is_last = piece.is_none();
        carried.push_str(piece.as_deref().unwrap_or_default());
        if carried.len() as u64 > limits.whole_file {
            let detail = format!("Line {} is longer than {} MiB", line_number + 1, limits.whole_file >> 20);
            return Err(Fault::new("PS-DATA-002", detail));
        }
        let whole = if is_last { carried.len() } else { carried.rfind('\n').map_or(0, |at| at + 1) };
        let mut builder = Builder::new(Outline::default());
        for line in carried[..whole].lines() {
            line_number += 1;
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str::<Value>(line.trim_start_matches('\u{feff}')) {
                Ok(value) => builder.push(BlockKind::Record, &written_out(&value)),
                Err(error) => notes.add(|| format!("line {line_number} is not valid JSON ({error}) and was left out")),
            }
        }
        carried.drain(..whole);
        if is_last {
            notes.tell(&mut builder);
            return sink(builder.finish().0);
        }
        sink(builder.finish().0)?;
    }
}

/// Read a file that is one JSON value: of a list, each element is a record.
pub(crate) fn read_json(file: &mut TextFile, path: &Path, limits: &Limits, sink: &mut Sink<'_>) -> Result<()> {
    let mut text = String::new();
    while let Some(piece) = file.next_piece(limits.piece)? {
        text.push_str(&piece);
        // A value in memory is several times its text.
        if text.len() as u64 > limits.whole_file / 4 {
            let detail = format!(
                "`{}` is one JSON value of more than {} MiB; with a record on each line (JSON Lines) it may be any size",
                path.display(),
                limits.whole_file >> 22
            );
            return Err(Fault::new("PS-DATA-012", detail));
        }
    }
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| Fault::new("PS-DATA-002", format!("`{}` is not valid JSON: {error}", path.display())))?;
    drop(text);
    let mut builder = Builder::new(Outline::default());
    match value {
        Value::Array(items) => {
            for item in items {
                builder.push(BlockKind::Record, &written_out(&item));
            }
        }
        other => builder.push(BlockKind::Record, &written_out(&other)),
    }
    sink(builder.finish().0)
}

/// A record as lines.
fn written_out(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut texts = fields.values();
            if let (Some(Value::String(text)), None) = (texts.next(), texts.next()) {
                return text.clone();
            }
            let mut out = String::new();
            write_value(&mut out, &mut String::new(), value);
            out
        }
        Value::String(text) => text.clone(),
        other => {
            let mut out = String::new();
            write_value(&mut out, &mut String::new(), other);
            out
        }
    }
}

/// Adds `name: value` lines; names of what is inside one another are joined by points. JSON is never deeper than its
/// parser allows.
fn write_value(out: &mut String, name: &mut String, value: &Value) {
    let inside = |out: &mut String, name: &mut String, part: &str, value: &Value| {
        let length = name.len();
        if length > 0 {
            name.push('.');
        }
        name.push_str(part);
        write_value(out, name, value);
        name.truncate(length);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(part, value)| inside(out, name, part, value)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (number, item) in (1_usize..).zip(items) {
                inside(out, name, &number.to_string(), item);
            }
        }
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(scalar).collect();
            write_line(out, name, &words.join(", "));
        }
        scalar_value => write_line(out, name, &scalar(scalar_value)),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn write_line(out: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !name.is_empty() {
        out.push_str(name);
        out.push_str(if value.contains('\n') { ":\n" } else { ": " });
    }
    out.push_str(value);
    out.push('\n');
}

/// Read a table; `expected` is the delimiter that the name of the file promises.
pub(crate) fn read_table(
    mut file: TextFile,
    path: &Path,
    expected: Option<u8>,
    limits: &Limits,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let dialect = sniff_table(&file.peek(SNIFFED)?, expected);
    let mut table = ReaderBuilder::new()
        .delimiter(dialect.delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(Bounded::new(Stream::new(file, limits.piece)));
    let mut record = csv::ByteRecord::new();
    let mut header = Header::new(dialect);
    let mut notes = Notes::new(limits.warnings);
    let mut builder = Builder::new(Outline::default());
    loop {
        match next_record(&mut table, &mut record, LONGEST_ROW) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                if error.kind() != io::ErrorKind::FileTooLarge {
                    return Err(Fault::io("read", path, error));
                }
                notes.add(|| {
                    format!(
                        "the row after line {} is longer than {} MiB; a quotation mark is probably not closed, and \
                         nothing after it was read",
                        record.position().map_or(0, csv::Position::line),
                        LONGEST_ROW >> 20
                    )
                });
                break;
            }
        }
        if let Some(text) = header.row(&record) {
            builder.push(BlockKind::Record, &text);
        }
        if builder.text().len() >= limits.piece {
            sink(std::mem::take(&mut builder).finish().0)?;
            builder = Builder::new(Outline::default());
        }
    }
    notes.tell(&mut builder);
    sink(builder.finish().0)
}

/// The names of columns, learned from the first row.
struct Header {
    dialect: Dialect,
    is_separator_line: bool,
    names: Option<Vec<String>>,
}

impl Header {
    fn new(dialect: Dialect) -> Self {
        Self { dialect, is_separator_line: dialect.separator_line, names: None }
    }

    /// A row as lines; `None` for one that holds no data.
    fn row(&mut self, record: &csv::ByteRecord) -> Option<String> {
        if std::mem::take(&mut self.is_separator_line) {
            return None;
        }
        // The stream is UTF-8, so nothing is lost here.
        let cells: Vec<_> = record.iter().map(|cell| String::from_utf8_lossy(cell)).collect();
        if self.names.is_none() {
            let names = if self.dialect.header {
                cells.iter().map(|cell| cell.trim().trim_start_matches('\u{feff}').to_owned()).collect()
            } else {
                Vec::new()
            };
            self.names = Some(names);
            if self.dialect.header {
                return None;
            }
        }
        let names = self.names.as_deref().unwrap_or_default();
        let mut text = String::new();
        for (number, cell) in cells.iter().enumerate() {
            let numbered = || format!("column {}", number + 1);
            let name = names.get(number).filter(|name| !name.is_empty()).cloned().unwrap_or_else(numbered);
            write_line(&mut text, &name, cell.trim());
        }
        Some(text)
    }
}

/// A text file as a stream of bytes.
struct Stream {
    file: TextFile,
    piece: Vec<u8>,
    at: usize,
    size: usize,
}

impl Stream {
    fn new(file: TextFile, size: usize) -> Self {
        Self { file, piece: Vec::new(), at: 0, size }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let piece = self.file.next_piece(self.size).map_err(io::Error::other)?;
            self.piece = piece.unwrap_or_default().into_bytes();
            self.at = 0;
        }
        let count = (self.piece.len() - self.at).min(out.len());
        out[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> TextFile {
        TextFile::of_bytes(text.as_bytes().to_vec(), Path::new("f")).expect("text")
    }

    /// The records of all pieces, and the warnings.
    fn collected(read: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> (Vec<String>, Vec<String>) {
        let (mut records, mut warnings) = (Vec::new(), Vec::new());
        read(&mut |document| {
            records.extend(document.blocks.iter().map(|b| document.text[b.span.clone()].trim_end().to_owned()));
            warnings.extend(document.warnings);
            Ok(())
        })
        .expect("readable");
        (records, warnings)
    }

    #[test]
    fn every_value_of_a_record_is_written_out() {
        let text =
            r#"[{"a": 1, "b": {"c": [1, "x"], "d": [{"e": true}]}, "f": "l1\nl2", "g": null}, {"text": "just"}, 7]"#;
        let (records, _) = collected(|sink| read_json(&mut file(text), Path::new("f"), &Limits::default(), sink));
        assert_eq!(records, ["a: 1\nb.c: 1, x\nb.d.1.e: true\nf:\nl1\nl2", "just", "7"]);
    }

    #[test]
    fn a_bad_line_is_named_and_the_rest_goes_on() {
        let text = "{\"text\":\"one\"}\n{oops\n\n{\"text\":\"two\"}";
        let limits = Limits { piece: 16, ..Limits::default() };
        let (records, warnings) = collected(|sink| read_lines(&mut file(text), &limits, sink));
        assert_eq!(records, ["one", "two"]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("line 2 "), "{warnings:?}");
    }

    #[test]
    fn warnings_are_bounded_and_counted() {
        let (records, warnings) = collected(|sink| read_lines(&mut file(&"x\n".repeat(500)), &Limits::default(), sink));
        assert!(records.is_empty());
        assert_eq!(warnings.len(), 21);
        assert!(warnings[20].contains("480"), "{}", warnings[20]);
    }

    #[test]
    fn a_table_is_read_by_its_header_across_line_breaks_in_cells() {
        let text = "name;note\nAda;\"first\nline\"\nBob;\n";
        let limits = Limits { piece: 16, ..Limits::default() };
        let (records, _) = collected(|sink| read_table(file(text), Path::new("f"), None, &limits, sink));
        assert_eq!(records, ["name: Ada\nnote:\nfirst\nline", "name: Bob"]);
    }

    #[test]
    fn json_of_any_depth_is_an_error_and_no_crash() {
        let text = "[".repeat(100_000);
        let fault = read_json(&mut file(&text), Path::new("f"), &Limits::default(), &mut |_| Ok(())).expect_err("deep");
        assert_eq!(fault.code, "PS-DATA-002");
    }
}
