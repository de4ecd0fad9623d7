//! What can be wrong with a single row, in the terms both the report and the filter use.

use peft_plan::{Example, Role, Row, Turn};
use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// Strings that chat templates and prompt formats put around turns.
const CHAT_MARKERS: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<|assistant|>",
    "<|user|>",
    "<|system|>",
    "<|end|>",
    "<｜Assistant｜>",
    "<｜User｜>",
    "### Response:",
    "### Instruction:",
    "</s>",
];

/// Answers shorter than this may end as they like.
const LONG_ANSWER: usize = 40;

/// UTF-8 that was read as Windows-1252: a lead byte's character followed by a trail byte's.
static MOJIBAKE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!("\u{fffd}|ï¿½|â€|ðŸ|Â[\u{a0}-\u{bf}]", "|[ÃÄÅ][\u{80}-\u{bf}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“•–—˜™š›œžŸ]",))
        .expect("a constant pattern that a test compiles")
});

static MARKERS: LazyLock<Regex> = LazyLock::new(|| {
    let all: Vec<String> = CHAT_MARKERS.iter().map(|marker| regex::escape(marker)).collect();
    Regex::new(&all.join("|")).expect("constant words that a test compiles")
});

/// `text` as it was before UTF-8 was read as Windows-1252; `None` where it is not garbled in that way.
pub(crate) fn repaired(text: &str) -> Option<String> {
    if text.is_ascii() || !MOJIBAKE.is_match(text) {
        return None;
    }
    let mut clean = String::with_capacity(text.len());
    let mut changed = false;
    // Word by word: a garbled quotation beside good text stays repairable.
    for piece in text.split_inclusive([' ', '\n', '\t']) {
        let (bytes, _, lost) = encoding_rs::WINDOWS_1252.encode(piece);
        match std::str::from_utf8(&bytes) {
            Ok(good) if !lost && MOJIBAKE.is_match(piece) => {
                clean.push_str(good);
                changed = true;
            }
            _ => clean.push_str(piece),
        }
    }
    changed.then_some(clean)
}

/// All texts of a row.
pub(crate) fn texts(example: &Example) -> impl Iterator<Item = Cow<'_, str>> {
    let text = if let Example::Text(text) = example { Some(Cow::Borrowed(text.as_str())) } else { None };
    text.into_iter().chain(example.parts().into_iter().flatten().map(Turn::as_text))
}

/// The last answer of a conversation.
pub(crate) fn answer(row: &Row) -> Option<Cow<'_, str>> {
    answer_of(&row.example)
}

/// The last answer of an example.
pub(crate) fn answer_of(example: &Example) -> Option<Cow<'_, str>> {
    // Of a pair the better one.
    let turns = match example {
        Example::Text(_) => return None,
        Example::Messages(turns) | Example::Preference { chosen: turns, .. } | Example::Rated { answer: turns, .. } => {
            turns
        }
    };
    turns.iter().rfind(|turn| turn.role == Role::Assistant).map(Turn::as_text)
}

/// The place of garbled characters, with a little around it.
pub(crate) fn garbled(example: &Example) -> Option<String> {
    texts(example).find_map(|text| {
        if text.is_ascii() {
            return None;
        }
        let find = MOJIBAKE.find(&text)?;
        let before: String = text[..find.start()].chars().rev().take(12).collect();
        let before: String = before.chars().rev().collect();
        let after: String = text[find.start()..].chars().take(14).collect();
        Some(format!("{before}{after}"))
    })
}

/// A marker of a chat template inside a turn. Plain text may be a rendered chat on purpose.
pub(crate) fn chat_marker(example: &Example) -> Option<&'static str> {
    if matches!(example, Example::Text(_)) {
        return None;
    }
    let found = example.texts().find_map(|text| MARKERS.find(text))?.as_str();
    CHAT_MARKERS.iter().find(|marker| **marker == found).copied()
}

/// What is unusual about who speaks when.
pub(crate) fn role_order(example: &Example) -> Option<&'static str> {
    let turns = example.conversation()?;
    let spoken: Vec<&Turn> = turns.iter().skip_while(|turn| turn.role == Role::System).collect();
    if spoken.iter().any(|turn| turn.role == Role::System) {
        return Some("has a system message in the middle");
    }
    // A single answer without a question is a way to teach plain completions.
    if spoken.len() > 1 && spoken[0].role == Role::Assistant {
        return Some("starts with an answer");
    }
    for pair in spoken.windows(2) {
        match (pair[0].role, pair[1].role) {
            (Role::User, Role::User) => return Some("has two user messages in a row"),
            (Role::Assistant, Role::Assistant) => return Some("has two answers in a row"),
            (Role::User, Role::Tool) => return Some("has a tool result that nobody asked for"),
            _ => {}
        }
    }
    let last = spoken.last()?;
    (last.role != Role::Assistant).then_some("ends without an answer")
}

/// Whether a long answer stops in the middle of a sentence.
pub(crate) fn stops_mid_sentence(answer: &str) -> bool {
    let answer = answer.trim_end();
    if answer.len() < LONG_ANSWER || answer.ends_with("```") {
        return false;
    }
    // Lists, code and tables end without a full stop by design.
    let last_line = answer.lines().last().unwrap_or_default().trim_start();
    let is_listed =
        last_line.starts_with(['-', '*', '•', '|', '#', '+']) || last_line.starts_with(|c: char| c.is_ascii_digit());
    !is_listed && answer.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ',' | ';' | '-' | '–'))
}

/// Whether an answer is a single word.
pub(crate) fn is_one_word(answer: &str) -> bool {
    answer.split_whitespace().nth(1).is_none()
}

/// Why the quality filter leaves a row out: garbled text, leaked chat markers, a disordered
/// conversation, or an answer without a letter or digit. One-word answers stay: they may be labels.
pub(crate) fn filter_reason(example: &Example) -> Option<String> {
    if let Some(place) = garbled(example) {
        return Some(format!("the text is garbled: {place}"));
    }
    if let Some(marker) = chat_marker(example) {
        return Some(format!("it contains the chat marker {marker}"));
    }
    if let Some(disorder) = role_order(example) {
        return Some(format!("the conversation {disorder}"));
    }
    is_wordless(example).then(|| "there are no words to learn".to_owned())
}

/// Whether what is to be learnt has neither letter nor digit.
pub(crate) fn is_wordless(example: &Example) -> bool {
    let silent = |text: &str| !text.chars().any(char::is_alphanumeric);
    match example {
        Example::Text(text) => silent(text),
        Example::Messages(_) | Example::Preference { .. } | Example::Rated { .. } => {
            answer_of(example).is_some_and(|answer| silent(&answer))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(turns: &[(Role, &str)]) -> Example {
        Example::Messages(turns.iter().map(|(role, text)| Turn::new(*role, *text)).collect())
    }

    #[test]
    fn garbled_text_is_found_and_accents_are_not() {
        for text in ["cafÃ© noir", "donâ€™t", "Ã¼ber", "ok \u{fffd}", "Â£5", "ðŸ˜€"] {
            assert!(garbled(&Example::Text(text.to_owned())).is_some(), "{text}");
        }
        for text in ["café", "São Paulo, NÃO", "don’t", "Größe", "Ångström", "😀"] {
            assert!(garbled(&Example::Text(text.to_owned())).is_none(), "{text}");
        }
    }

    #[test]
    fn garbled_words_are_put_right_and_others_stay() {
        assert_eq!(repaired("Das cafÃ© ist Ã¼ber dem café").as_deref(), Some("Das café ist über dem café"));
        assert_eq!(repaired("donâ€™t").as_deref(), Some("don’t"));
        assert_eq!(repaired("São Paulo"), None);
    }

    #[test]
    fn disorder_is_named() {
        use Role::{Assistant, System, Tool, User};
        let order = |turns: &[(Role, &str)]| role_order(&talk(turns));
        assert_eq!(order(&[(System, "s"), (User, "q"), (Assistant, "a"), (Tool, "t"), (Assistant, "b")]), None);
        assert_eq!(order(&[(Assistant, "a")]), None);
        assert!(order(&[(User, "q"), (User, "q"), (Assistant, "a")]).is_some_and(|t| t.contains("two user")));
        assert!(order(&[(Assistant, "a"), (User, "q"), (Assistant, "a")]).is_some_and(|t| t.contains("starts")));
        assert!(order(&[(User, "q"), (System, "s"), (Assistant, "a")]).is_some_and(|t| t.contains("middle")));
        assert!(order(&[(User, "q"), (Assistant, "a"), (User, "q")]).is_some_and(|t| t.contains("ends")));
    }

    #[test]
    fn cut_answers_are_told_from_lists_and_code() {
        assert!(stops_mid_sentence("The capital of France is Paris and the capital of"));
        assert!(!stops_mid_sentence("The capital of France is Paris, which everybody knows."));
        assert!(!stops_mid_sentence("These are the things that you need to have:\n- eggs\n- flour"));
        assert!(!stops_mid_sentence("Paris"));
    }

    #[test]
    fn leaked_markers_count_in_conversations_only() {
        assert_eq!(chat_marker(&talk(&[(Role::Assistant, "x<|im_end|>")])), Some("<|im_end|>"));
        assert_eq!(chat_marker(&Example::Text("<|im_end|>".to_owned())), None);
    }
}
