//! JSON documents: an array, an array inside an object, or objects one after the other.
//!
//! The text of the document is held (up to [`LARGEST`]), its elements are parsed one at a time.
//! A document that breaks off gives its complete leading elements.

use crate::bad_line::{self, BadLine};
use crate::collect::Collector;
use crate::turns;
use peft_plan::{Fault, Result};
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};
use std::io::Read;
use std::ops::Range;

/// The largest document that is read. JSONL has no limit.
pub(crate) const LARGEST: u64 = 1 << 30;

/// Lists that are preferred when an object holds several.
const LISTS: &[&str] = &["train", "data", "rows", "examples", "items", "records"];

/// Read the whole document.
pub(crate) fn read(reader: impl Read, out: &mut Collector<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| out.io(error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(too_large(out));
    }
    let text = crate::encoding::decode_line(&bytes, &mut out.strays);
    let mut document = Document { text: &text, out, number: 0 };
    let start = document.skip_space(0);
    if document.byte(start) == Some(b'[') {
        let end = document.array(start)?;
        return match end {
            Some(end) => document.values(end),
            None => Ok(()),
        };
    }
    match document.nested_list(start) {
        Some(at) => document.array(at).map(|_| ()),
        None => document.values(start),
    }
}

/// A JSON document that is too large to hold.
pub(crate) fn too_large(out: &Collector<'_>) -> Fault {
    let detail = format!(
        "`{}` is one JSON document of more than {} GiB; such a file has to be read as a whole. \
         Stored as JSONL (one row on each line) it can have any size",
        out.path().display(),
        LARGEST >> 30
    );
    let command = format!("jq -c '.[]' {} > rows.jsonl", bad_line::quoted(out.path()));
    Fault::new("PS-DATA-001", detail).action("Convert it to JSONL", Some(command))
}

struct Document<'a, 'o, 'p> {
    text: &'a str,
    out: &'o mut Collector<'p>,
    /// Elements seen so far.
    number: usize,
}

impl Document<'_, '_, '_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn skip_space(&self, mut at: usize) -> usize {
        while self.byte(at).is_some_and(|b| b.is_ascii_whitespace()) {
            at += 1;
        }
        at
    }

    /// The elements of the array that starts at `at`; its end, or `None` where it breaks off.
    fn array(&mut self, at: usize) -> Result<Option<usize>> {
        let mut at = self.skip_space(at + 1);
        if self.byte(at) == Some(b']') {
            return Ok(Some(at + 1));
        }
        loop {
            at = match self.element(at)? {
                Some(end) => self.skip_space(end),
                None => return Ok(None),
            };
            match self.byte(at) {
                Some(b',') => at = self.skip_space(at + 1),
                Some(b']') => return Ok(Some(at + 1)),
                None => return self.broken(at, "the list ends too early, its `]` is missing"),
                Some(_) => return self.broken(at, "a comma or `]` was expected here"),
            }
        }
    }

    /// Values one after the other until the end.
    fn values(&mut self, at: usize) -> Result<()> {
        let mut at = self.skip_space(at);
        while at < self.text.len() {
            at = match self.element(at)? {
                Some(end) => self.skip_space(end),
                None => return Ok(()),
            };
            if self.byte(at) == Some(b',') {
                at = self.skip_space(at + 1);
            }
        }
        Ok(())
    }

    /// One element; its end, or `None` if nothing after it can be trusted.
    fn element(&mut self, at: usize) -> Result<Option<usize>> {
        let mut values = Deserializer::from_str(&self.text[at..]).into_iter::<Value>();
        let parsed = values.next();
        let end = at + values.byte_offset();
        let (value, end) = match parsed {
            Some(Ok(value)) => (value, end),
            Some(Err(error)) => {
                let Some(repaired) = self.repaired(at) else {
                    let place = self.place_of(at, &error);
                    return self.broken(place, &bad_line::plain(&error));
                };
                repaired
            }
            None => return self.broken(at, "a value is missing here"),
        };
        self.number += 1;
        let value = unwrap_row(value);
        let source = &self.text[at..end];
        self.out.value(self.number, value, source)?;
        Ok(Some(end))
    }

    /// The element at `at` if lone surrogates are all that is wrong with it: those are errors for
    /// a string that is kept, but not for one that is skipped.
    fn repaired(&mut self, at: usize) -> Option<(Value, usize)> {
        let end = value_end(self.text, at)?;
        let value = bad_line::parse(&self.text[at..end], &mut self.out.repaired).ok()?;
        Some((value, end))
    }

    /// Record broken JSON at byte `at`; nothing after it is read.
    fn broken(&mut self, at: usize, message: &str) -> Result<Option<usize>> {
        let at = at.min(self.text.len());
        let before = &self.text[..at];
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[at..].find('\n').map_or(self.text.len(), |length| at + length);
        let content = &self.text[line_start..line_end];
        let message = format!("{message} ({} complete rows before it)", self.number);
        self.out.bad(BadLine::json_at(line, content, at - line_start, &message))?;
        Ok(None)
    }

    /// The byte of an error in the text that starts at `from`.
    fn place_of(&self, from: usize, error: &serde_json::Error) -> usize {
        let mut line_start = from;
        for _ in 1..error.line() {
            match self.text[line_start..].find('\n') {
                Some(length) => line_start += length + 1,
                None => break,
            }
        }
        let mut at = (line_start + error.column().saturating_sub(1)).min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// Where the rows are, if the document is an object that wraps them in a list.
    fn nested_list(&mut self, start: usize) -> Option<usize> {
        let members = members(self.text, start)?;
        let lists: Vec<&(String, Range<usize>)> =
            members.iter().filter(|(name, range)| self.is_list_of_rows(name, range)).collect();
        let preferred = LISTS.iter().find_map(|name| lists.iter().find(|(known, _)| known == name));
        let (name, range) = match (lists.as_slice(), preferred) {
            (_, Some(list)) => list,
            ([only], None) => only,
            _ => return None,
        };
        for (other, _) in lists.iter().filter(|(other, _)| other != name) {
            self.out.note(format!("the list `{other}` was left out, only `{name}` was read"));
        }
        Some(range.start)
    }

    /// A list of objects, and not the turns of a single row.
    fn is_list_of_rows(&self, name: &str, range: &Range<usize>) -> bool {
        if self.byte(range.start) != Some(b'[') {
            return false;
        }
        let first = self.skip_space(range.start + 1);
        if self.byte(first) == Some(b']') {
            return LISTS.contains(&name);
        }
        if self.byte(first) != Some(b'{') {
            return false;
        }
        let is_turn = || {
            let element = Deserializer::from_str(&self.text[first..]).into_iter::<Value>().next();
            let Some(Ok(turn)) = element else { return false };
            turns::style(&Value::Array(vec![turn])).is_some()
        };
        !turns::TURN_LISTS.contains(&name) || !is_turn()
    }
}

/// The members of the only object in `text`, each with the place of its value.
fn members(text: &str, start: usize) -> Option<Vec<(String, Range<usize>)>> {
    let space = |at: usize| at + text[at..].len() - text[at..].trim_ascii_start().len();
    if !text[start..].starts_with('{') {
        return None;
    }
    let mut members = Vec::new();
    let mut at = space(start + 1);
    while text[at..].starts_with('"') {
        let end = value_end(text, at)?;
        let name: String = serde_json::from_str(&text[at..end]).ok()?;
        at = space(end);
        at = space(at + text[at..].strip_prefix(':').map(|_| 1)?);
        // A list that breaks off still has a beginning.
        let Some(end) = value_end(text, at) else {
            members.push((name, at..text.len()));
            return Some(members);
        };
        members.push((name, at..end));
        at = space(end);
        if text[at..].starts_with(',') {
            at = space(at + 1);
        }
    }
    let closed = text[at..].strip_prefix('}')?;
    closed.trim().is_empty().then_some(members)
}

/// The end of the JSON value that starts at `at`.
fn value_end(text: &str, at: usize) -> Option<usize> {
    let mut values = Deserializer::from_str(&text[at..]).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(at + values.byte_offset())
}

/// The dataset viewer wraps each row: `{"row_idx": 0, "row": {...}, "truncated_cells": []}`.
fn unwrap_row(mut value: Value) -> Value {
    let wrapped = value.as_object().is_some_and(|fields| {
        let known = |name: &String| matches!(name.as_str(), "row" | "row_idx" | "truncated_cells");
        fields.get("row").is_some_and(Value::is_object) && fields.keys().all(known)
    });
    if wrapped { value["row"].take() } else { value }
}
