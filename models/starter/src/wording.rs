//! Turns a question template into one of its many wordings.
//!
//! A template holds choices (`[a|b]`) and slots (`{do}`, `{are}`, `{you}`, `{the}`, `{at}`, `{item}`).
//! How a slot is filled depends on whether the question names a place. On top come the things people
//! do when they type: a polite opening, no capitals, a word left out.

use crate::rng::Rng;

/// Which place a question is put to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// The question names the place.
    Named(&'a str),
    /// The question says "you", "here" or nothing.
    Unnamed,
}

/// What is put in front of a question that has no room for the place's name.
const NAMED_OPENINGS: &[&str] = &[
    "At {x}, ",
    "About {x}: ",
    "I want to visit {x}. ",
    "I am going to {x}. ",
    "I have a question about {x}. ",
    "We are at {x}. ",
    "One question about {x}: ",
];

const OPENINGS: &[&str] = &[
    "Excuse me, ",
    "Hello, ",
    "Hi, ",
    "Hello! ",
    "Hi! ",
    "Please, ",
    "Sorry, ",
    "One question: ",
    "Good morning! ",
    "Good day, ",
    "I am new in town. ",
    "Just one thing: ",
    "So, ",
    "And ",
    "Quick question: ",
    "I wonder: ",
    "Hey, ",
    "Could you help me? ",
    "Maybe you can help me. ",
    "Now, ",
    "Oh, ",
];

const CLOSINGS: &[&str] = &[
    " Thank you!",
    " Thanks!",
    " Please tell me.",
    " Thank you very much.",
    " I would like to know.",
    " Do you know?",
];

/// Picks one alternative of every `[a|b]`.
pub(crate) fn choose(template: &str, rng: &mut Rng) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((choices, tail)) = after.split_once(']') else {
            break;
        };
        let choices: Vec<&str> = choices.split('|').collect();
        text.push_str(before);
        text.push_str(rng.word(&choices));
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// One wording of `template`, put to `asked`, about `item` if the template has one.
pub(crate) fn ask(template: &str, asked: Asked, item: &str, rng: &mut Rng) -> String {
    let mut text = choose(template, rng).replace("{item}", item);
    let mut opening = String::new();
    let mut named = false;
    match asked {
        Asked::Named(x) => {
            for (slot, verb, pronoun) in
                [("{do}", "does", "do they"), ("{you}", "", "they"), ("{are}", "is", "are they")]
            {
                let place = if verb.is_empty() { x.to_owned() } else { format!("{verb} {x}") };
                // "When do they open?" needs the name in front, like a template without a slot.
                let full = !named && rng.chance(75);
                named |= full && text.contains(slot);
                text = fill(&text, slot, if full { &place } else { pronoun });
            }
            text = text.replace("{the}", "the");
            let at = if named {
                String::new()
            } else {
                named = text.contains("{at}");
                format!(" {} {x}", rng.word(&["at", "at", "at", "in"]))
            };
            text = text.replace("{at}", &at);
            if !named {
                opening = rng.word(NAMED_OPENINGS).replace("{x}", x);
            }
        }
        Asked::Unnamed => {
            let subject =
                rng.word(&["you", "you", "you", "you", "you", "you", "you", "they", "the cafe", "this place", "it"]);
            let plural = matches!(subject, "you" | "they");
            let (does, is) = if plural { ("do", "are") } else { ("does", "is") };
            text = fill(&text, "{do}", &format!("{does} {subject}"));
            text = fill(&text, "{are}", &format!("{is} {subject}"));
            text = text.replace("{you}", subject);
            text = text.replace("{the}", rng.word(&["the", "the", "your"]));
            let at = [
                "",
                "",
                "",
                "",
                "",
                " here",
                " here",
                " at the cafe",
                " in the cafe",
                " at your place",
                " in your cafe",
                " in this place",
                " there",
            ];
            text = text.replace("{at}", rng.word(&at));
        }
    }
    if opening.is_empty() {
        capital(&tidy(&text))
    } else {
        let inner = if opening.ends_with(". ") { capital(&tidy(&text)) } else { small(&tidy(&text)) };
        capital(&(opening + &inner))
    }
}

/// `question` as people type it: with a polite opening or closing, in small letters, a word short.
pub(crate) fn as_typed(question: String, rng: &mut Rng) -> String {
    let mut text = question;
    if rng.chance(14) {
        let opening = rng.word(OPENINGS);
        let rest = if opening.ends_with("! ") || opening.ends_with(". ") || opening.ends_with("? ") {
            text
        } else {
            small(&text)
        };
        text = format!("{opening}{rest}");
    }
    if rng.chance(6) {
        text.push_str(rng.word(CLOSINGS));
    } else if rng.chance(5) && text.ends_with('?') {
        text.truncate(text.len() - 1);
        text.push_str(", please?");
    }
    let mut words: Vec<&str> = text.split(' ').collect();
    if words.len() > 5 && rng.chance(4) {
        // Names and things on the menu carry the meaning; only small words are dropped.
        let at = rng.below(words.len() - 1);
        if matches!(words[at], "the" | "do" | "is" | "a" | "you" | "can" | "to" | "I" | "of" | "does") {
            words.remove(at);
        }
    }
    text = words.join(" ");
    if rng.chance(8) {
        text = text.to_lowercase();
        if rng.chance(60) {
            text.truncate(text.trim_end_matches(['?', '.', '!']).len());
        }
    } else if rng.chance(4) {
        text.truncate(text.trim_end_matches(['?', '.', '!']).len());
    }
    text
}

/// The words of `text` in small letters, without punctuation: two questions that agree in this are one.
pub fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// First letter large.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// First letter small, unless the first word is "I".
fn small(text: &str) -> String {
    if text.starts_with("I ") || text.starts_with("I'") {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Fills a slot and its form for the start of a sentence (`{Do}`).
fn fill(text: &str, slot: &str, value: &str) -> String {
    let large = format!("{{{}", capital(&slot[1..]));
    text.replace(slot, value).replace(&large, &capital(value))
}

/// Single spaces, and none before punctuation.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() && !word.starts_with(['?', '.', ',', ':', '!']) {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_reached_and_no_bracket_is_left() {
        let mut rng = Rng::new(5, 0);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            seen.insert(choose("[When|At what time] is it [open|]?", &mut rng));
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
        assert!(seen.iter().all(|text| !text.contains(['[', ']', '|'])));
    }

    #[test]
    fn a_named_question_always_names_the_place() {
        let mut rng = Rng::new(6, 0);
        for template in ["When {do} open?", "Where is the toilet{at}?", "Am I late?", "{Are} open? Why {are} not?"] {
            for _ in 0..200 {
                let text = ask(template, Asked::Named("the Blue Mill"), "", &mut rng);
                assert!(text.contains("Blue Mill"), "{text}");
                assert!(!text.contains('{'), "{text}");
                let text = ask(template, Asked::Unnamed, "", &mut rng);
                assert!(!text.contains("Blue Mill") && !text.contains('{'), "{text}");
            }
        }
    }

    #[test]
    fn words_ignore_case_and_punctuation() {
        assert_eq!(words("When do YOU open?"), words("when do you, open"));
    }
}
