//! What can go wrong with a run, found while it goes: pure detectors over what the run says (S4.6).
//!
//! A [`Detector`] is fed every [`RunEvent`] and answers with a [`Finding`]: a plain sentence, the numbers behind it,
//! and what can be done. Nothing here acts; the trainer reads the findings and does what the run's settings say.
//! Detectors are plain data, saved with every checkpoint, so that a resumed run finds what an undisturbed one does.
//! Three more look at the rows themselves before the first step ([`examine`]), and one at the loss of single rows.
//!
//! Thresholds are justified where they stand: by literature, or by the campaign of `tests/guard/campaign.rs`.

mod data;
mod divergence;
mod explosion;
mod memory;
mod non_finite;
mod outliers;
mod overfitting;
mod plateau;
mod rolling;
mod rows;
mod start;
mod suspects;
mod watch;

pub use data::{Examined, ExampleView, examine, mismatched};
pub use divergence::Divergence;
pub use explosion::Explosion;
pub use memory::{MemoryPressure, MemoryReading};
pub use non_finite::{Broken, non_finite};
pub use outliers::RowWatch;
pub use overfitting::Overfitting;
pub use plateau::Plateau;
pub use rows::RowLoss;
pub use start::{Start, steep_rate};
pub use suspects::{RowScore, RowVisit, rank_rows};
pub use watch::{RunFacts, Watch};

use crate::event::RunEvent;
use crate::fault::{Action, Fault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The loss is climbing.
    Divergence,
    /// The gradient is far larger than it was.
    GradientExplosion,
    /// Numbers are no longer numbers.
    Nan,
    /// Held-out rows get worse while training rows get better.
    Overfitting,
    /// Nothing is learnt.
    Plateau,
    /// The memory is nearly used up.
    MemoryPressure,
    /// Single rows cost far more than all others.
    Rows,
    /// The run begins worse than guessing.
    Start,
    /// The learning rate is out of proportion to the weights.
    Rate,
    /// The answers do not belong to their questions, or are all the same.
    Answers,
    /// Answers are masked: what should be learnt is not.
    Masking,
    /// Held-out rows are training rows.
    Leak,
    /// The device computes otherwise than it did.
    Device,
}

impl FindingKind {
    /// As events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Divergence => "divergence",
            Self::GradientExplosion => "gradient_explosion",
            Self::Nan => "nan",
            Self::Overfitting => "overfitting",
            Self::Plateau => "plateau",
            Self::MemoryPressure => "memory_pressure",
            Self::Rows => "rows",
            Self::Start => "start",
            Self::Rate => "rate",
            Self::Answers => "answers",
            Self::Masking => "masking",
            Self::Leak => "leak",
            Self::Device => "device",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What kind of trouble.
    pub kind: FindingKind,
    /// At which step it was noticed; 0 is before the first.
    pub step: u64,
    /// After which step it began: the last one that was still good.
    pub began: u64,
    /// Its code in the catalogue.
    pub code: &'static str,
    /// One plain sentence, or two.
    pub message: String,
    /// The numbers behind it.
    pub evidence: BTreeMap<String, f64>,
    /// Rows of the dataset that it is about.
    pub rows: Vec<u32>,
    /// The tensor that it is about.
    pub tensor: Option<String>,
    /// A learning rate to try instead.
    pub rate: Option<f64>,
    /// What can be done, best first.
    pub actions: Vec<Action>,
}

impl Finding {
    /// A finding with the catalogue's actions behind its own, which are added with [`Finding::action`].
    pub fn new(kind: FindingKind, code: &'static str, step: u64, message: impl Into<String>) -> Self {
        Self {
            kind,
            step,
            began: step.saturating_sub(1),
            code,
            message: message.into(),
            evidence: BTreeMap::new(),
            rows: Vec::new(),
            tensor: None,
            rate: None,
            actions: Vec::new(),
        }
    }

    /// Add a number.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        if value.is_finite() {
            self.evidence.insert(name.to_owned(), value);
        }
        self
    }

    /// Say after which step it began.
    pub fn since(mut self, step: u64) -> Self {
        self.began = step;
        self
    }

    /// Add something to do.
    pub fn action(mut self, label: impl Into<String>, command: Option<String>) -> Self {
        self.actions.push(Action { label: label.into(), command });
        self
    }

    /// As the fault that ends a run which is not to go on like this.
    pub fn fault(&self) -> Fault {
        let mut fault = Fault::new(self.code, self.message.clone());
        for Action { label, command } in &self.actions {
            fault = fault.action(label.clone(), command.clone());
        }
        fault
    }

    /// As the event that a run tells, with what was done about it.
    pub fn event(&self, taken: impl Into<String>) -> RunEvent {
        RunEvent::Anomaly {
            step: self.step,
            kind: self.kind.as_str().to_owned(),
            message: self.message.clone(),
            actions: self.fault().shown_actions(),
            taken: taken.into(),
            code: Some(self.code.to_owned()),
            evidence: self.evidence.clone(),
            rows: self.rows.clone(),
            tensor: self.tensor.clone(),
            rewound_to: None,
        }
    }
}

/// Watches a run.
pub trait Detector {
    /// One event has happened.
    fn observe(&mut self, event: &RunEvent, facts: &RunFacts) -> Option<Finding>;
}

/// A rate or a loss as a person writes it: two significant digits.
pub fn two_digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    format!("{value:.1e}").parse().unwrap_or(value)
}
