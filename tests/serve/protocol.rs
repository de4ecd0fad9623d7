//! The protocol, with a model that says what it was asked and takes as long as a test wants.

use super::client::{get, post, receive, send};
use peft_plan::{Fault, Result};
use peft_remote::serve::{Model, Options, Prompt, Question, Reply, Server};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers with the words of the question, one piece each.
#[derive(Clone, Default)]
struct Echo {
    heard: Arc<Mutex<Vec<String>>>,
    pieces: Arc<AtomicUsize>,
    pause: Duration,
}

impl Model for Echo {
    fn names(&self) -> Vec<String> {
        vec!["owner/tuned".to_owned(), "base".to_owned()]
    }

    fn answer(&mut self, question: &Question, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Reply> {
        let text = match &question.prompt {
            Prompt::Chat(turns) => turns.last().expect("checked").content.clone(),
            Prompt::Text(text) => text.clone(),
        };
        if text == "too long" {
            return Err(Fault::new("PS-CFG-001", "The question is too long"));
        }
        self.heard.lock().expect("no panic").push(format!("{}:{text}", question.model));
        let mut said = String::new();
        let most = question.max_tokens.unwrap_or(usize::MAX);
        for word in text.split_inclusive(' ').take(most) {
            sleep(self.pause);
            said += word;
            self.pieces.fetch_add(1, Ordering::SeqCst);
            if on_text(word).is_break() {
                break;
            }
        }
        let tokens = said.split_whitespace().count();
        Ok(Reply { is_cut: said.len() < text.len(), text: said, prompt_tokens: 7, tokens })
    }

    fn embed(&mut self, _: &str, texts: &[String]) -> Result<(Vec<Vec<f32>>, usize)> {
        Ok((texts.iter().map(|text| vec![text.len() as f32, 0.5]).collect(), 3 * texts.len()))
    }
}

/// The server ends however the test does.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Run `test` against a server of `model`.
fn with(mut model: Echo, key: Option<&str>, test: impl FnOnce(SocketAddr) + Send) {
    let options = Options { host: LOOPBACK, port: 0, key: key.map(str::to_owned) };
    let server = Server::bind(&options).expect("a free port");
    let address = server.address();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            let _end = End(&is_over);
            test(address);
        });
        server.run(&mut model, &|| is_over.load(Ordering::SeqCst)).expect("served");
        test.join().expect("the test passes");
    });
}

fn hi(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

#[test]
fn answers_come_whole_or_in_pieces_with_the_same_words() {
    with(Echo::default(), None, |address| {
        let whole = post(address, "/v1/chat/completions", &hi("one two three"));
        let document = whole.json();
        assert_eq!((whole.status, document["object"].as_str()), (200, Some("chat.completion")));
        assert_eq!(
            document["choices"][0]["message"],
            json!({"role": "assistant", "content": "one two three", "refusal": null})
        );
        assert_eq!(document["choices"][0]["finish_reason"], "stop");
        assert_eq!(document["usage"], json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}));
        assert_eq!(document["model"], "owner/tuned");
        let mut body = hi("one two three");
        body["stream"] = json!(true);
        body["max_tokens"] = json!(2);
        body["stream_options"] = json!({"include_usage": true});
        let events = post(address, "/v1/chat/completions", &body).events();
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let text: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, "one two ");
        let ends: Vec<&Value> =
            events.iter().map(|e| &e["choices"][0]["finish_reason"]).filter(|f| f.is_string()).collect();
        assert_eq!(ends, [&json!("length")]);
        assert_eq!(events.last().expect("events")["usage"]["total_tokens"], json!(9));
        assert!(
            events.iter().all(|event| event["id"] == events[0]["id"] && event["object"] == "chat.completion.chunk")
        );

        let text = post(address, "/v1/completions", &json!({"prompt": ["a b", "c"], "model": "base"})).json();
        assert_eq!(
            (text["choices"][0]["text"].clone(), text["choices"][1]["text"].clone()),
            (json!("a b"), json!("c"))
        );
        let events = post(address, "/v1/completions", &json!({"prompt": "a b", "stream": true})).events();
        let text: String = events.iter().filter_map(|e| e["choices"][0]["text"].as_str()).collect();
        assert_eq!(text, "a b");

        let vectors = post(address, "/v1/embeddings", &json!({"input": ["abc", "d"]})).json();
        assert_eq!(vectors["data"][0]["embedding"], json!([3.0, 0.5]));
        assert_eq!(
            (vectors["data"][1]["index"].clone(), vectors["usage"]["prompt_tokens"].clone()),
            (json!(1), json!(6))
        );
        let coded = post(address, "/v1/embeddings", &json!({"input": "abc", "encoding_format": "base64"})).json();
        assert_eq!(coded["data"][0]["embedding"], "AABAQAAAAD8=");

        let models = get(address, "/v1/models").json();
        assert_eq!(models["data"][1]["id"], "base");
        assert_eq!(get(address, "/v1/models/owner/tuned").json()["id"], "owner/tuned");
        assert_eq!(get(address, "/v1/models/owner%2Ftuned").status, 200);
        assert_eq!(get(address, "/health").json()["status"], "ok");
    });
}

#[test]
fn what_is_wrong_is_told_in_the_shape_of_the_protocol() {
    with(Echo::default(), None, |address| {
        let raw = |body: &str| receive(send(address, "POST", "/v1/chat/completions", &[], body));
        for (body, status) in [("{", 400), ("[]", 400), ("", 400), ("{}", 400), ("\u{0}", 400)] {
            let answer = raw(body);
            assert_eq!(answer.status, status, "{body:?}: {}", answer.body);
            let error = &answer.json()["error"];
            assert_eq!(error["type"], "invalid_request_error");
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
            assert!(error.get("param").is_some() && error.get("code").is_some());
        }
        let mut unknown = hi("x");
        unknown["model"] = json!("gpt-9");
        let answer = post(address, "/v1/chat/completions", &unknown);
        assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (404, json!("model_not_found")));
        // A fault of the question is known before the stream begins.
        for stream in [false, true] {
            let mut body = hi("too long");
            body["stream"] = json!(stream);
            let answer = post(address, "/v1/chat/completions", &body);
            assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (400, json!("PS-CFG-001")));
        }
        assert_eq!(get(address, "/v1/chat/completions").status, 405);
        assert_eq!(get(address, "/").status, 404);
        assert_eq!(get(address, "/v1/models/none").status, 404);
        assert_eq!(get(address, "/../../etc/passwd").status, 404);
        let long = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(9 << 20));
        assert_eq!(raw(&long).status, 413);
        let huge = "x".repeat(200 << 10);
        assert!([400, 431].contains(&receive(send(address, "GET", "/health", &[("x", &huge)], "")).status));
        assert_eq!(receive(send(address, "GET", "/v1/models", &[("host", "evil.example")], "")).status, 403);
        assert_eq!(receive(send(address, "GET", "/v1/models", &[("origin", "https://evil.example")], "")).status, 403);
        // After all of that it still answers.
        assert_eq!(post(address, "/v1/chat/completions", &hi("x")).status, 200);
    });
}

#[test]
fn without_the_key_nobody_is_answered() {
    with(Echo::default(), Some("secret"), |address| {
        let answer = post(address, "/v1/chat/completions", &hi("x"));
        assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (401, json!("invalid_api_key")));
        let authorized = [("authorization", "Bearer secret")];
        assert_eq!(receive(send(address, "GET", "/v1/models", &authorized, "")).status, 200);
        assert_eq!(get(address, "/health").status, 200);
    });
}

#[test]
fn one_after_the_other_in_the_order_they_came() {
    let echo = Echo { pause: Duration::from_millis(10), ..Echo::default() };
    let heard = Arc::clone(&echo.heard);
    with(echo, None, |address| {
        let asked: Vec<_> = (0..8)
            .map(|n| {
                let body = hi(&format!("{n} a b c")).to_string();
                let stream = send(address, "POST", "/v1/chat/completions", &[], &body);
                sleep(Duration::from_millis(15));
                stream
            })
            .collect();
        for (n, stream) in asked.into_iter().enumerate() {
            let content = receive(stream).json()["choices"][0]["message"]["content"].clone();
            assert_eq!(content, json!(format!("{n} a b c")));
        }
    });
    let heard = heard.lock().expect("no panic").clone();
    assert_eq!(heard, (0..8).map(|n| format!("owner/tuned:{n} a b c")).collect::<Vec<_>>());
}

#[test]
fn whoever_hangs_up_is_not_answered_any_further() {
    for stream in [true, false] {
        let echo = Echo { pause: Duration::from_millis(20), ..Echo::default() };
        let pieces = Arc::clone(&echo.pieces);
        with(echo, None, |address| {
            let mut body = hi(&"word ".repeat(2000));
            body["stream"] = json!(stream);
            let connection = send(address, "POST", "/v1/chat/completions", &[], &body.to_string());
            let begun = Instant::now();
            while pieces.load(Ordering::SeqCst) < 5 {
                assert!(begun.elapsed() < Duration::from_secs(10));
                sleep(Duration::from_millis(5));
            }
            // One that waits and hangs up costs nothing either.
            drop(send(address, "POST", "/v1/chat/completions", &[], &hi(&"never ".repeat(500)).to_string()));
            drop(connection);
            let answer = post(address, "/v1/chat/completions", &hi("next"));
            assert_eq!(answer.json()["choices"][0]["message"]["content"], "next");
            assert!(pieces.load(Ordering::SeqCst) < 60, "{stream}: {} pieces", pieces.load(Ordering::SeqCst));
        });
    }
}

#[test]
fn a_port_that_is_taken_is_told_with_one_that_is_free() {
    let other = TcpListener::bind((LOOPBACK, 0)).expect("a port");
    let port = other.local_addr().expect("bound").port();
    let fault = Server::bind(&Options { host: LOOPBACK, port, key: None }).expect_err("taken");
    assert_eq!(fault.code, "PS-SRV-001");
    let action = &fault.shown_actions()[0];
    let free: u16 = action.command.as_ref().and_then(|c| c.strip_prefix("--port ")?.parse().ok()).expect("a port");
    assert!(Server::bind(&Options { host: LOOPBACK, port: free, key: None }).is_ok());
    let open = Options { host: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 0, key: None };
    assert_eq!(Server::bind(&open).expect_err("open to all").code, "PS-CFG-001");
    assert!(Server::bind(&Options { key: Some("k".into()), ..open }).is_ok());
}
