//! `runs queue`: runs that wait for their turn.

use super::args::{QueueAddArgs, QueueCommand};
use super::context::Context;
use super::output::{self, note, printable};
use super::quantity::duration;
use super::{interrupt, table};
use crate::jobs::queue::{self, Shift};
use crate::jobs::run::find;
use peft_plan::{Fault, Result};
use peft_storage::{Run, Waiting};
use serde_json::{Value, json};

pub(super) fn run(context: &Context, command: &QueueCommand) -> Result<u8> {
    match command {
        QueueCommand::Add(args) => return add(context, args),
        QueueCommand::List => list(context)?,
        QueueCommand::Remove { run } => {
            let store = context.store()?;
            let run = find(&store, run)?;
            queue::remove(&store, &run)?;
            if context.json {
                output::print_json(&json!({ "removed": run.id, "name": run.name }));
            } else {
                output::line(&printable(&format!("The run `{}` does not wait any more.", run.name)));
            }
        }
        QueueCommand::Move { run, place } => {
            let store = context.store()?;
            queue::move_to(&store, &find(&store, run)?, *place)?;
            list(context)?;
        }
        QueueCommand::Start { foreground: true } => return work(context),
        QueueCommand::Start { foreground: false } => start(context)?,
        QueueCommand::Stop { pause } => stop(context, *pause)?,
    }
    Ok(0)
}

fn add(context: &Context, args: &QueueAddArgs) -> Result<u8> {
    let store = context.store()?;
    let known = args.train.request.run.as_ref().filter(|path| !path.is_file()).and_then(|path| path.to_str());
    let run = if let Some(name) = known {
        queue::add_again(&store, name, &super::train::again(context, &args.train)?)?
    } else {
        let Some((request, wishes)) = super::train::request(context, &args.train)? else {
            return Ok(super::train::INTERRUPTED);
        };
        queue::add_new(context, request, &wishes)?
    };
    let worker = if args.start { queue::start_worker(context)? } else { queue::worker(context) };
    let waiting = store.queue()?;
    let place = waiting.iter().position(|waiting| waiting.run.id == run.id).map_or(0, |index| index + 1);
    if context.json {
        let Run { id, name, status, directory, .. } = &run;
        output::print_json(&json!({
            "run": id, "name": name, "status": status, "directory": directory, "place": place, "worker": worker,
        }));
    } else {
        output::line(&printable(&format!("The run `{}` waits; {} are in the queue.", run.name, waiting.len())));
        output::line(&format!("Id        {}", run.id));
        if worker.is_none() {
            output::line("Start     peft-studio runs queue start");
        }
    }
    Ok(0)
}

fn list(context: &Context) -> Result<()> {
    let waiting = context.store()?.queue()?;
    let worker = queue::worker(context);
    if context.json {
        let document = |Waiting { run, taken, wishes }: &Waiting| {
            let mut document = json!(run);
            document["taken"] = json!(taken);
            document["wishes"] = wishes.clone();
            document
        };
        let runs: Vec<Value> = waiting.iter().map(document).collect();
        output::print_json(&json!({ "queue": runs, "worker": worker }));
        return Ok(());
    }
    match worker {
        Some(process) => note(&format!("Process {process} works on the queue.")),
        None if waiting.is_empty() => note("Nothing waits. `peft-studio runs queue add` puts a run in."),
        None => note("Nobody works on the queue. `peft-studio runs queue start` does."),
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let row = |(index, Waiting { run, taken, .. }): (usize, &Waiting)| {
        let place = if *taken { "now".to_owned() } else { (index + 1).to_string() };
        let progress = format!("{}/{}", run.last_step, run.total_steps);
        vec![place, super::runs::shortened(&run.name), run.id.to_string(), run.status.as_str().to_owned(), progress]
    };
    let rows: Vec<_> = waiting.iter().enumerate().map(row).collect();
    output::text(&table::render(&[">PLACE", "NAME", "ID", "STATUS", ">STEPS"], &rows));
    Ok(())
}

fn start(context: &Context) -> Result<()> {
    let worker = queue::start_worker(context)?;
    if context.json {
        output::print_json(&json!({ "worker": worker, "waiting": context.store()?.queue()?.len() }));
        return Ok(());
    }
    output::line(&match worker {
        Some(process) => format!("Process {process} trains the runs that wait, one after the other."),
        None => "Nothing waits.".to_owned(),
    });
    Ok(())
}

fn stop(context: &Context, pause: bool) -> Result<()> {
    let worker = queue::stop_worker(context, pause)?;
    if context.json {
        output::print_json(&json!({ "worker": worker, "requested": worker.map(|_| "stop") }));
        return Ok(());
    }
    output::line(match worker {
        Some(_) if pause => "The run that is going on is asked to halt, and no other begins.",
        Some(_) => "No further run begins after the one that is going on.",
        None => "Nobody works on the queue.",
    });
    Ok(())
}

/// Works on the queue here.
fn work(context: &Context) -> Result<u8> {
    interrupt::install_saying("\nLeaving the queue; a run that is going on goes on");
    context.store()?.halt_queue(false)?;
    let mut runs = 0;
    let shift = queue::work(context, &interrupt::requested, &mut |run, fault| {
        runs += 1;
        tell(context, run, fault);
    })?;
    let word = match shift {
        Shift::Done => "done",
        Shift::Taken => "taken",
        Shift::Halted => "halted",
        Shift::Interrupted => "interrupted",
    };
    if context.json {
        output::print_json(&json!({ "event": "queue", "ended": word, "runs": runs }));
    } else {
        output::line(match shift {
            Shift::Done => "Nothing waits any more.",
            Shift::Taken => "Another process works on the queue.",
            Shift::Halted => "Somebody asked for the end; what waits goes on waiting.",
            Shift::Interrupted => "What waits goes on waiting.",
        });
    }
    Ok(if shift == Shift::Interrupted { interrupt::EXIT_CODE } else { 0 })
}

fn tell(context: &Context, run: &Run, fault: Option<&Fault>) {
    let Run { id, name, status, last_step, seconds, .. } = run;
    let error = fault.map(|fault| super::error::to_json(fault)["error"].clone()).or_else(|| {
        let recorded = run.error.as_ref()?;
        Some(recorded["error"].clone())
    });
    if context.json {
        let error = error.unwrap_or_default();
        output::print_json(&json!({
            "event": "turn", "run": id, "name": name, "status": status, "step": last_step, "error": error,
        }));
        return;
    }
    let state = status.as_str();
    let took = duration(*seconds);
    let reason =
        error.as_ref().and_then(|error| error["detail"].as_str()).map_or_else(String::new, |why| format!(": {why}"));
    output::line(&printable(&format!("{name}: {state} after {last_step} steps, {took}{reason}")));
}
