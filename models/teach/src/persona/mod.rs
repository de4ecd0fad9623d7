//! Conversations of one person from chats, journals and memories (S3.1 to S3.4): the person is who answers.
//!
//! | file | holds |
//! | --- | --- |
//! | `whatsapp` | the text that WhatsApp exports |
//! | `telegram` | `result.json` of Telegram Desktop |
//! | `discord` | JSON of Discord exporters |
//! | `assistants` | `conversations.json` of ChatGPT and of Claude |
//! | `memories` | facts, journals and notes, as text or JSON |
//! | `talk` | messages to conversations: who speaks, where one begins and ends |
//! | `names` | other people's names replaced |
//! | `date` | days and hours as exports write them |

mod assistants;
mod date;
mod discord;
mod memories;
mod names;
mod talk;
mod telegram;
mod whatsapp;

use peft_plan::{Example, Fault, Result, Role, Turn};
use serde_json::Value;
use std::collections::BTreeMap;

/// A message of a chat.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who wrote it.
    pub who: String,
    /// Unix seconds in the clock of the export; only differences count.
    pub at: Option<i64>,
    /// What was written.
    pub text: String,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Chats between people.
    Chats(Vec<Vec<Message>>),
    /// Conversations whose sides are known.
    Talks(Vec<Vec<Turn>>),
}

/// How conversations are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The person's own name in the chats; whoever wrote in the most chats and most often where none is named.
    pub me: Option<String>,
    /// Replace other people's names.
    pub hide_names: bool,
}

/// What came of all files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Persona {
    /// Conversations with the number of their file.
    pub examples: Vec<(usize, Example)>,
    /// Who was taken for the person, where there were chats.
    pub me: Option<String>,
    /// Files that hold nothing of use, with the reason.
    pub passed: Vec<(usize, String)>,
    /// Other people whose names were replaced, with what stands for them.
    pub replaced: BTreeMap<String, String>,
}

/// Conversations from files, each with its name and text. PS-DATA-005 where there is none.
pub fn conversations(files: &[(String, String)], wishes: &Wishes) -> Result<Persona> {
    let (mut persona, mut chats) = (Persona::default(), Vec::new());
    for (number, (name, text)) in files.iter().enumerate() {
        match recognise(name, text) {
            Ok(Found::Chats(found)) => chats.extend(found.into_iter().map(|chat| (number, chat))),
            Ok(Found::Talks(talks)) => {
                persona.examples.extend(talks.into_iter().map(|turns| (number, Example::Messages(turns))));
            }
            Err(why) => persona.passed.push((number, why)),
        }
    }
    let me = match &wishes.me {
        Some(me) => Some(named(me, &chats)?),
        None => talk::busiest(chats.iter().map(|(_, chat)| chat.as_slice())),
    };
    if let Some(me) = &me {
        let mut names = names::Names::default();
        for (number, chat) in &chats {
            for turns in talk::conversations(chat, me) {
                persona.examples.push((*number, Example::Messages(turns)));
            }
            chat.iter().filter(|message| message.who != *me).for_each(|message| names.learn(&message.who));
        }
        if wishes.hide_names {
            for (_, example) in &mut persona.examples {
                if let Example::Messages(turns) = example {
                    for turn in turns {
                        turn.content = names.hidden(&turn.content);
                    }
                }
            }
            persona.replaced = names.known();
        }
    }
    persona.me = me;
    if persona.examples.is_empty() {
        let reasons: Vec<String> =
            persona.passed.iter().map(|(number, why)| format!("`{}`: {why}", files[*number].0)).collect();
        let why = if reasons.is_empty() { String::new() } else { format!(" {}.", reasons.join("; ")) };
        let guess = match (&wishes.me, &persona.me) {
            (None, Some(me)) => format!(" `{me}` was taken for the person; name somebody else with `--me NAME`."),
            _ => String::new(),
        };
        return Err(Fault::new("PS-DATA-005", format!("There is no conversation in these files.{guess}{why}")));
    }
    Ok(persona)
}

/// The name as the chats spell it.
fn named(me: &str, chats: &[(usize, Vec<Message>)]) -> Result<String> {
    let mut all: Vec<&str> = chats.iter().flat_map(|(_, chat)| chat).map(|message| message.who.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    let same = |who: &&str| who.to_lowercase() == me.trim().to_lowercase();
    match all.iter().copied().find(same) {
        Some(who) => Ok(who.to_owned()),
        None if all.is_empty() => Ok(me.to_owned()),
        None => {
            let shown = all.iter().take(12).copied().collect::<Vec<_>>().join(", ");
            let detail = format!("Nobody in the chats is called `{me}`; there are {shown}.");
            Err(Fault::new("PS-CFG-001", detail))
        }
    }
}

/// What a file is, by what it holds and not by its name alone.
fn recognise(name: &str, text: &str) -> Result<Found, String> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let begins = text.trim_start().chars().next();
    if matches!(begins, Some('{' | '[')) {
        if let Ok(document) = serde_json::from_str::<Value>(text) {
            return of_document(&document);
        }
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if !lines.is_empty() {
            return of_document(&Value::Array(lines));
        }
    }
    let lower = name.to_lowercase();
    let start: String = text.trim_start().chars().take(15).collect::<String>().to_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return Err("it is a web page; have the chat exported as JSON or as text".to_owned());
    }
    if let Some(chat) = whatsapp::read(text) {
        return Ok(Found::Chats(vec![chat]));
    }
    if matches!(lower.rsplit('.').next(), Some("json" | "jsonl")) {
        return Err("it is not JSON".to_owned());
    }
    some(memories::of_text(text))
}

fn of_document(document: &Value) -> Result<Found, String> {
    if document.as_array().is_some_and(|list| list.iter().any(|entry| entry["Contents"].is_string())) {
        let why = "Discord's own package has only what one side wrote; export the channel with both sides as JSON";
        return Err(why.to_owned());
    }
    if let Some(chats) = telegram::read(document).or_else(|| discord::read(document)) {
        return Ok(Found::Chats(chats));
    }
    let is_about = |entry: &Value| entry["prompt_template"].is_string() || entry["rating"].is_string();
    if document.as_array().is_some_and(|list| list.iter().any(is_about)) {
        return Err("it is about an assistant, and nobody speaks in it".to_owned());
    }
    some(assistants::read(document).unwrap_or_else(|| memories::of_json(document)))
}

fn some(talks: Vec<Vec<Turn>>) -> Result<Found, String> {
    if talks.is_empty() { Err("it holds nothing that somebody said".to_owned()) } else { Ok(Found::Talks(talks)) }
}

/// A question and its answer.
fn exchange(question: &str, answer: &str) -> Vec<Turn> {
    vec![Turn::new(Role::User, question), Turn::new(Role::Assistant, answer)]
}
