//! Which container a file is, from what it holds and only then from its name (S4.4.2).

use crate::columns::canonical;
use crate::delimited::Dialect;
use crate::shape;
use serde::de::IgnoredAny;
use std::path::Path;

/// Lines looked at to tell JSONL from a JSON document.
const SAMPLED_LINES: usize = 40;

/// How records are packed into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// One JSON value on each line.
    JsonLines,
    /// One JSON value, or several that span lines.
    Json,
    /// A table with a delimiter.
    Delimited(Dialect),
    /// Paragraphs.
    Prose { markdown: bool },
}

impl Container {
    /// The name in reports and in `dataset.format`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Json => "json",
            Self::Delimited(dialect) if dialect.delimiter == b'\t' => "tsv",
            Self::Delimited(_) => "csv",
            Self::Prose { markdown: true } => "markdown",
            Self::Prose { markdown: false } => "text",
        }
    }

    /// The container a user asks for by name.
    pub(crate) fn named(name: &str, sample: &str, whole: bool) -> Option<Self> {
        match name {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Delimited(Dialect::sniff(sample, whole, None))),
            "tsv" => Some(Self::Delimited(Dialect::sniff(sample, whole, Some(b'\t')))),
            "txt" => Some(Self::Prose { markdown: false }),
            "markdown" | "md" => Some(Self::Prose { markdown: true }),
            _ => None,
        }
    }
}

/// The names [`Container::named`] knows.
pub(crate) const NAMES: &[&str] = &["jsonl", "ndjson", "json", "csv", "tsv", "txt", "markdown", "md"];

/// Look at the first piece of a file; `whole` says that it is all there is.
pub(crate) fn sniff(sample: &str, whole: bool, path: &Path) -> Container {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let start = sample.trim_start();
    let brackets = start.starts_with(['{', '[']) && !is_markdown_link(start);
    if brackets && let Some(container) = json(start, whole, &extension) {
        return container;
    }
    match extension.as_str() {
        "csv" => return Container::Delimited(Dialect::sniff(sample, whole, None)),
        "tsv" | "tab" => return Container::Delimited(Dialect::sniff(sample, whole, Some(b'\t'))),
        _ => {}
    }
    if let Some(dialect) = Dialect::sniff_strict(sample, whole) {
        let header: Vec<String> = dialect.header_names(sample).iter().map(|n| canonical(n)).collect();
        if shape::is_known_header(&header) {
            return Container::Delimited(dialect);
        }
    }
    match extension.as_str() {
        "jsonl" | "ndjson" => Container::JsonLines,
        "json" => Container::Json,
        "md" | "markdown" | "mdx" => Container::Prose { markdown: true },
        _ => Container::Prose { markdown: false },
    }
}

/// `[text](address)` and `[ ] task` begin like JSON arrays.
fn is_markdown_link(start: &str) -> bool {
    let line = start.lines().next().unwrap_or_default();
    line.starts_with('[') && (line.contains("](") || line.starts_with("[ ]") || line.starts_with("[x]"))
}

/// JSON, JSONL, or neither, for a text that begins with a bracket.
fn json(start: &str, whole: bool, extension: &str) -> Option<Container> {
    let mut values = serde_json::Deserializer::from_str(start).into_iter::<IgnoredAny>();
    let first = values.next();
    if let Some(Ok(_)) = first {
        let end = values.byte_offset();
        if start[..end].contains('\n') {
            return Some(Container::Json);
        }
        let rest = start[end..].trim_start_matches([' ', '\t', '\r']);
        let alone = rest.trim().is_empty() && whole;
        let is_json_name = matches!(extension, "json" | "jsonl" | "ndjson");
        return match rest.as_bytes().first() {
            _ if alone && extension != "jsonl" && extension != "ndjson" => Some(Container::Json),
            // `{...}{...}` is a stream of values.
            Some(b'{' | b'[') => Some(Container::Json),
            // `{...},` is a JSONL with a comma too many.
            None | Some(b'\n' | b',') => Some(Container::JsonLines),
            // `[1] Introduction` is a text, unless its name says otherwise.
            Some(_) => is_json_name.then_some(Container::JsonLines),
        };
    }
    let mut lines: Vec<&str> = start.lines().take(SAMPLED_LINES).collect();
    if !whole && lines.len() > 1 && lines.len() < SAMPLED_LINES {
        lines.pop();
    }
    let lines: Vec<&str> = lines.into_iter().map(str::trim).filter(|line| !line.is_empty()).collect();
    let opens = lines.iter().filter(|line| line.starts_with('{')).count();
    let complete =
        lines.iter().filter(|line| line.starts_with('{') && serde_json::from_str::<IgnoredAny>(line).is_ok());
    let complete = complete.count();
    let cut = matches!(&first, Some(Err(error)) if error.is_eof()) && !whole;
    let mentions_keys = start.contains("\":") || start.contains("\" :");
    match extension {
        "jsonl" | "ndjson" if lines.first().is_some_and(|line| line.len() > 1) => Some(Container::JsonLines),
        "jsonl" | "ndjson" | "json" if start.starts_with('[') || cut => Some(Container::Json),
        _ if complete > 0 && opens * 2 > lines.len() => Some(Container::JsonLines),
        "json" | "jsonl" | "ndjson" => Some(Container::Json),
        _ if cut || mentions_keys => Some(Container::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(sample: &str, path: &str) -> &'static str {
        sniff(sample, true, Path::new(path)).name()
    }

    #[test]
    fn contents_decide_before_the_name_does() {
        let lines = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
        for path in ["a.jsonl", "a.json", "a.txt", "a.csv", "a"] {
            assert_eq!(name_of(lines, path), "jsonl", "{path}");
        }
        let pretty = "[\n  {\n    \"text\": \"a\"\n  }\n]\n";
        for path in ["a.jsonl", "a.json", "a.txt", "a"] {
            assert_eq!(name_of(pretty, path), "json", "{path}");
        }
        assert_eq!(name_of("question;answer\na;b\nc;d\n", "a.txt"), "csv");
        assert_eq!(name_of("question\tanswer\na\tb\n", "a.dat"), "tsv");
        assert_eq!(name_of("Once upon a time, there was, well,\na king, a queen,\n", "a.txt"), "text");
        assert_eq!(name_of("# Title\n\nText\n", "a.md"), "markdown");
        assert_eq!(name_of("[link](http://a.b)\n", "a.md"), "markdown");
        assert_eq!(name_of("[1] Introduction\n\nText\n", "a.txt"), "text");
        assert_eq!(name_of("{curly} words\n\nText\n", "a.txt"), "text");
    }

    #[test]
    fn broken_first_lines_do_not_change_the_container() {
        assert_eq!(name_of("{\"a\": oops}\n{\"a\": 1}\n", "a.jsonl"), "jsonl");
        assert_eq!(name_of("{\"a\": oops}\n{\"a\": 1}\n", "a.json"), "jsonl");
        assert_eq!(name_of("{\"a\": 1,\n", "a.jsonl"), "jsonl");
        assert_eq!(name_of("[{\"a\": 1},\n {\"a\": ", "a.json"), "json");
        assert_eq!(name_of("{\"a\": 1},\n{\"a\": 2},\n", "a.jsonl"), "jsonl");
    }

    #[test]
    fn a_cut_prefix_of_a_long_document_is_json() {
        let sample = format!("{{\n \"data\": [\n  {{\"text\": \"{}", "a".repeat(100));
        assert_eq!(sniff(&sample, false, Path::new("a.json")).name(), "json");
        let sample = format!("[{{\"text\": \"{}", "a".repeat(100));
        assert_eq!(sniff(&sample, false, Path::new("a.json")).name(), "json");
        let sample = format!("{{\"text\": \"{}", "a".repeat(100));
        assert_eq!(sniff(&sample, false, Path::new("a.jsonl")).name(), "jsonl");
    }
}
