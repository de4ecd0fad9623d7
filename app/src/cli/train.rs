//! `train` and `resume`.

use super::args::{RequestArgs, ResumeArgs, TrainArgs};
use super::context::Context;
use super::output;
use super::transfer::TransferView;
use crate::jobs::background::{self, Launched, Wishes};
use crate::jobs::dataset_versions;
use crate::jobs::download::ensure;
use crate::jobs::model::spelled;
use crate::jobs::remedy::{apply, next_change};
use crate::jobs::specification;
use crate::jobs::{ResumeChanges, RunEnd, RunRequest, resume, start};
use peft_models::train::RunOutcome;
use peft_plan::config::TensorboardPlace;
use peft_plan::{Fault, Result, RunConfig, profile};
use peft_storage::{RunFilter, RunId};
use std::path::Path;

/// Exit code after Ctrl-C with a checkpoint saved, or with what arrived kept.
pub(super) const INTERRUPTED: u8 = 130;

/// Train from a run file, from flags, or both: flags win.
pub fn run(context: &Context, args: &TrainArgs) -> Result<u8> {
    let Some((request, wishes)) = request(context, args)? else { return Ok(INTERRUPTED) };
    if args.detach {
        let launched = fixing(context, args.fix, request, &mut |request| background::start(context, request, &wishes))?;
        tell_launched(context, &launched);
        return Ok(0);
    }
    let end = fixing(context, args.fix, request, &mut |request| start(context, request))?;
    merge(context, args.merge, &end)?;
    report(context, &end)
}

fn merge(context: &Context, wanted: bool, end: &RunEnd) -> Result<()> {
    if wanted && let RunOutcome::Finished(_) = end.outcome {
        super::export::merge_run(context, &end.run, &end.run.directory.join("merged"))?;
    }
    Ok(())
}

/// Begin; with `--fix` again after each change of settings that the refusal offers.
fn fixing<T>(
    context: &Context,
    fix: bool,
    request: RunRequest,
    begin: &mut dyn FnMut(RunRequest) -> Result<T>,
) -> Result<T> {
    if !fix {
        return begin(request);
    }
    let RunRequest { mut config, out } = request;
    let mut tried = Vec::new();
    loop {
        let before = newest_run(context)?;
        let fault = match begin(RunRequest { config: config.clone(), out: out.clone() }) {
            Ok(begun) => return Ok(begun),
            Err(fault) => fault,
        };
        // What went wrong in a run that had begun is not undone by beginning another one.
        let is_new = || newest_run(context).is_ok_and(|newest| newest == before);
        let Some(action) = next_change(&fault, &tried).filter(|_| is_new()) else { return Err(fault) };
        output::note(&format!("{}. {}: {}", fault.entry().title, fault.code, fault.detail));
        apply(context, &action, &mut config)?;
        output::note(&format!("Changed: {} ({})", action.command.as_deref().unwrap_or_default(), action.label));
        tried.push(action);
    }
}

fn newest_run(context: &Context) -> Result<Option<RunId>> {
    let newest = context.store()?.list_runs(&RunFilter { limit: Some(1), ..RunFilter::default() })?;
    Ok(newest.into_iter().next().map(|run| run.id))
}

/// What the command line asks for: the run file, changed by the flags.
pub fn configuration(context: &Context, args: &TrainArgs) -> Result<RunConfig> {
    let mut config = match &args.request.run {
        Some(path) => {
            if let Some(specification) = specification::read(path)? {
                specification.config()?
            } else {
                let text = std::fs::read_to_string(path).map_err(|e| Fault::io("read the run file", path, e))?;
                RunConfig::from_json(&text)?
            }
        }
        None => match &args.request.preset {
            Some(name) => crate::jobs::presets::find(&context.store()?, name)?.config,
            None => RunConfig::default(),
        },
    };
    if let Some(project) = &args.request.project {
        config.dataset.path = Some(dataset_versions::rows_of(&context.data_dir, project)?.display().to_string());
        config.dataset.sources = Vec::new();
    }
    apply_flags(&mut config, args)?;
    Ok(config)
}

/// The run that the command line asks for, with its model here, and what its process is to be told. `None`: Ctrl-C came
/// before the model was here.
pub(super) fn request(context: &Context, args: &TrainArgs) -> Result<Option<(RunRequest, Wishes)>> {
    let config = configuration(context, args)?;
    // Who starts a run elsewhere hears of the download; else results on stdout are the events of the run.
    if !fetch_model(context, &config, context.json && args.detach)? {
        return Ok(None);
    }
    if let Some(path) = &args.request.run
        && let Some(specification) = specification::read(path)?
    {
        specification.check_inputs(&config)?;
    }
    let wishes = Wishes { merge: args.merge, backend: Some(context.backend.clone()), ..Wishes::default() };
    Ok(Some((RunRequest { config, out: args.out.clone() }, wishes)))
}

/// What the process of a run that goes on is to be told. Only what can change by then may be given.
pub(super) fn again(context: &Context, args: &TrainArgs) -> Result<Wishes> {
    let plain = TrainArgs {
        request: RequestArgs { run: args.request.run.clone(), set: args.request.set.clone(), ..Default::default() },
        merge: args.merge,
        notify: args.notify,
        no_notify: args.no_notify,
        ..TrainArgs::default()
    };
    if *args != plain {
        let name = args.request.run.as_deref().unwrap_or(Path::new("")).display();
        let detail =
            format!("`{name}` is no run file, and a run that goes on only takes `--set`, `--merge` and `--notify`");
        return Err(Fault::new("PS-CFG-001", detail));
    }
    let changes = ResumeChanges {
        set: args.request.set.clone(),
        notify: wish(args.notify, args.no_notify),
        ..Default::default()
    };
    Ok(Wishes { changes, merge: args.merge, backend: Some(context.backend.clone()) })
}

fn wish(notify: bool, no_notify: bool) -> Option<bool> {
    (notify || no_notify).then_some(notify)
}

/// Where to find a run that a process of its own works on.
fn tell_launched(context: &Context, launched: &Launched) {
    let Launched { run, process } = launched;
    if context.json {
        output::print_json(&serde_json::json!({
            "run": run.id, "name": run.name, "status": run.status, "directory": run.directory, "process": process,
            "events": run.directory.join("events.jsonl"), "log": run.directory.join(background::LOG),
        }));
        return;
    }
    output::line(&output::printable(&format!("The run `{}` goes on in process {process}.", run.name)));
    output::line(&format!("Id        {}", run.id));
    output::line(&format!("Folder    {}", run.directory.display()));
    output::line(&format!("Follow    peft-studio runs attach {}", run.id));
    output::line(&format!("Pause     peft-studio pause {}", run.id));
}

/// A model that is not on this computer yet is downloaded first. `false`: Ctrl-C came before it was here.
fn fetch_model(context: &Context, config: &RunConfig, to_stdout: bool) -> Result<bool> {
    let name = spelled(&config.model);
    let mut view = TransferView::new(&name, to_stdout);
    let is_here = ensure(context, config, &mut |event| view.receive(event))?;
    drop(view);
    if !is_here {
        output::note("Stopped before the run began; the same command goes on with the download");
    }
    Ok(is_here)
}

fn apply_flags(config: &mut RunConfig, args: &TrainArgs) -> Result<()> {
    if let Some(profile) = &args.request.profile {
        config.use_case = Some(profile::find(profile)?.id.clone());
    }
    if let Some(model) = &args.request.model {
        config.model.id = Some(model.clone());
    }
    if let Some((first, rest)) = args.request.data.split_first() {
        config.dataset.path = Some(first.display().to_string());
        config.dataset.sources = rest
            .iter()
            .map(|p| peft_plan::config::SourceRef { path: Some(p.display().to_string()), ..Default::default() })
            .collect();
    }
    if let Some(name) = &args.request.name {
        config.name = Some(name.clone());
    }
    let mut set = |key: &str, value: Option<String>| match value {
        Some(value) => config.set(&format!("{key}={value}")),
        None => Ok(()),
    };
    set("adapter.method", args.request.method.clone())?;
    set("training.objective", args.request.objective.clone())?;
    set("adapter.rank", args.request.rank.map(|v| v.to_string()))?;
    set("adapter.alpha", args.request.alpha.map(|v| v.to_string()))?;
    set("adapter.dropout", args.request.dropout.map(|v| v.to_string()))?;
    set("training.epochs", args.request.epochs.map(|v| v.to_string()))?;
    set("training.learning_rate", args.request.learning_rate.map(|v| v.to_string()))?;
    set("training.micro_batch_size", args.request.batch_size.map(|v| v.to_string()))?;
    if !args.request.target_modules.is_empty() {
        config.adapter.target_modules = Some(target_modules(&args.request.target_modules));
    }
    if let Some(folder) = &args.tensorboard {
        config.logging.tensorboard = Some(match folder.as_str() {
            "" => TensorboardPlace::Own(true),
            folder => TensorboardPlace::Folder(folder.to_owned()),
        });
    }
    if let Some(from) = &args.resume_from {
        config.adapter.init_from = Some(adapter_of(from)?);
    }
    if let Some(notify) = wish(args.notify, args.no_notify) {
        config.logging.notify = Some(notify);
    }
    for assignment in &args.request.set {
        config.set(assignment)?;
    }
    Ok(())
}

/// Several names, or one name, is a list; `all-linear` and anything that only makes sense as a regular expression
/// is a pattern.
fn target_modules(words: &[String]) -> peft_plan::TargetModules {
    let names: Vec<String> =
        words.iter().flat_map(|w| w.split(',')).map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect();
    match &names[..] {
        [one] if one == "all-linear" || one.contains(['*', '(', '|', '\\', '[', '^', '$', '+']) => {
            peft_plan::TargetModules::Pattern(one.clone())
        }
        _ => peft_plan::TargetModules::List(names),
    }
}

/// `--resume-from` takes an adapter directory, or a run directory that holds one (S3.5).
fn adapter_of(dir: &Path) -> Result<String> {
    let candidates = [dir.to_path_buf(), dir.join("adapter")];
    match candidates.iter().find(|d| d.join("adapter_config.json").is_file()) {
        Some(found) => Ok(found.display().to_string()),
        None => Err(Fault::new(
            "PS-MODEL-003",
            format!("`{}` holds no adapter: adapter_config.json is missing", dir.display()),
        )
        .action("Go on with an unfinished run instead", Some("peft-studio resume RUN".to_owned()))),
    }
}

/// Go on with a run.
pub fn resume_run(context: &Context, args: &ResumeArgs) -> Result<u8> {
    let ResumeArgs { run, set, exclude_rows, rewind_to, merge: with_merge, detach, notify, no_notify } = args;
    let changes = ResumeChanges {
        set: set.clone(),
        exclude_rows: exclude_rows.clone(),
        rewind_to: *rewind_to,
        notify: wish(*notify, *no_notify),
    };
    if *detach {
        let wishes = Wishes { changes, merge: *with_merge, backend: Some(context.backend.clone()) };
        if let Some(launched) = background::resume(context, run, &wishes)? {
            tell_launched(context, &launched);
            return Ok(0);
        }
    } else if let Some(end) = resume(context, run, &changes)? {
        merge(context, *with_merge, &end)?;
        return report(context, &end);
    }
    output::note(&format!("The run `{}` is finished; there is nothing left to do", args.run));
    if context.json {
        output::print_json(&serde_json::json!({"event": "finished", "run": args.run, "already": true}));
    }
    Ok(0)
}

pub(super) fn report(context: &Context, end: &RunEnd) -> Result<u8> {
    let RunEnd { run, outcome } = end;
    let id = run.id.as_str();
    if !context.json {
        match outcome {
            RunOutcome::Finished(f) => {
                output::line(&format!("Finished after {} steps in {}", f.step, output::duration(f.seconds)));
                output::line(&format!("Adapter   {}", f.adapter));
                if let Some(score) = run.quality_score {
                    output::line(&format!("Quality   {score:.0} of 100; `peft-studio runs show {id}` says why"));
                }
                output::line(&format!("Try it    peft-studio chat --run {id} --compare"));
            }
            RunOutcome::Stopped(step) => {
                output::line(&format!(
                    "Stopped after {step} steps; the adapter is in {}",
                    run.directory.join("adapter").display()
                ));
            }
            RunOutcome::Paused(step) | RunOutcome::Interrupted(step) => {
                output::line(&format!("Paused after {step} steps. Go on with: peft-studio resume {id}"));
            }
            // Told as the reason of the exit code.
            RunOutcome::Halted(_) => {}
        }
    }
    match outcome {
        RunOutcome::Interrupted(_) => Ok(INTERRUPTED),
        RunOutcome::Halted(finding) => Err(named(finding.fault(), id)),
        _ => Ok(0),
    }
}

/// The fault with the run's id where its actions say RUN.
fn named(mut fault: Fault, id: &str) -> Fault {
    let actions = std::mem::take(&mut fault.actions);
    for action in actions {
        fault = fault.action(action.label, action.command.map(|command| command.replace("RUN", id)));
    }
    fault
}
