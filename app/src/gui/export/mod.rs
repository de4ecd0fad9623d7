//! What was trained, for other programs: what can be written, what is being written, and what came of it.

pub mod view;

use super::errand::{Ending, Said};
use super::problem::Problem;
use super::target::Target;
use super::theme::icons::Icon;
use crate::jobs::export::sizes::Sizes;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a form is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// GGUF files, whose types can be chosen.
    Gguf,
    /// What was learned, alone.
    Adapter,
    /// Base and adapter as one model.
    Whole,
    /// A folder for the hub, which can hold any of these.
    Hub,
}

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
    /// What it is made of.
    pub made: Made,
}

const fn form(key: &'static str, title: &'static str, sentence: &'static str, icon: Icon, made: Made) -> Form {
    Form { key, title, sentence, icon, made }
}

/// All forms, in the order in which they are shown.
pub const FORMS: [Form; 9] = [
    form(
        "hub",
        "Hugging Face",
        "A folder with model card and tokenizer, and its upload where a repository is named.",
        Icon::Globe,
        Made::Hub,
    ),
    form("ollama", "Ollama", "A GGUF file with a Modelfile; a running Ollama is told of it.", Icon::Chat, Made::Gguf),
    form(
        "lmstudio",
        "LM Studio",
        "A GGUF file where LM Studio looks for models; it is in its list at the next start.",
        Icon::Box,
        Made::Gguf,
    ),
    form("gguf", "GGUF", "For llama.cpp and everything that is built on it.", Icon::File, Made::Gguf),
    form(
        "merged",
        "Complete model",
        "Base and adapter as one model in safetensors, for Transformers and vLLM.",
        Icon::Braces,
        Made::Whole,
    ),
    form(
        "peft",
        "Adapter",
        "Only what was learned, for PEFT; it needs the base model beside it.",
        Icon::Feather,
        Made::Adapter,
    ),
    form(
        "gguf-lora",
        "Adapter for llama.cpp",
        "Only what was learned, as a GGUF file that goes on top of the base.",
        Icon::Tag,
        Made::Adapter,
    ),
    form(
        "tensorrt-llm",
        "TensorRT-LLM",
        "A checkpoint with a script that builds its engine on a computer with an NVIDIA card.",
        Icon::Chip,
        Made::Whole,
    ),
    form(
        "raspberry-pi",
        "Raspberry Pi",
        "A small GGUF file with scripts that set the board up and start a server on it.",
        Icon::Code,
        Made::Gguf,
    ),
];

/// What the folder for the hub can hold: its word on the command line, and for people.
pub const HUB_FORMS: [(&str, &str); 3] = [("peft", "Adapter"), ("merged", "Complete model"), ("gguf", "GGUF")];

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
    /// The last remark.
    pub remark: Option<String>,
    /// How it ended.
    pub ending: Option<Ending>,
}

impl Job {
    /// Files that were written, with their sizes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let files = self.result.iter().filter_map(|result| result["files"].as_array()).flatten();
        files.filter_map(|f| Some((PathBuf::from(f["path"].as_str()?), f["bytes"].as_u64().unwrap_or(0)))).collect()
    }

    /// What can be talked to: a GGUF file, the folder of a complete model, or that of an adapter, which names its base.
    pub fn model(&self) -> Option<PathBuf> {
        if matches!(self.form.key, "gguf-lora" | "tensorrt-llm") {
            return None;
        }
        let files = self.files();
        let gguf = files.iter().map(|(path, _)| path).find(|path| path.extension().is_some_and(|e| e == "gguf"));
        let folder = || files.first().and_then(|(path, _)| path.parent());
        gguf.cloned().or_else(|| folder().map(Path::to_owned))
    }

    /// Where the upload is to be found.
    pub fn uploaded(&self) -> Option<&str> {
        self.result.as_ref()?["uploaded"]["url"].as_str()
    }

    /// The certificates of its files.
    pub fn certificates(&self) -> impl Iterator<Item = &Value> {
        self.result.iter().filter_map(|result| result["certificates"].as_array()).flatten()
    }
}

/// Sizes, or why there are none; none while they are being worked out.
pub type Known = Option<Result<Sizes, Problem>>;

/// The page.
#[derive(Debug, Default)]
pub struct Exports {
    /// What is exported; none: the newest run.
    pub target: Option<Target>,
    /// Sizes of what was looked at.
    pub sizes: Vec<(Target, Known)>,
    /// Types of GGUF files that were chosen.
    pub types: Vec<String>,
    /// All types are shown.
    pub shows_types: bool,
    /// A folder to write to; empty: one of the data directory.
    pub folder: String,
    /// A repository of the hub to upload to; empty: nothing is uploaded.
    pub repository: String,
    /// Everybody may read it.
    pub is_public: bool,
    /// What the folder for the hub holds; none: the adapter, or the model where there is none.
    pub hub_form: Option<&'static str>,
    /// The exports of this window, the newest last.
    pub jobs: Vec<Job>,
}

impl Exports {
    /// What is known of the sizes of `target`; none where nobody asked.
    pub fn sizes_of(&self, target: &Target) -> Option<&Known> {
        self.sizes.iter().find(|(of, _)| of == target).map(|(_, known)| known)
    }

    /// The types that are written in `form`.
    pub fn chosen_types(&self, form: &Form) -> Vec<String> {
        let usual = if form.key == "raspberry-pi" { "q4_0" } else { "q8_0" };
        if self.types.is_empty() { vec![usual.to_owned()] } else { self.types.clone() }
    }

    /// What `form` of `target` consists of: the hub's folder is one of the others.
    fn made(&self, form: &Form, has_adapter: bool) -> Made {
        match (form.made, self.hub_form) {
            (Made::Hub, Some("gguf")) => Made::Gguf,
            (Made::Hub, Some("merged")) => Made::Whole,
            (Made::Hub, _) => {
                if has_adapter {
                    Made::Adapter
                } else {
                    Made::Whole
                }
            }
            (made, _) => made,
        }
    }

    /// Whether `form` can be made, as far as that is known.
    pub fn can_make(&self, target: &Target, form: &Form) -> bool {
        match self.sizes_of(target) {
            Some(Some(Ok(sizes))) => match self.made(form, sizes.adapter.is_some()) {
                Made::Gguf => sizes.obstacle.is_none(),
                Made::Adapter => sizes.adapter.is_some(),
                Made::Whole | Made::Hub => true,
            },
            Some(Some(Err(_))) => false,
            _ => true,
        }
    }

    /// What `form` of `target` will take, where that is known.
    pub fn expected(&self, target: &Target, form: &Form) -> Option<u64> {
        let Some(Some(Ok(sizes))) = self.sizes_of(target) else { return None };
        match self.made(form, sizes.adapter.is_some()) {
            Made::Adapter => sizes.adapter,
            Made::Whole | Made::Hub => sizes.merged,
            Made::Gguf => {
                let types = self.chosen_types(form);
                let of = |name: &String| sizes.gguf.iter().find(|(known, _)| known == name).map(|(_, bytes)| *bytes);
                types.iter().map(of).sum()
            }
        }
    }

    /// The words of the command.
    pub fn words(&self, target: &Target, form: &Form, folder: Option<&Path>) -> Vec<String> {
        let mut words = vec!["export".to_owned()];
        match target {
            Target::Run(run) => words.push(run.clone()),
            model @ Target::Model(..) => words.extend(model.words()),
        }
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("--to", form.key.to_owned());
        if let Some(folder) = folder {
            option("--out", folder.display().to_string());
        }
        let is_gguf = form.made == Made::Gguf || (form.made == Made::Hub && self.hub_form == Some("gguf"));
        if is_gguf {
            option("--quant", self.chosen_types(form).join(","));
        }
        if form.made == Made::Hub {
            let repository = self.repository.trim();
            if let Some(inner) = self.hub_form {
                option("--form", inner.to_owned());
            }
            if !repository.is_empty() {
                option("--repo", repository.to_owned());
                words.extend(self.is_public.then(|| "--public".to_owned()));
            }
        } else if is_gguf {
            words.push("--test".to_owned());
        }
        words
    }

    /// An errand said something.
    pub fn hear(&mut self, id: u64, said: Said) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { return };
        match said {
            Said::Line(value) => job.result = Some(value),
            Said::Remark(remark) => job.remark = Some(remark),
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
        let first = usual_folder(home.path(), "../my run", of("gguf"));
        assert_eq!(first, home.path().join("exports").join("my-run-gguf"));
        std::fs::create_dir_all(&first).expect("created");
        assert!(usual_folder(home.path(), "../my run", of("gguf")).ends_with("my-run-gguf-2"));
        std::fs::write(first.join("a.gguf.part"), "x").expect("written");
        assert_eq!(usual_folder(home.path(), "../my run", of("gguf")), first, "what was interrupted goes on");
        std::fs::write(first.join("a.gguf"), "x").expect("written");
        assert!(usual_folder(home.path(), "../my run", of("gguf")).ends_with("my-run-gguf-2"));
    }

    fn of(key: &str) -> &'static Form {
        FORMS.iter().find(|form| form.key == key).expect("a form")
    }

    #[test]
    fn what_is_expected_is_the_sum_of_the_chosen_types() {
        let mut page = Exports::default();
        let run = Target::Run("r".to_owned());
        assert_eq!(page.expected(&run, of("ollama")), None);
        let gguf = vec![("q8_0".to_owned(), 80), ("f16".to_owned(), 160), ("q4_0".to_owned(), 40)];
        let sizes = Sizes { adapter: Some(5), merged: Some(170), gguf, obstacle: None };
        page.sizes.push((run.clone(), Some(Ok(sizes))));
        assert_eq!((page.expected(&run, of("ollama")), page.expected(&run, of("raspberry-pi"))), (Some(80), Some(40)));
        page.types = vec!["f16".to_owned(), "q8_0".to_owned()];
        assert_eq!(page.expected(&run, of("gguf")), Some(240));
        assert_eq!((page.expected(&run, of("merged")), page.expected(&run, of("peft"))), (Some(170), Some(5)));
        assert_eq!(page.expected(&run, of("hub")), Some(5), "the adapter, unless something else is wanted");
        page.hub_form = Some("gguf");
        assert_eq!(page.expected(&run, of("hub")), Some(240));
        page.types = vec!["unknown".to_owned()];
        assert_eq!(page.expected(&run, of("gguf")), None);
    }

    #[test]
    fn a_model_that_learned_nothing_has_no_adapter_to_export_s4_15() {
        let mut page = Exports::default();
        let model = Target::starter();
        let sizes = Sizes { adapter: None, merged: Some(9), gguf: Vec::new(), obstacle: Some("why".to_owned()) };
        page.sizes.push((model.clone(), Some(Ok(sizes))));
        let can: Vec<&str> = FORMS.iter().filter(|form| page.can_make(&model, form)).map(|form| form.key).collect();
        assert_eq!(can, ["hub", "merged", "tensorrt-llm"]);
    }

    #[test]
    fn every_form_is_a_command_that_can_be_typed_s4_15() {
        let mut page = Exports { repository: "me/mine".to_owned(), is_public: true, ..Exports::default() };
        for target in [Target::Run("r".to_owned()), Target::Model("m".to_owned(), Some("/a".into()))] {
            for (form, inner) in FORMS.iter().flat_map(|f| [None, Some("gguf"), Some("merged")].map(|inner| (f, inner)))
            {
                page.hub_form = inner;
                let words = page.words(&target, form, Some(Path::new("/out")));
                let line = std::iter::once("peft-studio".to_owned()).chain(words);
                let parsed = crate::cli::args::command().try_get_matches_from(line);
                assert!(parsed.is_ok(), "{}: {}", form.key, parsed.err().map(|e| e.to_string()).unwrap_or_default());
            }
        }
    }

    #[test]
    fn what_was_written_can_be_talked_to() {
        let job = |key: &str, path: &str| Job {
            id: 1,
            form: of(key),
            name: String::new(),
            folder: None,
            expected: None,
            written: 0,
            result: Some(json!({"files": [{"path": path, "bytes": 7}]})),
            remark: None,
            ending: None,
        };
        assert_eq!(job("gguf", "/x/a.gguf").model(), Some(PathBuf::from("/x/a.gguf")));
        assert_eq!(job("merged", "/x/model.safetensors").model(), Some(PathBuf::from("/x")));
        assert_eq!(job("peft", "/x/adapter_model.safetensors").model(), Some(PathBuf::from("/x")));
        assert_eq!(job("gguf-lora", "/x/a.gguf").model(), None);
    }
}
