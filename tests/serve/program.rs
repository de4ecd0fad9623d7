//! `serve` as typed: the real program and a real model, asked over plain HTTP.

use super::client::{get, post, receive, send};
use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running server; it ends with the test.
struct Serving {
    child: Child,
    address: SocketAddr,
    models: Value,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        let url = event["url"].as_str().expect("an address");
        let address = url.trim_start_matches("http://").trim_end_matches("/v1").parse().expect("an address");
        Self { child, address, models: event["models"].clone() }
    }

    /// End it as a person would; its exit code.
    fn end(mut self) -> Option<i32> {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill starts");
        assert!(status.success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _gone = self.child.kill();
    }
}

fn fixture(family: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(family).join("model").display().to_string()
}

#[test]
fn a_model_answers_over_http_as_it_does_in_chat() {
    let home = Home::new();
    let serving = Serving::start(home.command(&["serve", "--model", "starter", "--port", "0", "--json"]));
    assert_eq!(serving.models, json!(["starter"]));
    let question = "How early do you unlock the door?";
    let chat = home.json(&["chat", "--model", "starter", "--prompt", question])["answer"].clone();
    let body = json!({"messages": [{"role": "user", "content": question}], "temperature": 0});
    let answer = post(serving.address, "/v1/chat/completions", &body).json();
    assert_eq!(answer["choices"][0]["message"]["content"], chat);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let events = post(serving.address, "/v1/chat/completions", &streamed).events();
    let pieces: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(json!(pieces), chat);

    // The same seed gives the same answer, and a schema is kept to.
    let schema = json!({"type": "object", "properties": {"name": {"enum": ["ada", "bob"]}}, "required": ["name"],
                        "additionalProperties": false});
    let drawn = |seed: u64| {
        let mut body = json!({"messages": [{"role": "user", "content": "Who?"}], "seed": seed, "temperature": 1.5});
        body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let answer = post(serving.address, "/v1/chat/completions", &body).json();
        answer["choices"][0]["message"]["content"].as_str().expect("text").to_owned()
    };
    let first = drawn(5);
    assert_eq!(first, drawn(5));
    let value: Value = serde_json::from_str(&first).expect("JSON");
    assert!(["ada", "bob"].contains(&value["name"].as_str().unwrap_or_default()), "{value}");

    // A stop string, a length, a text that goes on, and one that the model cannot read.
    let mut stopped = body.clone();
    stopped["stop"] = json!("opening");
    let answer = post(serving.address, "/v1/chat/completions", &stopped).json();
    let whole = chat.as_str().expect("text");
    let until = whole.split("opening").next().expect("a beginning");
    assert_eq!(answer["choices"][0]["message"]["content"], until);
    let on =
        post(serving.address, "/v1/completions", &json!({"prompt": "The opening", "max_tokens": 3, "temperature": 0}));
    assert_eq!(on.json()["choices"][0]["finish_reason"], "length");
    assert_eq!(on.json()["usage"]["completion_tokens"], 3);
    for (path, body) in [
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "a ".repeat(100_000)}]})),
        ("/v1/completions", json!({"prompt": "a ".repeat(100_000)})),
        ("/v1/embeddings", json!({"input": "a ".repeat(100_000)})),
    ] {
        let refused = post(serving.address, path, &body);
        assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (400, json!("PS-CFG-001")), "{path}");
    }
    assert_eq!(get(serving.address, "/v1/models").json()["data"][0]["id"], "starter");
    assert_eq!(serving.end(), Some(0));
}

/// The first numbers of `model.model(ids).last_hidden_state[0].mean(0)` of transformers 5.23 for this text.
const POOLED: [f64; 6] = [0.289_462, -0.152_473, 1.033_263, -0.248_588, 1.226_5, 0.217_092];

#[test]
fn embeddings_are_the_mean_of_the_last_hidden_states_as_transformers_has_them() {
    let home = Home::new();
    let serving = Serving::start(home.command(&["serve", "--model", &fixture("llama"), "--port", "0", "--json"]));
    let vectors = post(serving.address, "/v1/embeddings", &json!({"input": "Hello world, how are you?"})).json();
    let numbers: Vec<f64> =
        vectors["data"][0]["embedding"].as_array().expect("numbers").iter().filter_map(Value::as_f64).collect();
    assert_eq!(numbers.len(), 64);
    for (found, expected) in numbers.iter().zip(POOLED) {
        assert!((found - expected).abs() < 2e-5, "{numbers:?}");
    }
    assert_eq!(vectors["usage"]["prompt_tokens"], 23);
}

#[test]
fn a_run_is_served_tuned_and_as_its_base_under_a_key() {
    let home = Home::new();
    let rows: Vec<String> = (0..8).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is blue"}}"#)).collect();
    let data = home.write("rows.jsonl", rows.join("\n"));
    let train = ["train", "--model", "starter", "--data", &data, "--name", "blue", "--epochs", "12"];
    let output = home.run(&[&train[..], &["--learning-rate", "5e-3", "--threads", "1"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut command = home.command(&["serve", "--run", "blue", "--port", "0", "--json"]);
    command.env("PEFT_STUDIO_API_KEY", "sesame");
    let serving = Serving::start(command);
    assert_eq!(serving.models, json!(["blue", "starter"]));
    assert_eq!(get(serving.address, "/v1/models").status, 401);
    let ask = |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Say 3"}], "temperature": 0});
        let fields = [("authorization", "Bearer sesame"), ("content-type", "application/json")];
        let stream = send(serving.address, "POST", "/v1/chat/completions", &fields, &body.to_string());
        receive(stream).json()["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(ask("blue"), "It is blue");
    assert_ne!(ask("starter"), "It is blue");
}

#[test]
fn what_cannot_be_served_is_told_before_anything_is_loaded() {
    let home = Home::new();
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("bound").port().to_string();
    let error = home.fault(1, &["serve", "--model", "starter", "--port", &port]);
    assert_eq!(error["code"], "PS-SRV-001");
    assert!(error["actions"][0]["command"].as_str().is_some_and(|command| command.starts_with("--port ")), "{error}");
    let error = home.fault(3, &["serve", "--model", "starter", "--host", "0.0.0.0"]);
    assert_eq!(error["code"], "PS-CFG-001");
    assert_eq!(home.fault(3, &["serve", "--model", "no/such-model", "--port", "0"])["code"], "PS-MODEL-001");
}
