//! Other people's names replaced, everywhere the same by the same.

use regex::{Captures, NoExpand, Regex};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Shorter parts of names are words of every language.
const SHORTEST: usize = 3;
/// Fewer digits are no telephone number.
const NUMBER: usize = 7;

/// An e-mail address, and what stands for one; `--redact` writes the same.
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+").expect("a constant that a test uses"));
const HIDDEN: &str = "<EMAIL>";

/// Names that are words as well: written small, they are words.
const WORDS: [&str; 64] = [
    "will", "mark", "may", "can", "art", "bill", "rose", "hope", "grace", "joy", "faith", "rob", "sue", "pat", "jack",
    "frank", "grant", "chase", "drew", "guy", "don", "max", "rich", "nick", "miles", "mason", "young", "long", "white",
    "black", "brown", "green", "stone", "wood", "hill", "love", "day", "best", "little", "king", "page", "cook",
    "bell", "fox", "bird", "fish", "price", "field", "winter", "summer", "april", "june", "august", "dawn", "sky",
    "star", "sunny", "baby", "mama", "papa", "mum", "mom", "dad", "honey",
];

/// Names, and what stands for them.
#[derive(Default)]
pub(super) struct Names {
    people: Vec<String>,
    patterns: Vec<(Regex, String)>,
}

impl Names {
    /// Another person. Twice the same is one.
    pub(super) fn learn(&mut self, name: &str) {
        if name.trim().is_empty() || self.people.iter().any(|known| known == name) {
            return;
        }
        let stand_in = format!("Person {}", self.people.len() + 1);
        self.people.push(name.to_owned());
        let parts = name.split_whitespace().filter(|part| {
            part.chars().filter(|c| c.is_alphabetic()).count() >= SHORTEST
                && part.chars().next().is_some_and(char::is_uppercase)
        });
        // The whole name first: its parts would leave the rest of it behind.
        for text in std::iter::once(name).chain(parts) {
            let border = |c: Option<char>| if c.is_some_and(char::is_alphanumeric) { r"\b" } else { "" };
            let (before, after) = (border(text.chars().next()), border(text.chars().next_back()));
            // People write each other's names small.
            let is_word = WORDS.contains(&text.to_lowercase().as_str());
            let any_case = if is_word { "" } else { "(?i)" };
            if let Ok(pattern) = Regex::new(&format!("{any_case}{before}{}{after}", regex::escape(text))) {
                self.patterns.push((pattern, stand_in.clone()));
            }
        }
        // Somebody who is known by a number is named by its digits alone.
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        if digits.len() >= NUMBER
            && let Ok(pattern) = Regex::new(&format!(r"\b{digits}\b"))
        {
            self.patterns.push((pattern, stand_in));
        }
        // Longer ones first, whoever they belong to.
        self.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.as_str().len()));
    }

    /// `text` without the names.
    pub(super) fn hidden(&self, text: &str) -> String {
        // Of an address with a name in it, the rest would say the same.
        let is_named = |address: &str| self.patterns.iter().any(|(pattern, _)| pattern.is_match(address));
        let mut text = ADDRESS
            .replace_all(text, |address: &Captures| if is_named(&address[0]) { HIDDEN } else { &address[0] }.to_owned())
            .into_owned();
        for (pattern, stand_in) in &self.patterns {
            if pattern.is_match(&text) {
                text = pattern.replace_all(&text, NoExpand(stand_in)).into_owned();
            }
        }
        text
    }

    /// Who was replaced by what.
    pub(super) fn known(&self) -> BTreeMap<String, String> {
        self.people.iter().enumerate().map(|(index, name)| (name.clone(), format!("Person {}", index + 1))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_parts_are_replaced_and_words_that_hold_them_are_not() {
        let mut names = Names::default();
        for name in ["Ana María López", "Bo", "+49 170 1234567", "Ana María López"] {
            names.learn(name);
        }
        assert_eq!(names.hidden("Ana María López and López and María"), "Person 1 and Person 1 and Person 1");
        assert_eq!(names.hidden("Bo met Bob at the Anaconda"), "Person 2 met Bob at the Anaconda");
        assert_eq!(names.hidden("call +49 170 1234567 now"), "call Person 3 now");
        assert_eq!(names.hidden("hey maría, bo says @491701234567"), "hey Person 1, Person 2 says @Person 3");
        assert_eq!(names.hidden("ana.lópez@mail.org, not x@mail.org"), "<EMAIL>, not x@mail.org");
        names.learn("Will Hunt");
        assert_eq!(names.hidden("Will, I will go; so says HUNT"), "Person 4, I will go; so says Person 4");
        assert_eq!(names.known().len(), 4);
    }
}
