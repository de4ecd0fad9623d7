//! `data helpers`, `data generate` and `data label`.

use super::args::{GenerateArgs, HelperArgs, LabelArgs};
use super::context::Context;
use super::interrupt;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::dataset_versions::Versions;
use crate::jobs::teaching::local::teacher;
use crate::jobs::teaching::{Opened, Wanted, generate, label, open_helper, read_text};
use crate::jobs::{documents, library};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use peft_plan::helper::{HelperModel, Service};
use peft_plan::{Fault, Result};
use peft_teach::ask_again::judged;
use peft_teach::engine::{End, Event, Pace};
use peft_teach::generate::Style;
use peft_teach::label::Sheet;
use peft_teach::prompt::{Difficulty, Wish};
use serde_json::json;
use std::io::IsTerminal;

/// What is told people once where documents leave the computer.
pub(crate) const TERMS: &str =
    "Terms of some services forbid training other models with their answers; read those of yours";

fn open<'a>(context: &'a Context, service: Service, base_url: Option<&'a str>, model: &'a str) -> Result<Opened> {
    let Context { backend, threads, offline, .. } = context;
    open_helper(&Wanted { service, base_url, model, backend, threads: *threads, offline: *offline })
}

pub(super) fn helpers(context: &Context, args: &HelperArgs) -> Result<()> {
    let service = args.provider.parse()?;
    if service == Service::Local {
        return local_models(context);
    }
    let opened = open(context, service, args.base_url.as_deref(), "")?;
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
    lines.extend(EXPLAINED.map(str::to_owned));
    output::line(&printable(&lines.join("\n")));
    Ok(())
}

/// The models of this computer, as helpers.
fn local_models(context: &Context) -> Result<()> {
    let models = library::list()?.into_iter().filter(|model| model.supported).map(|model| HelperModel {
        name: model.id,
        bytes: Some(model.bytes),
        takes_schema: Some(true),
        ..HelperModel::default()
    });
    let models: Vec<HelperModel> = models.collect();
    if context.json {
        output::print_json(&json!({"who": "this computer", "models": models, "credit": null}));
        return Ok(());
    }
    let mut lines = vec![format!("This computer has {} models", count(models.len() as u64))];
    lines.extend(models.iter().map(described));
    lines.extend(EXPLAINED.map(str::to_owned));
    output::line(&printable(&lines.join("\n")));
    Ok(())
}

pub(crate) fn described(model: &HelperModel) -> String {
    let mut parts = vec![format!("  {}", model.name)];
    parts.extend(model.parameters.clone());
    parts.extend(model.context_tokens.map(|tokens| format!("reads {} tokens", count(tokens))));
    if let (Some(prompt), Some(answer)) = (model.prompt_price, model.answer_price) {
        parts.push(format!("{:.2} and {:.2} USD a million tokens read and written", prompt * 1e6, answer * 1e6));
    }
    parts.join(", ")
}

/// The difference that people stumble over (S2.5, S2.10).
pub(crate) const EXPLAINED: [&str; 3] = [
    "A helper model writes and answers: it is only asked, and nothing of a service's model is downloaded",
    "The base model is the one you train: its weights are downloaded (1 to 5 GB) and learn on this computer",
    "Better take two different ones: a model learns little from its own words",
];

pub(super) fn generate(context: &Context, args: &GenerateArgs) -> Result<u8> {
    let chunks = match &args.chunks {
        Some(path) => {
            let (chunks, passed) = peft_teach::chunk::read(&read_text(path)?)?;
            if passed > 0 {
                note(&format!("{passed} lines of {} hold no text and were passed over", path.display()));
            }
            Some(chunks)
        }
        None => match &args.project {
            Some(project) if !args.no_documents => {
                Some(peft_teach::chunk::read(&documents::chunk_lines(&context.store()?, project)?)?.0)
            }
            _ => None,
        },
    };
    let versions = |project: &String| Versions::of(&context.store()?, &context.data_dir, project);
    let after = match args.project.as_ref().filter(|_| args.add) {
        Some(project) => versions(project)?.keep()?,
        None => None,
    };
    let out = match (&args.out, &args.project) {
        (Some(out), _) => out.clone(),
        (None, Some(project)) => versions(project)?.make_room()?,
        (None, None) => return Err(Fault::new("PS-CFG-001", "Name the file for the rows with --out")),
    };
    let service = args.helper.provider.parse()?;
    let opened = open(context, service, args.helper.base_url.as_deref(), &args.helper_model)?;
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
        project: args.project.clone(),
        judged: args.ask_again.as_deref().map(|path| judged(&read_text(path)?)).transpose()?,
        pace: Pace {
            at_once: args.concurrency.min(64),
            per_minute: args.per_minute.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
            ..Pace::default()
        },
        cap: args.budget,
        restarts: args.restart,
        place: args.helper.base_url.clone(),
        after,
        out,
    };
    interrupt::install();
    let store = context.store()?;
    let mut teller = Teller::new(context.json, args.budget);
    let report = generate::generate(&store, &opened, &request, &interrupt::requested, &mut |event| teller.tell(event))?;
    teller.end();
    if context.json {
        output::print_json(&report);
    } else {
        let refused: u64 = report.rejected.values().sum();
        let spent =
            if report.tally.spent > 0.0 { format!(", {:.4} USD spent", report.tally.spent) } else { String::new() };
        let line = format!(
            "{} rows in {}; {} not taken, {} questions{spent}",
            count(report.rows as u64),
            report.out,
            count(refused),
            count(report.tally.calls)
        );
        output::line(&printable(&line));
        if let Some(failed) = report.failed_questions {
            output::line(&format!("They are about {failed} questions that were answered badly; none of them asks one"));
        }
        output::line(&format!("Look at them with: peft-studio data review {}", report.job));
    }
    Ok(code(report.tally.end))
}

pub(super) fn label(context: &Context, args: &LabelArgs) -> Result<u8> {
    let (service, model) = teacher(&args.teacher);
    let rows = Sheet::read(&read_text(&args.file)?)?;
    let opened = open(context, service, args.base_url.as_deref(), model)?;
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
    let mut teller = Teller::new(context.json, None);
    let report = label::label(&store, &opened, &request, &interrupt::requested, &mut |event| teller.tell(event))?;
    teller.end();
    for id in &report.skipped {
        note(&printable(&format!("{id} keeps its answer")));
    }
    for (id, why) in &report.failed {
        note(&printable(&format!("{id} has no answer: {why}")));
    }
    if context.json {
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

/// Shows how far it is and what it costs: events for scripts, a bar at a terminal, nothing but trouble otherwise.
struct Teller {
    json: bool,
    budget: Option<f64>,
    bar: Option<ProgressBar>,
}

impl Teller {
    fn new(json: bool, budget: Option<f64>) -> Self {
        let is_watched = !json && std::io::stderr().is_terminal();
        let bar = is_watched.then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { json, budget, bar }
    }

    fn tell(&mut self, event: &Event) {
        if self.json {
            output::print_json(event);
            return;
        }
        match event {
            Event::Answered { spent, progress, .. } => {
                let Some(bar) = &self.bar else { return };
                bar.set_length(progress.units as u64);
                bar.set_position(progress.over as u64);
                bar.set_message(format!("{} rows{}", count(progress.rows as u64), self.cost(*spent)));
            }
            Event::Waiting { seconds, reason } => self.say(&format!("Asked again in {seconds:.1} s: {reason}")),
            Event::GaveUp { reason, .. } => self.say(&format!("A question was given up: {reason}")),
        }
    }

    fn cost(&self, spent: f64) -> String {
        match self.budget {
            Some(budget) => format!(", {spent:.4} of {budget:.2} USD"),
            None if spent > 0.0 => format!(", {spent:.4} USD"),
            None => String::new(),
        }
    }

    fn say(&self, text: &str) {
        let text = printable(text);
        match &self.bar {
            Some(bar) => bar.println(&*text),
            None => note(&text),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
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
