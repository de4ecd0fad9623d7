//! Parquet tables: rows become the same records as lines of JSONL.
//!
//! Pages are read as they are needed, so a row group is never held as a whole. The library that decodes them was
//! written for files of one's own making: on damaged ones it may panic, which ends here as a fault.

use crate::bad_line;
use crate::collect::Collector;
use crate::columns::canonical;
use crate::tools;
use crate::turns::TURN_LISTS;
use parquet::basic::Compression;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use peft_plan::{Fault, Result};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// How a table begins.
pub(crate) const SIGNATURE: &[u8] = b"PAR1";

/// Columns of the widest table that is read.
const MOST_COLUMNS: usize = 4_096;

/// Columns that may hold turns, or words.
const EXCHANGES: &[&str] = &["prompt", "completion", "chosen", "rejected"];

/// Characters of a value that an excerpt shows.
const SHOWN: usize = 60;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is decoding a file of somebody else's, where a panic is the file's fault and is caught.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Read every row of the table in `file`.
pub(crate) fn read(file: File, out: &mut Collector<'_>) -> Result<()> {
    let path = out.path().to_path_buf();
    let reader =
        guarded(|| SerializedFileReader::new(file).map_err(|error| damaged(&path, &error.to_string())), &path)?;
    check(&reader, &path)?;
    let mut rows = guarded(|| Ok(RowIter::from_file_into(Box::new(reader))), &path)?;
    let mut number = 0;
    loop {
        let next = guarded(
            || rows.next().transpose().map_err(|error| damaged(&path, &format!("after row {number}, {error}"))),
            &path,
        )?;
        let Some(row) = next.filter(|_| !out.is_done()) else { return Ok(()) };
        number += 1;
        let (fields, size) = record(row, out);
        let source = fields.clone();
        out.record(number, fields, size, &|| excerpt(&source))?;
    }
}

/// `work`, with a panic in it as a fault.
fn guarded<T>(work: impl FnOnce() -> Result<T>, path: &Path) -> Result<T> {
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    result.unwrap_or_else(|_| Err(damaged(path, "it holds values that do not fit its columns")))
}

fn damaged(path: &Path, why: &str) -> Fault {
    let why: String = why.trim_end_matches('.').chars().take(300).collect();
    let detail = format!("`{}` is a damaged or incomplete Parquet table: {why}", path.display());
    Fault::new("PS-DATA-001", detail).action("Download or copy the file again", None)
}

/// Refuse what is known from the footer alone to be unreadable.
fn check(reader: &SerializedFileReader<File>, path: &Path) -> Result<()> {
    let metadata = reader.metadata();
    let schema = metadata.file_metadata().schema_descr();
    if schema.num_columns() > MOST_COLUMNS {
        let detail =
            format!("`{}` has {} columns, which no table of examples has", path.display(), schema.num_columns());
        return Err(Fault::new("PS-DATA-001", detail));
    }
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let name = match column.compression() {
            Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => continue,
            other => format!("{other:?}").split('(').next().unwrap_or_default().to_lowercase(),
        };
        let detail = format!(
            "`{}` is compressed with {name}; Parquet is read plain or compressed with snappy, gzip or zstd",
            path.display()
        );
        return Err(Fault::new("PS-DATA-001", detail));
    }
    Ok(())
}

/// The columns of a row, and about how many bytes they take.
fn record(row: Row, out: &mut Collector<'_>) -> (Map<String, Value>, usize) {
    let mut size = 0;
    let mut fields = Map::new();
    for (name, field) in row.into_columns() {
        let mut value = value_of(&field, &mut size);
        let known = canonical(&name);
        let holds_turns = TURN_LISTS.contains(&known.as_str()) || out.mapped_messages() == Some(&known);
        if let Some(text) = value.as_str()
            && holds_turns
            && text.trim_start().starts_with("[{")
            && let Ok(parsed) = bad_line::parse(text, &mut out.repaired)
        {
            value = parsed;
        }
        if matches!(known.as_str(), "tools" | "functions") {
            tools::without_padding(&mut value);
        }
        if holds_turns || EXCHANGES.contains(&known.as_str()) {
            without_padding_in_turns(&mut value);
        }
        fields.insert(name, value);
    }
    (fields, size)
}

/// A table gives every call all the arguments that any call has, with `null` for those it does not have.
fn without_padding_in_turns(turns: &mut Value) {
    for turn in turns.as_array_mut().into_iter().flatten() {
        let Some(fields) = turn.as_object_mut() else { continue };
        // `content: null` is kept: it says something.
        fields.retain(|name, value| !value.is_null() || matches!(name.as_str(), "content" | "value" | "role" | "from"));
        for name in ["tool_calls", "function_call"] {
            fields.get_mut(name).into_iter().for_each(tools::without_padding);
        }
    }
}

fn value_of(field: &Field, size: &mut usize) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    *size += 8;
    match field {
        Field::Null => Value::Null,
        Field::Bool(is) => Value::Bool(*is),
        Field::Byte(n) => Value::from(*n),
        Field::Short(n) => Value::from(*n),
        Field::Int(n) => Value::from(*n),
        Field::Long(n) => Value::from(*n),
        Field::UByte(n) => Value::from(*n),
        Field::UShort(n) => Value::from(*n),
        Field::UInt(n) => Value::from(*n),
        Field::ULong(n) => Value::from(*n),
        Field::Float16(n) => float(f64::from(f32::from(*n))),
        // Through the shortest decimal form: 0.1 stays 0.1.
        Field::Float(n) => float(n.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(n) => float(*n),
        Field::Str(text) => {
            *size += text.len();
            Value::String(text.clone())
        }
        // Writers that know no text store it as bytes; pictures are no text.
        Field::Bytes(bytes) => {
            *size += bytes.len();
            std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from)
        }
        Field::Group(row) => row.get_column_iter().map(|(name, field)| (name.clone(), value_of(field, size))).collect(),
        Field::ListInternal(list) => list.elements().iter().map(|item| value_of(item, size)).collect(),
        Field::MapInternal(map) => map
            .entries()
            .iter()
            .map(|(key, value)| {
                let key = match value_of(key, size) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                (key, value_of(value, size))
            })
            .collect(),
        // Dates and decimal numbers, as the library writes them.
        other => Value::String(other.to_string()),
    }
}

fn excerpt(fields: &Map<String, Value>) -> String {
    let cells: Vec<String> = fields
        .iter()
        .map(|(name, value)| {
            let text: String = match value {
                Value::String(text) => text.chars().take(SHOWN).collect(),
                other => other.to_string().chars().take(SHOWN).collect(),
            };
            format!("{name}: {text}")
        })
        .collect();
    bad_line::excerpt(&cells.join(" | "))
}
