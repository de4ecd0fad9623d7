//! Facts, journals and notes: somebody asks about them, and the person tells.
//!
//! Without a helper model the questions are plain and come from headings, dates and categories; the words of the answers
//! are the person's own in any case.

use super::exchange;
use crate::key;
use peft_plan::Turn;
use serde_json::{Map, Value};

/// Longest answer, characters; a longer entry is told in parts.
const LONGEST: usize = 2000;

/// Questions about something that has a name.
const ABOUT: [&str; 4] =
    ["Tell me about {}.", "What can you tell me about {}?", "What do you have to say about {}?", "How was it with {}?"];
/// Questions about something that has none.
const OPEN: [&str; 4] = [
    "Tell me something about yourself.",
    "What is on your mind?",
    "What do you remember?",
    "What should I know about you?",
];

/// Entries of a text: a heading (or a date alone on its line) begins one, and so does an empty line after a list of facts.
pub(super) fn of_text(text: &str) -> Vec<Vec<Turn>> {
    let (mut talks, mut heading, mut body) = (Vec::new(), String::new(), String::new());
    for line in text.lines() {
        if let Some(new) = heading_of(line) {
            tell(&heading, &body, &mut talks);
            (heading, body) = (new, String::new());
        } else {
            body.push_str(line.trim_end());
            body.push('\n');
        }
    }
    tell(&heading, &body, &mut talks);
    talks
}

/// Entries of a list of objects, of texts, or of lists by their category.
pub(super) fn of_json(document: &Value) -> Vec<Vec<Turn>> {
    let mut talks = Vec::new();
    collect("", document, 0, &mut talks);
    talks
}

fn collect(name: &str, value: &Value, depth: usize, talks: &mut Vec<Vec<Turn>>) {
    match value {
        Value::String(text) => tell(name, text, talks),
        Value::Array(list) if depth < 8 => list.iter().for_each(|item| collect(name, item, depth + 1, talks)),
        Value::Object(fields) if depth < 8 => entry(name, fields, depth, talks),
        _ => {}
    }
}

fn entry(name: &str, fields: &Map<String, Value>, depth: usize, talks: &mut Vec<Vec<Turn>>) {
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| fields.get(*name).and_then(Value::as_str));
        found.map(str::trim).filter(|text| !text.is_empty())
    };
    let answer = text(&["answer", "output", "response", "assistant"]);
    if let (Some(question), Some(answer)) = (text(&["question", "instruction", "prompt", "user"]), answer) {
        talks.push(exchange(question, answer));
        return;
    }
    if let Some(body) = text(&["content", "text", "memory", "fact", "entry", "body", "value"]) {
        let heading = text(&["title", "topic", "category", "type", "date", "created_at", "key"]).unwrap_or(name);
        tell(heading, body, talks);
        return;
    }
    // Nothing that is known: a list under a name, such as {"childhood": [...]}.
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_string()) {
        collect(name, value, depth + 1, talks);
    }
}

fn tell(heading: &str, body: &str, talks: &mut Vec<Vec<Turn>>) {
    for part in parts(body) {
        let number = usize::from_str_radix(&key(&[heading, &part])[..4], 16).unwrap_or(0);
        let question = if heading.trim().is_empty() {
            OPEN[number % OPEN.len()].to_owned()
        } else {
            ABOUT[number % ABOUT.len()].replace("{}", heading.trim())
        };
        talks.push(exchange(&question, &part));
    }
}

/// Paragraphs together up to the longest answer. A list of facts is an answer for each fact.
fn parts(body: &str) -> Vec<String> {
    let lines: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let item = |line: &str| ["- ", "* ", "• "].iter().find_map(|mark| line.strip_prefix(mark).map(str::to_owned));
    let items: Option<Vec<String>> = lines.iter().map(|line| item(line)).collect();
    if let Some(items) = items {
        return items;
    }
    let mut parts: Vec<String> = Vec::new();
    for paragraph in body.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        match parts.last_mut() {
            Some(last) if last.chars().count() + paragraph.chars().count() < LONGEST => {
                last.push_str("\n\n");
                last.push_str(paragraph);
            }
            _ => parts.push(paragraph.to_owned()),
        }
    }
    parts
}

/// A Markdown heading, or a date that stands alone.
fn heading_of(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with('#') {
        let text = line.trim_start_matches('#').trim();
        return (!text.is_empty()).then(|| text.to_owned());
    }
    let digits = line.chars().filter(char::is_ascii_digit).count();
    let is_date = (6..=8).contains(&digits) && line.chars().all(|c| c.is_ascii_digit() || "-./ ".contains(c));
    is_date.then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_journal_is_told_day_by_day_and_a_list_fact_by_fact_s3_1() {
        let talks = of_text(
            "# Childhood\nI grew up by the sea.\n\nWe had a dog.\n\n## Likes\n- Tea\n- Rain\n\n2024-05-01\nA long walk.",
        );
        let answers: Vec<&str> = talks.iter().map(|turns| turns[1].content.as_str()).collect();
        assert_eq!(answers, ["I grew up by the sea.\n\nWe had a dog.", "Tea", "Rain", "A long walk."]);
        assert!(talks[0][0].content.contains("Childhood") && talks[3][0].content.contains("2024-05-01"));
    }

    #[test]
    fn memories_of_any_shape_are_told() {
        let document = json!([
            {"content": "I like chess.", "category": "hobbies"},
            {"question": "Where do you live?", "answer": "In Pune."},
            "I am left-handed.",
            {"work": [{"fact": "I build boats."}]},
            {"embedding": [1, 2, 3]},
        ]);
        let talks = of_json(&document);
        let answers: Vec<&str> = talks.iter().map(|turns| turns[1].content.as_str()).collect();
        assert_eq!(answers, ["I like chess.", "In Pune.", "I am left-handed.", "I build boats."]);
        assert!(talks[0][0].content.contains("hobbies") && talks[3][0].content.contains("work"));
    }
}
