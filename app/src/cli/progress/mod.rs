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
use peft_plan::{EventSink, Fault, Finished, Reading, RunEvent};
use peft_storage::{Run, Store};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

/// Takes events, and may fail at it.
pub trait Receiver {
    /// One event has happened.
    fn receive(&mut self, event: &RunEvent) -> Result<(), Fault>;
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
pub fn for_run<'a>(context: &Context, store: &'a Store, run: &Run, total_steps: u64) -> Result<RunSink<'a>, Fault> {
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
        receivers.push(Box::new(Terminal::new(total_steps, is_watched)));
    }
    let others = Others { receivers, readings: Vec::new(), is_live: false, step: 0, fault: None };
    Ok(RunSink { recorder: Recorder::new(store, run), others: Arc::new(Mutex::new(others)), fault: None })
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
}
