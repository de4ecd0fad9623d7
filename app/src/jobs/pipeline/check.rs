//! Everything that can be known to be wrong before the first step starts, all of it at once.

use super::file::{PipelineFile, StepFile};
use super::roles::{Roles, makes, roles};
use super::state::State;
use super::values::{Reference, Values, fill, is_secret, reference, references};
use crate::cli::args::{self, Cli, Command};
use crate::cli::context::Context;
use crate::cli::train;
use crate::jobs::model::{Place, locate, spelled};
use clap::FromArgMatches;
use peft_models::receipt::sha256;
use peft_plan::{Fault, Result, resolve};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Commands that are no steps: they wait for somebody, or are of no use in a chain.
const NOT_STEPS: [&str; 4] = ["pipeline", "serve", "completions", "starter"];

/// A pipeline in which nothing is known to be wrong.
#[derive(Debug)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// Its folder, from which relative paths count.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// Its steps.
    pub steps: Vec<Planned>,
}

/// A step that can be started.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// The command as the file has it, values not filled in.
    pub shown: String,
    /// Of the step, everything before it, and the files it reads.
    pub hash: String,
    /// What it writes.
    pub outputs: Vec<PathBuf>,
    /// It makes a run, which can be resumed.
    pub is_training: bool,
    /// Its words, values not filled in.
    template: Vec<String>,
}

impl Planned {
    /// The words of the command. `earlier`: the id of the run that a step has made.
    pub(super) fn words(&self, values: &Values, earlier: impl Fn(&str) -> Option<String>) -> Result<Vec<String>> {
        let value = |name: &str| match reference(name) {
            Reference::Value(name) => values.get(name).map(str::to_owned),
            Reference::Step(step, _) => earlier(step),
        };
        self.template.iter().map(|word| fill(word, value)).collect()
    }
}

/// What is wrong, and where.
struct Problem {
    step: String,
    fault: Fault,
}

/// Check every step of `file`, which is at `path`.
pub(super) fn check(
    context: &Context,
    path: &Path,
    file: &PipelineFile,
    values: &Values,
    state: &State,
) -> Result<Checked> {
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    check_references(file, values)?;
    let mut checker =
        Checker { context, values, folder: &folder, earlier: Vec::new(), salt: state.salt(), last_hash: String::new() };
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    for (index, step) in file.steps.iter().enumerate() {
        let is_begun = state.record(index).is_some_and(|record| record.name == step.name);
        match checker.step(step, is_begun) {
            Ok((planned, found)) => {
                steps.push(planned);
                problems.extend(found.into_iter().map(|fault| Problem { step: step.name.clone(), fault }));
            }
            Err(fault) => problems.push(Problem { step: step.name.clone(), fault }),
        }
    }
    match problems.len() {
        0 => Ok(Checked { path: path.to_owned(), folder, name: file.name.clone(), steps }),
        1 => Err(alone(problems.remove(0))),
        _ => Err(together(&problems)),
    }
}

fn alone(Problem { step, mut fault }: Problem) -> Fault {
    fault.detail = format!("Step `{step}`: {}. Nothing was started.", fault.detail.trim_end_matches('.'));
    fault
}

fn together(problems: &[Problem]) -> Fault {
    let line = |Problem { step, fault }: &Problem| format!("- step `{step}`: {} ({})", fault.detail, fault.code);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let detail = format!("{} things are wrong; nothing was started.\n{}", problems.len(), lines.join("\n"));
    Fault::new("PS-CFG-001", detail)
        .action("See how a pipeline is written", Some("peft-studio pipeline --help".to_owned()))
}

/// Every value there is, and every earlier step that is named.
fn check_references(file: &PipelineFile, values: &Values) -> Result<()> {
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (index, step) in file.steps.iter().enumerate() {
        for name in step.words()?.iter().map(|word| references(word)).collect::<Result<Vec<_>>>()?.into_iter().flatten()
        {
            match reference(&name) {
                Reference::Value(value) if is_secret(value) => {
                    let detail = format!(
                        "Step `{}` writes the secret `${{{value}}}` into its command, where others could see it. Every step \
                         finds it in its environment; leave it out of the command",
                        step.name
                    );
                    return Err(Fault::new("PS-CFG-001", detail));
                }
                Reference::Value(value) if values.get(value).is_none() => {
                    let steps = missing.entry(name).or_default();
                    if !steps.contains(&step.name.as_str()) {
                        steps.push(&step.name);
                    }
                }
                Reference::Value(_) => {}
                Reference::Step(earlier, field) => {
                    let is_there = file.steps[..index].iter().any(|s| s.name == earlier && s.command == ["train"]);
                    if !is_there || field != "run" {
                        let detail = format!(
                            "Step `{}` uses `${{{name}}}`; `${{STEP.run}}` is the run of an earlier step that trains",
                            step.name
                        );
                        return Err(Fault::new("PS-CFG-001", detail));
                    }
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> =
        missing.iter().map(|(name, steps)| format!("`{name}` (used by {})", steps.join(", "))).collect();
    let detail = format!("Values are missing: {}. Nothing was started.", list.join(", "));
    Err(Fault::new("PS-CFG-001", detail)
        .action(
            "Set them in the environment, or in a file NAME=VALUE",
            Some("peft-studio pipeline FILE --env FILE".to_owned()),
        )
        .action("Give them as `variables` of the pipeline", None))
}

/// What the steps up to here promise.
struct Checker<'a> {
    context: &'a Context,
    values: &'a Values,
    folder: &'a Path,
    earlier: Vec<(String, Roles)>,
    salt: &'a str,
    last_hash: String,
}

impl Checker<'_> {
    /// A step, and what is wrong with it; an error where it cannot be understood at all.
    fn step(&mut self, step: &StepFile, is_begun: bool) -> Result<(Planned, Vec<Fault>)> {
        let step = known_command(step)?;
        let template = step.words()?;
        let mut planned = Planned {
            name: step.name.clone(),
            shown: format!("peft-studio {}", template.join(" ")),
            hash: String::new(),
            outputs: Vec::new(),
            is_training: false,
            template,
        };
        let words = planned.words(self.values, |step| Some(placeholder(step)))?;
        let (cli, roles) = self.parse(&step, &words)?;
        planned.is_training = roles.is_training;
        planned.outputs.clone_from(&roles.outputs);
        let mut problems = self.files(&roles, is_begun);
        problems.extend(self.runs(&roles));
        problems.extend(refused(&step, &roles));
        problems.extend(self.settings(&cli, &roles).err());
        planned.hash = self.hash(&words, &roles)?;
        self.last_hash.clone_from(&planned.hash);
        self.earlier.push((step.name.clone(), roles));
        Ok((planned, problems))
    }

    fn parse(&self, step: &StepFile, words: &[String]) -> Result<(Cli, Roles)> {
        let mut line = vec!["peft-studio".to_owned()];
        line.extend(words.iter().cloned());
        line.extend(["--json".to_owned(), format!("--data-dir={}", self.context.data_dir.display())]);
        let wrong = |error: &clap::Error| {
            let text = error.to_string();
            let said: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage")).collect();
            let said = said.join(" ");
            let said = said.trim().trim_start_matches("error: ").to_owned();
            let detail =
                if error.use_stderr() { said } else { "asks for help or a version; it does nothing".to_owned() };
            let help = format!("peft-studio {} --help", step.command.join(" "));
            Fault::new("PS-CFG-001", detail).action("See what the command takes", Some(help))
        };
        let matches = args::command().try_get_matches_from(line).map_err(|error| wrong(&error))?;
        let mut leaf = &matches;
        while let Some((_, inner)) = leaf.subcommand() {
            leaf = inner;
        }
        let roles = roles(&step.command, leaf, self.folder);
        Ok((Cli::from_arg_matches(&matches).map_err(|error| wrong(&error))?, roles))
    }

    fn is_made(&self, path: &Path) -> bool {
        self.earlier.iter().any(|(_, roles)| roles.outputs.iter().any(|output| makes(output, path)))
    }

    /// Inputs that are neither here nor made, and outputs that two steps would write.
    fn files(&self, roles: &Roles, is_begun: bool) -> Vec<Fault> {
        let mut problems = Vec::new();
        for input in roles.inputs.iter().filter(|input| !input.exists() && !self.is_made(input)) {
            let detail = format!("`{}` is not there, and no earlier step makes it", input.display());
            problems.push(Fault::new("PS-FILE-001", detail));
        }
        for output in &roles.outputs {
            let other = self.earlier.iter().find(|(_, roles)| roles.outputs.contains(output));
            if let Some((other, _)) = other {
                let detail = format!("`{}` is written by step `{other}` already", output.display());
                problems.push(Fault::new("PS-CFG-001", detail));
            }
            if roles.is_training && !is_begun && output.join("run.json").exists() {
                let detail = format!("`{}` holds a run already; name another folder", output.display());
                problems.push(Fault::new("PS-CFG-001", detail));
            }
        }
        problems
    }

    /// Runs that are neither made by an earlier step nor known.
    fn runs(&self, roles: &Roles) -> Vec<Fault> {
        let is_made = |run: &String| {
            let by_name = self.earlier.iter().any(|(_, earlier)| earlier.makes_run.as_ref() == Some(run));
            by_name || self.earlier.iter().any(|(step, _)| *run == placeholder(step))
        };
        let unknown = roles.runs.iter().filter(|run| !is_made(run));
        unknown
            .filter_map(|run| {
                self.context.store().and_then(|store| crate::jobs::run::find(&store, run).map(drop)).err()
            })
            .collect()
    }

    /// The settings of a training run and its model, or the model of any other step.
    fn settings(&self, cli: &Cli, roles: &Roles) -> Result<()> {
        let model = match &cli.command {
            Some(Command::Train(args)) => {
                let mut args = (**args).clone();
                if let Some(run) = &mut args.request.run {
                    *run = self.folder.join(&run);
                    if !run.exists() {
                        // Made by an earlier step, or told already.
                        return Ok(());
                    }
                }
                // Told as an input.
                args.resume_from = None;
                let config = train::configuration(self.context, &args)?;
                resolve::check(&config)?;
                Some(spelled(&config.model)).filter(|_| config.model.id.is_some())
            }
            _ => roles.model.clone(),
        };
        let Some(model) = model else { return Ok(()) };
        let path = super::roles::plain(&self.folder.join(&model));
        if path.exists() || self.is_made(&path) || self.downloads(&model) {
            return Ok(());
        }
        match locate(&model)? {
            Place::Elsewhere(..) if self.context.offline || !roles.is_training => {
                let detail = format!("The model `{model}` is not on this computer");
                let command = crate::jobs::model::download_command(&model);
                Err(Fault::new("PS-MODEL-001", detail).action("Download it, or make that a step", Some(command)))
            }
            _ => Ok(()),
        }
    }

    /// Whether an earlier step brings the model: by its own command, or by training on it.
    fn downloads(&self, model: &str) -> bool {
        self.earlier.iter().any(|(_, roles)| roles.is_training && roles.model.as_deref() == Some(model))
            || self.earlier.iter().any(|(_, roles)| roles.brings.as_deref() == Some(model))
    }

    /// Two steps with the same hash do the same on the same.
    fn hash(&self, words: &[String], roles: &Roles) -> Result<String> {
        let mut text = format!("{}\0{}\0{}", self.salt, self.last_hash, words.join("\0"));
        for input in roles.inputs.iter().filter(|input| input.exists() && !self.is_made(input)) {
            text.extend(["\0", &input.to_string_lossy(), "\0", &content(input)?]);
        }
        Ok(sha256(text.as_bytes()))
    }
}

/// What stands for the run of a step until it is there.
fn placeholder(step: &str) -> String {
    format!("run-of-{step}")
}

/// The step with the words of its command as the program has them: `label` is `data label`.
fn known_command(step: &StepFile) -> Result<StepFile> {
    let all = args::command();
    let find = |words: &[String]| {
        words.iter().try_fold(&all, |command, word| command.find_subcommand(word)).is_some_and(|c| !c.has_subcommands())
    };
    let mut step = step.clone();
    if !find(&step.command) {
        let of_data: Vec<String> = std::iter::once("data".to_owned()).chain(step.command.clone()).collect();
        if !find(&of_data) {
            let names = all.get_subcommands().filter(|c| !c.is_hide_set() && !NOT_STEPS.contains(&c.get_name()));
            let names: Vec<&str> = names.map(clap::Command::get_name).collect();
            let detail = format!(
                "there is no command `{}` in this version; commands begin with {}",
                step.command.join(" "),
                names.join(", ")
            );
            return Err(
                Fault::new("PS-CFG-002", detail).action("List the commands", Some("peft-studio --help".to_owned()))
            );
        }
        step.command = of_data;
    }
    Ok(step)
}

/// Commands that would wait, or not do their work while the step lasts.
fn refused(step: &StepFile, roles: &Roles) -> Option<Fault> {
    let first = step.command.first().map_or("", String::as_str);
    let why = if NOT_STEPS.contains(&first) {
        format!("`{first}` cannot be a step")
    } else if first == "chat" && !roles.has_prompt {
        "`chat` needs a `prompt`: nobody is there to talk to it".to_owned()
    } else if let Some(flag) = roles.endless {
        format!("`{flag}` cannot be used in a step: what follows would not know when the step is done")
    } else if roles.merges {
        "`merge` cannot be used in a step; a step `export` with `to`: `merged` can be repeated alone".to_owned()
    } else {
        return None;
    };
    Some(Fault::new("PS-CFG-001", why))
}

/// The content of a file, or the names, lengths and times of the files in a folder.
fn content(path: &Path) -> Result<String> {
    if path.is_file() {
        return Ok(durable::sha256_file(path).map_err(|error| Fault::io("read", path, error))?.sha256);
    }
    let mut lines = Vec::new();
    list(path, &mut lines);
    lines.sort();
    Ok(sha256(lines.join("\n").as_bytes()))
}

fn list(folder: &Path, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(data) = entry.metadata() else { continue };
        if data.is_dir() {
            list(&entry.path(), lines);
        } else {
            lines.push(format!("{} {} {:?}", entry.path().display(), data.len(), data.modified().ok()));
        }
    }
}
