//! `data inspect` and `data convert`.

use super::args::{ConvertArgs, DataCommand, InspectArgs};
use super::context::Context;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::setup::render_options;
use crate::jobs::{open_model, sources};
use peft_data::{BadLine, ConvertOptions, ConvertReport, FileReport, Inspection, Issue, ReadOptions, Severity, Target};
use peft_plan::{Example, Fault, Row, TrainOn, Turn};
use peft_text::Mark;
use serde::Serialize;
use serde_json::json;

/// Which rows are held out: the same as a run would, so that a split file and a split run agree.
const SEED: u64 = 42;
/// Lines of a rendered row that a person is shown.
const SHOWN_LINES: usize = 30;
/// Characters of a turn or an example of an issue that a person is shown.
const SHOWN: usize = 160;

pub(super) fn run(context: &Context, command: &DataCommand) -> Result<u8, Fault> {
    match command {
        DataCommand::Inspect(args) => inspect(context, args)?,
        DataCommand::Convert(args) => convert(context, args)?,
        DataCommand::Chunk(args) => super::data_chunk::run(context, args)?,
        DataCommand::Documents(args) => super::data_documents::run(context, args)?,
        DataCommand::Embed(args) => return super::data_embed::run(context, args),
        DataCommand::Search(args) => super::data_search::search(context, args)?,
        DataCommand::Score(args) => super::data_quality::score(context, args)?,
        DataCommand::Contamination(args) => super::data_quality::contamination(context, args)?,
        DataCommand::Versions(command) => super::data_quality::versions(context, command)?,
        DataCommand::Card(args) => super::data_quality::card(context, args)?,
        DataCommand::ReadFiles => crate::jobs::document_reader::serve()?,
        DataCommand::Download { id, file } => return super::models::fetch_data(context, id, file),
        DataCommand::Helpers(args) => super::teaching::helpers(context, args)?,
        DataCommand::Generate(args) => return super::teaching::generate(context, args),
        DataCommand::Review(args) => super::review::run(context, args)?,
        DataCommand::Label(args) => return super::teaching::label(context, args),
        DataCommand::Persona(args) => return super::persona::run(context, args),
        DataCommand::Reference { out } => super::persona::reference(context, out)?,
    }
    Ok(0)
}

/// One row as it will be read.
#[derive(Debug, Default, Serialize)]
struct Preview {
    messages: Vec<Turn>,
    /// Plain text, where a row is no conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Of a row that compares: the better answer, the worse one, or the only one with its label. `messages` is then
    /// what they answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<Vec<Turn>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<Vec<Turn>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Vec<Turn>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    desirable: Option<bool>,
    tokens: Option<usize>,
    trained_tokens: Option<usize>,
    /// The row as the model sees it, in pieces that are learnt or only read (B6).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rendered: Vec<Piece>,
}

/// A piece of a rendered row.
#[derive(Debug, Serialize)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) mark: Mark,
}

/// A row as a model sees it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) tokens: usize,
    pub(crate) trained: usize,
    pub(crate) pieces: Vec<Piece>,
}

fn inspect(context: &Context, args: &InspectArgs) -> Result<(), Fault> {
    let InspectArgs { files, model, columns, format } = args;
    let options =
        ReadOptions { format: format.clone(), columns: columns.iter().cloned().collect(), ..ReadOptions::default() };
    let inspection = peft_data::inspect(&sources::files_of(files)?, &options)?;
    let seen = match model {
        Some(model) => seen(model, &inspection.preview)?,
        None => inspection.preview.iter().map(|_| None).collect(),
    };
    let preview: Vec<Preview> = inspection.preview.iter().zip(seen).map(|(row, seen)| preview(row, seen)).collect();
    if context.json {
        let mut document = json!(inspection);
        document["preview"] = json!(preview);
        output::print_json(&document);
    } else {
        output::line(&printable(&for_people(&inspection, &preview)));
    }
    Ok(())
}

fn preview(row: &Row, seen: Option<Seen>) -> Preview {
    let mut shown = Preview {
        tokens: seen.as_ref().map(|seen| seen.tokens),
        trained_tokens: seen.as_ref().map(|seen| seen.trained),
        rendered: seen.map(|seen| seen.pieces).unwrap_or_default(),
        ..Preview::default()
    };
    match &row.example {
        Example::Messages(turns) => shown.messages.clone_from(turns),
        Example::Text(text) => shown.text = Some(text.clone()),
        Example::Preference { prompt, chosen, rejected } => {
            shown.messages.clone_from(prompt);
            shown.chosen = Some(chosen.clone());
            shown.rejected = Some(rejected.clone());
        }
        Example::Rated { prompt, answer, desirable } => {
            shown.messages.clone_from(prompt);
            shown.answer = Some(answer.clone());
            shown.desirable = Some(*desirable);
        }
    }
    shown
}

/// Each row as training renders it. A row that does not fit the model's layout has nothing, and a note says why.
pub(crate) fn seen(model: &str, rows: &[Row]) -> Result<Vec<Option<Seen>>, Fault> {
    let base = open_model(model)?;
    let options = render_options(&base, None, TrainOn::Assistant, None)?;
    let one = |example: &Example| {
        // The first token has nothing before it to be predicted from.
        let trained = |trained: &[bool]| trained.iter().skip(1).filter(|trained| **trained).count();
        base.tokenizer().render(example, &options).map(|rendered| (rendered.ids.len(), trained(&rendered.trained)))
    };
    let counts = rows.iter().map(|row| match counted(&row.example, &one) {
        Ok((tokens, trained)) => {
            let mut pieces: Vec<Piece> = Vec::new();
            // Of two answers each is rendered for itself: there is no one text to show.
            if let Ok(rendered) = base.tokenizer().render(&row.example, &options) {
                for (text, mark) in rendered.pieces() {
                    match pieces.last_mut() {
                        Some(last) if last.mark == mark => last.text.push_str(&text),
                        _ => pieces.push(Piece { text, mark }),
                    }
                }
            }
            Some(Seen { tokens, trained, pieces })
        }
        Err(fault) => {
            note(&printable(&format!("Line {}: {}", row.line, fault.detail)));
            None
        }
    });
    Ok(counts.collect())
}

/// All and trained tokens.
type Counts = Result<(usize, usize), Fault>;

/// Tokens of a row; of a pair those of both conversations, of which only the answers are learnt.
fn counted(example: &Example, one: &dyn Fn(&Example) -> Counts) -> Counts {
    let Example::Preference { prompt, chosen, rejected } = example else { return one(example) };
    let mut total = (0, 0);
    for answer in [chosen, rejected] {
        let (all, trained) = one(&Example::Messages([prompt.as_slice(), answer].concat()))?;
        total = (total.0 + all, total.1 + trained);
    }
    Ok(total)
}

fn for_people(inspection: &Inspection, preview: &[Preview]) -> String {
    let Inspection { files, rows, rejected, score, issues, .. } = inspection;
    let mut lines: Vec<String> = files.iter().flat_map(described).collect();
    let (usable, left_out) = (count(*rows as u64), count(*rejected as u64));
    lines.extend([String::new(), format!("Quality {score} of 100: {usable} usable rows, {left_out} left out")]);
    lines.extend(issues.iter().flat_map(|issue| told(issue, files)));
    if issues.is_empty() {
        lines.push("Nothing to complain about.".to_owned());
    }
    let Inspection { lengths, languages, .. } = inspection;
    lines.push(format!(
        "Characters of a row: {} in the middle, 19 of 20 below {}, at most {}",
        count(lengths.median),
        count(lengths.p95),
        count(lengths.longest)
    ));
    if !languages.is_empty() {
        let share = |l: &peft_data::LanguageShare| format!("{} {:.0}%", l.language, 100.0 * l.share);
        lines.push(format!("Languages: {}", languages.iter().take(5).map(share).collect::<Vec<_>>().join(", ")));
    }
    lines.extend([String::new(), "How the first rows are read".to_owned()]);
    for (index, row) in preview.iter().enumerate() {
        let counts = match (row.tokens, row.trained_tokens) {
            (Some(tokens), Some(trained)) => format!(" ({tokens} tokens, {trained} of them learned)"),
            _ => String::new(),
        };
        lines.extend([String::new(), format!("  {}.{counts}", index + 1)]);
        let turn = |turn: &Turn| format!("    {:<9}  {}", turn.role.as_str(), shortened(&turn.as_text()));
        lines.extend(row.messages.iter().map(turn));
        let label = match row.desirable {
            Some(true) => "wanted",
            _ => "unwanted",
        };
        for (name, answer) in [("chosen", &row.chosen), ("rejected", &row.rejected), (label, &row.answer)] {
            let turns = answer.iter().flatten();
            lines.extend(turns.map(|turn| format!("    {name:<9}  {}", shortened(&turn.content))));
        }
        lines.extend(row.text.iter().map(|plain| format!("    text       {}", shortened(plain))));
        if !row.rendered.is_empty() {
            let marked = |piece: &Piece| match piece.mark {
                Mark::Trained | Mark::Stop => format!("⟦{}⟧", piece.text),
                Mark::Ignored | Mark::Truncated => piece.text.clone(),
            };
            let text: String = row.rendered.iter().map(marked).collect();
            lines.push("    as the model sees it; learned is what stands in ⟦⟧".to_owned());
            lines.extend(text.replace("⟧⟦", "").lines().take(SHOWN_LINES).map(|line| format!("    | {line}")));
        }
    }
    lines.join("\n")
}

fn described(file: &FileReport) -> Vec<String> {
    let FileReport { path, format, shape, confidence, rows, columns, encoding, notes, .. } = file;
    let (certainty, rows) = (100.0 * confidence, count(*rows as u64));
    let mut lines = vec![
        path.display().to_string(),
        format!("  {format} with rows like {shape} ({certainty:.0}% certain), {rows} rows, {encoding}"),
    ];
    if !columns.is_empty() {
        lines.push(format!("  columns: {}", columns.join(", ")));
    }
    lines.extend(notes.iter().map(|remark| format!("  note: {remark}")));
    lines
}

fn told(issue: &Issue, files: &[FileReport]) -> Vec<String> {
    let Issue { severity, message, examples, fix, .. } = issue;
    let label = match severity {
        Severity::Error => "Problem",
        Severity::Warning => "Warning",
        Severity::Info => "Note",
    };
    let mut lines = vec![String::new(), format!("{label}: {message}")];
    for example in examples {
        let file = match files.get(example.file) {
            Some(file) if files.len() > 1 => format!("{}, ", file.path.display()),
            _ => String::new(),
        };
        lines.push(format!("  {file}line {}: {}", example.line, shortened(&example.text)));
    }
    lines.push(format!("  What helps: {fix}"));
    lines
}

/// The beginning of a text, on one line.
fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(SHOWN).collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn convert(context: &Context, args: &ConvertArgs) -> Result<(), Fault> {
    let ConvertArgs {
        files,
        to,
        out,
        validation_split,
        deduplicate,
        deduplicate_near,
        repair,
        redact,
        max_characters,
        min_characters,
        languages,
        drop,
        min_score,
        evaluation,
        quality_filter,
        include_system,
        columns,
        format,
    } = args;
    let options = ReadOptions {
        format: format.clone(),
        columns: columns.iter().cloned().collect(),
        system_prompt: None,
        // What cannot be read is kept aside, and counted in the report.
        on_bad_line: BadLine::Skip,
    };
    let dataset = peft_data::read(&sources::files_of(files)?, &options)?;
    let evaluation = match evaluation.as_slice() {
        [] => Vec::new(),
        files => {
            let options = ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() };
            peft_data::read(&sources::files_of(files)?, &options)?.rows
        }
    };
    let options = ConvertOptions {
        deduplicate: *deduplicate,
        deduplicate_near: *deduplicate_near,
        repair: *repair,
        redact: *redact,
        max_characters: *max_characters,
        min_characters: *min_characters,
        languages: languages.clone(),
        drop: drop.clone(),
        min_score: *min_score,
        evaluation,
        quality_filter: *quality_filter,
        include_system: include_system.clone(),
        validation_split: validation_split.unwrap_or(0.0),
        seed: SEED,
    };
    let target: Target = to.parse()?;
    let report = peft_data::convert(&dataset, target, out, &options)?;
    if context.json {
        output::print_json(&report);
    } else {
        output::line(&printable(&written(&report)));
    }
    Ok(())
}

fn written(report: &ConvertReport) -> String {
    let ConvertReport {
        out,
        rows,
        validation,
        validation_rows,
        rejected,
        rejected_rows,
        duplicates,
        filtered,
        repaired,
        redacted,
        notes,
        ..
    } = report;
    let mut lines = vec![format!("{} rows in {}", count(*rows as u64), out.display())];
    if let Some(path) = validation {
        lines.push(format!("{} rows held out in {}", count(*validation_rows as u64), path.display()));
    }
    if let Some(path) = rejected {
        lines.push(format!(
            "{} rows left out in {} ({duplicates} copies, {filtered} filtered)",
            count(*rejected_rows as u64),
            path.display()
        ));
    }
    for (count, what) in [(*repaired, "garbled characters put right"), (*redacted, "placeholders for private data")] {
        if count > 0 {
            lines.push(format!("{count} rows with {what}"));
        }
    }
    lines.extend(notes.iter().map(|remark| format!("Note: {remark}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_characters_and_stay_on_one_line() {
        assert_eq!(shortened("  a\n b\t\tc "), "a b c");
        assert_eq!(shortened(""), "");
        let long = shortened(&"ä ".repeat(500));
        assert_eq!(long.chars().count(), SHOWN + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn plain_text_has_no_messages_but_the_field_is_there() {
        let row = Row { file: 0, line: 1, example: Example::Text("once".to_owned()) };
        let value = json!(preview(&row, None));
        assert_eq!(value, json!({"messages": [], "text": "once", "tokens": null, "trained_tokens": null}));
    }
}
