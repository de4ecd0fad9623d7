//! Messages to conversations: the person answers, everybody else asks, and a long silence is the end of one.

use super::Message;
use peft_plan::{Role, Turn};
use std::collections::HashMap;

/// A silence after which something else begins.
const SILENCE: i64 = 6 * 3600;
/// Longest conversation.
const TURNS: usize = 20;
const CHARACTERS: usize = 8000;

/// Whoever is in the most chats, and wrote the most among those.
pub(super) fn busiest<'a>(chats: impl Iterator<Item = &'a [Message]>) -> Option<String> {
    let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
    for chat in chats {
        let mut here: HashMap<&str, usize> = HashMap::new();
        for message in chat {
            *here.entry(&message.who).or_default() += 1;
        }
        for (who, written) in here {
            let count = counts.entry(who).or_default();
            *count = (count.0 + 1, count.1 + written);
        }
    }
    let best = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(a.0)));
    best.map(|(who, _)| who.to_owned())
}

/// The conversations of a chat, each with a question first and an answer of `me` last.
pub(super) fn conversations(chat: &[Message], me: &str) -> Vec<Vec<Turn>> {
    let mut others: Vec<&str> = chat.iter().map(|message| message.who.as_str()).filter(|who| *who != me).collect();
    others.sort_unstable();
    others.dedup();
    let is_group = others.len() > 1;
    let (mut all, mut turns, mut before): (Vec<Vec<Turn>>, Vec<Turn>, Option<i64>) = (Vec::new(), Vec::new(), None);
    for message in chat {
        let role = if message.who == me { Role::Assistant } else { Role::User };
        let is_silence = matches!((before, message.at), (Some(before), Some(at)) if at - before > SILENCE);
        let length: usize = turns.iter().map(|turn| turn.content.len()).sum();
        let is_new_turn = turns.last().is_none_or(|turn| turn.role != role);
        let is_full = role == Role::User && is_new_turn && (turns.len() >= TURNS || length > CHARACTERS);
        if is_silence || is_full {
            finish(&mut all, &mut turns);
        }
        before = message.at.or(before);
        // In a group somebody must say who speaks.
        let text = if is_group && role == Role::User {
            format!("{}: {}", message.who, message.text)
        } else {
            message.text.clone()
        };
        match turns.last_mut() {
            Some(last) if last.role == role => {
                last.content.push('\n');
                last.content.push_str(&text);
            }
            None if role == Role::Assistant => {}
            _ => turns.push(Turn::new(role, text)),
        }
    }
    finish(&mut all, &mut turns);
    all
}

fn finish(all: &mut Vec<Vec<Turn>>, turns: &mut Vec<Turn>) {
    let mut whole = std::mem::take(turns);
    if whole.last().is_some_and(|turn| turn.role == Role::User) {
        whole.pop();
    }
    if whole.len() > 1 {
        all.push(whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(who: &str, at: i64, text: &str) -> Message {
        Message { who: who.to_owned(), at: Some(at), text: text.to_owned() }
    }

    #[test]
    fn a_silence_ends_a_conversation_and_one_side_alone_is_none() {
        let chat = [
            message("Me", 0, "Anybody?"),
            message("Ana", 10, "Yes"),
            message("Ana", 20, "What is it?"),
            message("Me", 30, "Dinner"),
            message("Ana", 40, "Ok"),
            message("Ana", 90_000, "Hi"),
            message("Me", 90_010, "Hello"),
            message("Me", 90_020, "there"),
        ];
        let talks = conversations(&chat, "Me");
        let texts: Vec<Vec<&str>> =
            talks.iter().map(|turns| turns.iter().map(|turn| turn.content.as_str()).collect()).collect();
        assert_eq!(texts, [vec!["Yes\nWhat is it?", "Dinner"], vec!["Hi", "Hello\nthere"]]);
        assert!(talks.iter().all(|turns| turns[0].role == Role::User));
    }

    #[test]
    fn in_a_group_it_is_said_who_speaks_and_who_is_everywhere_is_the_person() {
        let group = vec![message("Ana", 0, "Hi"), message("Bo", 1, "Hey"), message("Me", 2, "Hello")];
        let talks = conversations(&group, "Me");
        assert_eq!(talks[0][0].content, "Ana: Hi\nBo: Hey");
        let pair = vec![message("Ana", 0, "1"), message("Ana", 1, "2"), message("Ana", 2, "3"), message("Me", 3, "4")];
        let third = vec![message("Cy", 0, "1"), message("Me", 1, "2")];
        let chats = [group, pair, third];
        assert_eq!(busiest(chats.iter().map(Vec::as_slice)).as_deref(), Some("Me"));
    }
}
