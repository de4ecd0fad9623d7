//! `data helpers`, `data generate` and `data label`.

use super::args::{GenerateArgs, HelperArgs, LabelArgs};
use super::context::Context;
use super::interrupt;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::teaching::{Opened, generate, label, open_helper, read_text};
use peft_plan::helper::{HelperModel, Service};
use peft_plan::{Fault, Result};
use peft_teach::engine::{End, Event, Pace};
use peft_teach::generate::Style;
use peft_teach::label::Sheet;
use peft_teach::prompt::{Difficulty, Wish};
use serde_json::json;

/// What is told people once where documents leave the computer.
const TERMS: &str = "Terms of some services forbid training other models with their answers; read those of yours";

pub(super) fn helpers(context: &Context, args: &HelperArgs) -> Result<()> {
    let opened = open_helper(&args.provider, args.base_url.as_deref(), context.offline)?;
    let models = opened.models()?;
    // What is left is asked for with a key, and who has none still sees the models.
    let credit = opened.helper.credit().ok().flatten();
    if context.json {
        output::print_json(&json!({"who": opened.who, "models": models, "credit": credit}));
        return Ok(());
    }
    let mut lines = vec![format!("{} has {} models", opened.who, count(models.len() as u64))];
    lines.extend(models.iter().map(described));
    if let Some(credit) = credit {
        let left = credit.left.map_or_else(|| "no limit".to_owned(), |left| format!("{left:.2} USD left"));
        lines.push(format!("{:.2} USD used, {left}", credit.used));
    }
    lines.push("A helper model only writes and answers; the base model that you train is another one, and better not the same".to_owned());
    output::line(&printable(&lines.join("\n")));
    Ok(())
}

fn described(model: &HelperModel) -> String {
    let mut parts = vec![format!("  {}", model.name)];
    parts.extend(model.parameters.clone());
    parts.extend(model.context_tokens.map(|tokens| format!("reads {} tokens", count(tokens))));
    if let (Some(prompt), Some(answer)) = (model.prompt_price, model.answer_price) {
        parts.push(format!("{:.2} and {:.2} USD a million tokens read and written", prompt * 1e6, answer * 1e6));
    }
    parts.join(", ")
}

pub(super) fn generate(context: &Context, args: &GenerateArgs) -> Result<u8> {
    let opened = open_helper(&args.helper.provider, args.helper.base_url.as_deref(), context.offline)?;
    let chunks = match &args.chunks {
        Some(path) => {
            let (chunks, passed) = peft_teach::chunk::read(&read_text(path)?)?;
            if passed > 0 {
                note(&format!("{passed} lines of {} hold no text and were passed over", path.display()));
            }
            Some(chunks)
        }
        None => None,
    };
    warn(&opened, chunks.is_some());
    let difficulty = args.difficulty.as_deref().map(|level| match level {
        "easy" => Difficulty::Easy,
        "hard" => Difficulty::Hard,
        _ => Difficulty::Medium,
    });
    let request = generate::Request {
        model: args.helper_model.clone(),
        wish: Wish {
            task: args.task.clone(),
            prompt: args.prompt.clone(),
            pairs: args.pairs,
            language: args.language.clone(),
            difficulty,
        },
        style: Style { temperature: args.temperature as f32, seed: args.seed, max_new_tokens: None },
        chunks,
        rows: args.rows,
        pace: Pace {
            at_once: args.concurrency.min(64),
            per_minute: args.per_minute.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
            ..Pace::default()
        },
        cap: args.budget,
        restarts: args.restart,
        out: args.out.clone(),
    };
    interrupt::install();
    let store = context.store()?;
    let json = context.json;
    let report = generate::generate(&store, &opened, &request, &interrupt::requested, &mut |event| tell(json, event))?;
    if json {
        output::print_json(&report);
    } else {
        let refused: u64 = report.rejected.values().sum();
        let spent = if report.tally.spent > 0.0 { format!(", {:.4} USD spent", report.tally.spent) } else { String::new() };
        let line = format!(
            "{} rows in {}; {} not taken, {} questions{spent}",
            count(report.rows as u64),
            report.out,
            count(refused),
            count(report.tally.calls)
        );
        output::line(&printable(&line));
    }
    Ok(code(report.tally.end))
}

pub(super) fn label(context: &Context, args: &LabelArgs) -> Result<u8> {
    let (provider, model) = args.teacher.split_once(':').unwrap_or(("", &args.teacher));
    if !matches!(provider.parse::<Service>(), Ok(Service::Ollama | Service::OpenRouter | Service::OpenAi)) {
        let detail = format!("`--teacher {}` does not say who answers; write it as ollama:MODEL.", args.teacher);
        return Err(Fault::new("PS-CFG-001", detail));
    }
    let opened = open_helper(provider, args.base_url.as_deref(), context.offline)?;
    let rows = Sheet::read(&read_text(&args.file)?)?;
    warn(&opened, true);
    let temperature = if args.do_sample { args.temperature as f32 } else { 0.0 };
    let style = peft_teach::label::Style { temperature, max_new_tokens: args.max_new_tokens, seed: args.seed };
    let request = label::Request {
        model: model.to_owned(),
        rows,
        skip_existing: args.skip_existing,
        batch: args.batch_size.min(64),
        style,
        out: args.out.clone(),
    };
    interrupt::install();
    let store = context.store()?;
    let json = context.json;
    let report = label::label(&store, &opened, &request, &interrupt::requested, &mut |event| tell(json, event))?;
    for id in &report.skipped {
        note(&printable(&format!("{id} keeps its answer")));
    }
    for (id, why) in &report.failed {
        note(&printable(&format!("{id} has no answer: {why}")));
    }
    if json {
        output::print_json(&report);
    } else {
        output::line(&printable(&format!("{} rows with answers in {}", count(report.rows as u64), report.out)));
    }
    Ok(code(report.tally.end))
}

fn warn(opened: &Opened, has_rows: bool) {
    if !opened.is_here {
        let what = if has_rows { "Your texts are" } else { "What you wish is" };
        note(&printable(&format!("{what} sent to {}. {TERMS}", opened.who)));
    }
}

fn tell(json: bool, event: &Event) {
    if json {
        output::print_json(event);
        return;
    }
    match event {
        Event::Answered { .. } => {}
        Event::Waiting { seconds, reason } => note(&printable(&format!("Asked again in {seconds:.1} s: {reason}"))),
        Event::GaveUp { reason, .. } => note(&printable(&format!("A question was given up: {reason}"))),
    }
}

fn code(end: End) -> u8 {
    match end {
        End::Done => 0,
        End::Stopped => {
            note("Stopped; what was made is kept, and the same command goes on");
            interrupt::EXIT_CODE
        }
        End::Budget => {
            note("The budget is spent; what was made is kept, and the same command with a higher `--budget` goes on");
            5
        }
    }
}
