//! Trials of what could take a program down with it on a graphics card: this program again, which may crash or hang
//! instead, and its answers, kept as long as card, driver, library and program stay what they are.

use peft_models::engine::{Engine, Question, Risk, Verdict};
use peft_plan::{Fault, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What the process is called with, before card and risk.
const COMMAND: &str = "card-trial";

/// A trial that takes longer hangs: the first one of a driver makes the card's instructions from the kernels.
const LONGEST: Duration = Duration::from_mins(3);

/// Another time limit, in seconds, for a computer that is very slow.
const LIMIT: &str = "PEFT_STUDIO_TRIAL_SECONDS";

/// Have this process use of a card only what passed its trial. Answers are kept in `data_dir`.
pub fn install(data_dir: &Path) {
    let (path, data_dir) = (kept_at(data_dir), data_dir.to_owned());
    Engine::have_tried(Box::new(move |question| answer(&path, question, |question| ask(&data_dir, question))));
}

/// Forget all answers: the next process that opens a card tries again.
pub fn forget(data_dir: &Path) -> Result<()> {
    match std::fs::remove_file(kept_at(data_dir)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Fault::io("delete", &kept_at(data_dir), e)),
        _ => Ok(()),
    }
}

/// Be that process: the answer as one line of JSON.
pub fn serve(card: usize, risk: Risk) -> String {
    serde_json::to_string(&Engine::try_here(card, risk)).expect("an answer is plain data")
}

fn kept_at(data_dir: &Path) -> PathBuf {
    data_dir.join("cache").join("card-trials.json")
}

/// The kept answer, or a new one.
fn answer(path: &Path, question: &Question, ask: impl Fn(&Question) -> Verdict) -> Verdict {
    let read = || -> BTreeMap<String, Verdict> {
        std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    };
    if let Some(kept) = read().remove(&question.about) {
        return kept;
    }
    let found = ask(question);
    if found.holds {
        // Another process may have kept something meanwhile.
        let mut kept = read();
        kept.insert(question.about.clone(), found.clone());
        keep(path, &kept);
    }
    found
}

/// What cannot be kept is found out again.
fn keep(path: &Path, kept: &BTreeMap<String, Verdict>) {
    let Some(folder) = path.parent() else { return };
    if let Ok(bytes) = serde_json::to_vec_pretty(kept) {
        durable::create_directories(folder).and_then(|()| durable::write_file(path, &bytes)).ok();
    }
}

/// Start the process and wait for what it says, or for what becomes of it.
fn ask(data_dir: &Path, question: &Question) -> Verdict {
    let Ok(program) = std::env::current_exe() else { return Verdict::unclear("this program does not find itself") };
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(data_dir);
    command.args([COMMAND, &question.ordinal.to_string(), question.risk.name()]);
    let limit = std::env::var(LIMIT).ok().and_then(|text| text.parse().ok()).map_or(LONGEST, Duration::from_secs);
    outcome(command, limit)
}

/// The answer of a process that has so long for it.
fn outcome(mut command: Command, limit: Duration) -> Verdict {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = started else { return Verdict::unclear("no process could be started for its trial") };
    let output = child.stdout.take();
    // An answer is short: it fits whatever lies between the two processes.
    match wait(&mut child, limit) {
        None => Verdict::failed(format!("its trial did not end within {} seconds", limit.as_secs())),
        Some(status) => {
            let mut text = String::new();
            let read = output.map(|output| output.take(1 << 20).read_to_string(&mut text));
            let said = read.and_then(|_| serde_json::from_str(text.trim()).ok()).filter(|_| status.success());
            said.unwrap_or_else(|| Verdict::failed(format!("its trial ended with {status}")))
        }
    }
}

/// How a process ended; `None`: it did not in time, and was ended.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if begun.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                // One that is gone already needs no end.
                child.kill().ok();
                child.wait().ok();
                return None;
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn question() -> Question {
        Question { risk: Risk::Graphs, ordinal: 0, about: "graphs on a card".to_owned() }
    }

    fn shell(script: &str, limit: Duration) -> Verdict {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        outcome(command, limit)
    }

    #[test]
    fn a_process_that_crashes_hangs_or_talks_nonsense_is_a_failure_with_its_reason() {
        let long = Duration::from_secs(20);
        let reason = |script: &str, limit| shell(script, limit).into_reason().expect("it failed");
        assert!(reason("kill -SEGV $$", long).contains("signal"), "{}", reason("kill -SEGV $$", long));
        let begun = Instant::now();
        assert!(reason("exec sleep 60", Duration::from_millis(200)).contains("did not end"));
        assert!(begun.elapsed() < long, "it was ended, not waited for");
        assert!(reason("true", long).contains("ended with exit status: 0"), "it said nothing");
        assert!(reason("echo '{\"passed\": true, \"holds\": true}'; exit 3", long).contains("exit status: 3"));
        assert!(reason("echo hello", long).contains("ended with"));
        assert!(shell("echo '{\"passed\": true, \"holds\": true}'", long).passed);
    }

    #[test]
    fn an_answer_that_holds_is_asked_for_once_and_another_one_every_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = kept_at(folder.path());
        let unclear = answer(&path, &question(), |_| Verdict::unclear("no memory"));
        assert!(!unclear.passed && !path.exists());
        let failed = answer(&path, &question(), |_| Verdict::failed("it crashed"));
        assert_eq!(answer(&path, &question(), |_| unreachable!("it is kept")), failed);
        let other = Question { about: "graphs on a newer driver".to_owned(), ..question() };
        assert!(!answer(&path, &other, |_| Verdict::unclear("asked again")).holds);
        forget(folder.path()).expect("forgotten");
        forget(folder.path()).expect("nothing left to forget");
        assert_eq!(answer(&path, &question(), |_| Verdict::unclear("new")).reason.as_deref(), Some("new"));
    }
}
