//! What a run says while it goes: the events of the command line, letter for letter.

use crate::fault::Action;
use crate::preference::PreferenceMetrics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// An interval of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Optimistic.
    pub low: f64,
    /// Most likely.
    pub expected: f64,
    /// Pessimistic.
    pub high: f64,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run begins.
    Started(Started),
    /// An optimizer step is done.
    Step(StepMetrics),
    /// The held-out rows were scored.
    Evaluation(Evaluation),
    /// A few fixed rows were scored again, to see early whether anything is learnt.
    Probe(Probe),
    /// Something went strange.
    Anomaly {
        /// Step at which it was noticed.
        step: u64,
        /// Which kind.
        kind: String,
        /// One plain sentence.
        message: String,
        /// What can be done.
        actions: Vec<Action>,
        /// What was done.
        taken: String,
        /// Its code in the catalogue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// The numbers behind it.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        evidence: BTreeMap<String, f64>,
        /// Rows of the dataset that it is about, counted from 0.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rows: Vec<u32>,
        /// The tensor that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tensor: Option<String>,
        /// The step that the run went back to. In the story of the run it stands there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rewound_to: Option<u64>,
    },
    /// One of the run's own prompts was answered again.
    Sample {
        /// After this step; 0 is the untouched base.
        step: u64,
        /// What was asked.
        prompt: String,
        /// What the model said.
        answer: String,
        /// What the data says, where the prompt comes from the data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<String>,
    },
    /// The state is safe on disk.
    Checkpoint {
        /// Step it holds.
        step: u64,
        /// Its directory, absolute.
        path: String,
        /// Its size.
        bytes: u64,
        /// How long saving took.
        seconds: f64,
    },
    /// What the machine is doing, every two seconds.
    Hardware(Reading),
    /// The run halted and can be resumed.
    Paused {
        /// Last step done.
        step: u64,
    },
    /// The run goes on from a checkpoint.
    Resumed {
        /// Step of the checkpoint.
        step: u64,
    },
    /// The run was ended early; its adapter is written.
    Stopped {
        /// Last step done.
        step: u64,
    },
    /// The run is complete.
    Finished(Finished),
    /// The run broke.
    Failed {
        /// The fault, as on stderr.
        error: serde_json::Value,
    },
}

impl RunEvent {
    /// Something strange that no detector found.
    pub fn anomaly(step: u64, kind: &str, message: String, taken: String) -> Self {
        Self::Anomaly {
            step,
            kind: kind.to_owned(),
            message,
            actions: Vec::new(),
            taken,
            code: None,
            evidence: BTreeMap::new(),
            rows: Vec::new(),
            tensor: None,
            rewound_to: None,
        }
    }
}

/// The run begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Id of the run.
    pub run: String,
    /// Its name.
    pub name: String,
    /// `cpu` or `cuda`.
    pub backend: String,
    /// The device, and whatever of it could change a bit of the result.
    pub device: String,
    /// Parameters of the base.
    pub parameters_total: u64,
    /// Parameters that are trained.
    pub parameters_trainable: u64,
    /// Optimizer steps planned.
    pub total_steps: u64,
    /// Training examples.
    pub examples: u64,
    /// Held-out examples.
    pub validation_examples: u64,
    /// Trained tokens of one pass.
    pub tokens_per_epoch: u64,
    /// Examples that were cut to the sequence length.
    pub truncated_examples: u64,
    /// Planned peak memory.
    pub memory_plan_bytes: u64,
}

/// What the machine is doing (S4.5.5). What nobody can say is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Last step told of; 0 outside a run.
    pub step: u64,
    /// Share of the time that the first graphics card computed, per cent.
    pub gpu_utilization: Option<f64>,
    /// Memory in use: of the first graphics card, or of the machine where there is none.
    pub memory_used_bytes: u64,
    /// Of the first graphics card, or of the processor.
    pub temperature_celsius: Option<f64>,
    /// Of the first graphics card, or of the processor.
    pub power_watts: Option<f64>,
    /// Share of all cores that is busy, per cent.
    pub cpu_utilization: f64,
    /// Memory in use by all programs.
    pub ram_used_bytes: u64,
    /// Memory that a program could still have.
    pub ram_available_bytes: u64,
    /// Memory that this process holds.
    pub process_bytes: u64,
    /// Every graphics card.
    pub gpus: Vec<GpuReading>,
}

/// What a graphics card is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuReading {
    /// Share of the time that it computed, per cent.
    pub utilization: Option<f64>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// All of its memory.
    pub memory_bytes: Option<u64>,
    /// Temperature.
    pub temperature_celsius: Option<f64>,
    /// Power.
    pub power_watts: Option<f64>,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// From 1.
    pub step: u64,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Mean loss over the step's trained tokens, nats.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Rate of this step.
    pub learning_rate: f64,
    /// Trained tokens of this step.
    pub tokens: u64,
    /// Tokens (trained or not) computed a second in this step.
    pub tokens_per_second: f64,
    /// Peak resident memory of the process so far.
    pub memory_bytes: u64,
    /// Time left.
    pub eta_seconds: Interval,
    /// Of a run that learns preferences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceMetrics>,
}

/// The held-out rows were scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// After this step; 0 is the untouched base.
    pub step: u64,
    /// Mean loss over trained tokens, nats.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Share of trained tokens whose largest logit is the target.
    pub token_accuracy: f64,
    /// Of a run that learns preferences; `loss` is then theirs, the other two are the chosen answers'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceMetrics>,
}

/// The same few rows, before the first step and now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// After this step; 0 is the untouched base.
    pub step: u64,
    /// Rows that were scored.
    pub rows: u64,
    /// Mean of their losses, nats.
    pub loss: f64,
    /// The same before the first step.
    pub base_loss: f64,
    /// Standard error of the mean change of a row.
    pub error: f64,
}

/// One of the five parts of the quality score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QualityPart {
    /// `learning_progress`, `generalisation_gap`, `stability`, `data_coverage` or `sample_check`.
    pub name: String,
    /// Points reached; `None` where the run says nothing about it.
    pub points: Option<f64>,
    /// Points there are.
    pub of: f64,
    /// Why, in a few words with numbers.
    pub why: String,
}

/// The run is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Last step.
    pub step: u64,
    /// Active time, pauses left out.
    pub seconds: f64,
    /// Loss of the last step.
    pub loss: f64,
    /// Last held-out loss.
    pub validation_loss: Option<f64>,
    /// 0 to 100, once the run is scored.
    pub quality_score: Option<f64>,
    /// The five parts of the score.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality_parts: Vec<QualityPart>,
    /// What to try next.
    pub suggestions: Vec<String>,
    /// Directory of the adapter (or of the model, with `full`), absolute.
    pub adapter: String,
    /// Version number within the project.
    pub version: Option<u64>,
    /// Peak resident memory of the process, loading included.
    #[serde(default)]
    pub peak_memory_bytes: u64,
}

/// Takes events; `Break` asks the run to save and halt.
pub trait EventSink {
    /// One event has happened.
    fn emit(&mut self, event: &RunEvent) -> ControlFlow<()>;
    /// Everything emitted so far must outlive a power cut: a checkpoint is about to say that it happened.
    fn sync(&mut self) {}
}

impl<F: FnMut(&RunEvent) -> ControlFlow<()>> EventSink for F {
    fn emit(&mut self, event: &RunEvent) -> ControlFlow<()> {
        self(event)
    }
}
