//! `data embed` and `data search`: chunks get vectors, and are found by words and meaning.

use super::args::{EmbedArgs, SearchChunksArgs};
use super::context::Context;
use super::interrupt;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::document_search;
use crate::jobs::embedding::{EmbedReport, EmbedRequest, Embedding, embed, parts};
use crate::jobs::teaching::{Opened, Wanted, open_helper};
use peft_plan::Result;
use peft_storage::{Store, StoredChunk};
use serde_json::json;
use std::time::{Duration, Instant};

/// How often progress is told to a person.
const TELL: Duration = Duration::from_secs(2);

/// Whoever makes vectors with `model`.
fn open(context: &Context, provider: &str, model: &str, base_url: Option<&str>) -> Result<Opened> {
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

/// `data search`: each piece with its source.
pub(super) fn search(context: &Context, args: &SearchChunksArgs) -> Result<()> {
    let SearchChunksArgs { query, project, top_k, words, base_url } = args;
    let store = context.store()?;
    let by_meaning = if *words { None } else { meaning(context, &store, args, base_url.as_deref())? };
    let is_by_meaning = by_meaning.is_some();
    let found = match by_meaning {
        Some(found) => found,
        None => document_search::by_words(&store, project, query, *top_k)?,
    };
    if context.json {
        let by = if is_by_meaning { "words_and_meaning" } else { "words" };
        output::print_json(&json!({ "by": by, "results": found }));
        return Ok(());
    }
    if found.is_empty() {
        output::line("Nothing in the project has these words");
    }
    for chunk in &found {
        output::line(&printable(&place(chunk)));
        output::line(&printable(&format!("{}\n", chunk.text.trim())));
    }
    Ok(())
}

/// What is found by words and meaning; `None` where nothing has a vector, or nobody is there to make one of the question.
fn meaning(
    context: &Context,
    store: &Store,
    args: &SearchChunksArgs,
    base_url: Option<&str>,
) -> Result<Option<Vec<StoredChunk>>> {
    let project = store.project(&args.project)?;
    let mut nobody = None;
    for key in store.vector_models(project.id)? {
        let Some((provider, model)) = parts(&key) else { continue };
        let question = open(context, provider, model, base_url).and_then(|opened| {
            let vectors = opened.helper.embed(model, &[&args.query]);
            vectors.map_err(|why| why.into_fault(&opened.who, opened.helper.service()))
        });
        let question = match question {
            Ok(vectors) => vectors.into_iter().next().unwrap_or_default(),
            Err(why) => {
                nobody.get_or_insert(why);
                continue;
            }
        };
        let Some(index) = document_search::index(store, &project, &key)? else { continue };
        return document_search::by_both(store, &project, &key, &index, &args.query, &question, args.top_k).map(Some);
    }
    if let Some(why) = nobody {
        note(&printable(&format!("Only words are looked for: {}", why.detail)));
    }
    Ok(None)
}

/// Where a chunk is from.
fn place(chunk: &StoredChunk) -> String {
    let headings = chunk.details["headings"].as_array().into_iter().flatten().filter_map(|heading| heading.as_str());
    let place: Vec<String> = std::iter::once(chunk.path.clone())
        .chain(chunk.details["page"].as_u64().map(|page| format!("page {page}")))
        .chain(headings.map(str::to_owned))
        .collect();
    place.join(" > ")
}
