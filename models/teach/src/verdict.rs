//! Which rows are taken, and why the others are not.

use crate::chunk::Chunk;
use crate::evidence::{Evidence, find};
use crate::key;
use crate::reply::Draft;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Longest question and answer, characters.
const LONGEST: usize = 20_000;

/// Why a row was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A question or an answer is empty.
    Empty,
    /// A question or an answer is too long.
    TooLong,
    /// The quote does not stand in the chunk.
    Ungrounded,
    /// The answer only repeats the question.
    CopiesQuestion,
    /// The answer says that it does not answer.
    Refusal,
    /// It speaks of the document as if the reader saw it.
    SpeaksOfDocument,
    /// It asks what an earlier row asks.
    Repeated,
    /// It asks what a question asks that judges the trained model.
    HeldOut,
    /// It holds the program's own marks.
    Marks,
}

/// Beginnings of answers that are none.
const REFUSALS: [&str; 14] = [
    "i'm sorry",
    "i am sorry",
    "i cannot",
    "i can't",
    "i can not",
    "i'm unable",
    "i am unable",
    "as an ai",
    "as a language model",
    "es tut mir leid",
    "ich kann leider",
    "je suis désolé",
    "lo siento",
    "the document does not",
];

/// Questions that only make sense beside the document.
const POINTERS: [&str; 12] = [
    "according to the document",
    "according to the text",
    "according to the passage",
    "in the document",
    "in this document",
    "in the passage",
    "in the text above",
    "the given text",
    "the provided text",
    "laut dem text",
    "laut dem dokument",
    "d'après le texte",
];

/// A row that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Questions and answers in their order.
    pub exchanges: Vec<(String, String)>,
    /// What proves it, where there is a chunk.
    pub evidence: Option<Evidence>,
    /// The chunk it is from.
    pub chunk: Option<String>,
    /// The file the chunk is from.
    pub source: Option<String>,
    /// The headings above the chunk.
    pub heading: Vec<String>,
    /// The task.
    pub task: String,
}

impl Row {
    /// Equal for rows that ask the same, case and signs apart.
    pub fn key(&self) -> String {
        question_key(&self.exchanges)
    }

    /// The key of a row that asks `question` alone.
    pub fn key_of(question: &str) -> String {
        question_key(&[(question.to_owned(), String::new())])
    }

    /// As it is written (S2.7): `instruction` and `output`, or `messages` for a conversation.
    pub fn to_json(&self) -> Value {
        let mut row = Map::new();
        if let [(question, answer)] = self.exchanges.as_slice() {
            row.insert("instruction".to_owned(), json!(question));
            row.insert("output".to_owned(), json!(answer));
        } else {
            let both = |(question, answer): &(String, String)| {
                [json!({"role": "user", "content": question}), json!({"role": "assistant", "content": answer})]
            };
            row.insert("messages".to_owned(), self.exchanges.iter().flat_map(both).collect());
        }
        row.insert("task".to_owned(), json!(self.task));
        let evidence = self.evidence.as_ref().map(|evidence| &evidence.quote);
        let facts = [("evidence", json!(evidence)), ("chunk", json!(self.chunk)), ("source", json!(self.source))];
        row.extend(
            facts.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)),
        );
        Value::Object(row)
    }
}

/// Words of the questions, for telling copies.
fn question_key(exchanges: &[(String, String)]) -> String {
    let words = |text: &str| {
        let plain: String = text.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // Signs alone can make the difference in code and in arithmetic.
    let questions: Vec<String> = exchanges
        .iter()
        .map(|(question, _)| {
            let signs: String = question.chars().filter(|c| "+-*/%=<>^&|!()[]{}".contains(*c)).collect();
            format!("{}\u{1f}{signs}", words(question))
        })
        .collect();
    key(&questions.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Judge `draft`; `known` are the keys of the rows that were taken before, `held_out` those of questions that judge the
/// trained model.
pub fn judge(
    draft: Draft,
    task: &str,
    chunk: Option<&Chunk>,
    known: &BTreeSet<String>,
    held_out: &BTreeSet<String>,
) -> Result<Row, Reason> {
    for (question, answer) in &draft.exchanges {
        check(question, answer, chunk.is_some())?;
        if !held_out.is_empty() && held_out.contains(&Row::key_of(question)) {
            return Err(Reason::HeldOut);
        }
    }
    let evidence = match chunk {
        Some(chunk) => Some(find(&draft.evidence, &chunk.text).ok_or(Reason::Ungrounded)?),
        None => None,
    };
    let row = Row {
        exchanges: draft.exchanges,
        evidence,
        chunk: chunk.map(|chunk| chunk.id.clone()),
        source: chunk.map(|chunk| chunk.source.clone()).filter(|source| !source.is_empty()),
        heading: chunk.map(|chunk| chunk.heading.clone()).unwrap_or_default(),
        task: task.to_owned(),
    };
    if known.contains(&row.key()) { Err(Reason::Repeated) } else { Ok(row) }
}

fn check(question: &str, answer: &str, has_document: bool) -> Result<(), Reason> {
    let says_nothing = |text: &str| !text.chars().any(char::is_alphanumeric);
    if says_nothing(question) || says_nothing(answer) {
        return Err(Reason::Empty);
    }
    if [question, answer].iter().any(|text| text.chars().count() > LONGEST) {
        return Err(Reason::TooLong);
    }
    let (lower, asked) = (answer.to_lowercase().replace('\u{2019}', "'"), question.to_lowercase());
    if lower.split_whitespace().eq(asked.split_whitespace()) {
        return Err(Reason::CopiesQuestion);
    }
    if REFUSALS.iter().any(|start| lower.trim_start().starts_with(start)) {
        return Err(Reason::Refusal);
    }
    if has_document && POINTERS.iter().any(|pointer| asked.contains(pointer)) {
        return Err(Reason::SpeaksOfDocument);
    }
    let marks = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "</s>", crate::prompt::FENCE];
    if marks.iter().any(|mark| question.contains(mark) || answer.contains(mark)) {
        return Err(Reason::Marks);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(question: &str, answer: &str, evidence: &str) -> Draft {
        Draft { exchanges: vec![(question.to_owned(), answer.to_owned())], evidence: evidence.to_owned() }
    }

    fn chunk() -> Chunk {
        let text = "The Iron Bridge was opened in 1781 and spans the Severn.".to_owned();
        Chunk { id: "c1".into(), text, source: "bridges.md".into(), heading: vec!["Bridges".into()] }
    }

    #[test]
    fn only_what_its_chunk_proves_is_taken() {
        let (chunk, known) = (chunk(), BTreeSet::new());
        let good = judge(
            draft("When was it opened?", "In 1781.", "opened in 1781 and spans"),
            "facts",
            Some(&chunk),
            &known,
            &BTreeSet::new(),
        );
        let row = good.expect("grounded");
        assert_eq!(row.to_json()["instruction"], "When was it opened?");
        assert_eq!(row.to_json()["evidence"], "opened in 1781 and spans");
        assert_eq!(row.to_json()["source"], "bridges.md");
        let bad = judge(
            draft("When?", "In 1782.", "opened in 1782 and spans"),
            "facts",
            Some(&chunk),
            &known,
            &BTreeSet::new(),
        );
        assert_eq!(bad.expect_err("not there"), Reason::Ungrounded);
        assert!(
            judge(draft("2+2?", "4", ""), "facts", None, &known, &BTreeSet::new()).is_ok(),
            "without a document nothing is to be quoted"
        );
    }

    #[test]
    fn what_is_no_row_is_named() {
        let (chunk, quote) = (chunk(), "opened in 1781 and spans");
        let reason = |question: &str, answer: &str| {
            judge(draft(question, answer, quote), "facts", Some(&chunk), &BTreeSet::new(), &BTreeSet::new())
                .expect_err(question)
        };
        assert_eq!(reason("…", "yes"), Reason::Empty);
        assert_eq!(reason("Is it  old?", "is it old?"), Reason::CopiesQuestion);
        assert_eq!(reason("Is it old?", "I\u{2019}m sorry, but I cannot say."), Reason::Refusal);
        assert_eq!(reason("What, according to the text, is old?", "The bridge."), Reason::SpeaksOfDocument);
        assert_eq!(reason("Is it old?", "Yes.<|im_end|>"), Reason::Marks);
        assert_eq!(reason("Is it old?", &"x".repeat(LONGEST + 1)), Reason::TooLong);
    }

    #[test]
    fn the_same_question_is_taken_once_and_another_sum_is_another_question() {
        let row = |question: &str| {
            judge(draft(question, "4", ""), "facts", None, &BTreeSet::new(), &BTreeSet::new()).expect("a row")
        };
        let known: BTreeSet<String> = [row("What is 2 + 2?").key()].into();
        let again = judge(draft("what is 2 + 2", "Four.", ""), "facts", None, &known, &BTreeSet::new());
        assert_eq!(again.expect_err("known"), Reason::Repeated);
        assert!(judge(draft("What is 2 - 2?", "0", ""), "facts", None, &known, &BTreeSet::new()).is_ok());
    }

    #[test]
    fn a_question_that_judges_the_model_is_never_a_row_b14() {
        let held_out: BTreeSet<String> = [Row::key_of("When was it opened?")].into();
        let judged = judge(draft("when was it opened", "In 1781.", ""), "facts", None, &BTreeSet::new(), &held_out);
        assert_eq!(judged.expect_err("held out"), Reason::HeldOut);
        assert!(judge(draft("Who opened it?", "A duke.", ""), "facts", None, &BTreeSet::new(), &held_out).is_ok());
    }
}
