//! `quickstart`: the whole job, offline, on what is inside the program.
//!
//! The embedded starter model is trained on the sample dataset, an invented cafe that it cannot know. Then the
//! fixed held-out questions are put to base and tuned model, and the results are written for other programs.

use super::args::QuickstartArgs;
use super::context::Context;
use super::memory::peak_memory;
use super::output;
use crate::jobs::answer::Answerer;
use crate::jobs::export::{self, Origin};
use crate::jobs::model::{STARTER, open_model};
use crate::jobs::{RunRequest, start};
use peft_models::engine::{Engine, MergeOptions};
use peft_models::export::gguf::FileType;
use peft_models::generate::Sampling;
use peft_models::peft_format::read_adapter;
use peft_models::train::RunOutcome;
use peft_plan::{Fault, Result, Role, RunConfig, Turn};
use peft_starter::{Question, held_out, is_correct, sample_rows_jsonl, small_world};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// The run's settings; the recipe and its reasons are in `models/starter/README.md`.
pub const RECIPE: &str = include_str!("../../../models/starter/data/quickstart.json");

/// Longest answer, tokens: three times the longest right one.
const ANSWER_TOKENS: usize = 48;
/// Questions answered in one pass.
const TOGETHER: usize = 16;

/// A question with both answers.
pub struct Asked {
    /// The question.
    pub question: Question,
    /// The base's answer.
    pub base: String,
    /// The tuned model's answer.
    pub tuned: String,
}

/// Train, ask, write.
pub fn run(context: &Context, args: &QuickstartArgs) -> Result<u8> {
    let begun = Instant::now();
    let mut config = RunConfig::from_json(RECIPE)?;
    config.name = Some("quickstart".to_owned());
    config.model.id = Some(STARTER.to_owned());
    let samples = context.data_dir.join("samples");
    let data = samples.join("cafe.jsonl");
    let io = |e| Fault::io("write the sample dataset to", &data, e);
    durable::create_directories(&samples).map_err(io)?;
    durable::write_file(&data, sample_rows_jsonl().as_bytes()).map_err(io)?;
    config.dataset.path = Some(data.display().to_string());
    if !context.json {
        output::line(
            "Training the built-in starter model on the sample dataset: an invented cafe it has never heard of",
        );
    }
    let end = start(context, RunRequest { config, out: args.out.clone() })?;
    let RunOutcome::Finished(finished) = &end.outcome else {
        output::note(&format!("Quickstart was interrupted; go on with: peft-studio resume {}", end.run.id.as_str()));
        return Ok(130);
    };
    let directory = end.run.directory.clone();
    let adapter = directory.join("adapter");
    let asked = ask_all(context, STARTER, &adapter, &held_out())?;
    let own_world = ask_all(context, STARTER, &adapter, &small_world())?;

    // What other programs need: the base the adapter belongs to, and both in one.
    let base = open_model(STARTER)?;
    let engine = Engine::open(&context.backend, context.threads)?;
    let base_dir = directory.join("base");
    let merged_dir = directory.join("merged");
    engine.merge(&base, None, &MergeOptions::of(base.dtype()), &base_dir)?;
    engine.merge(&base, Some(&read_adapter(&adapter)?), &MergeOptions::of(base.dtype()), &merged_dir)?;

    let mut origin = Origin::of_run(context, end.run.id.as_str(), Some("starter-cafe"))?;
    origin.rows.truncate(4);
    let gguf = export::gguf(&engine, &origin, &[FileType::Q8_0], &directory.join("gguf"))?.unwrap_or_default();
    let gguf = gguf.first();

    let right = |asked: &[Asked], answer: fn(&Asked) -> &str| {
        asked.iter().filter(|a| is_correct(answer(a), &a.question)).count()
    };
    let summary = json!({
        "event": "quickstart",
        "run": end.run.id,
        "questions": asked.len(),
        "base_correct": right(&asked, |a| &a.base),
        "tuned_correct": right(&asked, |a| &a.tuned),
        "small_world_questions": own_world.len(),
        "small_world_base_correct": right(&own_world, |a| &a.base),
        "small_world_tuned_correct": right(&own_world, |a| &a.tuned),
        "examples": asked.iter().map(example).collect::<Vec<_>>(),
        "small_world_examples": own_world.iter().map(example).collect::<Vec<_>>(),
        "adapter": finished.adapter,
        "base": base_dir.display().to_string(),
        "merged": merged_dir.display().to_string(),
        "gguf": gguf.map(|file| file.path.display().to_string()),
        "certificate": gguf.map(|file| &file.certificate),
        "training_seconds": finished.seconds,
        "seconds": begun.elapsed().as_secs_f64(),
        "peak_memory_bytes": peak_memory(),
    });
    let answers = directory.join("answers.json");
    let text = serde_json::to_vec_pretty(&summary).expect("plain data");
    durable::write_file(&answers, &text).map_err(|e| Fault::io("write", &answers, e))?;
    if context.json {
        output::print_json(&summary);
    } else {
        show(&summary, &asked, &answers, end.run.id.as_str());
    }
    Ok(0)
}

fn example(a: &Asked) -> Value {
    json!({
        "prompt": a.question.prompt,
        "expected": a.question.expected,
        "base": a.base,
        "tuned": a.tuned,
        "correct": is_correct(&a.tuned, &a.question),
    })
}

/// Put every question to the base and to the tuned model: greedy, free answers.
pub fn ask_all(context: &Context, model: &str, adapter: &Path, questions: &[Question]) -> Result<Vec<Asked>> {
    let base = open_model(model)?;
    let engine = Engine::open(&context.backend, context.threads)?;
    let session = engine.session(&base, adapter.join("adapter_config.json").is_file().then_some(adapter), None)?;
    let mut answerer = Answerer::new(&base, session, None, None)?;
    let mut asked = Vec::with_capacity(questions.len());
    for some in questions.chunks(TOGETHER) {
        let turns: Vec<[Turn; 1]> = some.iter().map(|q| [Turn::new(Role::User, q.prompt.as_str())]).collect();
        let conversations: Vec<(&[Turn], bool)> =
            turns.iter().map(|t| (&t[..], false)).chain(turns.iter().map(|t| (&t[..], true))).collect();
        let mut quiet = |_: usize, _: &str| ControlFlow::Continue(());
        let replies = answerer.answer(&conversations, Sampling::default(), ANSWER_TOKENS, &mut quiet)?.replies;
        let (base, tuned) = replies.split_at(some.len());
        for ((question, base), tuned) in some.iter().zip(base).zip(tuned) {
            asked.push(Asked { question: question.clone(), base: base.text.clone(), tuned: tuned.text.clone() });
        }
    }
    Ok(asked)
}

fn show(summary: &Value, asked: &[Asked], answers: &Path, run: &str) {
    output::line("");
    for a in asked.iter().step_by((asked.len() / 6).max(1)) {
        output::line(&format!("  {}", a.question.prompt));
        output::line(&format!("    base   {}", a.base));
        output::line(&format!("    tuned  {}", a.tuned));
    }
    output::line("");
    let n = |key: &str| summary[key].as_u64().unwrap_or(0);
    output::line(&format!(
        "Right answers about the cafe, in words that were not trained on: base {} of {}, tuned {} of {}",
        n("base_correct"),
        n("questions"),
        n("tuned_correct"),
        n("questions")
    ));
    output::line(&format!(
        "Questions of its own small world it still answers: {} of {} (before: {})",
        n("small_world_tuned_correct"),
        n("small_world_questions"),
        n("small_world_base_correct")
    ));
    output::line(&format!("All questions and answers, misses too: {}", answers.display()));
    for (what, key) in [
        ("Adapter (PEFT)", "adapter"),
        ("Base", "base"),
        ("Base and adapter in one", "merged"),
        ("For llama.cpp (GGUF)", "gguf"),
    ] {
        output::line(&format!("{what:<24} {}", summary[key].as_str().unwrap_or("")));
    }
    output::line(&format!(
        "Done in {} using {} of memory. Talk to it: peft-studio chat --run {run} --compare",
        output::duration(summary["seconds"].as_f64().unwrap_or(0.0)),
        output::bytes(n("peak_memory_bytes"))
    ));
}
