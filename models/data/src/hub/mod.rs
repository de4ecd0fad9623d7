//! Datasets of the Hugging Face hub, in the cache where every program of that house keeps them, and folders like them.
//!
//! ```text
//! datasets--owner--name/refs/main              holds a commit
//! datasets--owner--name/snapshots/COMMIT/...   the files, as links
//! ```
//!
//! Which files belong to which split is for the `README.md` of the dataset to say (`card`); where it says nothing, the
//! names of files and folders do (`splits`). Nothing is downloaded here.

mod card;
mod pattern;
mod splits;

pub(crate) use splits::split_of;

use peft_plan::{Fault, Result};
use std::path::{Path, PathBuf};

/// Files of one dataset that are looked at, at most.
const MOST_FILES: usize = 20_000;

/// Folders inside folders.
const DEEPEST: usize = 8;

/// A dataset of the hub, or a folder, and the part of it that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubDataset {
    /// `owner/name`.
    pub id: String,
    /// Which of its configurations; none is the default one.
    pub config: Option<String>,
    /// Which split; none is `train`, or the only one.
    pub split: Option<String>,
    /// Branch, tag or commit; none is `main`.
    pub revision: Option<String>,
}

/// Where the files of a split are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The commit, for a dataset of the hub.
    pub commit: Option<String>,
    /// The split.
    pub split: String,
    /// Its files, in the order in which they are read.
    pub files: Vec<PathBuf>,
}

impl HubDataset {
    /// Read `owner/name`, `owner/name:config`, each perhaps with `#split`.
    pub fn parse(text: &str) -> Result<Self> {
        let (rest, split) = match text.split_once('#') {
            Some((rest, split)) => (rest, Some(split)),
            None => (text, None),
        };
        let (id, config) = match rest.split_once(':') {
            Some((id, config)) => (id, Some(config)),
            None => (rest, None),
        };
        let dataset = Self {
            id: id.to_owned(),
            config: config.map(str::to_owned),
            split: split.map(str::to_owned),
            revision: None,
        };
        let parts: Vec<&str> = id.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let names = [&dataset.config, &dataset.split];
        if parts.len() > 2 || !parts.iter().all(is_word) || names.into_iter().flatten().any(String::is_empty) {
            let detail = format!(
                "`{text}` is not the name of a dataset on the hub; it takes the form owner/name, owner/name:configuration \
                 or owner/name#split"
            );
            return Err(Fault::new("PS-CFG-001", detail));
        }
        Ok(dataset)
    }

    /// Find it in the first of `caches` that has it.
    pub fn locate(&self, caches: &[PathBuf]) -> Result<Located> {
        let folder = format!("datasets--{}", self.id.replace('/', "--"));
        for cache in caches {
            let root = cache.join(&folder);
            if let Some((commit, snapshot)) = snapshot(&root, self.revision.as_deref()) {
                let located = self.in_folder(&snapshot)?;
                return Ok(Located { commit: Some(commit), ..located });
            }
        }
        let revision = self.revision.as_ref().map_or_else(String::new, |revision| format!(" at revision `{revision}`"));
        let places: Vec<String> = caches.iter().map(|cache| format!("`{}`", cache.display())).collect();
        let detail = format!(
            "The dataset `{}`{revision} is not in the Hugging Face cache of this computer (looked in {})",
            self.id,
            if places.is_empty() { "no folder at all".to_owned() } else { places.join(", ") }
        );
        Err(Fault::new("PS-FILE-001", detail).action("Download it", Some(self.download())))
    }

    fn download(&self) -> String {
        format!("hf download --repo-type dataset {}", self.id)
    }

    /// Find the split among the files of `folder`.
    pub fn in_folder(&self, folder: &Path) -> Result<Located> {
        let files = files_of(folder)?;
        let name = if self.id.is_empty() { folder.display().to_string() } else { self.id.clone() };
        let configs = card::configs(folder);
        let (splits, within) = match (&self.config, card::choose(&configs, self.config.as_deref())) {
            (_, Some(config)) => (config.splits(&files), config.name.clone()),
            // Without a word in the card, a configuration is a folder.
            (Some(config), None) => {
                let inside: Vec<String> =
                    files.iter().filter(|file| file.starts_with(&format!("{config}/"))).cloned().collect();
                if inside.is_empty() {
                    return Err(unknown_config(&name, config, &configs));
                }
                (splits::infer(&inside), config.clone())
            }
            (None, None) if configs.len() > 1 => return Err(unknown_config(&name, "default", &configs)),
            (None, None) => (splits::infer(&files), String::new()),
        };
        let there: Vec<&(String, Vec<String>)> = splits.iter().filter(|(_, files)| !files.is_empty()).collect();
        let names: Vec<&str> = there.iter().map(|(name, _)| name.as_str()).collect();
        let wanted = self.split.as_deref();
        let found = match wanted {
            Some(wanted) => there.iter().find(|(name, _)| name == wanted),
            None => there.iter().find(|(name, _)| name == "train").or(if let [only] = there.as_slice() {
                Some(only)
            } else {
                None
            }),
        };
        let Some((split, files)) = found else {
            let promised = splits.iter().any(|(name, _)| Some(name.as_str()) == wanted.or(Some("train")));
            return Err(self.missing(&name, &within, wanted, &names, promised));
        };
        let files = splits::of_one_kind(files);
        Ok(Located { commit: None, split: split.clone(), files: files.iter().map(|file| folder.join(file)).collect() })
    }

    /// Why there is no such split.
    fn missing(&self, name: &str, within: &str, wanted: Option<&str>, names: &[&str], promised: bool) -> Fault {
        let config = if within.is_empty() { String::new() } else { format!(" (configuration `{within}`)") };
        if names.is_empty() && !promised {
            let detail = format!(
                "`{name}`{config} has no files with examples here; read are JSONL, JSON, CSV, TSV, Parquet and text"
            );
            return Fault::new("PS-DATA-001", detail).action("Download all of its files", Some(self.download()));
        }
        if promised {
            let split = wanted.unwrap_or("train");
            let detail =
                format!("The files of split `{split}` of `{name}`{config} are not here, although it has that split");
            return Fault::new("PS-FILE-001", detail).action("Download all of its files", Some(self.download()));
        }
        let given = wanted.map_or_else(|| "left out".to_owned(), |split| format!("`{split}`"));
        let detail = format!("The split of `{name}`{config} is {given}; it has {}", names.join(", "));
        Fault::new("PS-CFG-001", detail)
    }
}

fn unknown_config(name: &str, wanted: &str, configs: &[card::Config]) -> Fault {
    let known: Vec<&str> = configs.iter().map(|config| config.name.as_str()).collect();
    let known = if known.is_empty() { "no named ones".to_owned() } else { known.join(", ") };
    let detail =
        format!("The dataset `{name}` has no configuration `{wanted}`; it has {known}. Write {name}:CONFIGURATION");
    Fault::new("PS-CFG-001", detail)
}

/// The commit and folder that `revision` means; without one `main`, or the only snapshot there is.
fn snapshot(root: &Path, revision: Option<&str>) -> Option<(String, PathBuf)> {
    let snapshots = root.join("snapshots");
    let is_inside = |name: &str| name.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
    let at = |commit: &str| {
        let folder = snapshots.join(commit);
        (is_inside(commit) && folder.is_dir()).then(|| (commit.to_owned(), folder))
    };
    let named = revision.unwrap_or("main");
    if !is_inside(named) {
        return None;
    }
    if let Some(found) = at(named) {
        return Some(found);
    }
    if let Ok(commit) = std::fs::read_to_string(root.join("refs").join(named))
        && let Some(found) = at(commit.trim())
    {
        return Some(found);
    }
    if revision.is_some() {
        return None;
    }
    let mut all: Vec<String> =
        std::fs::read_dir(&snapshots).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    all.sort();
    all.iter().find_map(|commit| at(commit))
}

/// The names of all files below `folder`, with `/` between folders, in order.
fn files_of(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![(folder.to_path_buf(), String::new(), 0)];
    while let Some((path, prefix, depth)) = open.pop() {
        let entries = std::fs::read_dir(&path).map_err(|error| Fault::io("read", &path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Fault::io("read", &path, error))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Files of the cache itself and of editors.
            if name.starts_with(['.', '_']) {
                continue;
            }
            let inside = entry.path();
            let name = format!("{prefix}{name}");
            // A link to a folder could lead in circles; the cache links files only.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < DEEPEST {
                open.push((inside, format!("{name}/"), depth + 1));
            } else if inside.is_file() && found.len() < MOST_FILES {
                found.push(name);
            }
        }
    }
    found.sort_by(|a, b| splits::natural(a, b));
    Ok(found)
}
