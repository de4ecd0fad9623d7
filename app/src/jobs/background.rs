//! Runs in processes of their own, which outlive the terminal and whoever started them.
//!
//! The process is this program with `resume RUN --json`. It tells its events to whoever started it for as
//! long as they listen, and everything else to a file in the run's directory.

use super::run::{self, ResumeChanges, RunRequest};
use crate::cli::context::Context;
use peft_plan::fault::{Action, catalogue};
use peft_plan::{Fault, Result, RunEvent};
use peft_storage::{Run, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What the process of a run writes besides its events, in the run's directory.
pub const LOG: &str = "process.log";

/// A run whose process has not begun by then is on its way, and its own process says what becomes of it.
const LONGEST_START: Duration = Duration::from_secs(30);

/// What the process of a run is told besides the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// What changes from here on.
    pub changes: ResumeChanges,
    /// Also write a merged model at the end.
    pub merge: bool,
    /// As in `--backend`; without one, the default.
    pub backend: Option<String>,
}

impl Wishes {
    /// The way back from what is kept with a run that waits; what cannot be read is left to the defaults.
    pub fn of(value: &Value) -> Self {
        serde_json::from_value(value.clone()).unwrap_or_default()
    }

    /// As it is kept with a run that waits.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("wishes are plain data")
    }

    fn arguments(&self, run: &str) -> Vec<String> {
        let Self { changes: ResumeChanges { set, exclude_rows, rewind_to, notify }, merge, backend } = self;
        let mut arguments = ["resume", run, "--json"].map(str::to_owned).to_vec();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some(backend) = backend {
            option("--backend", backend.clone());
        }
        for change in set {
            option("--set", change.clone());
        }
        if !exclude_rows.is_empty() {
            option("--exclude-rows", exclude_rows.join(","));
        }
        if let Some(step) = rewind_to {
            option("--rewind-to", step.to_string());
        }
        arguments.extend(merge.then(|| "--merge".to_owned()));
        arguments.extend(notify.map(|notify| if notify { "--notify" } else { "--no-notify" }.to_owned()));
        arguments
    }
}

/// A run that a process of its own works on.
#[derive(Debug)]
pub struct Launched {
    /// The run, as it was recorded last.
    pub run: Run,
    /// Its process.
    pub process: u32,
}

/// Train from the beginning, elsewhere. Returns when the run has begun, with the fault of its process if it
/// has not.
pub fn start(context: &Context, request: RunRequest, wishes: &Wishes) -> Result<Launched> {
    let created = run::create(context, request)?;
    let (store, run) = (&created.store, &created.run);
    let launched = launch(context, run, wishes);
    if launched.is_err() && !run::has_begun(store, run) {
        created.forget();
    }
    launched
}

/// Go on with a run, elsewhere. Returns when it goes on; `None` for a finished run that is not to go back.
pub fn resume(context: &Context, id_or_name: &str, wishes: &Wishes) -> Result<Option<Launched>> {
    let run = run::find(&context.store()?, id_or_name)?;
    if run.status == Status::Finished && wishes.changes.is_none() {
        return Ok(None);
    }
    launch(context, &run, wishes).map(Some)
}

fn launch(context: &Context, run: &Run, wishes: &Wishes) -> Result<Launched> {
    let (mut child, log_start) = spawn(context, run, wishes, Stdio::piped())?;
    let process = child.id();
    let events = child.stdout.take().expect("it was asked for above");
    if has_ended_unbegun(events) {
        let status = child.wait().map_err(|e| Fault::io("wait for the process of", &run.directory, e))?;
        if !status.success() {
            return Err(last_words(&run.directory.join(LOG), log_start, &status.to_string()));
        }
    }
    let run = context.store()?.get_run(run.id.as_str())?;
    Ok(Launched { run, process })
}

/// Listens to a process until its run has begun, or it has ended without that.
fn has_ended_unbegun(events: ChildStdout) -> bool {
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(events).lines().map_while(std::io::Result::ok);
        let is_beginning =
            |line: &String| matches!(serde_json::from_str(line), Ok(RunEvent::Started(_) | RunEvent::Resumed { .. }));
        let _unheard = told.send(lines.into_iter().any(|line| is_beginning(&line)));
    });
    heard.recv_timeout(LONGEST_START).is_ok_and(|has_begun| !has_begun)
}

/// Starts the process of `run`; also says where its part of the log begins.
pub(super) fn spawn(context: &Context, run: &Run, wishes: &Wishes, events: Stdio) -> Result<(Child, u64)> {
    let path = run.directory.join(LOG);
    let (log, log_start) = appended(&path)?;
    let mut command = own_process(context, &wishes.arguments(run.id.as_str()))?;
    command.stdout(events).stderr(log);
    let child = command.spawn().map_err(|e| Fault::io("start a process for", &run.directory, e))?;
    Ok((child, log_start))
}

/// A file to append to, and how long it is.
pub(super) fn appended(path: &Path) -> Result<(File, u64)> {
    let io = |error| Fault::io("write", path, error);
    let file = File::options().append(true).create(true).open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    Ok((file, length))
}

/// This program with `arguments`, apart from the terminal: what ends the terminal's processes does not reach it.
pub(super) fn own_process(context: &Context, arguments: &[String]) -> Result<Command> {
    let program = std::env::current_exe().map_err(|e| Fault::io("find", Path::new("peft-studio"), e))?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--data-dir").arg(&context.data_dir).stdin(Stdio::null());
    if context.offline {
        command.arg("--offline");
    }
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    #[cfg(windows)]
    {
        const DETACHED_PROCESS: u32 = 0x8;
        const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
        std::os::windows::process::CommandExt::creation_flags(
            &mut command,
            DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP,
        );
    }
    Ok(command)
}

/// A disk with less than this is full.
const FULL: u64 = 1 << 20;

/// The fault that a process wrote to its log before it ended.
pub(super) fn last_words(log: &Path, start: u64, ended: &str) -> Fault {
    /// A fault is a line of some hundred bytes.
    const LONGEST: u64 = 1 << 20;
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.take(LONGEST).read_to_end(&mut text)
    });
    let text = String::from_utf8_lossy(&text);
    let told = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok().and_then(|v| fault_of(&v)));
    match (told, read) {
        (Some(fault), _) => fault,
        (None, Err(error)) => Fault::io("read", log, error),
        // Whoever cannot write cannot say so either.
        (None, Ok(_)) if super::hardware::free_space(log).is_ok_and(|free| free < FULL) => {
            let detail = "The run ended because nothing can be written any more; its last checkpoint is kept";
            Fault::new("PS-DISK-002", detail).action("See what can go", Some("peft-studio disk".to_owned()))
        }
        (None, Ok(_)) => Fault::new(
            "PS-RUN-006",
            format!("The process of the run ended ({ended}) and gave no reason; its log is `{}`.", log.display()),
        ),
    }
}

/// A fault from what `--json` shows of it.
fn fault_of(document: &Value) -> Option<Fault> {
    let error = &document["error"];
    let (code, _) = catalogue().get_key_value(error["code"].as_str()?)?;
    let mut fault = Fault::new(code, error["detail"].as_str()?);
    for action in error["actions"].as_array().into_iter().flatten() {
        if let Ok(Action { label, command }) = serde_json::from_value(action.clone()) {
            fault = fault.action(label, command);
        }
    }
    Some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_survive_the_queue_and_become_arguments() {
        let wishes = Wishes {
            changes: ResumeChanges {
                set: vec!["training.epochs=2".to_owned()],
                exclude_rows: vec!["3".to_owned(), "a.jsonl:4".to_owned()],
                rewind_to: Some(0),
                notify: Some(false),
            },
            merge: true,
            backend: Some("cpu".to_owned()),
        };
        assert_eq!(Wishes::of(&wishes.to_value()), wishes);
        let expected = "resume r --json --backend cpu --set training.epochs=2 --exclude-rows 3,a.jsonl:4 \
                        --rewind-to 0 --merge --no-notify";
        assert_eq!(wishes.arguments("r").join(" "), expected);
        assert_eq!(Wishes::of(&Value::Null).arguments("r").join(" "), "resume r --json");
    }

    #[test]
    fn the_fault_of_another_process_is_the_same_fault() {
        let home = tempfile::tempdir().expect("a directory");
        let log = home.path().join(LOG);
        let fault = Fault::new("PS-DATA-013", "changed").action("Look", Some("ls".to_owned()));
        let text = format!("old {}\n", crate::cli::error::to_json(&Fault::new("PS-RUN-001", "an earlier process")));
        std::fs::write(&log, format!("{text}a note\n{}\n", crate::cli::error::to_json(&fault))).expect("written");
        let heard = last_words(&log, text.len() as u64, "exit status: 3");
        assert_eq!((heard.code, heard.detail.as_str(), heard.entry().exit), ("PS-DATA-013", "changed", 3));
        assert_eq!(heard.shown_actions(), fault.shown_actions());
        std::fs::write(&log, "{\"error\":{\"code\":\"unknown\",\"detail\":\"d\"}}\nkilled\n").expect("written");
        assert_eq!(last_words(&log, 0, "signal: 9").code, "PS-RUN-006");
    }
}
