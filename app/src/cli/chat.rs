//! `chat`: one question with `--prompt`, or a conversation; with `--compare` base and tuned side by side.

use super::args::ChatArgs;
use super::context::Context;
use super::export::{Source, source_of_run};
use super::output;
use crate::jobs::answer::{Answerer, Replies, stop_word};
use crate::jobs::{open_model, run::find};
use peft_models::engine::{Engine, Quantization};
use peft_models::generate::Sampling;
use peft_plan::{Fault, Result, Role, RunConfig, Turn};
use serde_json::json;
use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What is talked to.
struct Partner {
    model: String,
    adapter: Option<PathBuf>,
    template: Option<String>,
    system: Option<String>,
    quantize: Option<Quantization>,
}

fn partner(context: &Context, args: &ChatArgs) -> Result<Partner> {
    let mut partner = match (&args.run, &args.model) {
        (Some(name), _) => {
            let run = find(&context.store()?, name)?;
            let Source { model, adapter, quantize } = source_of_run(&run)?;
            let config = RunConfig::from_value(run.config)?;
            Partner {
                model,
                adapter,
                template: config.dataset.chat_template,
                system: config.dataset.system_prompt,
                quantize,
            }
        }
        (None, Some(model)) => Partner {
            model: model.clone(),
            adapter: args.adapter.clone(),
            template: None,
            system: None,
            quantize: None,
        },
        (None, None) => return Err(Fault::new("PS-CFG-001", "Say what to talk to: `--run RUN`, or `--model MODEL`")),
    };
    if args.system.is_some() {
        partner.system.clone_from(&args.system);
    }
    Ok(partner)
}

/// Answer.
pub fn run(context: &Context, args: &ChatArgs) -> Result<u8> {
    let Partner { model, adapter, template, system, quantize } = partner(context, args)?;
    let base = open_model(&model)?;
    let engine = Engine::open(&context.backend, context.threads)?;
    let session = engine.session(&base, adapter.as_deref(), quantize)?;
    let mut answerer = Answerer::new(&base, session, template.as_deref(), system.as_deref())?;
    let sampling = Sampling { temperature: args.temperature as f32, top_p: args.top_p as f32, seed: args.seed };
    let compare = args.compare && adapter.is_some();
    if args.compare && adapter.is_none() {
        output::note("There is no adapter, so there is nothing to compare the base with");
    }
    let tuned = adapter.is_some();
    if let Some(prompt) = &args.prompt {
        let turns = [Turn::new(Role::User, prompt.as_str())];
        let replies = ask(context, &mut answerer, (&turns, &turns), compare, tuned, sampling, args.max_new_tokens)?;
        if context.json {
            print(&replies, compare);
        }
        return Ok(0);
    }
    talk(context, &mut answerer, compare, tuned, sampling, args.max_new_tokens, base.spec().max_positions)
}

/// One round. The base and the tuned model each see their own earlier answers.
fn ask(
    context: &Context,
    answerer: &mut Answerer,
    (base, tuned): (&[Turn], &[Turn]),
    compare: bool,
    with_adapter: bool,
    sampling: Sampling,
    max_new_tokens: usize,
) -> Result<Replies> {
    let conversations: &[(&[Turn], bool)] =
        if compare { &[(base, false), (tuned, true)] } else { &[(tuned, with_adapter)] };
    // Two streams cannot share one line; a comparison is shown when it is complete.
    let stream = !context.json && !compare;
    let mut show = |_: usize, piece: &str| {
        if stream {
            output::text(&output::printable(piece));
        }
        if super::interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let replies = answerer.answer(conversations, sampling, max_new_tokens, &mut show)?;
    if stream {
        output::line("");
    } else if !context.json {
        output::line(&format!("base   {}", output::printable(&replies.replies[0].text)));
        output::line(&format!("tuned  {}", output::printable(&replies.replies[1].text)));
    }
    Ok(replies)
}

fn print(replies: &Replies, compare: bool) {
    let tuned = replies.replies.last().expect("there is an answer for every prompt");
    let mut document = json!({
        "answer": tuned.text,
        "prompt_tokens": replies.prompt_tokens,
        "generated_tokens": tuned.tokens,
        "tokens_per_second": replies.tokens_per_second,
        "first_token_seconds": replies.first_token_seconds,
        "stop_reason": stop_word(tuned.stop),
    });
    if compare {
        document["base"] = json!(replies.replies[0].text);
    }
    output::print_json(&document);
}

/// A conversation, one line a turn, until the end of input.
fn talk(
    context: &Context,
    answerer: &mut Answerer,
    compare: bool,
    tuned: bool,
    sampling: Sampling,
    max_new_tokens: usize,
    limit: usize,
) -> Result<u8> {
    super::interrupt::install();
    let asks = std::io::stdin().is_terminal();
    if asks {
        output::note("Ask something and press Enter; an empty line or Ctrl-D ends the conversation");
    }
    let mut histories: [Vec<Turn>; 2] = [Vec::new(), Vec::new()];
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if line.trim().is_empty() || super::interrupt::requested() {
            break;
        }
        for history in &mut histories {
            history.push(Turn::new(Role::User, line.as_str()));
            // What does not fit any more is forgotten from the front, a question and its answer at a time.
            while history.len() > 2 && answerer.prompt_tokens(history)? + max_new_tokens > limit {
                history.drain(..2);
                output::note("The conversation is longer than the model can read; its oldest part is left out");
            }
        }
        let [base, adapted] = &histories;
        let replies = ask(context, answerer, (base, adapted), compare, tuned, sampling, max_new_tokens)?;
        if context.json {
            print(&replies, compare);
        }
        for (i, history) in histories.iter_mut().enumerate() {
            let reply = &replies.replies[i.min(replies.replies.len() - 1)];
            history.push(Turn::new(Role::Assistant, reply.text.as_str()));
        }
    }
    Ok(0)
}
