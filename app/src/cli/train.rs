//! `train` and `resume`.

use super::args::{ResumeArgs, TrainArgs};
use super::context::Context;
use super::output;
use super::transfer::TransferView;
use crate::jobs::download::ensure;
use crate::jobs::model::spelled;
use crate::jobs::{ResumeChanges, RunEnd, RunRequest, resume, start};
use peft_models::train::RunOutcome;
use peft_plan::config::TensorboardPlace;
use peft_plan::{Fault, Result, RunConfig};
use std::path::Path;

/// Exit code after Ctrl-C with a checkpoint saved, or with what arrived kept.
const INTERRUPTED: u8 = 130;

/// Train from a run file, from flags, or both: flags win.
pub fn run(context: &Context, args: &TrainArgs) -> Result<u8> {
    let mut config = match &args.run {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Fault::io("read the run file", path, e))?;
            RunConfig::from_json(&text)?
        }
        None => match &args.preset {
            Some(name) => crate::jobs::presets::find(&context.store()?, name)?.config,
            None => RunConfig::default(),
        },
    };
    apply_flags(&mut config, args)?;
    if !fetch_model(context, &config)? {
        return Ok(INTERRUPTED);
    }
    let end = start(context, RunRequest { config, out: args.out.clone() })?;
    if args.merge
        && let RunOutcome::Finished(_) = end.outcome
    {
        super::export::merge_run(context, &end.run, &end.run.directory.join("merged"))?;
    }
    report(context, &end)
}

/// A model that is not on this computer yet is downloaded first. `false`: Ctrl-C came before it was here.
fn fetch_model(context: &Context, config: &RunConfig) -> Result<bool> {
    let name = spelled(&config.model);
    // Results on stdout are the events of the run.
    let mut view = TransferView::new(&name, false);
    let is_here = ensure(context, config, &mut |event| view.receive(event))?;
    drop(view);
    if !is_here {
        output::note("Stopped before the run began; the same command goes on with the download");
    }
    Ok(is_here)
}

fn apply_flags(config: &mut RunConfig, args: &TrainArgs) -> Result<()> {
    if let Some(model) = &args.model {
        config.model.id = Some(model.clone());
    }
    if let Some((first, rest)) = args.data.split_first() {
        config.dataset.path = Some(first.display().to_string());
        config.dataset.sources = rest
            .iter()
            .map(|p| peft_plan::config::SourceRef { path: Some(p.display().to_string()), ..Default::default() })
            .collect();
    }
    if let Some(name) = &args.name {
        config.name = Some(name.clone());
    }
    let mut set = |key: &str, value: Option<String>| match value {
        Some(value) => config.set(&format!("{key}={value}")),
        None => Ok(()),
    };
    set("adapter.method", args.method.clone())?;
    set("training.objective", args.objective.clone())?;
    set("adapter.rank", args.rank.map(|v| v.to_string()))?;
    set("adapter.alpha", args.alpha.map(|v| v.to_string()))?;
    set("adapter.dropout", args.dropout.map(|v| v.to_string()))?;
    set("training.epochs", args.epochs.map(|v| v.to_string()))?;
    set("training.learning_rate", args.learning_rate.map(|v| v.to_string()))?;
    set("training.micro_batch_size", args.batch_size.map(|v| v.to_string()))?;
    if !args.target_modules.is_empty() {
        config.adapter.target_modules = Some(target_modules(&args.target_modules));
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
    for assignment in &args.set {
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
    let ResumeArgs { run, set, exclude_rows, rewind_to } = args;
    let changes = ResumeChanges { set: set.clone(), exclude_rows: exclude_rows.clone(), rewind_to: *rewind_to };
    if let Some(end) = resume(context, run, &changes)? {
        return report(context, &end);
    }
    output::note(&format!("The run `{}` is finished; there is nothing left to do", args.run));
    if context.json {
        output::print_json(&serde_json::json!({"event": "finished", "run": args.run, "already": true}));
    }
    Ok(0)
}

fn report(context: &Context, end: &RunEnd) -> Result<u8> {
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
