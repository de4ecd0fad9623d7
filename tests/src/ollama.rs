//! An Ollama on this machine: it takes blobs and makes models as the real one does, or misbehaves in one way.

use crate::listener::{Heard, Reply, Server};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Nothing.
    Good,
    /// It is from before files could be given.
    Old,
    /// It fails inside an answer with status 200.
    FailsInside,
    /// It ends an answer without a word about success.
    EndsEarly,
    /// It says something that is not JSON.
    Babbles,
    /// It refuses every blob as damaged.
    RefusesBlob,
    /// It says nothing once it has the file.
    FallsSilent,
    /// It closes the connection instead of making a model.
    HangsUp,
    /// Something else answers at its place.
    IsSomethingElse,
}

#[derive(Default)]
struct State {
    blobs: BTreeSet<String>,
    models: BTreeMap<String, Value>,
}

/// A running Ollama.
pub struct MockOllama {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl MockOllama {
    /// With this habit.
    pub fn new(habit: Habit) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let inner = Arc::clone(&state);
        let server =
            Server::new(move |heard| answer(habit, heard, &mut inner.lock().expect("no thread panics with it")));
        Self { server, state }
    }

    /// For `OLLAMA_HOST`.
    pub fn host(&self) -> String {
        self.server.url()
    }

    /// What was asked since the last look.
    pub fn take_log(&self) -> Vec<Heard> {
        self.server.take_log()
    }

    /// The models that were made, by name: what they were made of.
    pub fn models(&self) -> BTreeMap<String, Value> {
        self.state.lock().expect("no thread panics with it").models.clone()
    }
}

fn answer(habit: Habit, heard: &Heard, state: &mut State) -> Reply {
    if habit == Habit::IsSomethingElse {
        return Reply::text(200, "<html>Welcome</html>");
    }
    match (heard.method.as_str(), heard.path.as_str()) {
        ("GET", "/api/version") => {
            Reply::json(200, &json!({"version": if habit == Habit::Old { "0.3.12" } else { "0.12.3" }}))
        }
        (method, path) if path.starts_with("/api/blobs/") => blob(habit, method, path, heard, state),
        ("POST", "/api/create") => create(habit, heard, state),
        _ => Reply::json(404, &json!({"error": "not found"})),
    }
}

fn blob(habit: Habit, method: &str, path: &str, heard: &Heard, state: &mut State) -> Reply {
    let digest = path.trim_start_matches("/api/blobs/").to_owned();
    if method == "HEAD" {
        return Reply::text(if state.blobs.contains(&digest) { 200 } else { 404 }, "");
    }
    let mut own = "sha256:".to_owned();
    for byte in Sha256::digest(&heard.body) {
        write!(own, "{byte:02x}").expect("a String takes everything");
    }
    if own != digest || habit == Habit::RefusesBlob {
        return Reply::json(400, &json!({"error": "digest mismatch"}));
    }
    state.blobs.insert(digest);
    Reply::text(201, "")
}

fn create(habit: Habit, heard: &Heard, state: &mut State) -> Reply {
    let lines = |lines: &[Value]| {
        let text = lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
        Reply::Answer(200, vec![("content-type", "application/x-ndjson".to_owned())], text.into_bytes())
    };
    let request = heard.json();
    let first = json!({"status": "parsing GGUF"});
    match habit {
        Habit::FailsInside => return lines(&[first, json!({"error": "invalid file magic"})]),
        Habit::EndsEarly => return lines(&[first]),
        Habit::Babbles => return Reply::text(200, "{\"status\":\"parsing\"}\nnot json\n"),
        Habit::FallsSilent => return Reply::Silence(Duration::from_secs(3)),
        Habit::HangsUp => return Reply::HangUp,
        _ => {}
    }
    let files = request["files"].as_object().cloned().unwrap_or_default();
    let known = |digest: &Value| digest.as_str().is_some_and(|digest| state.blobs.contains(digest));
    if files.is_empty() || !files.values().all(known) || !files.keys().all(|name| !name.contains(['/', '\\'])) {
        return Reply::json(400, &json!({"error": "neither 'from' or 'files' was specified"}));
    }
    state.models.insert(request["model"].as_str().unwrap_or_default().to_owned(), request);
    lines(&[first, json!({"status": "writing manifest"}), json!({"status": "success"})])
}
