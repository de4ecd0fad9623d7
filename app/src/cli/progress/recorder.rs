//! Events into the store.
//!
//! Steps are written in batches, about once a second; everything else is written at once, after the
//! steps before it.

use super::Receiver;
use super::events_file::steps_told;
use peft_plan::{Fault, RunEvent};
use peft_storage::{Evaluation, Outcome, Run, Status, StepMetrics, Store};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Steps that a crash of the program may take are at most this old.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// However fast steps are, no more of them are held back.
const BATCH_STEPS: usize = 256;

/// Records one run.
pub struct Recorder<'a> {
    store: &'a Store,
    run: String,
    directory: PathBuf,
    pending: Vec<StepMetrics>,
    flushed: Instant,
    started: Instant,
    earlier_seconds: f64,
    summary: Summary,
    lowest: Option<f64>,
    /// The step at which the lowest held-out loss was measured.
    best_step: Option<u64>,
    version: Option<u64>,
}

/// How far a run came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The last step.
    pub step: u64,
    /// Active time, earlier processes included.
    pub seconds: f64,
    /// The latest training loss.
    pub loss: Option<f64>,
    /// The latest held-out loss.
    pub validation_loss: Option<f64>,
}

impl<'a> Recorder<'a> {
    /// Goes on where the record of `run` ends.
    pub fn new(store: &'a Store, run: &Run) -> Self {
        let now = Instant::now();
        let summary =
            Summary { step: run.last_step, seconds: run.seconds, loss: run.loss, validation_loss: run.validation_loss };
        Self {
            store,
            run: run.id.as_str().to_owned(),
            directory: run.directory.clone(),
            pending: Vec::new(),
            flushed: now,
            started: now,
            earlier_seconds: run.seconds,
            summary,
            lowest: None,
            best_step: None,
            version: run.version,
        }
    }

    /// How far the run came.
    pub fn summary(&self) -> Summary {
        Summary { seconds: self.seconds(), ..self.summary }
    }

    /// The version number of a finished run.
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Writes the steps that are held back.
    pub fn flush(&mut self) -> Result<(), Fault> {
        self.flushed = Instant::now();
        // What could not be written now is tried again with the next steps.
        self.store.record_metrics(&self.run, &self.pending, self.seconds())?;
        self.pending.clear();
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.earlier_seconds + self.started.elapsed().as_secs_f64()
    }

    /// The run goes on from `step`: whatever was recorded of later steps never happened.
    fn begin(&mut self, step: u64) -> Result<(), Fault> {
        self.pending.clear();
        self.store.truncate_after(&self.run, step)?;
        self.recover(step)?;
        let run = self.store.get_run(&self.run)?;
        // What a run that goes back has done so far was its time, too.
        self.earlier_seconds = self.seconds();
        self.started = Instant::now();
        self.summary = Summary { step, seconds: 0.0, loss: run.loss, validation_loss: run.validation_loss };
        self.lowest = None;
        self.best_step = None;
        for evaluation in self.store.evaluations(&self.run)?.into_iter().filter(|evaluation| evaluation.step > 0) {
            self.compare(evaluation.step, evaluation.loss);
        }
        Ok(())
    }

    /// A process that is killed right after it saved a checkpoint takes the steps that it held back with it, and
    /// nobody will do them again. The run's own file has them.
    fn recover(&mut self, step: u64) -> Result<(), Fault> {
        let recorded = self.store.last_recorded_step(&self.run)?;
        if recorded >= step {
            return Ok(());
        }
        let told = steps_told(&self.directory, recorded + 1..=step)?;
        let lost: Vec<StepMetrics> = told.iter().map(measured).collect();
        self.store.record_metrics(&self.run, &lost, self.earlier_seconds)
    }

    fn compare(&mut self, step: u64, loss: f64) {
        if loss.is_finite() && self.lowest.is_none_or(|lowest| loss < lowest) {
            self.lowest = Some(loss);
            self.best_step = Some(step);
        }
    }

    fn checkpoint(&mut self, step: u64, path: &Path, bytes: u64) -> Result<(), Fault> {
        self.flush()?;
        self.store.record_checkpoint(&self.run, step, path, bytes, self.best_step == Some(step))?;
        // Old checkpoints make room for new ones.
        for known in self.store.checkpoints(&self.run)? {
            if !known.path.exists() {
                self.store.delete_checkpoint(&self.run, known.step)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, step: u64, kind: &str, event: &RunEvent) -> Result<(), Fault> {
        self.flush()?;
        let document = serde_json::to_value(event).unwrap_or_default();
        self.store.record_event(&self.run, step, kind, &document).map(|_| ())
    }
}

impl Receiver for Recorder<'_> {
    fn receive(&mut self, event: &RunEvent) -> Result<(), Fault> {
        match event {
            RunEvent::Started(started) => {
                self.begin(0)?;
                self.earlier_seconds = 0.0;
                self.store.record_memory(&self.run, Some(started.memory_plan_bytes), None)?;
                self.event(0, "started", event)
            }
            RunEvent::Resumed { step } => {
                self.begin(*step)?;
                self.event(*step, "resumed", event)
            }
            RunEvent::Step(step) => {
                self.summary.step = step.step;
                self.summary.loss = finite(step.loss);
                self.pending.push(measured(step));
                let is_due = self.flushed.elapsed() >= BATCH_TIME || self.pending.len() >= BATCH_STEPS;
                if is_due { self.flush() } else { Ok(()) }
            }
            RunEvent::Evaluation(evaluation) => {
                let peft_plan::Evaluation { step, loss, perplexity, token_accuracy, .. } = *evaluation;
                self.flush()?;
                self.summary.validation_loss = finite(loss);
                // The untouched base is no candidate.
                if step > 0 {
                    self.compare(step, loss);
                }
                self.store.record_evaluation(&self.run, &Evaluation { step, loss, perplexity, token_accuracy })
            }
            RunEvent::Checkpoint { step, path, bytes, .. } => self.checkpoint(*step, Path::new(path), *bytes),
            RunEvent::Probe(probe) => self.event(probe.step, "probe", event),
            RunEvent::Anomaly { step, rewound_to, .. } => self.event(rewound_to.unwrap_or(*step), "anomaly", event),
            RunEvent::Sample { step, .. } => self.event(*step, "sample", event),
            RunEvent::Hardware(reading) => {
                let document = serde_json::to_value(event).unwrap_or_default();
                self.store.record_event(&self.run, reading.step, "hardware", &document).map(|_| ())
            }
            RunEvent::Paused { step } => self.event(*step, "paused", event),
            RunEvent::Stopped { step } => self.event(*step, "stopped", event),
            RunEvent::Finished(finished) => {
                self.flush()?;
                let outcome = Outcome {
                    status: Status::Finished,
                    last_step: finished.step,
                    seconds: finished.seconds,
                    loss: finite(finished.loss),
                    validation_loss: finished.validation_loss.and_then(finite),
                    quality_score: finished.quality_score,
                    error: None,
                };
                self.version = self.store.finish(&self.run, &outcome)?;
                self.event(finished.step, "finished", event)
            }
            RunEvent::Failed { .. } => self.event(self.summary.step, "failed", event),
        }
    }
}

fn measured(step: &peft_plan::StepMetrics) -> StepMetrics {
    StepMetrics {
        step: step.step,
        epoch: step.epoch,
        loss: step.loss,
        gradient_norm: step.gradient_norm,
        learning_rate: step.learning_rate,
        tokens: step.tokens,
        tokens_per_second: step.tokens_per_second,
        memory_bytes: step.memory_bytes,
    }
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::Interval;
    use peft_storage::NewRun;

    fn step(step: u64) -> RunEvent {
        let eta_seconds = Interval { low: 0.0, expected: 0.0, high: 0.0 };
        RunEvent::Step(peft_plan::StepMetrics {
            step,
            epoch: 0.5,
            loss: 10.0 - step as f64,
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            tokens: 100,
            tokens_per_second: 50.0,
            memory_bytes: 1,
            eta_seconds,
            preference: None,
        })
    }

    fn evaluation(step: u64, loss: f64) -> RunEvent {
        let (perplexity, token_accuracy, preference) = (loss.exp(), 0.5, None);
        RunEvent::Evaluation(peft_plan::Evaluation { step, loss, perplexity, token_accuracy, preference })
    }

    fn checkpoint(step: u64, directory: &Path) -> RunEvent {
        let path = directory.join(format!("step-{step}"));
        std::fs::create_dir_all(&path).expect("created");
        RunEvent::Checkpoint { step, path: path.display().to_string(), bytes: 5, seconds: 0.1 }
    }

    fn finished(step: u64) -> RunEvent {
        RunEvent::Finished(peft_plan::Finished {
            step,
            seconds: 12.0,
            loss: 4.0,
            validation_loss: Some(3.0),
            quality_score: None,
            quality_parts: Vec::new(),
            suggestions: Vec::new(),
            adapter: "a".to_owned(),
            version: None,
            peak_memory_bytes: 0,
        })
    }

    #[test]
    fn a_resumed_record_equals_that_of_an_uninterrupted_run() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let script = |recorder: &mut Recorder, directory: &Path, events: &[RunEvent]| {
            for event in events {
                recorder.receive(event).expect("recorded");
            }
            assert!(directory.is_dir());
        };
        let new =
            || store.create_run(&NewRun { name: "r".to_owned(), total_steps: 4, ..NewRun::default() }).expect("new");
        let mut records = Vec::new();
        for is_killed in [false, true] {
            let run = store.get_run(&new()).expect("there");
            let directory = run.directory.clone();
            let mut recorder = Recorder::new(&store, &run);
            script(&mut recorder, &directory, &[step(1), step(2), evaluation(2, 3.0), checkpoint(2, &directory)]);
            if is_killed {
                script(&mut recorder, &directory, &[step(3), evaluation(3, 1.0), step(4)]);
                recorder.flush().expect("written");
                recorder = Recorder::new(&store, &store.get_run(&run.id).expect("there"));
                script(&mut recorder, &directory, &[RunEvent::Resumed { step: 2 }]);
                assert_eq!(recorder.summary().step, 2);
            }
            script(
                &mut recorder,
                &directory,
                &[step(3), evaluation(3, 3.5), checkpoint(3, &directory), step(4), finished(4)],
            );
            let run = store.get_run(&run.id).expect("there");
            assert_eq!((run.status, run.last_step, run.tokens), (Status::Finished, 4, 400));
            assert_eq!(recorder.version(), run.version);
            assert!(run.version.is_some());
            let best: Vec<_> = store.checkpoints(&run.id).expect("there").iter().map(|c| (c.step, c.best)).collect();
            assert_eq!(best, [(2, true), (3, false)]);
            records.push((store.metrics(&run.id).expect("there"), store.evaluations(&run.id).expect("there")));
        }
        assert_eq!(records[0], records[1]);
    }

    #[test]
    fn steps_that_a_killed_process_held_back_are_recovered_from_the_file_of_the_run() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let run = store.get_run(&store.create_run(&NewRun::default()).expect("new")).expect("there");
        let mut file = super::super::EventsFile::open(&run.directory).expect("opened");
        let mut recorder = Recorder::new(&store, &run);
        for number in 1..=6 {
            recorder.receive(&step(number)).expect("recorded");
            file.receive(&step(number)).expect("written");
            if number == 2 {
                recorder.flush().expect("written");
            }
        }
        // Killed after the checkpoint of step 4 was on disk and before anybody was told.
        drop(recorder);
        let mut recorder = Recorder::new(&store, &run);
        recorder.receive(&RunEvent::Resumed { step: 4 }).expect("recorded");
        let steps: Vec<u64> = store.metrics(&run.id).expect("there").iter().map(|m| m.step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
        assert_eq!(store.get_run(&run.id).expect("there").tokens, 400);
    }

    #[test]
    fn checkpoints_that_were_removed_are_forgotten_and_starting_over_forgets_all() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let id = store.create_run(&NewRun::default()).expect("new");
        let run = store.get_run(&id).expect("there");
        let mut recorder = Recorder::new(&store, &run);
        recorder.receive(&checkpoint(1, &run.directory)).expect("recorded");
        std::fs::remove_dir_all(run.directory.join("step-1")).expect("removed");
        recorder.receive(&step(2)).expect("recorded");
        recorder.receive(&checkpoint(2, &run.directory)).expect("recorded");
        let steps: Vec<u64> = store.checkpoints(&id).expect("there").iter().map(|c| c.step).collect();
        assert_eq!(steps, [2]);
        assert_eq!(store.metrics(&id).expect("there").len(), 1);
        recorder.receive(&RunEvent::Resumed { step: 0 }).expect("recorded");
        assert_eq!(store.metrics(&id).expect("there"), []);
        assert_eq!(recorder.summary().loss, None);
    }
}
