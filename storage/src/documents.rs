//! Projects, their documents and the chunks of these (S2.1, S2.8).

use crate::runs::json;
use crate::store::{Durability, Store, count, integer, now};
use peft_plan::{Fault, Result};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// Longest name of a project, bytes: it is the name of a folder.
const LONGEST_NAME: usize = 100;

/// Chunks that are ranked for a question at most: of a million, a hundredth.
const COMMON: i64 = 10_000;

/// Letters of a word from which on others that begin like it are looked for, its quotation marks not counted.
const SHORTEST_BEGINNING: usize = 4;
/// Words of a question that are looked for.
const MOST_WORDS: usize = 64;

/// What belongs together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Counts up.
    pub id: i64,
    /// Also the name of its folder.
    pub name: String,
    /// Unix seconds.
    pub created: i64,
}

/// A document that was just read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewDocument {
    /// Absolute.
    pub path: String,
    /// Its title, where it has one.
    pub title: Option<String>,
    /// How it was read.
    pub format: String,
    /// Of the file.
    pub sha256: String,
    /// How it was chunked, in words that change when the way does.
    pub chunking: String,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// A document of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredDocument {
    /// Counts up.
    pub id: i64,
    /// Absolute.
    pub path: String,
    /// Its title, where it has one.
    pub title: Option<String>,
    /// How it was read.
    pub format: String,
    /// Of the file, when it was chunked.
    pub sha256: String,
    /// How it was chunked.
    pub chunking: String,
    /// What could not be read.
    pub warnings: Vec<String>,
    /// Unix seconds.
    pub updated: i64,
    /// How many chunks it has.
    pub chunks: u64,
}

/// A chunk that was just made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChunk {
    /// Of headings and text.
    pub hash: String,
    /// What is in it.
    pub text: String,
    /// The rest of its record.
    pub details: Value,
}

/// A chunk of a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredChunk {
    /// Stays as long as its hash does.
    pub id: i64,
    /// The document it is of.
    pub document: i64,
    /// Where that is.
    pub path: String,
    /// Counts from 0 within the document.
    pub position: u64,
    /// Of headings and text.
    pub hash: String,
    /// What is in it.
    pub text: String,
    /// The rest of its record.
    pub details: Value,
}

/// What putting a document in anew changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// Chunks that were there already, and keep their ids.
    pub kept: usize,
    /// Chunks that were not.
    pub added: usize,
    /// Chunks that are no more.
    pub removed: usize,
}

impl StoredDocument {
    fn from_row(row: &Row) -> rusqlite::Result<Self> {
        let warnings = json(&row.get::<_, String>("warnings")?)?;
        Ok(Self {
            id: row.get("id")?,
            path: row.get("path")?,
            title: row.get("title")?,
            format: row.get("format")?,
            sha256: row.get("sha256")?,
            chunking: row.get("chunking")?,
            warnings: serde_json::from_value(warnings).unwrap_or_default(),
            updated: row.get("updated")?,
            chunks: count(row.get("chunks")?),
        })
    }
}

impl StoredChunk {
    fn from_row(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            document: row.get("document")?,
            path: row.get("path")?,
            position: count(row.get("position")?),
            hash: row.get("hash")?,
            text: row.get("text")?,
            details: json(&row.get::<_, String>("details")?)?,
        })
    }
}

const CHUNK: &str = "SELECT c.*, d.path FROM chunks c JOIN documents d ON d.id = c.document";

impl Store {
    /// The project of that name, which is made if there is none.
    pub fn open_project(&self, name: &str) -> Result<Project> {
        let name = fit_for_a_folder(name)?;
        self.write(Durability::Committed, |transaction| {
            transaction.execute(
                "INSERT INTO projects (name, created) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![name, now()],
            )?;
            transaction.query_row("SELECT id, name, created FROM projects WHERE name = ?1", [name], project)
        })
    }

    /// The project of that name.
    pub fn project(&self, name: &str) -> Result<Project> {
        let found = self.read(|connection| {
            connection
                .prepare_cached("SELECT id, name, created FROM projects WHERE name = ?1")?
                .query_row([name], project)
                .optional()
        })?;
        found.ok_or_else(|| Fault::new("PS-RUN-001", format!("There is no project `{name}`")))
    }

    /// All projects by name.
    pub fn projects(&self) -> Result<Vec<Project>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT id, name, created FROM projects ORDER BY name")?
                .query_map([], project)?
                .collect()
        })
    }

    /// Forgets a project with everything in it but its folder. One that is not there is no error.
    pub fn delete_project(&self, id: i64) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            // Chunks first: their words go with them, whatever a cascade would do.
            transaction
                .execute("DELETE FROM chunks WHERE document IN (SELECT id FROM documents WHERE project = ?1)", [id])?;
            transaction.execute("DELETE FROM projects WHERE id = ?1", [id]).map(drop)
        })
    }

    /// Another number than before wherever chunks or vectors of a project have come or gone since.
    pub fn project_changes(&self, id: i64) -> Result<u64> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT changes FROM projects WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()
                .map(|changes| changes.map_or(0, count))
        })
    }

    /// The documents of a project by path.
    pub fn documents(&self, project: i64) -> Result<Vec<StoredDocument>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT d.*, (SELECT count(*) FROM chunks c WHERE c.document = d.id) AS chunks
                     FROM documents d WHERE d.project = ?1 ORDER BY d.path",
                )?
                .query_map([project], StoredDocument::from_row)?
                .collect()
        })
    }

    /// Puts a document in, in place of what was there under its path. All of it is there afterwards, or nothing is
    /// changed. Chunks whose hashes were there keep their ids.
    pub fn replace_document(&self, project: i64, new: &NewDocument, chunks: &[NewChunk]) -> Result<Replaced> {
        let NewDocument { path, title, format, sha256, chunking, warnings } = new;
        let warnings = Value::from(warnings.clone()).to_string();
        self.write(Durability::Committed, |transaction| {
            let document: i64 = transaction.query_row(
                "INSERT INTO documents (project, path, title, format, sha256, chunking, warnings, updated)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (project, path) DO UPDATE SET title = excluded.title, format = excluded.format,
                     sha256 = excluded.sha256, chunking = excluded.chunking, warnings = excluded.warnings,
                     updated = excluded.updated
                 RETURNING id",
                params![project, path, title, format, sha256, chunking, warnings, now()],
                |row| row.get(0),
            )?;
            let replaced = replace_chunks(transaction, document, chunks)?;
            if replaced.added + replaced.removed > 0 {
                changed(transaction, project)?;
            }
            Ok(replaced)
        })
    }

    /// Forgets a document and its chunks. One that is not there is no error.
    pub fn delete_document(&self, id: i64) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            let project = transaction
                .query_row("SELECT project FROM documents WHERE id = ?1", [id], |row| row.get(0))
                .optional()?;
            if let Some(project) = project {
                changed(transaction, project)?;
            }
            transaction.execute("DELETE FROM chunks WHERE document = ?1", [id])?;
            transaction.execute("DELETE FROM documents WHERE id = ?1", [id]).map(drop)
        })
    }

    /// The chunks of a project by id: at most `limit` after the chunk `after` of a call before (0: from the beginning).
    pub fn chunks(&self, project: i64, after: i64, limit: usize) -> Result<Vec<StoredChunk>> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!("{CHUNK} WHERE d.project = ?1 AND c.id > ?2 ORDER BY c.id LIMIT ?3"))?
                .query_map(params![project, after, integer(limit as u64)], StoredChunk::from_row)?
                .collect()
        })
    }

    /// The first `most` chunks of a document, in their order.
    pub fn chunks_of(&self, document: i64, most: usize) -> Result<Vec<StoredChunk>> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!("{CHUNK} WHERE c.document = ?1 ORDER BY c.position LIMIT ?2"))?
                .query_map(params![document, integer(most as u64)], StoredChunk::from_row)?
                .collect()
        })
    }

    /// A chunk, if it is still there.
    pub fn chunk(&self, id: i64) -> Result<Option<StoredChunk>> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!("{CHUNK} WHERE c.id = ?1"))?
                .query_row([id], StoredChunk::from_row)
                .optional()
        })
    }

    /// Chunks of a project that hold words of `query`, best first: their ids.
    ///
    /// Words that very many chunks hold say little and cost much: they count only where there are no others. Where no
    /// chunk of the project holds any of the words, those count that begin like them: `open` finds `opens`.
    pub fn search_words(&self, project: i64, query: &str, limit: usize) -> Result<Vec<i64>> {
        let words = words_of(query);
        let found = self.holding(project, &words, limit)?;
        if !found.is_empty() {
            return Ok(found);
        }
        let is_long = |word: &&String| word.chars().count() >= SHORTEST_BEGINNING + 2;
        let beginnings: Vec<String> = words.iter().filter(is_long).map(|word| format!("{word}*")).collect();
        self.holding(project, &beginnings, limit)
    }

    /// Chunks of a project that hold one of these terms, best first.
    fn holding(&self, project: i64, words: &[String], limit: usize) -> Result<Vec<i64>> {
        let limit = integer(limit as u64);
        self.read(|connection| {
            let mut counted = connection.prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM chunk_words WHERE chunk_words MATCH ?1 LIMIT ?2)",
            )?;
            let mut rare: Vec<(i64, &str)> = words
                .iter()
                .map(|word| Ok((counted.query_row(params![word, COMMON], |row| row.get(0))?, word.as_str())))
                .collect::<rusqlite::Result<_>>()?;
            rare.retain(|(chunks, _)| *chunks > 0);
            rare.sort_unstable();
            let mut chunks = 0;
            let told: Vec<&str> = rare
                .iter()
                .take_while(|(count, _)| {
                    chunks += count;
                    chunks < COMMON
                })
                .map(|(_, word)| *word)
                .collect();
            let ids = |order: &str, words: &str| -> rusqlite::Result<Vec<i64>> {
                connection
                    .prepare_cached(&format!(
                        "SELECT c.id FROM chunk_words CROSS JOIN chunks c ON c.id = chunk_words.rowid
                         CROSS JOIN documents d ON d.id = c.document
                         WHERE chunk_words MATCH ?1 AND d.project = ?2 {order} LIMIT ?3"
                    ))?
                    .query_map(params![words, project, limit], |row| row.get(0))?
                    .collect()
            };
            if !told.is_empty() {
                return ids("ORDER BY bm25(chunk_words), c.id", &told.join(" OR "));
            }
            // All of them are everywhere: which chunk holds one more often means nothing.
            let all: Vec<&str> = rare.iter().map(|(_, word)| *word).collect();
            if all.is_empty() { Ok(Vec::new()) } else { ids("", &all.join(" AND ")) }
        })
    }
}

/// Chunks or vectors of the project are others now.
pub(crate) fn changed(transaction: &Transaction, project: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE projects SET changes = changes + 1 WHERE id = ?1")?
        .execute([project])
        .map(|_| ())
}

fn project(row: &Row) -> rusqlite::Result<Project> {
    Ok(Project { id: row.get(0)?, name: row.get(1)?, created: row.get(2)? })
}

/// Makes the chunks of a document these.
fn replace_chunks(transaction: &Transaction, document: i64, chunks: &[NewChunk]) -> rusqlite::Result<Replaced> {
    // Chunks that say the same are told apart by their order.
    let mut known: HashMap<String, Vec<i64>> = HashMap::new();
    let mut statement =
        transaction.prepare_cached("SELECT id, hash FROM chunks WHERE document = ?1 ORDER BY position DESC")?;
    let mut rows = statement.query([document])?;
    while let Some(row) = rows.next()? {
        known.entry(row.get(1)?).or_default().push(row.get(0)?);
    }
    let mut replaced = Replaced::default();
    for (position, NewChunk { hash, text, details }) in (0_i64..).zip(chunks) {
        let details = details.to_string();
        if let Some(id) = known.get_mut(hash).and_then(Vec::pop) {
            transaction
                .prepare_cached("UPDATE chunks SET position = ?2, details = ?3 WHERE id = ?1")?
                .execute(params![id, position, details])?;
            replaced.kept += 1;
        } else {
            transaction
                .prepare_cached(
                    "INSERT INTO chunks (document, position, hash, text, details) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![document, position, hash, text, details])?;
            replaced.added += 1;
        }
    }
    for id in known.into_values().flatten() {
        replaced.removed += transaction.prepare_cached("DELETE FROM chunks WHERE id = ?1")?.execute([id])?;
    }
    Ok(replaced)
}

/// The words of a question, each once and in quotation marks, so that none is taken for an operator.
fn words_of(query: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in query.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = format!("\"{}\"", word.to_lowercase());
        if words.len() < MOST_WORDS && !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// The name, if a folder can have it on every system.
fn fit_for_a_folder(name: &str) -> Result<&str> {
    let name = name.trim();
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.');
    let fits = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.chars().all(is_plain)
        && !name.starts_with('.')
        && !name.ends_with('.');
    if fits {
        return Ok(name);
    }
    let detail = format!(
        "`{name}` cannot be the name of a project: it names a folder, so letters, digits, spaces, `-`, `_` and `.` \
         within are what it may have, at most {LONGEST_NAME} bytes"
    );
    Err(Fault::new("PS-CFG-001", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> NewChunk {
        NewChunk { hash: format!("hash of {text}"), text: text.to_owned(), details: Value::Null }
    }

    fn document(path: &str) -> NewDocument {
        NewDocument { path: path.to_owned(), format: "text".into(), ..NewDocument::default() }
    }

    fn opened() -> (tempfile::TempDir, Store, i64) {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let project = store.open_project("Book").expect("made").id;
        (home, store, project)
    }

    fn texts(store: &Store, ids: &[i64]) -> Vec<String> {
        ids.iter().map(|id| store.chunk(*id).expect("readable").expect("there").text).collect()
    }

    #[test]
    fn s0_5_only_chunks_that_changed_are_made_anew() {
        let (_home, store, project) = opened();
        let put = |texts: &[&str]| {
            let chunks: Vec<NewChunk> = texts.iter().map(|text| chunk(text)).collect();
            store.replace_document(project, &document("/a"), &chunks).expect("put in")
        };
        assert_eq!(put(&["one", "two", "two", "three"]), Replaced { kept: 0, added: 4, removed: 0 });
        let before = store.chunks(project, 0, 99).expect("readable");
        assert_eq!(put(&["zero", "two", "three", "two"]), Replaced { kept: 3, added: 1, removed: 1 });
        let mut after = store.chunks(project, 0, 99).expect("readable");
        after.sort_by_key(|chunk| chunk.position);
        assert_eq!(after.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["zero", "two", "three", "two"]);
        assert_eq!((after[1].id, after[3].id, after[2].id), (before[1].id, before[2].id, before[3].id));
        assert_eq!(store.documents(project).expect("readable")[0].chunks, 4);
    }

    #[test]
    fn words_are_found_until_their_chunk_is_gone() {
        let (_home, store, project) = opened();
        let chunks = [chunk("The Café opens at nine"), chunk("Nobody knows the way"), chunk("cafe cafe café")];
        store.replace_document(project, &document("/a"), &chunks).expect("put in");
        let found = store.search_words(project, "cafe?", 10).expect("searched");
        assert_eq!(texts(&store, &found).len(), 2);
        assert_eq!(
            texts(&store, &store.search_words(project, "WAY \"OR* (", 10).expect("searched")),
            ["Nobody knows the way"]
        );
        assert!(store.search_words(project, "\"*(", 10).expect("searched").is_empty());
        let opens = store.search_words(project, "When do you open?", 10).expect("searched");
        assert_eq!(texts(&store, &opens), ["The Café opens at nine"]);
        let other = store.open_project("Other").expect("made").id;
        assert!(store.search_words(other, "cafe", 10).expect("searched").is_empty());
        store.replace_document(project, &document("/a"), &chunks[1..2]).expect("put in");
        assert!(store.search_words(project, "cafe", 10).expect("searched").is_empty());
        store.delete_project(project).expect("deleted");
        assert!(store.search_words(project, "way", 10).expect("searched").is_empty());
        assert_eq!(store.project("Book").expect_err("gone").code, "PS-RUN-001");
        store.check().expect("whole");
    }

    #[test]
    fn s2_8_a_project_has_a_name_that_a_folder_can_have() {
        let (_home, store, project) = opened();
        assert_eq!(store.open_project(" book ").expect("the same").id, project);
        for wrong in ["", "..", ".x", "a/b", "a\\b", "a\0", "x.", &"x".repeat(101)] {
            assert_eq!(store.open_project(wrong).expect_err("refused").code, "PS-CFG-001", "{wrong:?}");
        }
        assert_eq!(store.projects().expect("readable").len(), 1);
    }
}
