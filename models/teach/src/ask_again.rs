//! Questions that were answered badly lead back to their chunks (B14), and the next rows are about those.
//!
//! A question belongs to the chunks that share its rare words: each word counts by how few chunks have it (BM25).

use crate::chunk::Chunk;
use serde::Serialize;
use std::collections::HashMap;

/// Chunks that one question leads to.
const LED_TO: usize = 3;
/// A chunk that has less than this share of the best one's points has only common words.
const SHARE: f64 = 0.5;

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
            counts.into_iter().for_each(|(word, count)| places.entry(word).or_default().push((number, count)));
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
                *points.entry(*chunk).or_default() += rarity * count * (SATURATION + 1.0) / (count + SATURATION * length);
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
}
