//! The keyword arguments of a training script, where they are plain values.
//!
//! Scripts and notebooks of Unsloth and TRL are configurations in disguise: calls such as
//! `SFTConfig(learning_rate = 2e-4, ...)`. Only literals are read (text, numbers, `True`, `False`, `None`, lists
//! of them); nothing is run, and whatever is computed stays unknown.

use serde_json::{Map, Value};

/// Longest script that is looked at.
const LONGEST: usize = 4 << 20;

/// Every `name = literal` inside parentheses, and plain assignments that are used by name; the first one counts.
pub fn keyword_arguments(script: &str) -> Map<String, Value> {
    let script = &script[..script.floor_char_boundary(LONGEST)];
    let mut found = Map::new();
    let mut variables = Map::new();
    let mut scan = Scan { rest: script, depth: 0 };
    while let Some((name, depth, value)) = scan.next_assignment() {
        let value = match value {
            Parsed::Literal(value) => Some(value),
            Parsed::Name(other) => variables.get(&other).cloned(),
            Parsed::Unknown => None,
        };
        let Some(value) = value else { continue };
        if depth == 0 {
            variables.entry(name).or_insert(value);
        } else {
            found.entry(name).or_insert(value);
        }
    }
    found
}

/// What stands behind an equals sign.
enum Parsed {
    Literal(Value),
    Name(String),
    Unknown,
}

struct Scan<'a> {
    rest: &'a str,
    depth: usize,
}

impl Scan<'_> {
    /// The next `name = value`; leaves the rest behind the name's `=`.
    fn next_assignment(&mut self) -> Option<(String, usize, Parsed)> {
        loop {
            let c = self.rest.chars().next()?;
            match c {
                '#' => self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]),
                '"' | '\'' => self.rest = string(self.rest).map_or(&self.rest[1..], |(_, rest)| rest),
                '(' | '[' | '{' => {
                    self.depth += 1;
                    self.rest = &self.rest[1..];
                }
                ')' | ']' | '}' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.rest = &self.rest[1..];
                }
                c if c.is_alphabetic() || c == '_' => {
                    let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
                    let (name, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    let after = rest.trim_start_matches([' ', '\t']);
                    if let Some(value) = after.strip_prefix('=')
                        && !value.starts_with('=')
                    {
                        self.rest = value;
                        return Some((name.to_owned(), self.depth, parse(value)));
                    }
                }
                c => self.rest = &self.rest[c.len_utf8()..],
            }
        }
    }
}

fn parse(text: &str) -> Parsed {
    let text = text.trim_start();
    match literal(text, 0) {
        Some((value, rest)) if ends_here(rest) => Parsed::Literal(value),
        _ => {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            if end > 0 && ends_here(&text[end..]) { Parsed::Name(text[..end].to_owned()) } else { Parsed::Unknown }
        }
    }
}

/// Nothing follows that would make the literal part of something larger.
fn ends_here(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '\t']);
    rest.is_empty() || rest.starts_with([',', ')', ']', '}', '\n', '\r', '#', ';', '\\'])
}

/// Lists deeper than this are no settings.
const DEEPEST: usize = 4;

fn literal(text: &str, depth: usize) -> Option<(Value, &str)> {
    let text = text.trim_start();
    let first = text.chars().next()?;
    if first == '"' || first == '\'' {
        return string(text).map(|(s, rest)| (Value::String(s), rest));
    }
    if (first == '[' || first == '(') && depth < DEEPEST {
        let close = if first == '[' { ']' } else { ')' };
        let mut items = Vec::new();
        let mut rest = skip(&text[1..]);
        loop {
            if let Some(rest) = rest.strip_prefix(close) {
                return Some((Value::Array(items), rest));
            }
            let (value, after) = literal(rest, depth + 1)?;
            items.push(value);
            rest = skip(after);
            rest = match rest.strip_prefix(',') {
                Some(next) => skip(next),
                None if rest.starts_with(close) => rest,
                None => return None,
            };
        }
    }
    for (word, value) in [("True", Value::Bool(true)), ("False", Value::Bool(false)), ("None", Value::Null)] {
        if let Some(rest) = text.strip_prefix(word) {
            return Some((value, rest));
        }
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(text.len());
    let number = text[..end].replace('_', "");
    if let Ok(whole) = number.parse::<i64>() {
        return Some((Value::from(whole), &text[end..]));
    }
    let real: f64 = number.parse().ok().filter(|n: &f64| n.is_finite())?;
    Some((Value::from(real), &text[end..]))
}

/// White space and comments between the items of a list.
fn skip(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix('#') {
            Some(comment) => text = comment.find('\n').map_or("", |end| &comment[end..]),
            None => return text,
        }
    }
}

fn string(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next()?;
    let triple = match quote {
        '"' => "\"\"\"",
        _ => "'''",
    };
    if let Some(body) = text.strip_prefix(triple) {
        let end = body.find(triple)?;
        return Some((body[..end].to_owned(), &body[end + 3..]));
    }
    let mut out = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => {
                out.push(match c {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
                escaped = false;
            }
            '\\' => escaped = true,
            '\n' => return None,
            c if c == quote => return Some((out, &text[at + c.len_utf8()..])),
            c => out.push(c),
        }
    }
    None
}
