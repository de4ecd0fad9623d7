//! Where the events of a run go: the store, the run's own file, stdout and the terminal.

mod events_file;
mod recorder;
mod tensorboard;
mod terminal;

pub use events_file::EventsFile;
pub use recorder::{Recorder, Summary};
pub use tensorboard::Tensorboard;
pub use terminal::Terminal;

use super::context::Context;
use super::output;
use crate::jobs::monitor::Monitor;
use peft_plan::{EventSink, Fault, Finished, Quality, Reading, RunEvent, RunView, TrainingPlan, assess};
use peft_storage::{Run, RunLock, Status, Store};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Takes events, and may fail at it.
pub trait Receiver {
    /// One event has happened.
    fn receive(&mut self, event: &RunEvent) -> Result<(), Fault>;
    /// Everything received so far outlives a power cut.
    fn sync(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

/// The step that the run went back to with this event, if it did.
pub fn rewound_to(event: &RunEvent) -> Option<u64> {
    match event {
        RunEvent::Anomaly { .. } => serde_json::to_value(event).ok()?.get("rewound_to")?.as_u64(),
        _ => None,
    }
}

/// One JSON object a line on stdout.
#[derive(Clone, Copy, Debug)]
pub struct JsonLines;

impl Receiver for JsonLines {
    fn receive(&mut self, event: &RunEvent) -> Result<(), Fault> {
        output::print_json(event);
        Ok(())
    }
}

/// Everything that follows a run. The store comes first: nothing is shown that is not recorded, and
/// a finished run has its version number wherever it is told.
pub struct RunSink<'a> {
    recorder: Recorder<'a>,
    others: Arc<Mutex<Others>>,
    fault: Option<Fault>,
    directory: PathBuf,
    plan: TrainingPlan,
}

/// What can be told from any thread, and what was told by another one.
struct Others {
    receivers: Vec<Box<dyn Receiver + Send>>,
    /// Readings that the store has not seen yet.
    readings: Vec<RunEvent>,
    /// The run has begun and not ended: only then is the machine looked at.
    is_live: bool,
    step: u64,
    fault: Option<Fault>,
}

impl Others {
    fn tell(&mut self, event: &RunEvent) {
        for receiver in &mut self.receivers {
            if let Err(fault) = receiver.receive(event) {
                self.fault.get_or_insert(fault);
            }
        }
    }
}

/// What follows `run` in this process: the store and `events.jsonl` always, stdout with `--json`,
/// and the terminal. Created while the run's lock is held.
pub fn for_run<'a>(context: &Context, store: &'a Store, run: &Run, plan: &TrainingPlan) -> Result<RunSink<'a>, Fault> {
    let mut receivers: Vec<Box<dyn Receiver + Send>> = vec![Box::new(EventsFile::open(&run.directory)?)];
    if let Some(folder) = tensorboard::place(run) {
        receivers.push(Box::new(Tensorboard::new(folder)));
    }
    if context.json {
        receivers.push(Box::new(JsonLines));
    }
    let is_watched = std::io::stderr().is_terminal();
    // A script that reads events needs no second report.
    if is_watched || !context.json {
        receivers.push(Box::new(Terminal::new(plan.total_steps, is_watched)));
    }
    let others = Others { receivers, readings: Vec::new(), is_live: false, step: 0, fault: None };
    Ok(RunSink {
        recorder: Recorder::new(store, run),
        others: Arc::new(Mutex::new(others)),
        fault: None,
        directory: run.directory.clone(),
        plan: plan.clone(),
    })
}

/// A finished run whose process was killed before it could tell so: its story gets its end. The store knew already.
pub fn tell_the_end(store: &Store, run: &Run) -> Result<(), Fault> {
    let is_told = |event: &RunEvent| matches!(event, RunEvent::Finished(_));
    if run.status != Status::Finished || events_file::told(&run.directory)?.last().is_some_and(is_told) {
        return Ok(());
    }
    let _lock = RunLock::take(&run.directory)?;
    let stored = store.events(&run.id, 0)?.into_iter().rfind(|event| event.kind == "finished");
    let event = stored.and_then(|event| serde_json::from_value(event.json).ok());
    let mut event = event.unwrap_or_else(|| {
        let result = ["adapter", "model"].map(|name| run.directory.join(name));
        let result = result.iter().find(|path| path.is_dir()).unwrap_or(&result[0]);
        RunEvent::Finished(Finished {
            step: run.last_step,
            seconds: run.seconds,
            loss: run.loss.unwrap_or(f64::NAN),
            validation_loss: run.validation_loss,
            quality_score: run.quality_score,
            quality_parts: Vec::new(),
            suggestions: Vec::new(),
            adapter: result.display().to_string(),
            version: run.version,
            peak_memory_bytes: run.peak_memory_bytes.unwrap_or(0),
        })
    });
    if let RunEvent::Finished(finished) = &mut event {
        finished.version = run.version;
        if finished.suggestions.is_empty()
            && let Ok(plan) = serde_json::from_value(run.plan.clone())
        {
            judge(finished, &run.directory, &plan)?;
        }
    }
    EventsFile::open(&run.directory)?.receive(&event)
}

/// Score a run by what its own file tells of it.
fn judge(finished: &mut Finished, directory: &Path, plan: &TrainingPlan) -> Result<(), Fault> {
    let view = RunView::of(&events_file::told(directory)?);
    let Quality { score, parts, suggestions } = assess(&view, plan);
    finished.quality_score = score;
    finished.quality_parts = parts;
    finished.suggestions = suggestions;
    Ok(())
}

impl RunSink<'_> {
    /// Tells `receiver` too, from now on.
    pub fn also(&mut self, receiver: Box<dyn Receiver + Send>) {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).receivers.push(receiver);
    }

    /// Writes what is still held back, and says how far the run came.
    pub fn finish(&mut self) -> Summary {
        let written = self.recorder.flush();
        self.keep(written);
        self.recorder.summary()
    }

    /// Tells everybody that the run broke.
    pub fn failed(&mut self, event: &RunEvent) {
        self.tell(event);
    }

    /// Why events could not be recorded. A run is asked to save and halt as soon as that happens, so
    /// this is the reason of a pause that nobody asked for.
    pub fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn tell(&mut self, event: &RunEvent) {
        self.record_readings();
        let mut event = event.clone();
        if let RunEvent::Finished(finished) = &mut event {
            let judged = judge(finished, &self.directory, &self.plan);
            self.keep(judged);
        }
        let event = &event;
        let recorded = self.recorder.receive(event);
        self.keep(recorded);
        let numbered = match event {
            RunEvent::Finished(finished) => RunEvent::Finished(Finished {
                version: finished.version.or(self.recorder.version()),
                ..finished.clone()
            }),
            other => other.clone(),
        };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            RunEvent::Started(_) => others.is_live = true,
            RunEvent::Resumed { step } => (others.is_live, others.step) = (true, *step),
            RunEvent::Step(step) => others.step = step.step,
            RunEvent::Paused { .. } | RunEvent::Stopped { .. } | RunEvent::Finished(_) | RunEvent::Failed { .. } => {
                others.is_live = false;
            }
            _ => {}
        }
        others.tell(&numbered);
        let fault = others.fault.take();
        drop(others);
        self.keep(fault.map_or(Ok(()), Err));
    }

    /// The store belongs to this thread: what another one saw is written with the next event.
    fn record_readings(&mut self) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let readings = std::mem::take(&mut others.readings);
        drop(others);
        for reading in &readings {
            let recorded = self.recorder.receive(reading);
            self.keep(recorded);
        }
    }

    /// Looks at the machine every two seconds until the result is dropped, and tells everybody (S4.5.5).
    pub fn watch(&self) -> Monitor {
        let others = Arc::clone(&self.others);
        Monitor::start(move |reading| {
            let mut others = others.lock().unwrap_or_else(PoisonError::into_inner);
            if others.is_live {
                let event = RunEvent::Hardware(Reading { step: others.step, ..reading });
                others.tell(&event);
                others.readings.push(event);
            }
        })
    }

    fn keep(&mut self, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.fault.get_or_insert(fault);
        }
    }
}

impl EventSink for RunSink<'_> {
    fn emit(&mut self, event: &RunEvent) -> ControlFlow<()> {
        self.tell(event);
        if self.fault.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn sync(&mut self) {
        let flushed = self.recorder.flush();
        self.keep(flushed);
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let synced: Vec<_> = others.receivers.iter_mut().map(|receiver| receiver.sync()).collect();
        drop(others);
        for result in synced {
            self.keep(result);
        }
    }
}
