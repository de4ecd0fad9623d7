//! A run as its events tell it: the same whether it is followed live or read from `events.jsonl`.

use crate::event::{Evaluation, Finished, Probe, RunEvent, Started};

/// One step, as far as views need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPoint {
    /// From 1.
    pub step: u64,
    /// Training loss.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Rate of the step.
    pub learning_rate: f64,
    /// Passes over the data after it.
    pub epoch: f64,
}

/// Something strange, as it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Strange {
    /// When it was noticed.
    pub step: u64,
    /// Which kind.
    pub kind: String,
    /// Where the run went back to.
    pub rewound_to: Option<u64>,
    /// Rows that it is about.
    pub rows: usize,
}

/// The fold of a run's events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunView {
    /// How it began.
    pub started: Option<Started>,
    /// Its steps, each once, in order.
    pub steps: Vec<StepPoint>,
    /// Its evaluations, each once, in order; 0 is the base.
    pub evaluations: Vec<Evaluation>,
    /// Its probes.
    pub probes: Vec<Probe>,
    /// What was strange.
    pub strange: Vec<Strange>,
    /// How it ended, once it has.
    pub finished: Option<Finished>,
}

impl RunView {
    /// The view of a whole story.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a RunEvent>) -> Self {
        let mut view = Self::default();
        events.into_iter().for_each(|event| view.fold(event));
        view
    }

    /// One more event has happened.
    pub fn fold(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Started(started) => *self = Self { started: Some(started.clone()), ..Self::default() },
            RunEvent::Step(s) => {
                // Steps come in order, so what is told again is at the end.
                while self.steps.last().is_some_and(|last| last.step >= s.step) {
                    self.steps.pop();
                }
                self.steps.push(StepPoint {
                    step: s.step,
                    loss: s.loss,
                    gradient_norm: s.gradient_norm,
                    learning_rate: s.learning_rate,
                    epoch: s.epoch,
                });
            }
            RunEvent::Evaluation(evaluation) => {
                self.evaluations.retain(|other| other.step != evaluation.step);
                self.evaluations.push(evaluation.clone());
            }
            RunEvent::Probe(probe) => self.probes.push(probe.clone()),
            RunEvent::Anomaly { step, kind, rewound_to, rows, .. } => {
                self.strange.push(Strange {
                    step: *step,
                    kind: kind.clone(),
                    rewound_to: *rewound_to,
                    rows: rows.len(),
                });
            }
            RunEvent::Resumed { step } => {
                self.steps.retain(|s| s.step <= *step);
                self.evaluations.retain(|e| e.step <= *step);
                self.probes.retain(|p| p.step <= *step);
                self.strange.retain(|s| s.rewound_to.unwrap_or(s.step) <= *step);
            }
            RunEvent::Finished(finished) => self.finished = Some(finished.clone()),
            _ => {}
        }
    }

    /// The evaluation of the untouched base.
    pub fn base(&self) -> Option<&Evaluation> {
        self.evaluations.iter().find(|e| e.step == 0)
    }

    /// The evaluations of what was trained.
    pub fn trained(&self) -> impl DoubleEndedIterator<Item = &Evaluation> {
        self.evaluations.iter().filter(|e| e.step > 0)
    }

    /// How often a kind of trouble was found.
    pub fn count(&self, kind: &str) -> usize {
        self.strange.iter().filter(|s| s.kind == kind).count()
    }
}
