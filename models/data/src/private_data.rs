//! Secrets and personal data that a model could learn to repeat.
//!
//! Patterns find candidates; checksums (Luhn, mod 97) and formats decide. What is found is shown
//! masked, since reports are shared.

use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A key or token of a service, or a private key.
    Key,
    /// A payment card number.
    Card,
    /// A bank account number.
    Iban,
    /// An e-mail address.
    Email,
    /// A telephone number with its country.
    Phone,
}

impl Kind {
    /// What stands for a find where it is taken out.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Key => "<KEY>",
            Self::Card => "<CARD>",
            Self::Iban => "<IBAN>",
            Self::Email => "<EMAIL>",
            Self::Phone => "<PHONE>",
        }
    }
}

impl Kind {
    /// Whether it opens something, rather than naming somebody.
    pub(crate) fn is_secret(self) -> bool {
        matches!(self, Self::Key | Self::Card)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Card => "card number",
            Self::Iban => "bank account",
            Self::Email => "e-mail address",
            Self::Phone => "telephone number",
        }
    }
}

/// Lengths of account numbers by country.
const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AT", 20),
    ("BE", 16),
    ("BG", 22),
    ("CH", 21),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("EE", 20),
    ("ES", 24),
    ("FI", 18),
    ("FR", 27),
    ("GB", 22),
    ("GR", 27),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IT", 27),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MT", 31),
    ("NL", 18),
    ("NO", 15),
    ("PL", 28),
    ("PT", 25),
    ("RO", 24),
    ("SA", 24),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("TR", 26),
    ("AE", 23),
    ("BR", 29),
];

static KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?-u:\b)(?:sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}",
        r"|hf_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}(?-u:\b)|AIza[0-9A-Za-z_-]{35}|xox[baprs]-[0-9A-Za-z-]{10,}",
        r"|glpat-[0-9A-Za-z_-]{20,})|-----BEGIN [A-Z ]*PRIVATE KEY-----",
    ))
});
static CARD: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u:\b)[3-6](?:[ -]?[0-9]){13,15}(?-u:\b)"));
static IBAN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,27}"));
static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?-u:\b)[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}(?-u:\b)"));
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"\+[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,5}\)[ .-]?)?[0-9]{1,5}(?:[ .-]?[0-9]{2,5}){1,5}(?-u:\b)")
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are constants and a test compiles each")
}

/// The first find of each kind in `text`, masked.
pub(crate) fn find(text: &str) -> Vec<(Kind, String)> {
    let mut found: Vec<(Kind, String)> = Vec::new();
    all(text, &mut |kind, range| {
        if found.iter().all(|(known, _)| *known != kind) {
            found.push((kind, masked(&text[range])));
        }
    });
    found
}

/// `text` with placeholders for everything that is found; `None` where nothing is.
pub(crate) fn redacted(text: &str) -> Option<String> {
    let mut places: Vec<(Range<usize>, Kind)> = Vec::new();
    all(text, &mut |kind, range| places.push((range, kind)));
    if places.is_empty() {
        return None;
    }
    places.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    let mut clean = String::with_capacity(text.len());
    let mut from = 0;
    for (range, kind) in places {
        // Inside what is gone already.
        if range.start < from {
            continue;
        }
        clean.push_str(&text[from..range.start]);
        clean.push_str(kind.placeholder());
        from = range.end;
    }
    clean.push_str(&text[from..]);
    Some(clean)
}

/// Every find in `text`.
fn all(text: &str, each: &mut dyn FnMut(Kind, Range<usize>)) {
    KEY.find_iter(text).filter(|find| is_key(find.as_str())).for_each(|find| each(Kind::Key, find.range()));
    // The other patterns need what most rows do not hold; looking for that is cheaper.
    let digits = has_long_number(text);
    if digits {
        CARD.find_iter(text).filter(|find| is_card(find.as_str())).for_each(|find| each(Kind::Card, find.range()));
    }
    if has_country_number(text) {
        for find in IBAN.find_iter(text) {
            if let Some(number) = iban_in(find.as_str()) {
                each(Kind::Iban, find.start()..find.start() + number.len());
            }
        }
    }
    if memchr(text, b'@') {
        let somebodys = EMAIL.find_iter(text).filter(|find| is_somebodys(find.as_str()));
        somebodys.for_each(|find| each(Kind::Email, find.range()));
    }
    if memchr(text, b'+') {
        PHONE.find_iter(text).filter(|find| is_phone(find.as_str())).for_each(|find| each(Kind::Phone, find.range()));
    }
}

fn memchr(text: &str, wanted: u8) -> bool {
    text.as_bytes().contains(&wanted)
}

/// Whether there are thirteen digits with nothing but single spaces and hyphens between them.
fn has_long_number(text: &str) -> bool {
    let (mut run, mut gap) = (0, true);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => (run, gap) = (run + 1, false),
            b' ' | b'-' if !gap => gap = true,
            _ => (run, gap) = (0, true),
        }
        if run >= 13 {
            return true;
        }
    }
    false
}

/// Whether two capital letters and two digits come one after the other.
fn has_country_number(text: &str) -> bool {
    let fits = |at: &[u8]| {
        at[0].is_ascii_uppercase() && at[1].is_ascii_uppercase() && at[2].is_ascii_digit() && at[3].is_ascii_digit()
    };
    text.as_bytes().windows(4).any(fits)
}

/// A number of 9 to 15 digits that is no sum such as `+1 000 000`.
fn is_phone(find: &str) -> bool {
    let digits = find.bytes().filter(u8::is_ascii_digit).count();
    let zeroes = find.bytes().filter(|byte| *byte == b'0').count();
    (9..=15).contains(&digits) && zeroes * 2 < digits
}

/// Enough to find it again, not enough to use it.
fn masked(find: &str) -> String {
    let start: String = find.chars().take(4).collect();
    format!("{start}…")
}

/// Names like `sk-learn-contrib-packages` have no digits; keys do.
fn is_key(find: &str) -> bool {
    find.starts_with("-----") || find.bytes().any(|byte| byte.is_ascii_digit())
}

/// Addresses that documentation is free to use belong to nobody.
fn is_somebodys(address: &str) -> bool {
    let domain = address.rsplit('@').next().unwrap_or_default().to_lowercase();
    let reserved = ["example.com", "example.org", "example.net"];
    !reserved.contains(&domain.as_str()) && !matches!(domain.rsplit('.').next(), Some("example" | "test"))
}

fn is_card(find: &str) -> bool {
    let digits: Vec<u32> = find.chars().filter_map(|c| c.to_digit(10)).collect();
    let issuer = digits.iter().take(2).fold(0, |number, digit| number * 10 + digit);
    let plausible = match digits.len() {
        14 => matches!(issuer, 30 | 36 | 38 | 39),
        15 => matches!(issuer, 34 | 37),
        16 => matches!(issuer, 40..=49 | 51..=55 | 60 | 62 | 64 | 65),
        _ => false,
    };
    plausible && luhn(&digits)
}

fn luhn(digits: &[u32]) -> bool {
    let weighed = digits.iter().rev().enumerate().map(|(place, digit)| match place % 2 {
        0 => *digit,
        _ if *digit > 4 => 2 * digit - 9,
        _ => 2 * digit,
    });
    weighed.sum::<u32>() % 10 == 0
}

/// The account number at the start of `find`, which may run on into the next word.
fn iban_in(find: &str) -> Option<&str> {
    let (_, length) = IBAN_LENGTHS.iter().find(|(country, _)| find.starts_with(country))?;
    let (end, last) = find.char_indices().filter(|(_, c)| *c != ' ').nth(length - 1)?;
    let number = &find[..end + last.len_utf8()];
    let compact: Vec<u8> = number.bytes().filter(|byte| *byte != b' ').collect();
    let (head, tail) = compact.split_at(4);
    let remainder = tail.iter().chain(head).fold(0_u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    (remainder == 1).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        find(text).into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn secrets_and_personal_data_are_found() {
        let key = format!("{}{}", "sk-", "proj4f9XbT2mQz7Lk0VwRy81");
        assert_eq!(kinds(&format!("use {key} here")), [Kind::Key]);
        assert_eq!(kinds("-----BEGIN RSA PRIVATE KEY-----"), [Kind::Key]);
        assert_eq!(kinds("card 4111 1111 1111 1111."), [Kind::Card]);
        assert_eq!(kinds("IBAN DE89 3704 0044 0532 0130 00 ABC"), [Kind::Iban]);
        assert_eq!(kinds("write to erika@mustermann.de"), [Kind::Email]);
        assert_eq!(kinds(&format!("hf_{}", "a1".repeat(17))), [Kind::Key]);
        assert_eq!(kinds("call +49 (221) 123-4567 or not"), [Kind::Phone]);
    }

    #[test]
    fn lookalikes_are_not() {
        for text in [
            "sk-learn-contrib-packages-are-nice",
            "4111 1111 1111 1112",
            "1700000000000 milliseconds",
            "DE89 3704 0044 0532 0130 01",
            "mail@example.com",
            "@user and a@b",
            "+1 000 000 000 dollars",
            "1 + 2345678",
            "IT IS A LONG UPPER CASE SENTENCE WITH 12 WORDS",
        ] {
            assert!(kinds(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn finds_are_masked() {
        let (_, shown) = find("erika@mustermann.de").remove(0);
        assert_eq!(shown, "erik…");
    }

    #[test]
    fn placeholders_take_the_place_of_finds() {
        let text = "Über erika@mustermann.de, 4111 1111 1111 1111 und DE89 3704 0044 0532 0130 00: +49 221 1234567.";
        let clean = redacted(text).expect("four finds");
        assert_eq!(clean, "Über <EMAIL>, <CARD> und <IBAN>: <PHONE>.");
        assert_eq!(redacted(&clean), None);
    }
}
