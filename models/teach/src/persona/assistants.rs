//! `conversations.json` of ChatGPT and of Claude: who asked and who answered is known, and stays.

use peft_plan::{Role, Turn};
use regex::Regex;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::LazyLock;

/// Marks of sources in an answer, which stand for links that are not there.
static SOURCES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("【[^【】]{1,80}】|\u{e200}[^\u{e201}]{0,400}\u{e201}").expect("a constant that a test uses")
});
/// What stands in a text of Claude's for a tool.
const NOT_SHOWN: &str = "This block is not supported on your current device yet.";

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
    let (mut node, mut seen, mut turns) = (last(entry), HashSet::new(), Vec::new());
    while let Some(id) = node.filter(|id| seen.insert((*id).to_owned())) {
        let message = &mapping[id]["message"];
        let role = match message["author"]["role"].as_str() {
            Some("user") => Some(Role::User),
            Some("assistant") => Some(Role::Assistant),
            _ => None,
        };
        let is_shown = message["metadata"]["is_visually_hidden_from_conversation"] != true;
        let is_text =
            matches!(message["content"]["content_type"].as_str(), Some("text" | "multimodal_text")) && is_shown;
        if let (Some(role), true) = (role, is_text && message["recipient"].as_str().is_none_or(|to| to == "all")) {
            let parts = message["content"]["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
            // What was spoken stands in a part of its own.
            let text: Vec<&str> = parts.iter().filter_map(|part| part.as_str().or(part["text"].as_str())).collect();
            turns.push(Turn::new(role, SOURCES.replace_all(&text.join("\n"), "").trim()));
        }
        node = mapping[id]["parent"].as_str();
    }
    turns.reverse();
    turns
}

/// Where the branch ends that was seen last; in older files, the latest message that nothing follows.
fn last(entry: &Value) -> Option<&str> {
    let latest = || {
        let nodes = entry["mapping"].as_object()?.iter();
        let leaves = nodes.filter(|(_, node)| node["children"].as_array().is_none_or(Vec::is_empty));
        let at = |node: &Value| node["message"]["create_time"].as_f64().unwrap_or(0.0);
        leaves.max_by(|a, b| at(a.1).total_cmp(&at(b.1))).map(|(id, _)| id.as_str())
    };
    entry["current_node"].as_str().or_else(latest)
}

fn claude(entry: &Value) -> Vec<Turn> {
    let messages = branch(entry["chat_messages"].as_array().map(Vec::as_slice).unwrap_or_default());
    let turn = |message: &Value| {
        let role = match message["sender"].as_str()? {
            "human" => Role::User,
            "assistant" => Role::Assistant,
            _ => return None,
        };
        let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts = parts.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str());
        let text = texts.collect::<Vec<_>>().join("\n");
        let whole = message["text"].as_str().filter(|text| !text.contains(NOT_SHOWN)).unwrap_or_default();
        let text = if text.trim().is_empty() { whole.to_owned() } else { text };
        Some(Turn::new(role, text.trim()))
    };
    messages.into_iter().filter_map(turn).collect()
}

/// The messages from the first to the last, without questions that were asked again in other words, where it is written
/// what answers what.
fn branch(messages: &[Value]) -> Vec<&Value> {
    let parent = |message: &Value| message["parent_message_uuid"].as_str().map(str::to_owned);
    if !messages.iter().all(|message| message["uuid"].is_string() && parent(message).is_some()) {
        return messages.iter().collect();
    }
    let (mut found, mut wanted) = (Vec::new(), None);
    // A message stands behind what it answers.
    for message in messages.iter().rev() {
        if wanted.is_none() || message["uuid"].as_str() == wanted.as_deref() {
            wanted = parent(message);
            found.push(message);
        }
    }
    found.reverse();
    found
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
    fn of_chatgpt_what_is_hidden_or_no_text_is_left_out() {
        let node = |role: &str, content: Value, parent: &str, at: f64, hidden: bool| {
            json!({"parent": parent, "children": [], "message": {"author": {"role": role}, "create_time": at, "content": content,
                   "metadata": {"is_visually_hidden_from_conversation": hidden}, "recipient": "all"}})
        };
        let text = |text: &str| json!({"content_type": "text", "parts": [text]});
        let mut question = node(
            "user",
            json!({"content_type": "multimodal_text", "parts": [
            {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"},
            {"content_type": "audio_transcription", "text": "What is that?"}]}),
            "a",
            1.0,
            false,
        );
        question["children"] = json!(["c"]);
        let mut hidden = node("user", text("The user is called X."), "", 0.5, true);
        hidden["children"] = json!(["b"]);
        let document = json!([{"title": "t", "mapping": {
            "a": hidden, "b": question,
            "c": node("assistant", text("A bridge【4:0†source】.\u{e200}cite\u{e202}turn0search0\u{e201}"), "b", 2.0, false),
            "d": node("assistant", text("A dog."), "b", 1.5, false),
        }}]);
        let talks = read(&document).expect("an export");
        let texts: Vec<&str> = talks[0].iter().map(|turn| turn.content.as_str()).collect();
        assert_eq!(texts, ["What is that?", "A bridge."]);
    }

    #[test]
    fn of_claude_the_last_branch_is_read_without_tools() {
        let said = |uuid: &str, parent: &str, sender: &str, text: &str| {
            json!({"uuid": uuid, "parent_message_uuid": parent,
            "sender": sender, "text": text, "content": []})
        };
        let tool = format!("```\n{NOT_SHOWN}\n```");
        let document = json!([{"uuid": "x", "name": "n", "chat_messages": [
            said("1", "00000000-0000-4000-8000-000000000000", "human", "Hi"), said("2", "1", "assistant", "Hello."),
            said("3", "2", "human", "Whta?"), said("4", "3", "assistant", "Pardon?"),
            said("5", "2", "human", "What?"), said("6", "5", "assistant", &tool), said("7", "6", "assistant", "This."),
        ]}]);
        let talks = read(&document).expect("an export");
        let texts: Vec<&str> = talks[0].iter().map(|turn| turn.content.as_str()).collect();
        assert_eq!(texts, ["Hi", "Hello.", "What?", "This."]);
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
