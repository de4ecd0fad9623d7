//! Nothing is learnt.
//!
//! ## What it does
//! Looks three times: at gradients that are exactly nothing; at the probe, the same few rows scored before the first
//! step and again after 4 % and 8 % of the run; and at a third of the run, by training losses alone.
//!
//! ## Why these thresholds
//! The probe compares each row with itself, which removes the spread between rows that hides progress in training
//! losses. A healthy run has gained several per cent by then (3.6 % at the least in the campaign, at the default rate);
//! a rate that is a hundred times too low gains 0.02 %. Half a per cent is between them. The check waits until the
//! warm-up has been over for as long. A loss below 0.1 nats has nothing left to gain and is left alone.

use super::rolling::mean;
use super::{Detector, Finding, FindingKind, RunFacts, two_digits};
use crate::event::{Probe, RunEvent, StepMetrics};
use serde::{Deserialize, Serialize};

/// Watches for progress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// Steps in a row without any gradient.
    without_gradient: u32,
    /// Sum and number of the losses of the first tenth.
    first: (f64, u64),
    /// Losses of the tenth before the check at a third.
    recent: Vec<f64>,
    told: bool,
}

/// Nothing left to gain below this loss, nats.
const LEARNT: f64 = 0.1;

/// Share of the loss that must have been gained by the probe's last look.
const GAIN: f64 = 0.005;

fn finding(step: u64, why: String, rate: f64) -> Finding {
    let higher = two_digits(rate * 3.0);
    let mut finding = Finding::new(FindingKind::Plateau, "PS-TRAIN-004", step, why)
        .since(0)
        .with("learning_rate", rate)
        .with("suggested_learning_rate", higher)
        .action(
            format!("Raise the learning rate, first to {higher:.1e}"),
            Some(format!("peft-studio resume RUN --rewind-to 0 --set training.learning_rate={higher:e}")),
        )
        .action("Look at what is learnt of the rows", Some("peft-studio data inspect FILE".to_owned()));
    finding.rate = Some(higher);
    finding
}

impl Plateau {
    fn probed(&mut self, probe: &Probe, facts: &RunFacts) -> Option<Finding> {
        let is_due =
            probe.step * 25 >= facts.total_steps * 2 && probe.step >= facts.warmup_steps + facts.total_steps / 25;
        if self.told || !is_due || probe.base_loss < LEARNT {
            return None;
        }
        let gain = (probe.base_loss - probe.loss) / probe.base_loss;
        let error = probe.error / probe.base_loss;
        // A rise is for others to judge.
        if gain + 2.0 * error > GAIN || gain < -0.05 {
            return None;
        }
        self.told = true;
        let message = format!(
            "The model is not learning: after {} steps the loss of the same {} rows went from {:.4} to {:.4}, a change of {:.2} %",
            probe.step,
            probe.rows,
            probe.base_loss,
            probe.loss,
            -100.0 * gain
        );
        Some(finding(probe.step, message, facts.learning_rate).with("gain", gain).with("error", error))
    }

    fn stepped(&mut self, step: &StepMetrics, facts: &RunFacts) -> Option<Finding> {
        self.without_gradient =
            if step.gradient_norm == 0.0 && step.loss > LEARNT { self.without_gradient + 1 } else { 0 };
        if self.told {
            return None;
        }
        if self.without_gradient == 3 {
            self.told = true;
            let message = format!(
                "The model is not learning: the gradient has been exactly nothing since step {}, so no parameter moves",
                step.step.saturating_sub(2)
            );
            return Some(finding(step.step, message, facts.learning_rate));
        }
        let tenth = (facts.total_steps / 10).max(10);
        if step.step <= tenth {
            self.first.0 += step.loss;
            self.first.1 += 1;
        }
        let check = (facts.total_steps / 3).max(4 * tenth).max(facts.warmup_steps + 2 * tenth);
        if step.step + tenth > check && step.step <= check {
            self.recent.push(step.loss);
        }
        if step.step != check || self.first.1 == 0 {
            return None;
        }
        let (before, now) = (self.first.0 / self.first.1 as f64, mean(&self.recent));
        self.recent.clear();
        let gain = (before - now) / before;
        if before < LEARNT || !(-0.05..GAIN).contains(&gain) {
            return None;
        }
        self.told = true;
        let message = format!(
            "The model is not learning: the training loss was {before:.3} at the start and is {now:.3} after {} steps",
            step.step
        );
        Some(finding(step.step, message, facts.learning_rate).with("gain", gain))
    }
}

impl Detector for Plateau {
    fn observe(&mut self, event: &RunEvent, facts: &RunFacts) -> Option<Finding> {
        match event {
            RunEvent::Probe(probe) => self.probed(probe, facts),
            RunEvent::Step(step) if step.loss.is_finite() => self.stepped(step, facts),
            _ => None,
        }
    }
}
