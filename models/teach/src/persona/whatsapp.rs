//! The text that WhatsApp exports: a line for each message, in the date format of the phone's language.
//!
//! `31.12.23, 21:05 - Ana: text` on Android, `[12/31/23, 9:05:12 PM] Ana: text` on iPhones. Whether the day or the month
//! comes first is decided by the whole file. Attachments, what was deleted, and the notices of the phone are left out; a
//! caption stays.

use super::{Message, date};
use regex::Regex;
use std::sync::LazyLock;

static LINE: LazyLock<Regex> = LazyLock::new(|| {
    let line = format!(r"^{}\s*(?:[-–]\s+)?([^:]{{1,80}}?)\s?:(?:\s(.*))?$", begin());
    Regex::new(&line).expect("a constant that a test uses")
});

/// A line of the chat's own: somebody joined, the chat is encrypted.
static NOTICE: LazyLock<Regex> = LazyLock::new(|| {
    let line = format!(r"^{}(?:\s*[-–]\s|\s)", begin());
    Regex::new(&line).expect("a constant that a test uses")
});

/// Day and hour, as phones of many languages write them before a message.
fn begin() -> String {
    let date = r"(\d{1,4})[./-]\s?(\d{1,2})[./-]\s?(\d{1,4})\.?";
    let word = r"(?:(?:à|às|um|at|klo|kl\.?|om|la|alle|в)\s+)?";
    let half = r"(?:(上午|下午|午前|午後|오전|오후)\s?)?";
    let time = r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?(?:\s*([AaPp]\.?\s?[Mm]\.?|ص|م))?";
    format!(r"\[?{date}[,،]?\s+{word}{half}{time}\]?")
}

/// What stands in a message that somebody took back, or that is no text.
const ABSENT: [&str; 39] = [
    "image omitted",
    "video omitted",
    "audio omitted",
    "sticker omitted",
    "gif omitted",
    "document omitted",
    "contact card omitted",
    "video note omitted",
    "bild weggelassen",
    "video weggelassen",
    "audio weggelassen",
    "sticker weggelassen",
    "gif weggelassen",
    "dokument weggelassen",
    "image absente",
    "vidéo absente",
    "imagen omitida",
    "video omitido",
    "audio omitido",
    "immagine omessa",
    "imagem ocultada",
    "afbeelding weggelaten",
    "this message was deleted",
    "you deleted this message",
    "diese nachricht wurde gelöscht",
    "du hast diese nachricht gelöscht",
    "ce message a été supprimé",
    "vous avez supprimé ce message",
    "se eliminó este mensaje",
    "eliminaste este mensaje",
    "questo messaggio è stato eliminato",
    "hai eliminato questo messaggio",
    "mensagem apagada",
    "você apagou esta mensagem",
    "dit bericht is verwijderd",
    "missed voice call",
    "missed video call",
    "waiting for this message. this may take a while",
    "null",
];

/// The name of an attached file, with its remark; what follows it is its caption.
static ATTACHED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\S[^\n]*\.[A-Za-z0-9]{2,5} \([^()\n]{4,40}\)$").expect("a constant that a test uses")
});

/// What stands behind a message that was changed later.
static EDITED: LazyLock<Regex> = LazyLock::new(|| {
    let words = "edited|bearbeitet|modifié|editó|editado|editada|modificato|bewerkt";
    Regex::new(&format!(r"\s*<[^<>\n]*(?:{words})[^<>\n]*>$")).expect("a constant that a test uses")
});

/// Who wrote when what; the day as its three numbers in the order of the file.
struct Line {
    day: [i64; 3],
    time: (i64, i64, i64),
    who: String,
    text: String,
}

/// The chat, if `text` is one: at least two lines, and the first of them soon.
pub(super) fn read(text: &str) -> Option<Vec<Message>> {
    let mut found: Vec<Line> = Vec::new();
    // What stands behind a notice belongs to it.
    let mut is_open = false;
    for (number, raw) in text.lines().enumerate() {
        let plain = plain(raw);
        if let Some(line) = begun(&plain) {
            // Phones put a mark before what is theirs and not the writer's.
            let is_notice = raw.split_once(": ").is_some_and(|(_, said)| said.starts_with('\u{200e}'));
            is_open = !is_notice && !is_sentence(&line.who);
            if is_open {
                found.push(line);
            }
        } else if NOTICE.is_match(&digits(&plain)) {
            is_open = false;
        } else if let Some(last) = found.last_mut().filter(|_| is_open) {
            last.text.push('\n');
            last.text.push_str(&plain);
        }
        // A long text without any message is something else.
        if found.is_empty() && number > 20 {
            return None;
        }
    }
    if found.len() < 2 {
        return None;
    }
    let month_first = month_first(&found);
    let message = |line: Line| {
        let text = said(&line.text);
        let at = at(line.day, month_first, line.time);
        (!text.is_empty()).then_some(Message { who: line.who, at, text })
    };
    Some(found.into_iter().filter_map(message).collect())
}

/// Without the marks for the direction of writing that stand before dates and around names, and without narrow spaces.
fn plain(raw: &str) -> String {
    let is_mark = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let spaced = |c: char| if matches!(c, '\u{202f}' | '\u{a0}') { ' ' } else { c };
    raw.chars().filter(|c| !is_mark(*c)).map(spaced).collect()
}

/// With the digits that everybody writes, one character for one.
fn digits(plain: &str) -> String {
    let digit = |c: char| match c {
        '٠'..='٩' => char::from(b'0' + (c as u32 - '٠' as u32) as u8),
        '۰'..='۹' => char::from(b'0' + (c as u32 - '۰' as u32) as u8),
        other => other,
    };
    plain.chars().map(digit).collect()
}

/// The beginning of a message.
fn begun(plain: &str) -> Option<Line> {
    let line = digits(plain);
    let parts = LINE.captures(&line)?;
    let number = |index: usize| parts.get(index).and_then(|part| part.as_str().parse::<i64>().ok());
    let half = |index: usize| parts.get(index).map_or(String::new(), |half| half.as_str().to_lowercase());
    let (before, after) = (half(4), half(8));
    let is_morning = matches!(before.as_str(), "上午" | "午前" | "오전") || after.starts_with(['a', 'ص']);
    let is_evening = matches!(before.as_str(), "下午" | "午後" | "오후") || after.starts_with(['p', 'م']);
    let hour = match number(5)? {
        12 if is_morning => 0,
        hour if is_evening && hour < 12 => hour + 12,
        hour => hour,
    };
    let (time, day) = ((hour, number(6)?, number(7).unwrap_or(0)), [number(1)?, number(2)?, number(3)?]);
    // The words themselves keep the digits that they have.
    let own = |index: usize| {
        let part = parts.get(index)?;
        let from = line[..part.start()].chars().count();
        Some(plain.chars().skip(from).take(part.as_str().chars().count()).collect::<String>())
    };
    let who = own(9)?.trim().trim_start_matches('~').trim().to_owned();
    (!who.is_empty()).then(|| Line { day, time, who, text: own(10).unwrap_or_default() })
}

/// No name: a notice with a colon in it, such as `Ana changed the subject to "Trip`.
fn is_sentence(who: &str) -> bool {
    let words = who.split_whitespace().count();
    words > 6 || who.contains(['"', '“', '”', '„', '«']) || (words > 4 && who.contains(". "))
}

/// What was said, without what only stands for something else.
fn said(text: &str) -> String {
    let text = EDITED.replace(text.trim(), "");
    let is_stand_in = |line: &str| {
        let line = line.trim();
        let lower = line.to_lowercase();
        let lower = lower.trim_end_matches('.');
        (line.starts_with('<') && line.ends_with('>'))
            || ATTACHED.is_match(line)
            || ABSENT.contains(&lower)
            || line.contains("://maps.google.com/?q=")
    };
    let mut lines = text.lines();
    let Some(first) = lines.next() else { return String::new() };
    if first.trim() == "POLL:" {
        return String::new();
    }
    if is_stand_in(first) {
        return lines.collect::<Vec<_>>().join("\n").trim().to_owned();
    }
    text.trim().to_owned()
}

fn at(day: [i64; 3], month_first: bool, time: (i64, i64, i64)) -> Option<i64> {
    let [a, b, c] = day;
    let (year, month, day) = match (a > 31, month_first) {
        (true, _) => (a, b, c),
        (false, true) => (c, a, b),
        (false, false) => (c, b, a),
    };
    let year = if year < 100 { 2000 + year } else { year };
    date::seconds(year, month, day, time)
}

/// Whether the month comes first: a chat goes forward in time, and has no thirteenth month.
fn month_first(lines: &[Line]) -> bool {
    let mistakes = |month_first: bool| {
        let times: Vec<Option<i64>> = lines.iter().map(|line| at(line.day, month_first, line.time)).collect();
        let backward = times.windows(2).filter(|pair| pair[1] < pair[0]).count();
        times.iter().filter(|time| time.is_none()).count() + backward
    };
    mistakes(true) < mistakes(false)
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

    /// One line of a chat in every way in which phones begin it.
    #[test]
    fn days_and_hours_of_many_languages_are_read() {
        for (first, second) in [
            ("31/12/2023, 21:05 - ", "01/01/2024, 00:05 - "),
            ("12/31/23, 9:05\u{202f}PM - ", "1/1/24, 12:05\u{202f}AM - "),
            ("31/12/2023 à 21:05 - ", "01/01/2024 à 00:05 - "),
            ("31/12/23, 9:05\u{a0}p.\u{a0}m. - ", "1/1/24, 12:05\u{a0}a.\u{a0}m. - "),
            ("31.12.2023 klo 21.05 - ", "1.1.2024 klo 0.05 - "),
            ("2023/12/31 下午9:05 - ", "2024/1/1 上午12:05 - "),
            ("2023. 12. 31. 21:05 - ", "2024. 01. 01. 0:05 - "),
            ("[31-12-2023 21:05:00] ", "[01-01-2024 00:05:00] "),
            ("[2023-12-31, 21:05:00] ", "[2024-01-01, 00:05:00] "),
            ("٣١\u{200f}/١٢\u{200f}/٢٠٢٣، ٩:٠٥ م - ", "١\u{200f}/١\u{200f}/٢٠٢٤، ١٢:٠٥ ص - "),
        ] {
            let chat = read(&format!("{first}Ana: Noch 5 Minuten\n{second}\u{200e}~\u{a0}Bo: ٥ da")).expect(first);
            let (who, text): (Vec<&str>, Vec<&str>) =
                chat.iter().map(|message| (message.who.as_str(), message.text.as_str())).unzip();
            assert_eq!((who, text), (vec!["Ana", "Bo"], vec!["Noch 5 Minuten", "٥ da"]), "{first}");
            assert_eq!(chat[1].at.expect(second) - chat[0].at.expect(first), 3 * 3600, "{first}");
        }
        // Neither number is above twelve: the order of the messages decides.
        let chat = read("2/10/24, 9:00 AM - A: x\n2/11/24, 9:00 AM - B: y\n3/1/24, 9:00 AM - A: z").expect("a chat");
        assert_eq!(chat[1].at.expect("a day") - chat[0].at.expect("a day"), 86_400);
    }

    #[test]
    fn what_is_no_text_is_left_out_and_captions_stay() {
        let chat = "31/12/2023, 21:00 - Ana added Bo\n\
            31/12/2023, 21:01 - Ana changed the group name from \"Trip\" to \"Trip: 2024\"\n\
            31/12/2023, 21:05 - Ana: IMG-20231231-WA0001.jpg (file attached)\nLook at this\n\
            31/12/2023, 21:06 - Bo: <Media omitted>\n31/12/2023, 21:07 - Bo: This message was deleted\n\
            31/12/2023, 21:08 - Bo: Nice one <This message was edited>\n\
            31/12/2023, 21:09 - Ana: location: https://maps.google.com/?q=1.0,2.0\n\
            31/12/2023, 21:10 - Ana left\nof the notice\n31/12/2023, 21:11 - Ana: null\n31/12/2023, 21:12 - Bo: I <3 it";
        let said = |text: &str| -> Vec<String> {
            read(text)
                .expect("a chat")
                .into_iter()
                .map(|message| format!("{}: {}", message.who, message.text))
                .collect()
        };
        assert_eq!(said(chat), ["Ana: Look at this", "Bo: Nice one", "Bo: I <3 it"]);
        let iphone = "[31/12/2023, 21:05:00] Friends: \u{200e}Messages and calls are end-to-end encrypted.\n\
            \u{200e}[31/12/2023, 21:05:01] Ana: \u{200e}image omitted\n[31/12/2023, 21:05:02] Ana: Hi @\u{2068}Bo\u{2069}\n\
            \u{200e}[31/12/2023, 21:05:03] Bo: \u{200e}<attached: 00000012-PHOTO.jpg>\n[31/12/2023, 21:05:04] Bo: Hello";
        assert_eq!(said(iphone), ["Ana: Hi @Bo", "Bo: Hello"]);
    }

    #[test]
    fn other_texts_are_no_chat() {
        for text in ["", "Dear diary: today was good.\nSo was yesterday.", "12:30 lunch: soup\n13:00 walk: park"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
