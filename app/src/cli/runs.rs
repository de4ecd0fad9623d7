//! `runs`, `pause` and `stop`: what there is in the store, and requests to live runs.

use super::args::{ListArgs, PauseArgs, RunsCommand, StopArgs};
use super::context::Context;
use super::output::{self, note, printable};
use super::quantity::{ago, bytes, duration, interval, measured};
use super::table;
use crate::jobs::run::find;
use crate::jobs::standing::{Standing, standing};
use peft_plan::Fault;
use peft_storage::{Checkpoint, CommandKind, Evaluation, Run, RunFilter, RunLock, Status, Store};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest name in a list.
const NAME_WIDTH: usize = 32;
/// Evaluations shown to a person.
const SHOWN_EVALUATIONS: usize = 10;

pub(super) fn run(context: &Context, command: &RunsCommand) -> Result<u8, Fault> {
    match command {
        RunsCommand::List(args) => list(context, args)?,
        RunsCommand::Compare { runs, points } => super::run_compare::run(context, runs, *points)?,
        RunsCommand::Log { run, follow } => super::run_log::run(context, run, *follow)?,
        RunsCommand::Delete { run, keep_adapter } => delete(context, run, *keep_adapter)?,
        RunsCommand::Show { run, every_step } => show(context, run, *every_step)?,
        RunsCommand::Rows { run, limit } => super::run_rows::run(context, run, *limit)?,
        RunsCommand::Attach(args) => return super::attach::run(context, args),
        RunsCommand::Queue(command) => return super::queue::run(context, command),
        RunsCommand::Evaluate { run } => return ask_live(context, run, CommandKind::Evaluate, "evaluate"),
        RunsCommand::Snapshot { run } => return ask_live(context, run, CommandKind::Snapshot, "save"),
    }
    Ok(0)
}

fn list(context: &Context, args: &ListArgs) -> Result<(), Fault> {
    let (sort, ascending) = args.sort.order();
    let filter = RunFilter {
        status: args.status.map(Status::from),
        sort,
        ascending,
        limit: (args.limit > 0).then_some(args.limit),
        name_contains: args.search.clone(),
        ..RunFilter::default()
    };
    let store = context.store()?;
    let runs = store.list_runs(&filter)?;
    let total = store.count_runs(&filter)?;
    if context.json {
        output::print_json(&json!({ "runs": runs, "total": total }));
    } else if runs.is_empty() {
        note(match args.status {
            Some(_) => "No run has this status.",
            None if args.search.is_some() => "No run has such a name.",
            None => "There are no runs yet. `peft-studio quickstart` makes a first one.",
        });
    } else {
        output::text(&table_of(&runs, now()));
        for run in runs.iter().filter(|run| run.status == Status::Interrupted) {
            let name = printable(&run.name);
            note(&format!("The process of `{name}` ended unexpectedly. Go on with: peft-studio resume {}", run.id));
        }
        let others = total.unwrap_or(0).saturating_sub(runs.len());
        if others > 0 {
            note(&format!("{others} more are not shown: --limit 0 shows all, --search TEXT those with such a name."));
        }
    }
    Ok(())
}

fn table_of(runs: &[Run], now: i64) -> String {
    let header = ["NAME", "ID", "STATUS", ">STEPS", ">LOSS", ">HELD-OUT", ">TIME", "CREATED"];
    let row = |run: &Run| {
        vec![
            shortened(&run.name),
            run.id.to_string(),
            run.status.as_str().to_owned(),
            format!("{}/{}", run.last_step, run.total_steps),
            measured(run.loss),
            measured(run.validation_loss),
            duration(run.seconds),
            ago(run.created, now),
        ]
    };
    table::render(&header, &runs.iter().map(row).collect::<Vec<_>>())
}

/// A name on one line that leaves room for the rest of the table.
pub(super) fn shortened(name: &str) -> String {
    let name = printable(name).replace(['\n', '\t'], " ");
    if name.chars().count() <= NAME_WIDTH {
        return name;
    }
    name.chars().take(NAME_WIDTH - 1).chain(['…']).collect()
}

fn show(context: &Context, name: &str, every_step: bool) -> Result<(), Fault> {
    let store = context.store()?;
    let run = find(&store, name)?;
    let evaluations = store.evaluations(&run.id)?;
    let checkpoints = store.checkpoints(&run.id)?;
    if context.json {
        let mut document = json!(run);
        document["evaluations"] = json!(evaluations);
        document["checkpoints"] = json!(checkpoints);
        document["standing"] = json!(standing(&store, &run)?);
        document["metrics"] = json!(if every_step { store.metrics(&run.id)? } else { store.curve(&run.id)? });
        let events = store.events(&run.id, 0)?;
        // What came out stands on top, too.
        if let Some(end) = events.iter().rfind(|event| event.kind == "finished") {
            document["quality_parts"] = end.json["quality_parts"].clone();
            document["suggestions"] = end.json["suggestions"].clone();
        }
        document["events"] = json!(events);
        output::print_json(&document);
    } else {
        output::line(&for_people(&run, &evaluations, &checkpoints, now()));
        if let Some(standing) = standing(&store, &run)? {
            output::line(&printable(&halted(&standing)));
        }
        let told = printable(&quality(&run, &store.events(&run.id, 0)?)).into_owned();
        if !told.is_empty() {
            output::line(&told);
        }
    }
    Ok(())
}

fn delete(context: &Context, name: &str, keep_adapter: bool) -> Result<(), Fault> {
    let store = context.store()?;
    let run = find(&store, name)?;
    let freed = crate::jobs::disposal::delete(&store, &run, keep_adapter)?;
    if context.json {
        output::print_json(&json!({ "deleted": run.id, "name": run.name, "freed_bytes": freed.total() }));
    } else {
        output::line(&printable(&format!("The run `{}` is gone; {} are free again.", run.name, bytes(freed.total()))));
    }
    Ok(())
}

/// Where a run stands that halted (S4.13.5).
fn halted(standing: &Standing) -> String {
    let Standing { elapsed_seconds, remaining_seconds, memory_bytes, disk_bytes, resumes_after_step, actions } =
        standing;
    let left = remaining_seconds.as_ref().map_or_else(|| "unknown".to_owned(), interval);
    let memory = memory_bytes.map_or_else(|| "unknown".to_owned(), bytes);
    let mut lines = vec![
        String::new(),
        format!("Time           {} so far, {left} left", duration(*elapsed_seconds)),
        format!("It took        {memory} of memory, {} on the disk", bytes(*disk_bytes)),
        format!("Goes on after  step {resumes_after_step}"),
    ];
    let command = |action: &peft_plan::fault::Action| {
        action.command.as_ref().map(|command| format!("{:<15}{command}", action.label.clone() + " "))
    };
    lines.extend(actions.iter().filter_map(command));
    lines.join("\n")
}

/// Findings, score and suggestions.
fn quality(run: &Run, events: &[peft_storage::Event]) -> String {
    let mut lines = Vec::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for event in events.iter().filter(|event| event.kind == "anomaly") {
        let (step, message, taken) = (&event.json["step"], text(&event.json["message"]), text(&event.json["taken"]));
        lines.push(format!("  step {step}: {message}. In answer: {taken}."));
    }
    if !lines.is_empty() {
        lines.insert(0, "\nFindings".to_owned());
    }
    let end = events.iter().rfind(|event| event.kind == "finished");
    if let (Some(end), Some(score)) = (end, run.quality_score) {
        lines.push(format!("\nQuality {score:.0} of 100"));
        for part in end.json["quality_parts"].as_array().into_iter().flatten() {
            let points = part["points"].as_f64().map_or("  - ".to_owned(), |points| format!("{points:>4.0}"));
            let name = text(&part["name"]).replace('_', " ");
            lines.push(format!(
                "  {points} of {:.0}  {name}: {}",
                part["of"].as_f64().unwrap_or(0.0),
                text(&part["why"])
            ));
        }
        let suggestions: Vec<String> =
            end.json["suggestions"].as_array().into_iter().flatten().map(|s| format!("  - {}", text(s))).collect();
        if !suggestions.is_empty() {
            lines.push("\nWhat to try next".to_owned());
            lines.extend(suggestions);
        }
    }
    lines.join("\n")
}

fn for_people(run: &Run, evaluations: &[Evaluation], checkpoints: &[Checkpoint], now: i64) -> String {
    let setting = |pointer: &str| match run.config.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let mut lines = vec![
        format!("Name           {}", run.name),
        format!("Id             {}", run.id),
        format!("Status         {}", run.status.as_str()),
        format!("Created        {}", ago(run.created, now)),
        format!("Steps          {} of {}", run.last_step, run.total_steps),
        format!("Time           {}", duration(run.seconds)),
        format!("Loss           {}", measured(run.loss)),
        format!("Held-out loss  {}", measured(run.validation_loss)),
        format!("Model          {}", setting("/model/id")),
        format!("Examples       {}", setting("/dataset/path")),
        format!("Folder         {}", run.directory.display()),
    ];
    if let (Some(planned), Some(peak)) = (run.memory_plan_bytes, run.peak_memory_bytes) {
        lines.push(format!("Memory         {} (planned {})", bytes(peak), bytes(planned)));
    }
    if let Some(version) = run.version {
        lines.push(format!("Version        {version}"));
    }
    if let Some(device) = &run.device {
        lines.push(format!("Device         {device}"));
    }
    if let Some(detail) = run.error.as_ref().and_then(|error| error.pointer("/error/detail")).and_then(Value::as_str) {
        lines.push(format!("Error          {detail}"));
    }
    if !evaluations.is_empty() {
        lines.push(String::new());
        let row = |evaluation: &Evaluation| {
            let Evaluation { step, loss, perplexity, token_accuracy } = evaluation;
            vec![
                step.to_string(),
                measured(Some(*loss)),
                measured(Some(*perplexity)),
                format!("{:.1}%", 100.0 * token_accuracy),
            ]
        };
        let latest = &evaluations[evaluations.len().saturating_sub(SHOWN_EVALUATIONS)..];
        let rows: Vec<_> = latest.iter().map(row).collect();
        lines.push(
            table::render(&[">STEP", ">HELD-OUT LOSS", ">PERPLEXITY", ">TOKENS RIGHT"], &rows).trim_end().to_owned(),
        );
    }
    if !checkpoints.is_empty() {
        lines.push(String::new());
        lines.push("Checkpoints".to_owned());
        for Checkpoint { step, path, bytes: size, best, .. } in checkpoints {
            let mark = if *best { ", the best" } else { "" };
            lines.push(format!("  step {step} ({}{mark})  {}", bytes(*size), path.display()));
        }
    }
    printable(&lines.join("\n")).into_owned()
}

/// Something that only a live run can do.
fn ask_live(context: &Context, name: &str, kind: CommandKind, what: &str) -> Result<u8, Fault> {
    let store = context.store()?;
    let run = find(&store, name)?;
    if run.status != Status::Running {
        return Err(idle(&run, what));
    }
    ask(context, &store, &run, kind)
}

/// `pause`.
pub(super) fn pause(context: &Context, args: &PauseArgs) -> Result<u8, Fault> {
    let store = context.store()?;
    let run = find(&store, &args.run)?;
    if run.status != Status::Running {
        return Err(idle(&run, "pause"));
    }
    ask(context, &store, &run, CommandKind::Pause)
}

/// `stop`. A run that no process works on needs nobody's consent.
pub(super) fn stop(context: &Context, args: &StopArgs) -> Result<u8, Fault> {
    let store = context.store()?;
    let run = find(&store, &args.run)?;
    match run.status {
        Status::Running => ask(context, &store, &run, CommandKind::Stop),
        Status::Queued | Status::Paused | Status::Interrupted => {
            let has_state = !store.checkpoints(&run.id)?.is_empty();
            if has_state {
                // Its adapter is written from the newest checkpoint; with --json that is told by events.
                crate::jobs::run::stop(context, &run)?;
            } else {
                // Nobody may begin to work on it in between.
                let _lock = RunLock::take(&run.directory)?;
                store.update_status(&run.id, Status::Stopped)?;
            }
            store.leave_queue(&run.id)?;
            if context.json {
                output::print_json(&json!({ "run": run.id, "name": run.name, "status": Status::Stopped }));
            } else {
                output::line(&printable(&format!(
                    "The run `{}` is stopped{}.",
                    run.name,
                    if has_state { "; its adapter is written" } else { "" }
                )));
            }
            Ok(0)
        }
        Status::Stopped | Status::Finished | Status::Failed => Err(idle(&run, "stop")),
    }
}

fn ask(context: &Context, store: &Store, run: &Run, kind: CommandKind) -> Result<u8, Fault> {
    store.push_command(&run.id, kind, &Value::Null)?;
    if context.json {
        output::print_json(&json!({ "run": run.id, "name": run.name, "status": run.status, "requested": kind }));
    } else {
        let what = match kind {
            CommandKind::Stop => "write its adapter and end",
            CommandKind::Evaluate => "score its held-out rows",
            CommandKind::Snapshot => "save a checkpoint",
            CommandKind::Answer => "answer",
            CommandKind::Pause => "save a checkpoint and halt",
        };
        output::line(&printable(&format!("The run `{}` was asked to {what} after its current step.", run.name)));
    }
    Ok(0)
}

/// PS-RUN-003: what cannot be done to a run that no process works on.
fn idle(run: &Run, what: &str) -> Fault {
    let state = match run.status {
        Status::Queued => "has not started yet",
        Status::Running => "is running",
        Status::Paused => "is paused already",
        Status::Stopped => "was stopped already",
        Status::Finished => "is finished",
        Status::Failed => "ended with an error",
        Status::Interrupted => "was interrupted; no process works on it",
    };
    let fault = Fault::new("PS-RUN-003", format!("There is nothing to {what}: the run `{}` {state}.", run.name));
    match run.status {
        Status::Paused | Status::Interrupted | Status::Failed => {
            fault.action("Go on with it", Some(format!("peft-studio resume {}", run.id)))
        }
        _ => fault.action("Look at it", Some(format!("peft-studio runs show {}", run.id))),
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_storage::NewRun;
    use std::path::Path;

    fn context(home: &Path) -> Context {
        Context { json: true, data_dir: home.to_owned(), backend: "auto".to_owned(), threads: 1, offline: false }
    }

    #[test]
    fn a_live_run_is_asked_and_an_idle_one_is_not() {
        let home = tempfile::tempdir().expect("a directory");
        let context = context(home.path());
        let store = context.store().expect("a store");
        let id = store.create_run(&NewRun { name: "r".to_owned(), ..NewRun::default() }).expect("new");
        let pause_args = PauseArgs { run: "r".to_owned() };
        let stop_args = StopArgs { run: "r".to_owned() };
        assert_eq!(pause(&context, &pause_args).expect_err("queued").code, "PS-RUN-003");
        {
            let directory = store.get_run(&id).expect("there").directory;
            let _lock = RunLock::take(&directory).expect("free");
            store.update_status(&id, Status::Running).expect("changed");
            assert_eq!(pause(&context, &pause_args).expect("asked"), 0);
            assert_eq!(stop(&context, &stop_args).expect("asked"), 0);
            let kinds: Vec<_> = store.take_commands(&id).expect("there").iter().map(|c| c.kind).collect();
            assert_eq!(kinds, [CommandKind::Pause, CommandKind::Stop]);
        }
        // Its lock is free while it says running: interrupted.
        assert_eq!(pause(&context, &pause_args).expect_err("interrupted").code, "PS-RUN-003");
        assert_eq!(stop(&context, &stop_args).expect("stopped"), 0);
        assert_eq!(store.get_run(&id).expect("there").status, Status::Stopped);
        assert_eq!(stop(&context, &stop_args).expect_err("stopped").code, "PS-RUN-003");
        assert_eq!(pause(&context, &PauseArgs { run: "x".to_owned() }).expect_err("unknown").code, "PS-RUN-001");
    }

    #[test]
    fn lists_fit_on_a_line_whatever_the_name() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let name = format!("bad\u{1b}[2J\n{}", "x".repeat(500));
        let id = store.create_run(&NewRun { name, total_steps: 9, ..NewRun::default() }).expect("new");
        let run = store.get_run(&id).expect("there");
        let text = table_of(std::slice::from_ref(&run), run.created + 7200);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("0/9") && text.contains("2 hours ago") && !text.contains('\u{1b}'), "{text}");
        let text = for_people(&run, &[], &[], run.created);
        assert!(text.contains("just now") && !text.contains('\u{1b}'), "{text}");
    }
}
