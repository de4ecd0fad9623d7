//! The model learns the training rows by heart (S4.6.2).
//!
//! ## What it does
//! Follows the held-out loss from evaluation to evaluation beside the training loss between them.
//!
//! ## Why these thresholds
//! Generalisation loss, the rise over the lowest held-out loss so far, with successive rises, are the criteria GL and
//! UP of Prechelt (1998, "Early stopping - but when?"): stopping at GL = 5 % with two rises in a row cost 1-2 % of
//! the result and saved a third of the time there. A rise is told of from 2 % on where the training loss falls at the
//! same time, and once more when it has doubled.

use super::{Detector, Finding, FindingKind, RunFacts};
use crate::event::{Evaluation, RunEvent};
use serde::{Deserialize, Serialize};

/// Watches held-out against training loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overfitting {
    best: Option<(u64, f64)>,
    last: Option<f64>,
    rises: u32,
    /// Sum and number of the training losses since the last evaluation.
    since: (f64, u64),
    /// Mean training loss of the interval that ended with the best evaluation.
    train_at_best: Option<f64>,
    /// The rise that was told of last, as a share.
    told: f64,
}

impl Overfitting {
    fn evaluated(&mut self, evaluation: &Evaluation) -> Option<Finding> {
        let loss = evaluation.loss;
        let train = (self.since.1 > 0).then(|| self.since.0 / self.since.1 as f64);
        self.since = (0.0, 0);
        let rose = self.last.is_some_and(|last| loss > last);
        self.last = Some(loss);
        if self.best.is_none_or(|(_, best)| loss < best) {
            self.best = Some((evaluation.step, loss));
            self.train_at_best = train;
            self.rises = 0;
            self.told = 0.0;
            return None;
        }
        self.rises = if rose { self.rises + 1 } else { 0 };
        let (best_step, best) = self.best?;
        let (train, before) = (train?, self.train_at_best?);
        let rise = loss / best.max(1e-9) - 1.0;
        // Rises at losses near nothing are noise of a few tokens.
        let is_rise = rise > 0.02 && loss - best > 0.02;
        if self.rises < 2 && rise < 0.1 || !is_rise || train >= before || rise < 2.0 * self.told {
            return None;
        }
        self.told = rise;
        let message = format!(
            "The model is learning the training rows by heart: since step {best_step} the held-out loss rose by {:.0} % to {loss:.3} \
             while the training loss fell from {before:.3} to {train:.3}",
            100.0 * rise
        );
        Some(
            Finding::new(FindingKind::Overfitting, "PS-TRAIN-003", evaluation.step, message)
                .since(best_step)
                .with("validation_loss", loss)
                .with("best_validation_loss", best)
                .with("best_step", best_step as f64)
                .with("training_loss", train)
                .with("training_loss_at_best", before)
                .action(
                    format!("Stop early and keep the adapter of step {best_step}"),
                    Some("peft-studio resume RUN --set evaluation.early_stopping_patience=2".to_owned()),
                )
                .action(
                    "Regularise: fewer epochs and some dropout",
                    Some("--set adapter.dropout=0.1 --set training.epochs=1".to_owned()),
                ),
        )
    }
}

impl Detector for Overfitting {
    fn observe(&mut self, event: &RunEvent, _: &RunFacts) -> Option<Finding> {
        match event {
            RunEvent::Step(step) if step.loss.is_finite() => {
                self.since.0 += step.loss;
                self.since.1 += 1;
                None
            }
            // Step 0 is the untouched base: it may well be the lowest loss that there will be.
            RunEvent::Evaluation(evaluation) if evaluation.step > 0 && evaluation.loss.is_finite() => {
                self.evaluated(evaluation)
            }
            _ => None,
        }
    }
}
