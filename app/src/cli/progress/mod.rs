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
use peft_plan::{EventSink, Fault, Finished, RunEvent};
use peft_storage::{Run, Store};
use std::io::IsTerminal;
use std::ops::ControlFlow;

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
    others: Vec<Box<dyn Receiver>>,
    fault: Option<Fault>,
}

/// What follows `run` in this process: the store and `events.jsonl` always, stdout with `--json`,
/// and the terminal. Created while the run's lock is held.
pub fn for_run<'a>(context: &Context, store: &'a Store, run: &Run, total_steps: u64) -> Result<RunSink<'a>, Fault> {
    let mut others: Vec<Box<dyn Receiver>> = vec![Box::new(EventsFile::open(&run.directory)?)];
    if let Some(folder) = tensorboard::place(run) {
        others.push(Box::new(Tensorboard::new(folder)));
    }
    if context.json {
        others.push(Box::new(JsonLines));
    }
    let is_watched = std::io::stderr().is_terminal();
    // A script that reads events needs no second report.
    if is_watched || !context.json {
        others.push(Box::new(Terminal::new(total_steps, is_watched)));
    }
    Ok(RunSink { recorder: Recorder::new(store, run), others, fault: None })
}

impl RunSink<'_> {
    /// Tells `receiver` too, from now on.
    pub fn also(&mut self, receiver: Box<dyn Receiver>) {
        self.others.push(receiver);
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
        let recorded = self.recorder.receive(event);
        self.keep(recorded);
        let numbered = match event {
            RunEvent::Finished(finished) => RunEvent::Finished(Finished {
                version: finished.version.or(self.recorder.version()),
                ..finished.clone()
            }),
            other => other.clone(),
        };
        for index in 0..self.others.len() {
            let received = self.others[index].receive(&numbered);
            self.keep(received);
        }
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
