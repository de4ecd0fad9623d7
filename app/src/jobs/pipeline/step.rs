//! One step as a process: started, listened to, asked to stop, and heard out.

use super::values::Values;
use crate::cli::context::Context;
use crate::cli::interrupt;
use crate::cli::output;
use crate::jobs::remedy::own_command;
use crate::jobs::run::find;
use peft_plan::fault::known_code;
use peft_plan::{Fault, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Exit code of an interrupted command.
const INTERRUPTED: u8 = interrupt::EXIT_CODE;
/// A longer result is not repeated at the end of its step.
const LARGEST_RESULT: usize = 16 << 10;

/// How a step ended.
pub(super) struct Ended {
    pub(super) exit_code: u8,
    /// The last thing it said on stdout.
    pub(super) result: Value,
    error: Value,
}

enum Line {
    Out(String),
    Err(String),
}

impl Ended {
    /// It was asked to stop, or a run was paused from elsewhere: not done, and no failure.
    pub(super) fn was_interrupted(&self, is_training: bool) -> bool {
        let is_paused = is_training && self.exit_code == 0 && self.result["event"] == "paused";
        self.exit_code == INTERRUPTED || is_paused
    }

    /// What the step failed with, as the fault of the pipeline at `path`.
    pub(super) fn fault(&self, step: &str, path: &Path) -> Fault {
        let code = self.error["code"].as_str().and_then(known_code).unwrap_or("PS-APP-004");
        let detail = match self.error["detail"].as_str() {
            Some(detail) => format!("Step `{step}`: {detail}"),
            None => format!("Step `{step}` ended with exit code {} and did not say why", self.exit_code),
        };
        let mut fault = Fault::new(code, detail);
        let first = self.error["actions"].as_array().and_then(|actions| actions.first());
        if let Some(label) = first.and_then(|action| action["label"].as_str()) {
            let command = first.and_then(|action| action["command"].as_str());
            fault = fault.action(label, command.map(str::to_owned));
        }
        let again = format!("peft-studio pipeline '{}'", path.display());
        fault.action("Then go on at this step; what is done is kept", Some(again))
    }
}

/// Whether the run that an unfinished step made is still known.
pub(super) fn can_go_on(context: &Context, run: &str) -> bool {
    context.store().and_then(|store| find(&store, run)).is_ok()
}

/// Run a command of this program in `folder`; `hear` gets everything it says on stdout.
pub(super) fn run(
    context: &Context,
    folder: &Path,
    words: &[String],
    values: &Values,
    hear: &mut dyn FnMut(&Value) -> Result<()>,
) -> Result<Ended> {
    let mut command = own_command(context)?;
    command.arg("--json").args(words).current_dir(folder).envs(values.for_steps());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    on_its_own(&mut command);
    let mut child = command.spawn().map_err(|error| Fault::io("start", Path::new(command.get_program()), error))?;
    let (sender, lines) = channel();
    let readers = [
        child.stdout.take().map(|pipe| listen(pipe, sender.clone(), Line::Out)),
        child.stderr.take().map(|pipe| listen(pipe, sender, Line::Err)),
    ];
    let mut ended = Ended { exit_code: 1, result: Value::Null, error: Value::Null };
    let heard = follow(&mut child, &lines, values, &mut ended, hear);
    if heard.is_err() {
        // What it says cannot be kept any more: it is asked to save its work.
        ask_to_stop(&child);
    }
    let status = child.wait().map_err(|error| Fault::io("wait for", Path::new("the step"), error))?;
    for reader in readers.into_iter().flatten() {
        let _ended = reader.join();
    }
    heard?;
    ended.exit_code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ended)
}

fn listen(pipe: impl Read + Send + 'static, sender: Sender<Line>, line: fn(String) -> Line) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            // Nobody listens any more; the pipe is still emptied, so that the step does not stand still.
            sender.send(line(text)).ok();
        }
    })
}

/// Until both pipes are closed.
fn follow(
    child: &mut Child,
    lines: &Receiver<Line>,
    values: &Values,
    ended: &mut Ended,
    hear: &mut dyn FnMut(&Value) -> Result<()>,
) -> Result<()> {
    let mut is_asked = false;
    loop {
        if interrupt::requested() && !is_asked {
            is_asked = true;
            ask_to_stop(child);
        }
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(Line::Out(text)) => {
                let text = values.redact(&text);
                let said = serde_json::from_str(&text).unwrap_or(Value::String(text));
                hear(&said)?;
                ended.result = if said.to_string().len() <= LARGEST_RESULT { said } else { Value::Null };
            }
            Ok(Line::Err(text)) => {
                let text = values.redact(&text);
                match serde_json::from_str::<Value>(&text) {
                    Ok(document) if document["error"].is_object() => ended.error = document["error"].clone(),
                    _ => output::note(&output::printable(&text)),
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// In a group of its own, Ctrl-C reaches the step through us, once.
#[cfg(unix)]
fn on_its_own(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn on_its_own(_command: &mut Command) {}

#[cfg(unix)]
fn ask_to_stop(child: &Child) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    if let Ok(id) = i32::try_from(child.id()) {
        // It may have ended in this moment.
        kill(Pid::from_raw(id), Signal::SIGINT).ok();
    }
}

/// Windows tells every process of the console itself.
#[cfg(not(unix))]
fn ask_to_stop(_child: &Child) {}
