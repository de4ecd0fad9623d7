//! What the user calls a model becomes a folder, the embedded starter, or a fault that helps.

use peft_models::base::{BaseModel, EmbeddedModel};
use peft_plan::{Fault, Result};
use std::path::{Path, PathBuf};

/// Name of the embedded model.
pub const STARTER: &str = "starter";

/// Open `id`: a folder, a Hugging Face id that is in the local cache, or `starter`.
pub fn open_model(id: &str) -> Result<BaseModel> {
    if id == STARTER {
        return BaseModel::embedded(STARTER, starter_files());
    }
    let path = Path::new(id);
    // What is a file is refused in there, each kind with its own advice.
    if path.exists() {
        return BaseModel::open(id, path);
    }
    if is_hub_id(id) {
        for hub in hub_caches() {
            if let Some(snapshot) = snapshot(&hub, id) {
                return BaseModel::open(id, &snapshot);
            }
        }
        return Err(Fault::new(
            "PS-MODEL-001",
            format!(
                "`{id}` is neither a folder nor a model in the Hugging Face cache of this computer, and this version does not download models"
            ),
        ));
    }
    Err(Fault::new("PS-MODEL-001", format!("There is no folder `{id}`")))
}

/// The folder that `id` is opened from; `None` for the embedded model and for what is not here.
pub fn folder_of(id: &str) -> Option<PathBuf> {
    let path = Path::new(id);
    match id {
        STARTER => None,
        _ if path.exists() => Some(path.to_owned()),
        _ if is_hub_id(id) => hub_caches().iter().find_map(|hub| snapshot(hub, id)),
        _ => None,
    }
}

/// The files of the starter model, which are part of the program.
pub fn starter_files() -> EmbeddedModel {
    EmbeddedModel {
        config: peft_starter::embedded::CONFIG,
        weights: peft_starter::embedded::WEIGHTS,
        tokenizer: peft_starter::embedded::TOKENIZER,
        tokenizer_config: peft_starter::embedded::TOKENIZER_CONFIG,
        generation_config: peft_starter::embedded::GENERATION_CONFIG,
    }
}

/// `owner/name`, with nothing that could lead out of the cache.
fn is_hub_id(id: &str) -> bool {
    let plain = |s: &str| {
        !s.is_empty()
            && !s.starts_with('.')
            && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    matches!(id.split_once('/'), Some((owner, name)) if plain(owner) && plain(name))
}

/// Where the Hugging Face cache may be, most specific first.
fn hub_caches() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = || directories::BaseDirs::new().map(|d| d.home_dir().join(".cache/huggingface/hub"));
    variable("HF_HUB_CACHE").into_iter().chain(variable("HF_HOME").map(|h| h.join("hub"))).chain(home()).collect()
}

/// The snapshot that `main` points to, or the only one.
fn snapshot(hub: &Path, id: &str) -> Option<PathBuf> {
    let root = hub.join(format!("models--{}", id.replace('/', "--")));
    let snapshots = root.join("snapshots");
    if let Ok(commit) = std::fs::read_to_string(root.join("refs/main")) {
        let commit = commit.trim();
        if commit.chars().all(|c| c.is_ascii_hexdigit()) && snapshots.join(commit).is_dir() {
            return Some(snapshots.join(commit));
        }
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(snapshots).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    found.sort();
    found.into_iter().find(|p| p.join("config.json").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_id_cannot_leave_the_cache() {
        assert!(is_hub_id("Qwen/Qwen2.5-0.5B-Instruct"));
        for id in ["../x", "a/../b", "/etc/passwd", "a", "a/b/c", "a/.git", "a/b c"] {
            assert!(!is_hub_id(id), "{id}");
        }
    }

    #[test]
    fn a_missing_model_says_what_was_looked_for() {
        let Err(fault) = open_model("no/such-model") else { panic!("there is no such model") };
        assert_eq!(fault.code, "PS-MODEL-001");
        let Err(fault) = open_model("./nowhere") else { panic!("there is no such folder") };
        assert!(fault.detail.contains("./nowhere"));
    }
}
