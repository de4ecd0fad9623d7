//! A hub on this machine that misbehaves on demand: the API, the files, and a second host as a content network.
//!
//! Small files come from the hub itself; large ones by a redirect to the second host, whose addresses are signed and
//! which must never see a token. What it does wrong is a script: each answer with content takes the next step.

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

/// Files at least this large are kept on the second host.
pub const LARGE: usize = 15_000;

/// What an answer with content does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What it should.
    Serve,
    /// Sends so many bytes and closes the connection.
    End(usize),
    /// Sends so many bytes and resets the connection.
    Reset(usize),
    /// Sends so many bytes and then nothing for a while.
    Stall(usize, Duration),
    /// Answers with this status and these header fields.
    Status(u16, Vec<(&'static str, String)>),
    /// Sends all of it, whatever part was asked for.
    Whole,
    /// Says that it has another version.
    OtherVersion,
    /// Says that it sends another part than was asked for.
    OtherRange,
    /// Says that the content is compressed.
    Compressed,
    /// A login page.
    LoginPage,
    /// One byte of what it sends, by its place, is another.
    Flip(usize),
    /// Sends more than there is, without saying how much.
    TooLong,
    /// Says that there is less than there is.
    TooShort,
    /// Sends the rest at so many bytes a second.
    Slow(usize),
    /// Redirects to an address of its own choice.
    Redirect(String),
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// `hub` or `content`.
    pub host: &'static str,
    /// The first line.
    pub line: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// Where the asked range begins.
    pub fn start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

/// One file of a repository.
#[derive(Clone)]
struct File {
    content: Arc<Vec<u8>>,
    sha256: String,
    git: String,
}

#[derive(Default)]
struct State {
    /// `models/owner/name` to its files.
    repositories: BTreeMap<String, BTreeMap<String, File>>,
    /// What the list of files says instead of the truth: name to the sibling's document.
    lies: BTreeMap<String, Value>,
    /// Extra names in the list of files.
    extra: Vec<String>,
    steps: VecDeque<Step>,
    /// What questions to the API are answered with, in order, before the truth.
    api_steps: VecDeque<Step>,
    /// Without the lengths and hashes of files.
    is_terse: bool,
    /// The token that is needed, if one is.
    token: Option<String>,
    search: Value,
    log: Vec<Request>,
}

/// A running hub. It ends with the process.
pub struct MockHub {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    content: SocketAddr,
}

/// What every commit of the mock is called.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Default for MockHub {
    fn default() -> Self {
        Self::new()
    }
}

impl MockHub {
    /// A hub without repositories.
    pub fn new() -> Self {
        let state = Arc::new(Mutex::new(State { search: json!([]), ..State::default() }));
        let [hub, content] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let address = |listener: &TcpListener| listener.local_addr().expect("bound");
        let (hub_address, content_address) = (address(&hub), address(&content));
        for (listener, name) in [(hub, "hub"), (content, "content")] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || {
                        // Whoever asked may be gone by now; that is what these tests are about.
                        let _answered = Connection { stream, state, name, content: content_address }.answer();
                    });
                }
            });
        }
        Self { state, address: hub_address, content: content_address }
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no test thread panics with it"))
    }

    /// For `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The second host.
    pub fn content(&self) -> String {
        format!("http://{}", self.content)
    }

    /// Put files into `models/owner/name` or `datasets/owner/name`.
    pub fn publish(&self, repository: &str, files: &[(&str, &[u8])]) {
        let file = |content: &[u8]| File {
            sha256: crate::hex(&Sha256::digest(content)),
            git: crate::hex(
                &Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content).finalize(),
            ),
            content: Arc::new(content.to_vec()),
        };
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect();
        self.state(|state| state.repositories.insert(repository.to_owned(), files));
    }

    /// The hash by which the file is known.
    pub fn etag(&self, repository: &str, path: &str) -> String {
        self.state(|state| etag(&state.repositories[repository][path]))
    }

    /// The next answers with content.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state(|state| state.steps = steps.into_iter().collect());
    }

    /// The next answers of the API.
    pub fn script_api(&self, steps: impl IntoIterator<Item = Step>) {
        self.state(|state| state.api_steps = steps.into_iter().collect());
    }

    /// Describe the file `path` falsely in lists.
    pub fn lie(&self, path: &str, sibling: Value) {
        self.state(|state| state.lies.insert(path.to_owned(), sibling));
    }

    /// List names that have no content.
    pub fn list_also(&self, names: &[&str]) {
        self.state(|state| state.extra = names.iter().map(|name| (*name).to_owned()).collect());
    }

    /// Lists say neither lengths nor hashes.
    pub fn be_terse(&self) {
        self.state(|state| state.is_terse = true);
    }

    /// Answer nobody without this token.
    pub fn need_token(&self, token: &str) {
        self.state(|state| state.token = Some(token.to_owned()));
    }

    /// What every search finds.
    pub fn found(&self, items: Value) {
        self.state(|state| state.search = items);
    }

    /// Everything that was asked since the last look.
    pub fn take_log(&self) -> Vec<Request> {
        self.state(|state| std::mem::take(&mut state.log))
    }

    /// Steps that nobody has come for.
    pub fn steps_left(&self) -> usize {
        self.state(|state| state.steps.len())
    }
}

fn etag(file: &File) -> String {
    if file.content.len() >= LARGE { file.sha256.clone() } else { file.git.clone() }
}

struct Connection {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
    name: &'static str,
    content: SocketAddr,
}

type Answered = std::io::Result<()>;

impl Connection {
    fn answer(mut self) -> Answered {
        let Some(request) = self.request()? else { return Ok(()) };
        self.lock(|state| state.log.push(request.clone()));
        let mut words = request.line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
        let path = target.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
        if self.name == "hub" {
            let needed = self.lock(|state| state.token.clone());
            let given = request.headers.get("authorization").map(String::as_str);
            if let Some(token) = needed.filter(|token| given != Some(&format!("Bearer {token}"))) {
                assert!(!token.is_empty());
                return self.plain(401, &[], "Invalid credentials in Authorization header");
            }
        }
        match path.strip_prefix("api/") {
            Some(rest) => self.api(rest),
            None => self.file(method, &path, &request),
        }
    }

    fn lock<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no test thread panics with it"))
    }

    fn request(&mut self) -> std::io::Result<Option<Request>> {
        self.stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.lines();
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Ok(Some(Request { host: self.name, line, headers }))
    }

    fn plain(&mut self, status: u16, headers: &[(&str, String)], body: &str) -> Answered {
        let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("a String takes everything");
        }
        self.stream.write_all(format!("{head}\r\n{body}").as_bytes())
    }

    fn api(&mut self, path: &str) -> Answered {
        match self.lock(|state| state.api_steps.pop_front()) {
            Some(Step::Status(status, headers)) => return self.plain(status, &headers, "no"),
            Some(Step::LoginPage) => return self.login_page(),
            Some(Step::Redirect(to)) => return self.plain(302, &[("location", to)], ""),
            Some(Step::End(_) | Step::Reset(_)) => return self.reset(),
            Some(Step::Stall(_, time)) => {
                sleep(time);
                return Ok(());
            }
            _ => {}
        }
        let parts: Vec<&str> = path.split('/').collect();
        let document = if let ["models"] = parts[..] {
            Some(self.lock(|state| state.search.clone()))
        } else if let [kind, owner, name, "revision", revision] = parts[..] {
            if revision == "missing" {
                let code = ("x-error-code", "RevisionNotFound".to_owned());
                return self.plain(404, &[code], "no");
            }
            self.description(&format!("{kind}/{owner}/{name}"))
        } else {
            None
        };
        match document {
            Some(document) => {
                let kind = ("content-type", "application/json".to_owned());
                self.plain(200, &[kind], &document.to_string())
            }
            None => self.plain(404, &[("x-error-code", "RepoNotFound".to_owned())], "no"),
        }
    }

    fn description(&self, repository: &str) -> Option<Value> {
        self.lock(|state| {
            let files = state.repositories.get(repository)?;
            let sibling = |(path, file): (&String, &File)| {
                if let Some(lie) = state.lies.get(path) {
                    return lie.clone();
                }
                let size = file.content.len();
                if state.is_terse {
                    return json!({"rfilename": path});
                }
                let mut sibling = json!({"rfilename": path, "size": size, "blobId": file.git});
                if size >= LARGE {
                    sibling["lfs"] = json!({"sha256": file.sha256, "size": size, "pointerSize": 134});
                }
                sibling
            };
            let mut siblings: Vec<Value> = files.iter().map(sibling).collect();
            siblings
                .extend(state.extra.iter().map(|name| json!({"rfilename": name, "size": 1, "blobId": "0".repeat(40)})));
            let id = repository.split_once('/').map_or(repository, |(_, id)| id);
            Some(json!({"id": id, "sha": COMMIT, "siblings": siblings, "tags": ["license:apache-2.0"], "gated": false,
                        "downloads": 12_345, "likes": 67}))
        })
    }

    /// `owner/name/resolve/COMMIT/PATH`, also below `datasets/`.
    fn file(&mut self, method: &str, path: &str, request: &Request) -> Answered {
        let Some((repository, rest)) = path.split_once("/resolve/") else { return self.plain(404, &[], "no") };
        let repository =
            if repository.starts_with("datasets/") { repository.to_owned() } else { format!("models/{repository}") };
        let name = rest.split_once('/').map_or("", |(_, name)| name);
        let found = self.lock(|state| state.repositories.get(&repository)?.get(name).cloned());
        let Some(file) = found else {
            return self.plain(404, &[("x-error-code", "EntryNotFound".to_owned())], "no");
        };
        let is_large = file.content.len() >= LARGE;
        let mut headers = vec![
            ("x-repo-commit", COMMIT.to_owned()),
            ("etag", format!("\"{}\"", etag(&file))),
            ("content-type", "application/octet-stream".to_owned()),
        ];
        if is_large && self.name == "hub" {
            let is_changed = self.lock(|state| state.steps.pop_front_if(|step| *step == Step::OtherVersion).is_some());
            let etag = if is_changed { "e".repeat(64) } else { file.sha256.clone() };
            headers.push(("x-linked-etag", format!("\"{etag}\"")));
            headers.push(("x-linked-size", file.content.len().to_string()));
            headers.push(("location", format!("http://{}/{path}?signature=secret", self.content)));
            return self.plain(302, &headers, "");
        }
        if method == "HEAD" {
            headers.push(("content-length", file.content.len().to_string()));
            let mut head = "HTTP/1.1 200 X\r\nconnection: close\r\n".to_owned();
            for (name, value) in headers {
                write!(head, "{name}: {value}\r\n").expect("a String takes everything");
            }
            return self.stream.write_all(format!("{head}\r\n").as_bytes());
        }
        // The script is about the content network where there is one in the game.
        let is_scripted = is_large
            || request.host == "hub"
                && self.lock(|s| !s.repositories[&repository].values().any(|f| f.content.len() >= LARGE));
        let step = if is_scripted { self.lock(|state| state.steps.pop_front()) } else { None };
        self.content(&step.unwrap_or(Step::Serve), &file, request.start(), headers)
    }

    fn content(
        &mut self,
        step: &Step,
        file: &File,
        start: Option<usize>,
        mut headers: Vec<(&'static str, String)>,
    ) -> Answered {
        let all = file.content.as_slice();
        let first = if *step == Step::Whole { 0 } else { start.unwrap_or(0) };
        if first > all.len() {
            return self.plain(416, &headers, "");
        }
        let mut body = all[first..].to_vec();
        let mut length = Some(body.len());
        match step {
            Step::Status(status, extra) => {
                headers.extend(extra.iter().cloned());
                return self.plain(*status, &headers, "no");
            }
            Step::LoginPage => return self.login_page(),
            Step::Redirect(to) => return self.plain(302, &[("location", to.clone())], ""),
            Step::OtherVersion => headers[1].1 = format!("\"{}\"", "e".repeat(64)),
            Step::Compressed => headers.push(("content-encoding", "gzip".to_owned())),
            Step::Flip(at) if *at >= first && *at < all.len() => body[*at - first] ^= 0x40,
            Step::TooLong => {
                body.extend_from_slice(b"and more");
                length = None;
            }
            Step::TooShort => {
                body.truncate(body.len() / 2);
                length = Some(body.len());
            }
            _ => {}
        }
        let is_part = start.is_some() && *step != Step::Whole;
        if is_part {
            let told = if *step == Step::OtherRange { first.saturating_sub(1) } else { first };
            headers.push(("content-range", format!("bytes {told}-{}/{}", all.len() - 1, all.len())));
        }
        if self.name == "content" {
            // Content networks have etags of their own.
            "\"0x8DD-1\"".clone_into(&mut headers[1].1);
        }
        if let Some(length) = length {
            headers.push(("content-length", length.to_string()));
        }
        let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", if is_part { 206 } else { 200 });
        for (name, value) in &headers {
            write!(head, "{name}: {value}\r\n").expect("a String takes everything");
        }
        self.stream.write_all(format!("{head}\r\n").as_bytes())?;
        match step {
            Step::End(bytes) => self.stream.write_all(&body[..(*bytes).min(body.len())]),
            Step::Reset(bytes) => {
                self.stream.write_all(&body[..(*bytes).min(body.len())])?;
                self.reset()
            }
            Step::Stall(bytes, time) => {
                self.stream.write_all(&body[..(*bytes).min(body.len())])?;
                sleep(*time);
                self.stream.shutdown(Shutdown::Both)
            }
            Step::Slow(rate) => {
                for piece in body.chunks((rate / 20).max(1)) {
                    self.stream.write_all(piece)?;
                    sleep(Duration::from_millis(50));
                }
                Ok(())
            }
            _ => self.stream.write_all(&body),
        }
    }

    fn login_page(&mut self) -> Answered {
        let kind = ("content-type", "text/html; charset=utf-8".to_owned());
        self.plain(200, &[kind], "<!DOCTYPE html><title>Welcome to our hotel</title>")
    }

    /// Closes so that the other side hears of it as an error.
    fn reset(&mut self) -> Answered {
        // What was written shall arrive before the reset, or it would be lost on the way.
        sleep(Duration::from_millis(20));
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}
