//! CSV and its relatives: which delimiter, whether there is a header, and the records.
//!
//! Quotes, doubled quotes and line breaks inside quotes follow RFC 4180. A quote that is never
//! closed would swallow the rest of the file; the budget on each record stops that.

use crate::bad_line::{self, BadLine};
use crate::bounded::{Bounded, next_record};
use crate::collect::Collector;
use crate::columns::canonical;
use crate::encoding::decode_line;
use crate::lines::LONGEST_LINE;
use crate::shape;
use crate::turns::TURN_LISTS;
use csv::{ByteRecord, ReaderBuilder};
use peft_plan::{Fault, Result};
use serde_json::{Map, Value};
use std::io::{self, BufRead};

/// How much of the file decides the delimiter.
const SNIFFED: usize = 64 << 10;

/// Delimiters in order of preference.
const DELIMITERS: &[u8] = b",;\t|";

/// Characters in a cell that still looks like a column name.
const LONGEST_NAME: usize = 40;

/// Columns of the widest table that is read.
const MOST_COLUMNS: usize = 4_096;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What stands between two cells.
    pub delimiter: u8,
    /// Whether the first record names the columns.
    pub header: bool,
    /// Whether the first line is `sep=;`, as spreadsheets write it.
    pub separator_line: bool,
}

impl Dialect {
    /// The most plausible dialect of `sample`.
    pub(crate) fn sniff(sample: &str, whole: bool, expected: Option<u8>) -> Self {
        let (separator, body, whole) = prepare(sample, whole);
        let declared = separator.or(expected.filter(|d| body.as_bytes().contains(d)));
        let delimiter = declared.unwrap_or_else(|| best(body, whole).map_or(b',', |(delimiter, _)| delimiter));
        let records = records(body, delimiter, 2);
        let header = records.first().is_some_and(|first| looks_like_header(first));
        Self { delimiter, header, separator_line: separator.is_some() }
    }

    /// The dialect of `sample` only if it is hardly anything but a table.
    pub(crate) fn sniff_strict(sample: &str, whole: bool) -> Option<Self> {
        let (separator, body, whole_body) = prepare(sample, whole);
        if separator.is_none() {
            let (_, share) = best(body, whole_body)?;
            if share < 0.9 {
                return None;
            }
        }
        Some(Self::sniff(sample, whole, None)).filter(|dialect| dialect.header)
    }

    /// The names in the header.
    pub(crate) fn header_names(self, sample: &str) -> Vec<String> {
        let (_, body, _) = prepare(sample, true);
        records(body, self.delimiter, 1).into_iter().next().unwrap_or_default()
    }
}

/// How the table that begins with `sample` is most plausibly written, for who reads the records without their meaning.
pub fn sniff_table(sample: &str, expected: Option<u8>) -> Dialect {
    Dialect::sniff(sample, false, expected)
}

/// The declared separator, the text after that line, and whether it is whole.
fn prepare(sample: &str, whole: bool) -> (Option<u8>, &str, bool) {
    let (separator, body) = match sample.split_once('\n') {
        Some((first, rest)) => match first.trim_end().to_lowercase().strip_prefix("sep=") {
            Some(mark) if mark.len() == 1 => (mark.bytes().next(), rest),
            Some("\\t") => (Some(b'\t'), rest),
            _ => (None, sample),
        },
        None => (None, sample),
    };
    if body.len() <= SNIFFED {
        return (separator, body, whole);
    }
    let mut end = SNIFFED;
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    (separator, &body[..end], false)
}

fn builder(delimiter: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).has_headers(false).flexible(true);
    builder
}

/// The first `count` records as text.
fn records(body: &str, delimiter: u8, count: usize) -> Vec<Vec<String>> {
    let mut reader = builder(delimiter).from_reader(body.as_bytes());
    let records = reader.records().take(count).filter_map(std::result::Result::ok);
    records.map(|record| record.iter().map(str::to_owned).collect()).collect()
}

/// The delimiter with the most consistent number of fields, and the share of records that have it.
fn best(body: &str, whole: bool) -> Option<(u8, f64)> {
    let mut best: Option<(u8, f64, f64)> = None;
    for &delimiter in DELIMITERS {
        let mut reader = builder(delimiter).from_reader(body.as_bytes());
        let mut widths: Vec<usize> = reader.byte_records().filter_map(|r| Some(r.ok()?.len())).collect();
        if !whole && widths.len() > 1 {
            widths.pop();
        }
        let Some((width, share)) = commonest(&widths) else { continue };
        if width < 2 {
            continue;
        }
        // Many columns that fit are better evidence than two.
        let score = share * (1.0 - 1.0 / (width as f64 + 1.0));
        if best.is_none_or(|(_, _, known)| score > known) {
            best = Some((delimiter, share, score));
        }
    }
    best.map(|(delimiter, share, _)| (delimiter, share))
}

fn commonest(widths: &[usize]) -> Option<(usize, f64)> {
    let count = |width: usize| widths.iter().filter(|w| **w == width).count();
    let mut distinct: Vec<usize> = widths.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let width = distinct.into_iter().max_by_key(|width| count(*width))?;
    Some((width, count(width) as f64 / widths.len() as f64))
}

/// Known names, or cells that are short, distinct, and neither numbers nor sentences.
fn looks_like_header(cells: &[String]) -> bool {
    if cells.len() > MOST_COLUMNS {
        return false;
    }
    let names: Vec<String> = cells.iter().map(|cell| canonical(cell)).collect();
    if shape::is_known_header(&names) {
        return true;
    }
    let is_name = |cell: &String| {
        let cell = cell.trim();
        !cell.is_empty()
            && cell.chars().count() <= LONGEST_NAME
            && cell.parse::<f64>().is_err()
            && cell.split_whitespace().count() <= 4
            && !cell.contains(['?', '!', '.', ',', '\n'])
    };
    let distinct = names.iter().enumerate().all(|(index, name)| !names[..index].contains(name));
    distinct && cells.iter().all(is_name)
}

/// Read every record of the table.
pub(crate) fn read(mut reader: impl BufRead, dialect: Dialect, out: &mut Collector<'_>) -> Result<()> {
    let mut skipped_lines = 0;
    if dialect.separator_line {
        reader.skip_until(b'\n').map_err(|error| out.io(error))?;
        skipped_lines = 1;
    }
    let mut table = builder(dialect.delimiter).from_reader(Bounded::new(reader));
    let mut record = ByteRecord::new();
    let mut names: Option<Vec<String>> = None;
    loop {
        let start = table.position().line() as usize + skipped_lines;
        match next_record(&mut table, &mut record, LONGEST_LINE) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let reason = format!(
                    "the row that starts here is longer than {} MiB; a quotation mark is probably not closed, \
                     and nothing after it was read",
                    LONGEST_LINE >> 20
                );
                return out.bad(BadLine::whole(start, reason, ""));
            }
            Err(error) => return Err(out.io(error)),
        }
        let line = record.position().map_or(start, |at| at.line() as usize + skipped_lines);
        let Some(names) = &names else {
            if record.len() > MOST_COLUMNS {
                let detail = format!(
                    "`{}` has {} columns on its first line, which no table of examples has",
                    out.path().display(),
                    record.len()
                );
                return Err(Fault::new("PS-DATA-001", detail));
            }
            let header = header(&record, dialect, out);
            if !dialect.header {
                row(line, &header, &record, out)?;
            }
            names = Some(header);
            continue;
        };
        row(line, names, &record, out)?;
    }
}

/// The names of the columns: the first record, or `column_1`, `column_2`, ...
fn header(first: &ByteRecord, dialect: Dialect, out: &mut Collector<'_>) -> Vec<String> {
    if !dialect.header {
        out.headerless(first.len());
        return (1..=first.len()).map(|number| format!("column_{number}")).collect();
    }
    let mut names: Vec<String> = Vec::with_capacity(first.len());
    for (index, cell) in first.iter().enumerate() {
        let name = decode_line(cell, &mut out.strays).trim().trim_start_matches('\u{feff}').to_owned();
        let taken = name.is_empty() || names.contains(&name);
        names.push(if taken { format!("{name}_{}", index + 1) } else { name });
    }
    names
}

fn row(line: usize, names: &[String], record: &ByteRecord, out: &mut Collector<'_>) -> Result<()> {
    if record.iter().all(|cell| cell.trim_ascii().is_empty()) {
        return Ok(());
    }
    let source = || {
        let cells: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
        bad_line::excerpt(&cells.join(" | "))
    };
    if record.iter().skip(names.len()).any(|cell| !cell.trim_ascii().is_empty()) {
        let reason = format!(
            "this row has {} fields and the table has {}; a text with the delimiter in it needs quotation marks",
            record.len(),
            names.len()
        );
        return out.bad(BadLine::whole(line, reason, &source()));
    }
    let mut fields = Map::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let cell = decode_line(record.get(index).unwrap_or_default(), &mut out.strays);
        fields.insert(name.clone(), value_of(name, cell.into_owned(), out));
    }
    let width = record.as_slice().len();
    out.record(line, fields, width, &source)
}

/// A cell; in a column of conversations, the JSON it holds.
fn value_of(name: &str, mut cell: String, out: &mut Collector<'_>) -> Value {
    if cell.contains('\0') {
        out.zeroes += 1;
        cell.retain(|c| c != '\0');
    }
    let name = canonical(name);
    let holds_turns = TURN_LISTS.contains(&name.as_str()) || out.mapped_messages() == Some(&name);
    if holds_turns
        && cell.trim_start().starts_with('[')
        && let Ok(value) = bad_line::parse(&cell, &mut out.repaired)
    {
        return value;
    }
    Value::String(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consistent_delimiter_wins_over_the_frequent_one() {
        let sample = "frage;antwort\nEins, zwei, drei?;Vier, fünf\nWas, bitte?;Nichts\n\"a;b\";c\n";
        let dialect = Dialect::sniff(sample, true, None);
        assert_eq!((dialect.delimiter, dialect.header), (b';', true));
        for (delimiter, sample) in [(b'\t', "q\ta\nx, y\tz\n"), (b'|', "q|a\nx|z\n"), (b',', "q,a\nx,z\n")] {
            assert_eq!(Dialect::sniff(sample, true, None).delimiter, delimiter);
        }
    }

    #[test]
    fn a_separator_line_is_believed() {
        let dialect = Dialect::sniff("sep=;\nquestion;answer\na,b,c;d,e,f\n", true, None);
        assert_eq!(dialect, Dialect { delimiter: b';', header: true, separator_line: true });
    }

    #[test]
    fn sentences_and_numbers_are_not_headers() {
        assert!(looks_like_header(&["Frage".to_owned(), "Antwort".to_owned()]));
        assert!(!looks_like_header(&["What is this?".to_owned(), "A test".to_owned()]));
        assert!(!looks_like_header(&["a".to_owned(), "a".to_owned()]));
        assert!(!looks_like_header(&["1".to_owned(), "a".to_owned()]));
    }
}
