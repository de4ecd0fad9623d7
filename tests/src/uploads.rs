//! The half of a hub that takes uploads: repositories, large files on a second host, commits; good or misbehaving.

use crate::listener::{Heard, Reply, Server};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Bytes of a part where files are sent in parts.
pub const PART: usize = 10_000;
/// Files at least this large are kept on the second host.
pub const LARGE: usize = 20_000;

/// What the hub is like.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Its repository is there already; is it private?
    pub exists: Option<bool>,
    /// What `whoami` says of the token.
    pub role: &'static str,
    /// Answers by the beginning of `METHOD /path`, each used once, before the truth.
    pub first: Vec<(&'static str, u16, &'static str)>,
    /// Large files are sent in parts.
    pub in_parts: bool,
    /// The token stands among the headers for the second host.
    pub leaks: bool,
}

#[derive(Default)]
struct State {
    manner: Manner,
    content: String,
    /// Large files by hash, parts in order.
    large: BTreeMap<String, Vec<u8>>,
    commits: Vec<Vec<Value>>,
    created: Vec<Value>,
}

/// A running hub with its second host.
pub struct MockUploads {
    hub: Server,
    content: Server,
    state: Arc<Mutex<State>>,
}

fn locked<T>(state: &Mutex<State>, change: impl FnOnce(&mut State) -> T) -> T {
    change(&mut state.lock().expect("no test thread panics with it"))
}

impl MockUploads {
    /// With these manners.
    pub fn new(manner: Manner) -> Self {
        let state = Arc::new(Mutex::new(State { manner, ..State::default() }));
        let (for_hub, for_content) = (Arc::clone(&state), Arc::clone(&state));
        let content = Server::new(move |heard| {
            locked(&for_content, |state| scripted(state, heard).unwrap_or_else(|| store(state, heard)))
        });
        locked(&state, |state| state.content = content.url());
        let hub = Server::new(move |heard| {
            locked(&for_hub, |state| scripted(state, heard).unwrap_or_else(|| answer(state, heard)))
        });
        Self { hub, content, state }
    }

    /// For `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.hub.url()
    }

    /// What the hub and its second host were asked since the last look.
    pub fn take_logs(&self) -> (Vec<Heard>, Vec<Heard>) {
        (self.hub.take_log(), self.content.take_log())
    }

    /// The next answers, as in [`Manner::first`].
    pub fn script(&self, first: Vec<(&'static str, u16, &'static str)>) {
        locked(&self.state, |state| state.manner.first = first);
    }

    /// Every commit, its lines without the header.
    pub fn commits(&self) -> Vec<Vec<Value>> {
        locked(&self.state, |state| state.commits.clone())
    }

    /// What repositories were asked for with.
    pub fn created(&self) -> Vec<Value> {
        locked(&self.state, |state| state.created.clone())
    }

    /// The large file of this hash.
    pub fn large(&self, sha256: &str) -> Option<Vec<u8>> {
        locked(&self.state, |state| state.large.get(sha256).cloned())
    }
}

fn scripted(state: &mut State, heard: &Heard) -> Option<Reply> {
    let line = format!("{} {}", heard.method, heard.path);
    let at = state.manner.first.iter().position(|(begin, ..)| line.starts_with(begin))?;
    let (_, status, text) = state.manner.first.remove(at);
    Some(if status == 0 { Reply::HangUp } else { Reply::text(status, text) })
}

fn answer(state: &mut State, heard: &Heard) -> Reply {
    let ok = |document: Value| Reply::json(200, &document);
    match (heard.method.as_str(), heard.path.as_str()) {
        ("GET", "/api/whoami-v2") => {
            ok(json!({"name": "me", "orgs": [], "auth": {"accessToken": {"role": state.manner.role}}}))
        }
        ("POST", "/api/repos/create") => {
            state.created.push(heard.json());
            match state.manner.exists {
                Some(_) => Reply::json(409, &json!({"error": "You already created this model repo"})),
                None => ok(json!({"url": "somewhere"})),
            }
        }
        ("GET", path) if path.starts_with("/api/models/") => ok(json!({"private": state.manner.exists == Some(true)})),
        ("POST", path) if path.ends_with("/preupload/main") => {
            let mode = |file: &Value| {
                let large = file["size"].as_u64().unwrap_or(0) >= LARGE as u64;
                json!({"path": file["path"], "uploadMode": if large { "lfs" } else { "regular" }, "shouldIgnore": false})
            };
            let files: Vec<Value> = heard.json()["files"].as_array().into_iter().flatten().map(mode).collect();
            ok(json!({"files": files}))
        }
        ("POST", path) if path.ends_with(".git/info/lfs/objects/batch") => ok(batch(state, heard)),
        ("POST", path) if path.starts_with("/verify") => Reply::text(200, ""),
        ("POST", path) if path.ends_with("/commit/main") => commit(state, heard),
        _ => Reply::text(404, "no"),
    }
}

fn batch(state: &State, heard: &Heard) -> Value {
    let object = &heard.json()["objects"][0];
    let oid = object["oid"].as_str().unwrap_or_default();
    let size = object["size"].as_u64().unwrap_or(0) as usize;
    if state.large.get(oid).is_some_and(|held| held.len() == size) {
        return json!({"objects": [{"oid": oid, "size": size}]});
    }
    let content = &state.content;
    let mut header = json!({"x-signed": "yes"});
    if state.manner.leaks {
        header["authorization"] = json!(heard.headers.get("authorization"));
    }
    let mut upload = json!({"href": format!("{content}/put/{oid}?signature=s"), "header": header});
    if state.manner.in_parts {
        let mut header = json!({"chunk_size": PART.to_string()});
        for part in 1..=size.div_ceil(PART) {
            header[part.to_string()] = json!(format!("{content}/part/{oid}/{part}"));
        }
        upload = json!({"href": format!("{content}/complete/{oid}"), "header": header});
    }
    json!({"objects": [{"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": format!("{content}/verify")}}}]})
}

fn store(state: &mut State, heard: &Heard) -> Reply {
    let path = heard.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (heard.method.as_str(), &parts[..]) {
        ("PUT", ["put", oid]) => {
            state.large.insert((*oid).to_owned(), heard.body.clone());
            Reply::text(200, "")
        }
        ("PUT", ["part", oid, number]) => {
            let held = state.large.entry((*oid).to_owned()).or_default();
            if *number == "1" {
                held.clear();
            }
            held.extend_from_slice(&heard.body);
            Reply::Answer(200, vec![("etag", format!("\"{number}\""))], Vec::new())
        }
        ("POST", ["complete" | "verify", ..]) => Reply::text(200, ""),
        _ => Reply::text(403, "expired"),
    }
}

fn commit(state: &mut State, heard: &Heard) -> Reply {
    let text = String::from_utf8_lossy(&heard.body).into_owned();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for line in lines.iter().filter(|line| line["key"] == "lfsFile") {
        let oid = line["value"]["oid"].as_str().unwrap_or_default();
        let held = state.large.get(oid).map(|held| crate::hex(&Sha256::digest(held)));
        if held.as_deref() != Some(oid) {
            return Reply::json(400, &json!({"error": "LFS pointer pointed to a file that does not exist"}));
        }
    }
    state.commits.push(lines.into_iter().skip(1).collect());
    Reply::json(200, &json!({"commitUrl": "somewhere", "commitOid": "c".repeat(40)}))
}
