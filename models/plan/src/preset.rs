//! Named configurations that can be kept, shared and taken in again (S4.8, S3.5).
//!
//! A preset file is a run file in an envelope, readable by people. What a newer version wrote is not
//! guessed at; what an unknown field means is not invented: the caller learns which fields were left out.

use crate::config::RunConfig;
use crate::fault::{Fault, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// `schema` of a preset file.
pub const SCHEMA: &str = "peft-studio/preset";
/// Newest version of the envelope that is understood.
pub const VERSION: u64 = 1;

/// A named configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    /// What people call it.
    pub name: String,
    /// One or two sentences.
    #[serde(default)]
    pub description: String,
    /// Words to filter by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The settings.
    pub config: RunConfig,
}

/// A preset that was read, with what of it was not understood.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadPreset {
    /// What was understood.
    pub preset: Preset,
    /// Paths of unknown or impossible fields, with the reason.
    pub left_out: Vec<(String, String)>,
}

impl Preset {
    /// The file: every setting that is set, and nothing else.
    pub fn to_value(&self) -> Value {
        let mut config = self.config.to_value();
        drop_unset(&mut config);
        if let Value::Object(fields) = &mut config {
            // The envelope says both.
            fields.retain(|key, _| key != "schema" && key != "version");
        }
        json!({
            "schema": SCHEMA,
            "version": VERSION,
            "name": self.name,
            "description": self.description,
            "tags": self.tags,
            "config": config,
        })
    }

    /// Read a preset file, or a plain run file (whose name is then `fallback_name` unless it has one).
    ///
    /// Unknown fields do not stop it: they are listed, and everything known is taken.
    ///
    /// # Errors
    /// PS-PRE-003 for a file of a newer version, PS-PRE-001 for one that is no preset.
    pub fn from_value(value: &Value, fallback_name: &str) -> Result<ReadPreset> {
        let Value::Object(root) = value else {
            return Err(Fault::new("PS-PRE-001", "The file is no preset: it holds no named settings"));
        };
        let schema = root.get("schema").and_then(Value::as_str).unwrap_or("peft-studio/run");
        let version = root.get("version").and_then(Value::as_u64).unwrap_or(1);
        if version > VERSION && schema.starts_with("peft-studio/") {
            return Err(Fault::new(
                "PS-PRE-003",
                format!("The file has version {version}; this program knows versions up to {VERSION}"),
            ));
        }
        let config = match schema {
            SCHEMA => root.get("config").cloned().unwrap_or(Value::Null),
            "peft-studio/run" => value.clone(),
            other => return Err(Fault::new("PS-PRE-001", format!("The file says that it is `{other}`, not a preset"))),
        };
        let Value::Object(config) = config else {
            return Err(Fault::new("PS-PRE-001", "The preset holds no settings"));
        };
        let text = |key: &str| root.get(key).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty());
        let name = check_name(text("name").unwrap_or(fallback_name))?;
        let description = if schema == SCHEMA { text("description").unwrap_or_default() } else { "" };
        let tags = root.get("tags").and_then(Value::as_array).into_iter().flatten();
        let tags = tags.filter_map(Value::as_str).map(str::to_owned).collect();
        let (config, left_out) = read_leniently(&config)?;
        Ok(ReadPreset { preset: Self { name, description: description.to_owned(), tags, config }, left_out })
    }
}

/// A name that can be shown, typed and stored.
pub fn check_name(name: &str) -> Result<String> {
    let name = name.trim();
    let fits = !name.is_empty() && name.chars().count() <= 100 && !name.chars().any(char::is_control);
    if fits {
        Ok(name.to_owned())
    } else {
        Err(Fault::new("PS-CFG-001", "The name of a preset has 1 to 100 characters on one line"))
    }
}

/// Field by field through the same door as `--set`.
fn read_leniently(config: &Map<String, Value>) -> Result<(RunConfig, Vec<(String, String)>)> {
    if let Ok(config) = RunConfig::from_value(Value::Object(config.clone())) {
        return Ok((config, Vec::new()));
    }
    let mut read = RunConfig::default();
    let mut left_out = Vec::new();
    let mut known = 0;
    for (section, value) in config {
        if section == "schema" || section == "version" {
            continue;
        }
        let fields: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(k, v)| (format!("{section}.{k}"), v)).collect(),
            _ => vec![(section.clone(), value)],
        };
        for (path, value) in fields {
            if value.is_null() {
                continue;
            }
            match read.set(&format!("{path}={value}")) {
                Ok(()) => known += 1,
                Err(fault) => left_out.push((path, fault.detail)),
            }
        }
    }
    if known == 0 {
        return Err(Fault::new("PS-PRE-001", "None of the settings in this file is known here"));
    }
    Ok((read, left_out))
}

/// Keep only what is set: a file for people has no `null` in it.
pub fn drop_unset(value: &mut Value) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(drop_unset);
    }
    if let Value::Object(object) = value {
        object.values_mut().for_each(drop_unset);
        object.retain(|_, v| match v {
            Value::Null => false,
            Value::Object(o) => !o.is_empty(),
            Value::Array(a) => !a.is_empty(),
            _ => true,
        });
    }
}

/// The presets that come with the program (S3.5).
///
/// # Panics
/// If the embedded file is not valid, which a test rules out.
pub fn built_in() -> &'static [Preset] {
    static PRESETS: OnceLock<Vec<Preset>> = OnceLock::new();
    PRESETS.get_or_init(|| {
        let list: Vec<Value> = serde_json::from_str(include_str!("../presets.json")).expect("checked by a test");
        list.iter().map(|value| Preset::from_value(value, "").expect("checked by a test").preset).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_of_s3_5_are_there_and_whole() {
        let names: Vec<&str> = built_in().iter().map(|p| p.name.as_str()).collect();
        for name in ["llama3-8b", "mistral-7b", "phi-3-mini"] {
            assert!(names.contains(&name), "{names:?}");
        }
        let list: Vec<Value> = serde_json::from_str(include_str!("../presets.json")).expect("JSON");
        for value in &list {
            let read = Preset::from_value(value, "").expect("a preset");
            assert_eq!(read.left_out, [], "{}", read.preset.name);
            assert!(read.preset.config.model.id.is_some() && read.preset.config.adapter.rank.is_some());
        }
    }

    #[test]
    fn an_exported_preset_reads_back_s4_8_4() {
        let preset = built_in()[0].clone();
        let value = preset.to_value();
        assert!(serde_json::to_string(&value).expect("JSON").find("null").is_none(), "only what is set is written");
        let read = Preset::from_value(&value, "other").expect("a preset");
        assert_eq!((read.preset, read.left_out), (preset, vec![]));
    }

    #[test]
    fn unknown_and_impossible_fields_are_named_and_the_rest_is_taken() {
        let value = json!({"schema": SCHEMA, "version": 1, "name": "x",
            "config": {"adapter": {"rank": 8, "rnak": 9}, "training": {"epochs": "soon", "seed": 4}, "colour": "blue"}});
        let ReadPreset { preset, left_out } = Preset::from_value(&value, "").expect("partly known");
        assert_eq!((preset.config.adapter.rank, preset.config.training.seed), (Some(8), Some(4)));
        let fields: Vec<&str> = left_out.iter().map(|(f, _)| f.as_str()).collect();
        assert_eq!(fields, ["adapter.rnak", "training.epochs", "colour"]);
    }

    #[test]
    fn a_preset_from_the_future_and_something_else_are_refused() {
        let code = |v: Value| Preset::from_value(&v, "n").expect_err("refused").code;
        assert_eq!(code(json!({"schema": SCHEMA, "version": 2, "config": {}})), "PS-PRE-003");
        assert_eq!(code(json!({"schema": "peft-studio/run", "version": 9})), "PS-PRE-003");
        assert_eq!(code(json!({"schema": "music", "version": 1})), "PS-PRE-001");
        assert_eq!(code(json!({"colour": "blue"})), "PS-PRE-001");
        assert_eq!(code(json!([])), "PS-PRE-001");
        assert_eq!(code(json!({"schema": SCHEMA, "name": "a\nb", "config": {"adapter": {"rank": 4}}})), "PS-CFG-001");
    }

    #[test]
    fn a_run_file_is_a_preset_too() {
        let value = json!({"schema": "peft-studio/run", "version": 1, "name": "r", "training": {"seed": 3}});
        let read = Preset::from_value(&value, "file").expect("a run file");
        assert_eq!((read.preset.name.as_str(), read.preset.config.training.seed), ("r", Some(3)));
    }
}
