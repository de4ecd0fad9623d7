//! Files to a [`Dataset`]: opens each, finds out what it is, and judges the whole at the end.

use crate::collect::{Collector, RowSink};
use crate::columns::Mapping;
use crate::compressed::Compression;
use crate::container::{self, Container};
use crate::dataset::{Dataset, FileReport, Rejected, RejectedKind};
use crate::encoding::Charset;
use crate::source::{HashingReader, PREFIX};
use crate::{delimited, encoding, json_document, json_lines, prose, shape, signature, table};
use peft_plan::{Fault, Result, Row};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Read buffer.
const BUFFER: usize = 256 << 10;

/// What to do with a line that cannot be read and a row without an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadLine {
    /// Refuse the dataset, for training. Rows of an unknown layout beside known ones, and answers
    /// marked as undesired, are still put aside: see [`Dataset::rejected`].
    #[default]
    Fail,
    /// Put the line aside and go on.
    Skip,
}

/// How to read files; the default recognises everything by itself.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// A container (`jsonl`, `json`, `csv`, `tsv`, `txt`, `markdown`; Parquet needs no name) or a layout (`messages`,
    /// `sharegpt`, `alpaca`, `text`, ...); `None` or `auto` detects both.
    pub format: Option<String>,
    /// Which column holds what: keys `user`, `assistant`, `system`, `text`, `messages`; values are
    /// names of columns. Overrides detection.
    pub columns: BTreeMap<String, String>,
    /// System prompt for conversations that have none.
    pub system_prompt: Option<String>,
    /// Bad lines and missing answers.
    pub on_bad_line: BadLine,
}

/// [`ReadOptions`] after checking.
pub(crate) struct Plan {
    container: Option<String>,
    pub(crate) shape: Option<String>,
    pub(crate) mapping: Option<Mapping>,
    pub(crate) system_prompt: Option<String>,
    pub(crate) on_bad_line: BadLine,
}

impl Plan {
    fn resolve(options: &ReadOptions) -> Result<Self> {
        let ReadOptions { format, columns, system_prompt, on_bad_line } = options;
        let mut plan = Self {
            container: None,
            shape: None,
            mapping: Mapping::explicit(columns)?,
            system_prompt: system_prompt.clone().filter(|prompt| !prompt.trim().is_empty()),
            on_bad_line: *on_bad_line,
        };
        let name = format.as_deref().map(|name| name.trim().to_lowercase()).filter(|name| name != "auto");
        match name {
            None => {}
            Some(name) if container::NAMES.contains(&name.as_str()) => plan.container = Some(name),
            Some(name) if shape::is_known(&name) => plan.shape = Some(name),
            Some(name) => {
                let known: Vec<&str> = container::NAMES.iter().copied().chain(shape::askable()).collect();
                let detail = format!("the dataset format `{name}` is not known; known are auto, {}", known.join(", "));
                return Err(Fault::new("PS-CFG-001", detail));
            }
        }
        Ok(plan)
    }

    fn container(&self, sample: &str, whole: bool, path: &Path) -> Container {
        if let Some(name) = &self.container
            && let Some(container) = Container::named(name, sample, whole)
        {
            return container;
        }
        // Someone who says that `notes.txt` is text wants it learnt as text, whatever it looks like.
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if self.shape.as_deref() == Some("text") && matches!(extension.as_str(), "txt" | "text" | "md" | "") {
            return Container::Prose { markdown: extension == "md" };
        }
        container::sniff(sample, whole, path)
    }
}

/// Read `paths` in order.
///
/// Raises PS-DATA-001 (not a dataset), 002 (broken line), 003 (unknown columns), 004 (no answers),
/// 005 (nothing usable), 008 (unreadable encoding) and 012 (unpacks to too much).
pub fn read(paths: &[PathBuf], options: &ReadOptions) -> Result<Dataset> {
    let mut dataset = Dataset::default();
    dataset.files = read_into(paths, options, &mut Kept { rows: &mut dataset.rows, rejected: &mut dataset.rejected })?;
    judge(&dataset, paths, options.on_bad_line)?;
    Ok(dataset)
}

/// A sink that keeps everything.
struct Kept<'a> {
    rows: &'a mut Vec<Row>,
    rejected: &'a mut Vec<Rejected>,
}

impl RowSink for Kept<'_> {
    fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    fn rejected(&mut self, rejected: Rejected) {
        self.rejected.push(rejected);
    }
}

/// Read `paths` in order into `sink`, holding no more than a piece of them; what each file is.
pub(crate) fn read_into(paths: &[PathBuf], options: &ReadOptions, sink: &mut dyn RowSink) -> Result<Vec<FileReport>> {
    let plan = Plan::resolve(options)?;
    paths.iter().enumerate().map(|(index, path)| read_file(index, path, &plan, sink)).collect()
}

fn read_file(index: usize, path: &Path, plan: &Plan, sink: &mut dyn RowSink) -> Result<FileReport> {
    let failed = |error| Fault::io("read", path, error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "not a regular file" };
        let detail = format!("`{}` is {kind}; name the files with the examples", path.display());
        return Err(Fault::new("PS-DATA-001", detail));
    }
    let mut raw = HashingReader::new(File::open(path).map_err(failed)?);
    let prefix = raw.prefix().map_err(failed)?;
    let mut out = Collector::new(index, path, plan, sink);
    let opened = Opened { path, plan, size: metadata.len() };
    let (format, charset, is_empty) = if prefix.starts_with(table::SIGNATURE) {
        table::read(File::open(path).map_err(failed)?, &mut out)?;
        ("parquet", Charset::UTF8, false)
    } else if let Some(compression) = Compression::of(&prefix) {
        out.compressed(compression);
        let inflated = (&prefix[..]).chain(&mut raw);
        let mut stream = compression.inflate(inflated, metadata.len()).map_err(|error| out.io(error))?;
        let mut start = Vec::new();
        stream.by_ref().take(PREFIX as u64).read_to_end(&mut start).map_err(|error| out.io(error))?;
        opened.text(&start, stream, &mut out)?
    } else {
        opened.text(&prefix, &mut raw, &mut out)?
    };
    out.finish()?;
    let (sha256, bytes) = raw.finish().map_err(failed)?;
    let mut report = out.report(format, charset, sha256, bytes);
    if is_empty {
        report.notes.push("the file is empty".to_owned());
    }
    Ok(report)
}

/// A file that is being read.
struct Opened<'a> {
    path: &'a Path,
    plan: &'a Plan,
    size: u64,
}

impl Opened<'_> {
    /// Read text that begins with `prefix` and goes on with `rest`: its container, its encoding, whether it is empty.
    fn text(&self, prefix: &[u8], rest: impl Read, out: &mut Collector<'_>) -> Result<(&'static str, Charset, bool)> {
        let Self { path, plan, size } = *self;
        if let Some(kind) = signature::of(prefix) {
            return Err(not_text(path, kind));
        }
        let charset = encoding::detect(prefix, path)?;
        let sample = charset.decode_prefix(prefix);
        if signature::is_binary(&sample) {
            return Err(not_text(path, "a binary file"));
        }
        let whole = prefix.len() < PREFIX;
        // `rows.jsonl.gz` is named like `rows.jsonl`.
        let inner = if out.is_compressed() { path.with_extension("") } else { path.to_path_buf() };
        let container = plan.container(&sample, whole, &inner);
        if container == Container::Json && size > json_document::LARGEST {
            return Err(json_document::too_large(out));
        }
        let text = charset.reader(prefix.chain(rest)).map_err(|error| out.io(error))?;
        let text = BufReader::with_capacity(BUFFER, text);
        match &container {
            Container::JsonLines => json_lines::read(text, out)?,
            Container::Json => json_document::read(text, out)?,
            Container::Delimited(dialect) => delimited::read(text, *dialect, out)?,
            Container::Prose { markdown } => prose::read(text, *markdown, out)?,
        }
        Ok((container.name(), charset, sample.trim().is_empty() && whole))
    }
}

fn not_text(path: &Path, kind: &str) -> Fault {
    let detail = format!(
        "`{}` looks like {kind}. Examples are read from JSONL, JSON, CSV, TSV, Parquet, text and Markdown",
        path.display()
    );
    Fault::new("PS-DATA-001", detail)
}

/// Whether there is enough to learn from, and nothing is missing that training needs (S1.9).
pub(crate) fn judge(dataset: &Dataset, paths: &[PathBuf], on_bad_line: BadLine) -> Result<()> {
    let unanswered: Vec<&Rejected> =
        dataset.rejected.iter().filter(|rejected| rejected.kind == RejectedKind::NoAnswer).collect();
    let total = dataset.rows.len() + dataset.rejected.len();
    if !unanswered.is_empty() && (dataset.rows.is_empty() || on_bad_line == BadLine::Fail) {
        return Err(no_answers(&unanswered, total, paths));
    }
    if !dataset.rows.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    if let Some(first) = dataset.rejected.first()
        && dataset.rejected.iter().all(|rejected| rejected.kind == RejectedKind::NoPreference)
    {
        let detail = format!(
            "{} holds no answer that is better than another: {total} were left out, the first (line {}) because {}",
            names.join(", "),
            first.line,
            first.reason
        );
        return Err(Fault::new("PS-PREF-001", detail));
    }
    let detail = match (names.is_empty(), dataset.rejected.first()) {
        (true, _) => "no file with examples was named".to_owned(),
        (false, None) => format!("{} holds no examples", names.join(", ")),
        (false, Some(first)) => format!(
            "{} holds no usable example; {total} were left out, the first (line {}) because: {}",
            names.join(", "),
            first.line,
            first.reason
        ),
    };
    Err(Fault::new("PS-DATA-005", detail))
}

fn no_answers(unanswered: &[&Rejected], total: usize, paths: &[PathBuf]) -> Fault {
    let file = unanswered[0].file;
    let lines: Vec<String> = unanswered.iter().filter(|r| r.file == file).take(5).map(|r| r.line.to_string()).collect();
    let path = paths.get(file).map(|path| path.display().to_string()).unwrap_or_default();
    let more = if unanswered.len() > lines.len() { ", …" } else { "" };
    let what = if lines.len() == 1 { "line" } else { "lines" };
    let (count, have) = (unanswered.len(), if unanswered.len() == 1 { "has" } else { "have" });
    let detail = format!(
        "{count} of {total} rows {have} no answer, so there is nothing to learn from them: `{path}`, {what} {}{more}",
        lines.join(", ")
    );
    let quoted = paths.get(file).map(|path| crate::bad_line::quoted(path)).unwrap_or_default();
    let command = format!("peft-studio data convert {quoted} --to messages --out clean.jsonl");
    Fault::new("PS-DATA-004", detail).action("Leave them out (they are kept aside)", Some(command))
}
