//! Searching the chunks of a project: by words, and by meaning where there are vectors (S0.7, S2.1).

use peft_documents::{VectorIndex, fused};
use peft_plan::Result;
use peft_storage::{Store, StoredChunk};

/// Vectors that decide the mean of an index.
const SAMPLE: usize = 1_000;

/// Vectors that are read at a time.
const BATCH: usize = 4_096;

/// How many of each ranking are joined.
const RANKED: usize = 100;

/// Chunks of a project that hold words of `query`, best first.
pub fn by_words(store: &Store, project: &str, query: &str, count: usize) -> Result<Vec<StoredChunk>> {
    let project = store.project(project)?.id;
    present(store, store.search_words(project, query, count)?)
}

/// The vectors that `model` made of a project's chunks, ready to be searched; `None` where there are none.
pub fn index(store: &Store, project: i64, model: &str) -> Result<Option<VectorIndex>> {
    let mut batch = store.vectors(project, model, 0, SAMPLE)?;
    if batch.is_empty() {
        return Ok(None);
    }
    let sample: Vec<Vec<f32>> = batch.iter().map(|(_, vector)| vector.clone()).collect();
    let count = store.vector_count(project, model)?;
    let mut index = VectorIndex::new(&sample, count)?;
    while let Some((last, _)) = batch.last() {
        let last = *last;
        for (id, vector) in &batch {
            index.add(*id, vector)?;
        }
        batch = store.vectors(project, model, last, BATCH)?;
    }
    Ok(Some(index))
}

/// Chunks for a question by both: what each search puts first comes first (reciprocal ranks).
pub fn by_both(
    store: &Store,
    project: i64,
    model: &str,
    index: &VectorIndex,
    query: &str,
    question: &[f32],
    count: usize,
) -> Result<Vec<StoredChunk>> {
    let words = store.search_words(project, query, RANKED.max(count))?;
    let near = index.search(question, RANKED.max(count), &mut |chunk| store.vector(chunk, model))?;
    let meanings = near.iter().map(|hit| hit.id).collect();
    present(store, fused(&[words, meanings], count).into_iter().map(|(id, _)| id).collect())
}

/// These chunks without those that another process has just replaced.
fn present(store: &Store, ids: Vec<i64>) -> Result<Vec<StoredChunk>> {
    ids.into_iter().filter_map(|id| store.chunk(id).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_storage::{NewChunk, NewDocument};
    use serde_json::Value;

    #[test]
    fn s0_7_words_and_meaning_find_together_what_each_finds_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let project = store.open_project("p").expect("made").id;
        let texts = ["the cat sat", "a feline rested", "stock prices fell", "the dog sat"];
        let chunk = |text: &&str| NewChunk { hash: (*text).into(), text: (*text).into(), details: Value::Null };
        let chunks: Vec<NewChunk> = texts.iter().map(chunk).collect();
        let document = NewDocument { path: "/a".into(), ..NewDocument::default() };
        store.replace_document(project, &document, &chunks).expect("put in");
        assert!(index(&store, project, "m").expect("read").is_none());
        let vectors = [[1.0, 0.1, 0.0], [1.0, 0.0, 0.1], [0.0, 0.0, 1.0], [0.1, 1.0, 0.0]];
        let vectors: Vec<(String, Vec<f32>)> =
            texts.iter().zip(vectors).map(|(text, vector)| ((*text).to_owned(), vector.to_vec())).collect();
        store.put_vectors(project, "m", &vectors).expect("kept");
        let index = index(&store, project, "m").expect("read").expect("vectors");
        assert_eq!(index.len(), 4);
        let found = by_both(&store, project, "m", &index, "cat", &[1.0, 0.05, 0.05], 2).expect("found");
        let found: Vec<&str> = found.iter().map(|chunk| chunk.text.as_str()).collect();
        assert_eq!(found, ["the cat sat", "a feline rested"]);
    }
}
