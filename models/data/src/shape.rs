//! The layouts of dataset rows and how to tell them apart (D1).
//!
//! A table in order of priority: the first entry that recognises a record wins. Column names are
//! compared in the canonical form of [`crate::columns::canonical`].

use crate::turns::{self, Style, TURN_LISTS};
use serde_json::{Map, Value};

/// One layout of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// A list of `{role, content}` in the named column.
    Messages(&'static str),
    /// A list of `{from, value}` in the named column.
    ShareGpt(&'static str),
    /// `instruction` and `output`, often with `input`, `system`, `history`.
    Alpaca,
    /// `user` and `assistant`, often with `system_hint` and `requires_json` (S1.2).
    Labelled,
    /// `prompt` and `completion`, as strings or lists of turns.
    PromptCompletion,
    /// A context column, a question, and an answer column.
    ContextQa(&'static str, &'static str),
    /// Two columns: what is asked and what is answered.
    Pair(&'static str, &'static str),
    /// `chosen` and `rejected` answers.
    Preference,
    /// `prompt`, `completion` and a `label` that says whether it is wanted.
    Rated,
    /// One column of plain text.
    Text(&'static str),
    /// Already token numbers.
    Tokenised,
    /// Columns named by the user or inferred from their names.
    Columns,
    /// A question alone.
    Unanswered,
}

impl Shape {
    /// The name in reports and in `dataset.format`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Messages(_) => "messages",
            Self::ShareGpt(_) => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::Labelled => "user-assistant",
            Self::PromptCompletion => "prompt-completion",
            Self::ContextQa(..) => "context-qa",
            Self::Pair(..) => "question-answer",
            Self::Preference => "preference",
            Self::Rated => "rated",
            Self::Text(_) => "text",
            Self::Tokenised => "tokenised",
            Self::Columns => "columns",
            Self::Unanswered => "unanswered",
        }
    }

    /// Whether rows of this layout consist of a question and an answer in columns.
    pub(crate) fn has_answer_column(self) -> bool {
        matches!(
            self,
            Self::Alpaca
                | Self::Labelled
                | Self::PromptCompletion
                | Self::ContextQa(..)
                | Self::Pair(..)
                | Self::Preference
                | Self::Rated
        )
    }
}

type Recognise = fn(&Map<String, Value>) -> Option<Shape>;

/// The layouts a user can ask for by name, in order of priority.
const SHAPES: &[(&str, Recognise)] = &[
    // First: published pairs often have the chosen conversation as `messages` too.
    ("preference", |fields| has_all(fields, &["chosen", "rejected"]).then_some(Shape::Preference)),
    ("messages", messages),
    ("sharegpt", sharegpt),
    ("alpaca", |fields| has_all(fields, &["instruction", "output"]).then_some(Shape::Alpaca)),
    ("user-assistant", |fields| has_all(fields, &["user", "assistant"]).then_some(Shape::Labelled)),
    ("rated", |fields| crate::preference::is_rated(fields).then_some(Shape::Rated)),
    ("prompt-completion", |fields| has_all(fields, &["prompt", "completion"]).then_some(Shape::PromptCompletion)),
    ("context-qa", context_qa),
    ("question-answer", pair),
    ("tokenised", |fields| fields.get("input_ids")?.is_array().then_some(Shape::Tokenised)),
    ("text", text),
    ("unanswered", unanswered),
];

const PAIRS: &[(&str, &str)] = &[
    ("question", "answer"),
    ("question", "answers"),
    ("question", "response"),
    ("question", "solution"),
    ("question", "output"),
    ("query", "response"),
    ("query", "answer"),
    ("query", "output"),
    ("instruction", "response"),
    ("instruction", "completion"),
    ("instruction", "answer"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("prompt", "answer"),
    ("input", "output"),
    ("input", "response"),
    ("input", "target"),
    ("problem", "solution"),
    ("problem", "answer"),
    ("human", "assistant"),
    ("human", "gpt"),
    ("user", "response"),
    ("q", "a"),
    ("source", "target"),
    ("document", "summary"),
    ("article", "summary"),
    ("article", "highlights"),
    ("dialogue", "summary"),
    ("text", "summary"),
    ("title", "body"),
];

const CONTEXTS: &[&str] = &["context", "article", "passage", "document"];
const TEXTS: &[&str] = &["text", "content", "body"];

/// Columns that ask something.
pub(crate) const PROMPTS: &[&str] = &["user", "instruction", "prompt", "question", "query", "problem", "human"];

/// Columns that hold the system prompt.
pub(crate) const SYSTEMS: &[&str] = &["system", "system_prompt", "system_hint", "system_message"];

/// Columns that say something about a row without being part of it.
const METADATA: &[&str] = &[
    "id",
    "idx",
    "index",
    "uuid",
    "input",
    "context",
    "source",
    "category",
    "tag",
    "tags",
    "topic",
    "language",
    "lang",
    "style",
    "dialect",
    "register",
    "difficulty",
    "metadata",
    "meta",
    "type",
    "requires_json",
    "json_schema",
    "schema",
    "json_instructions",
    "split",
    "name",
    "url",
    "title",
    "date",
    "timestamp",
    "created",
    "created_at",
    "author",
    "license",
    "score",
];

/// The layout of a record, if it has a known one.
pub(crate) fn of(fields: &Map<String, Value>) -> Option<Shape> {
    SHAPES.iter().find_map(|(_, recognise)| recognise(fields))
}

/// Whether `name` is a layout a user can ask for.
pub(crate) fn is_known(name: &str) -> bool {
    askable().any(|known| known == name)
}

/// The layouts a user can ask for.
pub(crate) fn askable() -> impl Iterator<Item = &'static str> {
    let readable = |name: &&str| !matches!(*name, "tokenised" | "unanswered");
    SHAPES.iter().map(|(name, _)| *name).filter(readable)
}

/// The layout of a record if it can be read as the layout called `name`.
pub(crate) fn as_named(name: &str, fields: &Map<String, Value>) -> Option<Shape> {
    if name == "rated" && crate::preference::can_be_rated(fields) {
        return Some(Shape::Rated);
    }
    SHAPES.iter().find(|(known, _)| *known == name).and_then(|(_, recognise)| recognise(fields))
}

/// Whether a column holds words that reading `text` leaves out.
pub(crate) fn is_unused_beside_text(name: &str) -> bool {
    let name = crate::columns::canonical(name);
    !TEXTS.contains(&name.as_str()) && !METADATA.contains(&name.as_str()) && !name.ends_with("_id")
}

/// Whether these column names alone look like a dataset's.
pub(crate) fn is_known_header(columns: &[String]) -> bool {
    let cell = || Value::String("x".to_owned());
    let fields: Map<String, Value> = columns.iter().map(|name| (name.clone(), cell())).collect();
    columns.iter().any(|name| TURN_LISTS.contains(&name.as_str())) || of(&fields).is_some()
}

fn has_all(fields: &Map<String, Value>, names: &[&str]) -> bool {
    names.iter().all(|name| fields.contains_key(*name))
}

fn turn_list(fields: &Map<String, Value>, wanted: Style) -> Option<&'static str> {
    let fits = |name: &&&str| fields.get(**name).and_then(turns::style) == Some(wanted);
    TURN_LISTS.iter().find(fits).copied()
}

fn messages(fields: &Map<String, Value>) -> Option<Shape> {
    turn_list(fields, Style::OpenAi).map(Shape::Messages)
}

fn sharegpt(fields: &Map<String, Value>) -> Option<Shape> {
    turn_list(fields, Style::ShareGpt).map(Shape::ShareGpt)
}

fn context_qa(fields: &Map<String, Value>) -> Option<Shape> {
    let context = CONTEXTS.iter().find(|name| fields.contains_key(**name))?;
    let answer = ["answer", "answers"].into_iter().find(|name| fields.contains_key(*name))?;
    fields.contains_key("question").then_some(Shape::ContextQa(context, answer))
}

fn pair(fields: &Map<String, Value>) -> Option<Shape> {
    let fits = |(user, assistant): &&(&str, &str)| has_all(fields, &[user, assistant]);
    PAIRS.iter().find(fits).map(|(user, assistant)| Shape::Pair(user, assistant))
}

fn text(fields: &Map<String, Value>) -> Option<Shape> {
    let is_text = |name: &&&str| fields.get(**name).is_some_and(Value::is_string);
    TEXTS.iter().find(is_text).map(|name| Shape::Text(name))
}

/// A question whose other columns cannot be its answer.
fn unanswered(fields: &Map<String, Value>) -> Option<Shape> {
    let cannot_answer = |(name, value): (&String, &Value)| {
        let name = name.as_str();
        !value.is_string()
            || [PROMPTS, SYSTEMS, METADATA].iter().any(|list| list.contains(&name))
            || name.ends_with("_id")
    };
    let asks = PROMPTS.iter().any(|name| fields.get(*name).is_some_and(Value::is_string));
    (asks && fields.iter().all(cannot_answer)).then_some(Shape::Unanswered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name_of(value: &Value) -> Option<&'static str> {
        of(value.as_object().expect("an object")).map(Shape::name)
    }

    #[test]
    fn each_layout_is_recognised_d1() {
        for (record, name) in [
            (json!({"messages": [{"role": "user", "content": "q"}]}), "messages"),
            (json!({"conversations": [{"from": "human", "value": "q"}]}), "sharegpt"),
            (json!({"conversations": [{"role": "user", "content": "q"}]}), "messages"),
            (json!({"instruction": "i", "input": "", "output": "o"}), "alpaca"),
            (json!({"user": "u", "system_hint": "s", "assistant": "a"}), "user-assistant"),
            (json!({"prompt": "p", "completion": "c"}), "prompt-completion"),
            (json!({"context": "c", "question": "q", "answer": "a"}), "context-qa"),
            (json!({"question": "q", "answer": "a"}), "question-answer"),
            (json!({"query": "q", "response": "a"}), "question-answer"),
            (json!({"input": "q", "output": "a"}), "question-answer"),
            (json!({"problem": "q", "solution": "a"}), "question-answer"),
            (json!({"instruction": "q", "response": "a"}), "question-answer"),
            (json!({"prompt": "p", "chosen": "a", "rejected": "b"}), "preference"),
            (json!({"messages": [{"role": "user", "content": "q"}], "chosen": [], "rejected": []}), "preference"),
            (json!({"prompt": "p", "completion": "c", "label": false}), "rated"),
            (json!({"prompt": "p", "completion": "c", "label": "sports"}), "prompt-completion"),
            (json!({"text": "t", "id": 3}), "text"),
            (json!({"content": "t"}), "text"),
            (json!({"body": "t"}), "text"),
            (json!({"input_ids": [1, 2]}), "tokenised"),
            (json!({"user": "u", "system_hint": "s", "id": "7"}), "unanswered"),
        ] {
            assert_eq!(name_of(&record), Some(name), "{record}");
        }
    }

    #[test]
    fn unknown_columns_are_unknown() {
        for record in [
            json!({"foo": "a", "bar": "b"}),
            json!({"question": "q", "antwort": "a"}),
            json!({"messages": "hello"}),
            json!({"text": 3}),
            json!({}),
        ] {
            assert_eq!(name_of(&record), None, "{record}");
        }
    }
}
