//! `evaluate`: loss, perplexity and token accuracy of the tuned model beside its base.

use super::args::EvaluateArgs;
use super::context::Context;
use super::{evaluate_preference, output};
use crate::jobs::{open_model, setup};
use peft_data::{BadLine, ReadOptions};
use peft_models::engine::Engine;
use peft_models::prepare::render;
use peft_models::train::Totals;
use peft_plan::{Fault, Result, TrainOn};
use serde_json::{Value, json};

fn scores(t: &Totals) -> Value {
    json!({"loss": t.mean_loss(), "perplexity": t.mean_loss().exp(), "token_accuracy": t.accuracy()})
}

/// Score the rows of a file.
pub fn run(context: &Context, args: &EvaluateArgs) -> Result<u8> {
    let base = open_model(&args.model)?;
    let options = ReadOptions { on_bad_line: BadLine::Fail, ..ReadOptions::default() };
    let dataset = peft_data::read(&args.data, &options)?;
    if let Some(objective) = evaluate_preference::objective_of(&dataset) {
        return evaluate_preference::run(context, args, &base, &dataset, objective);
    }
    let engine = Engine::open(&context.backend, context.threads)?;
    let render_options = setup::render_options(&base, args.chat_template.as_deref(), TrainOn::Assistant, None)?;
    let indices: Vec<usize> = (0..dataset.rows.len()).collect();
    let rendered = render(&base, &dataset.rows, &indices, &render_options)?;
    let limit = args.max_sequence_length.unwrap_or(base.spec().max_positions).min(base.spec().max_positions);
    let cut = rendered.cut(limit);
    if cut.examples.is_empty() {
        return Err(Fault::new("PS-DATA-004", "None of the examples has an answer to score"));
    }
    let mut session = engine.session(&base, args.adapter.as_deref(), None)?;
    let base_scores = session.score(&cut.examples, false)?;
    let tuned = if args.adapter.is_some() { session.score(&cut.examples, true)? } else { base_scores };
    let mut document = scores(&tuned);
    document["tokens"] = json!(tuned.tokens);
    document["examples"] = json!(cut.examples.len());
    document["truncated"] = json!(cut.truncated);
    document["base"] = scores(&base_scores);
    if context.json {
        output::print_json(&document);
    } else {
        output::line(&format!("{} examples, {} answer tokens", cut.examples.len(), tuned.tokens));
        output::line("                     tuned       base");
        for (name, t, b) in [
            ("loss", tuned.mean_loss(), base_scores.mean_loss()),
            ("perplexity", tuned.mean_loss().exp(), base_scores.mean_loss().exp()),
            ("token accuracy", tuned.accuracy(), base_scores.accuracy()),
        ] {
            output::line(&format!("{name:<16} {t:>10.4} {b:>10.4}"));
        }
    }
    Ok(0)
}
