//! The one form every dataset row takes (D1): turns of a conversation, or plain text.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The person.
    User,
    /// The model; the turns that are learnt by default.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name templates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// `Some(false)`: do not train on this turn although its role says so; `Some(true)`: do.
    /// `None`: the run's `train_on` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<bool>,
    /// What only few turns have: tools, calls of tools, reasoning.
    #[serde(flatten, deserialize_with = "extra_if_any")]
    pub extra: Option<Box<TurnExtra>>,
}

/// What a turn holds beside its words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TurnExtra {
    /// The calls that an answer makes: `{"type": "function", "function": {"name", "arguments": {}}}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// What the model thinks before it answers.
    #[serde(rename = "reasoning_content", skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Which tool a result comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which call a result answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Descriptions of the tools that the whole conversation may use; with its first turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// What the answer must fit, as a JSON schema; with the first turn, for evaluation.
    #[serde(rename = "json_schema", skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// The data says `null` where the content should be, which some layouts tell from an empty one.
    #[serde(skip)]
    pub null_content: bool,
}

/// `None` where none of the fields is there.
fn extra_if_any<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<TurnExtra>>, D::Error> {
    let extra = TurnExtra::deserialize(from)?;
    Ok((extra != TurnExtra::default()).then(|| Box::new(extra)))
}

impl Turn {
    /// A turn whose training is decided by the run.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), train: None, extra: None }
    }

    /// What it holds beside its words, to be changed.
    pub fn extra_mut(&mut self) -> &mut TurnExtra {
        self.extra.get_or_insert_default()
    }

    /// The calls of tools that it makes.
    pub fn tool_calls(&self) -> &[Value] {
        self.extra.as_ref().map_or(&[], |extra| &extra.tool_calls)
    }

    /// What it says it thinks.
    pub fn reasoning(&self) -> Option<&str> {
        self.extra.as_ref()?.reasoning.as_deref()
    }

    /// Whether it says nothing at all: no words, no call.
    pub fn is_blank(&self) -> bool {
        self.content.trim().is_empty() && self.tool_calls().is_empty()
    }

    /// All of it as words: reasoning between `<think>` tags, each call between `<tool_call>` tags, as open models
    /// that have no layout of their own for them are trained.
    pub fn as_text(&self) -> Cow<'_, str> {
        if self.extra.is_none() {
            return Cow::Borrowed(&self.content);
        }
        let mut text = String::new();
        if let Some(reasoning) = self.reasoning() {
            text = format!("<think>\n{}\n</think>\n\n", reasoning.trim_matches('\n'));
        }
        text.push_str(&self.content);
        for call in self.tool_calls() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            let function = call.get("function").unwrap_or(call);
            let call = json!({"name": function.get("name"), "arguments": function.get("arguments")});
            text = format!("{text}<tool_call>\n{call}\n</tool_call>");
        }
        Cow::Owned(text)
    }
}

/// The JSON schema that the answer of a conversation must fit, if the data names one.
pub fn schema_of(turns: &[Turn]) -> Option<&Value> {
    turns.iter().find_map(|turn| turn.extra.as_ref()?.schema.as_ref())
}

/// The tools that a conversation may use.
pub fn tools_of(turns: &[Turn]) -> &[Value] {
    let tools = turns.iter().filter_map(|turn| Some(turn.extra.as_ref()?.tools.as_slice()));
    tools.into_iter().find(|tools| !tools.is_empty()).unwrap_or_default()
}

/// What one dataset row says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Example {
    /// A conversation, rendered through a chat template.
    Messages(Vec<Turn>),
    /// Raw text, learnt whole (continued pre-training).
    Text(String),
    /// A conversation with a better and a worse way to go on.
    Preference {
        /// What both answer.
        prompt: Vec<Turn>,
        /// The better answer; more than one turn where it is a conversation of its own.
        chosen: Vec<Turn>,
        /// The worse answer.
        rejected: Vec<Turn>,
    },
    /// An answer, and whether it is wanted.
    Rated {
        /// What it answers.
        prompt: Vec<Turn>,
        /// The answer.
        answer: Vec<Turn>,
        /// Wanted.
        desirable: bool,
    },
}

impl Example {
    /// The turns in parts: the conversation, or the prompt and what answers it. None of plain text.
    pub fn parts(&self) -> [&[Turn]; 3] {
        match self {
            Self::Messages(turns) => [turns, &[], &[]],
            Self::Text(_) => [&[], &[], &[]],
            Self::Preference { prompt, chosen, rejected } => [prompt, chosen, rejected],
            Self::Rated { prompt, answer, .. } => [prompt, answer, &[]],
        }
    }

    /// Every text, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let text = if let Self::Text(text) = self { Some(text.as_str()) } else { None };
        let turns = self.parts().into_iter().flatten().map(|turn| turn.content.as_str());
        text.into_iter().chain(turns)
    }

    /// The conversation as it is meant to go: with the chosen answer. `None` of plain text.
    pub fn conversation(&self) -> Option<Cow<'_, [Turn]>> {
        match self {
            Self::Text(_) => None,
            Self::Messages(turns) => Some(Cow::Borrowed(turns)),
            Self::Preference { prompt, chosen: answer, .. } | Self::Rated { prompt, answer, .. } => {
                Some(Cow::Owned([prompt.as_slice(), answer].concat()))
            }
        }
    }
}

/// A row and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Index of the file in the list that was read.
    pub file: usize,
    /// Line (JSONL, CSV: 1-based line where the record starts) or element number (JSON, 1-based).
    pub line: usize,
    /// What it says.
    pub example: Example,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_without_extras_is_written_and_read_without_them() {
        let plain = Turn::new(Role::User, "hi");
        let text = serde_json::to_string(&plain).expect("plain data");
        assert_eq!(text, r#"{"role":"user","content":"hi"}"#);
        assert_eq!(serde_json::from_str::<Turn>(&text).expect("just written"), plain);
    }

    #[test]
    fn calls_reasoning_and_tools_survive_being_written() {
        let mut turn = Turn::new(Role::Assistant, "");
        turn.extra_mut().tool_calls.push(json!({"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}));
        turn.extra_mut().reasoning = Some("Hm.".to_owned());
        let text = serde_json::to_string(&turn).expect("plain data");
        assert_eq!(serde_json::from_str::<Turn>(&text).expect("just written"), turn);
        assert!(!turn.is_blank());
        let words = "<think>\nHm.\n</think>\n\n<tool_call>\n{\"name\":\"f\",\"arguments\":{\"x\":1}}\n</tool_call>";
        assert_eq!(turn.as_text(), words);
    }
}
