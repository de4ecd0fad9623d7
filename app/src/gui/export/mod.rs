//! What was trained, for other programs: what can be written, what is being written, and what came of it.

pub mod view;

use super::errand::{Ending, Said};
use super::problem::Problem;
use super::theme::icons::Icon;
use crate::jobs::export::sizes::Sizes;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A form that a model can be exported in.
#[derive(Debug, PartialEq, Eq)]
pub struct Form {
    /// Its word on the command line.
    pub key: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What it is good for.
    pub sentence: &'static str,
    /// Its picture.
    pub icon: Icon,
    /// It is made of GGUF files, whose types can be chosen.
    pub has_types: bool,
}

/// All forms, in the order in which they are shown.
pub const FORMS: [Form; 6] = [
    Form {
        key: "ollama",
        title: "Ollama",
        sentence: "A GGUF file with a Modelfile; one command makes it a model of Ollama.",
        icon: Icon::Chat,
        has_types: true,
    },
    Form {
        key: "lmstudio",
        title: "LM Studio",
        sentence: "A GGUF file where LM Studio looks for models; it is in its list at the next start.",
        icon: Icon::Box,
        has_types: true,
    },
    Form {
        key: "gguf",
        title: "GGUF",
        sentence: "For llama.cpp and everything that is built on it.",
        icon: Icon::File,
        has_types: true,
    },
    Form {
        key: "merged",
        title: "Complete model",
        sentence: "Base and adapter as one model in safetensors, for Transformers and vLLM.",
        icon: Icon::Braces,
        has_types: false,
    },
    Form {
        key: "peft",
        title: "Adapter",
        sentence: "Only what was learned, for PEFT; it needs the base model beside it.",
        icon: Icon::Feather,
        has_types: false,
    },
    Form {
        key: "gguf-lora",
        title: "Adapter for llama.cpp",
        sentence: "Only what was learned, as a GGUF file that goes on top of the base.",
        icon: Icon::Tag,
        has_types: false,
    },
];

/// Types of GGUF files that most people choose among.
pub const USUAL_TYPES: [(&str, &str); 4] = [
    ("q4_k_m", "small, for most computers"),
    ("q6_k", "in between"),
    ("q8_0", "nearly exact"),
    ("f16", "as exact as the original"),
];

/// An export that was asked for.
#[derive(Debug)]
pub struct Job {
    /// Its errand.
    pub id: u64,
    /// In which form.
    pub form: &'static Form,
    /// Of what, in words.
    pub name: String,
    /// Where it is written; none where the form has a place of its own.
    pub folder: Option<PathBuf>,
    /// About so many bytes will be written.
    pub expected: Option<u64>,
    /// So many are.
    pub written: u64,
    /// What it said.
    pub result: Option<Value>,
    /// How it ended.
    pub ending: Option<Ending>,
}

impl Job {
    /// Files that were written, with their sizes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let files = self.result.iter().filter_map(|result| result["files"].as_array()).flatten();
        files.filter_map(|f| Some((PathBuf::from(f["path"].as_str()?), f["bytes"].as_u64().unwrap_or(0)))).collect()
    }

    /// What can be talked to: a GGUF file, or the folder of a complete model.
    pub fn model(&self) -> Option<PathBuf> {
        let files = self.files();
        match self.form.key {
            "peft" | "gguf-lora" => None,
            "merged" => files.first().and_then(|(path, _)| path.parent().map(Path::to_owned)),
            _ => files.into_iter().map(|(path, _)| path).find(|path| path.extension().is_some_and(|e| e == "gguf")),
        }
    }

    /// The certificates of its files.
    pub fn certificates(&self) -> impl Iterator<Item = &Value> {
        self.result.iter().filter_map(|result| result["certificates"].as_array()).flatten()
    }
}

/// The page.
#[derive(Debug, Default)]
pub struct Exports {
    /// The run that is exported; none: the newest.
    pub run: Option<String>,
    /// Sizes by run; none while they are being worked out.
    pub sizes: HashMap<String, Option<Result<Sizes, Problem>>>,
    /// Types of GGUF files that were chosen.
    pub types: Vec<String>,
    /// All types are shown.
    pub shows_types: bool,
    /// A folder to write to; empty: one of the data directory.
    pub folder: String,
    /// The exports of this window, the newest last.
    pub jobs: Vec<Job>,
}

impl Exports {
    /// The types that are written.
    pub fn chosen_types(&self) -> Vec<String> {
        if self.types.is_empty() { vec!["q8_0".to_owned()] } else { self.types.clone() }
    }

    /// What `form` of `run` will take, where that is known.
    pub fn expected(&self, run: &str, form: &Form) -> Option<u64> {
        let Some(Some(Ok(sizes))) = self.sizes.get(run) else { return None };
        match form.key {
            "peft" | "gguf-lora" => sizes.adapter,
            "merged" => sizes.merged,
            _ => {
                let types = self.chosen_types();
                let of = |name: &String| sizes.gguf.iter().find(|(known, _)| known == name).map(|(_, bytes)| *bytes);
                types.iter().map(of).sum()
            }
        }
    }

    /// An errand said something.
    pub fn hear(&mut self, id: u64, said: Said) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { return };
        match said {
            Said::Line(value) => job.result = Some(value),
            Said::Ended(ending) => job.ending = Some(ending),
        }
    }
}

/// A folder for an export that nobody named one for: a new one below `exports`, or one where the same was interrupted.
pub fn usual_folder(data_dir: &Path, run: &str, form: &Form) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = run.chars().take(60).map(plain).collect();
    let name = format!("{}-{}", name.trim_matches(['.', '-']), form.key);
    let exports = data_dir.join("exports");
    let numbered = (2..10_000).map(|number| exports.join(format!("{name}-{number}")));
    let mut folders = std::iter::once(exports.join(&name)).chain(numbered);
    folders.find(|folder| !folder.exists() || is_unfinished(folder)).unwrap_or_else(|| exports.join(&name))
}

/// Nothing in it is whole yet.
fn is_unfinished(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let is_part = |name: &std::ffi::OsString| name.to_string_lossy().contains(".part");
    names.iter().any(is_part) && names.iter().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_export_has_a_folder_of_its_own() {
        let home = tempfile::tempdir().expect("a folder");
        let first = usual_folder(home.path(), "../my run", &FORMS[2]);
        assert_eq!(first, home.path().join("exports").join("my-run-gguf"));
        std::fs::create_dir_all(&first).expect("created");
        assert!(usual_folder(home.path(), "../my run", &FORMS[2]).ends_with("my-run-gguf-2"));
        std::fs::write(first.join("a.gguf.part"), "x").expect("written");
        assert_eq!(usual_folder(home.path(), "../my run", &FORMS[2]), first, "what was interrupted goes on");
        std::fs::write(first.join("a.gguf"), "x").expect("written");
        assert!(usual_folder(home.path(), "../my run", &FORMS[2]).ends_with("my-run-gguf-2"));
    }

    #[test]
    fn what_is_expected_is_the_sum_of_the_chosen_types() {
        let mut page = Exports::default();
        assert_eq!(page.expected("r", &FORMS[0]), None);
        let gguf = vec![("q8_0".to_owned(), 80), ("f16".to_owned(), 160)];
        let sizes = Sizes { adapter: Some(5), merged: Some(170), gguf, obstacle: None };
        page.sizes.insert("r".to_owned(), Some(Ok(sizes)));
        assert_eq!(page.expected("r", &FORMS[0]), Some(80));
        page.types = vec!["f16".to_owned(), "q8_0".to_owned()];
        assert_eq!(page.expected("r", &FORMS[2]), Some(240));
        assert_eq!((page.expected("r", &FORMS[3]), page.expected("r", &FORMS[4])), (Some(170), Some(5)));
        page.types = vec!["unknown".to_owned()];
        assert_eq!(page.expected("r", &FORMS[2]), None);
    }

    #[test]
    fn what_was_written_can_be_talked_to() {
        let job = |key: &str, path: &str| Job {
            id: 1,
            form: FORMS.iter().find(|form| form.key == key).expect("a form"),
            name: String::new(),
            folder: None,
            expected: None,
            written: 0,
            result: Some(json!({"files": [{"path": path, "bytes": 7}]})),
            ending: None,
        };
        assert_eq!(job("gguf", "/x/a.gguf").model(), Some(PathBuf::from("/x/a.gguf")));
        assert_eq!(job("merged", "/x/model.safetensors").model(), Some(PathBuf::from("/x")));
        assert_eq!(job("peft", "/x/adapter.safetensors").model(), None);
    }
}
