//! `data documents`: what a project has read, and taking documents out of it.

use super::args::DocumentsArgs;
use super::context::Context;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::project_documents::{Removal, remove};
use peft_plan::Result;
use peft_storage::StoredDocument;
use serde_json::json;

pub(super) fn run(context: &Context, args: &DocumentsArgs) -> Result<()> {
    let DocumentsArgs { project, remove: named, with_rows } = args;
    let store = context.store()?;
    let removal = match named.as_slice() {
        [] => Removal::default(),
        named => remove(&store, &context.data_dir, project, named, *with_rows)?,
    };
    let documents = store.documents(store.project(project)?.id)?;
    if context.json {
        let Removal { removed, vectors, rows_left_out } = removal;
        output::print_json(&json!({
            "project": project, "documents": documents,
            "removed": removed, "vectors_removed": vectors, "rows_left_out": rows_left_out,
        }));
    } else {
        output::line(&printable(&for_people(project, &documents, &removal)));
    }
    Ok(())
}

fn for_people(project: &str, documents: &[StoredDocument], removal: &Removal) -> String {
    let mut lines = Vec::new();
    for document in &removal.removed {
        lines.push(format!("Taken out: {} with {} chunks", document.path, count(document.chunks)));
    }
    let rows: usize = removal.removed.iter().map(|document| document.rows).sum();
    if removal.rows_left_out > 0 {
        let rows = count(removal.rows_left_out as u64);
        lines
            .push(format!("{rows} rows made from them were taken out too; `data versions list` has them as they were"));
    } else if rows > 0 {
        note(&format!("{} rows made from them stay in the project", count(rows as u64)));
    }
    lines.push(format!("{} documents in the project `{project}`", count(documents.len() as u64)));
    for document in documents {
        lines.push(format!("  {} ({}, {} chunks)", document.path, document.format, count(document.chunks)));
        lines.extend(document.warnings.iter().map(|warning| format!("    {warning}")));
    }
    lines.join("\n")
}
