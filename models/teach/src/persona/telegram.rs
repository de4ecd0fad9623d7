//! `result.json` of Telegram Desktop: one chat, or all of an account.

use super::{Message, date};
use serde_json::Value;

/// The chats, if `document` is such an export.
pub(super) fn read(document: &Value) -> Option<Vec<Vec<Message>>> {
    if let Some(list) = document["chats"]["list"].as_array() {
        return Some(list.iter().filter_map(chat).collect());
    }
    chat(document).map(|chat| vec![chat])
}

/// Chats in which nobody answers a person: machines and announcements.
const NOBODY: [&str; 4] = ["bot_chat", "verification_codes", "public_channel", "private_channel"];

fn chat(document: &Value) -> Option<Vec<Message>> {
    let messages = document["messages"].as_array()?;
    // Others have lists of this name too; the kind of a message is Telegram's own.
    let is_telegram = messages.iter().any(|entry| entry["type"] == "message" && entry.get("text").is_some());
    let is_between_people = !document["type"].as_str().is_some_and(|kind| NOBODY.contains(&kind));
    is_telegram.then(|| messages.iter().filter(|_| is_between_people).filter_map(message).collect())
}

fn message(entry: &Value) -> Option<Message> {
    if entry["type"] != "message" || ["forwarded_from", "via_bot"].iter().any(|of| entry.get(of).is_some()) {
        return None;
    }
    let who = entry["from"].as_str().or_else(|| entry["from_id"].as_str())?.to_owned();
    let text = match &entry["text"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.as_str().or_else(|| part["text"].as_str())).collect()
        }
        _ => return None,
    };
    let at = entry["date_unixtime"].as_str().and_then(|at| at.parse().ok());
    let at = at.or_else(|| date::of_iso(entry["date"].as_str()?));
    (!text.trim().is_empty()).then(|| Message { who, at, text: text.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chat_and_an_account_are_read() {
        let chat = json!({"name": "Ana", "type": "personal_chat", "messages": [
            {"type": "service", "action": "joined"},
            {"type": "message", "from": "Ana", "date": "2024-01-01T10:00:00", "date_unixtime": "1704103200", "text": "Hi"},
            {"type": "message", "from": "Bo", "date": "2024-01-01T10:01:00", "text": ["See ", {"type": "link", "text": "this"}]},
            {"type": "message", "from": "Bo", "date": "2024-01-01T10:02:00", "text": "", "photo": "x.jpg"},
        ]});
        let found = read(&chat).expect("a chat");
        assert_eq!((found[0].len(), found[0][1].text.as_str(), found[0][1].at), (2, "See this", Some(1_704_103_260)));
        assert_eq!(read(&json!({"chats": {"list": [chat]}})).expect("an account"), found);
        let machine = json!({"type": "bot_chat", "messages": [{"type": "message", "from": "Bot", "text": "beep"}]});
        assert!(read(&machine).expect("a chat")[0].is_empty(), "nobody said that");
        assert_eq!(read(&json!({"messages": [{"role": "user", "content": "x"}]})), None);
    }
}
