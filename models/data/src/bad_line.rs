//! A record that cannot be read: where, why, and the place in it, in words a person can act on.
//!
//! Also the one repair that is made without asking: half of a `\ud83d\ude00` pair, which some
//! exporters leave when they cut text, becomes the replacement character.

use peft_plan::Fault;
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;

/// Characters of a line shown around the fault.
const WINDOW: usize = 60;

/// Characters of a record kept to recognise it by.
const EXCERPT: usize = 200;

/// Where and why a record is broken.
#[derive(Clone, Debug)]
pub(crate) struct BadLine {
    /// Line in the file, from 1.
    pub(crate) line: usize,
    /// Character in the line, from 1, where it is known.
    pub(crate) column: Option<usize>,
    /// What is wrong, without the place.
    pub(crate) reason: String,
    /// The beginning of the line.
    pub(crate) excerpt: String,
    /// The piece around `column` with a caret below it.
    pub(crate) picture: Option<String>,
}

impl BadLine {
    /// A bad line with no known column.
    pub(crate) fn whole(line: usize, reason: impl Into<String>, text: &str) -> Self {
        Self { line, column: None, reason: reason.into(), excerpt: excerpt(text), picture: None }
    }

    /// What `serde_json` said about `text`, a single line.
    pub(crate) fn json(line: usize, text: &str, error: &serde_json::Error) -> Self {
        Self::json_at(line, text, byte_of_column(text, error.column()), &plain(error))
    }

    /// Broken JSON at byte `at` of the line `text`.
    pub(crate) fn json_at(line: usize, text: &str, at: usize, message: &str) -> Self {
        let column = text[..at].chars().count() + 1;
        let reason = match likely_cause(text) {
            Some(cause) => format!("not valid JSON: {message}; {cause}"),
            None => format!("not valid JSON: {message}"),
        };
        let picture = Some(picture(text, column));
        Self { line, column: Some(column), reason, excerpt: excerpt(text), picture }
    }

    /// The fault that stops reading (PS-DATA-002).
    pub(crate) fn fault(&self, path: &Path) -> Fault {
        let place = match self.column {
            Some(column) => format!("line {}, column {column}", self.line),
            None => format!("line {}", self.line),
        };
        let shown = match &self.picture {
            Some(picture) => picture.clone(),
            None => format!("    {}", self.excerpt),
        };
        let detail = format!("`{}`, {place}: {}.\n{shown}", path.display(), self.reason);
        let command = format!("peft-studio data convert {} --to messages --out clean.jsonl", quoted(path));
        Fault::new("PS-DATA-002", detail)
            .action("Leave out the bad lines (they are kept aside)", Some(command))
            .action(format!("Open the file at line {} and repair it", self.line), None)
    }
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/\\._-:".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The beginning of `text` on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(EXCERPT).map(visible).collect();
    if text.len() > short.len() && text.chars().nth(EXCERPT).is_some() {
        short.push('…');
    }
    short
}

/// `serde_json`'s message without the place, which is said elsewhere.
pub(crate) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    if error.is_eof() {
        return "it ends too early, the rest is missing".to_owned();
    }
    message.replace("while parsing a ", "in a ").replace("while parsing an ", "in an ")
}

/// Read one JSON text; a lone surrogate escape is replaced and counted.
pub(crate) fn parse(text: &str, repaired: &mut usize) -> Result<Value, serde_json::Error> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) if text.contains("\\u") => match without_lone_surrogates(text) {
            Cow::Owned(mended) => {
                let value = serde_json::from_str(&mended).map_err(|_| error)?;
                *repaired += 1;
                Ok(value)
            }
            Cow::Borrowed(_) => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// `text` with every `\udXXX` that is half of a pair replaced by `\ufffd`.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        let escape = bytes.get(at..at + 6)?;
        let digits = std::str::from_utf8(escape.strip_prefix(b"\\u")?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut mended = String::new();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let (width, lone) = match unit(at) {
            Some(0xD800..=0xDBFF) => match unit(at + 6) {
                Some(0xDC00..=0xDFFF) => (12, false),
                _ => (6, true),
            },
            Some(0xDC00..=0xDFFF) => (6, true),
            // Any other escape: the backslash and the character it protects.
            _ => (2, false),
        };
        if lone {
            mended.push_str(&text[copied..at]);
            mended.push_str("\\ufffd");
            copied = at + width;
        }
        at += width;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(&text[copied..]);
    Cow::Owned(mended)
}

/// The mistakes exporters and hand editing make most.
fn likely_cause(text: &str) -> Option<&'static str> {
    let trimmed = text.trim();
    if trimmed.contains('\0') {
        return Some("it holds zero bytes, the file was probably not written to its end");
    }
    if trimmed.ends_with("},") {
        return Some("there is a comma after the closing brace");
    }
    if trimmed.contains(['“', '”']) && !trimmed.contains("\":") {
        return Some("it uses typographic quotation marks instead of \"");
    }
    if trimmed.starts_with("{'") {
        return Some("it looks like Python, JSON needs \" instead of '");
    }
    let python = [": None", ": True", ": False", ": NaN", ": Infinity", ": -Infinity", ":NaN"];
    python
        .iter()
        .any(|word| trimmed.contains(word))
        .then_some("it looks like Python, JSON has null, true and false and no NaN")
}

/// `serde_json` counts bytes from 1; at the end of a text the column is that of the last byte.
fn byte_of_column(text: &str, column: usize) -> usize {
    let mut at = column.saturating_sub(1).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn picture(text: &str, column: usize) -> String {
    let skipped = column.saturating_sub(WINDOW / 2 + 1);
    let piece: String = text.chars().skip(skipped).take(WINDOW).map(visible).collect();
    let caret = " ".repeat(column - 1 - skipped);
    format!("    {piece}\n    {caret}^")
}

/// Characters that would break a one-line picture.
fn visible(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> BadLine {
        let error = parse(text, &mut 0).expect_err("broken");
        BadLine::json(148, text, &error)
    }

    #[test]
    fn the_caret_stands_below_the_fault() {
        let bad = broken(r#"{"frage": "Grüße" "antwort": "b"}"#);
        assert_eq!((bad.line, bad.column), (148, Some(19)));
        let picture = bad.picture.clone().expect("known column");
        let (piece, caret) = picture.split_once('\n').expect("two lines");
        let below = piece.chars().nth(caret.chars().count() - 1);
        assert_eq!(below, Some('"'));
        let fault = bad.fault(Path::new("x.jsonl"));
        assert_eq!(fault.code, "PS-DATA-002");
        assert!(fault.detail.contains("line 148, column 19"), "{}", fault.detail);
    }

    #[test]
    fn long_lines_are_shown_around_the_fault_only() {
        let text = format!("{{\"a\": \"{}\" oops}}", "x".repeat(100_000));
        let bad = broken(&text);
        assert!(bad.picture.expect("known column").len() < 200);
        assert!(bad.excerpt.chars().count() <= EXCERPT + 1);
    }

    #[test]
    fn the_usual_mistakes_are_named() {
        for (text, word) in [
            ("{\"a\": 1},", "comma"),
            ("{'a': 'b'}", "Python"),
            ("{\"a\": NaN}", "NaN"),
            ("{“a”: “b”}", "typographic"),
            ("{\"a\": \"b\0", "zero bytes"),
            ("{\"a\": \"b", "too early"),
        ] {
            assert!(broken(text).reason.contains(word), "{text}: {}", broken(text).reason);
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_counted() {
        let mut repaired = 0;
        let value = parse(r#"{"a": "\ud83d\ude00 \ud83d x \ude00 \\ud83d"}"#, &mut repaired);
        assert_eq!(value.expect("repaired")["a"], "😀 \u{fffd} x \u{fffd} \\ud83d");
        assert_eq!(repaired, 1);
        assert!(parse(r#"{"a": "\ud83d" oops}"#, &mut repaired).is_err());
    }

    #[test]
    fn nesting_without_end_is_a_bad_line_and_not_a_crash() {
        let text = "[".repeat(1_000_000);
        assert!(parse(&text, &mut 0).is_err());
    }
}
