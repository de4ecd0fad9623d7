//! A plain HTTP client: what any program could send.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The documents of a stream of events, without the mark of its end.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert!(self.head.contains("text/event-stream"), "{}", self.head);
        assert!(self.body.ends_with("data: [DONE]\n\n"), "{}", self.body);
        let data = self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("JSON")).collect()
    }
}

/// Open a connection and send a request; the answer is the caller's to read.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("set");
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !fields.iter().any(|(name, _)| *name == "host") {
        head = format!("{head}host: {address}\r\n");
    }
    for (name, value) in fields {
        head = format!("{head}{name}: {value}\r\n");
    }
    // A server that refuses early does not read to the end.
    let _sent = stream.write_all(format!("{head}\r\n{body}").as_bytes());
    stream
}

/// Read an answer to its end.
pub(crate) fn receive(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer is no matter.
    let _read = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            return body;
        }
        body += &after[..length];
        rest = &after[length + 2..];
    }
    panic!("the stream was cut: {body}")
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    receive(send(address, "GET", path, &[], ""))
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    receive(send(address, "POST", path, &[("content-type", "application/json")], &body.to_string()))
}
