//! Trouble that is there before anything is learnt: a start that is worse than guessing, a rate out of proportion.
//!
//! ## Worse than guessing
//! Whoever knows nothing and says so has a loss of ln(vocabulary). Answers that a good base finds odd cost more, up to
//! 1.4 times that in the campaign (numbers in words, for the starter); beyond twice that, with a nat on top, base,
//! adapter, tokenizer or layout do not belong together. Norm layers hide weights that have exploded: the loss then stays
//! near that of guessing, but the gradient does not. First gradients of the campaign's healthy runs have norms up to 8,
//! those of exploded starts a median of 60 and more over the first three steps; twenty, with a loss that is no better
//! than guessing, is between them.
//!
//! ## Out of proportion
//! The first updates of Adam move every parameter by about the learning rate, whatever the gradient (Kingma & Ba
//! 2015, section 2.1). Updates of about a thousandth of the weights are healthy (Karpathy 2019); where one update is
//! half as large as the weights themselves, what they held is gone after two. Rates of the campaign that learn well
//! stay below 0.2, those that are 30 times too high lie above 0.8.

use super::rolling::median;
use super::{Detector, Finding, FindingKind, RunFacts, two_digits};
use crate::event::{RunEvent, StepMetrics};
use serde::{Deserialize, Serialize};

/// Looks at the first losses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    told: bool,
    /// Loss and gradient norm of the first steps.
    first: Vec<(f64, f64)>,
}

/// Steps whose gradients are looked at.
const FIRST: usize = 3;
/// A norm of the gradient that a start from sound weights does not have.
const STEEP_GRADIENT: f64 = 20.0;

impl Start {
    fn judge(&mut self, step: u64, loss: f64, facts: &RunFacts) -> Option<Finding> {
        let guessing = (facts.vocabulary.max(2) as f64).ln();
        if self.told || facts.vocabulary == 0 || !loss.is_finite() || loss < 2.0 * guessing + 1.0 {
            return None;
        }
        self.told = true;
        let message = format!(
            "The run begins far worse than guessing: a loss of {loss:.1}, where knowing nothing costs {guessing:.1}. The base, the \
             adapter it starts from, or the chat layout do not belong together"
        );
        Some(
            Finding::new(FindingKind::Start, "PS-TRAIN-006", step, message)
                .since(0)
                .with("loss", loss)
                .with("loss_of_guessing", guessing),
        )
    }
}

impl Start {
    fn judge_gradient(&mut self, step: &StepMetrics, facts: &RunFacts) -> Option<Finding> {
        self.first.push((step.loss, step.gradient_norm));
        if self.told || self.first.len() < FIRST || facts.vocabulary == 0 {
            return None;
        }
        let guessing = (facts.vocabulary.max(2) as f64).ln();
        let loss = median(&self.first.iter().map(|f| f.0).collect::<Vec<_>>());
        let norm = median(&self.first.iter().map(|f| f.1).collect::<Vec<_>>());
        if norm < STEEP_GRADIENT || loss < 0.95 * guessing {
            return None;
        }
        self.told = true;
        let message = format!(
            "The run begins no better than guessing, with gradients of norm {norm:.0} where a few are usual: the weights or the adapter that it starts from seem to have exploded"
        );
        Some(
            Finding::new(FindingKind::Start, "PS-TRAIN-006", step.step, message)
                .since(0)
                .with("loss", loss)
                .with("gradient_norm", norm)
                .with("loss_of_guessing", guessing),
        )
    }
}

impl Detector for Start {
    fn observe(&mut self, event: &RunEvent, facts: &RunFacts) -> Option<Finding> {
        match event {
            RunEvent::Probe(probe) if probe.step == 0 => self.judge(0, probe.base_loss, facts),
            RunEvent::Step(step) if step.step <= FIRST as u64 => {
                self.judge(step.step, step.loss, facts).or_else(|| self.judge_gradient(step, facts))
            }
            _ => None,
        }
    }
}

/// A finding where the first updates would be about as large as the weights: `typical` is the root mean square of
/// the parameters that do not start at nothing.
pub fn steep_rate(typical: f64, facts: &RunFacts) -> Option<Finding> {
    const STEEP: f64 = 0.5;
    let ratio = facts.learning_rate / typical;
    if !ratio.is_finite() || ratio < STEEP {
        return None;
    }
    let rate = two_digits(0.05 * typical);
    let message = format!(
        "The learning rate of {:.1e} is out of proportion: each of the first updates is {ratio:.1} times as large as the weights \
         that it changes ({typical:.1e}); {rate:.1e} would be a twentieth of them",
        facts.learning_rate
    );
    let mut finding = Finding::new(FindingKind::Rate, "PS-TRAIN-001", 0, message)
        .since(0)
        .with("learning_rate", facts.learning_rate)
        .with("typical_weight", typical)
        .with("ratio", ratio)
        .with("suggested_learning_rate", rate)
        .action(
            format!("Use a learning rate of {rate:.1e}"),
            Some(format!("peft-studio resume RUN --rewind-to 0 --set training.learning_rate={rate:e}")),
        );
    finding.rate = Some(rate);
    Some(finding)
}
