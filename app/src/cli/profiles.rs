//! `profiles`: what people make, the settings that suit it, and what it takes on this machine.

use super::args::ProfilesArgs;
use super::context::Context;
use super::plan::range;
use super::quantity::bytes;
use super::{output, table};
use crate::jobs::plan::{Suited, profiles_here};
use peft_plan::{Result, RunConfig};
use serde_json::{Value, json};

pub(super) fn run(context: &Context, args: &ProfilesArgs) -> Result<u8> {
    let config = match (&args.model, &args.data) {
        (Some(model), Some(data)) => {
            let mut config = RunConfig::default();
            config.model.id = Some(model.clone());
            config.dataset.path = Some(data.display().to_string());
            Some(config)
        }
        _ => None,
    };
    let (found, counted_with) = profiles_here(context, config)?;
    if context.json {
        output::print_json(&json!({
            "counted_with": counted_with,
            "profiles": found.iter().map(document).collect::<Vec<_>>(),
        }));
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|suited| {
            vec![
                suited.profile.id.clone(),
                suited.profile.description.clone(),
                suited.profile.examples_needed.to_string(),
                range(&suited.planned.estimate),
                bytes(suited.planned.memory.total_bytes),
            ]
        })
        .collect();
    output::text(&table::render(&["profile", "what the model will do", ">examples", ">time here", ">memory"], &rows));
    output::line(&format!("\nTime and memory are for {counted_with}."));
    output::line("Use one with: peft-studio plan --model MODEL --data FILE --profile PROFILE");
    Ok(0)
}

fn document(suited: &Suited) -> Value {
    let Suited { profile, planned, examples } = suited;
    json!({
        "id": profile.id,
        "name": profile.name,
        "description": profile.description,
        "example_uses": profile.example_uses,
        "example_prompts": profile.example_prompts,
        "examples_needed": profile.examples_needed,
        "settings": profile.settings,
        "reasons": profile.reasons,
        "checks": profile.checks,
        "examples": examples,
        "estimate": planned.estimate,
        "memory_bytes": planned.memory.total_bytes,
    })
}
