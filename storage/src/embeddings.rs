//! Vectors of chunks, by what the chunks say: the same words are asked about once (S0.7).

use crate::store::{Durability, Store, count, integer};
use peft_plan::Result;
use rusqlite::{OptionalExtension, params};

/// A chunk that a model has no vector of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unembedded {
    /// What its vector is to be kept under.
    pub hash: String,
    /// What is to be embedded.
    pub text: String,
}

impl Store {
    /// Texts of a project that `model` has no vector of, each once; at most `limit`.
    pub fn unembedded(&self, project: i64, model: &str, limit: usize) -> Result<Vec<Unembedded>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT c.hash, c.text FROM chunks c JOIN documents d ON d.id = c.document
                     WHERE d.project = ?1 AND NOT EXISTS
                         (SELECT 1 FROM embeddings e WHERE e.project = ?1 AND e.model = ?2 AND e.hash = c.hash)
                     GROUP BY c.hash ORDER BY min(c.id) LIMIT ?3",
                )?
                .query_map(params![project, model, integer(limit as u64)], |row| {
                    Ok(Unembedded { hash: row.get(0)?, text: row.get(1)? })
                })?
                .collect()
        })
    }

    /// Keeps vectors, all or none. Those that are there already are replaced.
    pub fn put_vectors(&self, project: i64, model: &str, vectors: &[(String, Vec<f32>)]) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO embeddings (project, model, hash, vector) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (project, model, hash) DO UPDATE SET vector = excluded.vector",
            )?;
            for (hash, vector) in vectors {
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                statement.execute(params![project, model, hash, bytes])?;
            }
            Ok(())
        })
    }

    /// The vector of a chunk, if there is one.
    pub fn vector(&self, chunk: i64, model: &str) -> Result<Option<Vec<f32>>> {
        self.read(|connection| {
            let bytes: Option<Vec<u8>> = connection
                .prepare_cached(
                    "SELECT e.vector FROM chunks c JOIN documents d ON d.id = c.document
                     JOIN embeddings e ON e.project = d.project AND e.model = ?2 AND e.hash = c.hash
                     WHERE c.id = ?1",
                )?
                .query_row(params![chunk, model], |row| row.get(0))
                .optional()?;
            Ok(bytes.map(|bytes| numbers(&bytes)))
        })
    }

    /// Chunks of a project with their vectors, by id: at most `limit` after the chunk `after` (0: from the beginning).
    pub fn vectors(&self, project: i64, model: &str, after: i64, limit: usize) -> Result<Vec<(i64, Vec<f32>)>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT c.id, e.vector FROM chunks c JOIN documents d ON d.id = c.document
                     JOIN embeddings e ON e.project = d.project AND e.model = ?2 AND e.hash = c.hash
                     WHERE d.project = ?1 AND c.id > ?3 ORDER BY c.id LIMIT ?4",
                )?
                .query_map(params![project, model, after, integer(limit as u64)], |row| {
                    Ok((row.get(0)?, numbers(&row.get::<_, Vec<u8>>(1)?)))
                })?
                .collect()
        })
    }

    /// How many chunks of a project have a vector of `model`.
    pub fn vector_count(&self, project: i64, model: &str) -> Result<usize> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT count(*) FROM chunks c JOIN documents d ON d.id = c.document
                     JOIN embeddings e ON e.project = d.project AND e.model = ?2 AND e.hash = c.hash
                     WHERE d.project = ?1",
                )?
                .query_row(params![project, model], |row| row.get(0))
                .map(|chunks| count(chunks) as usize)
        })
    }

    /// Models that made vectors of a project, the one with most first.
    pub fn vector_models(&self, project: i64) -> Result<Vec<String>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT model FROM embeddings WHERE project = ?1 GROUP BY model ORDER BY count(*) DESC",
                )?
                .query_map([project], |row| row.get(0))?
                .collect()
        })
    }

    /// How many different texts of a project have a vector of `model`, and how many there are.
    pub fn embedded(&self, project: i64, model: &str) -> Result<(usize, usize)> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT count(e.hash), count(*) FROM
                         (SELECT DISTINCT c.hash FROM chunks c JOIN documents d ON d.id = c.document WHERE d.project = ?1) t
                     LEFT JOIN embeddings e ON e.project = ?1 AND e.model = ?2 AND e.hash = t.hash",
                )?
                .query_row(params![project, model], |row| Ok((row.get(0)?, row.get(1)?)))
                .map(|(done, all)| (count(done) as usize, count(all) as usize))
        })
    }

    /// Numbers of each vector of `model` in a project; 0 where there is none.
    pub fn dimensions(&self, project: i64, model: &str) -> Result<usize> {
        self.read(|connection| {
            let bytes: Option<i64> = connection
                .prepare_cached("SELECT length(vector) FROM embeddings WHERE project = ?1 AND model = ?2 LIMIT 1")?
                .query_row(params![project, model], |row| row.get(0))
                .optional()?;
            Ok(bytes.map_or(0, |bytes| count(bytes) as usize / 4))
        })
    }

    /// Forgets vectors of words that no chunk of the project has any more; returns how many.
    pub fn sweep_vectors(&self, project: i64) -> Result<usize> {
        self.write(Durability::Committed, |transaction| {
            transaction.execute(
                "DELETE FROM embeddings WHERE project = ?1 AND hash NOT IN
                     (SELECT c.hash FROM chunks c JOIN documents d ON d.id = c.document WHERE d.project = ?1)",
                [project],
            )
        })
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewChunk, NewDocument};
    use serde_json::Value;

    #[test]
    fn s0_7_the_same_words_are_embedded_once_and_keep_their_vector_when_they_move() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let project = store.open_project("p").expect("made").id;
        let put = |texts: &[&str]| {
            let chunk = |text: &&str| NewChunk { hash: (*text).into(), text: (*text).into(), details: Value::Null };
            let chunks: Vec<NewChunk> = texts.iter().map(chunk).collect();
            let document = NewDocument { path: "/a".into(), ..NewDocument::default() };
            store.replace_document(project, &document, &chunks).expect("put in");
        };
        put(&["a", "b", "a"]);
        let hashes = |limit| -> Vec<String> {
            store.unembedded(project, "m", limit).expect("read").into_iter().map(|one| one.hash).collect()
        };
        assert_eq!(hashes(10), ["a", "b"]);
        assert_eq!(hashes(1), ["a"]);
        store.put_vectors(project, "m", &[("a".into(), vec![1.0, -2.5])]).expect("kept");
        assert_eq!(hashes(10), ["b"]);
        let vectors = store.vectors(project, "m", 0, 10).expect("read");
        assert_eq!(vectors.iter().map(|(_, vector)| vector.as_slice()).collect::<Vec<_>>(), [[1.0, -2.5]; 2]);
        assert_eq!(store.vector(vectors[0].0, "m").expect("read"), Some(vec![1.0, -2.5]));
        assert_eq!(store.vector(vectors[0].0, "other").expect("read"), None);
        put(&["c", "a"]);
        assert_eq!(hashes(10), ["c"]);
        assert_eq!(store.sweep_vectors(project).expect("swept"), 0);
        assert_eq!(store.embedded(project, "m").expect("counted"), (1, 2));
        assert_eq!(store.dimensions(project, "m").expect("read"), 2);
        assert_eq!(
            (store.dimensions(project, "n").expect("read"), store.vector_models(project).expect("read")),
            (0, vec!["m".to_owned()])
        );
        put(&["c"]);
        assert_eq!(store.sweep_vectors(project).expect("swept"), 1);
    }
}
