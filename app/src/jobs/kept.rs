//! The small adapters that a run keeps of its checkpoints: any of them can be talked to (B8).

use peft_models::base::BaseModel;
use peft_models::engine::kept_adapter;
use peft_models::peft_format::{AdapterFile, read_adapter};
use peft_plan::{Fault, Method, Result, TrainingPlan};
use peft_storage::{Run, Store};
use serde::Serialize;
use std::path::PathBuf;

/// An adapter that a run kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// After which step.
    pub step: u64,
    /// Its file.
    pub path: PathBuf,
    /// Length of the file.
    pub bytes: u64,
}

/// The kept adapters of a run, the oldest first.
pub fn list(run: &Run) -> Vec<Kept> {
    let Ok(entries) = std::fs::read_dir(run.directory.join("adapters")) else { return Vec::new() };
    let kept = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let step = name.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()?;
        Some(Kept { step, path: entry.path(), bytes: entry.metadata().ok()?.len() })
    };
    let mut found: Vec<Kept> = entries.filter_map(kept).collect();
    found.sort_by_key(|kept| kept.step);
    found
}

/// The step with the lowest held-out loss, if the run was evaluated.
pub fn best_step(store: &Store, run: &Run) -> Result<Option<u64>> {
    let evaluations = store.evaluations(&run.id)?;
    let best = evaluations.iter().filter(|e| e.loss.is_finite()).min_by(|a, b| a.loss.total_cmp(&b.loss));
    Ok(best.map(|evaluation| evaluation.step))
}

/// The adapter that `which` names: a step, `best` or `last`. Also says in words which one it is.
pub fn read(base: &BaseModel, run: &Run, which: &str) -> Result<(AdapterFile, String)> {
    let plan: TrainingPlan = serde_json::from_value(run.plan.clone()).map_err(|e| {
        Fault::new("PS-CKPT-002", "The settings that this run was started with cannot be read").caused_by(e)
    })?;
    if plan.method == Method::Full {
        return Err(Fault::new(
            "PS-CFG-001",
            "A full fine-tune keeps no small adapters; only its result can be talked to",
        ));
    }
    let path = match which {
        "best" => run.directory.join("best.safetensors"),
        "last" => {
            let result = run.directory.join("adapter");
            if result.join("adapter_config.json").is_file() {
                return Ok((read_adapter(&result)?, "the result of the run".to_owned()));
            }
            list(run).pop().map(|kept| kept.path).ok_or_else(|| missing(run, which))?
        }
        step => {
            let step: u64 = step.trim().parse().map_err(|_| missing(run, which))?;
            let kept = list(run).into_iter().find(|kept| kept.step == step);
            kept.map(|kept| kept.path).ok_or_else(|| missing(run, which))?
        }
    };
    if !path.is_file() {
        return Err(missing(run, which));
    }
    let words = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("best") => "the checkpoint with the lowest held-out loss".to_owned(),
        Some(stem) => format!("the checkpoint of {}", stem.replace('-', " ")),
        None => "a checkpoint".to_owned(),
    };
    Ok((kept_adapter(base, &plan, &path)?, words))
}

fn missing(run: &Run, which: &str) -> Fault {
    let steps: Vec<String> = list(run).iter().map(|kept| kept.step.to_string()).collect();
    let there = if steps.is_empty() {
        "it has kept none yet".to_owned()
    } else {
        format!("there are {}, and best and last", steps.join(", "))
    };
    Fault::new("PS-RUN-001", format!("The run `{}` has no checkpoint `{which}`; {there}", run.name))
}
