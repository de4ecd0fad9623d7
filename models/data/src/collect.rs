//! Takes the records of one file, decides their layout, and keeps rows and rejections apart.
//!
//! The first records are held back until there are enough of them to vote on the layout; after
//! that every record is imported as it comes.

use crate::bad_line::{self, BadLine};
use crate::columns::{self, Mapping};
use crate::compressed::{self, Compression};
use crate::dataset::{FileReport, Rejected, RejectedKind};
use crate::encoding::Charset;
use crate::import::{self, Refusal};
use crate::read::{BadLine as OnBadLine, Plan};
use crate::shape::{self, Shape};
use crate::{tools, turns};
use peft_plan::{Example, Fault, Result, Role, Row, Turn};
use serde_json::{Map, Value};
use std::io;
use std::path::Path;

/// Records that vote on the layout.
const VOTERS: usize = 64;

/// Bytes of records held back at most, unless the first ones are larger.
const HELD_BYTES: usize = 32 << 20;

/// Columns listed in a report.
const LISTED_COLUMNS: usize = 100;

/// Columns named in a message.
const NAMED_COLUMNS: usize = 12;

/// Where rows go while files are read.
pub(crate) trait RowSink {
    /// A usable row.
    fn row(&mut self, row: Row);
    /// A record that is left out.
    fn rejected(&mut self, rejected: Rejected);
    /// Whether nothing that may come is of interest.
    fn is_done(&self) -> bool {
        false
    }
}

/// What is known of one file while it is read.
pub(crate) struct Collector<'p> {
    file: usize,
    path: &'p Path,
    plan: &'p Plan,
    compression: Option<Compression>,
    sink: &'p mut dyn RowSink,
    /// Rows that went to the sink.
    usable: usize,
    /// Kinds of rejections there were.
    kinds: Vec<RejectedKind>,
    /// Place and reason of the first record of an unknown layout.
    first_unknown: Option<(usize, String)>,
    held: Vec<Held>,
    held_bytes: usize,
    decided: bool,
    guessed: Option<Mapping>,
    voted: Option<Shape>,
    suggestion: Option<String>,
    /// Records that have each layout, in order of appearance.
    layouts: Vec<(&'static str, usize)>,
    records: usize,
    columns: Vec<String>,
    notes: Vec<String>,
    tool_lists: usize,
    unnamed_columns: Option<usize>,
    /// Pieces of text that were not UTF-8.
    pub(crate) strays: usize,
    /// Records whose lone surrogates were replaced.
    pub(crate) repaired: usize,
    /// Pieces of text with zero bytes.
    pub(crate) zeroes: usize,
}

struct Held {
    line: usize,
    fields: Map<String, Value>,
    excerpt: String,
}

impl<'p> Collector<'p> {
    pub(crate) fn new(file: usize, path: &'p Path, plan: &'p Plan, sink: &'p mut dyn RowSink) -> Self {
        Self {
            file,
            path,
            plan,
            compression: None,
            sink,
            usable: 0,
            kinds: Vec::new(),
            first_unknown: None,
            held: Vec::new(),
            held_bytes: 0,
            decided: false,
            guessed: None,
            voted: None,
            suggestion: None,
            layouts: Vec::new(),
            records: 0,
            columns: Vec::new(),
            notes: Vec::new(),
            tool_lists: 0,
            unnamed_columns: None,
            strays: 0,
            repaired: 0,
            zeroes: 0,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.path
    }

    /// Reading the file failed.
    pub(crate) fn io(&self, error: io::Error) -> Fault {
        match self.compression {
            Some(compression) => compressed::fault(self.path, compression, error),
            None => Fault::io("read", self.path, error),
        }
    }

    /// What is read comes out of a compressed file.
    pub(crate) fn compressed(&mut self, compression: Compression) {
        self.compression = Some(compression);
        self.notes.push(format!("compressed with {}", compression.name()));
    }

    /// Whether whoever gets the rows has enough.
    pub(crate) fn is_done(&self) -> bool {
        self.sink.is_done()
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.compression.is_some()
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The table has no header but `count` columns.
    pub(crate) fn headerless(&mut self, count: usize) {
        self.unnamed_columns = Some(count);
    }

    /// The column that the user says holds conversations.
    pub(crate) fn mapped_messages(&self) -> Option<&String> {
        self.plan.mapping.as_ref()?.messages.as_ref()
    }

    /// A record that cannot be read.
    pub(crate) fn bad(&mut self, bad: BadLine) -> Result<()> {
        if self.plan.on_bad_line == OnBadLine::Fail {
            return Err(bad.fault(self.path));
        }
        let BadLine { line, reason, excerpt, .. } = bad;
        self.reject(line, Refusal { kind: RejectedKind::BrokenLine, reason }, excerpt);
        Ok(())
    }

    /// A JSON value that should be a record; `source` is its text.
    pub(crate) fn value(&mut self, line: usize, value: Value, source: &str) -> Result<()> {
        let fields = match value {
            Value::Object(fields) => fields,
            Value::String(text) => Map::from_iter([("text".to_owned(), Value::String(text))]),
            list if turns::style(&list).is_some() && list != Value::Array(Vec::new()) => {
                Map::from_iter([("messages".to_owned(), list)])
            }
            _ => {
                return self.bad(BadLine::whole(
                    line,
                    "it is valid JSON, but not an object with named columns",
                    source,
                ));
            }
        };
        self.record(line, fields, source.len(), &|| bad_line::excerpt(source))
    }

    /// A record with named columns.
    pub(crate) fn record(
        &mut self,
        line: usize,
        fields: Map<String, Value>,
        size: usize,
        excerpt: &dyn Fn() -> String,
    ) -> Result<()> {
        if self.decided {
            self.import(line, fields, excerpt);
            return Ok(());
        }
        for name in fields.keys() {
            if self.columns.len() < LISTED_COLUMNS && !self.columns.contains(name) {
                self.columns.push(name.clone());
            }
        }
        let fields = canonical(fields);
        self.held.push(Held { line, fields, excerpt: excerpt() });
        self.held_bytes += size;
        if self.held.len() >= VOTERS || self.held_bytes >= HELD_BYTES {
            self.decide()?;
        }
        Ok(())
    }

    /// A piece of plain text.
    pub(crate) fn prose(&mut self, line: usize, text: String) {
        self.recognised(Shape::Text("text").name());
        self.records += 1;
        self.usable += 1;
        self.sink.row(Row { file: self.file, line, example: Example::Text(text) });
    }

    /// Vote on the layout and import what was held back.
    fn decide(&mut self) -> Result<()> {
        self.decided = true;
        let held = std::mem::take(&mut self.held);
        let mut votes: Vec<(Shape, usize)> = Vec::new();
        for shape in held.iter().filter_map(|held| shape::of(&held.fields)) {
            match votes.iter_mut().find(|(known, _)| *known == shape) {
                Some((_, count)) => *count += 1,
                None => votes.push((shape, 1)),
            }
        }
        self.voted = votes.iter().rev().max_by_key(|(_, count)| *count).map(|(shape, _)| *shape);
        let sample: Vec<Map<String, Value>> = held.iter().map(|held| held.fields.clone()).collect();
        if let Some(mapping) = &self.plan.mapping {
            self.require_columns(mapping, &sample)?;
        } else if self.voted.is_none() && self.plan.shape.is_none() {
            self.guessed = self.guess(&sample);
        }
        self.suggestion = Mapping::suggestion(&sample);
        for Held { line, fields, excerpt } in held {
            self.import(line, fields, &|| excerpt.clone());
        }
        Ok(())
    }

    /// Columns that the user named must exist somewhere.
    fn require_columns(&self, mapping: &Mapping, sample: &[Map<String, Value>]) -> Result<()> {
        let absent = |name: &&str| sample.iter().all(|fields| !fields.contains_key(*name));
        let missing = sample.iter().flat_map(|fields| mapping.missing(fields)).find(absent);
        let Some(name) = missing else { return Ok(()) };
        let detail =
            format!("`columns` names the column `{name}`, but `{}` has {}", self.path.display(), self.listed_columns());
        Err(Fault::new("PS-DATA-003", detail))
    }

    fn guess(&mut self, sample: &[Map<String, Value>]) -> Option<Mapping> {
        let mapping = match self.unnamed_columns {
            Some(2) => Mapping::pair("column_1", "column_2"),
            _ => Mapping::guess(sample)?,
        };
        self.notes.push(format!("the columns were inferred from their names or order: {}", mapping.describe()));
        Some(mapping)
    }

    fn import(&mut self, line: usize, fields: Map<String, Value>, excerpt: &dyn Fn() -> String) {
        let mut fields = canonical(fields);
        self.records += 1;
        let tools = tools::take(&mut fields);
        let schema = tools::schema(&fields);
        let read = self.read_row(fields).and_then(|example| import::check(&example).map(|()| example));
        match read {
            Ok(mut example) => {
                self.add_system_prompt(&mut example);
                if let Example::Messages(turns) = &mut example
                    && let Some(first) = turns.first_mut()
                {
                    if let Some(tools) = tools {
                        self.tool_lists += 1;
                        first.extra_mut().tools = tools;
                    }
                    if schema.is_some() {
                        first.extra_mut().schema = schema;
                    }
                }
                self.usable += 1;
                self.sink.row(Row { file: self.file, line, example });
            }
            Err(refusal) => self.reject(line, refusal, excerpt()),
        }
    }

    fn read_row(&mut self, fields: Map<String, Value>) -> Result<Example, Refusal> {
        if self.plan.mapping.is_some() || self.guessed.is_some() {
            self.recognised(Shape::Columns.name());
        }
        if let Some(mapping) = self.plan.mapping.as_ref().or(self.guessed.as_ref()) {
            return mapping.import(fields);
        }
        let shape = match &self.plan.shape {
            Some(name) => shape::as_named(name, &fields),
            None => shape::of(&fields),
        };
        if let Some(shape) = shape {
            self.recognised(shape.name());
            return import::import(shape, fields);
        }
        let asks = shape::PROMPTS.iter().any(|name| fields.contains_key(*name));
        let one_sided =
            self.voted == Some(Shape::Preference) && (fields.contains_key("chosen") || fields.contains_key("rejected"));
        if one_sided || asks && self.voted.is_some_and(Shape::has_answer_column) {
            return Err(Refusal::no_answer());
        }
        let names: Vec<&str> = fields.keys().take(8).map(String::as_str).collect();
        let wanted = self
            .plan
            .shape
            .as_deref()
            .map_or_else(|| "any known layout".to_owned(), |name| format!("the layout `{name}`"));
        Err(Refusal::shape(format!("its columns ({}) are not those of {wanted}", names.join(", "))))
    }

    fn add_system_prompt(&self, example: &mut Example) {
        if let (
            Some(prompt),
            Example::Messages(turns) | Example::Preference { prompt: turns, .. } | Example::Rated { prompt: turns, .. },
        ) = (&self.plan.system_prompt, example)
            && turns.iter().all(|turn| turn.role != Role::System)
        {
            turns.insert(0, Turn::new(Role::System, prompt.clone()));
        }
    }

    fn recognised(&mut self, name: &'static str) {
        match self.layouts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => self.layouts.push((name, 1)),
        }
    }

    fn reject(&mut self, line: usize, Refusal { kind, reason }: Refusal, excerpt: String) {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
        if kind == RejectedKind::UnknownShape && self.first_unknown.is_none() {
            self.first_unknown = Some((line, reason.clone()));
        }
        self.sink.rejected(Rejected { file: self.file, line, kind, reason, excerpt });
    }

    fn listed_columns(&self) -> String {
        if self.columns.is_empty() {
            return "no columns".to_owned();
        }
        let names = self.columns.iter().take(NAMED_COLUMNS).map(|name| format!("`{}`", bad_line::excerpt(name)));
        let more = if self.columns.len() > NAMED_COLUMNS { ", …" } else { "" };
        format!("the columns {}{more}", names.collect::<Vec<_>>().join(", "))
    }

    /// End of the file: import what is still held, and see that the layout was understood.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if !self.decided && !self.held.is_empty() {
            self.decide()?;
        }
        let rejected = |kind| self.kinds.contains(&kind);
        if self.usable > 0 || self.records == 0 || rejected(RejectedKind::NoAnswer) {
            return Ok(());
        }
        if rejected(RejectedKind::UnknownShape) {
            return Err(self.unknown_fault());
        }
        Ok(())
    }

    fn unknown_fault(&self) -> Fault {
        let detail = match (&self.first_unknown, &self.plan.shape) {
            // The columns are known, something in them is not.
            (Some((line, reason)), _) if !self.layouts.is_empty() => {
                format!("`{}`, row {line}: {reason}", self.path.display())
            }
            (_, Some(name)) => {
                let columns = self.listed_columns();
                format!("`{}` has {columns}, which is not the layout `{name}`", self.path.display())
            }
            _ => {
                let columns = self.listed_columns();
                format!("`{}` has {columns}, which is not a layout we know", self.path.display())
            }
        };
        let fault = Fault::new("PS-DATA-003", detail);
        match &self.suggestion {
            Some(mapping) => fault.action(format!("Say which is which in the run file: {mapping}"), None),
            None => fault,
        }
    }

    /// The report, once the file was read to its end.
    pub(crate) fn report(&mut self, format: &str, charset: Charset, sha256: String, bytes: u64) -> FileReport {
        let commonest = self.layouts.iter().rev().max_by_key(|(_, count)| *count).copied();
        let (shape, count) = commonest.unwrap_or(("unknown", 0));
        let mut confidence = if self.records == 0 { 0.0 } else { count as f64 / self.records as f64 };
        if self.guessed.is_some() {
            confidence *= if self.unnamed_columns.is_some() { 0.5 } else { 0.7 };
        }
        self.describe_text(charset);
        if self.layouts.len() > 1 {
            let parts: Vec<String> = self.layouts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            self.notes.push(format!("the rows have different layouts: {}", parts.join(", ")));
        }
        if self.tool_lists > 0 {
            self.notes.push(format!("{} rows offer tools", self.tool_lists));
        }
        if shape == "text" && !self.columns.is_empty() {
            let unused: Vec<String> =
                self.columns.iter().filter(|name| shape::is_unused_beside_text(name)).cloned().collect();
            if !unused.is_empty() {
                confidence *= 0.8;
                self.notes.push(format!("only the text is learnt; not used: {}", unused.join(", ")));
            }
        }
        FileReport {
            path: std::path::absolute(self.path).unwrap_or_else(|_| self.path.to_path_buf()),
            format: format.to_owned(),
            shape: shape.to_owned(),
            confidence,
            rows: self.usable,
            columns: std::mem::take(&mut self.columns),
            encoding: charset.name(),
            notes: std::mem::take(&mut self.notes),
            sha256,
            bytes,
        }
    }

    fn describe_text(&mut self, charset: Charset) {
        if charset.guessed {
            let name = charset.encoding.name();
            self.notes.push(format!("the text is not UTF-8; it was read as {name}, check the preview"));
        }
        if self.strays > 0 {
            self.notes.push(format!("bytes that are not UTF-8 were read as Windows-1252 in {} places", self.strays));
        }
        if self.repaired > 0 {
            self.notes.push(format!("half characters (lone surrogates) were replaced in {} rows", self.repaired));
        }
        if self.zeroes > 0 {
            self.notes.push(format!("zero bytes were removed in {} places", self.zeroes));
        }
    }
}

/// The record with canonical column names; the exact name wins over one that becomes equal to it.
fn canonical(fields: Map<String, Value>) -> Map<String, Value> {
    if fields.keys().all(|name| columns::is_canonical(name)) {
        return fields;
    }
    let mut renamed = Map::with_capacity(fields.len());
    let (exact, other): (Vec<_>, Vec<_>) =
        fields.into_iter().map(|(name, value)| (columns::canonical(&name), name, value)).partition(|(c, n, _)| c == n);
    for (canonical, _, value) in exact.into_iter().chain(other) {
        renamed.entry(canonical).or_insert(value);
    }
    renamed
}
