//! A file of any kind to documents: which reader it gets, and what it may cost.

use crate::block::{Builder, Document};
use crate::limits::Limits;
use crate::{docx, epub, html, markdown, pdf, plain, records};
use peft_data::TextFile;
use peft_plan::{Fault, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Takes the pieces of a document in order.
pub type Sink<'a> = dyn FnMut(Document) -> Result<()> + 'a;

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Plain text.
    Text,
    /// Markdown.
    Markdown,
    /// A web page.
    Html,
    /// One JSON value.
    Json,
    /// A JSON value on each line.
    JsonLines,
    /// A table of text.
    Table,
    /// A Word document.
    Docx,
    /// An electronic book.
    Epub,
    /// A PDF document.
    Pdf,
}

/// Endings of names, and how such files are read.
const ENDINGS: &[(&str, Format)] = &[
    ("csv", Format::Table),
    ("docx", Format::Docx),
    ("epub", Format::Epub),
    ("htm", Format::Html),
    ("html", Format::Html),
    ("json", Format::Json),
    ("jsonl", Format::JsonLines),
    ("markdown", Format::Markdown),
    ("md", Format::Markdown),
    ("ndjson", Format::JsonLines),
    ("pdf", Format::Pdf),
    ("text", Format::Text),
    ("tsv", Format::Table),
    ("txt", Format::Text),
    ("xhtml", Format::Html),
];

impl Format {
    /// What the name of a file promises.
    pub fn of_name(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format)
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Json => "json",
            Self::JsonLines => "jsonl",
            Self::Table => "csv",
            Self::Docx => "docx",
            Self::Epub => "epub",
            Self::Pdf => "pdf",
        }
    }

    /// Whether its files can do harm to who reads them: what unpacks or describes itself.
    pub(crate) fn is_risky(self) -> bool {
        matches!(self, Self::Html | Self::Docx | Self::Epub | Self::Pdf)
    }

    /// How to read the file at `path`.
    pub(crate) fn of_path(path: &Path) -> Result<Self> {
        let io = |error| Fault::io("read", path, error);
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Fault::new("PS-DATA-001", format!("`{}` is not a file", path.display())));
        }
        let mut start = Vec::new();
        File::open(path).map_err(io)?.take(4096).read_to_end(&mut start).map_err(io)?;
        Self::of_file(path, &start)
    }

    /// How to read the file that begins with `start`: what its bytes say counts more than its name.
    fn of_file(path: &Path, start: &[u8]) -> Result<Self> {
        let promised = Self::of_name(path);
        let is = |signature: &[u8]| start.starts_with(signature);
        if is(b"PK\x03\x04") {
            let is_book = start.windows(20).take(64).any(|piece| piece == b"application/epub+zip");
            return match promised {
                _ if is_book => Ok(Self::Epub),
                Some(archive @ (Self::Docx | Self::Epub)) => Ok(archive),
                _ => Err(refused(path, "an archive; only DOCX and EPUB are read")),
            };
        }
        if matches!(promised, Some(Self::Docx | Self::Epub)) {
            let what = if is(b"\xD0\xCF\x11\xE0") { "an old or encrypted Office document" } else { "no archive" };
            return Err(Fault::new("PS-DATA-011", format!("`{}` is {what}", path.display())));
        }
        // The signature may stand anywhere in the first kilobyte.
        if start.windows(5).take(1024).any(|piece| piece == b"%PDF-") && promised.is_none_or(|it| it == Self::Pdf)
            || is(b"%PDF-")
        {
            return Ok(Self::Pdf);
        }
        if promised == Some(Self::Pdf) {
            return Err(Fault::new("PS-DATA-011", format!("`{}` is no PDF document", path.display())));
        }
        let foreign: &[(&[u8], &str)] = &[
            (b"\xD0\xCF\x11\xE0", "an old Office document; save it as DOCX"),
            (b"{\\rtf", "a rich text document; save it as DOCX"),
        ];
        if let Some((_, what)) = foreign.iter().find(|(signature, _)| is(signature)) {
            return Err(refused(path, what));
        }
        Ok(promised.unwrap_or(Self::Text))
    }
}

fn refused(path: &Path, what: &str) -> Fault {
    Fault::new("PS-DATA-001", format!("`{}` is {what}", path.display()))
}

/// Read the file at `path`; its pieces go to `sink` in order. Returns how it was read.
///
/// A file that changes meanwhile is read as it comes and noted: what was read may be a mixture.
pub fn read(path: &Path, limits: &Limits, sink: &mut Sink<'_>) -> Result<Format> {
    let io = |error| Fault::io("read", path, error);
    let before = std::fs::metadata(path).map_err(io)?;
    let format = Format::of_path(path)?;
    let is_tsv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tsv"));
    match format {
        Format::Docx => docx::read(path, limits, sink)?,
        Format::Epub => epub::read(path, limits, sink)?,
        Format::Pdf => pdf::read(path, limits, sink)?,
        Format::Table => {
            let expected = if is_tsv { Some(b'\t') } else { None };
            records::read_table(TextFile::open(path)?, path, expected, limits, sink)?;
        }
        _ => {
            let mut file = TextFile::open(path)?;
            match format {
                Format::Markdown => markdown::read(&mut file, limits, sink)?,
                Format::Html => html::read(&mut file, path, limits, sink)?,
                Format::Json => records::read_json(&mut file, path, limits, sink)?,
                Format::JsonLines => records::read_lines(&mut file, limits, sink)?,
                _ => plain::read(&mut file, limits, sink)?,
            }
            if file.is_doubtful() {
                let warning = format!("the encoding is not certain; it was read as {}", file.encoding());
                sink(Document { warnings: vec![warning], ..Document::default() })?;
            }
        }
    }
    let after = std::fs::metadata(path).map_err(io)?;
    if before.len() != after.len() || before.modified().ok() != after.modified().ok() {
        let warning = "it was changed while it was read; read it again".to_owned();
        sink(Document { warnings: vec![warning], ..Document::default() })?;
    }
    Ok(format)
}

/// Warnings of one file: the first few in full, the others counted.
pub(crate) struct Notes {
    kept: Vec<String>,
    most: usize,
    others: usize,
}

impl Notes {
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most, others: 0 }
    }

    pub(crate) fn add(&mut self, note: impl FnOnce() -> String) {
        if self.kept.len() < self.most { self.kept.push(note()) } else { self.others += 1 }
    }

    pub(crate) fn tell(self, builder: &mut Builder) {
        for note in self.kept {
            builder.warn(note);
        }
        if self.others > 0 {
            builder.warn(format!("and {} more like these", self.others));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_bytes(name: &str, bytes: &[u8]) -> Result<(Format, String)> {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let mut text = String::new();
        let format = read(&path, &Limits::default(), &mut |document| {
            text.push_str(&document.text);
            Ok(())
        })?;
        Ok((format, text))
    }

    #[test]
    fn bytes_count_more_than_names() {
        let (format, text) = read_bytes("a.txt", b"hello").expect("text");
        assert_eq!((format, text.as_str()), (Format::Text, "hello"));
        assert_eq!(read_bytes("A.HTML", b"<p>x").expect("page"), (Format::Html, "x\n\n".to_owned()));
        let cases: [(&str, &[u8], &str); 7] = [
            ("a.txt", b"%PDF-1.7", "PS-DATA-011"),
            ("a.zip", b"PK\x03\x04", "PS-DATA-001"),
            ("a.docx", b"\xD0\xCF\x11\xE0\xA1\xB1", "PS-DATA-011"),
            ("a.docx", b"PK\x03\x04", "PS-DATA-011"),
            ("a.epub", b"nothing", "PS-DATA-011"),
            ("a.json", b"{", "PS-DATA-002"),
            ("a.bin", &[0; 100], "PS-DATA-001"),
        ];
        for (name, bytes, code) in cases {
            assert_eq!(read_bytes(name, bytes).expect_err(name).code, code, "{name}");
        }
    }
}
