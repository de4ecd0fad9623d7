//! Configurations of other programs become ours, and nothing is dropped without a word (S4.8.5).
//!
//! The other programs call nearly everything by names that do not clash, so one table of names
//! (`fields.rs`) serves all of them; what differs is how a document is laid out. Whatever a name is
//! not known for, or cannot be said in our terms, is in the report with its reason.

mod datasets;
mod fields;
mod python;

pub use python::keyword_arguments;

use crate::config::RunConfig;
use crate::fault::{Fault, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Whose configuration a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Axolotl's YAML.
    Axolotl,
    /// LLaMA-Factory's YAML or JSON.
    LlamaFactory,
    /// A TRL or transformers configuration, or a script that uses them.
    Trl,
    /// Unsloth: a script, notebook or the studio's YAML.
    Unsloth,
    /// torchtune's YAML.
    Torchtune,
}

impl Program {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Axolotl => "Axolotl",
            Self::LlamaFactory => "LLaMA-Factory",
            Self::Trl => "TRL",
            Self::Unsloth => "Unsloth",
            Self::Torchtune => "torchtune",
        }
    }
}

/// What became of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It means the same here.
    Mapped,
    /// The nearest thing that exists here was taken.
    Approximated,
    /// It has no effect here.
    Ignored,
}

/// One field of the other program's document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportedField {
    /// Its path there.
    pub field: String,
    /// Its value there.
    pub value: Value,
    /// What became of it.
    pub outcome: Outcome,
    /// Our setting, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// Why it was approximated or ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A configuration of ours, and the fate of every field.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Whose it was.
    pub program: Program,
    /// What can be said of it here.
    pub config: RunConfig,
    /// One entry a field, in the document's order.
    pub report: Vec<ImportedField>,
}

impl Imported {
    /// Fields with this fate.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.report.iter().filter(|f| f.outcome == outcome).count()
    }
}

/// Read a document. `program`: whose it is, where that is known. `dataset_info`: LLaMA-Factory's list of datasets.
///
/// # Errors
/// PS-PRE-001 where nothing in it is known, which means that it is something else.
pub fn import(document: &Value, program: Option<Program>, dataset_info: Option<&Value>) -> Result<Imported> {
    let Value::Object(root) = document else {
        return Err(Fault::new("PS-PRE-001", "The file is no configuration: it holds no named settings"));
    };
    let Some(program) = program.or_else(|| detect(root)) else {
        return Err(Fault::new(
            "PS-PRE-001",
            "None of the settings in this file is one of Axolotl, LLaMA-Factory, TRL, Unsloth or torchtune",
        ));
    };
    let leaves = flatten(root);
    let mut writer = Writer { config: RunConfig::default(), report: Vec::new() };
    for (path, value) in &leaves {
        fields::apply(&mut writer, program, path, value, &leaves);
    }
    datasets::apply(&mut writer, program, root, dataset_info);
    if writer.report.iter().all(|f| f.outcome == Outcome::Ignored) {
        return Err(Fault::new("PS-PRE-001", "None of the settings in this file is known here"));
    }
    let Writer { mut config, report } = writer;
    settle(&mut config, &leaves);
    Ok(Imported { program, config, report })
}

/// Sections of Unsloth's and torchtune's documents are only order; Axolotl's `datasets` is read whole.
fn flatten(root: &Map<String, Value>) -> Vec<(String, Value)> {
    fn walk(prefix: &str, object: &Map<String, Value>, into: &mut Vec<(String, Value)>) {
        for (key, value) in object {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Object(inner) if !datasets::is_dataset_field(&path) => walk(&path, inner, into),
                _ if datasets::is_dataset_field(&path) => {}
                _ => into.push((path, value.clone())),
            }
        }
    }
    let mut leaves = Vec::new();
    walk("", root, &mut leaves);
    leaves
}

/// The last word of a dotted path.
fn leaf(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn find<'a>(leaves: &'a [(String, Value)], names: &[&str]) -> Option<&'a Value> {
    leaves.iter().find(|(path, _)| names.contains(&leaf(path))).map(|(_, value)| value)
}

/// Names that only one program uses decide.
fn detect(root: &Map<String, Value>) -> Option<Program> {
    let has = |names: &[&str]| names.iter().any(|name| root.contains_key(*name));
    let leaves = flatten(root);
    let inside = |names: &[&str]| find(&leaves, names).is_some();
    if has(&["base_model", "sequence_len", "lora_target_linear", "train_on_inputs", "micro_batch_size"]) {
        return Some(Program::Axolotl);
    }
    if has(&["finetuning_type", "lora_target", "cutoff_len", "stage", "dataset_dir"]) {
        return Some(Program::LlamaFactory);
    }
    if inside(&["_component_"]) {
        return Some(Program::Torchtune);
    }
    if inside(&["use_gradient_checkpointing", "random_state"])
        || (root.get("training").is_some_and(Value::is_object) && root.get("lora").is_some_and(Value::is_object))
    {
        return Some(Program::Unsloth);
    }
    let trl = [
        "model_name_or_path",
        "per_device_train_batch_size",
        "num_train_epochs",
        "lora_r",
        "use_peft",
        "learning_rate",
    ];
    inside(&trl).then_some(Program::Trl)
}

/// Puts values into our configuration through the same door as `--set`, so nothing impossible gets in.
struct Writer {
    config: RunConfig,
    report: Vec<ImportedField>,
}

impl Writer {
    /// `field: value` there is `setting: ours` here, exactly or (with a note) nearly.
    fn put(&mut self, field: &str, value: &Value, setting: &str, ours: &Value, note: Option<String>) {
        let outcome = if note.is_some() { Outcome::Approximated } else { Outcome::Mapped };
        let done = self.config.set(&format!("{setting}={ours}"));
        self.report.push(match done {
            Ok(()) => ImportedField {
                field: field.to_owned(),
                value: value.clone(),
                outcome,
                setting: Some(setting.to_owned()),
                note,
            },
            Err(fault) => ImportedField {
                field: field.to_owned(),
                value: value.clone(),
                outcome: Outcome::Ignored,
                setting: None,
                note: Some(fault.detail),
            },
        });
    }

    fn ignore(&mut self, field: &str, value: &Value, why: &str) {
        self.report.push(ImportedField {
            field: field.to_owned(),
            value: value.clone(),
            outcome: Outcome::Ignored,
            setting: None,
            note: Some(why.to_owned()),
        });
    }
}

/// What follows from several fields together.
fn settle(config: &mut RunConfig, leaves: &[(String, Value)]) {
    use crate::config::Method;
    let yes = |names: &[&str]| {
        find(leaves, names)
            .is_some_and(|v| v.as_bool() == Some(true) || v.as_u64() == Some(4) || v.as_str() == Some("true"))
    };
    let dora = yes(&["use_dora", "peft_use_dora", "lora_use_dora"]);
    let four_bit = yes(&["load_in_4bit", "quantization_bit"]);
    let method = match (config.adapter.method, four_bit, dora) {
        (Some(Method::Full), ..) => return,
        (Some(Method::Qlora), _, false) | (Some(Method::Lora) | None, true, false) => Method::Qlora,
        (Some(Method::Qlora), _, true) | (_, true, true) => Method::Qdora,
        (_, false, true) => Method::Dora,
        (other, ..) => other.unwrap_or(Method::Lora),
    };
    config.adapter.method = Some(method);
}

/// Names of the fields by outcome, for one line to a person.
pub fn summary(imported: &Imported) -> BTreeMap<&'static str, Vec<&str>> {
    let mut lists: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
    for field in &imported.report {
        let list = match field.outcome {
            Outcome::Mapped => "mapped",
            Outcome::Approximated => "approximated",
            Outcome::Ignored => "ignored",
        };
        lists.entry(list).or_default().push(&field.field);
    }
    lists
}

#[cfg(test)]
mod tests;
