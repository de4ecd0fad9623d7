//! The card of a dataset: what is in it, where it is from, how it was made, how good it is (S1.29).

use super::sources;
use peft_data::{Inspection, Provenance, ReadOptions};
use peft_plan::{Example, Fault, Result, Turn};
use std::fmt::Write;
use std::path::Path;

/// Values of a field that are listed.
const LISTED: usize = 20;
/// Characters of a turn that are shown.
const SHOWN: usize = 300;
/// Rows that are shown.
const ROWS: usize = 2;
/// A language with a smaller share is not named.
const LEAST: f64 = 0.01;

/// What a person says of the dataset.
#[derive(Clone, Debug, Default)]
pub struct Words<'a> {
    /// What it is called.
    pub title: Option<&'a str>,
    /// Its licence.
    pub license: Option<&'a str>,
    /// What it is for.
    pub description: Option<&'a str>,
}

/// The card of the rows in `file`.
pub fn card(file: &Path, words: &Words<'_>) -> Result<String> {
    let inspection = peft_data::inspect(&sources::files_of(&[file.to_owned()])?, &ReadOptions::default())?;
    let said = peft_data::provenance(file)?;
    Ok(written(file, words, &inspection, &said))
}

fn written(file: &Path, words: &Words<'_>, inspection: &Inspection, said: &Provenance) -> String {
    let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let stem = file.file_stem().map_or_else(|| "Dataset".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let title = words.title.unwrap_or(&stem);
    let mut card = front(words, inspection, said);
    let mut paragraph = |text: &str| {
        card.push_str(text);
        card.push_str("\n\n");
    };
    paragraph(&format!("# {}", line(title)));
    if let Some(description) = words.description {
        paragraph(description.trim());
    }
    paragraph(&format!("## What is in it\n\n{}", contents(&name, inspection)));
    let fields = [
        ("register", "Registers"),
        ("dialect", "Dialects"),
        ("speaker", "Speakers"),
        ("task", "Tasks"),
        ("source", "Sources"),
        ("license", "Licences of the rows"),
        ("model", "Models that wrote rows"),
        ("tool", "Tools that made rows"),
    ];
    for (field, heading) in fields {
        if let Some(table) = distribution(said, field) {
            paragraph(&format!("## {heading}\n\n{table}"));
        }
    }
    paragraph(&format!("## How good it is\n\n{}", quality(inspection)));
    paragraph(&format!("## What rows look like\n\n{}", samples(inspection)));
    paragraph(&format!(
        "## How this card was made\n\nBy PEFT Studio {} from `{}`. Counts are of the file with the hash above.",
        env!("CARGO_PKG_VERSION"),
        line(&name)
    ));
    card.truncate(card.trim_end().len());
    card.push('\n');
    card
}

/// What the hub reads of a card.
fn front(words: &Words<'_>, inspection: &Inspection, said: &Provenance) -> String {
    let mut front = String::from("---\n");
    if let Some(license) = words.license.or_else(|| only_license(said)) {
        put(&mut front, &format!("license: {}", quoted(license)));
    }
    let languages: Vec<&str> =
        inspection.languages.iter().filter(|share| share.share >= LEAST).map(|share| share.language).collect();
    if !languages.is_empty() {
        put(&mut front, "language:");
        for language in languages {
            put(&mut front, &format!("  - {language}"));
        }
    }
    put(&mut front, "task_categories:\n  - text-generation");
    put(&mut front, &format!("size_categories:\n  - {}", size(inspection.rows)));
    put(&mut front, "tags:\n  - peft-studio\n---\n");
    front
}

fn put(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The licence of the rows, where all that name one name the same.
fn only_license(said: &Provenance) -> Option<&str> {
    match said.fields.get("license").map(Vec::as_slice) {
        Some([only]) if only.rows == said.rows => Some(&only.value),
        _ => None,
    }
}

fn size(rows: usize) -> &'static str {
    match rows {
        ..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        _ => "n>1M",
    }
}

fn contents(name: &str, inspection: &Inspection) -> String {
    let mut table = String::from("| | |\n| --- | --- |\n");
    let mut row = |what: &str, value: String| put(&mut table, &format!("| {what} | {value} |"));
    row("File", format!("`{}`", line(name)));
    if let Some(file) = inspection.files.first() {
        row("Layout", format!("{}, rows like {}", file.format, file.shape));
        row("Bytes", file.bytes.to_string());
        row("SHA-256", format!("`{}`", file.sha256));
        row("Columns", line(&file.columns.join(", ")));
    }
    row("Rows", inspection.rows.to_string());
    row("Records left out", inspection.rejected.to_string());
    let lengths = inspection.lengths;
    row(
        "Characters of a row",
        format!("{} in the middle, 19 of 20 below {}, at most {}", lengths.median, lengths.p95, lengths.longest),
    );
    let share = |one: &peft_data::LanguageShare| format!("{} {:.0} %", one.language, 100.0 * one.share);
    // Single sentences are easily mistaken for another language.
    let languages: Vec<String> = inspection.languages.iter().filter(|one| one.share >= 0.005).map(share).collect();
    row("Languages", if languages.is_empty() { "could not be told".to_owned() } else { languages.join(", ") });
    table
}

fn distribution(said: &Provenance, field: &str) -> Option<String> {
    let values = said.fields.get(field)?;
    let mut table = String::from("| | rows | share |\n| --- | ---: | ---: |\n");
    for counted in values.iter().take(LISTED) {
        let share = 100.0 * counted.rows as f64 / said.rows.max(1) as f64;
        put(&mut table, &format!("| {} | {} | {share:.1} % |", line(&counted.value), counted.rows));
    }
    let named: usize = values.iter().map(|counted| counted.rows).sum();
    if values.len() > LISTED {
        put(
            &mut table,
            &format!(
                "| {} others | {} | |",
                values.len() - LISTED,
                values[LISTED..].iter().map(|c| c.rows).sum::<usize>()
            ),
        );
    }
    if named < said.rows {
        put(&mut table, &format!("| not said | {} | |", said.rows - named));
    }
    Some(table)
}

fn quality(inspection: &Inspection) -> String {
    let mut text = format!("Quality {} of 100.\n", inspection.score);
    if !inspection.issues.is_empty() {
        text.push('\n');
    }
    for issue in &inspection.issues {
        // Writing to a `String` cannot fail.
        writeln!(text, "- {}", line(&issue.message)).ok();
    }
    text
}

fn samples(inspection: &Inspection) -> String {
    let mut text = String::new();
    for row in inspection.preview.iter().take(ROWS) {
        match &row.example {
            Example::Text(plain) => put(&mut text, &format!("> {}\n", short(plain))),
            other => {
                for turn in other.parts().into_iter().flatten() {
                    put(&mut text, &turn_line(turn));
                }
                text.push('\n');
            }
        }
    }
    text
}

fn turn_line(turn: &Turn) -> String {
    format!("> **{}** {}  ", turn.role.as_str(), short(&turn.as_text()))
}

/// The beginning of a text on one line, without what Markdown would take for something else.
fn short(text: &str) -> String {
    let whole = line(text);
    match whole.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// Text on one line of a table.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|").replace('<', "&lt;")
}

/// As YAML reads it, whatever it holds.
fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// Write the card of `file` to `out`.
pub fn write(file: &Path, out: &Path, words: &Words<'_>) -> Result<()> {
    if out.canonicalize().ok().is_some_and(|path| file.canonicalize().is_ok_and(|rows| rows == path)) {
        return Err(Fault::new("PS-CFG-001", "The card would overwrite the rows; name another file"));
    }
    let text = card(file, words)?;
    durable::write_file(out, text.as_bytes()).map_err(|error| Fault::io("write", out, error)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_29_a_card_says_what_is_in_a_dataset_and_where_it_is_from() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("québec.jsonl");
        let row = |n: usize| {
            let register = if n.is_multiple_of(4) { "familier" } else { "soutenu" };
            let row = serde_json::json!({
                "instruction": format!("What is the number {n} and which of the words are it?"),
                "output": format!("It is the number {n}, and that is what it is."),
                "register": register, "dialect": "québécois | joual", "license": "CC BY 4.0: yes", "source": "a.md",
            });
            format!("{row}\n")
        };
        let rows: String = (0..20).map(row).collect();
        std::fs::write(&path, rows).expect("written");
        let out = home.path().join("README.md");
        write(&path, &out, &Words { description: Some("For tests."), ..Words::default() }).expect("written");
        let card = std::fs::read_to_string(&out).expect("there");
        for part in [
            "---\nlicense: \"CC BY 4.0: yes\"\nlanguage:\n  - en\n",
            "size_categories:\n  - n<1K",
            "# québec\n\nFor tests.",
            "| soutenu | 15 | 75.0 % |",
            "| québécois \\| joual | 20 | 100.0 % |",
            "| Rows | 20 |",
            "## Sources",
            concat!("By PEFT Studio ", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(card.contains(part), "{part}\n\n{card}");
        }
        assert_eq!(write(&path, &path, &Words::default()).expect_err("refused").code, "PS-CFG-001");
    }
}
