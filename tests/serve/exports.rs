//! `data persona --serve`: another program of this computer asks for the dataset (S3.2, D6).

use super::client::{post, receive, send};
use peft_tests::home::Home;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

#[test]
fn whoever_has_the_token_gets_the_dataset_written_s3_2() {
    let home = Home::new();
    let chat = "31.12.23, 21:05 - Ana: Where are you?\n31.12.23, 21:06 - Me: At home.\n".repeat(2)
        + "31.12.23, 21:07 - Ana: And now?\n31.12.23, 21:08 - Me: Still here.\n";
    let chat = home.write("chat.txt", chat);
    let personality = home.write("me.txt", "You are Me.");
    let out = home.path("twin.jsonl");
    let fixed =
        ["data", "persona", "--memories", &chat, "--personality", &personality, "--me", "Me", "--out", &out, "--serve"];
    assert_eq!(home.fault(3, &[&fixed[..], &["--port", "0"]].concat())["code"], "PS-CFG-001", "a token is needed");
    let mut command = home.command(&[&fixed[..], &["--port", "0", "--json"]].concat());
    let mut child = command
        .env("PEFT_STUDIO_API_KEY", "owner-token")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let event: Value = serde_json::from_str(&line).expect("JSON");
    let url = event["url"].as_str().expect("an address").to_owned();
    let (host, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let (address, path): (SocketAddr, String) = (host.parse().expect("an address"), format!("/{path}"));
    assert!(address.ip().is_loopback() && path == "/api/finetune/export");

    let body = json!({"format": "chatml", "quality_filter": true, "deduplicate": true});
    let with = |token: &str, path: &str, body: &str| {
        let token = format!("Bearer {token}");
        receive(send(address, "POST", path, &[("authorization", &token), ("content-type", "application/json")], body))
    };
    assert_eq!(post(address, &path, &body).status, 401);
    assert_eq!(with("owner-toke", &path, &body.to_string()).status, 401);
    assert!(!std::path::Path::new(&out).exists(), "nobody else has anything written");
    let page = [("authorization", "Bearer owner-token"), ("origin", "https://evil.example")];
    assert_eq!(receive(send(address, "POST", &path, &page, "{}")).status, 403);
    assert_eq!(with("owner-token", &path, "{\"format\":\"xml\"}").status, 400);
    assert_eq!(with("owner-token", &path, "{\"out\":\"x\"}").status, 400);
    assert_eq!(with("owner-token", "/v1/models", "{}").status, 404);
    let answer = with("owner-token", &path, &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.json()["rows"].as_u64().is_some_and(|rows| rows > 0), "{}", answer.body);
    let rows = std::fs::read_to_string(&out).expect("written");
    assert!(rows.contains("You are Me."));
    let plain = json!({"include_system": false});
    assert_eq!(with("owner-token", &path, &plain.to_string()).status, 200);
    assert!(!std::fs::read_to_string(&out).expect("written").contains("You are Me."), "S3.3");

    let ended = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    assert!(ended.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
