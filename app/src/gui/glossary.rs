//! Terms of the trade in plain words, each with an example: shown where a term is hovered (S4.1.4), and on the help page.

use crate::gui::theme::{of, text};
use eframe::egui::{Response, Ui};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

/// A term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// As it is written.
    pub name: &'static str,
    /// One plain sentence.
    pub meaning: &'static str,
    /// What it may look like.
    pub example: &'static str,
}

impl Term {
    /// Whether it speaks of `words`, in small letters.
    pub fn contains(&self, words: &str) -> bool {
        [self.name, self.meaning, self.example].iter().any(|part| part.to_lowercase().contains(words))
    }
}

const GLOSSARY: &str = include_str!("glossary.txt");

/// All terms.
pub fn terms() -> impl Iterator<Item = Term> {
    GLOSSARY.lines().filter_map(|line| {
        let mut parts = line.splitn(3, " – ");
        Some(Term { name: parts.next()?, meaning: parts.next()?, example: parts.next()? })
    })
}

/// The term of this name, in any case: `rank` is `Rank (r)`. Asked for every label of every frame.
pub fn term(name: &str) -> Option<Term> {
    static BY_NAME: OnceLock<HashMap<String, Term>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| {
        let names = |term: Term| {
            let known = term.name.to_lowercase();
            let short = known.split_once(" (").map_or(known.as_str(), |(short, _)| short).to_owned();
            [(known, term), (short, term)]
        };
        terms().flat_map(names).collect()
    });
    by_name.get(&name.trim().to_lowercase()).copied()
}

/// What is shown when `response` is hovered, if it names a term.
pub fn explained(response: Response, name: &str) -> Response {
    match term(name) {
        Some(term) => response.on_hover_ui(|ui| tip(ui, term.name, term.meaning, term.example)),
        None => response,
    }
}

/// What is shown when the setting at `path` is hovered (S4.1.3).
pub fn setting(response: Response, path: &str) -> Response {
    let name: Cow<str> = path.rsplit('.').next().unwrap_or(path).replace('_', " ").into();
    response.on_hover_ui(|ui| {
        match peft_plan::settings::meaning(path) {
            Some(meaning) => tip(ui, &name, &meaning.what, &meaning.example),
            None => drop(ui.label(text::card_title(of(ui), &*name))),
        }
        ui.label(text::code(of(ui), path));
    })
}

fn tip(ui: &mut Ui, name: &str, what: &str, example: &str) {
    let t = of(ui);
    ui.set_max_width(300.0);
    ui.label(text::card_title(t, name));
    ui.label(text::body(t, what));
    ui.label(text::hint(t, format!("For example: {example}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S4.1.4: a plain definition and an example for every term.
    #[test]
    fn every_term_has_a_sentence_and_an_example_s4_1_4() {
        let all: Vec<_> = terms().collect();
        assert_eq!(all.len(), GLOSSARY.lines().count());
        for term in &all {
            assert!(!term.name.is_empty() && term.meaning.ends_with('.') && !term.example.is_empty(), "{term:?}");
        }
        assert!(all.len() >= 50);
    }

    #[test]
    fn a_term_is_found_by_any_of_its_names() {
        assert_eq!(term("rank").map(|t| t.name), Some("Rank (r)"));
        assert_eq!(term("LOSS").map(|t| t.name), Some("Loss"));
        assert_eq!(term("no such thing"), None);
    }
}
