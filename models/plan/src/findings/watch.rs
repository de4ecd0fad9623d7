//! All detectors of a run together: fed with everything, saved with every checkpoint.

use super::{
    Detector, Divergence, Explosion, Finding, FindingKind, MemoryPressure, MemoryReading, Overfitting, Plateau,
    RowLoss, RowWatch, Start,
};
use crate::event::{RunEvent, StepMetrics};
use crate::resolve::TrainingPlan;
use serde::{Deserialize, Serialize};

/// What is known of a run before its first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunFacts {
    /// Steps it will take.
    pub total_steps: u64,
    /// Steps of the rise of the rate.
    pub warmup_steps: u64,
    /// Peak of the rate.
    pub learning_rate: f64,
    /// Norm that gradients are clipped to; 0: never.
    pub max_gradient_norm: f64,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
}

impl RunFacts {
    /// Those of a plan.
    pub fn of_plan(plan: &TrainingPlan, vocabulary: usize) -> Self {
        Self {
            total_steps: plan.total_steps,
            warmup_steps: plan.warmup_steps,
            learning_rate: plan.learning_rate,
            max_gradient_norm: plan.max_gradient_norm,
            vocabulary,
        }
    }
}

/// Every detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    divergence: Divergence,
    explosion: Explosion,
    overfitting: Overfitting,
    plateau: Plateau,
    start: Start,
    memory: MemoryPressure,
    rows: RowWatch,
}

impl Watch {
    /// At the beginning of a run.
    pub fn new(facts: &RunFacts) -> Self {
        Self {
            divergence: Divergence::new(facts),
            explosion: Explosion::default(),
            overfitting: Overfitting::default(),
            plateau: Plateau::default(),
            start: Start::default(),
            memory: MemoryPressure::default(),
            rows: RowWatch::default(),
        }
    }

    /// One event has happened; what is found, the gravest first. The rows of a step come before the step.
    ///
    /// A gradient that explodes while it is clipped and the loss climbs is the loss's matter: clipping more would not
    /// help, a lower rate does.
    pub fn observe(&mut self, event: &RunEvent, facts: &RunFacts) -> Vec<Finding> {
        let Self { divergence, explosion, overfitting, plateau, start, memory: _, rows } = self;
        // A few wild rows raise the loss of their steps; that is their matter and no divergence.
        let climbing = match event {
            RunEvent::Step(step) => {
                let loss = rows.calm_loss(step.step).unwrap_or(step.loss);
                divergence.observe(&RunEvent::Step(StepMetrics { loss, ..step.clone() }), facts)
            }
            other => divergence.observe(other, facts),
        };
        let exploded = explosion
            .observe(event, facts)
            .filter(|_| facts.max_gradient_norm <= 0.0 || (climbing.is_none() && !divergence.is_rising(facts)));
        let detectors: [&mut dyn Detector; 3] = [start, overfitting, plateau];
        let others = detectors.into_iter().filter_map(|detector| detector.observe(event, facts));
        let mut found: Vec<Finding> = exploded.into_iter().chain(climbing).chain(others).collect();
        // One trouble has one name: an explosion that nothing clips is told of, not what it does to the loss.
        if found.iter().any(|finding| finding.kind == FindingKind::GradientExplosion) {
            found.retain(|finding| finding.kind != FindingKind::Divergence);
        }
        found
    }

    /// A learning rate that would suit the weights, found before the first step.
    pub fn expect_rate(&mut self, rate: f64) {
        self.divergence.expect_rate(rate);
    }

    /// What the rows of a step cost.
    pub fn rows(
        &mut self,
        step: u64,
        rows: &[RowLoss],
        facts: &RunFacts,
        place: &dyn Fn(u32) -> String,
    ) -> Option<Finding> {
        self.rows.observe(step, rows, facts, place)
    }

    /// The memory at a step.
    pub fn memory(&mut self, step: u64, reading: MemoryReading, fraction: f64) -> Option<Finding> {
        self.memory.observe(step, reading, fraction)
    }
}
