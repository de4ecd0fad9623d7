//! Ollama on this computer (or another that `OLLAMA_HOST` names): models of ours are registered through its API.
//!
//! What Ollama says inside an answer with status 200 counts like any other refusal. No token of anybody travels here,
//! and its model store is never written to directly.

use crate::sending::FilePart;
use peft_plan::{Fault, Result};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Where Ollama is when nobody says otherwise.
const PORT: u16 = 11434;
/// The first version that takes files by their hash in `/api/create`.
const NEEDED: [u64; 3] = [0, 5, 5];
/// Between two looks at whether the person had enough.
const TICK: Duration = Duration::from_millis(200);
/// Longest answer, and longest line of one.
const ANSWER_BYTES: usize = 16 << 20;

/// How long is waited for Ollama.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// For a connection and the first answer.
    pub probe: Duration,
    /// For the next sign of life while it works.
    pub work: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { probe: Duration::from_secs(3), work: Duration::from_mins(5) }
    }
}

/// A GGUF file that Ollama gets.
#[derive(Clone, Copy, Debug)]
pub struct Blob<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: &'a str,
}

/// What Ollama is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of so many were sent.
    Sending(u64, u64),
    /// In its own words.
    Says(String),
}

/// A running Ollama.
pub struct Ollama {
    address: Url,
    client: Client,
    runtime: Runtime,
    waiting: Waiting,
    /// Its version.
    pub version: String,
}

impl Ollama {
    /// Where `OLLAMA_HOST` says it is: a host, with a port or without, with a scheme or without.
    pub fn address(host: Option<&str>) -> Result<Url> {
        let text = host.map_or("", |host| host.trim().trim_end_matches('/'));
        let bad = || Fault::new("PS-CFG-001", format!("`OLLAMA_HOST` is `{text}`, which is no address of a computer."));
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if !matches!(scheme, "http" | "https") || !rest.chars().all(is_plain) {
            return Err(bad());
        }
        let named = if rest.starts_with(':') || rest.is_empty() { format!("127.0.0.1{rest}") } else { rest.to_owned() };
        let mut url = Url::parse(&format!("{scheme}://{named}")).map_err(|_| bad())?;
        // Ollama's own convention: with a scheme its usual port, without one 11434.
        if url.port().is_none() && !text.contains("://") {
            url.set_port(Some(PORT)).map_err(|()| bad())?;
        }
        // Where a server listens to everybody it is met on this computer.
        if matches!(url.host_str(), Some("0.0.0.0" | "[::]")) {
            url.set_host(Some("127.0.0.1")).map_err(|_| bad())?;
        }
        Ok(url)
    }

    /// Ask for its version. PS-OLL-001 where nobody answers, PS-OLL-003 for one that is too old.
    pub fn connect(address: &Url, waiting: Waiting) -> Result<Self> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let none = |error: &dyn std::fmt::Display| {
            Fault::new("PS-OLL-001", format!("Nobody answers for Ollama at {address} ({error})."))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| none(&e))?;
        let builder = || {
            Client::builder()
                .user_agent(concat!("peft-studio/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .no_proxy()
                .connect_timeout(waiting.probe)
        };
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build()).map_err(|e| none(&e))?;
        let mut ollama = Self { address: address.clone(), client, runtime, waiting, version: String::new() };
        let answer = ollama.runtime.block_on(async {
            let request = ollama.client.get(ollama.place("api/version")).timeout(waiting.probe).send();
            let response = request.await.map_err(|error| none(&plain(&error)))?;
            let (status, body) = ollama.body(response).await?;
            let version = serde_json::from_slice::<Value>(&body).ok();
            let version = version.and_then(|document| document["version"].as_str().map(str::to_owned));
            version
                .filter(|_| status.is_success())
                .ok_or_else(|| Fault::new("PS-OLL-001", format!("What answers at {address} is not Ollama ({status}).")))
        })?;
        ollama.version = answer.chars().filter(|c| !c.is_control()).take(40).collect();
        if is_older(&ollama.version) {
            let [a, b, c] = NEEDED;
            return Err(Fault::new(
                "PS-OLL-003",
                format!("Ollama at {address} is version {}; files are taken from {a}.{b}.{c} on.", ollama.version),
            ));
        }
        Ok(ollama)
    }

    /// Give it `file` and make the model that `request` describes (the document of `/api/create`). `on_step` may end
    /// it with `Break`; `false` then.
    pub fn register(
        &self,
        file: Blob,
        request: &Value,
        on_step: &mut dyn FnMut(&Step) -> ControlFlow<()>,
    ) -> Result<bool> {
        self.runtime.block_on(async {
            if !self.has(file).await? && !self.send(file, on_step).await? {
                return Ok(false);
            }
            self.create(request, on_step).await
        })
    }

    fn place(&self, path: &str) -> String {
        format!("{}/{path}", self.address.as_str().trim_end_matches('/'))
    }

    fn blob(&self, file: Blob) -> String {
        self.place(&format!("api/blobs/sha256:{}", file.sha256))
    }

    async fn has(&self, file: Blob<'_>) -> Result<bool> {
        let request = self.client.request(Method::HEAD, self.blob(file)).timeout(self.waiting.work);
        let response = request.send().await.map_err(|error| self.broke(&error))?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(self.refused(status, "")),
        }
    }

    async fn send(&self, file: Blob<'_>, on_step: &mut dyn FnMut(&Step) -> ControlFlow<()>) -> Result<bool> {
        let sent = Arc::new(AtomicU64::new(0));
        let part = FilePart::open(file.path, 0, file.bytes, &sent).map_err(|e| Fault::io("read", file.path, e))?;
        let work = async {
            let request = self.client.post(self.blob(file)).body(reqwest::Body::wrap(part));
            let response = request.send().await.map_err(|error| self.broke(&error))?;
            let (status, body) = self.body(response).await?;
            if status.is_success() { Ok(()) } else { Err(self.refused(status, &said(&body))) }
        };
        tokio::pin!(work);
        let (mut before, mut moved) = (0, Instant::now());
        loop {
            tokio::select! {
                result = &mut work => return result.map(|()| true),
                () = tokio::time::sleep(TICK) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now != before {
                        (before, moved) = (now, Instant::now());
                    } else if moved.elapsed() > self.waiting.work {
                        return Err(self.silent());
                    }
                    if on_step(&Step::Sending(now, file.bytes)).is_break() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    async fn create(&self, request: &Value, on_step: &mut dyn FnMut(&Step) -> ControlFlow<()>) -> Result<bool> {
        let body = request.to_string();
        let request = self.client.post(self.place("api/create")).header("content-type", "application/json").body(body);
        let mut response = match self.alive(request.send(), on_step).await? {
            Some(response) => response.map_err(|error| self.broke(&error))?,
            None => return Ok(false),
        };
        if !response.status().is_success() {
            let (status, body) = self.body(response).await?;
            return Err(self.refused(status, &said(&body)));
        }
        let (mut held, mut total, mut is_done) = (Vec::new(), 0, false);
        loop {
            let Some(chunk) = self.alive(response.chunk(), on_step).await? else { return Ok(false) };
            let chunk = chunk.map_err(|error| self.broke(&error))?;
            let is_over = chunk.is_none();
            held.extend_from_slice(&chunk.unwrap_or_default());
            total += held.len();
            if held.len() > ANSWER_BYTES || total > ANSWER_BYTES * 64 {
                return Err(self.failed("its answer has no end"));
            }
            // Whole lines, and at the end what is left.
            while let Some(end) =
                held.iter().position(|b| *b == b'\n').or((is_over && !held.is_empty()).then_some(held.len()))
            {
                let line: Vec<u8> = held.drain(..held.len().min(end + 1)).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let Ok(event) = serde_json::from_slice::<Value>(&line) else {
                    return Err(self.failed("it answered something that is not JSON"));
                };
                if let Some(error) = event.get("error") {
                    return Err(self.failed(&quoted(error.as_str().unwrap_or("no reason given"))));
                }
                let status = event["status"].as_str().unwrap_or_default();
                is_done |= status == "success";
                if on_step(&Step::Says(clean(status))).is_break() && !is_done {
                    return Ok(false);
                }
            }
            if is_over {
                return if is_done { Ok(true) } else { Err(self.failed("it ended without saying that it succeeded")) };
            }
        }
    }

    /// `work`, unless Ollama is silent for too long or the person had enough (`None`).
    async fn alive<T>(
        &self,
        work: impl Future<Output = T>,
        on_step: &mut dyn FnMut(&Step) -> ControlFlow<()>,
    ) -> Result<Option<T>> {
        tokio::pin!(work);
        let begun = Instant::now();
        loop {
            tokio::select! {
                result = &mut work => return Ok(Some(result)),
                () = tokio::time::sleep(TICK) => {
                    if begun.elapsed() > self.waiting.work {
                        return Err(self.silent());
                    }
                    if on_step(&Step::Says(String::new())).is_break() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn body(&self, mut response: Response) -> Result<(StatusCode, Vec<u8>)> {
        let status = response.status();
        let mut body = Vec::new();
        loop {
            match tokio::time::timeout(self.waiting.work, response.chunk()).await {
                Ok(Ok(Some(chunk))) if body.len() + chunk.len() <= ANSWER_BYTES => body.extend_from_slice(&chunk),
                Ok(Ok(Some(_))) => return Err(self.failed("its answer has no end")),
                Ok(Ok(None)) => return Ok((status, body)),
                Ok(Err(error)) => return Err(self.broke(&error)),
                Err(_) => return Err(self.silent()),
            }
        }
    }

    fn failed(&self, why: &str) -> Fault {
        Fault::new("PS-OLL-004", format!("Ollama {} at {} did not take the model: {why}.", self.version, self.address))
    }

    fn refused(&self, status: StatusCode, why: &str) -> Fault {
        let why = if why.is_empty() { String::new() } else { format!(", {}", quoted(why)) };
        self.failed(&format!("it answered {}{why}", status.as_u16()))
    }

    fn broke(&self, error: &reqwest::Error) -> Fault {
        self.failed(&format!("the connection broke ({})", plain(error)))
    }

    fn silent(&self) -> Fault {
        self.failed(&format!("it said nothing for {} s", self.waiting.work.as_secs().max(1)))
    }
}

/// The reason in a document of an error.
fn said(body: &[u8]) -> String {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    document.and_then(|document| document["error"].as_str().map(str::to_owned)).unwrap_or_default()
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", clean(text))
}

/// The innermost reason.
fn plain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(current) = next {
        text = current.to_string();
        next = current.source();
    }
    text
}

/// Whether `version` is older than what is needed. Versions that are no numbers are those of people who build their own.
fn is_older(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Option<Vec<u64>> = numbers.split('.').map(|part| part.parse().ok()).collect();
    parts.is_some_and(|parts| parts != [0, 0, 0] && parts.as_slice() < NEEDED.as_slice())
}

#[cfg(test)]
mod tests {
    use super::{Ollama, is_older};

    #[test]
    fn a_host_is_read_as_ollama_reads_it() {
        let address = |host: &str| Ollama::address(Some(host)).expect(host).to_string();
        assert_eq!(Ollama::address(None).expect("the usual place").as_str(), "http://127.0.0.1:11434/");
        assert_eq!(address("0.0.0.0"), "http://127.0.0.1:11434/");
        assert_eq!(address("pi.local:8080/"), "http://pi.local:8080/");
        assert_eq!(address(":9000"), "http://127.0.0.1:9000/");
        assert_eq!(address("https://models.example"), "https://models.example/");
        for bad in ["ftp://a", "user@host", "a b", "host/path?x=1"] {
            assert_eq!(Ollama::address(Some(bad)).expect_err(bad).code, "PS-CFG-001");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_older("0.5.4") && is_older("0.3.14") && is_older("0.1"));
        for new in ["0.5.5", "0.12.0", "1.0.0-rc1", "0.0.0", "built-here"] {
            assert!(!is_older(new), "{new}");
        }
    }
}
