//! `data documents`: what a project keeps, and what it is to keep no longer.

use super::args::DocumentsArgs;
use super::context::Context;
use super::output::{self, printable};
use super::quantity::count;
use peft_plan::{Fault, Result};
use peft_storage::{Store, StoredDocument};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn run(context: &Context, args: &DocumentsArgs) -> Result<()> {
    let store = context.store()?;
    let project = store.project(&args.project)?.id;
    let removed = remove(&store, project, &args.remove)?;
    let documents = store.documents(project)?;
    if context.json {
        let documents: Vec<Value> = documents.iter().map(shown).collect();
        output::print_json(&json!({"project": args.project, "documents": documents, "removed": removed}));
        return Ok(());
    }
    for path in &removed {
        output::line(&printable(&format!("Removed from the project, not from the disk: {path}")));
    }
    for StoredDocument { path, chunks, format, .. } in &documents {
        output::line(&printable(&format!("{path}  {} chunks, {format}", count(*chunks))));
    }
    if documents.is_empty() {
        output::line(&printable(&format!("The project `{}` has no documents", args.project)));
    }
    Ok(())
}

fn shown(document: &StoredDocument) -> Value {
    let StoredDocument { path, title, format, chunks, warnings, .. } = document;
    json!({"path": path, "title": title, "format": format, "chunks": chunks, "warnings": warnings})
}

/// All of them or none: one that is not there is a slip of the pen.
fn remove(store: &Store, project: i64, wanted: &[String]) -> Result<Vec<String>> {
    let documents = store.documents(project)?;
    let find = |wanted: &String| {
        let absolute = std::path::absolute(wanted).map_or_else(|_| wanted.clone(), |path| path.display().to_string());
        let by_path = |document: &&StoredDocument| document.path == *wanted || document.path == absolute;
        let by_name = |document: &&StoredDocument| {
            Path::new(&document.path).file_name().is_some_and(|name| name == wanted.as_str())
        };
        let mut named = documents.iter().filter(by_name);
        let found = documents.iter().find(by_path).or_else(|| named.next().filter(|_| named.next().is_none()));
        found.ok_or_else(|| {
            Fault::new("PS-FILE-001", format!("The project has no document `{wanted}`, or more than one of that name."))
        })
    };
    let found = wanted.iter().map(find).collect::<Result<Vec<_>>>()?;
    for document in &found {
        store.delete_document(document.id)?;
    }
    Ok(found.into_iter().map(|document| document.path.clone()).collect())
}
