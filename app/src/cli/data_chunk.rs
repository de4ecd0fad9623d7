//! `data chunk`.

use super::args::ChunkArgs;
use super::context::Context;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::documents::{ChunkReport, ChunkRequest, chunk};
use crate::jobs::{document_reader, open_model};
use peft_documents::{Characters, ChunkOptions, Ruler, Tokens};
use peft_plan::Fault;
use std::path::Path;

pub(super) fn run(context: &Context, args: &ChunkArgs) -> Result<(), Fault> {
    let ChunkArgs { files, out, chunk_size, overlap, model, project } = args;
    let options = ChunkOptions::new(chunk_size.count, *overlap)?;
    let files = peft_documents::files_of(files)?;
    let store = project.as_ref().map(|_| context.store()).transpose()?;
    let base = match (chunk_size.in_tokens, model) {
        (false, _) => None,
        (true, Some(model)) => Some(open_model(model)?),
        (true, None) => {
            let detail = "A size in tokens needs a model to count them: name one with --model";
            return Err(Fault::new("PS-CFG-001", detail));
        }
    };
    let tokens = base.as_ref().map(|base| {
        let counter = base.tokenizer().counter();
        // A text that a tokenizer refuses is as long as it can be.
        Tokens(move |text: &str| counter.count(text).unwrap_or(text.len()))
    });
    let ruler = tokens.as_ref().map_or(&Characters as &dyn Ruler, |tokens| tokens as &dyn Ruler);
    let unit = model.as_deref().filter(|_| base.is_some()).map(|model| format!("tokens of {model}"));
    let request = ChunkRequest {
        files: &files,
        out: out.as_deref(),
        options,
        unit: unit.as_deref().unwrap_or("characters"),
        ruler,
        project: store.as_ref().zip(project.as_deref()),
    };
    let report = chunk(&request, &mut document_reader::reader()?)?;
    if context.json {
        output::print_json(&report);
    } else {
        output::line(&printable(&for_people(&report, out.as_deref(), project.as_deref())));
    }
    Ok(())
}

fn for_people(report: &ChunkReport, wanted: Option<&Path>, project: Option<&str>) -> String {
    let ChunkReport { out: written, files, unreadable, chunks, unchanged, exact_copies, near_copies } = report;
    for file in unreadable {
        note(&printable(&format!("Left out: {} ({})", file.reason, file.code)));
    }
    for file in files {
        for warning in &file.warnings {
            note(&printable(&format!("{}: {warning}", file.path.display())));
        }
    }
    let mut lines = Vec::new();
    let of = format!("{} chunks of {} documents", count(*chunks as u64), count(files.len() as u64));
    match (written, wanted) {
        (Some(out), _) => lines.push(format!("{of} in {}", out.display())),
        (None, Some(out)) => lines.push(format!("No document could be read; {} was not written", out.display())),
        (None, None) => {}
    }
    if let Some(project) = project {
        lines.push(format!("{of} in the project `{project}`; {} documents had not changed", count(*unchanged as u64)));
    }
    if *exact_copies + *near_copies > 0 {
        lines.push(format!(
            "{} chunks say the same as an earlier one, {} nearly the same",
            count(*exact_copies as u64),
            count(*near_copies as u64)
        ));
    }
    lines.join("\n")
}
