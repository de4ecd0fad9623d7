//! Whether a configuration suits this computer and its model, and what would make it suit (S4.8.5).

use super::model;
use crate::cli::memory::total_memory;
use crate::cli::output;
use peft_models::base::BaseModel;
use peft_models::engine::{Workload, memory_plan};
use peft_models::peft_format::matches;
use peft_plan::preset::{Preset, built_in};
use peft_plan::{Facts, Fault, Method, Result, Rows, RunConfig, TargetModules, resolve};
use peft_storage::Store;
use serde::Serialize;
use std::path::Path;

/// Something about a configuration that does not suit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Code of the catalogue.
    pub code: &'static str,
    /// The setting.
    pub field: String,
    /// One plain sentence.
    pub message: String,
    /// `key=value` that would make it suit, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

fn mismatch(field: &str, message: String, change: Option<String>) -> Mismatch {
    Mismatch { code: "PS-PRE-002", field: field.to_owned(), message, change }
}

/// A preset by name: the user's own, or one that comes with the program.
///
/// # Errors
/// PS-RUN-001 with the nearest name.
pub fn find(store: &Store, name: &str) -> Result<Preset> {
    if let Some(found) = store.find_preset(name)? {
        return Ok(found.preset);
    }
    if let Some(preset) = built_in().iter().find(|p| p.name.eq_ignore_ascii_case(name)) {
        return Ok(preset.clone());
    }
    let own = store.presets()?;
    let names = own.iter().map(|p| p.preset.name.as_str()).chain(built_in().iter().map(|p| p.name.as_str()));
    let near = names
        .map(|known| (strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase()), known))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let fault = Fault::new("PS-RUN-001", format!("There is no preset called `{name}`"));
    Err(match near {
        Some((_, known)) => fault
            .action(format!("Use `{known}`, the nearest name"), Some(format!("peft-studio presets show '{known}'"))),
        None => fault,
    }
    .action("List the presets", Some("peft-studio presets list".to_owned())))
}

/// Everything about `config` that does not suit this computer or its model.
pub fn check(config: &RunConfig) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for path in config.dataset_paths() {
        if !Path::new(&path).exists() {
            found.push(mismatch("dataset.path", format!("The data `{path}` is not on this computer"), None));
        }
    }
    // A preset may leave model and data open; everything else can be checked with placeholders in their place.
    let mut filled = config.clone();
    filled.model.id.get_or_insert_with(|| model::STARTER.to_owned());
    if filled.dataset_paths().is_empty() && filled.dataset.sources.is_empty() {
        filled.dataset.path = Some("data.jsonl".to_owned());
    }
    if let Err(fault) = resolve::check(&filled) {
        let field = fault.detail.split('`').nth(1).unwrap_or_default().to_owned();
        found.push(Mismatch { code: fault.code, field, message: fault.detail, change: None });
        return found;
    }
    let Some(id) = &config.model.id else { return found };
    match model::open_model(id) {
        Ok(base) => against_model(config, &base, &mut found),
        Err(fault) => found.push(mismatch("model.id", fault.detail, None)),
    }
    found
}

fn against_model(config: &RunConfig, base: &BaseModel, found: &mut Vec<Mismatch>) {
    let spec = base.spec();
    if let Some(length) = config.training.max_sequence_length
        && length > spec.max_positions
    {
        found.push(mismatch(
            "training.max_sequence_length",
            format!("Examples of {length} tokens are longer than the {} that this model can read", spec.max_positions),
            Some(format!("training.max_sequence_length={}", spec.max_positions)),
        ));
        return;
    }
    if let Some(TargetModules::List(names)) = &config.adapter.target_modules {
        let paths: Vec<String> = spec.target_modules(0).map(|m| format!("model.layers.0.{}", m.name)).collect();
        let missing: Vec<&str> = names
            .iter()
            .filter(|name| {
                let one = TargetModules::List(vec![(*name).clone()]);
                !paths.iter().any(|path| matches(&one, path).unwrap_or(false))
            })
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            found.push(mismatch(
                "adapter.target_modules",
                format!("This model has no {}", missing.join(", ")),
                Some("adapter.target_modules=all-linear".to_owned()),
            ));
            return;
        }
    }
    // Memory is judged by full sequences: what the data will be is not known here.
    let plan_of = |config: &RunConfig| -> Result<(u64, resolve::TrainingPlan)> {
        let length = config.training.max_sequence_length.unwrap_or(2048).min(spec.max_positions);
        let lengths = vec![length; 16];
        let facts = Facts { stored_in_4bit: base.stored_in_4bit(), ..Facts::bare(spec, &lengths, 1) };
        let mut config = config.clone();
        config.dataset.path.get_or_insert_with(|| "data.jsonl".to_owned());
        let plan = resolve::resolve(&config, &facts)?;
        let longest = plan.longest_example();
        let rows = Rows { train: longest * plan.micro_batch_size, score: 0 };
        let work = Workload { rows, longest, ..Workload::default() };
        Ok((memory_plan(base, &plan, &work)?.total_bytes, plan))
    };
    let budget = (total_memory() as f64 * config.guards.memory_limit_fraction.unwrap_or(0.9)) as u64;
    let (need, plan) = match plan_of(config) {
        Ok(planned) => planned,
        Err(fault) => {
            let field = fault.detail.split('`').nth(1).unwrap_or_default().to_owned();
            found.push(Mismatch { code: fault.code, field, message: fault.detail, change: None });
            return;
        }
    };
    if need <= budget {
        return;
    }
    // The order of S4.2.3: smaller batches cost nothing, then 4 bit, then recomputation, then shorter examples.
    let mut changes: Vec<String> = Vec::new();
    if plan.micro_batch_size > 1 {
        let kept = plan.micro_batch_size * plan.gradient_accumulation;
        changes.push("training.micro_batch_size=1".to_owned());
        changes.push(format!("training.gradient_accumulation={kept}"));
    }
    if !plan.method.is_quantized() && plan.method != Method::Full {
        changes.push(format!("adapter.method={}", if plan.method.is_dora() { "qdora" } else { "qlora" }));
    }
    if !plan.recompute {
        changes.push("training.activation_checkpointing=true".to_owned());
    }
    changes.push(format!("training.max_sequence_length={}", (plan.max_sequence_length / 2).max(64)));
    let mut adapted = config.clone();
    let mut taken: Vec<String> = Vec::new();
    for change in changes {
        if adapted.set(&change).is_err() {
            continue;
        }
        taken.push(change);
        if plan_of(&adapted).is_ok_and(|(need, _)| need <= budget) {
            break;
        }
    }
    let message = format!(
        "It needs about {} of memory and may use {} on this computer",
        output::bytes(need),
        output::bytes(budget)
    );
    if plan_of(&adapted).is_ok_and(|(need, _)| need <= budget) {
        for change in taken {
            let field = change.split('=').next().unwrap_or_default().to_owned();
            found.push(Mismatch { code: "PS-PRE-002", field, message: message.clone(), change: Some(change) });
        }
    } else {
        found.push(mismatch("model.id", format!("{message}; choose a smaller model"), None));
    }
}

/// Apply every change that is known to make a configuration suit; what is left does not.
pub fn adapt(config: &mut RunConfig) -> Vec<Mismatch> {
    let mut done = Vec::new();
    // Each round can uncover what an earlier mismatch hid; there are only so many settings.
    for _ in 0..5 {
        let changes: Vec<String> = check(config).into_iter().filter_map(|m| m.change).collect();
        if changes.is_empty() {
            break;
        }
        for change in changes {
            if !done.contains(&change) && config.set(&change).is_ok() {
                done.push(change);
            }
        }
    }
    check(config)
}

/// The settings of `source`: a run file, or a run by id or name.
pub fn settings_of(store: &Store, source: &str) -> Result<RunConfig> {
    let path = Path::new(source);
    if path.is_file() {
        let text = std::fs::read_to_string(path).map_err(|e| Fault::io("read the run file", path, e))?;
        return RunConfig::from_json(&text);
    }
    RunConfig::from_value(super::run::find(store, source)?.config)
}
