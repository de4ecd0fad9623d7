//! `conversations.json` of ChatGPT and of Claude: who asked and who answered is known, and stays.

use peft_plan::{Role, Turn};
use serde_json::Value;
use std::collections::HashSet;

/// The conversations, if `document` is such an export.
pub(super) fn read(document: &Value) -> Option<Vec<Vec<Turn>>> {
    let list = match document {
        Value::Array(list) => list.as_slice(),
        // One conversation for itself.
        one => std::slice::from_ref(one),
    };
    let is_export = list.iter().any(|entry| entry["mapping"].is_object() || entry["chat_messages"].is_array());
    is_export.then(|| list.iter().map(talk).filter(|turns| turns.len() > 1).collect())
}

fn talk(entry: &Value) -> Vec<Turn> {
    let turns = if entry["mapping"].is_object() { chatgpt(entry) } else { claude(entry) };
    tidy(turns)
}

/// Only the branch that the person saw last: from its end up to the beginning.
fn chatgpt(entry: &Value) -> Vec<Turn> {
    let mapping = &entry["mapping"];
    let (mut node, mut seen, mut turns) = (entry["current_node"].as_str(), HashSet::new(), Vec::new());
    while let Some(id) = node.filter(|id| seen.insert((*id).to_owned())) {
        let message = &mapping[id]["message"];
        let role = match message["author"]["role"].as_str() {
            Some("user") => Some(Role::User),
            Some("assistant") => Some(Role::Assistant),
            _ => None,
        };
        let is_text = matches!(message["content"]["content_type"].as_str(), Some("text" | "multimodal_text"));
        if let (Some(role), true) = (role, is_text && message["recipient"].as_str().is_none_or(|to| to == "all")) {
            let parts = message["content"]["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
            let text: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            turns.push(Turn::new(role, text.join("\n")));
        }
        node = mapping[id]["parent"].as_str();
    }
    turns.reverse();
    turns
}

fn claude(entry: &Value) -> Vec<Turn> {
    let messages = entry["chat_messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let turn = |message: &Value| {
        let role = match message["sender"].as_str()? {
            "human" => Role::User,
            "assistant" => Role::Assistant,
            _ => return None,
        };
        let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts = parts.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str());
        let text = texts.collect::<Vec<_>>().join("\n");
        let text = if text.trim().is_empty() { message["text"].as_str().unwrap_or_default().to_owned() } else { text };
        Some(Turn::new(role, text))
    };
    messages.iter().filter_map(turn).collect()
}

/// Questions and answers in turn, a question first and an answer last.
fn tidy(turns: Vec<Turn>) -> Vec<Turn> {
    let mut tidy: Vec<Turn> = Vec::new();
    for turn in turns.into_iter().filter(|turn| !turn.content.trim().is_empty()) {
        match tidy.last_mut() {
            Some(last) if last.role == turn.role => {
                last.content.push('\n');
                last.content.push_str(&turn.content);
            }
            None if turn.role == Role::Assistant => {}
            _ => tidy.push(turn),
        }
    }
    if tidy.last().is_some_and(|turn| turn.role == Role::User) {
        tidy.pop();
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_chatgpt_the_last_branch_is_read() {
        let said = |role: &str, text: &str| json!({"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}});
        let document = json!([{"title": "t", "current_node": "d", "mapping": {
            "a": {"message": null, "parent": null},
            "b": {"message": said("user", "Why?"), "parent": "a"},
            "c": {"message": said("assistant", "Old."), "parent": "b"},
            "d": {"message": said("assistant", "New."), "parent": "b"},
        }}]);
        let talks = read(&document).expect("an export");
        let texts: Vec<&str> = talks[0].iter().map(|turn| turn.content.as_str()).collect();
        assert_eq!(texts, ["Why?", "New."]);
        // A node that is its own parent ends.
        let ring = json!([{"current_node": "a", "mapping": {"a": {"message": said("user", "x"), "parent": "a"}}}]);
        assert!(read(&ring).expect("an export").is_empty());
    }

    #[test]
    fn of_claude_the_parts_of_text_are_read() {
        let document = json!([{"name": "n", "chat_messages": [
            {"sender": "human", "text": "Hi", "content": []},
            {"sender": "assistant", "text": "", "content": [{"type": "tool_use"}, {"type": "text", "text": "Hello."}]},
            {"sender": "human", "text": "Bye"},
        ]}]);
        let talks = read(&document).expect("an export");
        assert_eq!((talks[0].len(), talks[0][1].content.as_str()), (2, "Hello."));
        assert_eq!(read(&json!([{"text": "note"}])), None);
    }
}
