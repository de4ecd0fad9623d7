//! What the user calls a model becomes a folder, the embedded starter, or a fault that helps.

use peft_models::base::{BaseModel, EmbeddedModel};
use peft_plan::config::ModelRef;
use peft_plan::{Fault, Result};
use peft_remote::cache::{Holds, holds};
use peft_remote::{Cache, Kind, RepositoryId, Revision, Settings};
use std::path::{Path, PathBuf};

/// Name of the embedded model.
pub const STARTER: &str = "starter";

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the program.
    Embedded,
    /// A folder (or a file, which will be refused with advice of its own).
    Folder(PathBuf),
    /// In the cache of Hugging Face.
    Cached(PathBuf),
    /// Nowhere on this computer; this is what the hub would be asked for.
    Elsewhere(RepositoryId, Revision),
}

/// Open `id`: a folder, a Hugging Face id that is in the local cache (`owner/name` or `owner/name@revision`), or
/// `starter`. Opens no socket.
pub fn open_model(id: &str) -> Result<BaseModel> {
    match locate(id)? {
        Place::Embedded => BaseModel::embedded(STARTER, starter_files()),
        Place::Folder(path) => BaseModel::open(id, &path),
        Place::Cached(path) => {
            check_whole(id, &path)?;
            BaseModel::open(id, &path)
        }
        Place::Elsewhere(repository, revision) => Err(not_here(&repository, &revision)),
    }
}

/// What the user calls the model of a configuration, its revision included.
pub fn spelled(model: &ModelRef) -> String {
    let id = model.id.as_deref().unwrap_or_default();
    match model.revision.as_deref() {
        Some(revision)
            if !revision.is_empty() && !id.contains('@') && hub_name(id).is_ok_and(|name| name.is_some()) =>
        {
            format!("{id}@{revision}")
        }
        _ => id.to_owned(),
    }
}

/// Where the model `id` is. PS-MODEL-001 for what is neither a folder nor a name of the hub.
pub fn locate(id: &str) -> Result<Place> {
    if id == STARTER {
        return Ok(Place::Embedded);
    }
    let path = Path::new(id);
    // What is a file is refused where it is opened, each kind with its own advice.
    if path.exists() {
        return Ok(Place::Folder(path.to_owned()));
    }
    let Some((repository, revision)) = hub_name(id)? else {
        return Err(Fault::new("PS-MODEL-001", format!("There is no folder `{id}`")));
    };
    let found = cache()?.find(Kind::Model, &repository, revision.as_ref());
    Ok(found.map_or_else(|| Place::Elsewhere(repository, revision.unwrap_or_default()), Place::Cached))
}

/// The cache of Hugging Face on this computer.
pub fn cache() -> Result<Cache> {
    let home = home();
    Ok(Cache::new(&Settings::cache(|name| std::env::var_os(name), home.as_deref())?))
}

/// The home directory.
pub fn home() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|directories| directories.home_dir().to_owned())
}

/// `owner/name` or `owner/name@revision`; `None` for everything else. A bare name is taken for a folder.
pub fn hub_name(text: &str) -> Result<Option<(RepositoryId, Option<Revision>)>> {
    let (id, revision) = text.split_once('@').map_or((text, None), |(id, revision)| (id, Some(revision)));
    let Some(id) = RepositoryId::new(id).filter(|id| id.as_str().contains('/')) else { return Ok(None) };
    Ok(Some((id, revision.map(Revision::new).transpose()?)))
}

/// PS-MODEL-003 for a model of which not every file is here.
fn check_whole(id: &str, path: &Path) -> Result<()> {
    let Holds::Incomplete(name) = holds(path) else { return Ok(()) };
    let detail = format!("`{id}` is here only in part: `{name}` is missing from `{}`.", path.display());
    Err(Fault::new("PS-MODEL-003", detail).action("Download the rest of it", Some(download_command(id))))
}

fn not_here(repository: &RepositoryId, revision: &Revision) -> Fault {
    let is_main = *revision == Revision::default();
    let id = if is_main { repository.to_string() } else { format!("{repository}@{}", revision.as_str()) };
    let detail = format!("`{id}` is neither a folder nor a model in the Hugging Face cache of this computer.");
    Fault::new("PS-MODEL-001", detail)
        .action("Download it", Some(download_command(&id)))
        .action("See whether it fits this computer", Some(format!("peft-studio models show {id}")))
}

/// The command that downloads `id`.
pub fn download_command(id: &str) -> String {
    format!("peft-studio models download {id}")
}

/// The folder that `id` is opened from; `None` for the embedded model and for what is not here.
pub fn folder_of(id: &str) -> Option<PathBuf> {
    match locate(id) {
        Ok(Place::Folder(path) | Place::Cached(path)) => Some(path),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_hub_has_an_owner_and_cannot_leave_the_cache() {
        let is_name = |text: &str| hub_name(text).is_ok_and(|name| name.is_some());
        assert!(is_name("Qwen/Qwen2.5-0.5B-Instruct") && is_name("a/b@refs/pr/3"));
        for text in ["../x", "a/../b", "/etc/passwd", "a", "a/b/c", "a/.git", "a/b c", "./a", "a/b@../x"] {
            assert!(!is_name(text), "{text}");
        }
    }

    #[test]
    fn a_missing_model_says_what_was_looked_for_and_how_to_get_it() {
        let Err(fault) = open_model("no/such-model@v1") else { panic!("there is no such model") };
        assert_eq!(fault.code, "PS-MODEL-001");
        let command = fault.shown_actions()[0].command.clone();
        assert_eq!(command.as_deref(), Some("peft-studio models download no/such-model@v1"));
        let Err(fault) = open_model("./nowhere") else { panic!("there is no such folder") };
        assert!(fault.detail.contains("./nowhere"));
    }

    #[test]
    fn the_revision_of_a_configuration_goes_with_the_name_of_the_hub_only() {
        let spelled = |id: &str| spelled(&ModelRef { id: Some(id.into()), revision: Some("v1".into()) });
        assert_eq!(spelled("a/b"), "a/b@v1");
        assert_eq!(spelled("a/b@v2"), "a/b@v2");
        assert_eq!(spelled("starter"), "starter");
        assert_eq!(spelled("/models/x"), "/models/x");
    }
}
