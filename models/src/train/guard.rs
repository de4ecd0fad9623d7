//! The guard of a run: it shows the detectors what happens, and does about it what the plan says (S4.6, B7).
//!
//! Everything that it decides by is in [`GuardState`], which is saved with every checkpoint, so that a run that is killed
//! and resumed decides what an undisturbed one does. It changes a run in four ways: a factor on the learning rate, a
//! bound for the gradient, rows that are left out, micro-batches that are cut smaller.

use super::{RunState, Tokens};
use peft_plan::findings::{
    ExampleView, Finding, FindingKind, MemoryReading, RowLoss, RunFacts, Watch, examine, mismatched,
};
use peft_plan::order::{SCORE_TOKENS, StepBatches};
use peft_plan::{Reaction, RunEvent, TrainingPlan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// So often a run goes back by itself; then a person must look at it.
pub const MOST_REWINDS: u32 = 3;

/// What the guard saw and did so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardState {
    /// How often the run went back.
    pub rewinds: u32,
    /// Multiplies the learning rate from here on.
    pub rate_factor: f64,
    /// Clip to this norm instead of the plan's.
    pub clip: Option<f64>,
    /// Rows that are left out, besides those of the plan.
    pub excluded: BTreeSet<u32>,
    /// Micro-batches are cut into so many parts.
    pub parts: usize,
    /// Held-out rows are scored so many times fewer together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub score_parts: usize,
    /// Sets of activations, where there was no room for those of the plan.
    #[serde(default)]
    pub sets: Option<usize>,
    /// Layers whose input is in the computer's memory, where that is not what the plan says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offloaded: Option<usize>,
    /// No weights are held decoded, whatever the plan says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decodes_all: bool,
    /// Losses of the probe's rows before the first step; `None` where that was no number.
    pub probe: Vec<Option<f64>>,
    /// The detectors; `None` before the first event.
    pub watch: Option<Watch>,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_one(parts: &usize) -> bool {
    *parts == 1
}

impl GuardState {
    /// Tokens of held-out rows that are scored together.
    pub(super) fn score_tokens(&self) -> usize {
        (SCORE_TOKENS / self.score_parts.max(1)).max(1)
    }

    /// Whether micro-batches can be cut smaller.
    pub(super) fn can_split(&self, batches: &StepBatches) -> bool {
        batches.iter().any(|micro| micro.len() > self.parts)
    }
}

impl Default for GuardState {
    fn default() -> Self {
        Self {
            rewinds: 0,
            rate_factor: 1.0,
            clip: None,
            excluded: BTreeSet::new(),
            parts: 1,
            score_parts: 1,
            sets: None,
            offloaded: None,
            decodes_all: false,
            probe: Vec::new(),
            watch: None,
        }
    }
}

/// What the guard needs from outside.
#[derive(Clone, Copy, Default)]
pub struct GuardJob<'a> {
    /// Where a row is, for people: `row 12 (line 14 of a.jsonl)`.
    pub place: Option<&'a dyn Fn(u32) -> String>,
    /// The memory of this moment.
    pub memory: Option<fn() -> MemoryReading>,
    /// Go on from the newest checkpoint that is not after this step.
    pub rewind_to: Option<u64>,
}

impl std::fmt::Debug for GuardJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardJob").field("rewind_to", &self.rewind_to).finish_non_exhaustive()
    }
}

/// What is to be done about a finding.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing but saying so; the text says why.
    GoOn(&'static str),
    /// Save and halt.
    Pause,
    /// Go back, with this changed.
    Rewind(Change),
    /// Cut micro-batches into twice as many parts.
    Split,
}

/// What is different after going back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Change {
    /// Multiplies the learning rate.
    pub(super) rate: Option<f64>,
    /// Bound for the gradient.
    pub(super) clip: Option<f64>,
}

/// Watches one run in this process.
pub(super) struct Guard<'a> {
    plan: &'a TrainingPlan,
    job: GuardJob<'a>,
    vocabulary: usize,
}

impl<'a> Guard<'a> {
    pub(super) fn new(plan: &'a TrainingPlan, job: GuardJob<'a>, vocabulary: usize) -> Self {
        Self { plan, job, vocabulary }
    }

    /// What is known of the run under what the guard has changed.
    pub(super) fn facts(&self, state: &GuardState) -> RunFacts {
        let mut facts = RunFacts::of_plan(self.plan, self.vocabulary);
        facts.learning_rate *= state.rate_factor;
        facts.max_gradient_norm = state.clip.unwrap_or(facts.max_gradient_norm);
        facts
    }

    /// The plan that steps are made by.
    pub(super) fn acting_plan(&self, state: &GuardState) -> TrainingPlan {
        TrainingPlan { max_gradient_norm: state.clip.unwrap_or(self.plan.max_gradient_norm), ..self.plan.clone() }
    }

    /// Where a row is.
    pub(super) fn place(&self, row: u32) -> String {
        self.job.place.map_or_else(|| format!("row {}", row + 1), |place| place(row))
    }

    /// Whether `row` is trained on.
    pub(super) fn is_used(&self, state: &GuardState, row: u32) -> bool {
        !state.excluded.contains(&row) && self.plan.guards.exclude_rows.binary_search(&row).is_err()
    }

    /// The micro-batches of a step without the rows that are left out, cut as the memory allows. A step that has no
    /// row left learns from the next one that is used. The same examples are in the same steps, whatever is cut.
    pub(super) fn batches(&self, state: &GuardState, batches: &StepBatches, examples: &[Tokens]) -> StepBatches {
        let used = |index: &usize| self.is_used(state, examples[*index].row);
        let mut kept: StepBatches = batches
            .iter()
            .map(|micro| micro.iter().copied().filter(|i| used(i)).collect::<Vec<_>>())
            .filter(|micro| !micro.is_empty())
            .collect();
        if kept.is_empty() {
            let first = batches.iter().flatten().next().copied().unwrap_or(0);
            let next = (first..examples.len()).chain(0..first).find(|i| used(i));
            kept.extend(next.map(|index| vec![index]));
        }
        if state.parts > 1 {
            let cut = |micro: Vec<usize>| -> Vec<Vec<usize>> {
                micro.chunks(micro.len().div_ceil(state.parts).max(1)).map(<[usize]>::to_vec).collect()
            };
            kept = kept.into_iter().flat_map(cut).collect();
        }
        kept
    }

    /// An event has happened: what is found.
    pub(super) fn observe(&self, state: &mut GuardState, event: &RunEvent) -> Vec<Finding> {
        let facts = self.facts(state);
        state.watch.get_or_insert_with(|| Watch::new(&facts)).observe(event, &facts)
    }

    /// A rate that was named before the first step.
    pub(super) fn expect_rate(&self, state: &mut GuardState, rate: Option<f64>) {
        let facts = self.facts(state);
        if let Some(rate) = rate {
            state.watch.get_or_insert_with(|| Watch::new(&facts)).expect_rate(rate);
        }
    }

    /// What the rows of a step cost.
    pub(super) fn rows(&self, state: &mut GuardState, step: u64, rows: &[RowLoss]) -> Option<Finding> {
        let facts = self.facts(state);
        state.watch.get_or_insert_with(|| Watch::new(&facts)).rows(step, rows, &facts, &|row| self.place(row))
    }

    /// The memory after a step: the card's, where one computes.
    pub(super) fn memory(&self, state: &mut GuardState, step: u64, of_card: Option<MemoryReading>) -> Option<Finding> {
        let reading = match of_card {
            Some(reading) => reading,
            None => (self.job.memory?)(),
        };
        let facts = self.facts(state);
        let watch = state.watch.get_or_insert_with(|| Watch::new(&facts));
        watch.memory(step, reading, self.plan.guards.memory_limit_fraction)
    }

    /// What the rows themselves tell, and what is to be asked of the model before the last of it is said.
    pub(super) fn examine(&self, train: &[Tokens], validation: &[Tokens]) -> (Vec<Finding>, Option<Doubt>) {
        let [train_views, validation_views] = [train, validation].map(|rows| {
            rows.iter().map(|t| ExampleView { ids: &t.ids, trained: &t.trained, row: t.row }).collect::<Vec<_>>()
        });
        let examined = examine(&train_views, &validation_views, &|row| self.place(row));
        let doubt = examined.unrelated.map(|finding| Doubt::new(finding, train, &train_views));
        (examined.findings, doubt)
    }

    /// What the plan says about `finding`.
    pub(super) fn verdict(&self, state: &RunState, finding: &Finding) -> Verdict {
        let guard = &state.guard;
        let guards = &self.plan.guards;
        let is_spent = guard.rewinds >= MOST_REWINDS;
        let lower = finding.rate.map_or(0.5, |rate| (rate / self.facts(guard).learning_rate).clamp(0.01, 0.5));
        match finding.kind {
            FindingKind::Divergence => match guards.on_divergence {
                Reaction::Continue => Verdict::GoOn("went on, as guards.on_divergence says"),
                Reaction::Rewind if !is_spent => Verdict::Rewind(Change { rate: Some(lower), clip: None }),
                Reaction::Pause | Reaction::Rewind => Verdict::Pause,
            },
            FindingKind::GradientExplosion => match guards.on_gradient_explosion {
                Reaction::Continue => Verdict::GoOn("went on, as guards.on_gradient_explosion says"),
                Reaction::Rewind if !is_spent => {
                    let now = self.facts(guard).max_gradient_norm;
                    // Clipping comes first. Where it was on already, it was not enough: then smaller steps, too.
                    let clip = if now > 0.0 { now / 2.0 } else { 1.0 };
                    Verdict::Rewind(Change { rate: (now > 0.0).then_some(0.5), clip: Some(clip) })
                }
                Reaction::Pause | Reaction::Rewind => Verdict::Pause,
            },
            FindingKind::Nan if is_spent => Verdict::Pause,
            FindingKind::Nan => Verdict::Rewind(Change { rate: Some(0.5), clip: None }),
            FindingKind::MemoryPressure => Verdict::Split,
            FindingKind::Overfitting if self.plan.early_stopping_patience.is_some() => {
                Verdict::GoOn("went on; early stopping will end the run and keep the best")
            }
            FindingKind::Overfitting => Verdict::GoOn("went on; the best adapter so far is kept beside the last"),
            FindingKind::Device => Verdict::GoOn("went on with what is left; the last bits may be others from here on"),
            _ => Verdict::GoOn("went on"),
        }
    }
}

/// Answers that do not seem to go with their questions, before the model was asked.
pub(super) struct Doubt {
    finding: Finding,
    /// Rows as they are.
    pub(super) own: Vec<Tokens>,
    /// The same questions with answers of other rows.
    pub(super) other: Vec<Tokens>,
}

/// Rows that the model is asked about.
const ASKED: usize = 48;

impl Doubt {
    fn new(finding: Finding, train: &[Tokens], views: &[ExampleView]) -> Self {
        let mut doubt = Self { finding, own: Vec::new(), other: Vec::new() };
        for (ask, answer) in mismatched(views, ASKED) {
            let (a, b) = (views[ask].answer_at(), views[answer].answer_at());
            let (one, two) = (&train[ask], &train[answer]);
            doubt.own.push(one.clone());
            doubt.other.push(Tokens {
                ids: [&one.ids[..a], &two.ids[b..]].concat(),
                trained: [&one.trained[..a], &two.trained[b..]].concat(),
                row: one.row,
                pair: None,
            });
        }
        doubt
    }

    /// The finding, unless the model finds the rows' own answers clearly likelier: by three standard errors. How likely
    /// an answer is by itself cancels out, because each is once with its own question and once with another.
    pub(super) fn settle(&self, own: &[f64], other: &[f64]) -> Option<Finding> {
        let gains: Vec<f64> = own.iter().zip(other).map(|(own, other)| other - own).filter(|d| d.is_finite()).collect();
        let count = gains.len() as f64;
        if gains.len() < 8 {
            return None;
        }
        let mean = gains.iter().sum::<f64>() / count;
        let error = (gains.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / (count - 1.0) / count).sqrt();
        let clarity = mean / error.max(1e-9);
        (clarity < 3.0).then(|| self.finding.clone().with("model_preference", clarity))
    }
}
