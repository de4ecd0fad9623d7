//! Vectors of chunks, by what the chunks say: the same words are asked about once (S0.7).

use crate::documents::changed;
use crate::store::{Durability, Store, count, integer};
use peft_plan::Result;
use rusqlite::{OptionalExtension, params};

/// A chunk that a model has no vector of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unembedded {
    /// The chunk.
    pub chunk: i64,
    /// What its vector is to be kept under.
    pub hash: String,
    /// What is to be embedded.
    pub text: String,
}

impl Store {
    /// Chunks of a project that `model` has no vector of, by id: at most `limit` after the chunk `after` (0: from the
    /// beginning). Several may say the same.
    pub fn unembedded(&self, project: i64, model: &str, after: i64, limit: usize) -> Result<Vec<Unembedded>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    // `CROSS` holds the order: else every call would sort all chunks.
                    "SELECT c.id, c.hash, c.text FROM chunks c CROSS JOIN documents d ON d.id = c.document
                     WHERE d.project = ?1 AND c.id > ?3 AND NOT EXISTS
                         (SELECT 1 FROM embeddings e WHERE e.project = ?1 AND e.model = ?2 AND e.hash = c.hash)
                     ORDER BY c.id LIMIT ?4",
                )?
                .query_map(params![project, model, after, integer(limit as u64)], |row| {
                    Ok(Unembedded { chunk: row.get(0)?, hash: row.get(1)?, text: row.get(2)? })
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
            changed(transaction, project)
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
                    // `CROSS` holds the order: else every call would sort all vectors.
                    "SELECT c.id, e.vector FROM chunks c CROSS JOIN documents d ON d.id = c.document
                     CROSS JOIN embeddings e ON e.project = d.project AND e.model = ?2 AND e.hash = c.hash
                     WHERE d.project = ?1 AND c.id > ?3 ORDER BY c.id LIMIT ?4",
                )?
                .query_map(params![project, model, after, integer(limit as u64)], |row| {
                    Ok((row.get(0)?, numbers(&row.get::<_, Vec<u8>>(1)?)))
                })?
                .collect()
        })
    }

    /// Chunks of a project that have a vector of `model`, by id.
    pub fn chunks_with_vectors(&self, project: i64, model: &str) -> Result<Vec<i64>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT c.id FROM chunks c CROSS JOIN documents d ON d.id = c.document
                     WHERE d.project = ?1 AND EXISTS
                         (SELECT 1 FROM embeddings e WHERE e.project = ?1 AND e.model = ?2 AND e.hash = c.hash)
                     ORDER BY c.id",
                )?
                .query_map(params![project, model], |row| row.get(0))?
                .collect()
        })
    }

    /// Whether a project has more than `count` vectors of `model`.
    pub fn has_more_vectors_than(&self, count: usize, project: i64, model: &str) -> Result<bool> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM embeddings WHERE project = ?1 AND model = ?2 LIMIT 1 OFFSET ?3")?
                .exists(params![project, model, integer(count as u64)])
        })
    }

    /// Models that made vectors of a project, the one with most first.
    pub fn vector_models(&self, project: i64) -> Result<Vec<String>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    // From one name to the next: most projects have one, and counting reads a million vectors.
                    "WITH RECURSIVE names (model) AS (
                         SELECT min(model) FROM embeddings WHERE project = ?1
                         UNION ALL
                         SELECT (SELECT min(e.model) FROM embeddings e WHERE e.project = ?1 AND e.model > names.model)
                         FROM names WHERE names.model IS NOT NULL
                     )
                     SELECT model FROM names WHERE model IS NOT NULL",
                )?
                .query_map([project], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()
        })
        .and_then(|names| self.most_first(project, names))
    }

    /// These models by how many vectors of a project are theirs.
    fn most_first(&self, project: i64, names: Vec<String>) -> Result<Vec<String>> {
        if names.len() < 2 {
            return Ok(names);
        }
        self.read(|connection| {
            let mut counted =
                connection.prepare_cached("SELECT count(*) FROM embeddings WHERE project = ?1 AND model = ?2")?;
            let mut names = names
                .iter()
                .map(|name| Ok((counted.query_row(params![project, name], |row| row.get(0))?, name.clone())))
                .collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
            names.sort_by_key(|(vectors, _)| std::cmp::Reverse(*vectors));
            Ok(names.into_iter().map(|(_, name)| name).collect())
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
            let swept = transaction.execute(
                "DELETE FROM embeddings WHERE project = ?1 AND hash NOT IN
                     (SELECT c.hash FROM chunks c JOIN documents d ON d.id = c.document WHERE d.project = ?1)",
                [project],
            )?;
            if swept > 0 {
                changed(transaction, project)?;
            }
            Ok(swept)
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
            store.unembedded(project, "m", 0, limit).expect("read").into_iter().map(|one| one.hash).collect()
        };
        assert_eq!(hashes(10), ["a", "b", "a"]);
        assert_eq!(hashes(1), ["a"]);
        let first = store.unembedded(project, "m", 0, 1).expect("read")[0].chunk;
        assert_eq!(store.unembedded(project, "m", first, 9).expect("read").len(), 2);
        store.put_vectors(project, "m", &[("a".into(), vec![1.0, -2.5])]).expect("kept");
        assert_eq!(hashes(10), ["b"]);
        let vectors = store.vectors(project, "m", 0, 10).expect("read");
        assert_eq!(vectors.iter().map(|(_, vector)| vector.as_slice()).collect::<Vec<_>>(), [[1.0, -2.5]; 2]);
        assert_eq!(store.vector(vectors[0].0, "m").expect("read"), Some(vec![1.0, -2.5]));
        assert_eq!(store.vector(vectors[0].0, "other").expect("read"), None);
        assert_eq!(store.chunks_with_vectors(project, "m").expect("read"), [vectors[0].0, vectors[1].0]);
        let has_more = |count| store.has_more_vectors_than(count, project, "m").expect("read");
        assert!(has_more(0) && !has_more(1), "one text, one vector");
        let changes = store.project_changes(project).expect("read");
        put(&["c", "a"]);
        assert!(store.project_changes(project).expect("read") > changes);
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
