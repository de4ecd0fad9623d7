//! Questions that were answered badly lead back to their chunks (B14), and the next rows are about those.
//!
//! A question belongs to the chunks that share its rare words: each word counts by how few chunks have it (BM25).

use crate::chunk::Chunk;
use peft_plan::judge::f1;
use peft_plan::{Fault, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Chunks that one question leads to.
const LED_TO: usize = 3;
/// A chunk that has less than this share of the best one's points has only common words.
const SHARE: f64 = 0.5;

/// An answer that has fewer of the expected words is a bad one.
const GOOD: f64 = 0.5;

/// Questions that judge a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// All of them.
    pub questions: Vec<String>,
    /// Those that were answered badly, each with its expected answer.
    pub failed: Vec<(String, String)>,
}

/// Reads what `evaluate --generate --per-row` wrote, or any JSONL of questions and expected answers, which all count as
/// answered badly. PS-DATA-003 where no line holds a question.
pub fn judged(text: &str) -> Result<Judged> {
    let mut judged = Judged::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Map<String, Value> =
            serde_json::from_str(line.trim_start_matches('\u{feff}')).map_err(|error| {
                Fault::new("PS-DATA-001", format!("Line {} is not a JSON object: {error}.", number + 1))
            })?;
        let field = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| fields.get(*name))
                .and_then(Value::as_str)
                .map(str::trim)
                .filter(|text| !text.is_empty())
        };
        let Some(question) = field(&["question", "instruction", "user", "prompt"]) else { continue };
        judged.questions.push(question.to_owned());
        let expected = field(&["expected", "output", "assistant"]);
        let (expected, answer) = match (expected, field(&["answer"])) {
            // A row of questions alone has its answer under that name.
            (None, answer) => (answer.unwrap_or_default(), None),
            (Some(expected), answer) => (expected, answer),
        };
        if is_bad(&fields, expected, answer) {
            judged.failed.push((question.to_owned(), expected.to_owned()));
        }
    }
    if judged.questions.is_empty() {
        let detail = "No line holds a question; `evaluate` writes them with `--generate --per-row FILE`.";
        return Err(Fault::new("PS-DATA-003", detail));
    }
    Ok(judged)
}

fn is_bad(fields: &Map<String, Value>, expected: &str, answer: Option<&str>) -> bool {
    let says = |name: &str| fields.get(name).and_then(Value::as_bool);
    if says("exact") == Some(true) {
        return false;
    }
    let misses = says("json_valid") == Some(false) || says("schema_valid") == Some(false);
    misses || answer.is_none_or(|answer| f1(answer, expected) < GOOD)
}

/// A chunk that weak answers lead to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weak {
    /// Its place in the list.
    pub chunk: usize,
    /// How strongly the failed questions lead to it.
    pub weight: f64,
    /// Their places in the list of questions.
    pub questions: Vec<usize>,
}

/// The chunks behind `failed` questions, the weakest first. A question comes with its expected answer, which often holds
/// the words that the chunk has.
pub fn weak_chunks(failed: &[(String, String)], chunks: &[Chunk]) -> Vec<Weak> {
    let index = Index::of(chunks);
    let mut found: HashMap<usize, Weak> = HashMap::new();
    for (number, (question, answer)) in failed.iter().enumerate() {
        let ranked = index.rank(&format!("{question} {answer}"));
        let best = ranked.first().map_or(0.0, |(_, points)| *points);
        for (chunk, points) in ranked.into_iter().take(LED_TO).filter(|(_, points)| *points >= SHARE * best) {
            let weak = found.entry(chunk).or_insert_with(|| Weak { chunk, weight: 0.0, questions: Vec::new() });
            weak.weight += points / best;
            weak.questions.push(number);
        }
    }
    let mut weak: Vec<Weak> = found.into_values().collect();
    weak.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.chunk.cmp(&b.chunk)));
    weak
}

struct Index {
    /// For each word the chunks that have it, and how often.
    places: HashMap<String, Vec<(usize, f64)>>,
    lengths: Vec<f64>,
    mean: f64,
}

impl Index {
    fn of(chunks: &[Chunk]) -> Self {
        let mut places: HashMap<String, Vec<(usize, f64)>> = HashMap::new();
        let mut lengths = Vec::with_capacity(chunks.len());
        for (number, chunk) in chunks.iter().enumerate() {
            let mut counts: HashMap<String, f64> = HashMap::new();
            let mut length = 0.0;
            for word in words(&chunk.text).chain(chunk.heading.iter().flat_map(|part| words(part))) {
                *counts.entry(word).or_default() += 1.0;
                length += 1.0;
            }
            for (word, count) in counts {
                places.entry(word).or_default().push((number, count));
            }
            lengths.push(length);
        }
        let mean = (lengths.iter().sum::<f64>() / lengths.len().max(1) as f64).max(1.0);
        Self { places, lengths, mean }
    }

    /// Chunks with points, the best first.
    fn rank(&self, text: &str) -> Vec<(usize, f64)> {
        const SATURATION: f64 = 1.2;
        const LENGTH: f64 = 0.75;
        let all = self.lengths.len() as f64;
        let mut points: HashMap<usize, f64> = HashMap::new();
        let mut asked: Vec<String> = words(text).collect();
        asked.sort_unstable();
        asked.dedup();
        for places in asked.iter().filter_map(|word| self.places.get(word)) {
            let having = places.len() as f64;
            let rarity = ((all - having + 0.5) / (having + 0.5) + 1.0).ln();
            for (chunk, count) in places {
                let length = 1.0 - LENGTH + LENGTH * self.lengths[*chunk] / self.mean;
                *points.entry(*chunk).or_default() +=
                    rarity * count * (SATURATION + 1.0) / (count + SATURATION * length);
            }
        }
        let mut ranked: Vec<(usize, f64)> = points.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> Chunk {
        Chunk { id: text.to_owned(), text: text.to_owned(), ..Chunk::default() }
    }

    #[test]
    fn failed_questions_lead_to_their_chunks_b14() {
        let chunks = [
            chunk("The Iron Bridge was opened in 1781 and is the oldest of its kind."),
            chunk("The lighthouse of the island was built of granite and is 40 metres high."),
            chunk("The museum is closed on Mondays and is free for children."),
        ];
        let failed = [
            ("How high is the lighthouse?".to_owned(), "40 metres".to_owned()),
            ("Of what is the lighthouse built?".to_owned(), "Granite".to_owned()),
            ("When was the Iron Bridge opened?".to_owned(), "1781".to_owned()),
        ];
        let weak = weak_chunks(&failed, &chunks);
        assert_eq!((weak[0].chunk, weak[0].questions.as_slice()), (1, &[0, 1][..]));
        assert_eq!((weak[1].chunk, weak.len()), (0, 2));
        assert!(weak_chunks(&[("Qué?".to_owned(), String::new())], &chunks).is_empty());
        assert!(weak_chunks(&failed, &[]).is_empty());
    }

    #[test]
    fn what_evaluate_wrote_says_which_questions_failed_b14() {
        let text = r#"{"file":"e.jsonl","line":1,"question":"How high is it?","expected":"It is 40 metres high.","answer":"It is 40 metres high","exact":false}
{"question":"Who built it?","expected":"The islanders built it.","answer":"No idea.","exact":false}
{"question":"Same?","expected":"Yes.","answer":"Yes.","exact":true}
{"question":"JSON?","expected":"{\"a\":1}","answer":"{\"a\":1","exact":false,"json_valid":false}
{"file":"e.jsonl","line":5,"loss":1.0}
{"question":"When?","answer":"In 1781."}"#;
        let found = judged(text).expect("questions");
        let failed: Vec<&str> = found.failed.iter().map(|(question, _)| question.as_str()).collect();
        assert_eq!((found.questions.len(), failed.as_slice()), (5, &["Who built it?", "JSON?", "When?"][..]));
        assert_eq!(found.failed[2].1, "In 1781.");
        assert_eq!(judged("{\"loss\":1.0}").expect_err("no question").code, "PS-DATA-003");
        assert_eq!(judged("[]").expect_err("no object").code, "PS-DATA-001");
    }
}
