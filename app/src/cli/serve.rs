//! `serve`: a model and its adapter for the programs of this computer.

use super::args::ServeArgs;
use super::context::Context;
use super::evaluate::answering;
use super::export::{Source, source_of_run};
use super::{interrupt, output};
use crate::jobs::answer::Answerer;
use crate::jobs::serve::Served;
use crate::jobs::{open_model, run::find};
use peft_models::engine::{Engine, answer_memory};
use peft_plan::{Fault, Result, RunConfig};
use peft_remote::serve::{Model, Options, Server};
use serde_json::json;
use std::path::Path;

/// Holds the key where it shall not be seen among the running programs.
const KEY: &str = "PEFT_STUDIO_API_KEY";

/// What is served.
struct Dish {
    source: Source,
    /// What the tuned model is called.
    tuned: Option<String>,
    /// What the base is called, where it is there as well.
    base: Option<String>,
    template: Option<String>,
    system: Option<String>,
}

pub(super) fn run(context: &Context, args: &ServeArgs) -> Result<u8> {
    let key = args.api_key.clone().or_else(|| std::env::var(KEY).ok().filter(|key| !key.is_empty()));
    // The port comes first: whether it is free is known at once, loading a model takes a while.
    let server = Server::bind(&Options { host: args.host, port: args.port, key })?;
    let dish = dish(context, args)?;
    let base = open_model(&dish.source.model)?;
    let engine = answering(&Engine::open(&context.backend, context.threads)?, "auto");
    let engine = engine.with_eight_bit_cache(args.kv_cache == "int8")?;
    let session = engine.session(&base, dish.source.adapter.as_deref(), dish.source.quantize)?;
    let (context_tokens, narrow) = (base.spec().max_positions, engine.has_eight_bit_cache());
    let memory = answer_memory(&base, dish.source.quantize, context_tokens, narrow);
    let answerer = Answerer::new(&base, session, dish.template.as_deref(), dish.system.as_deref())?;
    let mut served = Served::new(answerer, base.spec().max_positions, dish.tuned.as_deref(), dish.base.as_deref());
    interrupt::install();
    let url = format!("http://{}/v1", server.address());
    if context.json {
        output::print_json(&json!({"event": "listening", "url": url, "models": served.names()}));
    } else {
        output::line(&format!("Listening  {url}"));
        output::line(&output::printable(&format!("Models     {}", served.names().join(", "))));
        output::line(&format!("Memory     {}", output::answer_memory(&memory)));
        output::note("Programs that speak OpenAI's protocol can use it; Ctrl-C ends it");
    }
    server.run(&mut served, &interrupt::requested)?;
    Ok(0)
}

fn dish(context: &Context, args: &ServeArgs) -> Result<Dish> {
    if let Some(name) = &args.run {
        let run = find(&context.store()?, name)?;
        let source = source_of_run(&run)?;
        let config = RunConfig::from_value(run.config.clone())?;
        // A model that was trained whole has no base beside it.
        let base = source.adapter.is_some().then(|| source.model.clone());
        let (tuned, base) = if base.is_some() { (Some(run.name), base) } else { (None, Some(run.name)) };
        let (template, system) = (config.dataset.chat_template, config.dataset.system_prompt);
        return Ok(Dish { source, tuned, base, template, system });
    }
    let Some(model) = &args.model else {
        return Err(Fault::new("PS-CFG-001", "Say what to serve: `--run RUN`, or `--model MODEL`"));
    };
    let tuned = args.adapter.as_deref().map(name_of);
    let source = Source { model: model.clone(), adapter: args.adapter.clone(), quantize: None };
    Ok(Dish { source, tuned, base: Some(model.clone()), template: None, system: None })
}

/// The name of an adapter's folder; that of the run where the folder is called `adapter`.
fn name_of(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let parent = path.parent().and_then(name);
    match (name(&path), parent) {
        (Some(own), Some(parent)) if own == "adapter" => parent,
        (own, _) => own.unwrap_or_else(|| "tuned".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_called_after_its_folder_or_its_run() {
        assert_eq!(name_of(Path::new("/runs/bakery/adapter")), "bakery");
        assert_eq!(name_of(Path::new("/adapters/bakery-2")), "bakery-2");
    }
}
