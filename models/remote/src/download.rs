//! A repository into the cache: what is needed, room for it, several files at once, links at the end.
//!
//! Until all files are there and verified no link and no branch says so; what arrived before an end by whatever cause
//! is where the next try looks for it.

use crate::api::{Hub, RemoteFile, Repository};
use crate::blob::{Blob, Shared, unquoted};
use crate::cache::place;
use crate::name::{Kind, RepositoryId, Revision};
use crate::partial::Expected;
use crate::progress::{Event, Meter};
use crate::select::{INDEX, has_index, of_dataset, of_model};
use crate::trouble::{Budget, Trouble};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use peft_plan::{Fault, Result};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks at whether the person had enough.
const TICK: Duration = Duration::from_millis(200);
/// Room that is left on the disk for others.
const SPARE_BYTES: u64 = 64 << 20;

/// What to download.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: RepositoryId,
    /// Branch, tag or commit.
    pub revision: Revision,
    /// Only these files; of a model always what it needs.
    pub only: Vec<String>,
    /// Hash what is here already, too.
    pub verify_present: bool,
}

impl Wanted {
    /// The model `id` at `revision`.
    pub fn model(id: RepositoryId, revision: Revision) -> Self {
        Self { kind: Kind::Model, id, revision, only: Vec::new(), verify_present: false }
    }
}

/// What is here now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Downloaded {
    /// The id.
    pub id: String,
    /// The commit.
    pub commit: String,
    /// Its folder.
    pub path: PathBuf,
    /// Files of it.
    pub files: usize,
    /// Bytes of it.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub downloaded_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// How a download ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Everything is here.
    Done(Downloaded),
    /// The person had enough; what arrived is kept.
    Cancelled,
}

/// A file with everything that must be known before it is fetched.
struct Described {
    path: String,
    size: u64,
    expected: Expected,
}

impl Hub {
    /// Files that a download of this repository would fetch, with their lengths.
    pub fn needed(&self, repository: &Repository) -> Result<Vec<RemoteFile>> {
        self.runtime.block_on(self.select(repository, &[]))
    }

    /// Download; `on_event` hears how far it is and may end it with `Break`, within a quarter of a second.
    pub fn download(&self, wanted: &Wanted, on_event: &mut dyn FnMut(&Event) -> ControlFlow<()>) -> Result<Outcome> {
        let shared = Shared { meter: RefCell::new(Meter::new(0)), events: RefCell::default() };
        self.runtime.block_on(async {
            let work = self.run(wanted, &shared);
            tokio::pin!(work);
            let drain = |on_event: &mut dyn FnMut(&Event) -> ControlFlow<()>| {
                let told = std::mem::take(&mut *shared.events.borrow_mut());
                told.iter().try_for_each(&mut *on_event)
            };
            loop {
                tokio::select! {
                    result = &mut work => {
                        // It is over: nobody can end it any more.
                        let _heard = drain(on_event);
                        return result.map(Outcome::Done);
                    }
                    () = tokio::time::sleep(TICK) => {
                        let progress = Event::Progress(shared.meter.borrow_mut().at(Instant::now()));
                        if drain(on_event).is_break() || on_event(&progress).is_break() {
                            // Dropping the work closes every connection and file where it is.
                            return Ok(Outcome::Cancelled);
                        }
                    }
                }
            }
        })
    }

    async fn run(&self, wanted: &Wanted, shared: &Shared) -> Result<Downloaded> {
        let Wanted { kind, id, revision, only, verify_present } = wanted;
        let repository = self.look_up(*kind, id, revision).await?;
        let files = self.describe(&repository, self.select(&repository, only).await?).await?;
        let cache = self.cache();
        let (blobs, snapshot) = (cache.blobs(*kind, id), cache.snapshot_path(*kind, id, &repository.commit));
        for folder in [&blobs, &snapshot] {
            durable::create_directories(folder).map_err(|error| Fault::io("create", folder, error))?;
        }
        let total = check_room(&files, &blobs, &snapshot, id)?;
        *shared.meter.borrow_mut() = Meter::new(total.bytes);
        shared.tell(Event::Planned {
            files: files.len(),
            total_bytes: total.bytes,
            present_bytes: total.present,
            directory: snapshot.display().to_string(),
        });
        let commit = Revision::new(&repository.commit)?;
        // Small ones first: what is wrong with a model is mostly seen in them.
        let mut order: Vec<&Described> = files.iter().collect();
        order.sort_by_key(|file| file.size);
        let mut seen = BTreeSet::new();
        order.retain(|file| seen.insert(file.expected.etag()));
        let fetches = order.into_iter().map(|file| {
            let blob = Blob {
                hub: self,
                kind: *kind,
                id,
                commit: &commit,
                path: &file.path,
                url: self.file_address(&repository, &file.path),
                expected: &file.expected,
                size: file.size,
                entry: snapshot.join(&file.path),
                verify_present: *verify_present,
                shared,
            };
            async move { blob.fetch().await }
        });
        stream::iter(fetches).buffer_unordered(self.settings.at_once.max(1)).try_collect::<Vec<()>>().await?;
        for file in &files {
            let etag = file.expected.etag();
            place(&blobs, etag, &snapshot, &file.path, self.settings.without_links)
                .map_err(|error| Fault::io("link", &snapshot.join(&file.path), error))?;
        }
        cache.write_ref(*kind, id, revision, &repository.commit)?;
        let meter = shared.meter.borrow();
        Ok(Downloaded {
            id: id.to_string(),
            commit: repository.commit,
            path: snapshot,
            files: files.len(),
            bytes: total.bytes,
            downloaded_bytes: meter.fetched_bytes(),
            seconds: meter.seconds(),
        })
    }

    async fn select(&self, repository: &Repository, only: &[String]) -> Result<Vec<RemoteFile>> {
        match repository.kind {
            Kind::Model => {
                let index = if has_index(repository) { Some(self.small_file(repository, INDEX).await?) } else { None };
                of_model(repository, index.as_deref())
            }
            Kind::Dataset => of_dataset(repository, only),
        }
    }

    /// Length and hash of every file; what the list did not say is asked of each.
    async fn describe(&self, repository: &Repository, files: Vec<RemoteFile>) -> Result<Vec<Described>> {
        let each = files.into_iter().map(|file| async move {
            match file {
                RemoteFile { path, bytes: Some(size), expected: Some(expected) } => {
                    Ok(Described { path, size, expected })
                }
                RemoteFile { path, .. } => self.ask_about(repository, path).await,
            }
        });
        stream::iter(each).buffered(self.settings.at_once.max(1)).try_collect().await
    }

    async fn ask_about(&self, repository: &Repository, path: String) -> Result<Described> {
        let mut budget = Budget::new(&self.settings.patience);
        loop {
            let url = self.file_address(repository, &path);
            let answer = self
                .http
                .head(url)
                .await
                .and_then(|answer| crate::http::busy(&answer.response).map_or_else(|| Ok(answer.hub_headers), Err));
            let trouble = match answer {
                Ok(headers) => {
                    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                    let size = text("x-linked-size").or_else(|| text("content-length")).and_then(|n| n.parse().ok());
                    let etag = text("x-linked-etag").or_else(|| text("etag")).map(unquoted);
                    match (size, etag.and_then(Expected::new)) {
                        (Some(size), Some(expected)) => return Ok(Described { path, size, expected }),
                        _ => {
                            Trouble::Confused("the server says neither how long it is nor what its hash is".to_owned())
                        }
                    }
                }
                Err(trouble) => trouble,
            };
            let what = format!("`{path}` of `{}`", repository.id);
            let (wait, _) = budget.next(trouble).map_err(|trouble| trouble.into_fault(&what, &self.http.host(), 0))?;
            tokio::time::sleep(wait).await;
        }
    }
}

struct Total {
    bytes: u64,
    present: u64,
}

/// PS-DISK-001 where the disk has no room for what is missing.
fn check_room(files: &[Described], blobs: &Path, snapshot: &Path, id: &RepositoryId) -> Result<Total> {
    let mut total = Total { bytes: 0, present: 0 };
    let mut seen = BTreeSet::new();
    for Described { path, size, expected } in files.iter().filter(|file| seen.insert(file.expected.etag())) {
        let length =
            |path: PathBuf| std::fs::metadata(path).map_or(0, |data| if data.is_file() { data.len() } else { 0 });
        let whole = length(blobs.join(expected.etag())).max(length(snapshot.join(path)));
        let part = length(blobs.join(format!("{}.incomplete", expected.etag())));
        total.bytes = total.bytes.saturating_add(*size);
        total.present = total.present.saturating_add(if whole == *size { whole } else { part.min(*size) });
    }
    let free = fs4::available_space(blobs).map_err(|error| Fault::io("ask for the free space of", blobs, error))?;
    let missing = total.bytes.saturating_sub(total.present);
    if missing > 0 && missing.saturating_add(SPARE_BYTES) > free {
        let detail = format!(
            "`{id}` needs {} MB more in {}, and {} MB are free there.",
            missing.div_ceil(1_000_000),
            blobs.display(),
            free / 1_000_000
        );
        return Err(Fault::new("PS-DISK-001", detail));
    }
    Ok(total)
}
