//! A run as its events tell it, folded for the dashboard: curves, answers, findings, what happened when.

use peft_plan::{Action, Evaluation, Finished, Interval, Reading, RunEvent, Started};
use std::fmt::Write as _;

/// What is drawn over steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Training loss.
    Loss,
    /// Learning rate.
    LearningRate,
    /// Norm of the gradient.
    GradientNorm,
    /// Tokens a second.
    Speed,
    /// Memory of the process.
    Memory,
}

/// An answer that a run gave about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// After this step.
    pub step: u64,
    /// What was asked.
    pub prompt: String,
    /// What the model said.
    pub answer: String,
    /// What the data says.
    pub expected: Option<String>,
}

/// Something strange.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// When it was noticed.
    pub step: u64,
    /// Which kind.
    pub kind: String,
    /// One plain sentence.
    pub message: String,
    /// What the run did about it.
    pub taken: String,
    /// What can be done.
    pub actions: Vec<Action>,
    /// Its code.
    pub code: Option<String>,
}

/// A line of the time line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub step: u64,
    /// Its kind, as in the event.
    pub kind: &'static str,
    /// What happened.
    pub text: String,
}

/// A run, so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Story {
    /// How it began.
    pub started: Option<Started>,
    /// Steps and values of each [`Metric`], in its order; all are of one length.
    curves: [Vec<[f64; 2]>; 5],
    /// Counts up whenever the curves or the evaluations change.
    pub revision: u64,
    /// Its evaluations; 0 is the base.
    pub evaluations: Vec<Evaluation>,
    /// Its answers.
    pub samples: Vec<Sample>,
    /// What was strange.
    pub findings: Vec<Finding>,
    /// What happened.
    pub notes: Vec<Note>,
    /// Time left, by its own account.
    pub eta: Option<Interval>,
    /// Passes over the data.
    pub epoch: f64,
    /// How it ended.
    pub finished: Option<Finished>,
    /// It halted, and at which step.
    pub paused: Option<u64>,
    /// What the machine was doing when it was looked at last.
    pub reading: Option<Reading>,
}

impl Story {
    /// One more event.
    pub fn fold(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Started(started) => {
                *self = Self { started: Some(started.clone()), revision: self.revision + 1, ..Self::default() };
                self.note(0, "started", format!("Started on {}", started.device.split(" | ").next().unwrap_or("")));
            }
            RunEvent::Step(s) => {
                let values = [s.loss, s.learning_rate, s.gradient_norm, s.tokens_per_second, s.memory_bytes as f64];
                for (curve, value) in self.curves.iter_mut().zip(values) {
                    while curve.last().is_some_and(|last| last[0] >= s.step as f64) {
                        curve.pop();
                    }
                    curve.push([s.step as f64, value]);
                }
                self.revision += 1;
                self.epoch = s.epoch;
                self.eta = Some(s.eta_seconds);
                self.paused = None;
            }
            RunEvent::Hardware(reading) => self.reading = Some(reading.clone()),
            RunEvent::Evaluation(evaluation) => {
                self.evaluations.retain(|other| other.step != evaluation.step);
                self.evaluations.push(evaluation.clone());
                self.revision += 1;
                let loss = evaluation.loss;
                self.note(evaluation.step, "evaluation", format!("Held-out loss {loss:.3}"));
            }
            RunEvent::Sample { step, prompt, answer, expected } => self.samples.push(Sample {
                step: *step,
                prompt: prompt.clone(),
                answer: answer.clone(),
                expected: expected.clone(),
            }),
            RunEvent::Anomaly { step, kind, message, actions, taken, code, .. } => {
                self.findings.push(Finding {
                    step: *step,
                    kind: kind.clone(),
                    message: message.clone(),
                    taken: taken.clone(),
                    actions: actions.clone(),
                    code: code.clone(),
                });
                self.note(*step, "anomaly", format!("{message}. In answer: {taken}"));
            }
            RunEvent::Checkpoint { step, bytes, .. } => {
                self.note(*step, "checkpoint", format!("Checkpoint saved, {}", crate::cli::quantity::bytes(*bytes)));
            }
            RunEvent::Paused { step } => {
                self.paused = Some(*step);
                self.note(*step, "paused", "Paused; a checkpoint is saved".to_owned());
            }
            RunEvent::Resumed { step } => self.go_back(*step),
            RunEvent::Stopped { step } => self.note(*step, "stopped", "Stopped; what was learned is kept".to_owned()),
            RunEvent::Finished(finished) => {
                self.note(finished.step, "finished", "Finished".to_owned());
                self.finished = Some(finished.clone());
            }
            RunEvent::Failed { error } => {
                let step = self.step();
                let detail = error["detail"].as_str().unwrap_or("The run ended with an error");
                self.note(step, "failed", detail.to_owned());
            }
            RunEvent::Probe(_) => {}
        }
    }

    fn go_back(&mut self, step: u64) {
        self.curves.iter_mut().for_each(|curve| curve.retain(|p| p[0] <= step as f64));
        self.revision += 1;
        self.evaluations.retain(|e| e.step <= step);
        self.samples.retain(|s| s.step <= step);
        self.findings.retain(|f| f.step <= step);
        self.paused = None;
        self.finished = None;
        self.note(step, "resumed", format!("Went on from step {step}"));
    }

    fn note(&mut self, step: u64, kind: &'static str, text: String) {
        self.notes.push(Note { step, kind, text });
    }

    /// A curve.
    pub fn curve(&self, metric: Metric) -> &[[f64; 2]] {
        &self.curves[metric as usize]
    }

    /// Whether a step was made.
    pub fn has_steps(&self) -> bool {
        !self.curves[0].is_empty()
    }

    /// The last step.
    pub fn step(&self) -> u64 {
        self.curves[0].last().map_or(0, |p| p[0] as u64)
    }

    /// The latest value of `metric`.
    pub fn latest(&self, metric: Metric) -> Option<f64> {
        self.curve(metric).last().map(|p| p[1])
    }

    /// The evaluation with the lowest loss, after training began.
    pub fn best(&self) -> Option<&Evaluation> {
        let trained = self.evaluations.iter().filter(|e| e.step > 0 && e.loss.is_finite());
        trained.min_by(|a, b| a.loss.total_cmp(&b.loss))
    }

    /// The curves as a table for spreadsheets.
    pub fn csv(&self) -> String {
        let mut text =
            String::from("step,loss,learning_rate,gradient_norm,tokens_per_second,memory_bytes,held_out_loss\n");
        let mut evaluations = self.evaluations.iter().peekable();
        for (i, p) in self.curves[0].iter().enumerate() {
            let step = p[0] as u64;
            while evaluations.peek().is_some_and(|e| e.step < step) {
                evaluations.next();
            }
            let held_out = evaluations.peek().filter(|e| e.step == step).map(|e| e.loss.to_string());
            let values: Vec<String> = self.curves.iter().map(|curve| curve[i][1].to_string()).collect();
            writeln!(text, "{step},{},{}", values.join(","), held_out.unwrap_or_default()).expect("writing to memory");
        }
        text
    }
}
