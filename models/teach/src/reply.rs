//! Rows out of what a helper wrote: fenced, with prose around it, with thoughts before it, or broken off in the middle.

use crate::task::{Form, Task};
use serde_json::{Map, Value};

/// Longest reply that is searched, bytes.
const LONGEST: usize = 1 << 20;
/// Places where a document is tried to begin.
const TRIES: usize = 512;

/// A row as a helper wrote it, before anything of it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Questions and answers in their order.
    pub exchanges: Vec<(String, String)>,
    /// The quote that proves it.
    pub evidence: String,
}

/// Every row that can be read in `text`; none where there is none.
pub fn drafts(text: &str, task: &Task) -> Vec<Draft> {
    let text = without_thoughts(text);
    let text = clipped(text);
    let found = search(text, task);
    if found.is_empty() { search(&with_escaped_breaks(text), task) } else { found }
}

/// The one JSON value in `text`, as for a reply that must fit a schema.
pub fn json_value(text: &str) -> Option<Value> {
    let text = clipped(without_thoughts(text));
    let starts = text.char_indices().filter(|(_, c)| matches!(c, '{' | '['));
    starts.take(TRIES).find_map(|(at, _)| value_at(text, at).map(|(value, _)| value))
}

fn clipped(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What stands behind the thoughts of a model that thinks aloud.
fn without_thoughts(text: &str) -> &str {
    text.rfind("</think>").map_or(text, |at| &text[at + "</think>".len()..])
}

/// Every object that is a row, or holds rows: a document that broke off fails as a whole, and its rows are found one by one.
fn search(text: &str, task: &Task) -> Vec<Draft> {
    let (mut found, mut at, mut tries) = (Vec::new(), 0, 0);
    while let Some(next) = text[at..].find(['{', '[']) {
        let start = at + next;
        tries += 1;
        if tries > TRIES {
            break;
        }
        at = match value_at(text, start) {
            Some((value, length)) => {
                collect(&value, task, &mut found);
                start + length
            }
            None => start + 1,
        };
    }
    found
}

fn value_at(text: &str, start: usize) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

fn collect(value: &Value, task: &Task, found: &mut Vec<Draft>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, task, found)),
        Value::Object(fields) => match draft(fields, task) {
            Some(draft) => found.push(draft),
            // Whatever the list is called.
            None => fields.values().filter(|value| value.is_array()).for_each(|value| collect(value, task, found)),
        },
        _ => {}
    }
}

fn draft(fields: &Map<String, Value>, task: &Task) -> Option<Draft> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(|text| text.trim().to_owned());
    let evidence = text("evidence").unwrap_or_default();
    let exchanges = match task.form {
        Form::Pair => {
            vec![(text("question").or_else(|| text("instruction"))?, text("answer").or_else(|| text("output"))?)]
        }
        Form::Choice => vec![choice(fields, &text("question")?, &text("answer")?, text("explanation").as_deref())?],
        Form::Dialogue => {
            let list = fields.get("exchanges")?.as_array()?;
            let one = |exchange: &Value| {
                let part = |name: &str| exchange[name].as_str().map(|text| text.trim().to_owned());
                Some((part("question")?, part("answer")?))
            };
            list.iter().map(one).collect::<Option<Vec<_>>>().filter(|list| !list.is_empty())?
        }
    };
    Some(Draft { exchanges, evidence })
}

/// Four different options, of which the answer is one.
fn choice(
    fields: &Map<String, Value>,
    question: &str,
    answer: &str,
    explanation: Option<&str>,
) -> Option<(String, String)> {
    const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];
    let options: Vec<&str> =
        fields.get("options")?.as_array()?.iter().filter_map(Value::as_str).map(str::trim).collect();
    let is_distinct = options.iter().enumerate().all(|(index, option)| !options[..index].contains(option));
    if options.len() != LETTERS.len() || !is_distinct {
        return None;
    }
    let right = options.iter().position(|option| *option == answer)?;
    let listed: Vec<String> =
        LETTERS.iter().zip(&options).map(|(letter, option)| format!("{letter}) {option}")).collect();
    let reason =
        explanation.filter(|reason| !reason.is_empty()).map(|reason| format!("\n\n{reason}")).unwrap_or_default();
    Some((format!("{question}\n\n{}", listed.join("\n")), format!("{}) {answer}{reason}", LETTERS[right])))
}

/// Line breaks inside strings, which JSON does not allow and models write.
fn with_escaped_breaks(text: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::with_capacity(text.len() + 16), false, false);
    for c in text.chars() {
        match c {
            '\n' if in_string => out.push_str("\\n"),
            '\t' if in_string => out.push_str("\\t"),
            '\r' if in_string => {}
            _ => out.push(c),
        }
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = in_string;
        } else if c == '"' {
            in_string = !in_string;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> &'static Task {
        Task::named("facts").expect("known")
    }

    fn questions(text: &str) -> Vec<String> {
        drafts(text, facts()).into_iter().map(|draft| draft.exchanges[0].0.clone()).collect()
    }

    #[test]
    fn rows_are_found_in_whatever_surrounds_them() {
        let row = r#"{"question":"Q?","answer":"A.","evidence":"E"}"#;
        for text in [
            format!(r#"{{"items":[{row}]}}"#),
            format!("Sure! Here it is:\n```json\n{{\"items\": [{row},]}}\n```\nAnything else?"),
            format!("<think>Maybe {{\"question\":\"no\",\"answer\":\"no\"}}</think>[{row}]"),
            format!("{row}\n"),
            r#"{"items":[{"instruction":"Q?","output":"A."}]}"#.to_owned(),
        ] {
            assert_eq!(questions(&text), ["Q?"], "{text}");
        }
    }

    #[test]
    fn of_half_a_reply_the_whole_rows_are_taken() {
        let text = r#"{"items":[{"question":"One?","answer":"1"},{"question":"Two?","answer":"2"},{"question":"Thr"#;
        assert_eq!(questions(text), ["One?", "Two?"]);
        assert!(questions("I am sorry, I cannot help with that.").is_empty());
        assert!(questions(&"{".repeat(5000)).is_empty());
        assert!(questions("").is_empty());
    }

    #[test]
    fn breaks_inside_strings_are_forgiven() {
        let text = "{\"items\":[{\"question\":\"Q\nwith \\\" two lines?\",\"answer\":\"A\",\"evidence\":\"\"}]}";
        assert_eq!(questions(text), ["Q\nwith \" two lines?"]);
    }

    #[test]
    fn an_exam_question_has_four_options_and_one_of_them_is_right() {
        let exam = Task::named("exam").expect("known");
        let item = |options: [&str; 4], answer: &str| {
            json!({"question": "Which?", "options": options, "answer": answer, "explanation": "Because."}).to_string()
        };
        let good = drafts(&item(["w", "x", "y", "z"], "y"), exam);
        assert_eq!(good[0].exchanges[0].0, "Which?\n\nA) w\nB) x\nC) y\nD) z");
        assert_eq!(good[0].exchanges[0].1, "C) y\n\nBecause.");
        assert!(drafts(&item(["w", "x", "y", "z"], "v"), exam).is_empty());
        assert!(drafts(&item(["w", "w", "y", "z"], "w"), exam).is_empty());
    }

    #[test]
    fn a_conversation_keeps_its_order() {
        let dialogue = Task::named("dialogue").expect("known");
        let text =
            r#"{"items":[{"exchanges":[{"question":"a","answer":"b"},{"question":"c","answer":"d"}],"evidence":"e"}]}"#;
        let found = drafts(text, dialogue);
        assert_eq!(found[0].exchanges, [("a".into(), "b".into()), ("c".into(), "d".into())]);
        assert_eq!(json_value("x {\"a\": 1} y"), Some(json!({"a": 1})));
    }
}
