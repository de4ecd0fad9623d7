//! `data search`: pieces of documents for a question, or for each line of the standard input.

use super::args::SearchChunksArgs;
use super::context::Context;
use super::data_embed::open;
use super::output::{self, note, printable};
use crate::jobs::document_search::{self, OpenIndex};
use crate::jobs::embedding::{Patience, parts};
use crate::jobs::teaching::Opened;
use peft_plan::{Fault, Result};
use peft_storage::{Store, StoredChunk};
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// Times that a service is asked for the vector of a question, and the longest pause between: somebody waits for it.
const TRIES: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whoever looks; what was opened for a question stays open for the next.
struct Searcher<'a> {
    context: &'a Context,
    args: &'a SearchChunksArgs,
    store: Store,
    index: OpenIndex,
    makers: HashMap<String, Opened>,
}

/// `data search`.
pub(super) fn search(context: &Context, args: &SearchChunksArgs) -> Result<()> {
    let store = context.store()?;
    let mut searcher = Searcher { context, args, store, index: OpenIndex::default(), makers: HashMap::new() };
    if !args.lines {
        return searcher.answer(args.query.as_deref().unwrap_or_default());
    }
    // A project that is not there is told before the first question.
    searcher.store.project(&args.project)?;
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| Fault::io("read", Path::new("the standard input"), error))?;
        if !line.trim().is_empty() {
            searcher.answer(line.trim())?;
        }
    }
    Ok(())
}

impl Searcher<'_> {
    /// Print what answers `query`, each piece with its source.
    fn answer(&mut self, query: &str) -> Result<()> {
        let by_meaning = if self.args.words { None } else { self.meaning(query)? };
        let by = if by_meaning.is_some() { "words_and_meaning" } else { "words" };
        let found = match by_meaning {
            Some(found) => found,
            None => document_search::by_words(&self.store, &self.args.project, query, self.args.top_k)?,
        };
        if self.context.json {
            output::print_json(&json!({ "query": query, "by": by, "results": found }));
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

    /// What is found by words and meaning; `None` where nothing has a vector, or nobody is there to make one of `query`.
    fn meaning(&mut self, query: &str) -> Result<Option<Vec<StoredChunk>>> {
        let project = self.store.project(&self.args.project)?;
        let mut nobody = None;
        for key in self.store.vector_models(project.id)? {
            let question = match self.vector(&key, query) {
                Ok(Some(question)) => question,
                Ok(None) => continue,
                Err(why) => {
                    nobody.get_or_insert(why);
                    continue;
                }
            };
            let Some(index) = self.index.current(&self.store, &project, &key)? else { continue };
            let count = self.args.top_k;
            return document_search::by_both(&self.store, &project, &key, index, query, &question, count).map(Some);
        }
        if let Some(why) = nobody {
            note(&printable(&format!("Only words are looked for: {}", why.detail)));
        }
        Ok(None)
    }

    /// The vector of `query` by the model that made those of the chunks; `None` for a model that nobody can ask.
    fn vector(&mut self, key: &str, query: &str) -> Result<Option<Vec<f32>>> {
        let Some((provider, model)) = parts(key) else { return Ok(None) };
        if !self.makers.contains_key(key) {
            let opened = open(self.context, provider, model, self.args.base_url.as_deref())?;
            self.makers.insert(key.to_owned(), opened);
        }
        let Some(opened) = self.makers.get(key) else { return Ok(None) };
        let patience =
            Patience { tries: TRIES, longest_pause: LONGEST_PAUSE, waits_for_somebody: false, is_over: &|| false };
        let (vectors, _) = patience.ask(opened, model, &[query]);
        let vectors = vectors.map_err(|why| why.into_fault(&opened.who, opened.helper.service()))?;
        Ok(Some(vectors.into_iter().next().unwrap_or_default()))
    }
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
