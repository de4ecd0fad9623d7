//! `runs attach`: a run that another process works on, as if it ran here.

use super::args::{AttachArgs, AttachFrom};
use super::context::Context;
use super::output::{self, note, printable};
use super::progress::{JsonLines, Receiver, Terminal};
use super::{interrupt, train};
use crate::jobs::RunEnd;
use crate::jobs::queue;
use crate::jobs::run::find;
use crate::jobs::tail::EventTail;
use peft_models::train::RunOutcome;
use peft_plan::fault::catalogue;
use peft_plan::{Fault, Result, RunEvent};
use peft_storage::{Run, RunLock, Status, Store};
use serde_json::json;
use std::io::IsTerminal;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a live run is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// A run that somebody starts begins within this time.
const LONGEST_START: Duration = Duration::from_mins(1);

pub(super) fn run(context: &Context, args: &AttachArgs) -> Result<u8> {
    interrupt::install_saying("\nLeaving; the run goes on");
    let store = context.store()?;
    let run = find(&store, &args.run)?;
    if !wait_for_its_turn(context, &store, &run)? {
        return Ok(left(context, &run));
    }
    let mut listener = Listener::new(context, &run, args.from);
    let mut tail = EventTail::new(&run.directory);
    if args.from == AttachFrom::Now {
        // What was told before is read and not told.
        tail.read(|_| true)?;
    }
    loop {
        // Whether it lives is asked before reading: what it wrote last is then read, too.
        let lives = RunLock::is_held(&run.directory);
        tail.read(|line| {
            listener.hear(line);
            !interrupt::requested()
        })?;
        if interrupt::requested() || output::is_unread() {
            drop(listener);
            return Ok(left(context, &run));
        }
        if !lives {
            break;
        }
        sleep(LOOK);
    }
    drop(listener);
    ended(context, &store, &run)
}

/// Whether the run has begun; false where the person left before.
fn wait_for_its_turn(context: &Context, store: &Store, run: &Run) -> Result<bool> {
    let begun = Instant::now();
    let mut is_told = false;
    while store.get_run(&run.id)?.status == Status::Queued {
        let is_waiting = store.queue()?.iter().any(|waiting| waiting.run.id == run.id);
        let is_coming = if is_waiting { queue::worker(context).is_some() } else { begun.elapsed() < LONGEST_START };
        if !is_coming {
            let fault = Fault::new("PS-RUN-003", format!("The run `{}` has not started yet.", run.name));
            return Err(if is_waiting {
                fault.action("Work on the queue", Some("peft-studio runs queue start".to_owned()))
            } else {
                fault.action("Start it", Some(format!("peft-studio resume {} --detach", run.id)))
            });
        }
        if interrupt::requested() {
            return Ok(false);
        }
        if is_waiting && !std::mem::replace(&mut is_told, true) {
            note(&printable(&format!("The run `{}` waits for its turn.", run.name)));
        }
        sleep(LOOK);
    }
    Ok(true)
}

fn left(context: &Context, run: &Run) -> u8 {
    if context.json {
        output::print_json(&json!({ "event": "detached", "run": run.id }));
    } else {
        note(&format!("Come back with: peft-studio runs attach {}", run.id));
    }
    interrupt::EXIT_CODE
}

/// As the run itself would have ended here.
fn ended(context: &Context, store: &Store, run: &Run) -> Result<u8> {
    let run = store.get_run(&run.id)?;
    let outcome = match run.status {
        Status::Finished => match finish(store, &run)? {
            Some(finished) => RunOutcome::Finished(finished),
            None => return Ok(0),
        },
        Status::Stopped => RunOutcome::Stopped(run.last_step),
        Status::Paused => RunOutcome::Paused(run.last_step),
        Status::Failed => return Err(recorded(&run)),
        Status::Interrupted => {
            let detail =
                format!("The process of the run `{}` ended after step {} without a word.", run.name, run.last_step);
            return Err(Fault::new("PS-RUN-006", detail)
                .action("Go on from its last checkpoint", Some(format!("peft-studio resume {}", run.id))));
        }
        // Somebody took it up again in this very moment.
        Status::Queued | Status::Running => return Ok(0),
    };
    train::report(context, &RunEnd { run, outcome })
}

fn finish(store: &Store, run: &Run) -> Result<Option<peft_plan::Finished>> {
    let end = store.events(&run.id, 0)?.into_iter().rfind(|event| event.kind == "finished");
    Ok(end.and_then(|event| match serde_json::from_value(event.json) {
        Ok(RunEvent::Finished(finished)) => Some(finished),
        _ => None,
    }))
}

/// The fault that ended a run.
fn recorded(run: &Run) -> Fault {
    let error = run.error.as_ref().map(|error| &error["error"]);
    let text = |field: &str| error.and_then(|error| error[field].as_str()).unwrap_or_default();
    let code = catalogue().get_key_value(text("code")).map_or("PS-RUN-006", |(code, _)| code.as_str());
    Fault::new(code, text("detail"))
        .action("Go on from its last checkpoint", Some(format!("peft-studio resume {}", run.id)))
}

/// Shows the events of the run as the run itself would.
struct Listener {
    receivers: Vec<Box<dyn Receiver>>,
    from: AttachFrom,
}

impl Listener {
    fn new(context: &Context, run: &Run, from: AttachFrom) -> Self {
        let mut receivers: Vec<Box<dyn Receiver>> = Vec::new();
        let is_watched = std::io::stderr().is_terminal();
        if context.json {
            receivers.push(Box::new(JsonLines));
        }
        if is_watched || !context.json {
            receivers.push(Box::new(Terminal::new(run.total_steps, is_watched)));
        }
        Self { receivers, from }
    }

    fn hear(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<RunEvent>(line) else { return };
        if let (AttachFrom::Step(from), Some(step)) = (self.from, step_of(line))
            && step < from
        {
            return;
        }
        for receiver in &mut self.receivers {
            // The terminal and stdout keep their own failures.
            let _shown = receiver.receive(&event);
        }
    }
}

fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64()
}
