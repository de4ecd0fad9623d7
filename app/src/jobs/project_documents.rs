//! The documents of a project: which there are, and taking some of them out again.

use super::dataset_versions::Versions;
use peft_plan::{Fault, Result};
use peft_storage::{Store, StoredDocument};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A document that is no longer in its project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// As the project knew it; the file itself is left alone.
    pub path: String,
    /// How many chunks went with it.
    pub chunks: u64,
    /// Rows of the project that were made from it.
    pub rows: usize,
}

/// What was taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// The documents.
    pub removed: Vec<Removed>,
    /// Vectors of words that nothing in the project says any more.
    pub vectors: usize,
    /// Rows that were taken out with their documents; they are in the version that was kept before.
    pub rows_left_out: usize,
}

/// Take documents out of a project, with their chunks and vectors. `named` are documents or folders of them. Rows that
/// were made from them stay, unless `with_rows`. Nothing changes where one of the names is unknown.
pub fn remove(store: &Store, data_dir: &Path, project: &str, named: &[PathBuf], with_rows: bool) -> Result<Removal> {
    let project = store.project(project)?;
    let documents = meant(&project.name, store.documents(project.id)?, named)?;
    let versions = Versions::of(store, data_dir, &project.name)?;
    let mut removal = Removal::default();
    let rows = versions.rows_by_source()?;
    for StoredDocument { path, chunks, .. } in &documents {
        let rows = rows.get(path).copied().unwrap_or(0);
        removal.removed.push(Removed { path: path.clone(), chunks: *chunks, rows });
    }
    // Rows first: stopped in between, the same command goes on.
    if with_rows && removal.removed.iter().any(|document| document.rows > 0) {
        let is_of = |path: &str| documents.iter().any(|document| document.path == path);
        removal.rows_left_out = versions.leave_out(&|row| row["source"].as_str().is_some_and(is_of))?;
    }
    for document in &documents {
        store.delete_document(document.id)?;
    }
    removal.vectors = store.sweep_vectors(project.id)?;
    Ok(removal)
}

/// The documents that these names mean.
fn meant(project: &str, documents: Vec<StoredDocument>, named: &[PathBuf]) -> Result<Vec<StoredDocument>> {
    // A file that was deleted since still has a name here, so nothing is asked of the disk.
    let places: Vec<PathBuf> =
        named.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect();
    let is_under = |document: &StoredDocument, place: &Path| Path::new(&document.path).starts_with(place);
    for (place, name) in places.iter().zip(named) {
        if !documents.iter().any(|document| is_under(document, place)) {
            let detail = format!("The project `{project}` has no document `{}`", name.display());
            return Err(Fault::new("PS-FILE-001", detail));
        }
    }
    Ok(documents.into_iter().filter(|document| places.iter().any(|place| is_under(document, place))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_storage::{NewChunk, NewDocument};
    use serde_json::{Value, json};

    #[test]
    fn s2_1_documents_leave_a_project_with_what_was_theirs() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let project = store.open_project("p").expect("made").id;
        let place = |name: &str| home.path().join(name).display().to_string();
        for (name, words) in [("a/one", "one"), ("a/two", "two"), ("b", "two")] {
            let chunk = NewChunk { hash: words.into(), text: words.into(), details: Value::Null };
            let document = NewDocument { path: place(name), ..NewDocument::default() };
            store.replace_document(project, &document, &[chunk]).expect("put in");
        }
        let vectors = ["one", "two"].map(|words| (words.to_owned(), vec![1.0, 0.0]));
        store.put_vectors(project, "m", &vectors).expect("kept");
        let versions = Versions::of(&store, home.path(), "p").expect("there");
        let rows = versions.make_room().expect("a folder");
        let row = |name: &str| json!({"instruction": name, "output": "x", "source": place(name)}).to_string() + "\n";
        std::fs::write(&rows, row("a/one") + &row("b") + "{\"instruction\":\"i\",\"output\":\"o\"}\n")
            .expect("written");

        let unknown = [home.path().join("b"), home.path().join("none")];
        assert_eq!(remove(&store, home.path(), "p", &unknown, true).expect_err("unknown").code, "PS-FILE-001");
        assert_eq!(store.documents(project).expect("readable").len(), 3, "nothing has changed");

        let folder = remove(&store, home.path(), "p", &[home.path().join("a")], false).expect("removed");
        let counts: Vec<(u64, usize)> = folder.removed.iter().map(|one| (one.chunks, one.rows)).collect();
        assert_eq!((counts, folder.vectors, folder.rows_left_out), (vec![(1, 1), (1, 0)], 1, 0));
        assert_eq!(store.documents(project).expect("readable").len(), 1);
        assert!(store.search_words(project, "one", 9).expect("searched").is_empty());
        assert_eq!(std::fs::read_to_string(&rows).expect("there").lines().count(), 3, "rows stay");

        let last = remove(&store, home.path(), "p", &[home.path().join("b")], true).expect("removed");
        assert_eq!((last.vectors, last.rows_left_out), (1, 1));
        let left = std::fs::read_to_string(&rows).expect("there");
        assert!(left.lines().count() == 2 && !left.contains(&place("b")), "{left}");
        assert_eq!(versions.list().expect("readable").len(), 1, "the rows before are kept");
    }
}
