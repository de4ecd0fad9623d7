//! Searching the chunks of a project: by words, and by meaning where there are vectors (S0.7, S2.1).

use peft_documents::{VectorIndex, VectorWriter, fused};
use peft_plan::{Fault, Result};
use peft_storage::{Project, Store, StoredChunk};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Vectors that decide the mean of an index.
const SAMPLE: usize = 1_000;

/// Vectors that are read at a time.
const BATCH: usize = 4_096;

/// Up to so many vectors are read faster than a file of theirs is kept up to date.
const FEW: usize = 4_096;

/// How many of each ranking are joined.
const RANKED: usize = 100;

/// Chunks of a project that hold words of `query`, best first.
pub fn by_words(store: &Store, project: &str, query: &str, count: usize) -> Result<Vec<StoredChunk>> {
    let project = store.project(project)?.id;
    present(store, store.search_words(project, query, count)?)
}

/// The vectors that `model` made of a project's chunks, ready to be searched; `None` where there are none.
///
/// Where there are many, the index is a file in the project's folder, which is brought up to date when the project has
/// changed since.
pub fn index(store: &Store, project: &Project, model: &str) -> Result<Option<VectorIndex>> {
    if !store.has_more_vectors_than(FEW, project.id, model)? {
        return in_memory(store, project.id, model);
    }
    let path = file_of(store, project, model);
    // Read before anything else: what changes meanwhile is seen the next time.
    let stamp = stamp_of(store, project, model)?;
    let old = match kept(&path) {
        Some((index, was)) if was == stamp => return Ok(Some(index)),
        old => old,
    };
    // One of another project or model has nothing to go on from.
    let (of_this, by_this) = (format!("{} ", project.id), format!(" {model}"));
    let length = store.dimensions(project.id, model)?;
    let fits =
        |old: &VectorIndex, was: &str| was.starts_with(&of_this) && was.ends_with(&by_this) && old.length() == length;
    let old = old.filter(|(old, was)| fits(old, was));
    match write(store, project.id, model, &path, old.map(|(index, _)| index).as_ref(), &stamp) {
        Ok(()) => Ok(kept(&path).map(|(index, _)| index)),
        // A disk that is full or only read is no reason not to search.
        Err(_) => in_memory(store, project.id, model),
    }
}

/// An index that stays open between questions; it is opened again only when its project has changed, or when another
/// project or model is asked for.
#[derive(Debug, Default)]
pub struct OpenIndex {
    held: Option<(String, Option<VectorIndex>)>,
}

impl OpenIndex {
    /// What [`index`] would give now; at once where nothing has changed since the last call.
    pub fn current(&mut self, store: &Store, project: &Project, model: &str) -> Result<Option<&VectorIndex>> {
        let stamp = stamp_of(store, project, model)?;
        if self.held.as_ref().is_none_or(|(was, _)| *was != stamp) {
            // Two of them in memory at once is what nobody has room for.
            self.held = None;
            self.held = Some((stamp, index(store, project, model)?));
        }
        Ok(self.held.as_ref().and_then(|(_, index)| index.as_ref()))
    }
}

/// Another text wherever the vectors of `model` in a project may be others.
fn stamp_of(store: &Store, project: &Project, model: &str) -> Result<String> {
    Ok(format!("{} {} {model}", project.id, store.project_changes(project.id)?))
}

/// Where the index of a project's vectors is kept.
fn file_of(store: &Store, project: &Project, model: &str) -> PathBuf {
    let model: String = model.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
    store.layout().project(&project.name).join(format!("vectors-{model}.index"))
}

/// The index in a file, if there is a whole one.
fn kept(path: &Path) -> Option<(VectorIndex, String)> {
    VectorIndex::open(File::open(path).ok()?).ok().flatten()
}

fn in_memory(store: &Store, project: i64, model: &str) -> Result<Option<VectorIndex>> {
    let mut batch = store.vectors(project, model, 0, SAMPLE)?;
    if batch.is_empty() {
        return Ok(None);
    }
    let mut index = VectorIndex::new(&sample(&batch))?;
    while let Some((last, _)) = batch.last() {
        let last = *last;
        for (id, vector) in &batch {
            index.add(*id, vector)?;
        }
        batch = store.vectors(project, model, last, BATCH)?;
    }
    Ok(Some(index))
}

fn sample(batch: &[(i64, Vec<f32>)]) -> Vec<Vec<f32>> {
    batch.iter().map(|(_, vector)| vector.clone()).collect()
}

/// Write the index of all vectors there are, from those of `old` that are still there and the others.
fn write(store: &Store, project: i64, model: &str, path: &Path, old: Option<&VectorIndex>, stamp: &str) -> Result<()> {
    let io = |error| Fault::io("write", path, error);
    durable::create_directories(path.parent().unwrap_or(path)).map_err(io)?;
    let mut broken = None;
    let written = durable::write_file_with(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let all = match old {
            Some(old) => go_on(store, project, model, old, &mut out, stamp),
            None => anew(store, project, model, &mut out, stamp),
        };
        all.map_err(|fault| {
            broken = Some(fault);
            std::io::Error::other("stopped")
        })?;
        out.flush()
    });
    match broken {
        Some(fault) => Err(fault),
        None => written.map(drop).map_err(io),
    }
}

fn anew(store: &Store, project: i64, model: &str, out: &mut dyn Write, stamp: &str) -> Result<()> {
    let mut batch = store.vectors(project, model, 0, SAMPLE)?;
    let mut writer = VectorWriter::new(&sample(&batch), out)?;
    while let Some((last, _)) = batch.last() {
        let last = *last;
        for (id, vector) in &batch {
            writer.add(*id, vector)?;
        }
        batch = store.vectors(project, model, last, BATCH)?;
    }
    writer.finish(stamp)
}

/// A chunk keeps its id as long as its words, so that a vector that was taken in stays as it is.
fn go_on(store: &Store, project: i64, model: &str, old: &VectorIndex, out: &mut dyn Write, stamp: &str) -> Result<()> {
    let wanted = store.chunks_with_vectors(project, model)?;
    let known: HashSet<i64> = old.ids().iter().copied().collect();
    let mut writer = VectorWriter::from(old, &|id| wanted.binary_search(&id).is_ok(), out)?;
    for id in wanted.iter().filter(|id| !known.contains(id)) {
        if let Some(vector) = store.vector(*id, model)? {
            writer.add(*id, &vector)?;
        }
    }
    writer.finish(stamp)
}

/// Chunks for a question by both: what each search puts first comes first (reciprocal ranks).
pub fn by_both(
    store: &Store,
    project: &Project,
    model: &str,
    index: &VectorIndex,
    query: &str,
    question: &[f32],
    count: usize,
) -> Result<Vec<StoredChunk>> {
    let words = store.search_words(project.id, query, RANKED.max(count))?;
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
        let project = store.open_project("p").expect("made");
        let texts = ["the cat sat", "a feline rested", "stock prices fell", "the dog sat"];
        let chunk = |text: &&str| NewChunk { hash: (*text).into(), text: (*text).into(), details: Value::Null };
        let chunks: Vec<NewChunk> = texts.iter().map(chunk).collect();
        let document = NewDocument { path: "/a".into(), ..NewDocument::default() };
        store.replace_document(project.id, &document, &chunks).expect("put in");
        assert!(index(&store, &project, "m").expect("read").is_none());
        let vectors = [[1.0, 0.1, 0.0], [1.0, 0.0, 0.1], [0.0, 0.0, 1.0], [0.1, 1.0, 0.0]];
        let vectors: Vec<(String, Vec<f32>)> =
            texts.iter().zip(vectors).map(|(text, vector)| ((*text).to_owned(), vector.to_vec())).collect();
        store.put_vectors(project.id, "m", &vectors).expect("kept");
        let mut open = OpenIndex::default();
        let place = std::ptr::from_ref(open.current(&store, &project, "m").expect("read").expect("vectors").ids());
        let again = open.current(&store, &project, "m").expect("read").expect("vectors");
        assert_eq!((again.len(), std::ptr::from_ref(again.ids())), (4, place), "nothing was opened again");
        assert!(open.current(&store, &project, "other").expect("read").is_none());
        let index = open.current(&store, &project, "m").expect("read").expect("vectors");
        let found = by_both(&store, &project, "m", index, "cat", &[1.0, 0.05, 0.05], 2).expect("found");
        let found: Vec<&str> = found.iter().map(|chunk| chunk.text.as_str()).collect();
        assert_eq!(found, ["the cat sat", "a feline rested"]);
        let document = store.documents(project.id).expect("read").pop().expect("the only one");
        store.delete_document(document.id).expect("deleted");
        assert!(open.current(&store, &project, "m").expect("read").is_none(), "what is gone is not found any more");
    }

    #[test]
    fn s0_7_the_index_of_many_vectors_is_kept_and_follows_what_changes() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let project = store.open_project("p").expect("made");
        let put = |path: &str, names: &[String]| {
            let chunk = |name: &String| NewChunk { hash: name.clone(), text: name.clone(), details: Value::Null };
            let chunks: Vec<NewChunk> = names.iter().map(chunk).collect();
            let document = NewDocument { path: path.into(), ..NewDocument::default() };
            store.replace_document(project.id, &document, &chunks).expect("put in");
            let vector = |name: &String| {
                let number: f32 = name.parse().expect("a number");
                (name.clone(), vec![number.sin(), number.cos(), (number * 0.7).sin(), (number * 1.3).cos()])
            };
            store.put_vectors(project.id, "o:m", &names.iter().map(vector).collect::<Vec<_>>()).expect("kept");
        };
        let names: Vec<String> = (0..FEW + 200).map(|name| name.to_string()).collect();
        put("/a", &names[..FEW + 100]);
        let path = file_of(&store, &project, "o:m");
        let look = |name: &str| {
            let index = index(&store, &project, "o:m").expect("read").expect("vectors");
            let number: f32 = name.parse().expect("a number");
            let question = [number.sin(), number.cos(), (number * 0.7).sin(), (number * 1.3).cos()];
            let hits = index.search(&question, 1, &mut |chunk| store.vector(chunk, "o:m")).expect("found");
            (index.len(), store.chunk(hits[0].id).expect("read").expect("there").text)
        };
        assert_eq!(look("77"), (FEW + 100, "77".to_owned()));
        let made = std::fs::read(&path).expect("kept");
        look("78");
        assert_eq!(std::fs::read(&path).expect("kept"), made, "nothing has changed");
        put("/b", &names[FEW + 100..]);
        assert_eq!(look(&names[FEW + 150]), (FEW + 200, names[FEW + 150].clone()));
        let document = store.documents(project.id).expect("read").pop().expect("the second one");
        store.delete_document(document.id).expect("deleted");
        assert_eq!(look("5"), (FEW + 100, "5".to_owned()));
        // A file that was damaged, or is of another project, is made again.
        std::fs::write(&path, &made[7..]).expect("written");
        assert_eq!(look("1234"), (FEW + 100, "1234".to_owned()));
        let other = std::fs::read(&path).expect("kept");
        assert_eq!(other.len(), made.len());
    }
}
