//! Hugging Face's cache layout, shared with every program that uses it: what is there, links, removal.
//!
//! ```text
//! models--owner--name/refs/main                  the commit that a branch meant
//! models--owner--name/blobs/ETAG                 a content, named by its hash
//! models--owner--name/snapshots/COMMIT/PATH      a link to it
//! .locks/models--owner--name/ETAG.lock           held while it is fetched
//! ```

use crate::name::{Kind, RepositoryId, Revision, is_commit, is_safe_path};
use crate::select::INDEX;
use peft_plan::{Fault, Result};
use serde_json::Value;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const DELETED: &str = ".deleted-";

/// One cache.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// One version of a repository that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its commit.
    pub commit: String,
    /// Branches and tags that mean it.
    pub refs: Vec<String>,
    /// Its folder.
    pub path: PathBuf,
}

/// A repository that is here, at least in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedRepository {
    /// Its id.
    pub id: RepositoryId,
    /// Its folder.
    pub path: PathBuf,
    /// Bytes it takes on the disk.
    pub bytes: u64,
    /// Bytes of downloads that are not finished.
    pub unfinished_bytes: u64,
    /// Its versions.
    pub snapshots: Vec<Snapshot>,
}

/// What removing freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Bytes.
    pub bytes: u64,
    /// Versions.
    pub snapshots: usize,
}

/// What a folder holds, as far as can be told without reading weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A model with all its weight files.
    Model,
    /// A model, of which this file is missing.
    Incomplete(String),
    /// An adapter.
    Adapter,
    /// Only GGUF files.
    Gguf,
    /// Only pickle files.
    Pickle,
    /// Nothing of the kind.
    Nothing,
}

impl Cache {
    /// The cache at `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a repository.
    pub fn repository(&self, kind: Kind, id: &RepositoryId) -> PathBuf {
        self.root.join(id.directory(kind))
    }

    pub(crate) fn blobs(&self, kind: Kind, id: &RepositoryId) -> PathBuf {
        self.repository(kind, id).join("blobs")
    }

    pub(crate) fn lock(&self, kind: Kind, id: &RepositoryId, etag: &str) -> PathBuf {
        self.root.join(".locks").join(id.directory(kind)).join(format!("{etag}.lock"))
    }

    pub(crate) fn snapshot_path(&self, kind: Kind, id: &RepositoryId, commit: &str) -> PathBuf {
        self.repository(kind, id).join("snapshots").join(commit)
    }

    /// The version that `revision` means here; without one, `main` or the only one there is.
    pub fn find(&self, kind: Kind, id: &RepositoryId, revision: Option<&Revision>) -> Option<PathBuf> {
        let root = self.repository(kind, id);
        let snapshots = root.join("snapshots");
        let name = revision.map_or("main", Revision::as_str);
        let commit = match revision {
            Some(revision) if revision.is_commit() => Some(name.to_owned()),
            _ => read_ref(&root.join("refs").join(name)),
        };
        let found = commit.map(|commit| snapshots.join(commit)).filter(|path| path.is_dir());
        if found.is_some() || revision.is_some() {
            return found;
        }
        let mut all: Vec<PathBuf> = folders(&snapshots).collect();
        all.sort();
        all.into_iter().find(|path| path.join("config.json").is_file())
    }

    /// Everything of one kind that is here, by id.
    pub fn list(&self, kind: Kind) -> Vec<CachedRepository> {
        let prefix = format!("{}--", kind.plural());
        let mut found: Vec<CachedRepository> = folders(&self.root)
            .filter_map(|path| {
                let id = path.file_name()?.to_str()?.strip_prefix(&prefix)?.replace("--", "/");
                let id = RepositoryId::new(&id)?;
                (self.repository(kind, &id) == path).then(|| describe(id, path))
            })
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    /// Remove all versions of a repository. PS-DB-001 while somebody downloads it.
    pub fn remove(&self, kind: Kind, id: &RepositoryId) -> Result<Option<Removed>> {
        let path = self.repository(kind, id);
        if !path.is_dir() {
            return Ok(None);
        }
        let locks = self.root.join(".locks").join(id.directory(kind));
        let mut held = Vec::new();
        for lock in entries(&locks) {
            let Ok(file) = File::options().read(true).write(true).open(&lock) else { continue };
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                let detail = format!("Another process is downloading `{id}`, so nothing was removed.");
                return Err(Fault::new("PS-DB-001", detail));
            }
            held.push(file);
        }
        let CachedRepository { bytes, snapshots, .. } = describe(id.clone(), path.clone());
        // Gone under its name at once: whoever looks meanwhile finds all of it or nothing.
        let aside = self.root.join(format!("{DELETED}{}-{}", std::process::id(), id.directory(kind)));
        let io = |error| Fault::io("remove", &path, error);
        fs::rename(&path, &aside).map_err(io)?;
        drop(held);
        for gone in folders(&self.root).filter(|path| is_deleted(path)).chain([locks]) {
            match fs::remove_dir_all(&gone) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Fault::io("remove", &gone, error)),
                _ => {}
            }
        }
        Ok(Some(Removed { bytes, snapshots: snapshots.len() }))
    }

    /// Remember what a branch or tag means.
    pub(crate) fn write_ref(&self, kind: Kind, id: &RepositoryId, revision: &Revision, commit: &str) -> Result<()> {
        if revision.is_commit() {
            return Ok(());
        }
        let path = self.repository(kind, id).join("refs").join(revision.as_str());
        let io = |error| Fault::io("write", &path, error);
        if let Some(parent) = path.parent() {
            durable::create_directories(parent).map_err(io)?;
        }
        durable::write_file(&path, commit.as_bytes()).map_err(io)
    }
}

fn is_deleted(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(DELETED))
}

/// Put the blob `etag` at `path` of a snapshot: as a link, or where there are none, as a second name or the file itself.
pub(crate) fn place(blobs: &Path, etag: &str, snapshot: &Path, path: &str, without_links: bool) -> io::Result<()> {
    // Checked where it was read; a mistake here would write outside of the cache.
    assert!(is_safe_path(path), "names of files are checked when they are read");
    let entry = snapshot.join(path);
    let blob = blobs.join(etag);
    let parent = entry.parent().unwrap_or(snapshot);
    durable::create_directories(parent)?;
    let depth = path.matches('/').count() + 2;
    let target: PathBuf = std::iter::repeat_n("..", depth).collect::<PathBuf>().join("blobs").join(etag);
    if fs::read_link(&entry).is_ok_and(|existing| existing == target) {
        return Ok(());
    }
    let temporary = parent.join(format!(".tmp-{}-{etag}", std::process::id()));
    drop(fs::remove_file(&temporary));
    let linked = if without_links { Err(io::ErrorKind::Unsupported.into()) } else { symlink(&target, &temporary) };
    if linked.is_err() && !blob.exists() && entry.is_file() {
        // It was moved here by an earlier download.
        return Ok(());
    }
    linked.or_else(|_| fs::hard_link(&blob, &temporary)).or_else(|_| fs::rename(&blob, &temporary))?;
    fs::rename(&temporary, &entry)?;
    // A new name of the same file is no news to `rename`, which then leaves both.
    drop(fs::remove_file(&temporary));
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn read_ref(path: &Path) -> Option<String> {
    let is_small = fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() <= 256);
    let text = if is_small { fs::read_to_string(path).ok()? } else { return None };
    let commit = text.trim();
    is_commit(commit).then(|| commit.to_owned())
}

fn describe(id: RepositoryId, path: PathBuf) -> CachedRepository {
    let mut refs = Vec::new();
    collect_refs(&path.join("refs"), "", &mut refs, 0);
    let mut snapshots: Vec<Snapshot> = folders(&path.join("snapshots"))
        .filter_map(|path| {
            let commit = path.file_name()?.to_str()?.to_owned();
            let names = refs.iter().filter(|(_, means)| *means == commit).map(|(name, _)| name.clone()).collect();
            Some(Snapshot { commit, refs: names, path })
        })
        .collect();
    snapshots.sort_by(|a, b| a.commit.cmp(&b.commit));
    let unfinished = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "incomplete");
    let length = |path: &PathBuf| fs::symlink_metadata(path).map_or(0, |data| data.len());
    let blobs: Vec<PathBuf> = entries(&path.join("blobs")).collect();
    let unfinished_bytes = blobs.iter().filter(|blob| unfinished(blob)).map(length).sum();
    let moved: u64 = snapshots.iter().map(|snapshot| real_bytes(&snapshot.path, 0)).sum();
    let bytes = blobs.iter().map(length).sum::<u64>() + moved;
    CachedRepository { id, path, bytes, unfinished_bytes, snapshots }
}

/// Bytes of files that are no links, as on systems without them; a second name of a blob is not counted again.
fn real_bytes(path: &Path, depth: u32) -> u64 {
    if depth > 16 {
        return 0;
    }
    entries(path)
        .map(|entry| match fs::symlink_metadata(&entry) {
            Ok(data) if data.is_dir() => real_bytes(&entry, depth + 1),
            Ok(data) if data.is_file() && links(&data) == 1 => data.len(),
            _ => 0,
        })
        .sum()
}

#[cfg(unix)]
fn links(data: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(data)
}

#[cfg(not(unix))]
fn links(_: &fs::Metadata) -> u64 {
    1
}

fn collect_refs(path: &Path, prefix: &str, found: &mut Vec<(String, String)>, depth: u32) {
    for entry in entries(path) {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        if entry.is_dir() && depth < 4 {
            collect_refs(&entry, &format!("{name}/"), found, depth + 1);
        } else if let Some(commit) = read_ref(&entry) {
            found.push((name, commit));
        }
    }
}

fn entries(path: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    entries(path).filter(|path| path.is_dir() && fs::symlink_metadata(path).is_ok_and(|data| data.is_dir()))
}

/// What the folder `path` holds. A link whose content is gone counts as missing.
pub fn holds(path: &Path) -> Holds {
    let has = |name: &str| path.join(name).is_file();
    let ends = |endings: &[&str]| {
        entries(path).any(|p| p.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e)))
    };
    if !has("config.json") {
        return match () {
            () if has("adapter_config.json") => Holds::Adapter,
            () if ends(&["gguf"]) => Holds::Gguf,
            () if has(INDEX) || ends(&["safetensors"]) => Holds::Incomplete("config.json".to_owned()),
            () => Holds::Nothing,
        };
    }
    if has(INDEX) {
        return match shard_names(&path.join(INDEX)) {
            Some(names) => names.into_iter().find(|name| !has(name)).map_or(Holds::Model, Holds::Incomplete),
            None => Holds::Incomplete(INDEX.to_owned()),
        };
    }
    match () {
        () if has("model.safetensors") => Holds::Model,
        () if has("adapter_config.json") => Holds::Adapter,
        () if ends(&["gguf"]) => Holds::Gguf,
        () if ends(&["bin", "pt", "pth"]) => Holds::Pickle,
        () => Holds::Incomplete("model.safetensors".to_owned()),
    }
}

fn shard_names(index: &Path) -> Option<Vec<String>> {
    if fs::metadata(index).ok()?.len() > 100 << 20 {
        return None;
    }
    let value: Value = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    let mut names: Vec<String> =
        value["weight_map"].as_object()?.values().filter_map(Value::as_str).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names.iter().all(|name| is_safe_path(name)).then_some(names).filter(|names| !names.is_empty())
}

#[cfg(test)]
mod tests;
