//! JSON of Discord exporters: a channel with its messages.

use super::{Message, date};
use serde_json::Value;

/// The channel, if `document` is one.
pub(super) fn read(document: &Value) -> Option<Vec<Vec<Message>>> {
    let messages = document["messages"].as_array()?;
    messages
        .iter()
        .any(|entry| entry["author"]["name"].is_string())
        .then(|| vec![messages.iter().filter_map(message).collect()])
}

fn message(entry: &Value) -> Option<Message> {
    let author = &entry["author"];
    let is_spoken = matches!(entry["type"].as_str(), None | Some("Default" | "Reply"));
    if !is_spoken || author["isBot"] == true {
        return None;
    }
    let text = entry["content"].as_str()?.trim().to_owned();
    let who =
        author["nickname"].as_str().filter(|name| !name.is_empty()).or_else(|| author["name"].as_str())?.to_owned();
    let at = entry["timestamp"].as_str().and_then(date::of_iso);
    (!text.is_empty()).then_some(Message { who, at, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_are_read_and_machines_are_not() {
        let document = json!({"channel": {"name": "general"}, "messages": [
            {"type": "Default", "timestamp": "2024-01-01T10:00:00+00:00", "content": "Hi", "author": {"name": "ana", "nickname": "Ana", "isBot": false}},
            {"type": "Default", "timestamp": "2024-01-01T10:00:05+00:00", "content": "beep", "author": {"name": "bot", "isBot": true}},
            {"type": "RecipientAdd", "timestamp": "2024-01-01T10:00:06+00:00", "content": "Added", "author": {"name": "bo"}},
            {"type": "Reply", "timestamp": "2024-01-01T10:01:00+00:00", "content": "Hello", "author": {"name": "bo"}},
        ]});
        let chats = read(&document).expect("a channel");
        let said: Vec<&str> = chats[0].iter().map(|message| message.who.as_str()).collect();
        assert_eq!(said, ["Ana", "bo"]);
    }
}
