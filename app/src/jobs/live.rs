//! Talking to a run while it trains (B9): the question travels through the store, the answer through a file.
//!
//! The file `answers/ID.jsonl` in the run's directory gets one JSON object a line: `{"begun":{"step"}}`, then
//! `{"column":"base"|"tuned","text"}` as it is written, at last `{"done":{…}}` or `{"error":{…}}`. A file
//! `answers/ID.cancel` says that nobody wants the answer any more.

use super::answer::{Answers, AskOptions, OnText, Replies, Texts, Wording};
use peft_models::generate::{Generated, Halt, Prompt};
use peft_models::train::{Listener, Question};
use peft_plan::fault::catalogue;
use peft_plan::{Fault, Result, Turn};
use peft_storage::{CommandKind, Run, RunLock, Status, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the answers of a run are.
const FOLDER: &str = "answers";
/// How often whoever asked looks for more of the answer.
const LOOK: Duration = Duration::from_millis(10);
/// How often the run looks whether anybody still wants an answer.
const CARE: Duration = Duration::from_millis(100);

/// What is asked of a live run: the payload of the command `answer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    id: String,
    columns: Vec<AskColumn>,
    options: AskOptions,
}

/// One conversation to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskColumn {
    adapter: bool,
    messages: Vec<Turn>,
}

/// Whether a live process trains `run`.
pub fn is_live(run: &Run) -> bool {
    run.status == Status::Running && RunLock::is_held(&run.directory)
}

fn name_of(adapter: bool) -> &'static str {
    if adapter { "tuned" } else { "base" }
}

/// A question from the payload of a command, for the run in `directory`. What is wrong with it is written where the
/// answer would be; a payload that does not even say where is passed over.
pub fn question<'a>(wording: &Wording<'a>, directory: &Path, full: bool, payload: &Value) -> Option<Question<'a>> {
    let id = payload["id"].as_str().filter(|id| is_id(id))?;
    let path = directory.join(FOLDER).join(format!("{id}.jsonl"));
    durable::create_directories(&directory.join(FOLDER)).ok()?;
    let file = File::options().create_new(true).append(true).open(&path).ok()?;
    let mut answer = LiveAnswer {
        file,
        cancel: path.with_extension("cancel"),
        texts: None,
        names: Vec::new(),
        is_gone: false,
        looked: Instant::now(),
        step: 0,
    };
    match prepared(wording, full, payload, &mut answer) {
        Ok((prompts, options)) => Some(Question { prompts, options, listener: Box::new(answer) }),
        Err(fault) => {
            answer.failed(fault);
            None
        }
    }
}

fn prepared<'a>(
    wording: &Wording<'a>,
    full: bool,
    payload: &Value,
    answer: &mut LiveAnswer<'a>,
) -> Result<(Vec<Prompt>, peft_models::generate::GenerateOptions)> {
    let bad = |why: String| Fault::new("PS-CFG-001", format!("The question cannot be answered: {why}"));
    let ask: Ask = serde_json::from_value(payload.clone()).map_err(|e| bad(e.to_string()))?;
    if !(1..=2).contains(&ask.columns.len()) {
        return Err(bad(format!("it has {} columns; there can be a base and a tuned one", ask.columns.len())));
    }
    if full && ask.columns.iter().any(|column| !column.adapter) {
        return Err(bad("a full fine-tune changes the base itself while it runs".to_owned()));
    }
    let options = wording.options(&ask.options)?;
    let mut fitted = Vec::new();
    let mut prompts = Vec::new();
    for AskColumn { adapter, messages } in &ask.columns {
        let one = wording.fit(messages, ask.options.max_new_tokens)?;
        prompts.push(Prompt { ids: one.ids.clone(), adapter: *adapter });
        fitted.push(one);
        answer.names.push(name_of(*adapter));
    }
    answer.texts = Some(wording.texts(fitted, &ask.options.stop)?);
    Ok((prompts, options))
}

/// A name that is a plain file name.
fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Writes one answer to its file.
struct LiveAnswer<'a> {
    file: File,
    cancel: PathBuf,
    texts: Option<Texts<'a>>,
    names: Vec<&'static str>,
    is_gone: bool,
    looked: Instant,
    step: u64,
}

fn write(file: &mut File, line: &Value) -> io::Result<()> {
    let mut bytes = line.to_string().into_bytes();
    bytes.push(b'\n');
    file.write_all(&bytes)
}

impl LiveAnswer<'_> {
    /// An answer that cannot be written is one that nobody can read.
    fn tell(&mut self, line: &Value) {
        self.is_gone |= write(&mut self.file, line).is_err();
    }
}

impl Listener for LiveAnswer<'_> {
    fn begun(&mut self, step: u64) {
        self.step = step;
        self.tell(&json!({"begun": {"step": step}}));
    }

    fn token(&mut self, prompt: usize, token: u32) -> ControlFlow<Halt> {
        let Self { file, texts, names, is_gone, .. } = self;
        let Some(texts) = texts else { return ControlFlow::Break(Halt::All) };
        let mut failed = false;
        let next = texts.token(prompt, token, &mut |i, piece| {
            failed |= write(file, &json!({"column": names[i], "text": piece})).is_err();
            ControlFlow::Continue(())
        });
        *is_gone |= failed;
        next
    }

    fn is_gone(&mut self) -> bool {
        if self.looked.elapsed() >= CARE {
            self.looked = Instant::now();
            self.is_gone |= self.cancel.exists();
        }
        self.is_gone
    }

    fn done(&mut self, generated: Generated) {
        let Self { file, texts, names, step, .. } = self;
        let Some(texts) = texts.take() else { return };
        let finished = texts.finish(generated, &mut |i, piece| {
            // The text is in the last line too.
            let _written = write(file, &json!({"column": names[i], "text": piece}));
            ControlFlow::Continue(())
        });
        match finished {
            Ok(replies) => {
                let replies = Replies { step: Some(*step), ..replies };
                self.tell(&json!({"done": replies}));
            }
            Err(fault) => self.failed(fault),
        }
    }

    fn failed(&mut self, fault: Fault) {
        let error = crate::cli::error::to_json(&fault)["error"].clone();
        self.tell(&json!({"error": error}));
    }
}

/// A run in another process that answers while it trains.
pub struct LiveRun<'s> {
    store: &'s Store,
    run: Run,
}

/// The files of one answer, removed when it was read.
struct Files {
    answer: PathBuf,
    cancel: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.answer, &self.cancel] {
            // What cannot be removed stays, and does no harm.
            let _removed = std::fs::remove_file(path);
        }
    }
}

impl<'s> LiveRun<'s> {
    /// Talk to `run`, which [`is_live`].
    pub fn new(store: &'s Store, run: Run) -> Self {
        Self { store, run }
    }
}

/// The code of an answer that a run could not finish before it ended.
pub const ENDED: &str = "PS-RUN-003";

impl Answers for LiveRun<'_> {
    fn ask(
        &mut self,
        conversations: &[(&[Turn], bool)],
        options: &AskOptions,
        on_text: &mut OnText,
    ) -> Result<Replies> {
        options.check()?;
        let id = new_id();
        let folder = self.run.directory.join(FOLDER);
        let files = Files { answer: folder.join(format!("{id}.jsonl")), cancel: folder.join(format!("{id}.cancel")) };
        let columns =
            conversations.iter().map(|(turns, adapter)| AskColumn { adapter: *adapter, messages: turns.to_vec() });
        let ask = Ask { id, columns: columns.collect(), options: options.clone() };
        let payload = serde_json::to_value(&ask).expect("a question is plain data");
        self.store.push_command(&self.run.id, CommandKind::Answer, &payload)?;
        let names: Vec<&str> = conversations.iter().map(|(_, adapter)| name_of(*adapter)).collect();
        let mut reader = Tail { path: files.answer.clone(), position: 0, rest: Vec::new() };
        loop {
            // Asked before reading: whatever was written before the run ended is read.
            let is_over = !RunLock::is_held(&self.run.directory);
            for line in reader.lines()? {
                let column = line["column"].as_str().and_then(|name| names.iter().position(|n| *n == name));
                if let (Some(column), Some(text)) = (column, line["text"].as_str()) {
                    if on_text(column, text).is_break() {
                        // The answer so far still comes.
                        let _asked = File::create(&files.cancel);
                    }
                } else if let Some(done) = line.get("done") {
                    return serde_json::from_value(done.clone()).map_err(|e| unreadable(&files.answer, e));
                } else if let Some(error) = line.get("error") {
                    return Err(fault_of(error));
                }
            }
            if is_over {
                return Err(Fault::new(ENDED, format!("The run `{}` ended before it had answered", self.run.name)));
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn unreadable(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    Fault::new("PS-APP-004", format!("The answer in `{}` cannot be read", path.display())).caused_by(error)
}

/// A fault that another process wrote down.
fn fault_of(error: &Value) -> Fault {
    let known = error["code"].as_str().and_then(|code| catalogue().get_key_value(code));
    let code = known.map_or("PS-APP-004", |(code, _)| code.as_str());
    Fault::new(code, error["detail"].as_str().unwrap_or("The run could not answer"))
}

/// No two questions have the same.
fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos());
    format!("{since:x}-{:x}-{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Reads a file that grows.
struct Tail {
    path: PathBuf,
    position: u64,
    rest: Vec<u8>,
}

impl Tail {
    /// The whole lines that came since the last call. A file that is not there yet has none.
    fn lines(&mut self) -> Result<Vec<Value>> {
        let io = |error| Fault::io("read", &self.path, error);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(error)),
        };
        file.seek(SeekFrom::Start(self.position)).map_err(io)?;
        self.position += file.read_to_end(&mut self.rest).map_err(io)? as u64;
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else { return Ok(Vec::new()) };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let parsed = whole.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        parsed.map(|line| serde_json::from_slice(line).map_err(|e| unreadable(&self.path, e))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_the_folder() {
        assert!(is_id(&new_id()) && new_id() != new_id());
        for id in ["", "../x", "a/b", "a.b", "é", &"x".repeat(65)] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn a_growing_file_is_read_a_whole_line_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        let mut tail = Tail { path: path.clone(), position: 0, rest: Vec::new() };
        assert!(tail.lines().expect("nothing yet").is_empty());
        let mut file = File::create(&path).expect("created");
        file.write_all(b"{\"a\":1}\n{\"b\"").expect("written");
        assert_eq!(tail.lines().expect("read"), [json!({"a": 1})]);
        assert!(tail.lines().expect("read").is_empty());
        file.write_all(b":2}\n").expect("written");
        assert_eq!(tail.lines().expect("read"), [json!({"b": 2})]);
        file.write_all(b"no json\n").expect("written");
        assert_eq!(tail.lines().expect_err("broken").code, "PS-APP-004");
    }
}
