//! The one form every dataset row takes (D1): turns of a conversation, or plain text.

use serde::{Deserialize, Serialize};

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
