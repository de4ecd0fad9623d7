//! Connections: routes, bodies within their limits, answers as documents or streams.

use super::answer::{Frame, Refused, Shape, embeddings, event, model as model_document, models};
use super::question::{Asked, chat, completion, document, embedding, model};
use super::{Job, Offer, Told, export, guard};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Bytes, Frame as Part, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Longest body of a request.
const BODY_BYTES: usize = 8 << 20;
/// A body, or the head of a request, takes at most so long to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections at the same time; others wait.
const CONNECTIONS: usize = 256;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What all connections know.
pub(super) struct Shared {
    offer: Offer,
    key: Option<String>,
    address: SocketAddr,
    jobs: SyncSender<Job>,
    room: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(offer: Offer, key: Option<String>, address: SocketAddr, jobs: SyncSender<Job>) -> Self {
        Self { offer, key, address, jobs, room: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// Put a question into the queue.
    fn ask(&self, job: Job) -> Result<(), Refused> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Refused::new(429, "Too many questions are waiting; try again later", None),
            TrySendError::Disconnected(_) => Refused::new(503, "The server is about to end", None),
        })
    }
}

/// Take connections until the other end of `ended` is gone.
pub(super) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut ended: watch::Receiver<()>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let room = Arc::clone(&shared.room).acquire_owned().await.ok();
        let stream = tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                stream
            } else {
                // Out of file handles, or the caller was gone at once: others may be luckier.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            },
            _ = ended.changed() => return Ok(()),
        };
        // Small events are not to wait for larger ones.
        drop(stream.set_nodelay(true));
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(respond(request, &shared).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever hung up has been answered as far as they wanted.
            drop(connection.await);
            drop(room);
        });
    }
}

async fn respond(request: Request<Incoming>, shared: &Arc<Shared>) -> Response<Body> {
    match route(request, shared).await {
        Ok(response) => response,
        Err(refused) => {
            let mut response = json(&refused.document());
            *response.status_mut() = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            if refused.status == 429 {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            response
        }
    }
}

async fn route(request: Request<Incoming>, shared: &Arc<Shared>) -> Result<Response<Body>, Refused> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    if path == "/health" {
        return Ok(json(&serde_json::json!({"status": "ok"})));
    }
    guard::check(request.headers(), shared.key.as_deref(), shared.address)?;
    let names = match &shared.offer {
        Offer::Model(names) => names,
        Offer::Exports => return exported(request, &path, shared).await,
    };
    match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/models") => Ok(json(&models(names))),
        (&Method::GET, other) if other.starts_with("/v1/models/") => {
            let name = &other["/v1/models/".len()..];
            match names.iter().find(|known| *known == name || known.replace('/', "%2F") == name) {
                Some(known) => Ok(json(&model_document(known))),
                None => Err(Refused::new(404, "That model is not served", Some("model_not_found"))),
            }
        }
        (&Method::POST, "/v1/chat/completions") => {
            let asked = chat(&document(&body(request).await?)?, names)?;
            answer(asked, Shape::Chat, shared).await
        }
        (&Method::POST, "/v1/completions") => {
            let asked = completion(&document(&body(request).await?)?, names)?;
            answer(asked, Shape::Text, shared).await
        }
        (&Method::POST, "/v1/embeddings") => embed(&body(request).await?, names, shared).await,
        (_, "/v1/models" | "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings") => {
            Err(Refused::new(405, "This address is asked in another way (GET for models, POST for the others)", None))
        }
        _ => Err(Refused::new(404, "There is nothing at this address; the API begins with /v1/", None)),
    }
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Refused> {
    let limited = Limited::new(request.into_body(), BODY_BYTES);
    match timeout(PATIENCE, limited.collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refused::new(413, &format!("The body is longer than {BODY_BYTES} bytes"), None))
        }
        Ok(Err(_)) => Err(Refused::new(400, "The body did not arrive whole", None)),
        Err(_) => Err(Refused::new(408, "The body took too long to arrive", None)),
    }
}

async fn answer(asked: Asked, shape: Shape, shared: &Arc<Shared>) -> Result<Response<Body>, Refused> {
    let Asked { questions, stream, include_usage } = asked;
    let name = questions.first().map(|question| question.model.clone()).unwrap_or_default();
    let frame = Frame::new(shape, &name);
    let mut replies = Vec::with_capacity(questions.len());
    for question in questions {
        let (to, mut from) = unbounded_channel();
        shared.ask(Job::Answer(question, to))?;
        if stream {
            // What is wrong with the question comes before any text, as an answer of its own.
            let first = from.recv().await;
            if let Some(Told::Failed(fault)) = &first {
                return Err(Refused::of_fault(fault));
            }
            return Ok(events(Streamed { frame, from, first, include_usage, state: State::Opening }));
        }
        replies.push(loop {
            match from.recv().await {
                Some(Told::Done(reply)) => break reply,
                Some(Told::Failed(fault)) => return Err(Refused::of_fault(&fault)),
                Some(Told::Text(_) | Told::Embedded(..) | Told::Exported(_)) => {}
                None => return Err(Refused::new(503, "The server ended before the answer did", None)),
            }
        });
    }
    Ok(json(&frame.whole(&replies)))
}

/// The one route of a server that writes datasets.
async fn exported(request: Request<Incoming>, path: &str, shared: &Arc<Shared>) -> Result<Response<Body>, Refused> {
    if path != export::PATH {
        return Err(Refused::new(
            404,
            &format!("There is nothing at this address; datasets are at {}", export::PATH),
            None,
        ));
    }
    if request.method() != Method::POST {
        return Err(Refused::new(405, "This address is asked with POST", None));
    }
    let wanted = export::request(&document(&body(request).await?)?)?;
    let (to, mut from) = unbounded_channel();
    shared.ask(Job::Export(wanted, to))?;
    match from.recv().await {
        Some(Told::Exported(report)) => Ok(json(&report)),
        Some(Told::Failed(fault)) => Err(Refused::of_fault(&fault)),
        _ => Err(Refused::new(503, "The server ended before the dataset was written", None)),
    }
}

async fn embed(body: &[u8], names: &[String], shared: &Arc<Shared>) -> Result<Response<Body>, Refused> {
    let fields = document(body)?;
    let name = model(&fields, names)?;
    let (texts, in_base64) = embedding(&fields)?;
    let (to, mut from) = unbounded_channel();
    shared.ask(Job::Embed(name.clone(), texts, to))?;
    match from.recv().await {
        Some(Told::Embedded(vectors, tokens)) => Ok(json(&embeddings(&name, &vectors, tokens, in_base64))),
        Some(Told::Failed(fault)) => Err(Refused::of_fault(&fault)),
        _ => Err(Refused::new(503, "The server ended before the answer did", None)),
    }
}

/// An answer on its way out.
struct Streamed {
    frame: Frame,
    from: UnboundedReceiver<Told>,
    /// What the model's side said first.
    first: Option<Told>,
    include_usage: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Text,
    Over,
}

impl Streamed {
    /// The next part of the body. Dropping the stream tells the model's side that nobody listens.
    async fn next(mut self) -> Option<(Result<Part<Bytes>, Infallible>, Self)> {
        let text = loop {
            match self.state {
                State::Opening => {
                    self.state = State::Text;
                    if let Some(opening) = self.frame.opening() {
                        break event(&opening);
                    }
                }
                State::Text => {
                    let told = match self.first.take() {
                        Some(told) => Some(told),
                        None => self.from.recv().await,
                    };
                    match told {
                        Some(Told::Text(piece)) => break event(&self.frame.piece(&piece)),
                        Some(Told::Done(reply)) => {
                            self.state = State::Over;
                            let closing = self.frame.closing(&reply, self.include_usage);
                            let events: String = closing.iter().map(event).collect();
                            break format!("{events}data: [DONE]\n\n");
                        }
                        Some(Told::Failed(fault)) => {
                            self.state = State::Over;
                            break event(&Refused::of_fault(&fault).document());
                        }
                        Some(Told::Embedded(..) | Told::Exported(_)) | None => {
                            self.state = State::Over;
                            let refused = Refused::new(503, "The server ended before the answer did", None);
                            break event(&refused.document());
                        }
                    }
                }
                State::Over => return None,
            }
        };
        Some((Ok(Part::data(Bytes::from(text))), self))
    }
}

fn events(streamed: Streamed) -> Response<Body> {
    let body = StreamBody::new(stream::unfold(streamed, Streamed::next));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn json(document: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(document.to_string()));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
