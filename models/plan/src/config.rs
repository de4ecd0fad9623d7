//! What was asked: the run configuration of `RUN.json`, and only that.
//!
//! Every field may be left out, `null` or `"auto"`; the planner fills it (`resolve.rs`). The same file
//! is a preset, an export and what a run stores. Unknown fields are refused by name, with the nearest
//! known name.

mod known;

use crate::fault::{Fault, Result};
use known::{check_known, template};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A run, as asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// Always `peft-studio/run`.
    pub schema: Option<String>,
    /// Version of the schema.
    pub version: Option<u32>,
    /// A name for people.
    pub name: Option<String>,
    /// What the model is for.
    pub use_case: Option<String>,
    /// The base model.
    pub model: ModelRef,
    /// The examples.
    pub dataset: DatasetRef,
    /// What is trained.
    pub adapter: AdapterConfig,
    /// How the frozen base is stored.
    pub quantization: QuantizationConfig,
    /// How it is trained.
    pub training: TrainingConfig,
    /// When it is evaluated.
    pub evaluation: EvaluationConfig,
    /// When it is saved.
    pub checkpoint: CheckpointConfig,
    /// What happens when it goes wrong.
    pub guards: GuardConfig,
    /// What else is told of it.
    pub logging: LoggingConfig,
}

/// The base model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelRef {
    /// A directory, a Hugging Face id, or `starter`.
    pub id: Option<String>,
    /// Branch, tag or commit of a Hugging Face repository.
    pub revision: Option<String>,
}

/// The examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatasetRef {
    /// One file.
    pub path: Option<String>,
    /// Several files instead.
    pub sources: Vec<SourceRef>,
    /// Force a row shape instead of detecting it.
    pub format: Option<String>,
    /// Which column is what: `user`, `assistant`, `system`, `text` or `messages` to a column's name.
    pub columns: Option<BTreeMap<String, String>>,
    /// Share of the rows that is held out, 0 to 0.5.
    pub validation_split: Option<f64>,
    /// The model's own (`auto`), a built-in name, or a file.
    pub chat_template: Option<String>,
    /// Put before every conversation that has no system turn.
    pub system_prompt: Option<String>,
}

/// One of several sources of examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceRef {
    /// The file, or a folder with files.
    pub path: Option<String>,
    /// A dataset of the Hugging Face hub instead: `owner/name`, perhaps with `:configuration`.
    pub hub: Option<String>,
    /// Which part of it; `train` where nothing is said.
    pub split: Option<String>,
    /// Branch, tag or commit of it; a run pins the commit it started with.
    pub revision: Option<String>,
    /// How often each of its rows is drawn in an epoch: 1 is once, 2 twice, 0.5 every second time.
    pub weight: Option<f64>,
}

/// What is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterConfig {
    /// `lora`, `qlora`, `dora`, `qdora` or `full`.
    pub method: Option<Method>,
    /// Rank of the adapters.
    pub rank: Option<usize>,
    /// Numerator of their scaling.
    pub alpha: Option<f64>,
    /// Dropout on the adapters' input.
    pub dropout: Option<f64>,
    /// Scale by `alpha / √rank` instead of `alpha / rank`.
    pub use_rslora: Option<bool>,
    /// An adapter directory to continue from.
    pub init_from: Option<String>,
    /// Learning rate of B over that of A (LoRA+).
    pub lora_plus_ratio: Option<f64>,
    /// Modules trained whole beside the adapters: `embed_tokens`, `lm_head`, norms.
    pub modules_to_save: Vec<String>,
    /// `all-linear`, a list of names, or a regular expression over full paths.
    pub target_modules: Option<TargetModules>,
}

/// Training method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Low-rank adapters on the weights as they are.
    Lora,
    /// Low-rank adapters on a 4-bit base.
    Qlora,
    /// Weight-decomposed adapters.
    Dora,
    /// Weight-decomposed adapters on a 4-bit base.
    Qdora,
    /// Every weight.
    Full,
}

impl Method {
    /// The base is held in 4 bit.
    pub fn is_quantized(self) -> bool {
        matches!(self, Self::Qlora | Self::Qdora)
    }

    /// Magnitude vectors are trained too.
    pub fn is_dora(self) -> bool {
        matches!(self, Self::Dora | Self::Qdora)
    }
}

/// Which linear modules carry an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// Names or full paths; a module matches when its path equals an entry or ends with `.entry`.
    List(Vec<String>),
    /// `all-linear`, or a regular expression that must match a whole path.
    Pattern(String),
}

/// How the frozen base is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuantizationConfig {
    /// `nf4` or `fp4`.
    pub format: Option<String>,
    /// Quantise the scales too.
    pub double_quantization: Option<bool>,
}

/// How it is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingConfig {
    /// `sft` (copy the answers), `dpo`, `orpo` or `kto` (learn which answers are preferred).
    pub objective: Option<String>,
    /// How much a difference between answers counts: beta of dpo and kto, lambda of orpo.
    pub preference_beta: Option<f64>,
    /// `sigmoid`, `robust`, `hinge` or `ipo`: how dpo weighs a difference.
    pub preference_loss: Option<String>,
    /// Share of the pairs assumed to be the wrong way round (dpo).
    pub label_smoothing: Option<f64>,
    /// Weight of wanted answers (kto).
    pub kto_desirable_weight: Option<f64>,
    /// Weight of unwanted answers (kto).
    pub kto_undesirable_weight: Option<f64>,
    /// Passes over the data.
    pub epochs: Option<f64>,
    /// Stop after this many optimizer steps instead.
    pub max_steps: Option<u64>,
    /// Examples (packed rows with `packing`) computed together.
    pub micro_batch_size: Option<usize>,
    /// Micro-batches a step.
    pub gradient_accumulation: Option<usize>,
    /// Longest example in tokens; longer ones are cut, keeping the stop token.
    pub max_sequence_length: Option<usize>,
    /// Fill rows with several examples; attention stays inside each.
    pub packing: Option<bool>,
    /// `assistant` or `all`.
    pub train_on: Option<TrainOn>,
    /// Peak learning rate.
    pub learning_rate: Option<f64>,
    /// Shape of the learning rate over time.
    pub scheduler: Option<Scheduler>,
    /// Share of the steps in which the rate rises.
    pub warmup_ratio: Option<f64>,
    /// Decoupled weight decay.
    pub weight_decay: Option<f64>,
    /// Decay of the second moment of AdamW.
    pub adam_beta2: Option<f64>,
    /// `adamw`, or `adamw_8bit` for moments in 8 bits.
    pub optimizer: Option<String>,
    /// Clip the gradient to this norm; 0: never.
    pub max_gradient_norm: Option<f64>,
    /// Noise on the embeddings while training (NEFTune): 5 to 15 where it is used.
    pub neftune_alpha: Option<f64>,
    /// `f32`.
    pub precision: Option<String>,
    /// Recompute activations in the backward pass.
    pub activation_checkpointing: Option<bool>,
    /// Of so many layers, the highest, activations are kept even so.
    pub kept_layers: Option<usize>,
    /// On a graphics card: of so many layers, the lowest, the input waits in the computer's memory.
    pub offloaded_layers: Option<usize>,
    /// On a graphics card: of so many layers, the lowest, 4-bit weights are held decoded as well.
    pub decoded_layers: Option<usize>,
    /// On a graphics card: 4-bit weights are decoded while the product before theirs runs.
    pub decode_ahead: Option<bool>,
    /// Seed of everything random.
    pub seed: Option<u64>,
}

/// Which tokens are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Assistant turns and their stop tokens.
    Assistant,
    /// The whole sequence.
    All,
}

/// Shape of the learning rate over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// Flat after the warm-up.
    Constant,
    /// Straight down to 0.
    Linear,
    /// Half a cosine down to 0.
    Cosine,
    /// Warm-up, stable, decay: flat, then straight down to 0 over the last fifth.
    Wsd,
}

/// When it is evaluated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvaluationConfig {
    /// Every so many steps; `null`: about ten times a run.
    pub every_steps: Option<u64>,
    /// Stop after so many evaluations without a better loss.
    pub early_stopping_patience: Option<u32>,
    /// Prompts answered at each evaluation: texts, or lists of turns. `null`: the first held-out examples.
    pub sample_prompts: Option<Vec<SampleRef>>,
    /// How many prompts are answered; `null`: all of `sample_prompts`, or 3 held-out examples; 0: none.
    pub samples: Option<usize>,
    /// Longest such answer, tokens; `null`: 64.
    pub sample_tokens: Option<usize>,
}

/// A prompt that is answered at each evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SampleRef {
    /// One question.
    Text(String),
    /// A conversation whose next turn is the model's.
    Turns(Vec<crate::conversation::Turn>),
}

/// When it is saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointConfig {
    /// Every so many steps.
    pub every_steps: Option<u64>,
    /// And at least every so many seconds.
    pub every_seconds: Option<f64>,
    /// Full states kept; the small adapter of every checkpoint stays.
    pub keep: Option<usize>,
}

/// What happens when it goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardConfig {
    /// `pause`, `rewind` or `continue`.
    pub on_divergence: Option<String>,
    /// `clip_and_rewind`, `pause` or `continue`.
    pub on_gradient_explosion: Option<String>,
    /// Rows that are not trained on: numbers counted from 1, or `FILE:LINE`.
    pub exclude_rows: Vec<String>,
    /// Share of the memory that may be planned for.
    pub memory_limit_fraction: Option<f64>,
}

/// What else is told of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoggingConfig {
    /// Event files for TensorBoard: `true` for the run's own folder, or another folder.
    pub tensorboard: Option<TensorboardPlace>,
    /// Whether this run shows notifications on the desktop; without a word, as the settings say.
    pub notify: Option<bool>,
}

/// Where event files go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TensorboardPlace {
    /// The folder `tensorboard` of the run, or nowhere.
    Own(bool),
    /// This folder.
    Folder(String),
}

impl RunConfig {
    /// Read a configuration; unknown fields and impossible types are faults that name the field.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Fault::new("PS-CFG-001", format!("The run file is not valid JSON: {e}")).caused_by(e))?;
        Self::from_value(value)
    }

    /// Like [`RunConfig::from_json`], from a parsed document.
    pub fn from_value(mut value: Value) -> Result<Self> {
        check_known(&value, &template(), "")?;
        auto_to_null(&mut value);
        if let Some(schema) = value.get("schema").and_then(Value::as_str)
            && schema != "peft-studio/run"
        {
            return Err(Fault::new("PS-CFG-001", format!("`schema` is `{schema}`; a run file says `peft-studio/run`")));
        }
        if let Some(version) = value.get("version").and_then(Value::as_u64)
            && version > 1
        {
            return Err(Fault::new(
                "PS-CFG-001",
                format!("This run file has version {version}; this program knows version 1"),
            ));
        }
        let mut errors = Vec::new();
        prune_nulls(&mut value);
        let config: Self = match serde_json::from_value(value.clone()) {
            Ok(config) => config,
            Err(e) => {
                find_bad_field(&value, &mut errors);
                let place = errors.pop().map_or_else(String::new, |p| format!(" in `{p}`"));
                return Err(
                    Fault::new("PS-CFG-001", format!("The run file has an impossible value{place}: {e}")).caused_by(e)
                );
            }
        };
        Ok(config)
    }

    /// Apply `--set key=value`: a dotted path and a JSON value (or plain text).
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, raw)) = assignment.split_once('=') else {
            return Err(Fault::new(
                "PS-CFG-001",
                format!("`--set {assignment}` has no `=`; write key=value, such as training.epochs=2"),
            ));
        };
        let parsed: Value = serde_json::from_str(raw).unwrap_or_else(|_| Value::String(raw.to_owned()));
        let mut patch = parsed;
        for part in key.trim().rsplit('.') {
            let mut object = Map::new();
            object.insert(part.to_owned(), patch);
            patch = Value::Object(object);
        }
        check_known(&patch, &template(), "")?;
        let mut whole = serde_json::to_value(&*self).expect("a configuration is plain data");
        merge(&mut whole, patch);
        *self = Self::from_value(whole)
            .map_err(|f| Fault::new(f.code, format!("`--set {assignment}` cannot be used. {}", f.detail)))?;
        Ok(())
    }

    /// The document with every field, for storing and showing.
    pub fn to_value(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a configuration is plain data");
        value["schema"] = Value::from("peft-studio/run");
        value["version"] = Value::from(1);
        value
    }

    /// What the dataset is made of, whichever way it was given: paths, and datasets of the hub as `hub:owner/name`.
    pub fn dataset_paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.dataset.path.iter().cloned().collect();
        let name = |source: &SourceRef| source.path.clone().or(source.hub.as_ref().map(|hub| format!("hub:{hub}")));
        paths.extend(self.dataset.sources.iter().filter_map(name));
        paths
    }
}

/// `"auto"` means the same as leaving a field out.
fn auto_to_null(value: &mut Value) {
    match value {
        Value::String(s) if s == "auto" => *value = Value::Null,
        Value::Object(object) => object.values_mut().for_each(auto_to_null),
        Value::Array(items) => items.iter_mut().for_each(auto_to_null),
        _ => {}
    }
}

/// A section given as `null` is a section left out.
fn prune_nulls(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, v| !v.is_null());
        object.values_mut().for_each(prune_nulls);
    }
}

/// Which field does not deserialise: try every one alone.
fn find_bad_field(value: &Value, found: &mut Vec<String>) {
    let Some(sections) = value.as_object() else {
        return;
    };
    for (section, inner) in sections {
        let alone = |v: Value| serde_json::from_value::<RunConfig>(serde_json::json!({ section: v })).is_err();
        match inner.as_object() {
            Some(fields) => {
                for (field, v) in fields {
                    let mut one = Map::new();
                    one.insert(field.clone(), v.clone());
                    if alone(Value::Object(one)) {
                        found.push(format!("{section}.{field}"));
                        return;
                    }
                }
            }
            None if alone(inner.clone()) => {
                found.push(section.clone());
                return;
            }
            None => {}
        }
    }
}

fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_null_and_absent_are_the_same() {
        let a = RunConfig::from_json(r#"{"training":{"epochs":"auto","seed":null}}"#).expect("valid");
        assert_eq!(a, RunConfig::default());
    }

    #[test]
    fn set_changes_one_field_and_checks_it() {
        let mut c = RunConfig::default();
        c.set("training.epochs=2").expect("known");
        c.set("adapter.target_modules=[\"q_proj\"]").expect("known");
        c.set("model.id=some/where").expect("known");
        assert_eq!(c.training.epochs, Some(2.0));
        assert_eq!(c.adapter.target_modules, Some(TargetModules::List(vec!["q_proj".into()])));
        assert_eq!(c.set("training.epoch=2").expect_err("unknown").code, "PS-CFG-002");
        let fault = c.set("adapter.rank=many").expect_err("type");
        assert_eq!(fault.code, "PS-CFG-001");
        assert!(fault.detail.contains("adapter.rank"), "{}", fault.detail);
    }

    #[test]
    fn a_written_configuration_reads_back() {
        let mut c = RunConfig::default();
        c.set("adapter.method=qdora").expect("known");
        let again = RunConfig::from_value(c.to_value()).expect("valid");
        assert_eq!(again.adapter, c.adapter);
    }
}
