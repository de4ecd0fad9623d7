//! The gradient explodes (S4.6.4).
//!
//! ## What it does
//! Compares the norm of the gradient, before clipping, with the median of the last fifty.
//!
//! ## Why these thresholds
//! Norms vary by a factor of two or three from batch to batch and fall as the loss falls, so that an ordinary hard
//! batch late in a run can be ten times the recent median: healthy runs of the campaign reach 15 times. An explosion
//! is therefore ten times the recent median and also four times the level at the start, and twice within three steps.
//! Without clipping a single step does the damage, so one at thirty times the median is enough; with it a single step
//! is bounded by the clipping (Pascanu et al. 2013), whose norm of 1 is the customary one.

use super::rolling::{Window, median};
use super::{Detector, Finding, FindingKind, RunFacts};
use crate::event::RunEvent;
use serde::{Deserialize, Serialize};

/// Watches the norm of the gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explosion {
    norms: Window,
    /// Norms at the start.
    first: Vec<f64>,
    /// The last steps at which the norm was wild.
    wild: Vec<u64>,
    quiet_until: u64,
}

const FIRST: usize = 5;

impl Default for Explosion {
    fn default() -> Self {
        Self { norms: Window::new(50), first: Vec::new(), wild: Vec::new(), quiet_until: 0 }
    }
}

impl Detector for Explosion {
    fn observe(&mut self, event: &RunEvent, facts: &RunFacts) -> Option<Finding> {
        let RunEvent::Step(step) = event else { return None };
        let norm = step.gradient_norm;
        if !norm.is_finite() {
            return None;
        }
        let recent = self.norms.last(50);
        let usual = median(&recent);
        let level = median(&self.first);
        let is_wild = recent.len() >= 3 && norm > 10.0 * usual && norm > 4.0 * level;
        if self.first.len() < FIRST {
            self.first.push(norm);
        }
        if !is_wild {
            // What is wild does not make the next wild norm look ordinary.
            self.norms.push(norm);
            return None;
        }
        self.wild.retain(|&at| at + 3 > step.step);
        self.wild.push(step.step);
        let is_unbounded = facts.max_gradient_norm <= 0.0 && norm > 30.0 * usual;
        if step.step <= self.quiet_until || (self.wild.len() < 2 && !is_unbounded) {
            return None;
        }
        let began = self.wild[0].saturating_sub(1);
        self.wild.clear();
        self.quiet_until = step.step + (facts.total_steps / 10).max(20);
        let clipping = if facts.max_gradient_norm > 0.0 {
            format!("clipped to {:.2}", facts.max_gradient_norm)
        } else {
            "and nothing clips it".to_owned()
        };
        let message = format!(
            "The gradient exploded: its norm is {norm:.1} at step {}, {:.0} times the usual {usual:.2}, {clipping}",
            step.step,
            norm / usual.max(f64::MIN_POSITIVE)
        );
        let finding = Finding::new(FindingKind::GradientExplosion, "PS-TRAIN-005", step.step, message)
            .since(began)
            .with("gradient_norm", norm)
            .with("usual_gradient_norm", usual)
            .with("max_gradient_norm", facts.max_gradient_norm)
            .with("learning_rate", step.learning_rate)
            .action(
                format!("Go back to step {began} and clip the gradient"),
                Some(format!("peft-studio resume RUN --rewind-to {began} --set training.max_gradient_norm=1")),
            )
            .action("Look at the rows of that step", Some("peft-studio runs rows RUN".to_owned()));
        Some(finding)
    }
}
