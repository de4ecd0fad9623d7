//! A plan written out so that it can be trained elsewhere or later: the complete configuration, the model and the
//! data by their hashes, and what is expected of the machine (S0.8, S0.9, S0.14, D7).

use super::model::spelled;
use super::plan::Answer;
use super::setup::read_data;
use super::{open_model, sources};
use crate::cli::context::Context;
use peft_plan::{Fault, Result, RunConfig, TargetModules, TrainingPlan};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What the file says it is.
pub const SCHEMA: &str = "peft-studio/specification";
/// Largest specification that is read.
const LARGEST: u64 = 16 << 20;

/// What is checked before a specification is trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Specification {
    /// [`SCHEMA`].
    pub schema: String,
    /// 1.
    pub version: u32,
    /// Who wrote it.
    pub program: String,
    /// The configuration, nothing left open.
    pub config: Value,
    /// The model that it starts from.
    pub base_model: BaseModelRef,
    /// The data that it learns from.
    pub dataset: DataRef,
    /// The adapter in PEFT's words, for other programs; derived from `config`.
    #[serde(default)]
    pub adapter_config: Value,
    /// What is expected of the machine; nothing of it is a condition.
    #[serde(default)]
    pub hardware: Value,
}

/// The model of a specification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BaseModelRef {
    /// As in `config`.
    pub id: String,
    /// Hash of its tensors.
    pub hash: String,
}

/// The data of a specification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataRef {
    /// Hash of all files together.
    pub hash: String,
    /// Usable rows of all files.
    pub rows: usize,
    /// Each file.
    pub files: Vec<FileRef>,
}

/// A file of the data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileRef {
    /// Where it was.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
    /// Usable rows.
    pub rows: usize,
}

/// Write the planned run down.
pub fn specify(context: &Context, answer: &Answer) -> Result<Specification> {
    let mut config = answer.planned.config.clone();
    sources::pin(&mut config)?;
    let dataset = read_data(&config)?.dataset;
    let base = open_model(&spelled(&config.model))?;
    let files: Vec<FileRef> = dataset
        .files
        .iter()
        .map(|f| FileRef { path: f.path.clone(), bytes: f.bytes, sha256: f.sha256.clone(), rows: f.rows })
        .collect();
    Ok(Specification {
        schema: SCHEMA.to_owned(),
        version: 1,
        program: format!("peft-studio {}", env!("CARGO_PKG_VERSION")),
        base_model: BaseModelRef { id: spelled(&config.model), hash: base.checkpoint().hash().to_owned() },
        dataset: DataRef {
            hash: peft_data::dataset_hash(&dataset.files),
            rows: files.iter().map(|file| file.rows).sum(),
            files,
        },
        adapter_config: adapter_config(&answer.planned.plan, &spelled(&config.model)),
        hardware: hardware(context, answer),
        config: config.to_value(),
    })
}

fn adapter_config(plan: &TrainingPlan, base: &str) -> Value {
    let targets = match &plan.target_modules {
        TargetModules::List(names) => json!(names),
        TargetModules::Pattern(pattern) => json!(pattern),
    };
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base,
        "r": plan.rank, "lora_alpha": plan.alpha, "lora_dropout": plan.dropout,
        "use_rslora": plan.use_rslora, "use_dora": plan.method.is_dora(),
        "target_modules": targets, "modules_to_save": plan.modules_to_save,
    })
}

fn hardware(context: &Context, answer: &Answer) -> Value {
    json!({
        // Recorded for the programs around a run; ours needs none of them.
        "runtime_expectations": {
            "python": "3.12", "cuda": "12.6", "tensorrt": "9.5",
            "notes": [
                "Keep the driver aligned with CUDA 12.6",
                "Expose the GPU to WSL2 and check that nvidia-smi sees the RTX 3060 Ti",
                "Set CUDA_VISIBLE_DEVICES=0 before launching",
            ],
        },
        "needed": {
            "memory_bytes": answer.planned.memory.total_bytes,
            "disk_bytes": answer.planned.estimate.disk_bytes,
            "seconds": answer.planned.estimate.seconds,
        },
        "planned_for": {"backend": context.backend, "threads": context.threads, "memory_budget_bytes": answer.budget_bytes},
    })
}

/// The specification in `path`; `None` where the file is something else, such as a run file.
pub fn read(path: &Path) -> Result<Option<Specification>> {
    let io = |error| Fault::io("read", path, error);
    if std::fs::metadata(path).map_err(io)?.len() > LARGEST {
        return Ok(None);
    }
    let text = std::fs::read(path).map_err(io)?;
    let Ok(value) = serde_json::from_slice::<Value>(&text) else { return Ok(None) };
    if value["schema"] != SCHEMA {
        return Ok(None);
    }
    let refused = |why: String| Fault::new("PS-CFG-001", format!("The specification `{}` {why}", path.display()));
    match value["version"].as_u64() {
        Some(1) => {}
        other => {
            let version = other.map_or_else(|| "no version".to_owned(), |number| format!("version {number}"));
            return Err(refused(format!("has {version}; this program knows version 1")));
        }
    }
    let read: Specification =
        serde_json::from_value(value).map_err(|error| refused(format!("is not whole: {error}")).caused_by(error))?;
    Ok(Some(read))
}

impl Specification {
    /// Its configuration.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::from_value(self.config.clone())
    }

    /// Whether `config` still asks for the model and the data that are written down here; flags may have changed it.
    fn has_same_inputs(&self, config: &RunConfig) -> Result<(bool, bool)> {
        let own = self.config()?;
        Ok((spelled(&own.model) == spelled(&config.model), own.dataset_paths() == config.dataset_paths()))
    }

    /// Model and data are what was written down.
    ///
    /// # Errors
    /// PS-SPEC-001 where they are not, PS-FILE-001 where a file is gone.
    pub fn check_inputs(&self, config: &RunConfig) -> Result<()> {
        let (same_model, same_data) = self.has_same_inputs(config)?;
        if same_data {
            for file in &self.dataset.files {
                let found = durable::sha256_file(&file.path).map_err(|error| {
                    Fault::io("read the data of the specification", &file.path, error)
                        .action("Say where the data is now", Some("--data FILE".to_owned()))
                })?;
                if found.sha256 != file.sha256 {
                    let detail = format!(
                        "`{}` is another file than the specification names: SHA-256 {} instead of {}, {} bytes instead of {}",
                        file.path.display(),
                        found.sha256,
                        file.sha256,
                        found.bytes,
                        file.bytes
                    );
                    return Err(Fault::new("PS-SPEC-001", detail));
                }
            }
        }
        if same_model {
            let hash = open_model(&spelled(&config.model))?.checkpoint().hash().to_owned();
            if hash != self.base_model.hash {
                let detail = format!(
                    "`{}` is another model than the specification names: {hash} instead of {}",
                    self.base_model.id, self.base_model.hash
                );
                return Err(Fault::new("PS-SPEC-001", detail));
            }
        }
        Ok(())
    }
}
