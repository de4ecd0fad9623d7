//! The training loop: batches in, events out.
//!
//! The loop computes, emits events and obeys; it prints nothing and knows no store. Detectors, the recorder and
//! the terminal are sinks.

mod answering;
mod blame;
mod changed;
pub mod checkpoint;
mod each;
mod guard;
pub mod ledger;
mod moments;
pub mod preference;
mod probe;
mod reference;
mod rewind;
pub(crate) mod room;
mod samples;
mod score;
mod step;

pub use answering::{Listener, Question, Questions};
pub use checkpoint::RunState;
pub use each::score_each;
pub use guard::{GuardJob, GuardState, MOST_REWINDS};
pub use preference::{Pair, PreferenceScores, preference_step};
pub use reference::Reference;
pub use samples::{SamplePrompt, Samples};
pub use score::{Totals, rows, score};
pub use step::{StepOutcome, optimizer_step};

use crate::adapter;
use crate::decoder::{Activations, Batch, Decoder};
use crate::fault::device;
use guard::Guard;
use ledger::Ledger;
use peft_kernels::Backend;
use peft_plan::findings::Finding;
use peft_plan::order::{StepBatches, weighted_steps};
use peft_plan::{Evaluation, EventSink, Fault, Finished, Interval, Result, RunEvent, StepMetrics, TrainingPlan};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One rendered example: token ids and which of them are learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Learnt or only read.
    pub trained: Vec<bool>,
    /// Which row of the dataset it was made from: an index into the rows as read.
    pub row: u32,
    /// Of an example that compares: it is two sequences, one after the other.
    pub pair: Option<Pair>,
}

/// Something asked of a live run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Save and halt; the run can be resumed.
    Pause,
    /// Save, write the adapter, and end.
    Stop,
    /// Like [`Request::Pause`], because of Ctrl-C.
    Interrupt,
    /// Score the held-out rows now, and go on.
    Evaluate,
    /// Save now, and go on.
    Snapshot,
}

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum RunOutcome {
    /// All steps done (or early stopping).
    Finished(Finished),
    /// Halted on request.
    Paused(u64),
    /// Halted by the guard, because of this.
    Halted(Box<Finding>),
    /// Ended on request; the adapter is written.
    Stopped(u64),
    /// Halted by Ctrl-C.
    Interrupted(u64),
}

/// Writes the finished adapter or model; returns its directory.
pub type WriteResult<'a, B> = dyn FnMut(&mut Decoder<B>) -> Result<PathBuf> + 'a;

/// Everything a run needs besides the decoder.
pub struct Trainer<'a, 'q, B: Backend> {
    /// The complete plan.
    pub plan: &'a TrainingPlan,
    /// Training examples.
    pub train: &'a [Tokens],
    /// Held-out examples.
    pub validation: &'a [Tokens],
    /// The run's directory.
    pub directory: &'a Path,
    /// The model as it was, where preferences are learnt.
    pub reference: Option<Reference>,
    /// What must be equal for a resume to be exact.
    pub fingerprint: BTreeMap<String, String>,
    /// Asked between steps.
    pub request: &'a mut dyn FnMut() -> Option<Request>,
    /// Asked after each step: what people ask the model while it trains.
    pub questions: &'a mut Questions<'a, 'q>,
    /// Prompts answered at each evaluation, and at step 0 by the base.
    pub samples: Option<Samples<'a>>,
    /// Called at the end.
    pub write_result: &'a mut WriteResult<'a, B>,
    /// Peak resident memory of the process, bytes.
    pub peak_memory: fn() -> u64,
    /// What the guard needs from outside.
    pub guard: GuardJob<'a>,
}

/// Walks the steps of all epochs without holding more than one epoch's order.
struct Schedule<'a> {
    lengths: Vec<usize>,
    /// How often each example is drawn; empty where that is once.
    weights: Vec<f64>,
    plan: &'a TrainingPlan,
    epoch: u64,
    steps: Vec<StepBatches>,
    /// Steps of all epochs before this one.
    before: u64,
}

impl<'a> Schedule<'a> {
    fn new(examples: &[Tokens], plan: &'a TrainingPlan) -> Self {
        let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
        let weights = plan.weights(examples.iter().map(|e| e.row));
        let steps = weighted_steps(&lengths, &weights, &plan.order(), 0);
        Self { lengths, weights, plan, epoch: 0, steps, before: 0 }
    }

    /// The batches of step `step` (from 1) and how many epochs are done after it.
    fn at(&mut self, step: u64) -> (&StepBatches, f64) {
        if step <= self.before {
            *self = Self {
                epoch: 0,
                before: 0,
                steps: weighted_steps(&self.lengths, &self.weights, &self.plan.order(), 0),
                lengths: std::mem::take(&mut self.lengths),
                weights: std::mem::take(&mut self.weights),
                plan: self.plan,
            };
        }
        while step > self.before + self.steps.len() as u64 {
            self.before += self.steps.len() as u64;
            self.epoch += 1;
            self.steps = weighted_steps(&self.lengths, &self.weights, &self.plan.order(), self.epoch);
        }
        let index = (step - self.before - 1) as usize;
        (&self.steps[index], self.epoch as f64 + (index + 1) as f64 / self.steps.len() as f64)
    }
}

/// The flat batch of some examples.
pub fn batch_of(examples: &[Tokens], indices: &[usize]) -> Batch {
    let mut batch = Batch::default();
    for &i in indices {
        batch.push(&examples[i].ids, &examples[i].trained);
    }
    batch
}

/// What the loop carries from step to step.
struct Progress {
    state: RunState,
    /// Active seconds of earlier sessions.
    earlier_seconds: f64,
    started: Instant,
    last_saved: Instant,
    saved_step: Option<u64>,
    ledger: Ledger,
    session_steps: u64,
    /// Slowest and fastest steps of this session, seconds.
    step_seconds: Vec<f64>,
}

impl Progress {
    fn seconds(&self) -> f64 {
        self.earlier_seconds + self.started.elapsed().as_secs_f64()
    }

    fn eta(&self, left: u64) -> Interval {
        let n = self.step_seconds.len().max(1) as f64;
        // Only this session's rate counts; the first step warms caches and is left out once there are others.
        let recent = &self.step_seconds
            [self.step_seconds.len().saturating_sub(50).max(usize::from(self.step_seconds.len() > 1))..];
        let mean = recent.iter().sum::<f64>() / recent.len().max(1) as f64;
        let expected = mean * left as f64;
        let spread = (0.05 + 0.15 / n.sqrt()).min(0.2);
        Interval { low: expected * (1.0 - spread), expected, high: expected * (1.0 + spread) }
    }
}

impl<B: Backend> Trainer<'_, '_, B> {
    /// Train until the plan is done or a request or the sink ends it. `resume`: continue from this state, which
    /// has been restored into `decoder`.
    pub fn run(
        &mut self,
        decoder: &mut Decoder<B>,
        sink: &mut dyn EventSink,
        resume: Option<RunState>,
    ) -> Result<RunOutcome> {
        let guard = Guard::new(self.plan, self.guard, decoder.spec.vocab_size);
        let mut schedule = Schedule::new(self.train, self.plan);
        let rates = self.plan.schedule();
        let resumed = resume.is_some();
        let state = resume.unwrap_or_else(|| RunState {
            step: 0,
            tokens: 0,
            seconds: 0.0,
            loss: 0.0,
            validation_loss: None,
            best: None,
            evaluations_without_gain: 0,
            fingerprint: self.fingerprint.clone(),
            guard: GuardState::default(),
        });
        let mut state = state;
        let first = schedule.at(state.step + 1).0.clone();
        let mut acts = self.first_room(decoder, sink, &mut state, &first)?;
        let now = Instant::now();
        let mut progress = Progress {
            earlier_seconds: state.seconds,
            saved_step: resumed.then_some(state.step),
            ledger: Ledger::open(self.directory, state.step)?,
            state,
            started: now,
            last_saved: now,
            session_steps: 0,
            step_seconds: Vec::new(),
        };
        if !resumed {
            // Before anything is saved: a run that goes on from step 0 has told them.
            if let Some(samples) = self.samples {
                self.told(decoder, &mut acts, sink, &mut progress.state, samples, false)?;
            }
            self.before_first_step(decoder, &mut acts, sink, &guard, &mut progress)?;
        }
        let mut halt = None;
        let mut answering = answering::Answering::new(self.plan.method == peft_plan::Method::Full);
        while progress.state.step < self.plan.total_steps && !self.is_stopped_early(&progress.state) {
            match (self.request)().or(halt.take()) {
                Some(Request::Evaluate) => self.evaluate_aside(decoder, &mut acts, sink, &mut progress.state)?,
                Some(Request::Snapshot) => self.save(decoder, sink, &mut progress)?,
                Some(request) => return self.halted(request, decoder, sink, &mut progress),
                None => {}
            }
            let step = progress.state.step + 1;
            let begun = Instant::now();
            let (batches, epoch) = schedule.at(step);
            let batches = guard.batches(&progress.state.guard, batches, self.train);
            let plan = guard.acting_plan(&progress.state.guard);
            let rate = rates.at(step) * progress.state.guard.rate_factor;
            let outcome = match &mut self.reference {
                None => optimizer_step(decoder, &mut acts, self.train, &batches, &plan, step, rate),
                Some(reference) => {
                    preference_step(decoder, &mut acts, self.train, &batches, &plan, reference, step, rate)
                }
            };
            let outcome = match outcome {
                // Nothing was updated: the step is done again in less memory.
                Err(fault) if room::is_want(&fault) => {
                    self.make_room(decoder, &mut acts, sink, &mut progress, (step, fault, &batches))?;
                    continue;
                }
                outcome => outcome?,
            };
            if !outcome.is_finite() {
                let broken = (step, rate, &batches);
                match self.broken_step(decoder, &mut acts, sink, &guard, &mut progress, broken)? {
                    Some(finding) => return self.halted_by(finding, decoder, sink, &mut progress),
                    None => continue,
                }
            }
            progress.ledger.append(step, &outcome.rows)?;
            progress.session_steps += 1;
            let seconds = begun.elapsed().as_secs_f64();
            progress.step_seconds.push(seconds);
            progress.state.step = step;
            progress.state.tokens += outcome.tokens;
            progress.state.loss = outcome.loss;
            let event = RunEvent::Step(StepMetrics {
                step,
                epoch,
                loss: outcome.loss,
                gradient_norm: outcome.gradient_norm,
                learning_rate: rate,
                tokens: outcome.tokens,
                tokens_per_second: outcome.computed_tokens as f64 / seconds,
                memory_bytes: self.peak_bytes(decoder),
                eta_seconds: progress.eta(self.plan.total_steps - step),
                preference: outcome.preference,
            });
            if sink.emit(&event) == ControlFlow::Break(()) {
                halt = Some(Request::Interrupt);
            }
            answering.work(decoder, self.questions, step, seconds);
            let rows = guard.rows(&mut progress.state.guard, step, &outcome.rows);
            let mut found = guard.observe(&mut progress.state.guard, &event);
            found.extend(rows);
            found.extend(guard.memory(&mut progress.state.guard, step, room::reading(&decoder.be)));
            found.extend(self.device_changed(&decoder.be, &mut progress.state));
            if probe::is_due(self.plan, step) {
                found.extend(self.probe(decoder, &mut acts, sink, &guard, &mut progress)?);
            }
            let last = step == self.plan.total_steps;
            let evaluates = last || (self.plan.evaluate_every > 0 && step.is_multiple_of(self.plan.evaluate_every));
            if let Some(samples) = self.samples.filter(|_| evaluates) {
                self.told(decoder, &mut acts, sink, &mut progress.state, samples, true)?;
            }
            if !self.validation.is_empty() && evaluates {
                let event = self.evaluate(decoder, &mut acts, sink, &mut progress)?;
                found.extend(guard.observe(&mut progress.state.guard, &event));
            }
            match self.react(decoder, &mut acts, sink, &guard, &mut progress, (found, &batches))? {
                rewind::Next::GoOn => {}
                rewind::Next::Rewound => continue,
                rewind::Next::Halt(finding) => return self.halted_by(*finding, decoder, sink, &mut progress),
            }
            let due = self.plan.checkpoint_every_steps.is_some_and(|n| step.is_multiple_of(n))
                || step.is_multiple_of(self.plan.anchor_every())
                || progress.last_saved.elapsed().as_secs_f64() >= self.plan.checkpoint_every_seconds;
            if due || last {
                self.save(decoder, sink, &mut progress)?;
            }
        }
        self.finished(decoder, sink, &mut progress)
    }

    /// So many evaluations brought nothing that the run is over.
    fn is_stopped_early(&self, state: &RunState) -> bool {
        self.plan.early_stopping_patience.is_some_and(|patience| state.evaluations_without_gain >= patience)
    }

    /// Score the held-out rows because somebody asked. What the run decides by is not touched: it goes on as if
    /// nobody had.
    fn evaluate_aside(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        state: &mut RunState,
    ) -> Result<()> {
        if self.validation.is_empty() {
            return Ok(());
        }
        let event = RunEvent::Evaluation(self.scored(decoder, acts, sink, state)?);
        let _continue = sink.emit(&event);
        Ok(())
    }

    /// Score the held-out rows, so many together as there is memory for.
    pub(super) fn scored(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        state: &mut RunState,
    ) -> Result<Evaluation> {
        let step = state.step;
        self.in_room(decoder, acts, sink, state, |trainer, decoder, acts, guard| {
            trainer.scored_now(decoder, acts, step, guard.score_tokens())
        })
    }

    fn scored_now(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        step: u64,
        tokens: usize,
    ) -> Result<Evaluation> {
        decoder.prepare().map_err(device)?;
        let plan = self.plan.preference.as_ref();
        let (totals, loss, preference) = if let (Some(reference), Some(plan)) = (&mut self.reference, plan) {
            let scores = reference.evaluate(decoder, acts, self.validation, plan)?;
            (scores.answers, scores.loss, Some(scores.metrics()))
        } else {
            let totals = score::score_within(decoder, acts, self.validation, true, tokens)?;
            (totals, totals.mean_loss(), None)
        };
        Ok(Evaluation {
            step,
            loss,
            perplexity: totals.mean_loss().exp(),
            token_accuracy: totals.accuracy(),
            preference,
        })
    }

    fn evaluate(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        progress: &mut Progress,
    ) -> Result<RunEvent> {
        let evaluation = self.scored(decoder, acts, sink, &mut progress.state)?;
        let state = &mut progress.state;
        let loss = evaluation.loss;
        state.validation_loss = Some(loss);
        if state.best.is_none_or(|(_, best)| loss < best) {
            state.best = Some((state.step, loss));
            state.evaluations_without_gain = 0;
            let path = self.directory.join("best.safetensors");
            if self.plan.method != peft_plan::Method::Full {
                let bytes = crate::peft_format::adapter_tensors_bytes(&adapter::tensors(decoder)?);
                durable::write_file(&path, &bytes).map_err(|e| Fault::io("save the best adapter", &path, e))?;
            }
        } else {
            state.evaluations_without_gain += 1;
        }
        let event = RunEvent::Evaluation(evaluation);
        let _continue = sink.emit(&event);
        Ok(event)
    }

    fn save(&self, decoder: &mut Decoder<B>, sink: &mut dyn EventSink, progress: &mut Progress) -> Result<()> {
        if progress.saved_step == Some(progress.state.step) {
            return Ok(());
        }
        let begun = Instant::now();
        // Whatever tells of these steps is on disk before the checkpoint says that they are done.
        progress.ledger.sync()?;
        sink.sync();
        progress.state.seconds = progress.seconds();
        let (path, bytes) = checkpoint::save(self.directory, decoder, &progress.state)?;
        if self.plan.method != peft_plan::Method::Full {
            let small = self.directory.join("adapters").join(format!("step-{}.safetensors", progress.state.step));
            let bytes = crate::peft_format::adapter_tensors_bytes(&adapter::tensors(decoder)?);
            let io = |e| Fault::io("save the adapter", &small, e);
            durable::create_directories(&self.directory.join("adapters")).map_err(io)?;
            durable::write_file(&small, &bytes).map_err(io)?;
        }
        let anchor = self.plan.anchor_every();
        checkpoint::prune(self.directory, progress.state.step, self.plan.checkpoint_keep, anchor)?;
        if progress.state.step >= 2 * anchor {
            checkpoint::forget_start(self.directory)?;
        }
        progress.saved_step = Some(progress.state.step);
        progress.last_saved = Instant::now();
        let _continue = sink.emit(&RunEvent::Checkpoint {
            step: progress.state.step,
            path: path.display().to_string(),
            bytes,
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    fn halted(
        &mut self,
        request: Request,
        decoder: &mut Decoder<B>,
        sink: &mut dyn EventSink,
        progress: &mut Progress,
    ) -> Result<RunOutcome> {
        if progress.state.step > 0 {
            self.save(decoder, sink, progress)?;
        }
        let step = progress.state.step;
        if request == Request::Stop {
            decoder.prepare().map_err(device)?;
            (self.write_result)(decoder)?;
            let _continue = sink.emit(&RunEvent::Stopped { step });
            return Ok(RunOutcome::Stopped(step));
        }
        let _continue = sink.emit(&RunEvent::Paused { step });
        Ok(if request == Request::Pause { RunOutcome::Paused(step) } else { RunOutcome::Interrupted(step) })
    }

    /// Halt because of a finding, which has been told.
    fn halted_by(
        &self,
        finding: Finding,
        decoder: &mut Decoder<B>,
        sink: &mut dyn EventSink,
        progress: &mut Progress,
    ) -> Result<RunOutcome> {
        if progress.state.step > 0 {
            self.save(decoder, sink, progress)?;
        }
        let _continue = sink.emit(&RunEvent::Paused { step: progress.state.step });
        Ok(RunOutcome::Halted(Box::new(finding)))
    }

    fn finished(
        &mut self,
        decoder: &mut Decoder<B>,
        sink: &mut dyn EventSink,
        progress: &mut Progress,
    ) -> Result<RunOutcome> {
        decoder.prepare().map_err(device)?;
        // Also when patience ended just with the last step.
        if self.is_stopped_early(&progress.state) && self.plan.method != peft_plan::Method::Full {
            // Early stopping: what is kept is the best, not the last.
            let path = self.directory.join("best.safetensors");
            let best = crate::peft_format::read_tensors(&path)?;
            let be = decoder.be.clone();
            for p in decoder.params_mut() {
                if let Some((_, data)) = best.get(&p.name) {
                    be.upload(&mut p.value, data).map_err(device)?;
                }
            }
            decoder.prepare().map_err(device)?;
        }
        let path = (self.write_result)(decoder)?;
        let finished = Finished {
            step: progress.state.step,
            seconds: progress.seconds(),
            loss: progress.state.loss,
            validation_loss: progress.state.validation_loss,
            quality_score: None,
            quality_parts: Vec::new(),
            suggestions: Vec::new(),
            adapter: path.display().to_string(),
            version: None,
            peak_memory_bytes: self.peak_bytes(decoder),
        };
        let _continue = sink.emit(&RunEvent::Finished(finished.clone()));
        Ok(RunOutcome::Finished(finished))
    }
}
