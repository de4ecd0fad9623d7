//! What is talked to, exported, served or measured: a run, or any model, with or without an adapter.

use super::state::Data;
use peft_plan::{Fault, Result, RunConfig};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Largest description of an adapter that is read.
const LARGEST: u64 = 4 << 20;

/// A run or a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A run, by id: live, finished, or as far as it came.
    Run(String),
    /// A model, perhaps with an adapter.
    Model(String, Option<PathBuf>),
}

impl Target {
    /// The built-in model.
    pub fn starter() -> Self {
        Self::Model("starter".to_owned(), None)
    }

    /// What lies at `path`: a GGUF file, a folder with a checkpoint, or a folder with an adapter, which names its base.
    ///
    /// # Errors
    /// PS-MODEL-005 for an adapter that does not say what it belongs on.
    pub fn of_path(path: &Path) -> Result<Self> {
        let about = path.join("adapter_config.json");
        if !about.is_file() {
            return Ok(Self::Model(path.display().to_string(), None));
        }
        let unreadable = |why: String| Fault::new("PS-MODEL-005", format!("`{}`: {why}", about.display()));
        let size = std::fs::metadata(&about).map_err(|e| Fault::io("read", &about, e))?.len();
        if size > LARGEST {
            return Err(unreadable("it is too large for what it should be".to_owned()));
        }
        let text = std::fs::read(&about).map_err(|e| Fault::io("read", &about, e))?;
        let described: Value = serde_json::from_slice(&text).map_err(|e| unreadable(format!("not valid JSON: {e}")))?;
        let Some(base) = described["base_model_name_or_path"].as_str().filter(|base| !base.is_empty()) else {
            return Err(unreadable("it does not say which model the adapter belongs on".to_owned()));
        };
        Ok(Self::Model(base.to_owned(), Some(path.to_owned())))
    }

    /// In words.
    pub fn name(&self, data: &Data) -> String {
        match self {
            Self::Run(id) => data.run(id).map_or_else(|| "A run that is gone".to_owned(), |run| run.name.clone()),
            Self::Model(model, None) if model == "starter" => "Built-in starter model".to_owned(),
            Self::Model(model, None) => short(model).to_owned(),
            Self::Model(model, Some(adapter)) => {
                format!("{} on {}", short(&adapter.display().to_string()), short(model))
            }
        }
    }

    /// As the command line takes it.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Run(run) => vec!["--run".to_owned(), run.clone()],
            Self::Model(model, adapter) => {
                let mut words = vec!["--model".to_owned(), model.clone()];
                words.extend(adapter.iter().flat_map(|path| ["--adapter".to_owned(), path.display().to_string()]));
                words
            }
        }
    }

    /// The base that it stands on, where that is known.
    pub fn base(&self, data: &Data) -> Option<String> {
        match self {
            Self::Run(id) => RunConfig::from_value(data.run(id)?.config.clone()).ok()?.model.id,
            Self::Model(model, _) => Some(model.clone()),
        }
    }
}

/// The last part of a path; names of the hub stay whole.
fn short(model: &str) -> &str {
    let is_path = model.starts_with(['/', '.', '~', '\\']) || model.contains(":\\");
    if is_path { model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(model) } else { model }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_an_adapter_is_its_base_with_it_and_one_without_a_base_is_explained_s4_7() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        assert_eq!(
            Target::of_path(&at("x.gguf")).expect("a file").words(),
            ["--model", &*at("x.gguf").to_string_lossy()]
        );
        let write = |text: &str| std::fs::write(at("adapter_config.json"), text).expect("written");
        write(r#"{"base_model_name_or_path": "owner/name"}"#);
        let target = Target::of_path(folder.path()).expect("an adapter");
        assert_eq!(target, Target::Model("owner/name".to_owned(), Some(folder.path().to_owned())));
        for bad in ["{", "{}", r#"{"base_model_name_or_path": ""}"#, r#"{"base_model_name_or_path": 7}"#] {
            write(bad);
            assert_eq!(Target::of_path(folder.path()).expect_err(bad).code, "PS-MODEL-005");
        }
    }

    #[test]
    fn names_are_short_and_words_are_those_of_the_command_line() {
        let data = Data::default();
        assert_eq!(Target::Model("/a/b/model/".to_owned(), None).name(&data), "model");
        assert_eq!(Target::Model("owner/name".to_owned(), Some("/x/ad".into())).name(&data), "ad on owner/name");
        assert_eq!(Target::Run("r1".to_owned()).words().join(" "), "--run r1");
    }
}
