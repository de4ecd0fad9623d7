//! Conversations with models: kept, found again, and judged (S4.7.5).

use crate::runs::json;
use crate::store::{Durability, Store, count, integer, now};
use peft_plan::{Fault, Result, Role};
use rusqlite::types::Type;
use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whose answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The model without its adapter.
    Base,
    /// The model with it.
    Tuned,
}

/// Which of two answers a person preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The base's.
    Base,
    /// The tuned model's.
    Tuned,
    /// Both are good.
    Both,
    /// Neither is.
    Neither,
}

/// A conversation that begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewConversation {
    /// For people; empty: the beginning of the first question.
    pub title: String,
    /// The run whose model is talked to.
    pub run: Option<String>,
    /// The model, as the person called it.
    pub model: String,
    /// Folder of the adapter.
    pub adapter: Option<String>,
    /// Standing instructions.
    pub system: Option<String>,
}

/// A conversation without its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conversation {
    /// Counts up.
    pub id: i64,
    /// For people.
    pub title: String,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub updated: i64,
    /// The run whose model is talked to, if it is still there.
    pub run: Option<String>,
    /// The model, as the person called it.
    pub model: String,
    /// Folder of the adapter.
    pub adapter: Option<String>,
    /// Standing instructions.
    pub system: Option<String>,
    /// How many messages there are.
    pub messages: u64,
}

/// A message that was just said.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// Who said it.
    pub role: Role,
    /// Of an answer: whose.
    pub side: Option<Side>,
    /// What was said.
    pub content: String,
    /// Anything else about it; `null`: nothing.
    pub details: Value,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Counts up within its conversation, from 1.
    pub sequence: u64,
    /// Who said it.
    pub role: Role,
    /// Of an answer: whose.
    pub side: Option<Side>,
    /// What was said.
    pub content: String,
    /// Anything else about it.
    pub details: Value,
    /// Unix seconds.
    pub created: i64,
    /// Of a question: which answer was preferred.
    pub vote: Option<Choice>,
}

/// Longest title, characters.
const TITLE: usize = 80;

/// The word for a plain enum, as it is stored.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The way back.
fn parsed<T: serde::de::DeserializeOwned>(word: String) -> rusqlite::Result<T> {
    serde_json::from_value(Value::String(word))
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

impl Conversation {
    fn from_row(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            title: row.get("title")?,
            created: row.get("created")?,
            updated: row.get("updated")?,
            run: row.get("run")?,
            model: row.get("model")?,
            adapter: row.get("adapter")?,
            system: row.get("system")?,
            messages: count(row.get("messages")?),
        })
    }
}

impl Message {
    fn from_row(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            sequence: count(row.get("sequence")?),
            role: parsed(row.get("role")?)?,
            side: row.get::<_, Option<String>>("side")?.map(parsed).transpose()?,
            content: row.get("content")?,
            details: json(&row.get::<_, String>("details")?)?,
            created: row.get("created")?,
            vote: row.get::<_, Option<String>>("choice")?.map(parsed).transpose()?,
        })
    }
}

const COLUMNS: &str = "c.*, (SELECT count(*) FROM messages m WHERE m.conversation = c.id) AS messages";

impl Store {
    /// Begins a conversation; returns its id.
    pub fn create_conversation(&self, new: &NewConversation) -> Result<i64> {
        let NewConversation { title, run, model, adapter, system } = new;
        self.write(Durability::Committed, |transaction| {
            transaction.query_row(
                "INSERT INTO conversations (title, created, updated, run, model, adapter, system)
                 VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6) RETURNING id",
                params![shortened(title), now(), run, model, adapter, system],
                |row| row.get(0),
            )
        })
    }

    /// Adds messages at the end; returns the number of the first. A conversation without a title takes the
    /// beginning of its first question.
    pub fn add_messages(&self, conversation: i64, messages: &[NewMessage]) -> Result<u64> {
        let first = self.write(Durability::Committed, |transaction| {
            let known = transaction
                .execute("UPDATE conversations SET updated = ?2 WHERE id = ?1", params![conversation, now()])?;
            if known == 0 {
                return Ok(None);
            }
            let last: i64 = transaction.query_row(
                "SELECT coalesce(max(sequence), 0) FROM messages WHERE conversation = ?1",
                [conversation],
                |row| row.get(0),
            )?;
            insert(transaction, conversation, last, messages)?;
            Ok(Some(count(last + 1)))
        })?;
        first.ok_or_else(|| missing(conversation))
    }

    /// A conversation and all its messages.
    pub fn conversation(&self, id: i64) -> Result<(Conversation, Vec<Message>)> {
        let found = self.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let mut statement =
                snapshot.prepare_cached(&format!("SELECT {COLUMNS} FROM conversations c WHERE id = ?1"))?;
            let Some(conversation) = statement.query_map([id], Conversation::from_row)?.next().transpose()? else {
                return Ok(None);
            };
            let messages = snapshot
                .prepare_cached(
                    "SELECT m.*, v.choice FROM messages m
                     LEFT JOIN votes v ON v.conversation = m.conversation AND v.sequence = m.sequence
                     WHERE m.conversation = ?1 ORDER BY m.sequence",
                )?
                .query_map([id], Message::from_row)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Some((conversation, messages)))
        })?;
        found.ok_or_else(|| missing(id))
    }

    /// Conversations, the latest first; with `search` those that have these words in their title or in a message.
    pub fn conversations(&self, search: Option<&str>, limit: usize) -> Result<Vec<Conversation>> {
        let pattern = search.map(|words| {
            let mut pattern = String::from("%");
            for c in words.trim().chars() {
                if matches!(c, '%' | '_' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(c);
            }
            pattern.push('%');
            pattern
        });
        let statement = format!(
            "SELECT {COLUMNS} FROM conversations c
             WHERE ?1 IS NULL OR c.title LIKE ?1 ESCAPE '\\' OR EXISTS
                 (SELECT 1 FROM messages m WHERE m.conversation = c.id AND m.content LIKE ?1 ESCAPE '\\')
             ORDER BY c.updated DESC, c.id DESC LIMIT ?2"
        );
        self.read(|connection| {
            connection
                .prepare_cached(&statement)?
                .query_map(params![pattern, integer(limit as u64)], Conversation::from_row)?
                .collect()
        })
    }

    /// Gives a conversation another title.
    pub fn rename_conversation(&self, id: i64, title: &str) -> Result<()> {
        let changed = self.write(Durability::Committed, |transaction| {
            transaction.execute("UPDATE conversations SET title = ?2 WHERE id = ?1", params![id, shortened(title)])
        })?;
        if changed == 0 { Err(missing(id)) } else { Ok(()) }
    }

    /// Notes which answer to question `sequence` was preferred; `None` takes the vote back.
    pub fn vote(&self, id: i64, sequence: u64, choice: Option<Choice>) -> Result<()> {
        let is_question = self.write(Durability::Committed, |transaction| {
            let question = params![id, integer(sequence)];
            let is_question: bool = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM messages WHERE conversation = ?1 AND sequence = ?2 AND role = 'user')",
                question,
                |row| row.get(0),
            )?;
            if is_question {
                transaction.execute("DELETE FROM votes WHERE conversation = ?1 AND sequence = ?2", question)?;
                if let Some(choice) = choice {
                    transaction.execute(
                        "INSERT INTO votes (conversation, sequence, choice, created) VALUES (?1, ?2, ?3, ?4)",
                        params![id, integer(sequence), word(choice), now()],
                    )?;
                }
            }
            Ok(is_question)
        })?;
        if is_question { Ok(()) } else { Err(missing(id)) }
    }

    /// Forgets a conversation with everything in it. One that is not there is no error.
    pub fn delete_conversation(&self, id: i64) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            transaction.execute("DELETE FROM conversations WHERE id = ?1", [id]).map(drop)
        })
    }
}

fn insert(transaction: &Transaction, conversation: i64, last: i64, messages: &[NewMessage]) -> rusqlite::Result<()> {
    for (i, message) in messages.iter().enumerate() {
        let NewMessage { role, side, content, details } = message;
        transaction
            .prepare_cached(
                "INSERT INTO messages (conversation, sequence, role, side, content, details, created)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                conversation,
                last + 1 + i as i64,
                role.as_str(),
                side.map(word),
                content,
                details.to_string(),
                now()
            ])?;
    }
    if let Some(question) = messages.iter().find(|message| message.role == Role::User) {
        transaction.execute(
            "UPDATE conversations SET title = ?2 WHERE id = ?1 AND title = ''",
            params![conversation, shortened(&question.content)],
        )?;
    }
    Ok(())
}

/// A title on one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= TITLE {
        return line;
    }
    line.chars().take(TITLE - 1).chain(['…']).collect()
}

fn missing(id: i64) -> Fault {
    Fault::new("PS-RUN-001", format!("There is no conversation or question {id}; it may have been deleted"))
}
