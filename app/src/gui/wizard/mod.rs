//! The wizard: from what somebody wants to make to a run, in five steps.

pub mod data;
mod examples;
mod goal;
mod model;
mod review;
mod settings;
pub mod view;

use super::problem::Problem;
use crate::jobs::plan::{Answer, Suited};
use data::Inspected;
use peft_plan::RunConfig;
use peft_plan::defaults::Reasoned;
use peft_plan::estimate::Rates;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// A step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub enum Step {
    /// What it is for.
    #[default]
    Goal,
    /// Which model.
    Model,
    /// Which examples.
    Data,
    /// How it learns.
    Settings,
    /// What it takes.
    Review,
}

/// The steps with their names.
pub const STEPS: [(Step, &str); 5] = [
    (Step::Goal, "Goal"),
    (Step::Model, "Model"),
    (Step::Data, "Examples"),
    (Step::Settings, "Settings"),
    (Step::Review, "Review"),
];

/// What is known of the profiles on this machine.
#[derive(Debug)]
pub struct SuitedList {
    /// Each with its time and memory.
    pub profiles: Vec<Suited>,
    /// What was counted with.
    pub counted_with: String,
}

/// What the wizard asks threads for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Time and memory of every profile.
    Profiles,
    /// What the run would be.
    Plan(Box<RunConfig>, Rates),
}

/// The wizard.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the page")]
pub struct Wizard {
    /// Where it is.
    pub step: Step,
    /// What was chosen so far; what was not is left to the planner.
    pub config: RunConfig,
    /// Profiles on this machine.
    pub suited: Option<Result<SuitedList, Problem>>,
    asked_profiles: bool,
    /// Columns that were mapped by hand.
    pub columns: BTreeMap<String, String>,
    /// The columns there are, where it could not be told which is which.
    named: Vec<String>,
    /// The files that are looked at.
    pub paths: Vec<PathBuf>,
    /// What was looked at last, whatever came of it.
    pub tried: Vec<PathBuf>,
    /// What was found in them.
    pub found: Option<Result<Box<Inspected>, Problem>>,
    /// They are being looked at.
    pub is_inspecting: bool,
    /// Number of the latest look: an earlier one that takes longer does not count.
    looks: u64,
    /// What the run would be.
    pub answer: Option<Result<Box<Answer>, Problem>>,
    /// Values and reasons of the last plan that can be.
    known: Vec<Reasoned>,
    /// Of what that is the answer.
    planned_for: Option<(RunConfig, Rates)>,
    /// It is being worked out.
    pub is_planning: bool,
    changed: Option<(Instant, RunConfig, Rates)>,
    /// What electricity costs.
    pub rates: Rates,
    /// A path of examples that is being typed.
    pub path: String,
    /// The name or folder of a model that is being typed.
    pub model: String,
    /// Text that is being pasted.
    pub pasted: String,
    shows_paste: bool,
    /// Words of settings.
    pub words: String,
    shows_advanced: bool,
    edits: BTreeMap<String, String>,
    /// Why a value that was typed is not used.
    pub refused: Option<Problem>,
    /// The name for a preset.
    pub preset: String,
}

/// A change settles for so long before it is planned anew.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(60);

impl Wizard {
    /// Begin with settings that exist.
    pub fn of(config: RunConfig) -> Self {
        let paths: Vec<PathBuf> = config.dataset_paths().iter().map(PathBuf::from).collect();
        let columns = config.dataset.columns.clone().unwrap_or_default();
        Self { step: Step::Model, tried: paths.clone(), paths, columns, config, ..Self::default() }
    }

    /// Take a model.
    pub fn choose_model(&mut self, id: &str) {
        self.config.model.id = Some(id.to_owned());
        self.config.model.revision = None;
        if self.step == Step::Goal {
            self.step = Step::Model;
        }
    }

    /// The model that was chosen.
    pub fn model_id(&self) -> Option<String> {
        self.config.model.id.clone()
    }

    /// A look at these files begins; its number. What was said of the columns of others is not for them.
    pub fn look_at(&mut self, paths: &[PathBuf]) -> u64 {
        if self.tried != paths {
            self.columns.clear();
            self.named.clear();
            self.tried = paths.to_vec();
        }
        self.look()
    }

    /// A look at files begins; its number.
    pub fn look(&mut self) -> u64 {
        self.is_inspecting = true;
        self.looks += 1;
        self.looks
    }

    /// What was found in files.
    pub fn inspected(&mut self, look: u64, result: Result<Box<Inspected>, Problem>) {
        if look != self.looks {
            return;
        }
        self.is_inspecting = false;
        match &result {
            Ok(found) => {
                self.paths.clone_from(&found.paths);
                self.tried.clone_from(&found.paths);
                self.named.clear();
                self.use_paths();
            }
            Err(problem) => {
                let named = data::columns_of(problem);
                if !named.is_empty() {
                    self.named = named;
                }
            }
        }
        self.found = Some(result);
    }

    fn use_paths(&mut self) {
        let mut paths = self.paths.iter().map(|path| path.display().to_string());
        self.config.dataset.path = paths.next();
        let source = |path| peft_plan::config::SourceRef { path: Some(path), ..Default::default() };
        self.config.dataset.sources = paths.map(source).collect();
        self.config.dataset.columns = (!self.columns.is_empty()).then(|| self.columns.clone());
    }

    /// A profile was chosen, or none.
    fn choose_profile(&mut self, id: &str) {
        self.config.use_case = Some(id.to_owned());
        self.step = Step::Model;
    }

    /// Whether a step has what it needs.
    pub fn is_done(&self, step: Step) -> bool {
        match step {
            Step::Goal => self.config.use_case.is_some(),
            Step::Model => self.config.model.id.is_some(),
            Step::Data => self.config.dataset.path.is_some() && !matches!(self.found, Some(Err(_))),
            Step::Settings | Step::Review => self.is_done(Step::Model) && self.is_done(Step::Data),
        }
    }

    /// Whether a step gets its tick: it has what it needs, or it was left behind on purpose.
    fn has_tick(&self, step: Step) -> bool {
        match step {
            Step::Goal => self.config.use_case.is_some() || self.step > Step::Goal,
            Step::Settings => self.step == Step::Review && self.to_start().is_some(),
            Step::Review => false,
            Step::Model | Step::Data => self.is_done(step),
        }
    }

    /// What is to be asked of threads now.
    pub fn wishes(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        if self.step == Step::Goal && !std::mem::replace(&mut self.asked_profiles, true) {
            wishes.push(Wish::Profiles);
        }
        if self.step < Step::Settings || !self.is_done(Step::Settings) || self.is_planning {
            return wishes;
        }
        let is_known = self.planned_for.as_ref().is_some_and(|(c, r)| *c == self.config && *r == self.rates);
        if is_known {
            self.changed = None;
            return wishes;
        }
        match &self.changed {
            // Typing is not interrupted: what settled is planned.
            Some((since, config, rates)) if *config == self.config && *rates == self.rates => {
                if since.elapsed() >= SETTLE {
                    self.is_planning = true;
                    self.planned_for = Some((self.config.clone(), self.rates.clone()));
                    wishes.push(Wish::Plan(Box::new(self.config.clone()), self.rates.clone()));
                }
            }
            _ => self.changed = Some((Instant::now(), self.config.clone(), self.rates.clone())),
        }
        wishes
    }

    /// Something settles, and wants to be looked at again soon.
    pub fn is_settling(&self) -> bool {
        self.changed.is_some()
    }

    /// The plan is here.
    pub fn planned(&mut self, answer: Result<Box<Answer>, Problem>) {
        self.is_planning = false;
        if let Ok(answer) = &answer {
            self.known.clone_from(&answer.planned.values);
        }
        self.answer = Some(answer);
    }

    /// The configuration that will be started: as planned, so that what was shown is what is trained.
    pub fn to_start(&self) -> Option<RunConfig> {
        let is_current = self.planned_for.as_ref().is_some_and(|(c, r)| *c == self.config && *r == self.rates);
        match &self.answer {
            Some(Ok(answer)) if is_current && !self.is_planning => Some(answer.planned.config.clone()),
            _ => None,
        }
    }
}
