//! Writing a dataset in another layout, with what was left out beside it (S3.2, `data convert`).
//!
//! Every output is JSONL, one row on each line, and appears whole or not at all.

use crate::dataset::{Dataset, RejectedKind, path_as_text};
use crate::split::split_prompts;
use crate::{duplicates, fingerprint, private_data, quality, row_defects};
use peft_plan::{Example, Fault, Result, Role, Row, Turn};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The layout to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// `{"messages": [{"role", "content"}]}`, of preferences `{"prompt", "chosen", "rejected"}` and
    /// `{"prompt", "completion", "label"}` with such lists; nothing is lost.
    Messages,
    /// `{"instruction", "input", "output"}`, with `system` and `history` where there are any.
    Alpaca,
    /// `{"conversations": [{"from", "value"}]}`.
    Sharegpt,
    /// `{"text"}`: the turns joined by double newlines (S1.2).
    Text,
}

impl FromStr for Target {
    type Err = Fault;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "messages" => Ok(Self::Messages),
            "alpaca" => Ok(Self::Alpaca),
            "sharegpt" => Ok(Self::Sharegpt),
            "text" => Ok(Self::Text),
            _ => {
                let detail = format!("the layout `{name}` is not known; known are messages, alpaca, sharegpt, text");
                Err(Fault::new("PS-CFG-001", detail))
            }
        }
    }
}

/// What to change on the way.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a change of its own that can be asked for")]
pub struct ConvertOptions {
    /// Leave out rows that copy an earlier one (up to case and spacing).
    pub deduplicate: bool,
    /// Leave out rows that nearly repeat an earlier one as well.
    pub deduplicate_near: bool,
    /// Put text right that was UTF-8 and was read as Windows-1252.
    pub repair: bool,
    /// Replace keys, card and account numbers, addresses and telephone numbers by placeholders.
    pub redact: bool,
    /// Leave out rows with more characters.
    pub max_characters: Option<usize>,
    /// Leave out rows with fewer characters.
    pub min_characters: Option<usize>,
    /// Leave out rows in other languages; those whose language cannot be told stay.
    pub languages: Vec<String>,
    /// Leave out rows that lose points for one of these reasons (`quality::REASONS`).
    pub drop: Vec<String>,
    /// Leave out rows with a lower score.
    pub min_score: Option<u32>,
    /// Leave out rows that give one of these away.
    pub evaluation: Vec<Row>,
    /// Leave out garbled text, leaked chat markers, disordered conversations and wordless answers.
    pub quality_filter: bool,
    /// System prompt for conversations that have none.
    pub include_system: Option<String>,
    /// Share of the rows to write to a second file.
    pub validation_split: f64,
    /// Which rows those are.
    pub seed: u64,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct ConvertReport {
    /// The layout.
    pub to: Target,
    /// The file that was asked for.
    #[serde(serialize_with = "path_as_text")]
    pub out: PathBuf,
    /// Rows in it.
    pub rows: usize,
    /// The file with the rows held out, if there are any.
    #[serde(serialize_with = "optional_path_as_text")]
    pub validation: Option<PathBuf>,
    /// Rows in it.
    pub validation_rows: usize,
    /// The file with what was left out, if anything was.
    #[serde(serialize_with = "optional_path_as_text")]
    pub rejected: Option<PathBuf>,
    /// Records in it.
    pub rejected_rows: usize,
    /// Of these, copies of an earlier row.
    pub duplicates: usize,
    /// Of these, left out by the quality filter.
    pub filtered: usize,
    /// Rows in which garbled text was put right.
    pub repaired: usize,
    /// Rows in which something was replaced by a placeholder.
    pub redacted: usize,
    /// What the layout could not hold.
    pub notes: Vec<String>,
}

// The shape of the function is `serde`'s.
#[expect(clippy::ref_option)]
fn optional_path_as_text<S: serde::Serializer>(path: &Option<PathBuf>, out: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => path_as_text(path, out),
        None => out.serialize_none(),
    }
}

/// A record for the file of what was left out.
#[derive(Serialize)]
struct Aside<'a> {
    #[serde(serialize_with = "path_as_text")]
    file: &'a Path,
    line: usize,
    kind: RejectedKind,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    excerpt: Option<&'a str>,
    #[serde(flatten)]
    row: Option<Value>,
}

/// Write `dataset` to `out`, and where needed `STEM.validation.jsonl` and `STEM.rejected.jsonl`
/// beside it.
pub fn convert(dataset: &Dataset, to: Target, out: &Path, options: &ConvertOptions) -> Result<ConvertReport> {
    refuse_overwriting_input(dataset, out)?;
    let mut aside: Vec<(usize, RejectedKind, String)> = Vec::new();
    let copies = copies(&dataset.rows, options);
    let leaks = leaks(&dataset.rows, options);
    let mut kept: Vec<Cow<'_, Example>> = Vec::new();
    let (mut lost_flags, mut repaired, mut redacted) = (0, 0, 0);
    for (index, row) in dataset.rows.iter().enumerate() {
        if let Some((first, how)) = copies.get(index).copied().flatten() {
            let reason = format!("{how} line {}", dataset.rows[first].line);
            aside.push((index, RejectedKind::Duplicate, reason));
            continue;
        }
        let mut example = Cow::Borrowed(&row.example);
        if options.repair
            && let Some(better) = rewritten(&example, &row_defects::repaired)
        {
            repaired += 1;
            example = Cow::Owned(better);
        }
        if options.redact
            && let Some(better) = rewritten(&example, &private_data::redacted)
        {
            redacted += 1;
            example = Cow::Owned(better);
        }
        let long = options.max_characters.and_then(|most| too_long(&example, most));
        let poor = leaks.get(&index).cloned().or_else(|| poor(&example, options));
        let unfit = if options.quality_filter { row_defects::filter_reason(&example) } else { None };
        if let Some(reason) = long.or(unfit).or(poor).or_else(|| does_not_fit(to, &example)) {
            aside.push((index, RejectedKind::Filtered, reason));
            continue;
        }
        lost_flags += usize::from(loses_flags(to, &example));
        kept.push(example);
    }
    if kept.is_empty() {
        let detail = format!("all {} rows were left out, nothing was written", dataset.rows.len());
        return Err(Fault::new("PS-DATA-005", detail));
    }
    let prompts: Vec<_> = kept.iter().map(|example| fingerprint::of_prompt(example)).collect();
    let parts = split_prompts(&prompts, options.validation_split, options.seed);
    let system = options.include_system.as_deref();
    let rendered = |index: &usize| render(to, &with_system(&kept[*index], system));
    write(out, parts.train.iter().map(rendered))?;
    let validation = (!parts.validation.is_empty()).then(|| beside(out, "validation"));
    if let Some(path) = &validation {
        write(path, parts.validation.iter().map(rendered))?;
    }
    let rejected_rows = dataset.rejected.len() + aside.len();
    let rejected = (rejected_rows > 0).then(|| beside(out, "rejected"));
    if let Some(path) = &rejected {
        write(path, records_aside(dataset, &aside))?;
    }
    let mut notes = Vec::new();
    if lost_flags > 0 {
        notes.push(format!(
            "which turns are trained on was lost in {lost_flags} rows; only `messages` and `sharegpt` hold it"
        ));
    }
    let of_kind = |wanted| aside.iter().filter(|(_, kind, _)| *kind == wanted).count();
    Ok(ConvertReport {
        to,
        out: absolute(out),
        rows: parts.train.len(),
        validation: validation.as_deref().map(absolute),
        validation_rows: parts.validation.len(),
        rejected: rejected.as_deref().map(absolute),
        rejected_rows,
        duplicates: of_kind(RejectedKind::Duplicate),
        filtered: of_kind(RejectedKind::Filtered),
        repaired,
        redacted,
        notes,
    })
}

/// For each row that repeats an earlier one, which, and how.
fn copies(rows: &[Row], options: &ConvertOptions) -> Vec<Option<(usize, &'static str)>> {
    if !options.deduplicate && !options.deduplicate_near {
        return Vec::new();
    }
    let exact = duplicates::exact(rows);
    let mut copies: Vec<Option<(usize, &'static str)>> =
        exact.iter().map(|first| first.map(|first| (first, "a copy of"))).collect();
    if options.deduplicate_near {
        for group in duplicates::near(rows, &exact) {
            for index in &group[1..] {
                copies[*index] = Some((group[0], "nearly the same as"));
            }
        }
    }
    copies
}

/// `example` with every text as `rewrite` makes it; `None` where nothing changes.
fn rewritten(example: &Example, rewrite: &dyn Fn(&str) -> Option<String>) -> Option<Example> {
    let mut better = example.clone();
    let mut changed = false;
    let mut text = |text: &mut String| {
        if let Some(new) = rewrite(text) {
            *text = new;
            changed = true;
        }
    };
    let turns: [&mut [Turn]; 3] = match &mut better {
        Example::Text(words) => {
            text(words);
            [&mut [], &mut [], &mut []]
        }
        Example::Messages(turns) => [turns, &mut [], &mut []],
        Example::Preference { prompt, chosen, rejected } => [prompt, chosen, rejected],
        Example::Rated { prompt, answer, .. } => [prompt, answer, &mut []],
    };
    for turn in turns.into_iter().flatten() {
        text(&mut turn.content);
        if let Some(extra) = &mut turn.extra {
            extra.reasoning.iter_mut().for_each(&mut text);
            extra.tool_calls.iter_mut().for_each(|call| strings(call, &mut text));
        }
    }
    changed.then_some(better)
}

/// Every string in `value`.
fn strings(value: &mut Value, each: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(list) => list.iter_mut().for_each(|item| strings(item, each)),
        Value::Object(fields) => fields.values_mut().for_each(|item| strings(item, each)),
        _ => {}
    }
}

/// Rows that give an evaluation row away, and how.
fn leaks(rows: &[Row], options: &ConvertOptions) -> HashMap<usize, String> {
    let said = |leak: quality::Leak| {
        let how = match leak.kind {
            quality::LeakKind::SameRow => "it is line",
            quality::LeakKind::SameQuestion => "it asks what is asked in line",
            quality::LeakKind::SharedText => "it shares most of its text with line",
        };
        (leak.training_row, format!("{how} {} of the evaluation", leak.evaluation.line))
    };
    if options.evaluation.is_empty() {
        return HashMap::new();
    }
    quality::contamination(rows, &options.evaluation).into_iter().map(said).collect()
}

/// Why a row is too short, in another language or too bad.
fn poor(example: &Example, options: &ConvertOptions) -> Option<String> {
    let ConvertOptions { min_characters, languages, drop, min_score, .. } = options;
    if let Some(least) = min_characters {
        let count: usize = row_defects::texts(example).map(|text| text.chars().count()).sum();
        if count < *least {
            return Some(format!("it has {count} characters, fewer than {least}"));
        }
    }
    if !languages.is_empty()
        && let Some(language) = quality::language_of(example)
        && !languages.iter().any(|wanted| wanted == language)
    {
        return Some(format!("its language is `{language}`"));
    }
    if drop.is_empty() && min_score.is_none() {
        return None;
    }
    let reasons = quality::reasons_of(example);
    if let Some(reason) = reasons.iter().find(|reason| drop.iter().any(|code| code == reason.code)) {
        return Some(reason.text.clone());
    }
    let score = 100_u32.saturating_sub(reasons.iter().map(|reason| reason.points).sum());
    let texts: Vec<&str> = reasons.iter().map(|reason| reason.text.as_str()).collect();
    min_score.filter(|least| score < *least).map(|_| format!("its score is {score}: {}", texts.join("; ")))
}

/// Why a row is too long.
fn too_long(example: &Example, most: usize) -> Option<String> {
    let count: usize = row_defects::texts(example).map(|text| text.chars().count()).sum();
    (count > most).then(|| format!("it has {count} characters, more than {most}"))
}

/// What was left out, when reading and here.
fn records_aside<'a>(
    dataset: &'a Dataset,
    aside: &'a [(usize, RejectedKind, String)],
) -> impl Iterator<Item = Aside<'a>> {
    let file = move |index: usize| dataset.files.get(index).map_or(Path::new(""), |file| &file.path);
    let read = dataset.rejected.iter().map(move |rejected| Aside {
        file: file(rejected.file),
        line: rejected.line,
        kind: rejected.kind,
        reason: &rejected.reason,
        excerpt: Some(&rejected.excerpt),
        row: None,
    });
    let here = aside.iter().map(move |(index, kind, reason)| {
        let row = &dataset.rows[*index];
        Aside {
            file: file(row.file),
            line: row.line,
            kind: *kind,
            reason,
            excerpt: None,
            row: Some(render(Target::Messages, &row.example)),
        }
    });
    read.chain(here)
}

fn refuse_overwriting_input(dataset: &Dataset, out: &Path) -> Result<()> {
    let outputs = [out.to_path_buf(), beside(out, "validation"), beside(out, "rejected")];
    for output in outputs.iter().filter_map(|path| path.canonicalize().ok()) {
        if dataset.files.iter().any(|file| file.path.canonicalize().is_ok_and(|path| path == output)) {
            let detail = format!("`{}` is one of the files that are read; write to another file", output.display());
            return Err(Fault::new("PS-CFG-001", detail));
        }
    }
    Ok(())
}

/// `data.jsonl` to `data.WHAT.jsonl`.
fn beside(out: &Path, what: &str) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}.{what}.jsonl"))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn write<T: Serialize>(path: &Path, records: impl Iterator<Item = T>) -> Result<()> {
    let written = durable::write_file_with(path, |out| {
        for record in records {
            serde_json::to_writer(&mut *out, &record).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    });
    written.map(|_| ()).map_err(|error| Fault::io("write", path, error))
}

/// The example with `prompt` in front, if it is a conversation without a system prompt.
fn with_system<'a>(example: &'a Example, prompt: Option<&str>) -> Cow<'a, Example> {
    match (prompt, example) {
        (Some(prompt), Example::Messages(turns)) if turns.iter().all(|turn| turn.role != Role::System) => {
            let system = Turn::new(Role::System, prompt);
            Cow::Owned(Example::Messages(std::iter::once(system).chain(turns.iter().cloned()).collect()))
        }
        (Some(prompt), Example::Preference { prompt: turns, .. } | Example::Rated { prompt: turns, .. })
            if turns.iter().all(|turn| turn.role != Role::System) =>
        {
            let mut example = example.clone();
            if let Example::Preference { prompt: turns, .. } | Example::Rated { prompt: turns, .. } = &mut example {
                turns.insert(0, Turn::new(Role::System, prompt));
            }
            Cow::Owned(example)
        }
        _ => Cow::Borrowed(example),
    }
}

/// Why `to` cannot hold a row.
fn does_not_fit(to: Target, example: &Example) -> Option<String> {
    match (to, example) {
        (Target::Messages, _) => None,
        (_, Example::Preference { .. }) => {
            Some("it holds two answers; only `messages` keeps which is the better one".to_owned())
        }
        (_, Example::Rated { desirable: false, .. }) => Some("its answer is marked as undesired".to_owned()),
        (_, Example::Rated { .. }) => {
            does_not_fit(to, &Example::Messages(example.conversation().unwrap_or_default().into_owned()))
        }
        (Target::Text, _) | (Target::Sharegpt, Example::Messages(_)) => None,
        (Target::Alpaca | Target::Sharegpt, Example::Text(_)) => {
            Some("plain text has no question and answer".to_owned())
        }
        (Target::Alpaca, Example::Messages(turns)) => {
            let turns = spoken(turns);
            let alternates = turns.len().is_multiple_of(2)
                && turns.chunks(2).all(|pair| pair[0].role == Role::User && pair[1].role == Role::Assistant);
            let single = matches!(turns, [only] if only.role == Role::Assistant);
            (!alternates && !single).then(|| "`alpaca` holds only questions and answers in turn".to_owned())
        }
    }
}

/// The turns after a leading system prompt.
fn spoken(turns: &[Turn]) -> &[Turn] {
    match turns {
        [first, rest @ ..] if first.role == Role::System => rest,
        all => all,
    }
}

fn loses_flags(to: Target, example: &Example) -> bool {
    let Example::Messages(turns) = example else { return false };
    matches!(to, Target::Alpaca | Target::Text) && turns.iter().any(|turn| turn.train.is_some())
}

/// One row in the layout `to`.
fn render(to: Target, example: &Example) -> Value {
    let turns = match example {
        Example::Text(text) => return json!({ "text": text }),
        Example::Messages(turns) => turns,
        Example::Preference { prompt, chosen, rejected } => {
            return json!({"prompt": listed(prompt), "chosen": listed(chosen), "rejected": listed(rejected)});
        }
        Example::Rated { prompt, answer, desirable } if to == Target::Messages => {
            return json!({"prompt": listed(prompt), "completion": listed(answer), "label": desirable});
        }
        Example::Rated { .. } => &example.conversation().unwrap_or_default().into_owned(),
    };
    match to {
        Target::Messages => {
            let mut row = json!({ "messages": listed(turns) });
            // What is about the whole conversation stands beside it.
            let tools = peft_plan::tools_of(turns);
            if !tools.is_empty() {
                row["tools"] = tools.into();
            }
            if let Some(schema) = peft_plan::schema_of(turns) {
                row["json_schema"] = schema.clone();
            }
            row
        }
        Target::Sharegpt => {
            let name = |role| match role {
                Role::System => "system",
                Role::User => "human",
                Role::Assistant => "gpt",
                Role::Tool => "tool",
            };
            let list: Vec<Value> = turns.iter().map(|turn| object("from", name(turn.role), "value", turn)).collect();
            json!({ "conversations": list })
        }
        Target::Text => {
            let contents: Vec<Cow<'_, str>> = turns.iter().map(Turn::as_text).collect();
            json!({ "text": contents.join("\n\n") })
        }
        Target::Alpaca => alpaca(turns),
    }
}

/// Turns as `messages` writes them.
fn listed(turns: &[Turn]) -> Vec<Value> {
    turns.iter().map(message).collect()
}

/// A turn as it was read, with its calls.
fn message(turn: &Turn) -> Value {
    let mut fields = serde_json::to_value(turn).expect("a turn is plain data");
    if let Some(fields) = fields.as_object_mut() {
        fields.shift_remove("tools");
        fields.shift_remove("json_schema");
    }
    fields
}

fn object(role_key: &str, role: &str, content_key: &str, turn: &Turn) -> Value {
    let mut fields = Map::new();
    fields.insert(role_key.to_owned(), role.into());
    fields.insert(content_key.to_owned(), turn.as_text().into());
    if let Some(train) = turn.train {
        fields.insert("train".to_owned(), train.into());
    }
    Value::Object(fields)
}

fn alpaca(turns: &[Turn]) -> Value {
    let spoken = spoken(turns);
    let (history, last) = spoken.split_at(spoken.len().saturating_sub(2));
    let (question, answer) = match last {
        [question, answer] => (question.as_text(), answer.as_text()),
        [answer] => ("".into(), answer.as_text()),
        _ => ("".into(), "".into()),
    };
    let mut fields = Map::new();
    fields.insert("instruction".to_owned(), question.into());
    fields.insert("input".to_owned(), "".into());
    fields.insert("output".to_owned(), answer.into());
    if spoken.len() < turns.len() {
        fields.insert("system".to_owned(), turns[0].content.as_str().into());
    }
    if !history.is_empty() {
        let pairs: Vec<Value> = history.chunks(2).map(|pair| json!([pair[0].content, pair[1].content])).collect();
        fields.insert("history".to_owned(), Value::Array(pairs));
    }
    Value::Object(fields)
}
