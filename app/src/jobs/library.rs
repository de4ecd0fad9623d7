//! The models that are on this computer, whichever program put them there.

use super::fit::Described;
use super::fit::{Fit, family_of, word};
use super::model::{STARTER, cache, home, starter_files};
use crate::cli::memory::total_memory;
use peft_models::export::gguf;
use peft_plan::Result;
use peft_remote::Kind;
use peft_remote::cache::{CachedRepository, Holds, Snapshot, holds};
use peft_remote::others;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Largest `config.json` or model card that is looked at.
const SMALL_BYTES: u64 = 16 << 20;

/// A model on this computer.
#[derive(Clone, Debug, Serialize)]
pub struct LocalModel {
    /// What to write after `--model`, where it can be used; its name otherwise.
    pub id: String,
    /// Whose folder it is in: `builtin`, `huggingface`, `lmstudio` or `ollama`.
    pub source: &'static str,
    /// Where it is.
    pub path: Option<PathBuf>,
    /// Bytes on the disk, of all its versions.
    pub bytes: u64,
    /// Bytes of downloads that are not finished.
    pub unfinished_bytes: u64,
    /// Its versions.
    pub versions: Vec<Version>,
    /// It can be trained.
    pub supported: bool,
    /// Its family, where it is supported.
    pub family: Option<String>,
    /// Its parameters.
    pub parameters: Option<u64>,
    /// Its licence, where a model card says so.
    pub licence: Option<String>,
    /// What training needs on this machine.
    pub fits: Vec<Fit>,
    /// Why it cannot be used, or what is missing.
    pub note: Option<String>,
}

/// One version of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// The commit.
    pub commit: String,
    /// Branches and tags that mean it.
    pub refs: Vec<String>,
    /// All its files are here.
    pub complete: bool,
}

/// Everything there is. Opens no socket.
pub fn list() -> Result<Vec<LocalModel>> {
    let mut found = vec![starter()];
    found.extend(cache()?.list(Kind::Model).into_iter().map(cached));
    let others = others::list(|name| std::env::var_os(name), home().as_deref());
    found.extend(others.into_iter().map(|model| LocalModel {
        source: model.program,
        bytes: model.bytes,
        ..gguf_file(model.name, &model.path)
    }));
    Ok(found)
}

/// A GGUF file, described by its own header. Ollama's carry no ending, so they are opened as what they are.
fn gguf_file(id: String, path: &Path) -> LocalModel {
    let mut model = empty(id, Some(path.to_owned()));
    match gguf::File::open(path).and_then(|file| gguf::metadata::config_of(&file)) {
        Ok(config) => see(&mut model, &config, fs::metadata(path).map_or(0, |data| data.len())),
        Err(fault) => model.note = Some(format!("GGUF: {}", fault.detail)),
    }
    model
}

/// A model's folder, described. `id`: what the user calls it.
pub fn folder(id: &str, path: &Path) -> LocalModel {
    let mut model = empty(id.to_owned(), Some(path.to_owned()));
    model.bytes = weights(path).1;
    model.licence = licence(path);
    match holds(path) {
        Holds::Model => match json(&path.join("config.json")) {
            Some(config) => see(&mut model, &config, weights(path).0),
            None => model.note = Some("config.json cannot be read".to_owned()),
        },
        Holds::Incomplete(name) => model.note = Some(format!("incomplete: {name} is missing")),
        Holds::Adapter => model.note = Some("an adapter, not a whole model".to_owned()),
        Holds::Gguf => model.note = Some("only GGUF files: name the file itself to use one".to_owned()),
        Holds::Pickle => model.note = Some("only pickle files, which could run hidden code".to_owned()),
        Holds::Nothing => model.note = Some("holds no model".to_owned()),
    }
    model
}

/// The model that is part of the program, described.
pub fn starter() -> LocalModel {
    let files = starter_files();
    let mut model = empty(STARTER.to_owned(), None);
    model.source = "builtin";
    model.bytes = files.weights.len() as u64;
    model.licence = Some("MIT OR Apache-2.0".to_owned());
    if let Ok(config) = serde_json::from_slice(files.config) {
        see(&mut model, &config, files.weights.len() as u64);
    }
    model
}

fn empty(id: String, path: Option<PathBuf>) -> LocalModel {
    LocalModel {
        id,
        source: "folder",
        path,
        bytes: 0,
        unfinished_bytes: 0,
        versions: Vec::new(),
        supported: false,
        family: None,
        parameters: None,
        licence: None,
        fits: Vec::new(),
        note: None,
    }
}

fn see(model: &mut LocalModel, config: &Value, weight_bytes: u64) {
    match Described::new(config, weight_bytes) {
        Ok(described) => {
            model.supported = true;
            model.family = family_of(&described.spec.architecture).map(str::to_owned);
            model.parameters = Some(described.spec.parameters());
            model.fits = described.fits(total_memory());
        }
        Err(fault) => model.note = Some(fault.detail),
    }
}

fn cached(repository: CachedRepository) -> LocalModel {
    let CachedRepository { id, path, bytes, unfinished_bytes, snapshots } = repository;
    // The version that the bare id means, or the best there is.
    let is_main = |snapshot: &&Snapshot| snapshot.refs.iter().any(|name| name == "main");
    let is_whole = |snapshot: &&Snapshot| holds(&snapshot.path) == Holds::Model;
    let shown = snapshots.iter().find(is_main).or_else(|| snapshots.iter().find(is_whole)).or(snapshots.first());
    let mut model = match shown {
        Some(snapshot) => folder(id.as_str(), &snapshot.path),
        None => LocalModel { note: Some("nothing of it is complete".to_owned()), ..empty(id.to_string(), None) },
    };
    model.source = "huggingface";
    model.path = Some(shown.map_or(path, |snapshot| snapshot.path.clone()));
    model.bytes = bytes;
    model.unfinished_bytes = unfinished_bytes;
    let version = |snapshot: Snapshot| Version {
        complete: holds(&snapshot.path) == Holds::Model,
        commit: snapshot.commit,
        refs: snapshot.refs,
    };
    model.versions = snapshots.into_iter().map(version).collect();
    model
}

/// Bytes of the weights and of everything in a folder.
fn weights(path: &Path) -> (u64, u64) {
    let mut sums = (0, 0);
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(data) = fs::metadata(entry.path()) else { continue };
        if data.is_file() {
            sums.1 += data.len();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_weights = name.ends_with(".safetensors") && name.starts_with("model");
            sums.0 += if is_weights { data.len() } else { 0 };
        }
    }
    sums
}

fn small(path: &Path) -> Option<String> {
    let is_small = fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() <= SMALL_BYTES);
    if is_small { fs::read_to_string(path).ok() } else { None }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&small(path)?).ok()
}

/// The licence of the model card, which opens with lines of `key: value` between two lines of dashes.
fn licence(path: &Path) -> Option<String> {
    let card = small(&path.join("README.md"))?;
    let head = card.trim_start_matches('\u{feff}').strip_prefix("---")?;
    let lines: Vec<&str> = head.lines().skip(1).take_while(|line| line.trim_end() != "---").collect();
    let value = |key: &str| {
        let found = lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let word = found.trim().trim_matches(['"', '\'']);
        (!word.is_empty() && word.len() <= 60).then(|| word.to_owned())
    };
    match (value("license"), value("license_name")) {
        (Some(other), Some(name)) if other == "other" => Some(name),
        (licence, _) => licence,
    }
}

/// The first method that fits, in a word, or a dash.
pub fn fits_word(fits: &[Fit]) -> &'static str {
    if fits.is_empty() { "-" } else { word(fits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_can_be_trained_anywhere() {
        let model = starter();
        assert!(model.supported && model.fits.iter().all(|fit| fit.fits), "{model:?}");
        assert!(model.parameters.is_some_and(|count| count > 100_000));
    }

    #[test]
    fn a_folder_is_described_by_its_files_and_a_broken_one_says_why() {
        let place = tempfile::tempdir().expect("a directory");
        let write = |name: &str, content: &[u8]| fs::write(place.path().join(name), content).expect("written");
        let describe = || folder("x", place.path());
        assert_eq!(describe().note.as_deref(), Some("holds no model"));
        write("config.json", starter_files().config);
        assert!(describe().note.is_some_and(|note| note.contains("model.safetensors is missing")));
        write("model.safetensors", starter_files().weights);
        write(
            "README.md",
            b"---\nlanguage: en\nlicense: other\nlicense_name: \"qwen-research\"\n---\n# Card\nlicense: mit\n",
        );
        let model = describe();
        assert_eq!(model.licence.as_deref(), Some("qwen-research"));
        assert_eq!(model.parameters, starter().parameters);
        assert_eq!(model.fits, starter().fits);
        write("config.json", br#"{"architectures":["MysteryForCausalLM"]}"#);
        assert!(!describe().supported && describe().note.is_some_and(|note| note.contains("Mystery")));
        write("config.json", b"{");
        assert_eq!(describe().note.as_deref(), Some("config.json cannot be read"));
    }
}
