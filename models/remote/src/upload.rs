//! A folder onto the hub: a repository of one's own, large files first, then one commit that names them all.
//!
//! Large files are known by their hash: those that the hub has are not sent again, so the same command goes on where
//! an earlier one stopped. Until the commit nobody sees anything of it.

use crate::api::Hub;
use crate::http::{Answer, DOCUMENT_BYTES, busy, is_web_page};
use crate::name::RepositoryId;
use crate::progress::{Event, Meter};
use crate::sending::FilePart;
use crate::trouble::{Budget, Trouble};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use peft_plan::{Fault, Result};
use reqwest::{StatusCode, Url};
use serde::Serialize;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Files of one question.
const AT_ONCE: usize = 100;
/// Bytes of a file that the hub wants to look at.
const SAMPLE_BYTES: u64 = 512;
/// Largest file that travels inside a commit.
const REGULAR_BYTES: u64 = 32 << 20;
/// Between two looks at whether the person had enough.
const TICK: Duration = Duration::from_millis(200);
/// Most parts of a file.
const PARTS: u64 = 10_000;

/// A file that goes to the hub.
#[derive(Clone, Debug)]
pub struct LocalFile {
    /// Its path in the repository.
    pub path: String,
    /// Where it is.
    pub from: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
}

/// What goes where.
#[derive(Clone, Debug)]
pub struct Upload {
    /// `owner/name`, or a name of the token's owner.
    pub id: RepositoryId,
    /// Nobody else sees it.
    pub private: bool,
    /// What the commit is called.
    pub summary: String,
    /// The files.
    pub files: Vec<LocalFile>,
}

/// What is on the hub now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uploaded {
    /// Its id.
    pub id: String,
    /// Its page.
    pub url: String,
    /// The commit.
    pub commit: String,
    /// Bytes that travelled, those of small files apart.
    pub sent_bytes: u64,
}

/// What an upload tells while it works.
struct Told<'a> {
    events: RefCell<Vec<Event>>,
    meter: RefCell<Meter>,
    sent: &'a Arc<AtomicU64>,
}

impl Hub {
    /// Upload; `on_event` hears how far it is and may end it with `Break` (`None` then).
    pub fn upload(
        &self,
        upload: &Upload,
        on_event: &mut dyn FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<Option<Uploaded>> {
        let sent = Arc::new(AtomicU64::new(0));
        let total = upload.files.iter().map(|file| file.bytes).sum();
        let told = Told { events: RefCell::default(), meter: RefCell::new(Meter::new(total)), sent: &sent };
        self.runtime.block_on(async {
            let work = self.put_all(upload, &told);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    result = &mut work => return result.map(Some),
                    () = tokio::time::sleep(TICK) => {
                        let events = std::mem::take(&mut *told.events.borrow_mut());
                        let progress = Event::Progress(told.meter.borrow_mut().at(Instant::now()));
                        if events.iter().chain([&progress]).any(|event| on_event(event).is_break()) {
                            return Ok(None);
                        }
                    }
                }
            }
        })
    }

    async fn put_all(&self, upload: &Upload, told: &Told<'_>) -> Result<Uploaded> {
        if self.settings.token.is_none() {
            return Err(Fault::new("PS-AUTH-002", "Nothing is uploaded without a token that may write.")
                .action("Make a write token at huggingface.co/settings/tokens and set HF_TOKEN to it", None));
        }
        let id = self.owned(&upload.id).await?;
        self.make_repository(&id, upload.private).await?;
        let mut lines = vec![json!({"key": "header", "value": {"summary": upload.summary, "description": ""}})];
        for files in upload.files.chunks(AT_ONCE) {
            let large = self.sort(&id, files).await?;
            let is_large = |file: &&LocalFile| large.contains(&file.path);
            self.send_large(&id, &files.iter().filter(is_large).collect::<Vec<_>>(), told).await?;
            for file in files {
                lines.push(if is_large(&file) {
                    json!({"key": "lfsFile", "value": {"path": file.path, "algo": "sha256", "oid": file.sha256, "size": file.bytes}})
                } else {
                    told.meter.borrow_mut().fetched(file.bytes);
                    let content = STANDARD.encode(small(file)?);
                    json!({"key": "file", "value": {"path": file.path, "encoding": "base64", "content": content}})
                });
            }
        }
        let body = lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
        let url = self.below(&["api", "models"], &id, &["commit", "main"]);
        let done = self.said(url, "application/x-ndjson", body.into_bytes(), "The commit").await?;
        let commit = done["commitOid"].as_str().unwrap_or_default().to_owned();
        if commit.is_empty() {
            return Err(stopped("The commit", &Trouble::Confused("the hub named no commit".to_owned())));
        }
        let url = self.http.address(id.as_str().split('/')).to_string();
        Ok(Uploaded { id: id.to_string(), url, commit, sent_bytes: told.sent.load(Ordering::Relaxed) })
    }

    /// The id with its owner; PS-AUTH-004 for a token that can only read.
    async fn owned(&self, id: &RepositoryId) -> Result<RepositoryId> {
        let url = self.http.address(["api", "whoami-v2"]);
        let mut budget = Budget::new(&self.settings.patience);
        let who = loop {
            let result = match self.http.get(url.clone(), None).await {
                Ok(answer) => self.judge(answer).await,
                Err(trouble) => Err(trouble),
            };
            match result {
                Ok(document) => break document,
                Err(trouble) => self.wait(&mut budget, trouble, "Who the token belongs to").await?,
            }
        };
        if who["auth"]["accessToken"]["role"] == "read" {
            return Err(self.may_not_write("it is a token that can only read"));
        }
        if id.as_str().contains('/') {
            return Ok(id.clone());
        }
        let owner = who["name"].as_str().and_then(|name| RepositoryId::new(&format!("{name}/{id}")));
        owner.ok_or_else(|| Fault::new("PS-CFG-001", format!("Say whose repository `{id}` is: `--repo OWNER/{id}`")))
    }

    /// A repository that is there already is used, but nothing that should be private goes into one that is not.
    async fn make_repository(&self, id: &RepositoryId, private: bool) -> Result<()> {
        let owner = id.as_str().split('/').next().unwrap_or_default();
        let body = json!({"name": id.name(), "organization": owner, "type": "model", "private": private});
        let url = self.http.address(["api", "repos", "create"]);
        let what = format!("The repository `{id}`");
        if !self.create(url, &body, &what).await? || !private {
            return Ok(());
        }
        let mut budget = Budget::new(&self.settings.patience);
        let about = loop {
            let result = match self.http.get(self.below(&["api", "models"], id, &[]), None).await {
                Ok(answer) => self.judge(answer).await,
                Err(trouble) => Err(trouble),
            };
            match result {
                Ok(document) => break document,
                Err(trouble) => self.wait(&mut budget, trouble, &what).await?,
            }
        };
        if about["private"] == true {
            return Ok(());
        }
        let detail = format!("`{id}` is on the hub already and everybody can read it. Nothing was uploaded.");
        Err(Fault::new("PS-CFG-001", detail)
            .action("Say that everybody may read it: `--public`", None)
            .action("Take another name with `--repo`", None))
    }

    /// `true`: it was there already.
    async fn create(&self, url: Url, body: &Value, what: &str) -> Result<bool> {
        let mut budget = Budget::new(&self.settings.patience);
        loop {
            let trouble = match self.http.post(url.clone(), "application/json", body.to_string().into_bytes()).await {
                Ok(answer) if answer.response.status() == StatusCode::CONFLICT => return Ok(true),
                Ok(answer) => match self.judge(answer).await {
                    Ok(_) => return Ok(false),
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            self.wait(&mut budget, trouble, what).await?;
        }
    }

    /// Paths of `files` that the hub wants as large ones.
    async fn sort(&self, id: &RepositoryId, files: &[LocalFile]) -> Result<Vec<String>> {
        let asked = files.iter().map(|file| {
            let mut sample = Vec::new();
            let open = std::fs::File::open(&file.from);
            open.and_then(|content| content.take(SAMPLE_BYTES).read_to_end(&mut sample))
                .map_err(|error| Fault::io("read", &file.from, error))?;
            Ok(json!({"path": file.path, "size": file.bytes, "sample": STANDARD.encode(sample)}))
        });
        let asked = json!({"files": asked.collect::<Result<Vec<_>>>()?});
        let url = self.below(&["api", "models"], id, &["preupload", "main"]);
        let answer = self.said(url, "application/json", asked.to_string().into_bytes(), "The list of files").await?;
        let modes = answer["files"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_large = |file: &&LocalFile| {
            let mode = modes.iter().find(|mode| mode["path"] == file.path.as_str());
            // Empty files have no place among the large ones, and what is too large for a commit has none there.
            file.bytes > REGULAR_BYTES || file.bytes > 0 && mode.is_some_and(|mode| mode["uploadMode"] == "lfs")
        };
        Ok(files.iter().filter(is_large).map(|file| file.path.clone()).collect())
    }

    async fn send_large(&self, id: &RepositoryId, files: &[&LocalFile], told: &Told<'_>) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        for file in files {
            let mut budget = Budget::new(&self.settings.patience);
            loop {
                // Addresses run out; each try gets new ones.
                let before = told.sent.load(Ordering::Relaxed);
                match self.send_one(id, file, told).await? {
                    Ok(was_here) => {
                        told.meter.borrow_mut().found(if was_here { file.bytes } else { 0 });
                        let event = Event::Verified { file: file.path.clone(), bytes: file.bytes, was_here };
                        told.events.borrow_mut().push(event);
                        break;
                    }
                    Err(trouble) => {
                        let lost = told.sent.load(Ordering::Relaxed) - before;
                        told.sent.fetch_sub(lost, Ordering::Relaxed);
                        self.wait(&mut budget, trouble, &format!("`{}`", file.path)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// `true`: the hub had it already.
    async fn send_one(&self, id: &RepositoryId, file: &LocalFile, told: &Told<'_>) -> Result<Result<bool, Trouble>> {
        let what = format!("`{}`", file.path);
        let mut url = self.http.address(id.as_str().split('/'));
        url.set_path(&format!("{}.git/info/lfs/objects/batch", url.path().trim_end_matches('/')));
        let asked = json!({"operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
            "objects": [{"oid": file.sha256, "size": file.bytes}], "ref": {"name": "main"}});
        let answer = self.said(url, "application/vnd.git-lfs+json", asked.to_string().into_bytes(), &what).await?;
        let object = &answer["objects"][0];
        if object["oid"] != file.sha256.as_str() {
            return Ok(Err(Trouble::Confused("the hub speaks of another file".to_owned())));
        }
        if let Some(error) = object.get("error") {
            let why: String = error["message"].as_str().unwrap_or("no reason given").chars().take(300).collect();
            return Err(Fault::new("PS-EXP-003", format!("The hub does not take {what}: {why}.")));
        }
        let Some(actions) = object.get("actions").filter(|actions| !actions.is_null()) else { return Ok(Ok(true)) };
        let action = &actions["upload"];
        let address = |text: &Value| text.as_str().and_then(|text| Url::parse(text).ok());
        let Some(target) = address(&action["href"]) else {
            return Ok(Err(Trouble::Confused("the hub named no address for the file".to_owned())));
        };
        let headers: Vec<(String, String)> = action["header"].as_object().map_or_else(Vec::new, |headers| {
            headers.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        });
        let size = headers.iter().find(|(name, _)| name == "chunk_size").and_then(|(_, size)| size.parse::<u64>().ok());
        let sent = match size {
            Some(size) if size > 0 && file.bytes.div_ceil(size) <= PARTS => {
                self.send_parts(file, target, size, &headers, told).await?
            }
            Some(_) => Err(Trouble::Confused("the hub wants parts of no possible size".to_owned())),
            None => self.send_part(file, (0, file.bytes), target, &headers, told).await?.map(drop),
        };
        if let Err(trouble) = sent {
            return Ok(Err(trouble));
        }
        if let Some(verify) = address(&actions["verify"]["href"]) {
            let body = json!({"oid": file.sha256, "size": file.bytes}).to_string().into_bytes();
            let answer = match self.http.post(verify, "application/vnd.git-lfs+json", body).await {
                Ok(answer) => Self::judge_empty(&answer),
                Err(trouble) => Err(trouble),
            };
            return Ok(answer.map(|()| false));
        }
        Ok(Ok(false))
    }

    /// In parts of `size` bytes, whose addresses stand in the headers under their numbers.
    async fn send_parts(
        &self,
        file: &LocalFile,
        target: Url,
        size: u64,
        headers: &[(String, String)],
        told: &Told<'_>,
    ) -> Result<Result<(), Trouble>> {
        let mut parts = Vec::new();
        for number in 1..=file.bytes.div_ceil(size) {
            let place = headers.iter().find(|(name, _)| name.parse() == Ok(number));
            let Some(url) = place.and_then(|(_, text)| Url::parse(text).ok()) else {
                return Ok(Err(Trouble::Confused(format!("the hub named no address for part {number}"))));
            };
            let from = (number - 1) * size;
            let range = (from, size.min(file.bytes - from));
            match self.keep_sending(file, range, &url, told).await? {
                Ok(Some(etag)) => parts.push(json!({"partNumber": number, "etag": etag})),
                Ok(None) => return Ok(Err(Trouble::Confused(format!("part {number} was answered without its etag")))),
                Err(trouble) => return Ok(Err(trouble)),
            }
        }
        let body = json!({"oid": file.sha256, "parts": parts}).to_string().into_bytes();
        Ok(match self.http.post(target, "application/vnd.git-lfs+json", body).await {
            Ok(answer) => Self::judge_empty(&answer),
            Err(trouble) => Err(trouble),
        })
    }

    /// A part whose connection broke is sent again under its address; the parts before it stay where they are. What
    /// the address itself refuses has run out, and is for the caller.
    async fn keep_sending(
        &self,
        file: &LocalFile,
        range: (u64, u64),
        url: &Url,
        told: &Told<'_>,
    ) -> Result<Result<Option<String>, Trouble>> {
        let mut budget = Budget::new(&self.settings.patience);
        loop {
            let before = told.sent.load(Ordering::Relaxed);
            let trouble = match self.send_part(file, range, url.clone(), &[], told).await? {
                Err(trouble @ (Trouble::Interrupted(_) | Trouble::Busy(500..))) => trouble,
                done => return Ok(done),
            };
            told.sent.fetch_sub(told.sent.load(Ordering::Relaxed) - before, Ordering::Relaxed);
            self.wait(&mut budget, trouble, &format!("`{}`", file.path)).await?;
        }
    }

    /// The `ETag` of the answer, where it has one.
    async fn send_part(
        &self,
        file: &LocalFile,
        (from, length): (u64, u64),
        url: Url,
        headers: &[(String, String)],
        told: &Told<'_>,
    ) -> Result<Result<Option<String>, Trouble>> {
        let part = FilePart::open(&file.from, from, length, told.sent)
            .map_err(|error| Fault::io("read", &file.from, error))?;
        let work = self.http.put(url, headers, reqwest::Body::wrap(part));
        tokio::pin!(work);
        let (mut before, mut moved) = (told.sent.load(Ordering::Relaxed), Instant::now());
        let stall = self.settings.patience.stall;
        let response = loop {
            tokio::select! {
                result = &mut work => break result,
                () = tokio::time::sleep(TICK.min(stall)) => {
                    let now = told.sent.load(Ordering::Relaxed);
                    if now != before {
                        told.meter.borrow_mut().fetched(now - before);
                        (before, moved) = (now, Instant::now());
                    } else if moved.elapsed() > stall * 6 {
                        break Err(Trouble::Interrupted(format!("nothing moved for {:?}", stall * 6)));
                    }
                }
            }
        };
        let response = match response {
            Ok(response) => response,
            Err(trouble) => return Ok(Err(trouble)),
        };
        if let Some(trouble) = busy(&response) {
            return Ok(Err(trouble));
        }
        Ok(match response.status().as_u16() {
            200..=299 => Ok(response.headers().get("etag").and_then(|etag| etag.to_str().ok()).map(str::to_owned)),
            413 => {
                let detail = format!("`{}` is larger than the hub's storage takes. Nothing was committed.", file.path);
                Err(Trouble::fault(Fault::new("PS-EXP-003", detail)))
            }
            // An address that ran out; the next try gets another.
            status => Err(Trouble::Busy(status)),
        })
    }

    /// The document that the hub answers with, after as many tries as are worth it.
    async fn said(&self, url: Url, kind: &'static str, body: Vec<u8>, what: &str) -> Result<Value> {
        let mut budget = Budget::new(&self.settings.patience);
        loop {
            let result = match self.http.post(url.clone(), kind, body.clone()).await {
                Ok(answer) => self.judge(answer).await,
                Err(trouble) => Err(trouble),
            };
            match result {
                Ok(document) => return Ok(document),
                Err(trouble) => self.wait(&mut budget, trouble, what).await?,
            }
        }
    }

    fn judge_empty(answer: &Answer) -> Result<(), Trouble> {
        match busy(&answer.response) {
            Some(trouble) => Err(trouble),
            None if answer.response.status().is_success() => Ok(()),
            None => Err(Trouble::Busy(answer.response.status().as_u16())),
        }
    }

    async fn judge(&self, answer: Answer) -> Result<Value, Trouble> {
        if let Some(trouble) = busy(&answer.response) {
            return Err(trouble);
        }
        let status = answer.response.status();
        let is_page = is_web_page(answer.response.headers());
        if status.is_success() && is_page {
            return Err(Trouble::WebPage);
        }
        let told = answer.hub_headers.get("x-error-message").and_then(|text| text.to_str().ok()).map(str::to_owned);
        let body = self.http.body(answer.response, DOCUMENT_BYTES).await?;
        let document: Option<Value> = serde_json::from_slice(&body).ok();
        if status.is_success() {
            return document.ok_or_else(|| Trouble::Confused("the hub's answer is not JSON".to_owned()));
        }
        let said = document.and_then(|document| document["error"].as_str().map(str::to_owned)).or(told);
        let why: String = said.unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect();
        let why = if why.is_empty() { format!("it answered {}", status.as_u16()) } else { format!("\"{why}\"") };
        Err(Trouble::fault(match status.as_u16() {
            401 => {
                let source = self.settings.token_source.as_deref().unwrap_or("your settings");
                Fault::new(
                    "PS-AUTH-003",
                    format!("{} does not accept the token from {source}.", self.settings.endpoint),
                )
            }
            403 => self.may_not_write(&why),
            _ => Fault::new("PS-EXP-003", format!("{} does not take the upload: {why}.", self.http.host())),
        }))
    }

    fn may_not_write(&self, why: &str) -> Fault {
        let source = self.settings.token_source.as_deref().unwrap_or("your settings");
        Fault::new("PS-AUTH-004", format!("The token from {source} may not write there: {why}."))
    }

    fn below(&self, before: &[&str], id: &RepositoryId, after: &[&str]) -> Url {
        self.http.address(before.iter().copied().chain(id.as_str().split('/')).chain(after.iter().copied()))
    }

    async fn wait(&self, budget: &mut Budget<'_>, trouble: Trouble, what: &str) -> Result<()> {
        let (wait, _) = budget.next(trouble).map_err(|trouble| match trouble {
            Trouble::Final(fault) => *fault,
            trouble => stopped(what, &trouble),
        })?;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn stopped(what: &str, trouble: &Trouble) -> Fault {
    let detail =
        format!("{what} did not get to the hub: {}. The folder is here; the same command goes on.", trouble.reason());
    Fault::new("PS-EXP-003", detail)
}

fn small(file: &LocalFile) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let open = std::fs::File::open(&file.from);
    open.and_then(|open| open.take(REGULAR_BYTES + 1).read_to_end(&mut content))
        .map_err(|error| Fault::io("read", &file.from, error))?;
    Ok(content)
}
