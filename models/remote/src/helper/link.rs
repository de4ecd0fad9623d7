//! One request to a helper: no redirect is followed, no wait and no answer is without an end, and the key is never told.

use super::address::{HelperPatience, HelperSettings};
use super::line::Lines;
use super::no::{self, clean};
use peft_plan::helper::{OnPiece, Setback};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, Url, redirect};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Longest answer that is not streamed, bytes: prices of all models of a service, vectors of a batch.
const DOCUMENT_BYTES: usize = 64 << 20;
/// Longest streamed answer, bytes as they come.
const STREAM_BYTES: usize = 32 << 20;
/// Between two looks at whether the person had enough.
const TICK: Duration = Duration::from_millis(200);

/// What a line of a stream brought.
pub(crate) enum Heard {
    /// Words of the answer.
    Piece(String),
    /// A sign of life.
    Nothing,
    /// The answer is over.
    Over,
}

/// Hears the lines of a streamed answer.
pub(crate) trait Listener {
    /// One line.
    fn line(&mut self, line: &[u8]) -> Result<Heard, Setback>;
    /// What came was one document and no stream.
    fn document(&mut self, document: &Value) -> Result<Heard, Setback>;
    /// The stream ended: whether the answer was over, although nothing said so last.
    fn is_over(&self) -> bool;
}

/// The way to one service.
pub(crate) struct Link {
    client: Client,
    runtime: Runtime,
    base: Url,
    authorization: Option<HeaderValue>,
    secret: Option<String>,
    patience: HelperPatience,
    pub(crate) who: String,
}

impl Link {
    /// Opens no socket.
    pub(crate) fn new(settings: &HelperSettings) -> Result<Self, Setback> {
        // Where another part of the process was faster, its provider is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let HelperSettings { base, key, patience, .. } = settings;
        let is_here = settings.is_here();
        let builder = || {
            // A connection that rests is one that the other side may have left.
            let builder = Client::builder()
                .user_agent(concat!("peft-studio/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .referer(false)
                .connect_timeout(patience.connect)
                .pool_max_idle_per_host(0);
            if is_here { builder.no_proxy() } else { builder }
        };
        let client = builder()
            .build()
            .or_else(|_| builder().tls_certs_only([]).build())
            .map_err(|error| Setback::Absent(innermost(&error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Setback::Absent(error.to_string()))?;
        let authorization = key.as_ref().map(|key| bearer(key.secret())).transpose()?;
        let secret = key.as_ref().map(|key| key.secret().to_owned());
        let (base, patience, who) = (base.clone(), *patience, settings.who());
        Ok(Self { client, runtime, base, authorization, secret, patience, who })
    }

    /// A document.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Setback> {
        self.runtime.block_on(self.document(self.client.get(self.place(path))))
    }

    /// A document for a document.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Setback> {
        self.runtime.block_on(self.document(self.posting(path, body)))
    }

    /// An answer in pieces. Ends well only where the service says that it is over.
    pub(crate) fn stream(
        &self,
        path: &str,
        body: &Value,
        listener: &mut dyn Listener,
        on_piece: &mut OnPiece,
    ) -> Result<(), Setback> {
        self.runtime.block_on(self.streamed(self.posting(path, body), listener, on_piece))
    }

    fn posting(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(self.place(path)).header(CONTENT_TYPE, "application/json").body(body.to_string())
    }

    fn place(&self, path: &str) -> String {
        format!("{}/{path}", self.base.as_str().trim_end_matches('/'))
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        }
    }

    async fn document(&self, request: RequestBuilder) -> Result<Value, Setback> {
        let first = self.patience.first;
        let response = tokio::time::timeout(first, self.signed(request).send()).await;
        let response = response.map_err(|_| Setback::Silent(first))?.map_err(|error| self.unsent(&error))?;
        let response = self.accepted(response).await?;
        let bytes = self.body(response, DOCUMENT_BYTES).await?;
        self.parsed(&bytes)
    }

    async fn streamed(
        &self,
        request: RequestBuilder,
        listener: &mut dyn Listener,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<(), Setback> {
        let begun = Instant::now();
        let sending = self.signed(request).send();
        let response = self.alive(sending, self.patience.first, begun, on_piece).await?;
        let mut response = self.accepted(response.map_err(|error| self.unsent(&error))?).await?;
        if is_document(response.headers()) {
            let bytes = self.alive(self.body(response, DOCUMENT_BYTES), self.patience.whole, begun, on_piece).await??;
            return match listener.document(&self.parsed(&bytes)?).map_err(|why| self.discreet(why))? {
                Heard::Piece(text) if on_piece(&text).is_break() => Err(Setback::Enough),
                _ => Ok(()),
            };
        }
        let (mut lines, mut total, mut limit) = (Lines::default(), 0, self.patience.first);
        loop {
            let chunk = self.alive(response.chunk(), limit, begun, on_piece).await?;
            let Some(chunk) = chunk.map_err(|error| Setback::Broken(self.innermost(&error)))? else { break };
            limit = self.patience.idle;
            total += chunk.len();
            if !lines.push(&chunk) || total > STREAM_BYTES {
                return Err(Setback::Nonsense("its answer has no end".to_owned()));
            }
            while let Some(line) = lines.next() {
                if self.heard(&line, listener, on_piece)? {
                    return Ok(());
                }
            }
        }
        // The last line may lack its end.
        match lines.rest() {
            Some(line) if self.heard(&line, listener, on_piece)? => Ok(()),
            _ if listener.is_over() => Ok(()),
            _ => Err(Setback::Broken("it ended without saying that it was over".to_owned())),
        }
    }

    fn heard(&self, line: &[u8], listener: &mut dyn Listener, on_piece: &mut OnPiece) -> Result<bool, Setback> {
        match listener.line(line).map_err(|why| self.discreet(why))? {
            Heard::Piece(text) if on_piece(&text).is_break() => Err(Setback::Enough),
            Heard::Piece(_) | Heard::Nothing => Ok(false),
            Heard::Over => Ok(true),
        }
    }

    /// `work`, unless it takes longer than `limit`, or the whole answer too long, or the person had enough.
    async fn alive<T>(
        &self,
        work: impl Future<Output = T>,
        limit: Duration,
        begun: Instant,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<T, Setback> {
        tokio::pin!(work);
        let waiting = Instant::now();
        loop {
            tokio::select! {
                result = &mut work => return Ok(result),
                () = tokio::time::sleep(TICK.min(limit)) => {
                    if waiting.elapsed() >= limit {
                        return Err(Setback::Silent(limit));
                    }
                    if begun.elapsed() >= self.patience.whole {
                        return Err(Setback::Silent(self.patience.whole));
                    }
                    if on_piece("").is_break() {
                        return Err(Setback::Enough);
                    }
                }
            }
        }
    }

    /// The answer, if it is one.
    async fn accepted(&self, response: Response) -> Result<Response, Setback> {
        let status = response.status();
        if status.is_redirection() {
            let why = "it sends us elsewhere, and neither key nor documents go there; use the address it moved to";
            return Err(Setback::Nonsense(why.to_owned()));
        }
        if status.is_success() {
            return if is_web_page(response.headers()) {
                Err(Setback::Nonsense("a web page came in place of an answer".to_owned()))
            } else {
                Ok(response)
            };
        }
        let wait = retry_after(response.headers());
        let body = self.body(response, 1 << 20).await.unwrap_or_default();
        let said = serde_json::from_slice::<Value>(&body).ok().and_then(|document| no::said(&document));
        let mut said = said.unwrap_or_default();
        said.message = self.without_secret(&said.message);
        Err(no::meaning(status.as_u16(), &said, wait))
    }

    async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, Setback> {
        let idle = self.patience.idle;
        let mut bytes = Vec::new();
        loop {
            match tokio::time::timeout(idle, response.chunk()).await {
                Ok(Ok(Some(chunk))) if bytes.len() + chunk.len() <= limit => bytes.extend_from_slice(&chunk),
                Ok(Ok(Some(_))) => return Err(Setback::Nonsense("its answer has no end".to_owned())),
                Ok(Ok(None)) => return Ok(bytes),
                Ok(Err(error)) => return Err(Setback::Broken(self.innermost(&error))),
                Err(_) => return Err(Setback::Silent(idle)),
            }
        }
    }

    fn parsed(&self, bytes: &[u8]) -> Result<Value, Setback> {
        let document: Value = serde_json::from_slice(bytes).map_err(|error| {
            if error.is_eof() {
                Setback::Broken("half a document came".to_owned())
            } else {
                Setback::Nonsense("it is not JSON".to_owned())
            }
        })?;
        match no::said(&document) {
            Some(said) => Err(self.discreet(no::meaning(200, &said, None))),
            None => Ok(document),
        }
    }

    fn unsent(&self, error: &reqwest::Error) -> Setback {
        let why = self.innermost(error);
        if error.is_connect() || error.is_timeout() { Setback::Absent(why) } else { Setback::Broken(why) }
    }

    fn innermost(&self, error: &reqwest::Error) -> String {
        self.without_secret(&innermost(error))
    }

    /// A service may repeat the key in what it says.
    fn without_secret(&self, text: &str) -> String {
        let text = clean(text);
        match &self.secret {
            Some(secret) if secret.len() >= 4 => text.replace(secret, "…"),
            _ => text,
        }
    }

    fn discreet(&self, setback: Setback) -> Setback {
        match setback {
            Setback::Failed(why) => Setback::Failed(self.without_secret(&why)),
            Setback::Declined(why) => Setback::Declined(self.without_secret(&why)),
            Setback::Key(why) => Setback::Key(self.without_secret(&why)),
            Setback::Credit(why) => Setback::Credit(self.without_secret(&why)),
            Setback::NoModel(why) => Setback::NoModel(self.without_secret(&why)),
            Setback::TooLong(why) => Setback::TooLong(self.without_secret(&why)),
            other => other,
        }
    }
}

fn bearer(secret: &str) -> Result<HeaderValue, Setback> {
    let value = HeaderValue::from_str(&format!("Bearer {secret}"));
    let mut value = value.map_err(|_| Setback::Key("it holds characters that no key has; copy it again".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn kind(headers: &HeaderMap) -> String {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_web_page(headers: &HeaderMap) -> bool {
    kind(headers).starts_with("text/html")
}

fn is_document(headers: &HeaderMap) -> bool {
    kind(headers).starts_with("application/json")
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|value| value.parse().ok()).map(Duration::from_millis);
    milliseconds.or_else(|| text(RETRY_AFTER.as_str())?.parse().ok().map(Duration::from_secs))
}

/// The innermost reason, which names no address and no header.
fn innermost(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(current) = next {
        text = current.to_string();
        next = current.source();
    }
    if text.is_empty() { "the connection failed".to_owned() } else { clean(&text) }
}
