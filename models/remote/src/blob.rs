//! One file: resumed where it broke off, verified, and in its place whole or not at all.

use crate::api::Hub;
use crate::http::{Answer, broken, busy, is_web_page};
use crate::lock;
use crate::name::{Kind, RepositoryId, Revision};
use crate::partial::{Expected, Partial, verify};
use crate::progress::{Event, Meter};
use crate::refusal::{Subject, refused};
use crate::trouble::{Budget, Trouble};
use peft_plan::{Fault, Result};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use reqwest::{StatusCode, Url};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use tokio::time::timeout;

/// An answer with all of a file where its end was asked for, so often in a row, is taken as it is.
const WHOLE_ANSWERS: u32 = 2;
/// Bytes that must arrive before earlier troubles are forgotten: a server that sends a byte a connection gets an end.
const PROGRESS_BYTES: u64 = 64 << 10;

/// What all files of a download share.
pub(crate) struct Shared {
    pub(crate) meter: RefCell<Meter>,
    pub(crate) events: RefCell<Vec<Event>>,
}

impl Shared {
    pub(crate) fn tell(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }
}

/// A file to fetch.
pub(crate) struct Blob<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) kind: Kind,
    pub(crate) id: &'a RepositoryId,
    pub(crate) commit: &'a Revision,
    /// Its path in the repository.
    pub(crate) path: &'a str,
    pub(crate) url: Url,
    pub(crate) expected: &'a Expected,
    pub(crate) size: u64,
    /// Its place in the snapshot, where it is no link.
    pub(crate) entry: PathBuf,
    /// Hash it also where it is here already.
    pub(crate) verify_present: bool,
    pub(crate) shared: &'a Shared,
}

impl Blob<'_> {
    fn what(&self) -> String {
        format!("`{}` of `{}`", self.path, self.id)
    }

    fn fault(&self, trouble: Trouble, held: u64) -> Fault {
        trouble.into_fault(&self.what(), &self.hub.http.host(), held)
    }

    /// See to it that the file is in the cache.
    pub(crate) async fn fetch(&self) -> Result<()> {
        let cache = self.hub.cache();
        let blobs = cache.blobs(self.kind, self.id);
        let place = blobs.join(self.expected.etag());
        let lock_path = cache.lock(self.kind, self.id, self.expected.etag());
        let _lock = lock::acquire(&lock_path, &self.what(), |event| self.shared.tell(event)).await?;
        if let Some(there) = self.present(&place) {
            if !self.verify_present || verify(&there, self.expected, self.size).await? {
                self.shared.meter.borrow_mut().found(self.size);
                self.finished(true);
                return Ok(());
            }
            std::fs::remove_file(&there).map_err(|error| Fault::io("remove the damaged", &there, error))?;
        }
        let unfinished = blobs.join(format!("{}.incomplete", self.expected.etag()));
        let mut partial = Partial::open(&unfinished, self.expected, self.size).await?;
        self.shared.meter.borrow_mut().found(partial.held);
        self.complete(&mut partial).await?;
        partial.finish(&place)?;
        self.finished(false);
        Ok(())
    }

    fn finished(&self, was_here: bool) {
        self.shared.tell(Event::Verified { file: self.path.to_owned(), bytes: self.size, was_here });
    }

    /// The file, where it is here with the right length.
    fn present(&self, place: &Path) -> Option<PathBuf> {
        let is_it = |path: &Path| std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == self.size);
        [place, &self.entry].into_iter().find(|path| is_it(path)).map(Path::to_owned)
    }

    /// Fetch what is missing until the hash is right.
    async fn complete(&self, partial: &mut Partial) -> Result<()> {
        let mut budget = Budget::new(&self.hub.settings.patience);
        let mut damages = Budget::new(&self.hub.settings.patience);
        let mut whole_answers = 0;
        let mut counted = partial.held;
        loop {
            if partial.is_full() {
                if partial.is_right() {
                    return Ok(());
                }
                self.forget(partial)?;
                counted = 0;
                let why = "its content does not have the hash that the hub gave".to_owned();
                let (wait, event) = damages.next(Trouble::Damaged(why)).map_err(|trouble| self.fault(trouble, 0))?;
                self.wait(wait, event).await;
                continue;
            }
            let Err(trouble) = self.attempt(partial, &mut whole_answers).await else { continue };
            counted = counted.min(partial.held);
            if partial.held >= counted.saturating_add(PROGRESS_BYTES) {
                counted = partial.held;
                budget.made_progress();
            }
            let (wait, event) = budget.next(trouble).map_err(|trouble| {
                let spoilt = matches!(trouble, Trouble::Confused(_) | Trouble::Damaged(_) | Trouble::WebPage);
                self.fault(trouble, if spoilt { 0 } else { partial.held })
            })?;
            self.wait(wait, event).await;
        }
    }

    async fn wait(&self, wait: std::time::Duration, event: Event) {
        self.shared.tell(event);
        tokio::time::sleep(wait).await;
    }

    fn forget(&self, partial: &mut Partial) -> Result<()> {
        self.shared.meter.borrow_mut().lost(partial.held);
        partial.restart()
    }

    /// One connection, for as long as it lasts.
    async fn attempt(&self, partial: &mut Partial, whole_answers: &mut u32) -> Result<(), Trouble> {
        let start = partial.held;
        let answer = self.hub.http.get(self.url.clone(), (start > 0).then_some(start)).await?;
        self.judge(&answer)?;
        match answer.response.status() {
            StatusCode::PARTIAL_CONTENT => {
                *whole_answers = 0;
                self.check_range(&answer, start)?;
            }
            StatusCode::OK if start == 0 => {}
            StatusCode::OK => {
                *whole_answers += 1;
                if *whole_answers < WHOLE_ANSWERS {
                    return Err(Trouble::Confused("the server sent all of it where its end was asked for".to_owned()));
                }
                self.forget(partial).map_err(Trouble::fault)?;
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.forget(partial).map_err(Trouble::fault)?;
                return Err(Trouble::Confused("the server says that the file is shorter".to_owned()));
            }
            status => {
                let file = Some(self.path);
                let subject = Subject { kind: self.kind, id: self.id, revision: self.commit, file };
                return Err(refused(status, &answer, Some(&subject), &self.hub.settings));
            }
        }
        self.check_length(&answer, partial.held)?;
        self.receive(answer, partial).await
    }

    /// Whether the answer is the file, whatever part of it.
    fn judge(&self, answer: &Answer) -> Result<(), Trouble> {
        let Answer { response, is_foreign, hub_headers } = answer;
        if let Some(trouble) = busy(response) {
            return Err(trouble);
        }
        if !response.status().is_success() {
            return Ok(());
        }
        let headers = response.headers();
        if is_web_page(headers) {
            return Err(Trouble::WebPage);
        }
        let encoding = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(Trouble::Confused(format!("something on the way changed its encoding to {encoding}")));
        }
        // Others give files etags of their own; the hub's is the hash.
        let linked = hub_headers.get("x-linked-etag");
        let etag = linked.or_else(|| if *is_foreign { None } else { headers.get(ETAG) });
        let told = etag.and_then(|value| value.to_str().ok()).and_then(|value| Expected::new(unquoted(value)));
        if told.is_some_and(|told| told != *self.expected) {
            return Err(Trouble::Confused("the server has another version of it".to_owned()));
        }
        Ok(())
    }

    fn check_range(&self, answer: &Answer, start: u64) -> Result<(), Trouble> {
        let range = answer.response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let is_right = range.and_then(parse_range).is_some_and(|(first, last, total)| {
            first == start && last.checked_add(1) == Some(self.size) && total.is_none_or(|total| total == self.size)
        });
        if is_right {
            return Ok(());
        }
        let told = range.unwrap_or("no range").chars().take(60).collect::<String>();
        Err(Trouble::Confused(format!("the server sent `{told}` where byte {start} to the end was asked for")))
    }

    fn check_length(&self, answer: &Answer, held: u64) -> Result<(), Trouble> {
        let told = answer.response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        match told {
            Some(told) if told != self.size - held => {
                Err(Trouble::Damaged(format!("it has {} bytes and not {}", held.saturating_add(told), self.size)))
            }
            _ => Ok(()),
        }
    }

    async fn receive(&self, answer: Answer, partial: &mut Partial) -> Result<(), Trouble> {
        let mut response = answer.response;
        let stall = self.hub.settings.patience.stall;
        loop {
            match timeout(stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    if !partial.push(&chunk).map_err(Trouble::fault)? {
                        self.forget(partial).map_err(Trouble::fault)?;
                        return Err(Trouble::Damaged(format!("it has more than {} bytes", self.size)));
                    }
                    self.shared.meter.borrow_mut().fetched(chunk.len() as u64);
                }
                Ok(Ok(None)) if partial.is_full() => return Ok(()),
                Ok(Ok(None)) => return Err(Trouble::Interrupted("it ended too early".to_owned())),
                Ok(Err(error)) => return Err(broken(&error)),
                Err(_) => return Err(Trouble::Interrupted(format!("nothing came for {} s", stall.as_secs_f32()))),
            }
        }
    }
}

/// An etag without quotation marks and without the mark of a weak one.
pub(crate) fn unquoted(etag: &str) -> &str {
    let etag = etag.trim();
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// First, last and total of `bytes 5-9/10`.
fn parse_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_etags_are_read() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["", "bytes */10", "items 5-9/10", "bytes 5-/10", "bytes -9/10", "bytes 5-9"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
        assert_eq!(unquoted("W/\"abc\""), "abc");
        assert_eq!(unquoted("\"abc\""), "abc");
    }
}
