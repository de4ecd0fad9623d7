//! `data persona` and `data reference`.

use super::args::PersonaArgs;
use super::context::Context;
use super::output::{self, note, printable};
use super::quantity::count;
use crate::jobs::teaching::{persona, read_text, write_rows};
use peft_data::ConvertOptions;
use peft_plan::Result;
use peft_teach::persona::Wishes;
use peft_teach::reference;
use serde_json::json;
use std::path::Path;

/// Which conversations are held out.
const SEED: u64 = 42;

pub(super) fn run(context: &Context, args: &PersonaArgs) -> Result<()> {
    let PersonaArgs { memories, personality, out, me, hide_names, validation_split, deduplicate, quality_filter, redact } = args;
    let personality = personality.as_deref().map(read_text).transpose()?;
    let options = ConvertOptions {
        deduplicate: *deduplicate,
        quality_filter: *quality_filter,
        redact: *redact,
        include_system: personality.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        validation_split: validation_split.unwrap_or(0.0),
        seed: SEED,
        deduplicate_near: false,
        repair: false,
        max_characters: None,
    };
    let wishes = Wishes { me: me.clone(), hide_names: *hide_names };
    let (report, persona, paths) = persona::write(memories, &wishes, &options, out)?;
    for (file, why) in &persona.passed {
        note(&printable(&format!("{} was passed over: {why}", paths[*file].display())));
    }
    if context.json {
        let passed: Vec<_> =
            persona.passed.iter().map(|(file, why)| json!({"path": paths[*file].display().to_string(), "reason": why})).collect();
        let mut document = json!(report);
        document["me"] = json!(persona.me);
        document["passed"] = json!(passed);
        document["names_replaced"] = json!(persona.replaced.len());
        output::print_json(&document);
        return Ok(());
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
    Ok(())
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
