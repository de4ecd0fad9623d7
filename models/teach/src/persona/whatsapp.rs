//! The text that WhatsApp exports: a line for each message, in the date format of the phone's language.
//!
//! `31.12.23, 21:05 - Ana: text` on Android, `[12/31/23, 9:05:12 PM] Ana: text` on iPhones. Whether the day or the month
//! comes first is decided by the whole file.

use super::{Message, date};
use regex::Regex;
use std::sync::LazyLock;

static LINE: LazyLock<Regex> = LazyLock::new(|| {
    let date = r"(\d{1,4})[./-](\d{1,2})[./-](\d{2,4})";
    let time = r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?\s*([AaPp]\.?\s?[Mm]\.?)?";
    let line = format!(r"^\[?{date},?\s+{time}\]?\s*(?:-\s+)?([^:]{{1,80}}):\s(.*)$");
    Regex::new(&line).expect("a constant that a test uses")
});

/// A line of the chat's own: somebody joined, the chat is encrypted.
static NOTICE: LazyLock<Regex> = LazyLock::new(|| {
    let date = r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4}";
    let line = format!(r"^\[?{date},?\s+\d{{1,2}}[:.]\d{{2}}[^-\]]*(?:\]|\s-\s)");
    Regex::new(&line).expect("a constant that a test uses")
});

/// What stands in place of what is not text.
const ABSENT: [&str; 12] = [
    "<media omitted>",
    "<medien ausgeschlossen>",
    "<médias omis>",
    "<multimedia omitido>",
    "image omitted",
    "video omitted",
    "audio omitted",
    "sticker omitted",
    "gif omitted",
    "document omitted",
    "this message was deleted",
    "you deleted this message",
];

type Parts = ([i64; 3], (i64, i64, i64), String, String);

/// The chat, if `text` is one: at least two lines, and the first of them soon.
pub(super) fn read(text: &str) -> Option<Vec<Message>> {
    let mut found: Vec<Parts> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Marks of the direction of writing stand before dates and names, and narrow spaces before AM.
        let plain: String = line
            .chars()
            .filter(|c| !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'))
            .map(|c| if matches!(c, '\u{202f}' | '\u{a0}') { ' ' } else { c })
            .collect();
        if let Some(parts) = LINE.captures(&plain) {
            let number = |index: usize| parts.get(index).and_then(|part| part.as_str().parse::<i64>().ok());
            let half = parts.get(7).map(|half| half.as_str().to_lowercase());
            let hour = match (number(4)?, half.as_deref()) {
                (12, Some(half)) if half.starts_with('a') => 0,
                (hour, Some(half)) if half.starts_with('p') && hour < 12 => hour + 12,
                (hour, _) => hour,
            };
            let time = (hour, number(5)?, number(6).unwrap_or(0));
            let day = [number(1)?, number(2)?, number(3)?];
            found.push((day, time, parts[8].trim().to_owned(), parts[9].to_owned()));
        } else if !NOTICE.is_match(&plain)
            && let Some((.., text)) = found.last_mut()
        {
            text.push('\n');
            text.push_str(&plain);
        }
        // A long text without any message is something else.
        if found.is_empty() && number > 20 {
            return None;
        }
    }
    if found.len() < 2 {
        return None;
    }
    let month_first = !found.iter().any(|(date, ..)| date[0] > 12) && found.iter().any(|(date, ..)| date[1] > 12);
    let message = |(day, time, who, text): Parts| {
        let [a, b, c] = day;
        let (year, month, day) = match (a > 31, month_first) {
            (true, _) => (a, b, c),
            (false, true) => (c, a, b),
            (false, false) => (c, b, a),
        };
        let year = if year < 100 { 2000 + year } else { year };
        let lower = text.trim().to_lowercase();
        let is_absent = ABSENT.iter().any(|absent| lower.contains(absent)) || lower.ends_with("(file attached)");
        let at = date::seconds(year, month, day, time);
        (!is_absent && !lower.is_empty()).then(|| Message { who, at, text: text.trim().to_owned() })
    };
    Some(found.into_iter().filter_map(message).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_phones_are_read() {
        let android = "31.12.23, 21:04 - Nachrichten sind verschlüsselt. Mehr: hier\n31.12.23, 21:05 - Ana: Hallo!\nzweite Zeile\n\
                       31.12.23, 21:06 - Bo Müller: <Medien ausgeschlossen>\n01.01.24, 00:01 - Bo Müller: Frohes Neues: ja";
        let chat = read(android).expect("a chat");
        let last = chat.last().expect("messages");
        assert_eq!((last.who.as_str(), last.text.as_str()), ("Bo Müller", "Frohes Neues: ja"));
        let first = chat.iter().find(|message| message.who == "Ana").expect("she wrote");
        assert_eq!(first.text, "Hallo!\nzweite Zeile");
        assert_eq!(last.at.expect("a date") - first.at.expect("a date"), 2 * 3600 + 56 * 60);
        let iphone = "\u{200e}[12/31/23, 9:05:12\u{202f}PM] Ana: Hi\n[1/2/24, 12:00:01 AM] Bo: Hello";
        let chat = read(iphone).expect("a chat");
        assert_eq!(chat[1].at.expect("a date") - chat[0].at.expect("a date"), 26 * 3600 + 54 * 60 + 49);
    }

    #[test]
    fn other_texts_are_no_chat() {
        for text in ["", "Dear diary: today was good.\nSo was yesterday.", "12:30 lunch: soup\n13:00 walk: park"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
