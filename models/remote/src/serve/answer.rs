//! What goes back: documents, streams of events, and errors, in the shapes of OpenAI's protocol.

use super::Reply;
use peft_plan::Fault;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// An error of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) message: String,
    /// The field that is meant.
    pub(super) param: Option<String>,
    pub(super) code: Option<String>,
}

impl Refused {
    pub(super) fn new(status: u16, message: &str, code: Option<&str>) -> Self {
        Self { status, message: message.to_owned(), param: None, code: code.map(str::to_owned) }
    }

    /// A field that cannot be what it is.
    pub(super) fn field(name: &str, why: &str) -> Self {
        let message = format!("`{name}` cannot be used: {why}");
        Self { param: Some(name.to_owned()), ..Self::new(400, &message, None) }
    }

    /// What the model's side could not do: our fault, or the question's.
    pub(super) fn of_fault(fault: &Fault) -> Self {
        // Invalid input has the exit code 3.
        let status = if fault.entry().exit == 3 { 400 } else { 500 };
        Self::new(status, &fault.detail, Some(fault.code))
    }

    pub(super) fn document(&self) -> Value {
        let kind = match self.status {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

/// Which of the two endpoints for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Text,
}

/// What all documents of one answer share.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    shape: Shape,
    id: String,
    created: u64,
    model: String,
}

impl Frame {
    pub(super) fn new(shape: Shape, model: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let prefix = if shape == Shape::Chat { "chatcmpl" } else { "cmpl" };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{prefix}-{:x}{count:04x}", now.as_nanos());
        Self { shape, id, created: now.as_secs(), model: model.to_owned() }
    }

    fn around(&self, kind: &str, choices: &Value) -> Value {
        json!({"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices})
    }

    /// The whole answer, or all of them.
    pub(super) fn whole(&self, replies: &[Reply]) -> Value {
        let choice = |(index, reply): (usize, &Reply)| match self.shape {
            Shape::Chat => {
                json!({"index": index, "message": {"role": "assistant", "content": reply.text, "refusal": null},
                                  "logprobs": null, "finish_reason": finish(reply)})
            }
            Shape::Text => {
                json!({"index": index, "text": reply.text, "logprobs": null, "finish_reason": finish(reply)})
            }
        };
        let kind = if self.shape == Shape::Chat { "chat.completion" } else { "text_completion" };
        let mut document = self.around(kind, &replies.iter().enumerate().map(choice).collect());
        document["usage"] = usage(replies);
        document
    }

    /// The first event of a stream, where there is one before the text.
    pub(super) fn opening(&self) -> Option<Value> {
        (self.shape == Shape::Chat).then(|| self.delta(&json!({"role": "assistant", "content": ""}), None))
    }

    /// A piece of text.
    pub(super) fn piece(&self, text: &str) -> Value {
        match self.shape {
            Shape::Chat => self.delta(&json!({"content": text}), None),
            Shape::Text => self.text(text, None),
        }
    }

    /// The end of a stream, with the usage in an event of its own where it was asked for.
    pub(super) fn closing(&self, reply: &Reply, include_usage: bool) -> Vec<Value> {
        let mut events = vec![match self.shape {
            Shape::Chat => self.delta(&json!({}), Some(finish(reply))),
            Shape::Text => self.text("", Some(finish(reply))),
        }];
        if include_usage {
            let mut event = self.around(self.stream_kind(), &json!([]));
            event["usage"] = usage(std::slice::from_ref(reply));
            events.push(event);
        }
        events
    }

    fn stream_kind(&self) -> &'static str {
        if self.shape == Shape::Chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn delta(&self, delta: &Value, finish: Option<&str>) -> Value {
        let choice = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        self.around(self.stream_kind(), &choice)
    }

    fn text(&self, text: &str, finish: Option<&str>) -> Value {
        let choice = json!([{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}]);
        self.around(self.stream_kind(), &choice)
    }
}

fn finish(reply: &Reply) -> &'static str {
    if reply.is_cut { "length" } else { "stop" }
}

fn usage(replies: &[Reply]) -> Value {
    let sum = |count: &dyn Fn(&Reply) -> usize| replies.iter().map(count).sum::<usize>();
    let (prompt, written) = (sum(&|reply| reply.prompt_tokens), sum(&|reply| reply.tokens));
    json!({"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written})
}

/// An event of a stream.
pub(super) fn event(document: &Value) -> String {
    format!("data: {document}\n\n")
}

/// `GET /v1/models`.
pub(super) fn models(names: &[String]) -> Value {
    json!({"object": "list", "data": names.iter().map(|name| model(name)).collect::<Vec<_>>()})
}

/// `GET /v1/models/NAME`.
pub(super) fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "peft-studio"})
}

/// `POST /v1/embeddings`.
pub(super) fn embeddings(model: &str, vectors: &[Vec<f32>], tokens: usize, in_base64: bool) -> Value {
    let data = |(index, vector): (usize, &Vec<f32>)| {
        let numbers = if in_base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            json!(base64(&bytes))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": numbers})
    };
    json!({"object": "list", "model": model, "data": vectors.iter().enumerate().map(data).collect::<Vec<_>>(),
           "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * place) & 63) as usize]);
            let shown = if place <= group.len() { letter } else { '=' };
            write!(text, "{shown}").expect("a String takes everything");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_that_of_everybody() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xef]), "/+8=");
    }

    #[test]
    fn faults_of_the_question_are_400_and_ours_500() {
        let refused = Refused::of_fault(&Fault::new("PS-CFG-001", "too long"));
        assert_eq!((refused.status, refused.document()["error"]["code"].as_str()), (400, Some("PS-CFG-001")));
        assert_eq!(Refused::of_fault(&Fault::new("PS-APP-004", "x")).status, 500);
    }
}
