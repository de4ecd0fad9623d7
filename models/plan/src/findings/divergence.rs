//! The loss climbs instead of falling (S4.6.1).
//!
//! ## What it does
//! Compares the mean of the last few losses with the lowest mean that the run has had.
//!
//! ## Why these thresholds
//! The rise must be five standard errors of the run's own noise, which is measured from neighbouring steps and so does
//! not see the trend: at 5σ one healthy run in a million would be stopped by chance if steps were normal; they have
//! heavier tails, so the rise must also be 0.3 nats and a tenth of the level, and most of the last losses must be
//! above the lowest mean one by one. Healthy runs of the campaign stay below 2.6σ, rate × 30 reaches 5σ two to four
//! steps after its first bad update.
//!
//! ## Which rate it names
//! The loss of a rate-range test rises at the rate where training breaks; a tenth of it is the usual choice
//! (Smith 2017, "Cyclical learning rates", section 3.3). A run that had learnt for a while before gets half.

use super::rolling::{Window, mean, noise};
use super::{Detector, Finding, FindingKind, RunFacts, two_digits};
use crate::event::{RunEvent, StepMetrics};
use serde::{Deserialize, Serialize};

/// Watches for a climbing loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    losses: Window,
    /// Losses at the start.
    first: Vec<f64>,
    best: Option<Best>,
    /// The rate that suits the size of the weights, where the run's was found to be far above it.
    #[serde(default)]
    gentle_rate: Option<f64>,
    seen: u64,
    /// Not again before this step.
    quiet_until: u64,
}

/// The lowest mean so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Best {
    mean: f64,
    step: u64,
}

/// Steps of the mean that is judged and of the mean it is compared with.
fn windows(facts: &RunFacts) -> (usize, usize) {
    let of = |share: u64, low: u64, high: u64| (facts.total_steps / share).clamp(low, high) as usize;
    (of(50, 3, 50), of(30, 5, 100))
}

impl Divergence {
    /// Nothing seen yet.
    pub fn new(facts: &RunFacts) -> Self {
        let (short, long) = windows(facts);
        let capacity = (short + long).max(short + 64);
        Self {
            losses: Window::new(capacity),
            first: Vec::new(),
            best: None,
            gentle_rate: None,
            seen: 0,
            quiet_until: 0,
        }
    }

    /// A rate that was named before the first step.
    pub(super) fn expect_rate(&mut self, rate: f64) {
        self.gentle_rate = Some(rate);
    }

    /// How the last losses stand against the best: (mean of the last, threshold), where there is enough to say so.
    fn judge(&self, facts: &RunFacts) -> Option<(f64, f64)> {
        let (short, long) = windows(facts);
        let best = self.best?;
        if self.losses.len() < short + 2 {
            return None;
        }
        let last = self.losses.last(short);
        let calm = self.losses.before(short);
        // With few steps to measure the noise from, a fifth of the level is a bound that batches of the campaign keep.
        let sigma = if calm.len() < 8 { (0.2 * mean(&self.first)).max(noise(&calm)) } else { noise(&calm) };
        let error = sigma * (1.0 / short as f64 + 1.0 / long as f64).sqrt();
        let threshold = (5.0 * error).max(0.3 + 0.1 * best.mean);
        let higher = last.iter().filter(|&&loss| loss > best.mean + sigma).count();
        (3 * higher >= 2 * short).then_some((mean(&last), threshold))
    }

    /// Whether the loss is on its way up: half of what it takes for a finding.
    pub(super) fn is_rising(&self, facts: &RunFacts) -> bool {
        match (self.judge(facts), self.best) {
            (Some((now, threshold)), Some(best)) => now - best.mean > 0.5 * threshold,
            _ => false,
        }
    }

    fn finding(&self, step: &StepMetrics, facts: &RunFacts, best: Best, now: f64, threshold: f64) -> Finding {
        let peak = if step.step <= facts.warmup_steps { step.learning_rate } else { facts.learning_rate };
        let learnt = mean(&self.first) - best.mean > 0.2 * mean(&self.first) && best.step * 10 > facts.total_steps;
        let lower = peak * if learnt { 0.5 } else { 0.1 };
        let rate = two_digits(self.gentle_rate.map_or(lower, |gentle| gentle.min(lower)));
        // A best mean above the very first loss: whatever was saved since then is spoilt already.
        let best = match self.first.first() {
            Some(&first) if best.step <= self.seen && best.mean > first + 0.1 * first.abs() => {
                Best { mean: first, step: 0 }
            }
            _ => best,
        };
        let when = if best.step == 0 { "at the start".to_owned() } else { format!("around step {}", best.step) };
        let message = format!(
            "The loss is climbing: {now:.2} on average at step {}, after {:.2} {when}. The learning rate of {peak:.1e} is \
             too high here; {rate:.1e} should hold",
            step.step, best.mean
        );
        let mut finding = Finding::new(FindingKind::Divergence, "PS-TRAIN-001", step.step, message)
            .since(best.step)
            .with("loss", now)
            .with("best_loss", best.mean)
            .with("best_step", best.step as f64)
            .with("threshold", threshold)
            .with("learning_rate", step.learning_rate)
            .with("suggested_learning_rate", rate)
            .action(
                format!("Go back to step {} with a learning rate of {rate:.1e}", best.step),
                Some(format!("peft-studio resume RUN --rewind-to {} --set training.learning_rate={rate:e}", best.step)),
            )
            .action(
                "Keep going as it is",
                Some("peft-studio resume RUN --set guards.on_divergence=continue".to_owned()),
            )
            .action("Stop and keep what was learnt", Some("peft-studio stop RUN".to_owned()));
        finding.rate = Some(rate);
        finding
    }
}

impl Detector for Divergence {
    fn observe(&mut self, event: &RunEvent, facts: &RunFacts) -> Option<Finding> {
        let RunEvent::Step(step) = event else { return None };
        if !step.loss.is_finite() {
            return None;
        }
        let (short, long) = windows(facts);
        self.seen += 1;
        self.losses.push(step.loss);
        if self.first.len() < long {
            self.first.push(step.loss);
        }
        let found = match (self.judge(facts), self.best) {
            (Some((now, threshold)), Some(best)) if step.step > self.quiet_until && now - best.mean > threshold => {
                Some(self.finding(step, facts, best, now, threshold))
            }
            _ => None,
        };
        if found.is_some() {
            // A run that goes on all the same is measured by its new level.
            self.best = None;
            self.losses.clear();
            self.first.clear();
            self.seen = 0;
            self.quiet_until = step.step + (facts.total_steps / 10).max(20);
            return found;
        }
        let recent = self.losses.last(long);
        if recent.len() >= short {
            let mean = mean(&recent);
            if self.best.is_none_or(|best| mean < best.mean) {
                self.best = Some(Best { mean, step: step.step });
            }
        }
        None
    }
}
