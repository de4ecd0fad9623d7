//! A helper model on this machine: it plays Ollama, OpenRouter or llama.cpp, and fails in every way such a service can.

use crate::listener::{Heard, Reply, Server};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How one question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Well.
    Good,
    /// As one document, although a stream was asked for.
    Whole,
    /// The answer reached its longest length.
    Cut,
    /// Half an answer, then the end.
    Half,
    /// An error inside an answer with status 200, after some words.
    ErrorInside,
    /// A web page.
    WebPage,
    /// Something that is neither JSON nor a page.
    Babble,
    /// A status with a document of an error.
    Status(u16),
    /// 429 with seconds to wait.
    TooMany(u64),
    /// It sends us elsewhere.
    Redirect,
    /// It closes the connection.
    HangUp,
    /// It says nothing for so many milliseconds.
    Silent(u64),
    /// It begins, and then says nothing for so many milliseconds.
    Stalls(u64),
    /// It repeats itself without end.
    Endless,
    /// It refuses a strict schema.
    NoSchema,
    /// It repeats the key in its refusal.
    RepeatsKey,
}

/// Every way in which asking again helps.
pub const PASSING: [Way; 9] = [
    Way::Half,
    Way::ErrorInside,
    Way::WebPage,
    Way::Babble,
    Way::Status(500),
    Way::Status(503),
    Way::TooMany(0),
    Way::Redirect,
    Way::HangUp,
];

type Answer = dyn Fn(&Value) -> String + Send + Sync;
type Fate = dyn Fn(usize) -> Way + Send + Sync;

/// A running helper.
pub struct MockHelper {
    server: Server,
    calls: Arc<AtomicUsize>,
}

impl MockHelper {
    /// Question number `n`, from 0, goes as `fate(n)` says; what is answered is `answer(request)`.
    pub fn new(
        fate: impl Fn(usize) -> Way + Send + Sync + 'static,
        answer: impl Fn(&Value) -> String + Send + Sync + 'static,
    ) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let (fate, answer): (Box<Fate>, Box<Answer>) = (Box::new(fate), Box::new(answer));
        let server = Server::new(move |heard| reply(heard, &*fate, &*answer, &count));
        Self { server, calls }
    }

    /// For `OLLAMA_HOST`.
    pub fn host(&self) -> String {
        self.server.url()
    }

    /// For `--base-url`.
    pub fn base(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// Questions so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// What was asked since the last look.
    pub fn take_log(&self) -> Vec<Heard> {
        self.server.take_log()
    }
}

fn reply(heard: &Heard, fate: &Fate, answer: &Answer, calls: &AtomicUsize) -> Reply {
    match (heard.method.as_str(), heard.path.as_str()) {
        ("GET", "/api/tags") => Reply::json(
            200,
            &json!({"models": [{"name": "teacher:8b", "size": 5_000_000_000_u64, "details": {"parameter_size": "8B"}}]}),
        ),
        ("GET", "/v1/models") => Reply::json(
            200,
            &json!({"data": [
                {"id": "maker/teacher", "context_length": 8192, "supported_parameters": ["structured_outputs"],
                 "pricing": {"prompt": "0.000001", "completion": "0.000002"}},
                {"id": "maker/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
            ]}),
        ),
        ("GET", "/v1/key") => Reply::json(200, &json!({"data": {"usage": 1.5, "limit_remaining": 8.5}})),
        ("POST", "/api/chat") => talk(heard, fate(calls.fetch_add(1, Ordering::SeqCst)), answer, true),
        ("POST", "/v1/chat/completions") => talk(heard, fate(calls.fetch_add(1, Ordering::SeqCst)), answer, false),
        ("POST", "/api/embed") => vectors(heard, fate(calls.fetch_add(1, Ordering::SeqCst)), true),
        ("POST", "/v1/embeddings") => vectors(heard, fate(calls.fetch_add(1, Ordering::SeqCst)), false),
        _ => Reply::json(404, &json!({"error": {"message": "no such place", "code": 404}})),
    }
}

fn failure(heard: &Heard, way: Way) -> Option<Reply> {
    let error =
        |status: u16, message: &str| Reply::json(status, &json!({"error": {"message": message, "code": status}}));
    Some(match way {
        Way::WebPage => {
            Reply::Answer(200, vec![("content-type", "text/html".to_owned())], b"<html>Sign in</html>".to_vec())
        }
        Way::Babble => Reply::text(200, "I am a teapot\n"),
        Way::Status(404) => error(404, "model 'x' not found"),
        Way::Status(status) => error(status, "it did not work"),
        Way::TooMany(seconds) => Reply::Answer(429, vec![("retry-after", seconds.to_string())], Vec::new()),
        Way::Redirect => Reply::Answer(307, vec![("location", "http://127.0.0.1:1/elsewhere".to_owned())], Vec::new()),
        Way::HangUp => Reply::HangUp,
        Way::Silent(milliseconds) => Reply::Silence(Duration::from_millis(milliseconds)),
        Way::RepeatsKey => error(401, &format!("bad key {}", heard.headers.get("authorization").map_or("", |key| key))),
        Way::NoSchema if heard.json()["response_format"]["type"] == "json_schema" => {
            error(400, "'response_format.type' must be 'json_object'")
        }
        _ => return None,
    })
}

fn talk(heard: &Heard, way: Way, answer: &Answer, is_ollama: bool) -> Reply {
    if let Some(reply) = failure(heard, way) {
        return reply;
    }
    let request = heard.json();
    let text = answer(&request);
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    let (first, second) = text.split_at(middle);
    let reason = if way == Way::Cut { "length" } else { "stop" };
    let event = |value: &Value| if is_ollama { format!("{value}\n") } else { format!("data: {value}\n\n") };
    let piece = |text: &str| {
        event(&if is_ollama {
            json!({"message": {"role": "assistant", "content": text}, "done": false})
        } else {
            json!({"choices": [{"delta": {"content": text}, "finish_reason": null}]})
        })
    };
    let end = if is_ollama {
        event(
            &json!({"message": {"content": ""}, "done": true, "done_reason": reason, "prompt_eval_count": 100, "eval_count": 20}),
        )
    } else {
        let last = event(&json!({"choices": [{"delta": {}, "finish_reason": reason}]}));
        let usage =
            event(&json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20, "cost": 0.0001}}));
        format!(": keep-alive\n\n{last}{usage}data: [DONE]\n\n")
    };
    let error = event(&json!({"error": {"code": 502, "message": "the provider is down"}}));
    let kind = vec![("content-type", if is_ollama { "application/x-ndjson" } else { "text/event-stream" }.to_owned())];
    let now = Duration::ZERO;
    let pieces = match way {
        Way::Half => vec![(now, piece(first))],
        Way::ErrorInside => vec![(now, piece(first)), (now, error)],
        Way::Stalls(milliseconds) => vec![(now, piece(first)), (Duration::from_millis(milliseconds), end)],
        Way::Endless => vec![(now, piece(&"the same ".repeat(1000))); 1000],
        Way::Whole => {
            let usage = json!({"prompt_tokens": 100, "completion_tokens": 20});
            let document = if is_ollama {
                json!({"message": {"content": text}, "done": true, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 20})
            } else {
                json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage})
            };
            return Reply::json(200, &document);
        }
        _ => vec![(now, piece(first)), (now, piece(second)), (now, end)],
    };
    Reply::Pieces(kind, pieces.into_iter().map(|(pause, text)| (pause, text.into_bytes())).collect())
}

fn vectors(heard: &Heard, way: Way, is_ollama: bool) -> Reply {
    if let Some(reply) = failure(heard, way) {
        return reply;
    }
    let request = heard.json();
    let texts = request["input"].as_array().cloned().unwrap_or_default();
    let vector = |text: &Value| {
        let text = text.as_str().unwrap_or_default();
        json!([text.len(), text.bytes().map(u64::from).sum::<u64>() % 997, 1])
    };
    let mut all: Vec<Value> = texts.iter().map(vector).collect();
    if way == Way::Half {
        all.pop();
    }
    if is_ollama {
        return Reply::json(200, &json!({"embeddings": all}));
    }
    // Not in the order of the texts: the numbers say which is which.
    let data: Vec<Value> =
        all.iter().enumerate().rev().map(|(index, vector)| json!({"index": index, "embedding": vector})).collect();
    Reply::json(200, &json!({"data": data}))
}
