//! What the rows of a file say of themselves beside question and answer: register, dialect, source, licence, maker.

use crate::text_file::TextFile;
use peft_plan::Result;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What is looked for, and the names it goes by.
const FIELDS: &[(&str, &[&str])] = &[
    ("register", &["register", "style", "tone"]),
    ("dialect", &["dialect", "variety", "locale"]),
    ("language", &["language", "lang"]),
    ("source", &["source", "document", "origin", "url"]),
    ("license", &["license", "licence"]),
    ("model", &["helper_model", "teacher", "generator", "model"]),
    ("task", &["task", "category"]),
    ("speaker", &["speaker", "persona"]),
    ("tool", &["tool", "tool_version", "generated_by"]),
];

/// Places inside a row where such fields may stand.
const INSIDE: &[&str] = &["metadata", "meta", "provenance"];

/// Values that are counted of a field; the others are counted together.
const VALUES: usize = 200;
/// Bytes of a value.
const LONGEST: usize = 200;
/// Bytes of a piece of the file.
const PIECE: usize = 1 << 20;

/// How often a value was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The value.
    pub value: String,
    /// In how many rows.
    pub rows: usize,
}

/// What rows say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Rows that were looked at.
    pub rows: usize,
    /// The values of each field that any row has, the commonest first.
    pub fields: BTreeMap<&'static str, Vec<Counted>>,
}

impl Provenance {
    /// The commonest value of a field.
    pub fn commonest(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.first().map(|counted| counted.value.as_str())
    }
}

/// Look at the rows of a JSONL file. Lines that are no objects are passed over.
pub fn provenance(path: &Path) -> Result<Provenance> {
    let mut file = TextFile::open(path)?;
    let mut counts: BTreeMap<&'static str, BTreeMap<String, usize>> = BTreeMap::new();
    let mut rows = 0;
    let mut rest = String::new();
    loop {
        let piece = file.next_piece(PIECE)?;
        let is_last = piece.is_none();
        rest.push_str(&piece.unwrap_or_default());
        let whole = if is_last { rest.len() } else { rest.rfind('\n').map_or(0, |at| at + 1) };
        for line in rest[..whole].lines() {
            if let Ok(Value::Object(row)) = serde_json::from_str(line) {
                rows += 1;
                count(&Value::Object(row), &mut counts);
            }
        }
        rest.drain(..whole);
        if is_last {
            break;
        }
    }
    let sorted = |values: BTreeMap<String, usize>| {
        let mut values: Vec<Counted> = values.into_iter().map(|(value, rows)| Counted { value, rows }).collect();
        values.sort_by_key(|counted| std::cmp::Reverse(counted.rows));
        values
    };
    Ok(Provenance { rows, fields: counts.into_iter().map(|(field, values)| (field, sorted(values))).collect() })
}

fn count(row: &Value, counts: &mut BTreeMap<&'static str, BTreeMap<String, usize>>) {
    let places = std::iter::once(row).chain(INSIDE.iter().map(|name| &row[*name]));
    let places: Vec<&Value> = places.collect();
    for (field, names) in FIELDS {
        let said = places.iter().flat_map(|place| names.iter().filter_map(|name| text_of(&place[*name]))).next();
        let Some(value) = said else { continue };
        let values = counts.entry(field).or_default();
        let value = if values.len() < VALUES || values.contains_key(&value) { value } else { "others".to_owned() };
        *values.entry(value).or_default() += 1;
    }
}

/// A value on one line, of bounded length.
fn text_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    (!text.is_empty()).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_29_registers_dialects_sources_and_licences_are_counted_wherever_they_stand() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("rows.jsonl");
        let rows = concat!(
            "{\"instruction\":\"a\",\"output\":\"b\",\"register\":\"formal\",\"source\":\"a.md\"}\n",
            "{\"instruction\":\"a\",\"output\":\"b\",\"meta\":{\"style\":\"formal\",\"dialect\":\"québécois\"}}\n",
            "no row\n\n",
            "{\"instruction\":\"a\",\"register\":\"slang\",\"licence\":\"CC0\",\"source\":{\"deep\":1}}",
        );
        std::fs::write(&path, rows).expect("written");
        let found = provenance(&path).expect("readable");
        assert_eq!(
            (found.rows, found.commonest("register"), found.commonest("dialect")),
            (3, Some("formal"), Some("québécois"))
        );
        assert_eq!(found.fields["register"].iter().map(|counted| counted.rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(
            (found.commonest("license"), found.commonest("source"), found.commonest("task")),
            (Some("CC0"), Some("a.md"), None)
        );
    }
}
