//! `data embed`: chunks get vectors.

use super::args::EmbedArgs;
use super::context::Context;
use super::interrupt;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::document_search;
use crate::jobs::embedding::{EmbedReport, EmbedRequest, Embedding, embed};
use crate::jobs::teaching::{Opened, Wanted, open_helper};
use peft_plan::Result;
use serde_json::json;
use std::time::{Duration, Instant};

/// How often progress is told to a person.
const TELL: Duration = Duration::from_secs(2);

/// Whoever makes vectors with `model`.
pub(super) fn open(context: &Context, provider: &str, model: &str, base_url: Option<&str>) -> Result<Opened> {
    open_helper(&Wanted {
        service: provider.parse()?,
        base_url,
        model,
        backend: &context.backend,
        threads: context.threads,
        offline: context.offline,
    })
}

/// `data embed`.
pub(super) fn run(context: &Context, args: &EmbedArgs) -> Result<u8> {
    let EmbedArgs { project, provider, embedding_model, base_url, batch_size } = args;
    let opened = open(context, provider, embedding_model, base_url.as_deref())?;
    if !opened.is_here {
        note(&format!("The chunks of `{project}` are sent to {}", opened.who));
    }
    let request = EmbedRequest { project, provider, model: embedding_model, batch: *batch_size };
    interrupt::install();
    let mut told = Instant::now();
    let store = context.store()?;
    let report = embed(&store, &opened, &request, &interrupt::requested, &mut |progress| {
        let Embedding { done, total } = progress;
        if context.json {
            output::print_json(&json!({"event": "embedding", "done": done, "total": total}));
        } else if told.elapsed() >= TELL {
            told = Instant::now();
            note(&format!("{} of {} texts have a vector", count(done as u64), count(total as u64)));
        }
    })?;
    if !report.is_stopped {
        // The first search need not wait for it. What is wrong with it, a search will say.
        document_search::index(&store, &store.project(project)?, &report.model).ok();
    }
    if context.json {
        output::print_json(&json!(report));
    } else {
        output::line(&printable(&for_people(&report)));
    }
    Ok(if report.is_stopped { interrupt::EXIT_CODE } else { 0 })
}

fn for_people(report: &EmbedReport) -> String {
    let EmbedReport { model, embedded, already, dimensions, left_out, is_stopped, .. } = report;
    for reason in left_out {
        note(&printable(&format!("A text has no vector: {reason}")));
    }
    let mut text = format!(
        "{} texts got a vector of {dimensions} numbers from {model}; {} had one",
        count(*embedded as u64),
        count(*already as u64)
    );
    if *is_stopped {
        text.push_str(". The same command goes on from here");
    }
    text
}
