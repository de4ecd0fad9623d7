//! A local server that speaks OpenAI's protocol, for one model on this machine.
//!
//! Connections live on a thread of their own; the model answers on the caller's thread, one question after the other
//! in the order they came. Who hangs up is not answered any further. Nothing is accepted from other machines without
//! a key, and nothing from web pages of other sites.
//!
//! | file | holds |
//! | --- | --- |
//! | `question` | what a request asks, checked field by field |
//! | `answer` | what goes back: documents, streams, errors |
//! | `guard` | who may ask at all |
//! | `connection` | routes, bodies, limits |
//! | `export` | a dataset in place of a model: the route that other programs ask for one (S3.2) |

mod answer;
mod connection;
mod export;
mod guard;
mod question;

pub use export::{ExportRequest, Exporter};
pub use question::{Form, Prompt, Question};

use connection::Shared;
use peft_plan::{Fault, Result};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

/// Questions that wait; more are told to come back later.
const QUEUE: usize = 64;
/// Between two looks at whether the server should end.
const TICK: Duration = Duration::from_millis(100);

/// What answers.
pub trait Model {
    /// Names it answers to; the first is the default.
    fn names(&self) -> Vec<String>;
    /// Answer; `on_text` hears each piece and may end it with `Break`. Its model is one of [`Model::names`].
    fn answer(&mut self, question: &Question, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Reply>;
    /// One vector for each text, and the tokens of all of them.
    fn embed(&mut self, model: &str, texts: &[String]) -> Result<(Vec<Vec<f32>>, usize)>;
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Tokens that were read.
    pub prompt_tokens: usize,
    /// Tokens that were written.
    pub tokens: usize,
    /// It ended because it was as long as it may be.
    pub is_cut: bool,
}

/// How the server listens.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen at.
    pub host: IpAddr,
    /// Port; 0: any that is free.
    pub port: u16,
    /// Without it nobody is answered.
    pub key: Option<String>,
}

/// A server that has its port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    key: Option<String>,
}

/// A question on its way to the model.
enum Job {
    Answer(Question, UnboundedSender<Told>),
    Embed(String, Vec<String>, UnboundedSender<Told>),
    Export(ExportRequest, UnboundedSender<Told>),
}

/// What the model's side says.
enum Told {
    Text(String),
    Done(Reply),
    Embedded(Vec<Vec<f32>>, usize),
    Exported(Value),
    Failed(Fault),
}

impl Server {
    /// Take the port. PS-SRV-001 where somebody else has it; PS-CFG-001 for an address that other machines reach,
    /// without a key.
    pub fn bind(options: &Options) -> Result<Self> {
        let Options { host, port, key } = options;
        if !host.is_loopback() && key.is_none() {
            let detail = format!("At {host} other machines could use the model: give a key with `--api-key` as well.");
            return Err(Fault::new("PS-CFG-001", detail)
                .action("Listen on this machine only", Some("--host 127.0.0.1".to_owned())));
        }
        if key.as_ref().is_some_and(|key| key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Fault::new("PS-CFG-001", "A key is made of letters, digits and signs, without spaces."));
        }
        let listener = TcpListener::bind((*host, *port)).map_err(|error| in_use(*host, *port, error))?;
        let address = listener.local_addr().map_err(|error| in_use(*host, *port, error))?;
        Ok(Self { listener, address, key: key.clone() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answer until `should_end` says so.
    pub fn run(self, model: &mut dyn Model, should_end: &dyn Fn() -> bool) -> Result<()> {
        let offer = Offer::Model(model.names());
        self.serve(offer, &mut |job| answer(model, job, should_end), should_end)
    }

    /// Write datasets for whoever asks with the key, until `should_end` says so (S3.2, D6). PS-CFG-001 without a key:
    /// what it writes is a person's life.
    pub fn run_exports(self, exporter: &mut dyn Exporter, should_end: &dyn Fn() -> bool) -> Result<()> {
        if self.key.is_none() {
            return Err(Fault::new(
                "PS-CFG-001",
                "Exports are only written for whoever has a token: give one with `--api-key`.",
            ));
        }
        self.serve(Offer::Exports, &mut |job| export::answer(exporter, job), should_end)
    }

    fn serve(self, offer: Offer, handle: &mut dyn FnMut(Job), should_end: &dyn Fn() -> bool) -> Result<()> {
        let Self { listener, address, key } = self;
        let failed = |error: std::io::Error| in_use(address.ip(), address.port(), error);
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (jobs, queue) = sync_channel(QUEUE);
        let (end, ended) = watch::channel(());
        let shared = Arc::new(Shared::new(offer, key, address, jobs));
        let connections = std::thread::Builder::new()
            .name("server".to_owned())
            .spawn(move || runtime.block_on(connection::accept(listener, shared, ended)))
            .map_err(failed)?;
        work(handle, &queue, should_end);
        drop(end);
        // What is still waiting is hung up on.
        drop(queue);
        match connections.join() {
            Ok(result) => result.map_err(failed),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// What is there to be asked for.
enum Offer {
    /// Answers of a model under these names.
    Model(Vec<String>),
    /// Datasets.
    Exports,
}

/// Answer what comes, one after the other.
fn work(handle: &mut dyn FnMut(Job), queue: &Receiver<Job>, should_end: &dyn Fn() -> bool) {
    while !should_end() {
        match queue.recv_timeout(TICK) {
            Ok(job) => handle(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A model's side. Whoever hung up while they waited does not want to know.
fn answer(model: &mut dyn Model, job: Job, should_end: &dyn Fn() -> bool) {
    match job {
        Job::Answer(question, to) if !to.is_closed() => {
            let mut on_text = |piece: &str| {
                let is_heard = to.send(Told::Text(piece.to_owned())).is_ok();
                if is_heard && !should_end() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let told = model.answer(&question, &mut on_text).map_or_else(Told::Failed, Told::Done);
            drop(to.send(told));
        }
        Job::Embed(name, texts, to) if !to.is_closed() => {
            let told = model.embed(&name, &texts);
            drop(to.send(told.map_or_else(Told::Failed, |(vectors, tokens)| Told::Embedded(vectors, tokens))));
        }
        Job::Answer(..) | Job::Embed(..) | Job::Export(..) => {}
    }
}

fn in_use(host: IpAddr, port: u16, error: std::io::Error) -> Fault {
    let place = SocketAddr::new(host, port);
    let detail = match error.kind() {
        ErrorKind::AddrInUse => format!("Another program listens at {place} already."),
        ErrorKind::PermissionDenied => format!("The system does not let us listen at {place}."),
        ErrorKind::AddrNotAvailable => format!("{host} is no address of this machine."),
        _ => format!("Listening at {place} failed: {error}."),
    };
    let mut fault = Fault::new("PS-SRV-001", detail);
    if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) {
        let next = (port.max(1023)..u16::MAX).map(|port| port + 1).take(50);
        if let Some(free) = next.into_iter().find(|port| TcpListener::bind((host, *port)).is_ok()) {
            fault = fault.action(format!("Use port {free}"), Some(format!("--port {free}")));
        }
    }
    fault.caused_by(error)
}
