//! The one form every dataset row takes (D1): turns of a conversation, or plain text.

use serde::{Deserialize, Serialize};
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
}

impl Turn {
    /// A turn whose training is decided by the run.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), train: None }
    }
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
