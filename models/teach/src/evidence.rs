//! Whether a quote stands in its chunk, word for word: only white space may differ.

use serde::{Deserialize, Serialize};

/// Fewest letters and digits of a quote: shorter ones stand everywhere.
const FEWEST: usize = 12;

/// A quote and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// As it stands in the chunk, its white space included.
    pub quote: String,
    /// First byte in the chunk.
    pub start: usize,
    /// Byte behind the last one.
    pub end: usize,
}

/// Where `quote` stands in `text`, white space apart. `None` for what does not stand there, and for what says too little
/// to prove anything (unless it is nearly the whole text).
pub fn find(quote: &str, text: &str) -> Option<Evidence> {
    let wanted: Vec<&str> = quote.split_whitespace().collect();
    let wanted = wanted.join(" ");
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
    if letters(&wanted) < FEWEST.min(letters(text)).max(1) {
        return None;
    }
    let (normal, places) = normalised(text);
    let at = normal.find(&wanted)?;
    let start = places[at];
    let last = at + wanted.len() - 1;
    // The end is behind the last character, which may have several bytes.
    let end = text[places[last]..].chars().next().map_or(text.len(), |c| places[last] + c.len_utf8());
    Some(Evidence { quote: text[start..end].to_owned(), start, end })
}

/// The text with single spaces, and for each of its bytes the place of its character in the original.
fn normalised(text: &str) -> (String, Vec<usize>) {
    let (mut normal, mut places) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
    let mut in_space = true;
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            if !in_space {
                normal.push(' ');
                places.push(at);
            }
            in_space = true;
        } else {
            normal.push(c);
            places.resize(normal.len(), at);
            in_space = false;
        }
    }
    (normal, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Die Brücke\n  wurde 1894\teröffnet. Sie ist   244 Meter lang.";

    #[test]
    fn a_quote_is_found_whatever_its_white_space() {
        let found = find("Brücke wurde 1894 eröffnet.", TEXT).expect("it stands there");
        assert_eq!(&TEXT[found.start..found.end], found.quote);
        assert_eq!(found.quote, "Brücke\n  wurde 1894\teröffnet.");
        assert!(find(" Sie  ist\n244 Meter lang. ", TEXT).is_some());
        assert_eq!(find(TEXT, TEXT).expect("the whole").quote, TEXT);
    }

    #[test]
    fn what_is_changed_short_or_empty_proves_nothing() {
        for quote in
            ["Die Brücke wurde 1895 eröffnet", "die brücke wurde 1894 eröffnet", "lang.", "", "   ", "…!?-–  …"]
        {
            assert_eq!(find(quote, TEXT), None, "{quote}");
        }
        assert!(find("Yes.", "Yes.").is_some(), "a short text may be quoted whole");
        assert_eq!(find("", ""), None);
    }

    #[test]
    fn every_end_of_a_text_of_many_bytes_is_a_border() {
        let text = "äöü ßéñ 日本語の文章です。 🦀🦀 end of it";
        let found = find("日本語の文章です。 🦀🦀 end of", text).expect("it stands there");
        assert_eq!(found.quote, "日本語の文章です。 🦀🦀 end of");
    }
}
