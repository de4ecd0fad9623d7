//! Columns that the user names, or whose names give away what they hold.

use crate::dataset::RejectedKind;
use crate::import::{Refusal, conversation, text_of};
use crate::{preference, turns};
use peft_plan::{Example, Fault, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Words in the name of a column that holds answers.
const ANSWER_WORDS: &[&str] = &[
    "answer",
    "answers",
    "response",
    "responses",
    "reply",
    "replies",
    "output",
    "completion",
    "solution",
    "assistant",
    "target",
    "bot",
    "agent",
    "gpt",
    "expected",
    "antwort",
    "reponse",
    "réponse",
    "respuesta",
    "risposta",
    "resposta",
];

/// Words in the name of a column that holds questions.
const QUESTION_WORDS: &[&str] = &[
    "question",
    "questions",
    "prompt",
    "query",
    "message",
    "input",
    "instruction",
    "user",
    "customer",
    "human",
    "request",
    "problem",
    "frage",
    "pregunta",
    "domanda",
    "pergunta",
];

/// Words in the name of a column that only describes the row.
const DESCRIPTION_WORDS: &[&str] =
    &["id", "uuid", "score", "label", "source", "date", "time", "url", "type", "length", "count"];

/// The parts a column can be mapped to.
const PARTS: &[&str] = &["user", "assistant", "system", "text", "messages", "chosen", "rejected", "label"];

/// Which column holds what; names are canonical.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mapping {
    user: Option<String>,
    assistant: Option<String>,
    system: Option<String>,
    text: Option<String>,
    pub(crate) messages: Option<String>,
    chosen: Option<String>,
    rejected: Option<String>,
    label: Option<String>,
}

/// The form in which column names are compared: lower case, `_` for spaces and hyphens.
pub(crate) fn canonical(name: &str) -> String {
    name.trim_start_matches('\u{feff}').trim().to_lowercase().replace([' ', '-'], "_")
}

/// Whether `name` is in its canonical form already, which nearly all are.
pub(crate) fn is_canonical(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl Mapping {
    /// The mapping the user gave; `None` if it is empty.
    pub(crate) fn explicit(columns: &BTreeMap<String, String>) -> Result<Option<Self>> {
        if columns.is_empty() {
            return Ok(None);
        }
        if let Some(stranger) = columns.keys().find(|part| !PARTS.contains(&part.as_str())) {
            let detail = format!("`columns` names the part `{stranger}`; the parts are {}", PARTS.join(", "));
            return Err(Fault::new("PS-DATA-003", detail));
        }
        let column = |part: &str| columns.get(part).map(|name| canonical(name));
        let mapping = Self {
            user: column("user"),
            assistant: column("assistant"),
            system: column("system"),
            text: column("text"),
            messages: column("messages"),
            chosen: column("chosen"),
            rejected: column("rejected"),
            label: column("label"),
        };
        let pair = mapping.user.is_some() && mapping.assistant.is_some();
        if mapping.chosen.is_some() != mapping.rejected.is_some() {
            return Err(Fault::new("PS-DATA-003", "`columns` must name both `chosen` and `rejected`, or neither"));
        }
        if mapping.label.is_some() && !pair {
            return Err(Fault::new("PS-DATA-003", "`columns` names a `label`, but not `user` and `assistant`"));
        }
        if !pair && mapping.text.is_none() && mapping.messages.is_none() && mapping.chosen.is_none() {
            let detail = "`columns` must name both `user` and `assistant`, or `text`, or `messages`, or both `chosen` \
                          and `rejected`";
            return Err(Fault::new("PS-DATA-003", detail));
        }
        Ok(Some(mapping))
    }

    /// The first and second column of a table without a header.
    pub(crate) fn pair(user: &str, assistant: &str) -> Self {
        Self { user: Some(user.to_owned()), assistant: Some(assistant.to_owned()), ..Self::default() }
    }

    /// Infer the columns from their names, or from nothing else.
    pub(crate) fn guess(sample: &[Map<String, Value>]) -> Option<Self> {
        let widths = text_columns(sample);
        let words = |name: &str, list: &[&str]| name.split('_').any(|word| list.contains(&word));
        let longest = |fits: &dyn Fn(&str) -> bool| {
            let candidates = widths.iter().filter(|(name, _)| fits(name));
            candidates.max_by_key(|(_, width)| *width).map(|(name, _)| name.clone())
        };
        let assistant = longest(&|name| words(name, ANSWER_WORDS) && !words(name, DESCRIPTION_WORDS))?;
        let user = longest(&|name| {
            words(name, QUESTION_WORDS) && !words(name, ANSWER_WORDS) && !words(name, DESCRIPTION_WORDS)
        })?;
        Some(Self::pair(&user, &assistant))
    }

    /// What to propose when nothing is known: the two wordiest columns, or the only one.
    pub(crate) fn suggestion(sample: &[Map<String, Value>]) -> Option<String> {
        let mut widths = text_columns(sample);
        let order: Vec<String> = widths.iter().map(|(name, _)| name.clone()).collect();
        widths.sort_by_key(|(_, width)| std::cmp::Reverse(*width));
        widths.truncate(2);
        widths.sort_by_key(|(name, _)| order.iter().position(|known| known == name));
        match widths.as_slice() {
            [(user, _), (assistant, _)] => {
                Some(format!("\"columns\": {{\"user\": \"{user}\", \"assistant\": \"{assistant}\"}}"))
            }
            [(text, _)] => Some(format!("\"columns\": {{\"text\": \"{text}\"}}")),
            _ => None,
        }
    }

    /// The columns it needs that `fields` lacks.
    pub(crate) fn missing<'a>(&'a self, fields: &Map<String, Value>) -> Vec<&'a str> {
        if self.chosen.is_some() {
            let needed = self.user.iter().chain(&self.messages).chain(&self.chosen).chain(&self.rejected);
            return needed.map(String::as_str).filter(|name| !fields.contains_key(*name)).collect();
        }
        let needed = match (&self.messages, &self.text) {
            (Some(messages), _) => vec![messages],
            (None, Some(text)) => vec![text],
            (None, None) => self.user.iter().chain(&self.assistant).chain(&self.label).collect(),
        };
        needed.into_iter().map(String::as_str).filter(|name| !fields.contains_key(*name)).collect()
    }

    /// A sentence for reports.
    pub(crate) fn describe(&self) -> String {
        let parts = [
            ("user", &self.user),
            ("assistant", &self.assistant),
            ("system", &self.system),
            ("text", &self.text),
            ("messages", &self.messages),
            ("chosen", &self.chosen),
            ("rejected", &self.rejected),
            ("label", &self.label),
        ];
        let named = parts.iter().filter_map(|(part, name)| Some(format!("{part} = `{}`", name.as_ref()?)));
        named.collect::<Vec<_>>().join(", ")
    }

    /// Read a record by this mapping.
    pub(crate) fn import(&self, mut fields: Map<String, Value>) -> Result<Example, Refusal> {
        if let Some(name) = self.missing(&fields).first() {
            let answers = [&self.assistant, &self.chosen, &self.rejected];
            let kind = if answers.iter().any(|column| column.as_deref() == Some(*name)) {
                RejectedKind::NoAnswer
            } else {
                RejectedKind::UnknownShape
            };
            return Err(Refusal { kind, reason: format!("there is no column `{name}`") });
        }
        let mut take = |name: &Option<String>| name.as_ref().and_then(|name| fields.get_mut(name)).map(Value::take);
        let system = take(&self.system).map(text_of).unwrap_or_default();
        if let (Some(chosen), Some(rejected)) = (take(&self.chosen), take(&self.rejected)) {
            let prompt = preference::prompt_from(take(&self.messages).or_else(|| take(&self.user)))?;
            return preference::compare(system, prompt, chosen, rejected);
        }
        if let Some(label) = take(&self.label) {
            let prompt = preference::prompt_from(take(&self.user))?;
            let answer = take(&self.assistant).unwrap_or_default();
            return preference::rate(system, prompt, answer, preference::label_of(&label)?);
        }
        if let Some(list) = take(&self.messages) {
            return Ok(conversation(system, turns::read(list)?));
        }
        if let Some(text) = take(&self.text) {
            return Ok(Example::Text(text_of(text)));
        }
        let user = take(&self.user).map(text_of).unwrap_or_default();
        let assistant = take(&self.assistant).map(text_of).unwrap_or_default();
        Ok(conversation(system, crate::import::exchange(user, assistant)))
    }
}

/// The columns of text in a sample, in order, with the sum of their lengths.
fn text_columns(sample: &[Map<String, Value>]) -> Vec<(String, usize)> {
    let mut widths: Vec<(String, usize)> = Vec::new();
    for (name, value) in sample.iter().flatten() {
        let Value::String(text) = value else { continue };
        match widths.iter_mut().find(|(known, _)| known == name) {
            Some((_, width)) => *width += text.len(),
            None => widths.push((name.clone(), text.len())),
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(record: Value) -> Vec<Map<String, Value>> {
        let Value::Object(fields) = record else { panic!("an object") };
        vec![fields]
    }

    #[test]
    fn names_of_columns_give_them_away() {
        let rows = sample(json!({"ticket_id": "7", "customer_message": "Hi", "agent_reply": "Hello there"}));
        assert_eq!(Mapping::guess(&rows), Some(Mapping::pair("customer_message", "agent_reply")));
        assert_eq!(Mapping::guess(&sample(json!({"foo": "a", "bar": "b"}))), None);
        assert_eq!(Mapping::guess(&sample(json!({"answer_id": "a", "question": "b"}))), None);
    }

    #[test]
    fn a_mapping_is_proposed_from_the_wordiest_columns_in_order() {
        let rows = sample(json!({"n": "1", "bar": "a long answer that explains", "foo": "why so", "k": 5}));
        let proposed = Mapping::suggestion(&rows).expect("two columns");
        assert_eq!(proposed, r#""columns": {"user": "bar", "assistant": "foo"}"#);
        assert_eq!(Mapping::suggestion(&sample(json!({"k": 5}))), None);
    }

    #[test]
    fn a_mapping_must_be_complete_and_use_known_parts() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        assert!(Mapping::explicit(&map(&[])).expect("none").is_none());
        assert!(Mapping::explicit(&map(&[("user", "a")])).is_err());
        assert!(Mapping::explicit(&map(&[("reader", "a")])).is_err());
        assert!(Mapping::explicit(&map(&[("text", "a")])).is_ok());
        assert_eq!(canonical("\u{feff} System Hint"), "system_hint");
    }
}
