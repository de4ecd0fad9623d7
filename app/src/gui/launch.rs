//! Starts runs as processes of their own: what happens to the window does not happen to them.

use super::problem::Problem;
use super::worker::{Reply, Teller};
use crate::cli::context::Context;
use peft_plan::{Fault, Result, RunConfig};
use peft_storage::{RunFilter, Store};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often it is looked whether a run has begun.
const LOOK: Duration = Duration::from_millis(150);
/// Most of what a process wrote that is looked at for its reason.
const REASON: u64 = 64 << 10;

/// Start a run; tells its id once it is known, and its reason if it fails before it began.
pub fn start(context: &Context, program: &Path, config: &RunConfig, teller: &Teller) -> Result<()> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis());
    let folder = context.data_dir.join("logs");
    durable::create_directories(&folder).map_err(|e| Fault::io("create", &folder, e))?;
    let file = folder.join(format!("run-{stamp}.json"));
    let text = serde_json::to_vec_pretty(&config.to_value()).expect("a configuration is plain data");
    durable::write_file(&file, &text).map_err(|e| Fault::io("write", &file, e))?;
    let words = ["train".to_owned(), file.display().to_string()];
    follow(context, program, &words, &folder.join(format!("run-{stamp}.log")), teller)
}

/// Go on with a run.
pub fn resume(context: &Context, program: &Path, run: &str, teller: &Teller) -> Result<()> {
    let folder = context.data_dir.join("logs");
    durable::create_directories(&folder).map_err(|e| Fault::io("create", &folder, e))?;
    follow(context, program, &["resume".to_owned(), run.to_owned()], &folder.join(format!("{run}.log")), teller)
}

/// End a run that no process works on: its adapter is written from its newest checkpoint.
pub fn stop(context: &Context, program: &Path, run: &str, teller: &Teller) -> Result<()> {
    let folder = context.data_dir.join("logs");
    durable::create_directories(&folder).map_err(|e| Fault::io("create", &folder, e))?;
    let log = folder.join(format!("{run}.log"));
    let mut child = spawn(context, program, &["stop".to_owned(), run.to_owned()], &log)?;
    match child.wait() {
        Ok(status) if status.success() => teller.tell(Reply::Done("Stopped; what was learned is kept".to_owned())),
        _ => teller.tell(Reply::Failed(reason(&log))),
    }
    Ok(())
}

fn follow(context: &Context, program: &Path, words: &[String], log: &PathBuf, teller: &Teller) -> Result<()> {
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() as i64);
    let mut child = spawn(context, program, words, log)?;
    let store = context.store()?;
    loop {
        // Asked first: a short run may begin and end between two looks.
        let ended = child.try_wait();
        if let Some(run) = run_of(&store, child.id(), begun)? {
            teller.tell(Reply::Launched(run));
            break;
        }
        if let Ok(Some(status)) = ended {
            if !status.success() {
                teller.tell(Reply::NotLaunched(reason(log)));
            }
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    // Whoever starts a process must hear of its end; what it says about it is in the store.
    if child.wait().is_ok_and(|status| status.success()) {
        // Its files are of use to nobody.
        let _removed = std::fs::remove_file(log);
    }
    Ok(())
}

/// The run that the process `pid`, started not before `begun`, works on or has worked on.
fn run_of(store: &Store, pid: u32, begun: i64) -> Result<Option<String>> {
    let runs = store.list_runs(&RunFilter { limit: Some(20), ..RunFilter::default() })?;
    let is_its = |run: &&peft_storage::Run| run.pid == Some(pid) && run.updated >= begun;
    Ok(runs.iter().find(is_its).map(|run| run.id.to_string()))
}

fn spawn(context: &Context, program: &Path, words: &[String], log: &Path) -> Result<Child> {
    let io = |e| Fault::io("write", log, e);
    let errors = File::create(log).map_err(io)?;
    let mut command = Command::new(program);
    command.args(words).arg("--json").arg("--data-dir").arg(&context.data_dir);
    command.args(["--backend", &context.backend, "--threads", &context.threads.to_string()]);
    if context.offline {
        command.arg("--offline");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    // A Ctrl-C in the terminal that the window was started from is not meant for runs.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(|e| Fault::io("start", program, e))
}

/// Why a process ended, in its own words.
fn reason(log: &Path) -> Problem {
    let text = tail(log).unwrap_or_default();
    let said = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
    said.into_iter().find_map(|value| Problem::of_json(&value)).unwrap_or_else(|| {
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it left no word");
        Problem::from(&Fault::new("PS-APP-004", format!("The run's process ended before it began: {last}")))
    })
}

fn tail(log: &Path) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(log)?;
    let from = file.metadata()?.len().saturating_sub(REASON);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_process_is_found_among_its_last_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("x.log");
        let error = r#"{"error":{"code":"PS-DATA-002","title":"T","detail":"Line 3","actions":[{"label":"Fix it"}],"help":"h"}}"#;
        std::fs::write(&log, format!("note: something\n{error}\n")).expect("written");
        let problem = reason(&log);
        assert_eq!((problem.code.as_str(), problem.detail.as_str()), ("PS-DATA-002", "Line 3"));
        assert_eq!(problem.actions[0].label, "Fix it");
        std::fs::write(&log, "killed\n").expect("written");
        assert!(reason(&log).detail.contains("killed"));
        assert!(reason(&folder.path().join("none")).detail.contains("no word"));
    }
}
