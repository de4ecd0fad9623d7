//! Readers of risky formats in a process of their own, which may run out of memory or time or break alone.
//!
//! The process is told paths, a line each, and answers with pieces of the document, a line of JSON each. It reads one
//! file after the other and is only replaced when one of them was too much for it. What it said before that counts.

use crate::block::Document;
use crate::limits::Limits;
use crate::read::{Format, Sink, read};
use peft_plan::{Fault, Result};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};

/// Pieces that wait until they are taken.
const AHEAD: usize = 2;

/// What the process says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Piece(Document),
    End(Format),
    Fault { code: String, detail: String },
}

/// Reads documents: here, or the risky ones elsewhere.
#[derive(Default)]
pub struct Reader {
    program: Option<(PathBuf, Vec<OsString>)>,
    worker: Option<Worker>,
}

impl Reader {
    /// Everything is read in this process.
    pub fn here() -> Self {
        Self::default()
    }

    /// Risky formats are read by a process of `program`, which runs [`serve`] when it is called with `arguments`.
    pub fn apart(program: PathBuf, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(OsString::from).collect();
        Self { program: Some((program, arguments)), worker: None }
    }

    /// Read the file at `path`; its pieces go to `sink` in order. Returns how it was read.
    pub fn read(&mut self, path: &Path, limits: &Limits, sink: &mut Sink<'_>) -> Result<Format> {
        let Some((program, arguments)) = &self.program else { return read(path, limits, sink) };
        if !Format::of_path(path)?.is_risky() {
            return read(path, limits, sink);
        }
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(program, arguments, limits)?,
        };
        let (format, is_usable) = worker.read(path, limits, sink)?;
        if is_usable {
            self.worker = Some(worker);
        }
        format
    }
}

/// A process that reads.
struct Worker {
    child: Child,
    orders: ChildStdin,
    said: Receiver<std::io::Result<Vec<u8>>>,
}

/// How a file went, and whether the process can read another one.
type Outcome = (Result<Format>, bool);

impl Worker {
    fn start(program: &Path, arguments: &[OsString], limits: &Limits) -> Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Fault::io("start", program, error))?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Fault::new("PS-DISK-003", "The process that reads documents has no pipes"));
        };
        let (tell, said) = sync_channel(AHEAD);
        let longest = limits.unpacked.saturating_mul(2);
        std::thread::Builder::new()
            .name("documents".into())
            .spawn(move || listen(output, longest, &tell))
            .map_err(|error| Fault::io("start", program, error))?;
        Ok(Self { child, orders, said })
    }

    /// An error is one of whoever takes the pieces.
    fn read(&mut self, path: &Path, limits: &Limits, sink: &mut Sink<'_>) -> Result<Outcome> {
        let absolute = std::path::absolute(path).map_err(|error| Fault::io("read", path, error))?;
        let Some(name) = absolute.to_str() else {
            let detail = format!("`{}` has a name that is not Unicode; rename it", path.display());
            return Ok((Err(Fault::new("PS-FILE-001", detail)), true));
        };
        let order = format!("{}\n", serde_json::Value::from(name));
        // Whether it was heard is seen in what is answered.
        self.orders.write_all(order.as_bytes()).and_then(|()| self.orders.flush()).ok();
        let mut last_page = None;
        let mut pieces = 0;
        loop {
            let what = match self.said.recv_timeout(limits.silence) {
                Ok(Ok(line)) => match serde_json::from_slice(&line) {
                    Ok(Said::Piece(document)) => {
                        pieces += 1;
                        last_page = document.blocks.last().and_then(|block| block.page).or(last_page);
                        sink(document)?;
                        continue;
                    }
                    Ok(Said::End(format)) => return Ok((Ok(format), true)),
                    Ok(Said::Fault { code, detail }) => {
                        let code = peft_plan::fault::known_code(&code).unwrap_or("PS-DATA-011");
                        let detail = detail.replace(name, &path.display().to_string());
                        return Ok((Err(Fault::new(code, detail)), true));
                    }
                    Err(_) => "what was read of it makes no sense".to_owned(),
                },
                Ok(Err(error)) => format!("the process that reads it cannot be heard ({error})"),
                Err(RecvTimeoutError::Timeout) => {
                    format!("it took longer than {} seconds to go on", limits.silence.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => self.how_it_ended(limits),
            };
            self.end();
            let format = Format::of_path(path)?;
            if pieces == 0 {
                let detail = format!("`{}` cannot be read: {what}", path.display());
                return Ok((Err(Fault::new("PS-DATA-011", detail)), false));
            }
            let place =
                last_page.map_or("a part of it".to_owned(), |page: u32| format!("everything behind page {page}"));
            sink(Document { warnings: vec![format!("{place} could not be read: {what}")], ..Document::default() })?;
            return Ok((Ok(format), false));
        }
    }

    fn how_it_ended(&mut self, limits: &Limits) -> String {
        let memory = format!("it needs more than {} MiB of memory", limits.memory >> 20);
        match self.child.wait() {
            // An allocation that is refused aborts.
            #[cfg(unix)]
            Ok(status) if std::os::unix::process::ExitStatusExt::signal(&status) == Some(6) => memory,
            Ok(status) => format!("the process that read it broke ({status})"),
            Err(error) => format!("the process that read it is lost ({error})"),
        }
    }

    fn end(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Passes lines on until there are no more or nobody listens.
fn listen(output: ChildStdout, longest: u64, tell: &SyncSender<std::io::Result<Vec<u8>>>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let read = (&mut output).take(longest).read_until(b'\n', &mut line);
        let is_over = match &read {
            Ok(_) => !line.ends_with(b"\n"),
            Err(_) => true,
        };
        let told = match read {
            Ok(_) if is_over => return,
            Ok(_) => tell.send(Ok(line)),
            Err(error) => tell.send(Err(error)),
        };
        if told.is_err() || is_over {
            return;
        }
    }
}

/// The other side: reads the files whose paths come in, until none does.
pub fn serve(orders: impl BufRead, output: impl Write, limits: &Limits) -> std::io::Result<()> {
    let mut output = BufWriter::new(output);
    for order in orders.lines() {
        let path: PathBuf = serde_json::from_str(&order?)?;
        let mut unheard = None;
        let outcome = read(&path, limits, &mut |document| {
            say(&mut output, &Said::Piece(document)).map_err(|error| {
                unheard = Some(error);
                Fault::new("PS-DISK-003", "nobody listens")
            })
        });
        if let Some(error) = unheard {
            return Err(error);
        }
        let last = match outcome {
            Ok(format) => Said::End(format),
            Err(fault) => Said::Fault { code: fault.code.to_owned(), detail: fault.detail },
        };
        say(&mut output, &last)?;
    }
    Ok(())
}

fn say(output: &mut impl Write, said: &Said) -> std::io::Result<()> {
    serde_json::to_writer(&mut *output, said)?;
    output.write_all(b"\n")?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_over_a_pipe_is_what_was_read() {
        let home = tempfile::tempdir().expect("a directory");
        let (good, bad) = (home.path().join("a.html"), home.path().join("b.docx"));
        std::fs::write(&good, "<title>T</title><h1>One</h1><p>Two &amp; three<ul><li>x</ul>").expect("written");
        std::fs::write(&bad, "nothing").expect("written");
        let order = |path: &std::path::PathBuf| format!("{}\n", serde_json::json!(path));
        let orders = order(&good) + &order(&bad);
        let mut said = Vec::new();
        serve(orders.as_bytes(), &mut said, &Limits::default()).expect("a pipe");
        let said: Vec<Said> = said
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).expect("one each line"))
            .collect();
        let mut here = Vec::new();
        let keep = &mut |document| {
            here.push(document);
            Ok(())
        };
        read(&good, &Limits::default(), keep).expect("readable");
        let [Said::Piece(piece), Said::End(Format::Html), Said::Fault { code, .. }] = said.as_slice() else {
            panic!("{} answers", said.len());
        };
        assert_eq!((piece, code.as_str()), (&here[0], "PS-DATA-011"));
    }

    #[cfg(unix)]
    mod with_shells {
        use super::*;
        use std::time::Duration;

        /// What comes of a file whose process is this script.
        fn read_with(script: &str) -> (Vec<Document>, Result<Format>) {
            let home = tempfile::tempdir().expect("a directory");
            let path = home.path().join("a.html");
            std::fs::write(&path, "<p>x").expect("written");
            let limits = Limits { silence: Duration::from_millis(500), ..Limits::default() };
            let mut pieces = Vec::new();
            let mut reader = Reader::apart("/bin/sh".into(), &["-c", script]);
            let outcome = reader.read(&path, &limits, &mut |document| {
                pieces.push(document);
                Ok(())
            });
            (pieces, outcome)
        }

        const PIECE: &str = r#"{"piece":{"text":"x","blocks":[{"kind":"paragraph","span":{"start":0,"end":1},"page":3,"section":0}],"sections":[[]],"title":null,"warnings":[]}}"#;

        #[test]
        fn a_reader_that_breaks_hangs_or_lies_costs_its_file() {
            for (script, words) in [
                ("exit 3", "broke"),
                ("kill -6 $$", "memory"),
                ("sleep 20", "longer than"),
                ("read x; echo nonsense", "makes no sense"),
                ("read x; printf '{\"end\":'", "broke"),
            ] {
                let (pieces, outcome) = read_with(script);
                let fault = outcome.expect_err(script);
                assert_eq!(fault.code, "PS-DATA-011");
                assert!(fault.detail.contains(words) && pieces.is_empty(), "{script}: {}", fault.detail);
            }
        }

        #[test]
        fn what_was_read_before_a_reader_broke_is_kept() {
            let (pieces, outcome) = read_with(&format!("read x; echo '{PIECE}'; exit 1"));
            assert_eq!(outcome.expect("in part"), Format::Html);
            assert_eq!(pieces[0].text, "x");
            assert!(pieces[1].warnings[0].starts_with("everything behind page 3 could not be read"));
        }
    }
}
