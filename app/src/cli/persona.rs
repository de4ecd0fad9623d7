//! `data persona` and `data reference`.

use super::args::PersonaArgs;
use super::context::Context;
use super::interrupt;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::teaching::{persona, read_text, write_rows};
use peft_data::{ConvertOptions, ConvertReport};
use peft_plan::{Fault, Result};
use peft_remote::serve::{ExportRequest, Exporter, Options, Server};
use peft_teach::persona::{Persona, Wishes};
use peft_teach::reference;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Holds the token where it shall not be seen among the running programs.
const KEY: &str = "PEFT_STUDIO_API_KEY";
/// Which conversations are held out.
const SEED: u64 = 42;

pub(super) fn run(context: &Context, args: &PersonaArgs) -> Result<u8> {
    if args.serve {
        return serve(context, args);
    }
    let made = make(args, &usual(args))?;
    tell(context, &made);
    Ok(0)
}

/// Conversations that were written.
struct Made {
    report: ConvertReport,
    persona: Persona,
    paths: Vec<PathBuf>,
}

/// What the command line says, in the words of a request.
fn usual(args: &PersonaArgs) -> ExportRequest {
    ExportRequest {
        quality_filter: args.quality_filter,
        deduplicate: args.deduplicate,
        include_system: args.include_system,
        validation_split: args.validation_split,
    }
}

fn make(args: &PersonaArgs, request: &ExportRequest) -> Result<Made> {
    let personality = args.personality.as_deref().map(read_text).transpose()?;
    let personality = personality.filter(|text| request.include_system && !text.trim().is_empty());
    let options = ConvertOptions {
        deduplicate: request.deduplicate,
        quality_filter: request.quality_filter,
        redact: args.redact,
        include_system: personality.map(|text| text.trim().to_owned()),
        validation_split: request.validation_split.unwrap_or(0.0),
        seed: SEED,
        ..ConvertOptions::default()
    };
    let wishes = Wishes { me: args.me.clone(), hide_names: args.hide_names };
    let (report, persona, paths) = persona::write(&args.memories, &wishes, &options, &args.out)?;
    Ok(Made { report, persona, paths })
}

/// As scripts and other programs read it.
fn document(made: &Made) -> Value {
    let Made { report, persona, paths } = made;
    let passed =
        persona.passed.iter().map(|(file, why)| json!({"path": paths[*file].display().to_string(), "reason": why}));
    let mut document = json!(report);
    document["passed"] = passed.collect();
    document["me"] = json!(persona.me);
    document["names_replaced"] = json!(persona.replaced.len());
    document
}

/// Writes the dataset when another program asks for it (S3.2, D6).
fn serve(context: &Context, args: &PersonaArgs) -> Result<u8> {
    let key = args.api_key.clone().or_else(|| std::env::var(KEY).ok().filter(|key| !key.is_empty()));
    let Some(key) = key else {
        let detail =
            format!("Exports are only written for whoever has a token: give one with `--api-key`, or in `{KEY}`.");
        return Err(Fault::new("PS-CFG-001", detail));
    };
    let server = Server::bind(&Options { host: Ipv4Addr::LOCALHOST.into(), port: args.port, key: Some(key) })?;
    let url = format!("http://{}/api/finetune/export", server.address());
    interrupt::install();
    if context.json {
        output::print_json(&json!({"event": "listening", "url": url}));
    } else {
        output::line(&format!("Listening  {url}"));
        output::note("Programs that know the token can POST to it; Ctrl-C ends it");
    }
    server.run_exports(&mut Exports(args), &interrupt::requested)?;
    Ok(0)
}

/// What is exported, whatever of it another program asks for.
struct Exports<'a>(&'a PersonaArgs);

impl Exporter for Exports<'_> {
    fn export(&mut self, request: &ExportRequest) -> Result<Value> {
        let validation_split = request.validation_split.or(self.0.validation_split);
        make(self.0, &ExportRequest { validation_split, ..*request }).map(|made| document(&made))
    }
}

fn tell(context: &Context, made: &Made) {
    let Made { report, persona, paths } = made;
    for (file, why) in &persona.passed {
        note(&printable(&format!("{} was passed over: {why}", paths[*file].display())));
    }
    if context.json {
        output::print_json(&document(made));
        return;
    }
    let mut lines = vec![format!("{} conversations in {}", count(report.rows as u64), report.out.display())];
    lines.extend(persona.me.iter().map(|me| format!("{me} is who answers; name somebody else with `--me NAME`")));
    if let Some(path) = &report.validation {
        lines.push(format!("{} conversations held out in {}", count(report.validation_rows as u64), path.display()));
    }
    if !persona.replaced.is_empty() {
        lines.push(format!("{} names of other people replaced", persona.replaced.len()));
    }
    output::line(&printable(&lines.join("\n")));
}

pub(super) fn reference(context: &Context, out: &Path) -> Result<()> {
    let rows = write_rows(out, reference::rows().into_iter())?;
    if context.json {
        output::print_json(&json!({"out": out.display().to_string(), "rows": rows}));
    } else {
        output::line(&printable(&format!("{rows} rows in {}", out.display())));
    }
    Ok(())
}
