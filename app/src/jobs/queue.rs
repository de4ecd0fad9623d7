//! The worker of the queue: takes the runs that wait one after the other, each in a process of its own.
//!
//! One worker lives in a data directory, held apart by a lock that dies with it. A run that fails costs the
//! queue nothing; a worker that dies costs no run: whoever comes next goes on with the queue.

use super::background::{self, Wishes, appended, last_words, own_process, spawn};
use crate::cli::context::Context;
use crate::cli::interrupt;
use peft_plan::{Fault, Result};
use peft_storage::{Outcome, Run, RunFilter, RunLock, Status, Store};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

/// How often a worker looks whether it can go on.
const LOOK: Duration = Duration::from_millis(100);

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// Nothing is left in the queue.
    Done,
    /// Somebody else works on it.
    Taken,
    /// It was asked to end.
    Interrupted,
}

fn place(context: &Context) -> PathBuf {
    context.data_dir.join("queue")
}

/// The process that works on the queue, if one lives.
pub fn worker(context: &Context) -> Option<u32> {
    let place = place(context);
    RunLock::is_held(&place).then(|| RunLock::holder(&place)).flatten()
}

/// Starts a worker that outlives this process, unless one lives; returns its process.
pub fn start_worker(context: &Context) -> Result<u32> {
    if let Some(process) = worker(context) {
        return Ok(process);
    }
    let (log, _) = appended(&context.store()?.layout().logs().join("queue.log"))?;
    let mut command = own_process(context, &["runs".to_owned(), "queue".to_owned(), "--work".to_owned()])?;
    let place = place(context);
    let other = log.try_clone().map_err(|e| Fault::io("write", &place, e))?;
    let child = command.stdout(log).stderr(other).spawn();
    child.map(|child| child.id()).map_err(|e| Fault::io("start a worker for", &place, e))
}

/// Works on the queue until it is empty. `tell` hears of every run that ended, and how.
pub fn work(context: &Context, mut tell: impl FnMut(&Run)) -> Result<Shift> {
    interrupt::install();
    let place = place(context);
    let store = context.store()?;
    loop {
        let lock = match RunLock::take(&place) {
            Ok(lock) => lock,
            Err(fault) if fault.code == "PS-RUN-002" => return Ok(Shift::Taken),
            Err(fault) => return Err(fault),
        };
        loop {
            if !wait_for_others(&store)? {
                return Ok(Shift::Interrupted);
            }
            let Some(next) = store.queue()?.into_iter().next() else { break };
            if !process(context, &store, &next.run, &Wishes::from_value(&next.wishes))? {
                return Ok(Shift::Interrupted);
            }
            if let Ok(run) = store.get_run(next.run.id.as_str()) {
                tell(&run);
            }
        }
        drop(lock);
        // Whoever came after the last look and before the lock was free trusted in this worker.
        if store.queue()?.is_empty() {
            return Ok(Shift::Done);
        }
    }
}

/// One run at a time has the memory: waits until no run is at work. False where this worker was asked to end.
fn wait_for_others(store: &Store) -> Result<bool> {
    let running = RunFilter { status: Some(Status::Running), ..RunFilter::default() };
    while !store.list_runs(&running)?.is_empty() {
        if interrupt::requested() {
            return Ok(false);
        }
        sleep(LOOK * 5);
    }
    Ok(!interrupt::requested())
}

/// Lets a process work on `run` to its end. False where this worker was asked to end; the run then goes on.
fn process(context: &Context, store: &Store, run: &Run, wishes: &Wishes) -> Result<bool> {
    let log = run.directory.join(background::LOG);
    let ended = match spawn(context, run, wishes, Stdio::null()) {
        Ok((mut child, log_start)) => {
            let status = loop {
                match child.try_wait().map_err(|e| Fault::io("wait for the process of", &run.directory, e))? {
                    Some(status) => break status,
                    None if interrupt::requested() => return Ok(false),
                    None => sleep(LOOK),
                }
            };
            (!status.success()).then(|| last_words(&log, log_start, &status.to_string()))
        }
        Err(fault) => Some(fault),
    };
    give_up_on(store, run, ended)?;
    Ok(true)
}

/// A run whose process never began to work on it would be the next one again, for ever.
fn give_up_on(store: &Store, run: &Run, fault: Option<Fault>) -> Result<()> {
    let current = match store.get_run(run.id.as_str()) {
        // It was taken out of the queue and forgotten.
        Err(fault) if fault.code == "PS-RUN-001" => return Ok(()),
        found => found?,
    };
    if current.status != Status::Queued {
        return Ok(());
    }
    let fault = fault.unwrap_or_else(|| Fault::new("PS-APP-004", "The process of the run ended before it began."));
    let outcome = Outcome {
        status: Status::Failed,
        last_step: 0,
        seconds: 0.0,
        loss: None,
        validation_loss: None,
        quality_score: None,
        error: Some(crate::cli::error::to_json(&fault)),
    };
    store.finish(run.id.as_str(), &outcome).map(|_| ())
}

/// Takes a run out of the queue: it never was.
pub fn cancel(store: &Store, run: &Run) -> Result<()> {
    let refused = |run: &Run| {
        let state = run.status.as_str();
        Fault::new("PS-RUN-003", format!("The run `{}` does not wait in the queue: it is {state}.", run.name))
            .action("Look at the queue", Some("peft-studio runs queue".to_owned()))
            .action("End a run that is going on", Some(format!("peft-studio stop {}", run.id)))
    };
    if run.status != Status::Queued {
        return Err(refused(run));
    }
    // Nobody may begin to work on it in between.
    let lock = RunLock::take(&run.directory)?;
    let current = store.get_run(run.id.as_str())?;
    if current.status != Status::Queued {
        return Err(refused(&current));
    }
    let is_own = run.directory.starts_with(store.layout().runs());
    super::run::forget(store, run, is_own);
    drop(lock);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_storage::NewRun;

    fn new_run(store: &Store, name: &str, is_waiting: bool) -> Run {
        let id = store.create_run(&NewRun { name: name.to_owned(), ..NewRun::default() }).expect("new");
        if is_waiting {
            store.enqueue(&id, &Wishes::default().to_value()).expect("queued");
        }
        store.get_run(&id).expect("there")
    }

    #[test]
    fn only_what_was_put_in_waits_in_its_order_and_can_be_taken_out() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let first = new_run(&store, "first", true);
        let started = new_run(&store, "being started", false);
        let second = new_run(&store, "second", true);
        let names = |store: &Store| -> Vec<String> {
            store.queue().expect("readable").into_iter().map(|waiting| waiting.run.name).collect()
        };
        assert_eq!(names(&store), ["first", "second"]);
        cancel(&store, &first).expect("taken out");
        assert_eq!(names(&store), ["second"]);
        assert!(!first.directory.exists());
        store.update_status(&second.id, Status::Stopped).expect("changed");
        let fault = cancel(&store, &store.get_run("second").expect("there")).expect_err("it does not wait");
        assert_eq!(fault.code, "PS-RUN-003");
        assert_eq!(cancel(&store, &second).expect_err("nor does it on a second look").code, "PS-RUN-003");
        assert_eq!((names(&store).len(), started.status), (0, Status::Queued));
    }

    #[test]
    fn a_run_that_never_began_does_not_block_the_queue() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let run = new_run(&store, "refused", true);
        give_up_on(&store, &run, Some(Fault::new("PS-DATA-013", "other data"))).expect("recorded");
        let run = store.get_run(&run.id).expect("there");
        assert_eq!(run.status, Status::Failed);
        assert_eq!(run.error.expect("why")["error"]["code"], "PS-DATA-013");
        assert!(store.queue().expect("readable").is_empty());
    }
}
