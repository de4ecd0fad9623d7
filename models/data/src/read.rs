//! Files to a [`Dataset`]: opens each, finds out what it is, and judges the whole at the end.

use crate::collect::Collector;
use crate::columns::Mapping;
use crate::container::{self, Container};
use crate::dataset::{Dataset, Rejected, RejectedKind};
use crate::source::{HashingReader, PREFIX};
use crate::{delimited, encoding, json_document, json_lines, prose, shape, signature};
use peft_plan::{Fault, Result};
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
    /// A container (`jsonl`, `json`, `csv`, `tsv`, `txt`, `markdown`) or a layout (`messages`,
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
/// 005 (nothing usable) and 008 (unreadable encoding).
pub fn read(paths: &[PathBuf], options: &ReadOptions) -> Result<Dataset> {
    let plan = Plan::resolve(options)?;
    let mut dataset = Dataset::default();
    for (index, path) in paths.iter().enumerate() {
        read_file(index, path, &plan, &mut dataset)?;
    }
    judge(&dataset, paths, plan.on_bad_line)?;
    Ok(dataset)
}

fn read_file(index: usize, path: &Path, plan: &Plan, dataset: &mut Dataset) -> Result<()> {
    let failed = |error| Fault::io("read", path, error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "not a regular file" };
        let detail = format!("`{}` is {kind}; name the files with the examples", path.display());
        return Err(Fault::new("PS-DATA-001", detail));
    }
    let mut raw = HashingReader::new(File::open(path).map_err(failed)?);
    let prefix = raw.prefix().map_err(failed)?;
    if let Some(kind) = signature::of(&prefix) {
        return Err(not_text(path, kind));
    }
    let charset = encoding::detect(&prefix, path)?;
    let sample = charset.decode_prefix(&prefix);
    if signature::is_binary(&sample) {
        return Err(not_text(path, "a binary file"));
    }
    let whole = prefix.len() < PREFIX;
    let container = plan.container(&sample, whole, path);
    let mut out = Collector::new(index, path, plan);
    if container == Container::Json && metadata.len() > json_document::LARGEST {
        return Err(json_document::too_large(&out));
    }
    let text = charset.reader((&prefix[..]).chain(&mut raw)).map_err(failed)?;
    let text = BufReader::with_capacity(BUFFER, text);
    match &container {
        Container::JsonLines => json_lines::read(text, &mut out)?,
        Container::Json => json_document::read(text, &mut out)?,
        Container::Delimited(dialect) => delimited::read(text, *dialect, &mut out)?,
        Container::Prose { markdown } => prose::read(text, *markdown, &mut out)?,
    }
    out.finish()?;
    let (sha256, bytes) = raw.finish().map_err(failed)?;
    let mut report = out.report(container.name(), charset, sha256, bytes);
    if sample.trim().is_empty() && whole {
        report.notes.push("the file is empty".to_owned());
    }
    dataset.files.push(report);
    dataset.rows.append(&mut out.rows);
    dataset.rejected.append(&mut out.rejected);
    Ok(())
}

fn not_text(path: &Path, kind: &str) -> Fault {
    let detail = format!(
        "`{}` looks like {kind}. Examples are read from JSONL, JSON, CSV, TSV, text and Markdown",
        path.display()
    );
    Fault::new("PS-DATA-001", detail)
}

/// Whether there is enough to learn from, and nothing is missing that training needs (S1.9).
fn judge(dataset: &Dataset, paths: &[PathBuf], on_bad_line: BadLine) -> Result<()> {
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
