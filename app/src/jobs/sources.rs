//! Where examples come from: files, folders and datasets of the hub, each with its weight.

use super::model;
use peft_data::{Dataset, HubDataset, Located, ReadOptions};
use peft_plan::config::SourceRef;
use peft_plan::{Fault, Result, RunConfig, SourceWeight};
use std::path::{Path, PathBuf};

/// How a dataset of the hub is written where a path can stand.
const HUB: &str = "hub:";

/// The rows of all sources, and how often they are drawn.
pub struct Sourced {
    /// The rows, source after source.
    pub dataset: Dataset,
    /// How often they are drawn; empty where every row is drawn once an epoch.
    pub weights: Vec<SourceWeight>,
    /// What people should know.
    pub notes: Vec<String>,
}

/// The files that words of a command line mean: paths, folders, `hub:owner/name`.
pub fn files_of(words: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for word in words {
        let source = SourceRef { path: Some(word.to_string_lossy().into_owned()), ..SourceRef::default() };
        files.extend(locate(&source, word)?.0);
    }
    Ok(files)
}

/// The sources of a configuration: `dataset.path` is the first.
fn sources(config: &RunConfig) -> impl Iterator<Item = SourceRef> {
    let first = config.dataset.path.iter().map(|path| SourceRef { path: Some(path.clone()), ..SourceRef::default() });
    first.chain(config.dataset.sources.iter().cloned())
}

/// The dataset of the hub that a source names.
fn hub_of(source: &SourceRef) -> Result<Option<HubDataset>> {
    let SourceRef { path, hub, split, revision, weight: _ } = source;
    let Some(spelled) = hub.as_deref().or(path.as_deref().and_then(|path| path.strip_prefix(HUB))) else {
        return Ok(None);
    };
    let dataset = HubDataset::parse(spelled.strip_prefix(HUB).unwrap_or(spelled))?;
    let split = split.clone().or(dataset.split.clone());
    Ok(Some(HubDataset { split, revision: revision.clone(), ..dataset }))
}

/// The files of a source, and what was found on the hub.
fn locate(source: &SourceRef, path: &Path) -> Result<(Vec<PathBuf>, Option<Located>)> {
    if let Some(dataset) = hub_of(source)? {
        let located = dataset.locate(&[model::cache()?.root().to_owned()])?;
        return Ok((located.files.clone(), Some(located)));
    }
    if path.is_dir() {
        let folder = HubDataset { split: source.split.clone(), ..HubDataset::default() };
        return Ok((folder.in_folder(path)?.files, None));
    }
    if let Some(split) = &source.split {
        let detail = format!("`{}` is one file, so it has no split `{split}`", path.display());
        return Err(Fault::new("PS-CFG-001", detail));
    }
    Ok((vec![path.to_path_buf()], None))
}

/// Write down which commit of each dataset of the hub a run starts with, so that it goes on with the same.
pub fn pin(config: &mut RunConfig) -> Result<()> {
    if let Some(path) = &config.dataset.path
        && path.starts_with(HUB)
    {
        let hub = path[HUB.len()..].to_owned();
        config.dataset.sources.insert(0, SourceRef { hub: Some(hub), ..SourceRef::default() });
        config.dataset.path = None;
    }
    for source in &mut config.dataset.sources {
        if let Some(path) = source.path.take_if(|path| path.starts_with(HUB)) {
            source.hub = Some(path[HUB.len()..].to_owned());
        }
        if let Some(dataset) = hub_of(source)? {
            source.revision = dataset.locate(&[model::cache()?.root().to_owned()])?.commit;
        }
    }
    Ok(())
}

/// Read every source of `config`.
pub fn read(config: &RunConfig, options: &ReadOptions) -> Result<Sourced> {
    let mut files = Vec::new();
    let mut ends = Vec::new();
    let mut notes = Vec::new();
    for source in sources(config) {
        let path = PathBuf::from(source.path.as_deref().unwrap_or_default());
        let (found, located) = locate(&source, &path)?;
        if let Some(Located { split, files, .. }) = located {
            let name = source.hub.as_deref().or(source.path.as_deref()).unwrap_or_default();
            notes.push(format!("{name}: split `{split}`, {} files", files.len()));
        }
        files.extend(found);
        ends.push((files.len(), source.weight.unwrap_or(1.0), source));
    }
    let dataset = peft_data::read(&files, options)?;
    let mut weights = Vec::new();
    if ends.iter().any(|(_, weight, _)| weight.total_cmp(&1.0).is_ne()) {
        let mut before = 0;
        for (end, weight, source) in ends {
            let end = dataset.rows.partition_point(|row| row.file < end);
            let name = source.path.or(source.hub).unwrap_or_default();
            notes.push(format!("{name}: {} rows, each drawn {weight} times an epoch", end - before));
            weights.push(SourceWeight { end: end as u32, weight });
            before = end;
        }
    }
    Ok(Sourced { dataset, weights, notes })
}
