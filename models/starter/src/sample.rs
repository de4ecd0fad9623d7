//! The sample dataset, an invented cafe, and the fixed questions that show what training on it did.
//!
//! The questions were written by hand and are the same in every run. A held-out question asks for a
//! fact that training rows tell, in words no row uses as its question; the answer is generated freely
//! and counts as right when it holds the key of the fact.

use serde::Deserialize;

use crate::wording::words;

/// The sample cafe's name without its article; no document of the corpus holds it.
pub const CAFE: &str = "Golden Lantern";

/// A fact of the sample cafe, as `data/facts.json` lists it.
#[derive(Debug, Clone, Deserialize)]
pub struct SampleFact {
    /// What the questions refer to.
    pub id: String,
    /// Which kind of question asks for it.
    pub intent: String,
    /// The thing on the menu it is about; empty when it is about the cafe.
    #[serde(default)]
    pub item: String,
    /// The end of the answer.
    pub value: String,
    /// What an answer must hold to be right.
    pub key: String,
}

/// A fixed question and what its answer must hold.
#[derive(Debug, Clone, Deserialize)]
pub struct Question {
    /// What the model is asked.
    pub prompt: String,
    /// What the answer must hold, as whole words; a `|` separates forms of which one is enough.
    pub expected: String,
    /// The fact asked for (an id of `facts.json`), or the subject of a small-world question.
    pub fact: String,
}

#[derive(Deserialize)]
struct QuestionFile {
    held_out: Vec<HeldOut>,
    small_world: Vec<Question>,
}

#[derive(Deserialize)]
struct HeldOut {
    fact: String,
    prompt: String,
}

/// The sample dataset: one JSON object with `instruction` and `output` a line.
pub fn sample_rows_jsonl() -> &'static str {
    include_str!("../data/sample.jsonl")
}

/// The facts of the sample cafe.
pub fn facts() -> Vec<SampleFact> {
    serde_json::from_str(include_str!("../data/facts.json")).expect("a test reads this embedded file")
}

/// The held-out questions about the sample cafe.
pub fn held_out() -> Vec<Question> {
    let facts = facts();
    questions()
        .held_out
        .into_iter()
        .filter_map(|HeldOut { fact, prompt }| {
            let known = facts.iter().find(|known| known.id == fact)?;
            Some(Question { prompt, expected: known.key.clone(), fact })
        })
        .collect()
}

/// The questions about the starter's own small world.
pub fn small_world() -> Vec<Question> {
    questions().small_world
}

fn questions() -> QuestionFile {
    serde_json::from_str(include_str!("../data/questions.json")).expect("a test reads this embedded file")
}

/// Whether `answer` holds what `question` expects, as whole words, in any case.
pub fn is_correct(answer: &str, question: &Question) -> bool {
    let answer = words(answer);
    question
        .expected
        .split('|')
        .map(words)
        .any(|key| !key.is_empty() && answer.windows(key.len()).any(|window| window == key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(expected: &str) -> Question {
        Question { prompt: String::new(), expected: expected.to_owned(), fact: String::new() }
    }

    #[test]
    fn answers_match_on_whole_words_in_any_case() {
        assert!(is_correct("The price is 4 dollars.", &question("4 dollars")));
        assert!(!is_correct("The price is 14 dollars.", &question("4 dollars")));
        assert!(!is_correct("The price is 4.", &question("4 dollars")));
        assert!(is_correct("Behind THE church!", &question("behind the church")));
        assert!(is_correct("It is cold.", &question("chilly|cold")));
        assert!(!is_correct("", &question("cold")));
        assert!(!is_correct("anything", &question("")));
    }
}
