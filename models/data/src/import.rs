//! One record of a known shape to an [`Example`].

use crate::dataset::RejectedKind;
use crate::shape::{SYSTEMS, Shape};
use crate::turns;
use peft_plan::{Example, Role, Turn};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// Why a record is not an example.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: RejectedKind,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn shape(reason: impl Into<String>) -> Self {
        Self { kind: RejectedKind::UnknownShape, reason: reason.into() }
    }

    pub(crate) fn no_answer() -> Self {
        Self { kind: RejectedKind::NoAnswer, reason: "no answer".to_owned() }
    }
}

/// Read `fields` as `shape`. Whether there is something to learn is [`check`]'s question.
pub(crate) fn import(shape: Shape, mut fields: Fields) -> Result<Example, Refusal> {
    match shape {
        Shape::Messages(column) | Shape::ShareGpt(column) => {
            let list = fields.get_mut(column).map(Value::take).unwrap_or_default();
            Ok(conversation(take_system(&mut fields), turns::read(list)?))
        }
        Shape::Alpaca => Ok(alpaca(fields, "output")),
        Shape::Labelled => Ok(labelled(fields)),
        Shape::PromptCompletion => prompt_completion(fields),
        Shape::ContextQa(context, answer) => {
            let mut user = take_text(&mut fields, context);
            append(&mut user, "\n\n", &take_text(&mut fields, "question"));
            let answer = first_answer(fields.get_mut(answer));
            Ok(conversation(take_system(&mut fields), exchange(user, answer)))
        }
        Shape::Pair("instruction", answer) => Ok(alpaca(fields, answer)),
        Shape::Pair(question, answer) => {
            let user = take_text(&mut fields, question);
            let answer = first_answer(fields.get_mut(answer));
            Ok(conversation(take_system(&mut fields), exchange(user, answer)))
        }
        Shape::Text(column) => Ok(Example::Text(take_text(&mut fields, column))),
        Shape::Unanswered => Err(Refusal::no_answer()),
        Shape::Preference => crate::preference::pair(fields),
        Shape::Rated => crate::preference::rated(fields),
        Shape::Tokenised => Err(Refusal::shape("it holds token numbers instead of text")),
        Shape::Columns => Err(Refusal::shape("its columns are not the ones that were named")),
    }
}

/// S1.9: refuse what has nothing to learn, before any training starts.
pub(crate) fn check(example: &Example) -> Result<(), Refusal> {
    match example {
        Example::Text(text) if text.trim().is_empty() => {
            Err(Refusal { kind: RejectedKind::Empty, reason: "no text".to_owned() })
        }
        // What holds a preference was checked when it was read.
        Example::Text(_) | Example::Preference { .. } | Example::Rated { .. } => Ok(()),
        Example::Messages(turns) => {
            let learns = |turn: &Turn| match turn.train {
                Some(train) => train,
                None => turn.role == Role::Assistant,
            };
            let blank = Turn::is_blank;
            let answered =
                turns.iter().any(|turn| !blank(turn) && (turn.role == Role::Assistant || turn.train == Some(true)));
            if !answered || turns.iter().any(|turn| learns(turn) && blank(turn)) {
                return Err(Refusal::no_answer());
            }
            Ok(())
        }
    }
}

/// The sentences that ask for JSON (S1.2): the same when a teacher labels and when a student learns.
pub fn json_instruction(schema: Option<&Value>) -> String {
    match schema {
        None | Some(Value::Null) => "Answer with valid JSON only.".to_owned(),
        Some(Value::String(schema)) => format!("Answer with valid JSON only, following this schema:\n{schema}"),
        Some(schema) => format!("Answer with valid JSON only, following this schema:\n{schema}"),
    }
}

/// A value as text: strings as they are, nothing for null, everything else as compact JSON.
pub(crate) fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A question and its answer.
pub(crate) fn exchange(user: String, assistant: String) -> Vec<Turn> {
    let mut turns = Vec::with_capacity(2);
    if !user.trim().is_empty() {
        turns.push(Turn::new(Role::User, user));
    }
    turns.push(Turn::new(Role::Assistant, assistant));
    turns
}

/// A conversation with `system` in front, unless it has a system turn or `system` is blank.
pub(crate) fn conversation(system: String, mut turns: Vec<Turn>) -> Example {
    if !system.trim().is_empty() && turns.iter().all(|turn| turn.role != Role::System) {
        turns.insert(0, Turn::new(Role::System, system));
    }
    Example::Messages(turns)
}

pub(crate) fn take_text(fields: &mut Fields, column: &str) -> String {
    fields.get_mut(column).map(Value::take).map(text_of).unwrap_or_default()
}

pub(crate) fn take_system(fields: &mut Fields) -> String {
    let texts = SYSTEMS.iter().map(|column| take_text(fields, column));
    texts.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default()
}

pub(crate) fn append(text: &mut String, between: &str, more: &str) {
    if more.trim().is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push_str(between);
    }
    text.push_str(more);
}

/// `instruction` with its `input` or `context`, after the `history` of [question, answer] pairs.
fn alpaca(mut fields: Fields, answer: &str) -> Example {
    let mut turns = Vec::new();
    if let Some(Value::Array(history)) = fields.get_mut("history").map(Value::take) {
        for pair in history {
            if let Value::Array(mut pair) = pair
                && let [question, reply] = pair.as_mut_slice()
            {
                turns.extend(exchange(text_of(question.take()), text_of(reply.take())));
            }
        }
    }
    let mut user = take_text(&mut fields, "instruction");
    append(&mut user, "\n", &take_text(&mut fields, "input"));
    append(&mut user, "\n", &take_text(&mut fields, "context"));
    turns.extend(exchange(user, take_text(&mut fields, answer)));
    conversation(take_system(&mut fields), turns)
}

/// S1.2: the parts that the teacher saw joined by double newlines, kept as system and user turn.
fn labelled(mut fields: Fields) -> Example {
    let mut user = take_text(&mut fields, "user");
    let wants_json = match fields.get("requires_json") {
        Some(Value::Bool(wants)) => *wants,
        Some(Value::String(wants)) => matches!(wants.trim(), "true" | "True" | "1" | "yes"),
        Some(Value::Number(wants)) => wants.as_f64().is_some_and(|wants| wants > 0.0),
        _ => false,
    };
    if wants_json {
        let given = take_text(&mut fields, "json_instructions");
        let schema = fields.get("json_schema").or_else(|| fields.get("schema"));
        let instruction = if given.trim().is_empty() { json_instruction(schema) } else { given };
        append(&mut user, "\n\n", &instruction);
    }
    let assistant = take_text(&mut fields, "assistant");
    conversation(take_system(&mut fields), exchange(user, assistant))
}

/// What a teacher is shown of a row with `system_hint`, `user` and `requires_json` (S1.1): exactly the turns that a
/// student will be shown before the answer (S1.2).
pub fn labelling_turns(fields: &Fields) -> Vec<Turn> {
    let mut fields = fields.clone();
    fields.remove("assistant");
    let Example::Messages(mut turns) = labelled(fields) else { return Vec::new() };
    turns.pop();
    turns
}

/// Only the completion is learnt, also where the prompt is a conversation with answers in it.
fn prompt_completion(mut fields: Fields) -> Result<Example, Refusal> {
    let is_bad = match fields.get("label") {
        Some(Value::Bool(good)) => !good,
        Some(Value::String(label)) => label.eq_ignore_ascii_case("false"),
        _ => false,
    };
    if is_bad {
        return Err(Refusal {
            kind: RejectedKind::NotForTraining,
            reason: "its answer is marked as undesired".to_owned(),
        });
    }
    let mut turns = match fields.get_mut("prompt").map(Value::take).unwrap_or_default() {
        list @ Value::Array(_) => turns::read(list)?,
        text => vec![Turn::new(Role::User, text_of(text))],
    };
    turns.retain(|turn| !turn.is_blank());
    for turn in &mut turns {
        if turn.role == Role::Assistant {
            turn.train = Some(false);
        }
    }
    match fields.get_mut("completion").map(Value::take).unwrap_or_default() {
        list @ Value::Array(_) => {
            let completion = turns::read(list)?;
            if completion.iter().all(Turn::is_blank) {
                return Err(Refusal::no_answer());
            }
            turns.extend(completion);
        }
        text => turns.push(Turn::new(Role::Assistant, text_of(text))),
    }
    Ok(conversation(take_system(&mut fields), turns))
}

/// An answer, the first of a list of answers, or `SQuAD`'s `{"text": [...]}`.
fn first_answer(value: Option<&mut Value>) -> String {
    match value.map(Value::take) {
        None => String::new(),
        Some(Value::Array(answers)) => answers.into_iter().next().map(text_of).unwrap_or_default(),
        Some(Value::Object(mut answers)) if answers.contains_key("text") => first_answer(answers.get_mut("text")),
        Some(answer) => text_of(answer),
    }
}
