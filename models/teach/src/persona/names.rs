//! Other people's names replaced, everywhere the same by the same.

use regex::{NoExpand, Regex};
use std::collections::BTreeMap;

/// Shorter parts of names are words of every language.
const SHORTEST: usize = 3;

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
            if let Ok(pattern) = Regex::new(&format!("{before}{}{after}", regex::escape(text))) {
                self.patterns.push((pattern, stand_in.clone()));
            }
        }
        // Longer ones first, whoever they belong to.
        self.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.as_str().len()));
    }

    /// `text` without the names.
    pub(super) fn hidden(&self, text: &str) -> String {
        let mut text = text.to_owned();
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
        assert_eq!(names.known().len(), 3);
    }
}
