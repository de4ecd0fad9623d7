//! Commands of this program that the window runs beside itself: what breaks there breaks nothing here.

use super::problem::Problem;
use super::worker::{Reply, Teller, spawn};
use crate::cli::context::Context;
use peft_plan::{Fault, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it is looked whether a process that says nothing any more is over.
const LOOK: Duration = Duration::from_millis(30);
/// Lines of remarks that are kept, the latest.
const REMARKS: usize = 200;
/// Exit code of a command that was asked to stop.
const STOPPED: i32 = 130;
/// Exit code of a command that does not understand what was typed.
const MISTYPED: i32 = 2;

/// Longest line that is said to one, characters.
const LONGEST_LINE: usize = 4_000;

/// A variable of the environment, and what must not be seen or kept.
pub type Secret = (&'static str, String);

/// What an errand says.
#[derive(Debug)]
pub enum Said {
    /// A line of its results.
    Line(Value),
    /// A remark.
    Remark(String),
    /// It is over.
    Ended(Ending),
}

/// How an errand ended.
#[derive(Debug)]
pub enum Ending {
    /// It did what it should; with its remarks.
    Done(Vec<String>),
    /// It was asked to stop, and did.
    Stopped,
    /// It did not.
    Failed(Problem),
}

/// A process that is under way; it is asked to stop when this is dropped.
#[derive(Debug)]
pub struct Errand {
    child: Arc<Mutex<Child>>,
    ear: Option<ChildStdin>,
}

impl Errand {
    /// Run `program words --json`; what it says is told under `id`. `secrets` go into its environment, where other
    /// programs do not see them. One that `listens` hears what is [said](Self::say) to it.
    pub fn start(
        context: &Context,
        program: &Path,
        words: &[String],
        secrets: &[Secret],
        listens: bool,
        id: u64,
        teller: Teller,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.envs(secrets.iter().map(|(name, value)| (name, value)));
        command.args(words).arg("--json").arg("--data-dir").arg(&context.data_dir);
        command.args(["--backend", &context.backend, "--threads", &context.threads.to_string()]);
        if context.offline {
            command.arg("--offline");
        }
        command.stdin(if listens { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C in the terminal that the window was started from reaches it through the window.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| Fault::io("start", program, error))?;
        let (results, remarks, ear) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let child = Arc::new(Mutex::new(child));
        let ended = child.clone();
        spawn("errand", move || {
            let live = teller.clone();
            let tell = move |line: &str| live.tell(Reply::Errand(id, Said::Remark(line.to_owned())));
            let said = std::thread::spawn(move || remarks.map(|pipe| remarks_of(BufReader::new(pipe), &tell)));
            for line in results.into_iter().flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok)) {
                if let Ok(value) = serde_json::from_str(&line) {
                    teller.tell(Reply::Errand(id, Said::Line(value)));
                }
            }
            let code = exit_code(&ended);
            let remarks = said.join().ok().flatten().unwrap_or_default();
            teller.tell(Reply::Errand(id, Said::Ended(ending(code, remarks))));
        });
        Ok(Self { child, ear })
    }

    /// Say a line to it; false where it does not listen any more. One line at a time fits into what is between us, so
    /// that nobody waits.
    pub fn say(&mut self, line: &str) -> bool {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_LINE).collect();
        self.ear.as_mut().is_some_and(|ear| writeln!(ear, "{line}").is_ok())
    }

    /// Ask it to stop.
    pub fn stop(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is over has given its number back.
        if matches!(child.try_wait(), Ok(None)) {
            ask_to_stop(&mut child);
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(unix)]
fn ask_to_stop(child: &mut Child) {
    use nix::sys::signal::{Signal, kill};
    if let Ok(id) = i32::try_from(child.id()) {
        // It may end in this moment.
        kill(nix::unistd::Pid::from_raw(id), Signal::SIGINT).ok();
    }
}

#[cfg(not(unix))]
fn ask_to_stop(child: &mut Child) {
    // It may end in this moment.
    child.kill().ok();
}

fn exit_code(child: &Mutex<Child>) -> Option<i32> {
    loop {
        let status = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
        match status {
            Ok(Some(status)) => return status.code().or_else(|| interrupted(status)),
            Ok(None) => std::thread::sleep(LOOK),
            Err(_) => return None,
        }
    }
}

/// A command that does not listen for it ends at once when it is asked to stop.
#[cfg(unix)]
fn interrupted(status: ExitStatus) -> Option<i32> {
    let is_asked =
        std::os::unix::process::ExitStatusExt::signal(&status) == Some(nix::sys::signal::Signal::SIGINT as i32);
    is_asked.then_some(STOPPED)
}

#[cfg(not(unix))]
fn interrupted(_status: ExitStatus) -> Option<i32> {
    None
}

/// The latest remarks; each is told as it comes, but for the one that says why a command failed.
fn remarks_of(pipe: impl BufRead, tell: &dyn Fn(&str)) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for line in pipe.lines().map_while(std::io::Result::ok) {
        if !line.starts_with("{\"error\"") {
            tell(&line);
        }
        kept.push(line);
        if kept.len() > REMARKS {
            kept.remove(0);
        }
    }
    kept
}

/// What is wrong with what was typed, in the words of the command line.
fn mistyped(remarks: &[String]) -> Option<String> {
    let line = remarks.iter().find_map(|line| line.strip_prefix("error: "))?;
    let mut letters = line.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect())
}

fn ending(code: Option<i32>, remarks: Vec<String>) -> Ending {
    match code {
        Some(0) => Ending::Done(remarks),
        Some(STOPPED) => Ending::Stopped,
        Some(MISTYPED) if mistyped(&remarks).is_some() => {
            let detail = mistyped(&remarks).unwrap_or_default();
            Ending::Failed(Problem::from(&Fault::new("PS-CFG-001", detail)))
        }
        _ => {
            let said = remarks.iter().rev().filter_map(|line| serde_json::from_str(line).ok());
            Ending::Failed(said.into_iter().find_map(|value| Problem::of_json(&value)).unwrap_or_else(|| {
                let last = remarks.iter().rev().find(|line| !line.trim().is_empty());
                let last = last.map_or("it left no word", String::as_str);
                Problem::from(&Fault::new("PS-APP-004", format!("The command's process ended: {last}")))
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_reason() {
        let error = r#"{"error":{"code":"PS-DATA-002","title":"T","detail":"Line 3","actions":[]}}"#;
        let remarks = vec!["note".to_owned(), error.to_owned(), String::new()];
        assert!(
            matches!(ending(Some(3), remarks), Ending::Failed(p) if p.code == "PS-DATA-002" && p.detail == "Line 3")
        );
        assert!(matches!(ending(None, vec!["killed".to_owned()]), Ending::Failed(p) if p.detail.contains("killed")));
        assert!(matches!(ending(Some(130), Vec::new()), Ending::Stopped));
        let typed = vec!["error: invalid value 'x' for '--pairs <N>'".to_owned(), "For more information".to_owned()];
        assert!(
            matches!(ending(Some(2), typed), Ending::Failed(p) if p.code == "PS-CFG-001" && p.detail.starts_with("Invalid value 'x'"))
        );
        assert!(matches!(ending(Some(0), vec!["x".to_owned()]), Ending::Done(remarks) if remarks == ["x"]));
    }

    #[test]
    fn the_latest_remarks_are_kept() {
        let text: String = (0..500).map(|i| i.to_string() + "\n").collect();
        let kept = remarks_of(text.as_bytes(), &|_| {});
        assert_eq!((kept.len(), kept[0].as_str(), kept[199].as_str()), (200, "300", "499"));
    }
}
