//! A chain of commands from a file: checked as a whole, run headless, resumed at the step that failed (S1.26, S1.28).
//!
//! Every step is a process of its own, started with the exact words that a person would type: a step that crashes
//! costs only itself. What is done is kept in the data directory, by hashes of the step, of everything before it and
//! of the files it reads.

mod check;
mod file;
mod roles;
mod state;
mod step;
mod values;

pub use check::{Checked, Planned};
pub use file::{PipelineFile, StepFile};

use crate::cli::context::Context;
use crate::cli::interrupt;
use check::check;
use peft_plan::{Fault, Result};
use serde::Serialize;
use serde_json::Value;
use state::{Progress, Record, State};
use std::path::Path;
use std::time::Instant;
use values::Values;
pub(super) use values::is_secret;

/// What a pipeline tells while it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PipelineEvent {
    /// Every step is checked, and the first one begins.
    PipelineStarted {
        /// Its name.
        name: String,
        /// Its steps in order.
        steps: Vec<String>,
    },
    /// A step was done by an earlier call, and nothing has changed since.
    StepSkipped {
        /// Its name.
        step: String,
        /// Counted from 1.
        index: usize,
        /// Of so many.
        of: usize,
    },
    /// A step begins.
    StepStarted {
        /// Its name.
        step: String,
        /// Counted from 1.
        index: usize,
        /// Of so many.
        of: usize,
        /// The command as the file has it, values not filled in.
        command: String,
        /// The run that goes on, where one was begun before.
        resumed_run: Option<String>,
    },
    /// A step has said something on stdout.
    StepOutput {
        /// Its name.
        step: String,
        /// What it said.
        output: Value,
    },
    /// A step is done.
    StepFinished {
        /// Its name.
        step: String,
        /// How long it took.
        seconds: f64,
        /// The last thing it said.
        result: Value,
    },
    /// A step has failed; the error follows on stderr.
    StepFailed {
        /// Its name.
        step: String,
        /// Its exit code.
        exit_code: u8,
    },
    /// Every step is done.
    PipelineFinished {
        /// How long this call took.
        seconds: f64,
        /// Steps that were done by this call.
        done: usize,
        /// Steps that were done before.
        skipped: usize,
    },
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineEnd {
    /// Every step is done.
    Finished,
    /// Ctrl-C; what is done is kept.
    Interrupted,
}

/// A pipeline file with its values, read and checked.
pub struct Pipeline {
    checked: Checked,
    values: Values,
    state: State,
}

impl Pipeline {
    /// Read the file and its values, and check every step. Starts nothing.
    ///
    /// # Errors
    /// What is wrong with any step, all of it at once.
    pub fn open(context: &Context, path: &Path, environment: Option<&Path>, restart: bool) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|error| Fault::io("find", path, error))?;
        let document = PipelineFile::read(&path)?;
        let values = Values::gather(&path, environment, &document.variables)?;
        let mut state = State::open(&context.data_dir, &path)?;
        if restart {
            state.forget();
        }
        let checked = check(context, &path, &document, &values, &state)?;
        Ok(Self { checked, values, state })
    }

    /// What was found.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// The steps that are done already, in order from the first.
    pub fn done(&self) -> usize {
        done_already(&self.checked, &self.state)
    }

    /// Do every step that is not done. `tell` hears of everything.
    ///
    /// # Errors
    /// PS-RUN-002 while another process runs this pipeline; otherwise that of the step that failed.
    pub fn run(self, context: &Context, tell: &mut dyn FnMut(&PipelineEvent)) -> Result<PipelineEnd> {
        let Self { checked, values, mut state } = self;
        let _lock = state.lock()?;
        interrupt::install();
        let begun = Instant::now();
        let (of, skipped) = (checked.steps.len(), done_already(&checked, &state));
        let steps = checked.steps.iter().map(|step| step.name.clone()).collect();
        tell(&PipelineEvent::PipelineStarted { name: checked.name.clone(), steps });
        for (index, planned) in checked.steps.iter().enumerate() {
            if index < skipped {
                tell(&PipelineEvent::StepSkipped { step: planned.name.clone(), index: index + 1, of });
                continue;
            }
            // Whatever came after an unfinished or changed step is not what it was.
            state.truncate(index + 1);
            if !run_step(context, &checked, index, &values, &mut state, tell)? {
                return Ok(PipelineEnd::Interrupted);
            }
        }
        tell(&PipelineEvent::PipelineFinished { seconds: begun.elapsed().as_secs_f64(), done: of - skipped, skipped });
        Ok(PipelineEnd::Finished)
    }
}

/// Steps from the first on that are done, unchanged, and whose results are still there.
fn done_already(checked: &Checked, state: &State) -> usize {
    let is_done = |(index, step): &(usize, &Planned)| {
        let record = state.record(*index);
        record.is_some_and(|record| record.progress == Progress::Done && record.hash == step.hash)
            && step.outputs.iter().all(|path| path.exists())
    };
    checked.steps.iter().enumerate().take_while(is_done).count()
}

/// One step to its end; `false`: it was interrupted.
fn run_step(
    context: &Context,
    checked: &Checked,
    index: usize,
    values: &Values,
    state: &mut State,
    tell: &mut dyn FnMut(&PipelineEvent),
) -> Result<bool> {
    let planned = &checked.steps[index];
    let earlier = |name: &str| {
        let place = checked.steps.iter().position(|step| step.name == name)?;
        state.record(place)?.run.clone()
    };
    let words = planned.words(values, earlier)?;
    let unfinished = state.record(index).filter(|record| record.hash == planned.hash && planned.is_training);
    let resumed_run = unfinished.and_then(|record| record.run.clone()).filter(|run| step::can_go_on(context, run));
    let words = resumed_run.as_ref().map_or(words, |run| vec!["resume".to_owned(), run.clone()]);
    tell(&PipelineEvent::StepStarted {
        step: planned.name.clone(),
        index: index + 1,
        of: checked.steps.len(),
        command: planned.shown.clone(),
        resumed_run: resumed_run.clone(),
    });
    let mut record = Record {
        name: planned.name.clone(),
        hash: planned.hash.clone(),
        progress: Progress::Begun,
        run: resumed_run,
        seconds: 0.0,
    };
    state.put(index, record.clone())?;
    let begun = Instant::now();
    let ended = step::run(context, &checked.folder, &words, values, &mut |output| {
        if planned.is_training && output["event"] == "started" {
            record.run = output["run"].as_str().map(str::to_owned);
            state.put(index, record.clone())?;
        }
        tell(&PipelineEvent::StepOutput { step: planned.name.clone(), output: output.clone() });
        Ok(())
    })?;
    record.seconds = begun.elapsed().as_secs_f64();
    if ended.was_interrupted(planned.is_training) {
        return Ok(false);
    }
    if ended.exit_code != 0 {
        tell(&PipelineEvent::StepFailed { step: planned.name.clone(), exit_code: ended.exit_code });
        return Err(ended.fault(&planned.name, &checked.path));
    }
    record.progress = Progress::Done;
    // The record goes first: what was told is recorded.
    state.put(index, record.clone())?;
    tell(&PipelineEvent::StepFinished { step: record.name, seconds: record.seconds, result: ended.result });
    Ok(true)
}
