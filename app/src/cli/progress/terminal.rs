//! Progress for a person, on stderr: a bar where there is a terminal, a line now and then otherwise.

use super::Receiver;
use crate::cli::output::{note, printable};
use crate::cli::quantity::{bytes, interval};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use peft_plan::{Evaluation, Fault, RunEvent, StepMetrics};

/// A run without a terminal is told of in about so many lines.
const LINES: u64 = 10;

/// Shows a run on stderr.
pub struct Terminal {
    bar: Option<ProgressBar>,
    total_steps: u64,
    /// Tenths of the run that were told of.
    told: Option<u64>,
}

impl Terminal {
    /// For a run of `total_steps`; with a bar if somebody is watching.
    pub fn new(total_steps: u64, is_watched: bool) -> Self {
        let bar = is_watched.then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { bar, total_steps, told: None }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => note(line),
        }
    }

    fn step(&mut self, metrics: &StepMetrics) {
        if let Some(bar) = &self.bar {
            bar.set_message(figures(metrics));
            bar.set_position(metrics.step);
        } else if self.is_worth_a_line(metrics.step) {
            note(&format!("Step {} of {}: {}", metrics.step, self.total_steps, figures(metrics)));
        }
    }

    /// The first step of this process, and each that completes another tenth.
    fn is_worth_a_line(&mut self, step: u64) -> bool {
        let tenth = u128::from(step) * u128::from(LINES) / u128::from(self.total_steps.max(1));
        let is_new = self.told.is_none_or(|told| tenth > u128::from(told));
        if is_new {
            self.told = Some(tenth as u64);
        }
        is_new
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Receiver for Terminal {
    fn receive(&mut self, event: &RunEvent) -> Result<(), Fault> {
        match event {
            RunEvent::Started(started) => {
                let held_out = match started.validation_examples {
                    0 => String::new(),
                    count => format!(", {count} more are held out"),
                };
                self.say(&printable(&format!("Training {} on {} examples{held_out}", started.name, started.examples)));
            }
            RunEvent::Resumed { step } => {
                self.say(&format!("Going on after step {step}"));
                if let Some(bar) = &self.bar {
                    bar.set_position(*step);
                }
            }
            RunEvent::Step(metrics) => self.step(metrics),
            RunEvent::Evaluation(evaluation) => self.say(&evaluated(evaluation)),
            RunEvent::Checkpoint { step, bytes: size, .. } => {
                self.say(&format!("Step {step}: saved a checkpoint of {}", bytes(*size)));
            }
            // Answers and readings are for whoever looks at the run; a bar has no room for them.
            RunEvent::Sample { .. } | RunEvent::Probe(_) | RunEvent::Hardware(_) => {}
            RunEvent::Anomaly { message, taken, .. } => {
                self.say(&printable(&format!("{message}. In answer: {taken}.")));
            }
            RunEvent::Paused { .. } | RunEvent::Stopped { .. } | RunEvent::Finished(_) | RunEvent::Failed { .. } => {
                self.end();
            }
        }
        Ok(())
    }
}

fn figures(metrics: &StepMetrics) -> String {
    let StepMetrics { loss, tokens_per_second, eta_seconds, .. } = metrics;
    format!("loss {loss:.4}, {tokens_per_second:.0} tokens/s, {} left", interval(eta_seconds))
}

fn evaluated(evaluation: &Evaluation) -> String {
    let Evaluation { step, loss, perplexity, token_accuracy, preference } = evaluation;
    if let Some(preference) = preference {
        let accuracy = 100.0 * preference.accuracy;
        let margin = preference.margin.map_or_else(String::new, |margin| format!(", reward margin {margin:.3}"));
        return format!("Step {step}: held-out loss {loss:.4}, {accuracy:.0}% of preferences right{margin}");
    }
    let accuracy = 100.0 * token_accuracy;
    format!("Step {step}: held-out loss {loss:.4}, perplexity {perplexity:.2}, {accuracy:.0}% of tokens right")
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::{Interval, PreferenceMetrics};

    #[test]
    fn runs_of_any_length_take_about_ten_lines() {
        for total in [1, 7, 10, 95, 1000, 12_345] {
            let mut terminal = Terminal::new(total, false);
            let lines = (1..=total).filter(|step| terminal.is_worth_a_line(*step)).count() as u64;
            assert!(lines <= LINES + 1 && lines >= total.min(LINES), "{total}: {lines}");
        }
        let mut resumed = Terminal::new(100, false);
        assert!(resumed.is_worth_a_line(51) && !resumed.is_worth_a_line(52) && resumed.is_worth_a_line(60));
    }

    #[test]
    fn lines_name_their_numbers() {
        let metrics = StepMetrics {
            step: 3,
            epoch: 0.1,
            loss: 1.25,
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            tokens: 10,
            tokens_per_second: 842.4,
            memory_bytes: 0,
            eta_seconds: Interval { low: 130.0, expected: 200.0, high: 290.0 },
            preference: None,
        };
        assert_eq!(figures(&metrics), "loss 1.2500, 842 tokens/s, 2-5 min left");
        let preference = None;
        let evaluation = Evaluation { step: 4, loss: 1.0, perplexity: 2.75, token_accuracy: 0.705, preference };
        assert_eq!(evaluated(&evaluation), "Step 4: held-out loss 1.0000, perplexity 2.75, 70% of tokens right");
        let metrics = PreferenceMetrics { margin: Some(0.25), accuracy: 0.9, ..PreferenceMetrics::default() };
        let compared = Evaluation { preference: Some(metrics), ..evaluation };
        let line = evaluated(&compared);
        assert_eq!(line, "Step 4: held-out loss 1.0000, 90% of preferences right, reward margin 0.250");
    }
}
