//! What is known of a run before it is planned, and kept, so that a second look takes no time.
//!
//! The lengths of all examples cost a reading of the data and a pass of the tokenizer; they are kept in the data
//! directory, under everything they depend on.

use super::hardware::machine_facts;
use super::setup::{Ready, data_bytes, prepare};
use crate::cli::context::Context;
use peft_models::base::BaseModel;
use peft_models::engine::{model_facts, targets};
use peft_plan::{
    DataFacts, Example, Facts, MachineFacts, ModelFacts, ModelSpec, Result, Role, Row, RunConfig, TargetModules,
    Targets,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Everything a plan is made from, but for the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The model.
    pub spec: ModelSpec,
    /// Its linear weights are stored in 4 bit.
    pub stored_in_4bit: bool,
    /// Hash of its files, as a run knows them.
    pub model_hash: String,
    /// Sizes of its files.
    pub model: ModelFacts,
    /// Tokens of every training example, uncut.
    pub lengths: Vec<usize>,
    /// How often each of them is drawn in an epoch; empty where that is once.
    pub weights: Vec<f64>,
    /// What else is known of the data.
    pub data: DataFacts,
    /// What the adapters sit on.
    pub targets: Targets,
}

impl RunFacts {
    /// From what was opened and rendered.
    pub(super) fn of(
        base: &BaseModel,
        config: &RunConfig,
        rows: &[Row],
        train: &Ready,
        validation: &Ready,
    ) -> Result<Self> {
        let answers = |row: &Row| match &row.example {
            Example::Messages(turns) => turns.iter().filter(|turn| turn.role == Role::Assistant).count(),
            _ => 1,
        };
        let all: usize = rows.iter().map(answers).sum();
        let wanted = config.adapter.target_modules.clone();
        let wanted = wanted.unwrap_or_else(|| TargetModules::Pattern("all-linear".to_owned()));
        Ok(Self {
            spec: base.spec().clone(),
            stored_in_4bit: base.stored_in_4bit(),
            model_hash: base.checkpoint().hash().to_owned(),
            model: model_facts(base.checkpoint(), base.tokenizer_bytes()),
            lengths: train.lengths(),
            weights: Vec::new(),
            data: DataFacts {
                rows: rows.len(),
                duplicates: peft_data::copies(rows),
                answers: all as f64 / rows.len().max(1) as f64,
                learnt_share: train.learnt_share(),
                firsts: train.firsts(),
                held_out: validation.lengths(),
                held_out_firsts: validation.firsts(),
                bytes: data_bytes(config),
            },
            targets: targets(base.spec(), &wanted, &config.adapter.modules_to_save)?,
        })
    }

    /// With the machine, what the planner asks for.
    pub fn facts(&self, threads: usize, machine: MachineFacts) -> Facts<'_> {
        Facts {
            spec: &self.spec,
            stored_in_4bit: self.stored_in_4bit,
            lengths: &self.lengths,
            weights: &self.weights,
            threads,
            model: self.model,
            data: self.data.clone(),
            machine: Some(machine),
            targets: Some(self.targets.clone()),
        }
    }
}

/// What is kept: the facts, and everything they were made from.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: Value,
    facts: RunFacts,
}

/// The facts of `config`, as they were kept, or gathered now. Paths in `config` are absolute.
pub fn gather(context: &Context, config: &RunConfig) -> Result<(RunFacts, Vec<String>)> {
    let key = key(config);
    let mut hash = DefaultHasher::new();
    key.to_string().hash(&mut hash);
    let path = context.data_dir.join("cache").join(format!("facts-{:016x}.json", hash.finish()));
    if let Ok(bytes) = std::fs::read(&path)
        && let Ok(kept) = serde_json::from_slice::<Kept>(&bytes)
        && kept.key == key
    {
        return Ok((kept.facts, Vec::new()));
    }
    let setup = prepare(config, context, None)?;
    let Some(facts) = setup.facts else { unreachable!("a run that is not resumed has facts") };
    let kept = Kept { key, facts };
    // What cannot be kept is gathered again next time.
    if let Ok(bytes) = serde_json::to_vec(&kept) {
        keep(&path, &bytes);
    }
    Ok((kept.facts, setup.notes))
}

/// Put `bytes` at `path`, if that can be done.
pub(super) fn keep(path: &Path, bytes: &[u8]) {
    if let Some(parent) = path.parent() {
        durable::create_directories(parent).and_then(|()| durable::write_file(path, bytes)).ok();
    }
}

/// Everything that lengths depend on.
fn key(config: &RunConfig) -> Value {
    let model_files = super::model::folder_of(&super::model::spelled(&config.model)).map(|dir| {
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.sort();
        files.iter().map(|file| stamp(file)).collect::<Vec<_>>()
    });
    let template = config.dataset.chat_template.as_deref().map(|t| stamp(Path::new(t)));
    json!({
        "program": env!("CARGO_PKG_VERSION"),
        "model": config.model,
        "model_files": model_files,
        "data": config.dataset_paths().iter().map(|path| stamp(Path::new(path))).collect::<Vec<_>>(),
        "dataset": config.dataset,
        "template": template,
        "use_case": config.use_case,
        "objective": config.training.objective,
        "train_on": config.training.train_on,
        "seed": config.training.seed,
        "target_modules": config.adapter.target_modules,
        "modules_to_save": config.adapter.modules_to_save,
    })
}

/// Where a file is, its length and when it was changed: enough to know it again.
fn stamp(path: &Path) -> Value {
    let Ok(data) = std::fs::metadata(path) else { return json!([path]) };
    let changed =
        data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|time| time.as_nanos());
    json!([path, data.len(), changed.map(|nanoseconds| nanoseconds.to_string())])
}

/// What this machine has, for plans made in `context`.
pub fn machine(context: &Context) -> MachineFacts {
    machine_facts(&context.data_dir, &context.backend)
}
