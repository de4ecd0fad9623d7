//! What the command line does besides making models, in the window: measuring, waiting runs, chains, checks, the log.

mod checks;
mod evaluate;
pub mod log;
mod pipeline;
mod queue;
pub mod view;

use super::errand::{Ending, Said};
use super::problem::Problem;
use super::state::Data;
use super::target::Target;
use peft_storage::Waiting;
use serde_json::Value;

/// A part of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// How good a model is.
    #[default]
    Evaluate,
    /// Runs that wait.
    Queue,
    /// A chain of commands.
    Pipeline,
    /// This computer, and what it computes.
    Checks,
    /// What happened.
    Log,
}

/// What is done by a process beside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Scores examples.
    Evaluate,
    /// Looks at a chain and starts nothing.
    CheckPipeline,
    /// Carries a chain out.
    Pipeline,
    /// Looks at the computer.
    Hardware,
    /// Compares every kernel with its reference.
    Selftest,
    /// Computes the beginning of a run again.
    Receipt,
    /// Measures how fast a model answers.
    Speed,
    /// Measures how fast a model is trained.
    TrainSpeed,
    /// Replays a training that another program recorded.
    Reference,
}

impl Tool {
    /// What it is called.
    pub fn title(self) -> &'static str {
        match self {
            Self::Evaluate => "Evaluation",
            Self::CheckPipeline => "Check of the pipeline",
            Self::Pipeline => "Pipeline",
            Self::Hardware => "This computer",
            Self::Selftest => "Selftest",
            Self::Receipt => "Receipt",
            Self::Speed => "Speed",
            Self::TrainSpeed => "Speed of training",
            Self::Reference => "Another program's training",
        }
    }
}

/// Something that was asked for.
#[derive(Debug)]
pub struct Job {
    /// Its errand.
    pub id: u64,
    /// What.
    pub tool: Tool,
    /// What it said.
    pub lines: Vec<Value>,
    /// The last remark.
    pub remark: Option<String>,
    /// How it ended.
    pub ending: Option<Ending>,
}

/// Lines of a job that are kept: the first ones say what it is about, the last ones what came of it.
const LINES: usize = 400;

impl Job {
    /// The last thing it said.
    pub fn result(&self) -> Option<&Value> {
        self.lines.last()
    }

    /// Why it failed, unless it said what is wrong in its result.
    pub fn problem(&self) -> Option<&Problem> {
        let says_itself =
            matches!(self.tool, Tool::Selftest | Tool::Receipt | Tool::Reference) && !self.lines.is_empty();
        match &self.ending {
            Some(Ending::Failed(problem)) if !says_itself => Some(problem),
            _ => None,
        }
    }
}

/// The runs that wait, and the process that works on them.
#[derive(Debug)]
pub struct Queue {
    /// Those that wait, the next first.
    pub waiting: Vec<Waiting>,
    /// Who works on them.
    pub worker: Option<u32>,
}

/// How a training is done that is measured.
#[derive(Clone, Debug)]
pub struct Training {
    /// As after `--method`.
    pub method: &'static str,
    /// Tokens of a sequence.
    pub length: String,
    /// Sequences of a step.
    pub batch: String,
}

impl Default for Training {
    fn default() -> Self {
        Self { method: "lora", length: "256".to_owned(), batch: "1".to_owned() }
    }
}

/// The page.
#[derive(Debug, Default)]
pub struct Tools {
    /// What is shown.
    pub tab: Tab,
    /// Whose answers are measured.
    pub evaluated: Option<Target>,
    /// On which examples.
    pub data: String,
    /// It also answers, and the answers are compared.
    pub generates: bool,
    /// The pipeline.
    pub pipeline: String,
    /// Steps that are done are done again.
    pub restarts: bool,
    /// The receipt.
    pub receipt: String,
    /// Whose speed is measured.
    pub measured: Option<Target>,
    /// How the training that is measured is done.
    pub training: Training,
    /// A recorded run of another program.
    pub reference: String,
    /// The model that it was recorded with.
    pub reference_model: String,
    /// What was asked for, the latest of each kind.
    pub jobs: Vec<Job>,
    /// The queue; none before the first look.
    pub queue: Option<Result<Queue, Problem>>,
    /// When the queue was looked at last, in seconds since 1970.
    pub looked: i64,
    /// The log.
    pub log: log::State,
}

impl Tools {
    /// The latest of its kind.
    pub fn job(&self, tool: Tool) -> Option<&Job> {
        self.jobs.iter().find(|job| job.tool == tool)
    }

    /// Whether one of its kind is under way.
    pub fn is_busy(&self, tool: Tool) -> bool {
        self.job(tool).is_some_and(|job| job.ending.is_none())
    }

    /// The words of the command; none where something is missing.
    pub fn words(&self, tool: Tool, data: &Data) -> Option<Vec<String>> {
        let path = |typed: &str| (!typed.trim().is_empty()).then(|| typed.trim().to_owned());
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Some(match tool {
            Tool::Evaluate => {
                let mut all = words(&["evaluate"]);
                all.extend(self.evaluated.as_ref().or(newest(data).as_ref())?.words());
                all.extend(["--data".to_owned(), path(&self.data)?]);
                all.extend(self.generates.then(|| "--generate".to_owned()));
                all
            }
            Tool::CheckPipeline => vec!["pipeline".to_owned(), path(&self.pipeline)?, "--check".to_owned()],
            Tool::Pipeline => {
                let mut all = vec!["pipeline".to_owned(), path(&self.pipeline)?];
                all.extend(self.restarts.then(|| "--restart".to_owned()));
                all
            }
            Tool::Hardware => words(&["hardware"]),
            Tool::Selftest => words(&["selftest"]),
            Tool::Receipt => vec!["verify".to_owned(), "--receipt".to_owned(), path(&self.receipt)?],
            Tool::Speed => {
                let target = self.measured.clone().unwrap_or_else(Target::starter);
                let mut all = words(&["bench", "generate", "--repeats", "3"]);
                all.extend(match target {
                    Target::Run(_) => Target::Model(target.base(data)?, None).words(),
                    model @ Target::Model(..) => model.words(),
                });
                all
            }
            Tool::TrainSpeed => {
                let base = self.measured.clone().unwrap_or_else(Target::starter).base(data)?;
                let Training { method, length, batch } = &self.training;
                let mut all = words(&["bench", "train", "--steps", "3", "--method", method]);
                all.extend(Target::Model(base, None).words());
                all.extend([format!("--sequence-length={}", path(length)?), format!("--batch={}", path(batch)?)]);
                all
            }
            Tool::Reference => {
                let (model, reference) = (path(&self.reference_model)?, path(&self.reference)?);
                ["verify".to_owned(), "--model".to_owned(), model, "--reference".to_owned(), reference].to_vec()
            }
        })
    }

    /// A process said something.
    pub fn hear(&mut self, id: u64, said: Said) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { return };
        match said {
            Said::Line(value) => {
                job.lines.push(value);
                if job.lines.len() > LINES {
                    job.lines.remove(LINES / 2);
                }
            }
            Said::Remark(remark) => job.remark = Some(remark),
            Said::Ended(ending) => job.ending = Some(ending),
        }
    }
}

/// What is offered first: the newest run that is over.
pub fn newest(data: &Data) -> Option<Target> {
    let runs = super::widgets::chooser::Runs::Over;
    let run = data.runs.iter().flatten().find(|run| runs.has(run))?;
    Some(Target::Run(run.id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;

    #[test]
    fn every_tool_is_a_command_that_can_be_typed_s1_27() {
        let data = Data::default();
        let mut page = Tools { evaluated: Some(Target::starter()), ..Tools::default() };
        assert!(page.words(Tool::Evaluate, &data).is_none() && page.words(Tool::Pipeline, &data).is_none());
        let typed =
            [&mut page.data, &mut page.pipeline, &mut page.receipt, &mut page.reference, &mut page.reference_model];
        for typed in typed {
            "  a file.json ".clone_into(typed);
        }
        (page.generates, page.restarts) = (true, true);
        let all = [
            Tool::Evaluate,
            Tool::CheckPipeline,
            Tool::Pipeline,
            Tool::Hardware,
            Tool::Selftest,
            Tool::Receipt,
            Tool::Speed,
            Tool::TrainSpeed,
            Tool::Reference,
        ];
        for tool in all {
            let words = page.words(tool, &data).expect("nothing is missing");
            let line = std::iter::once("peft-studio".to_owned()).chain(words).chain(["--json".to_owned()]);
            let parsed = args::command().try_get_matches_from(line);
            assert!(parsed.is_ok(), "{tool:?}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
        }
    }

    #[test]
    fn a_long_job_keeps_its_beginning_and_its_end() {
        let mut page = Tools::default();
        page.jobs.push(Job { id: 1, tool: Tool::Pipeline, lines: Vec::new(), remark: None, ending: None });
        for i in 0..LINES + 50 {
            page.hear(1, Said::Line(i.into()));
        }
        let job = page.job(Tool::Pipeline).expect("there");
        assert_eq!((job.lines.len(), &job.lines[0], job.result()), (LINES, &0.into(), Some(&(LINES + 49).into())));
        assert!(page.is_busy(Tool::Pipeline) && !page.is_busy(Tool::Speed));
    }
}
