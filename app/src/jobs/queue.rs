//! The queue and its worker, which takes the runs that wait one after the other, each in a process of its own.
//!
//! One worker lives in a data directory, held apart by a lock that dies with it. A run that fails costs the
//! queue nothing; a worker that dies costs no run: whoever comes next goes on where it was.

use super::background::{self, Wishes, appended, last_words, own_process, spawn};
use super::run::{RunRequest, create, find};
use crate::cli::context::Context;
use peft_plan::{Fault, Result};
use peft_storage::{CommandKind, Outcome, Run, RunFilter, RunLock, Status, Store};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a worker looks whether it can go on.
const LOOK: Duration = Duration::from_millis(100);
/// A worker says within this time that it lives.
const LONGEST_START: Duration = Duration::from_secs(10);

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// Nothing is left in the queue.
    Done,
    /// Somebody else works on it.
    Taken,
    /// It was asked to end after the run it was at.
    Halted,
    /// It was asked to end at once; the run it was at goes on.
    Interrupted,
}

/// Puts a new run behind those that wait. Everything that can be checked is checked now.
pub fn add_new(context: &Context, request: RunRequest, wishes: &Wishes) -> Result<Run> {
    let created = create(context, request)?;
    if let Err(fault) = created.store.enqueue(&created.run.id, &wishes.to_value()) {
        created.forget();
        return Err(fault);
    }
    Ok(created.run)
}

/// Puts a run that halted, broke or was ended early behind those that wait.
pub fn add_again(store: &Store, id_or_name: &str, wishes: &Wishes) -> Result<Run> {
    let run = find(store, id_or_name)?;
    if matches!(run.status, Status::Running | Status::Finished) {
        let detail = format!("There is nothing to wait for: the run `{}` is {}.", run.name, run.status.as_str());
        return Err(
            Fault::new("PS-RUN-003", detail).action("Look at it", Some(format!("peft-studio runs show {}", run.id)))
        );
    }
    store.enqueue(&run.id, &wishes.to_value())?;
    Ok(run)
}

/// Takes a run out of the queue. One that never began is ended; it keeps its settings, and can be put in again.
pub fn remove(store: &Store, run: &Run) -> Result<()> {
    if !store.leave_queue(&run.id)? {
        return Err(not_waiting(run));
    }
    if run.status == Status::Queued {
        // Nobody may begin to work on it in between.
        let _lock = RunLock::take(&run.directory)?;
        if store.get_run(&run.id)?.status == Status::Queued {
            store.update_status(&run.id, Status::Stopped)?;
        }
    }
    Ok(())
}

/// Moves a run to a place counted from 1.
pub fn move_to(store: &Store, run: &Run, place: usize) -> Result<()> {
    if store.move_in_queue(&run.id, place)? { Ok(()) } else { Err(not_waiting(run)) }
}

/// PS-RUN-003: only a run whose turn has not come can be moved or taken out.
fn not_waiting(run: &Run) -> Fault {
    let state = run.status.as_str();
    Fault::new("PS-RUN-003", format!("The run `{}` does not wait in the queue: it is {state}.", run.name))
        .action("Look at the queue", Some("peft-studio runs queue list".to_owned()))
        .action("End a run that is going on", Some(format!("peft-studio stop {}", run.id)))
}

fn place(context: &Context) -> PathBuf {
    context.data_dir.join("queue")
}

/// The process that works on the queue, if one lives.
pub fn worker(context: &Context) -> Option<u32> {
    let place = place(context);
    RunLock::is_held(&place).then(|| RunLock::holder(&place)).flatten()
}

/// Starts a worker that outlives this process, unless one lives; returns its process. `None`: nothing waits.
pub fn start_worker(context: &Context) -> Result<Option<u32>> {
    let store = context.store()?;
    store.halt_queue(false)?;
    if let Some(process) = worker(context) {
        return Ok(Some(process));
    }
    if store.queue()?.is_empty() {
        return Ok(None);
    }
    let (log, _) = appended(&store.layout().logs().join("queue.log"))?;
    let arguments = ["runs", "queue", "start", "--foreground", "--json"].map(str::to_owned);
    let place = place(context);
    let io = |what: &'static str| {
        let place = &place;
        move |error| Fault::io(what, place, error)
    };
    let other = log.try_clone().map_err(io("write the log of"))?;
    let mut command = own_process(context, &arguments)?;
    let mut child = command.stdout(log).stderr(other).spawn().map_err(io("start a worker for"))?;
    let begun = Instant::now();
    while worker(context).is_none() && begun.elapsed() < LONGEST_START {
        // It may have done everything already.
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            break;
        }
        sleep(LOOK / 5);
    }
    Ok(Some(worker(context).unwrap_or(child.id())))
}

/// Asks the worker to end after the run it is at; with `pause`, that run is paused. Returns the worker, if one lives.
pub fn stop_worker(context: &Context, pause: bool) -> Result<Option<u32>> {
    let store = context.store()?;
    let Some(process) = worker(context) else { return Ok(None) };
    store.halt_queue(true)?;
    if pause {
        for waiting in store.queue()?.iter().filter(|waiting| waiting.taken && waiting.run.status == Status::Running) {
            store.push_command(&waiting.run.id, CommandKind::Pause, &Value::Null)?;
        }
    }
    Ok(Some(process))
}

/// Works on the queue until it is empty. `is_interrupted` says whether to end at once; `tell` hears of every run whose
/// turn is over, and why it never began if it did not.
pub fn work(
    context: &Context,
    is_interrupted: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(&Run, Option<&Fault>),
) -> Result<Shift> {
    let place = place(context);
    let worker = Worker { context, store: context.store()?, is_interrupted };
    loop {
        let lock = match RunLock::take(&place) {
            Ok(lock) => lock,
            Err(fault) if fault.code == "PS-RUN-002" => return Ok(Shift::Taken),
            Err(fault) => return Err(fault),
        };
        let shift = worker.shift(tell)?;
        drop(lock);
        // Whoever came after the last look and before the lock was free trusted in this worker.
        let is_over = match shift {
            Shift::Done => worker.store.queue()?.is_empty(),
            Shift::Halted => worker.store.queue_halts()?,
            Shift::Taken | Shift::Interrupted => true,
        };
        if is_over {
            return Ok(shift);
        }
    }
}

struct Worker<'a> {
    context: &'a Context,
    store: Store,
    is_interrupted: &'a dyn Fn() -> bool,
}

impl Worker<'_> {
    /// One run after the other, until there is none or somebody wants the end.
    fn shift(&self, tell: &mut dyn FnMut(&Run, Option<&Fault>)) -> Result<Shift> {
        loop {
            if (self.is_interrupted)() {
                return Ok(Shift::Interrupted);
            }
            let Some(next) = self.store.queue()?.into_iter().next() else { return Ok(Shift::Done) };
            let run = &next.run;
            // The worker before this one died, and its run did not.
            let is_over = next.taken && matches!(run.status, Status::Paused | Status::Failed | Status::Stopped);
            let fault = match run.status {
                Status::Finished => None,
                _ if is_over => None,
                _ if self.store.queue_halts()? && !(next.taken && run.status == Status::Running) => {
                    return Ok(Shift::Halted);
                }
                // One run at a time has the memory: nothing begins while another is at work.
                _ if self.is_anybody_at_work()? => {
                    sleep(LOOK * 3);
                    continue;
                }
                // It was taken out, or deleted, since.
                _ if !self.store.take_turn(&run.id)? => continue,
                _ => match self.process(run, &Wishes::of(&next.wishes))? {
                    Turn::Over(fault) => fault,
                    Turn::Interrupted => return Ok(Shift::Interrupted),
                },
            };
            self.store.end_turn(&run.id)?;
            match self.store.get_run(&run.id) {
                Ok(run) => tell(&run, fault.as_ref()),
                Err(gone) if gone.code == "PS-RUN-001" => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    fn is_anybody_at_work(&self) -> Result<bool> {
        let running = RunFilter { status: Some(Status::Running), limit: Some(1), ..RunFilter::default() };
        Ok(!self.store.list_runs(&running)?.is_empty())
    }

    /// Lets a process work on `run` to its end.
    fn process(&self, run: &Run, wishes: &Wishes) -> Result<Turn> {
        let log = run.directory.join(background::LOG);
        let fault = match spawn(self.context, run, wishes, Stdio::null()) {
            Ok((mut child, log_start)) => match self.end_of(&mut child, run)? {
                None => return Ok(Turn::Interrupted),
                Some(status) if status.success() => None,
                Some(status) => Some(last_words(&log, log_start, &status.to_string())),
            },
            Err(fault) => Some(fault),
        };
        give_up_on(&self.store, run, fault.as_ref())?;
        Ok(Turn::Over(fault))
    }

    fn end_of(&self, child: &mut Child, run: &Run) -> Result<Option<std::process::ExitStatus>> {
        loop {
            match child.try_wait().map_err(|e| Fault::io("wait for the process of", &run.directory, e))? {
                Some(status) => return Ok(Some(status)),
                None if (self.is_interrupted)() => return Ok(None),
                None => sleep(LOOK),
            }
        }
    }
}

/// What became of a turn.
enum Turn {
    /// The process ended, perhaps with this.
    Over(Option<Fault>),
    /// The process goes on, and nobody waits for it.
    Interrupted,
}

/// A run whose process was refused before it began failed: that is what its record says.
fn give_up_on(store: &Store, run: &Run, fault: Option<&Fault>) -> Result<()> {
    let current = match store.get_run(run.id.as_str()) {
        // It was deleted while it was on its way.
        Err(fault) if fault.code == "PS-RUN-001" => return Ok(()),
        found => found?,
    };
    if current.status != Status::Queued {
        return Ok(());
    }
    let error = match fault {
        Some(fault) => crate::cli::error::to_json(fault),
        None => crate::cli::error::to_json(&Fault::new("PS-RUN-006", "The process of the run ended before it began.")),
    };
    let outcome = Outcome {
        status: Status::Failed,
        last_step: 0,
        seconds: 0.0,
        loss: None,
        validation_loss: None,
        quality_score: None,
        error: Some(error),
    };
    store.finish(run.id.as_str(), &outcome).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_storage::NewRun;

    fn waiting(store: &Store, name: &str) -> Run {
        let id = store.create_run(&NewRun { name: name.to_owned(), ..NewRun::default() }).expect("new");
        store.enqueue(&id, &Wishes::default().to_value()).expect("queued");
        store.get_run(&id).expect("there")
    }

    #[test]
    fn what_is_taken_out_keeps_its_settings_and_can_come_back() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let first = waiting(&store, "first");
        waiting(&store, "second");
        remove(&store, &first).expect("taken out");
        assert_eq!(store.get_run("first").expect("there").status, Status::Stopped);
        assert_eq!(remove(&store, &first).expect_err("it does not wait").code, "PS-RUN-003");
        assert_eq!(move_to(&store, &first, 1).expect_err("it does not wait").code, "PS-RUN-003");
        add_again(&store, "first", &Wishes::default()).expect("put in");
        move_to(&store, &first, 1).expect("moved");
        let names: Vec<String> = store.queue().expect("readable").into_iter().map(|w| w.run.name).collect();
        assert_eq!(names, ["first", "second"]);
        store.update_status(&first.id, Status::Finished).expect("changed");
        assert_eq!(add_again(&store, "first", &Wishes::default()).expect_err("finished").code, "PS-RUN-003");
    }

    #[test]
    fn a_run_that_never_began_has_failed_with_the_reason() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let run = waiting(&store, "refused");
        give_up_on(&store, &run, Some(&Fault::new("PS-DATA-013", "other data"))).expect("recorded");
        let run = store.get_run(&run.id).expect("there");
        assert_eq!(run.status, Status::Failed);
        assert_eq!(run.error.expect("why")["error"]["code"], "PS-DATA-013");
    }
}
