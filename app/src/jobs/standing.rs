//! Where a run stands that halted (S4.13.5): time spent and left, what it took, and how it goes on.

use super::disposal::disk_use;
use peft_plan::fault::Action;
use peft_plan::{Fault, Interval, Result, RunEvent};
use peft_storage::{Run, Status, Store};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// A run that halted and can go on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Active time so far.
    pub elapsed_seconds: f64,
    /// Time left, from its own last steps; `None` before its first step.
    pub remaining_seconds: Option<Interval>,
    /// Memory that its process held at its peak, when it halted.
    pub memory_bytes: Option<u64>,
    /// What its files take.
    pub disk_bytes: u64,
    /// The step it goes on from.
    pub resumes_after_step: u64,
    /// What can be done, the first of it to go on.
    pub actions: Vec<Action>,
}

/// Where `run` stands; `None` for one that is at work, waits, or is over.
pub fn standing(store: &Store, run: &Run) -> Result<Option<Standing>> {
    if !matches!(run.status, Status::Paused | Status::Interrupted | Status::Failed) {
        return Ok(None);
    }
    let last = last_step(run)?;
    let checkpoints = store.checkpoints(&run.id)?;
    let resumes_after_step = checkpoints.iter().map(|checkpoint| checkpoint.step).max().unwrap_or(0);
    let action = |label: &str, command: String| Action { label: label.to_owned(), command: Some(command) };
    let mut actions = vec![action("Go on with it", format!("peft-studio resume {}", run.id))];
    if resumes_after_step > 0 {
        actions.push(action("End it and keep what it learned", format!("peft-studio stop {}", run.id)));
    }
    actions.push(action("See what it said", format!("peft-studio runs log {}", run.id)));
    Ok(Some(Standing {
        elapsed_seconds: run.seconds,
        memory_bytes: last.as_ref().map(|last| last.memory_bytes),
        remaining_seconds: last.map(|last| remaining(run, &last, resumes_after_step)),
        disk_bytes: disk_use(run).total(),
        resumes_after_step,
        actions,
    }))
}

/// The last step that the file of the run tells. Only its end is read: a story can be long.
fn last_step(run: &Run) -> Result<Option<peft_plan::StepMetrics>> {
    const END: u64 = 256 << 10;
    let path = run.directory.join("events.jsonl");
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
        let mut text = Vec::new();
        file.take(END).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| Fault::io("read the events of the run", &path, error))?,
    };
    let step = |line: &[u8]| match serde_json::from_slice(line) {
        Ok(RunEvent::Step(step)) => Some(step),
        _ => None,
    };
    Ok(text.rsplit(|byte| *byte == b'\n').find_map(step))
}

/// What the last step expected, and the steps that have to be done again.
fn remaining(run: &Run, last: &peft_plan::StepMetrics, from: u64) -> Interval {
    let left = run.total_steps.saturating_sub(last.step);
    let again = last.step.saturating_sub(from);
    let Interval { low, expected, high } = last.eta_seconds;
    let (Some(scale), true) = ((left > 0).then(|| (left + again) as f64 / left as f64), low.is_finite()) else {
        let each = run.seconds / last.step.max(1) as f64;
        let expected = each * (left + again) as f64;
        return Interval { low: expected * 0.8, expected, high: expected * 1.2 };
    };
    Interval { low: low * scale, expected: expected * scale, high: high * scale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_storage::{NewRun, StepMetrics};

    fn told(step: u64, eta: f64) -> peft_plan::StepMetrics {
        peft_plan::StepMetrics {
            step,
            epoch: 0.0,
            loss: 1.0,
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            tokens: 1,
            tokens_per_second: 1.0,
            memory_bytes: 5_000_000,
            eta_seconds: Interval { low: eta * 0.9, expected: eta, high: eta * 1.1 },
            preference: None,
        }
    }

    #[test]
    fn a_paused_run_says_what_it_took_and_what_is_left_s4_13_5() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let new = NewRun { name: "r".to_owned(), total_steps: 40, ..NewRun::default() };
        let id = store.create_run(&new).expect("new");
        let of = |status| {
            store.update_status(&id, status).expect("changed");
            standing(&store, &store.get_run(&id).expect("there")).expect("readable")
        };
        assert_eq!(of(Status::Queued), None);
        assert_eq!(of(Status::Paused).expect("halted").remaining_seconds, None, "no step was done");
        let run = store.get_run(&id).expect("there");
        let lines: Vec<String> = (1..=10)
            .map(|step| serde_json::to_string(&RunEvent::Step(told(step, 60.0))).expect("plain") + "\n")
            .collect();
        std::fs::write(run.directory.join("events.jsonl"), lines.concat()).expect("written");
        let metrics = StepMetrics {
            step: 10,
            epoch: 0.0,
            loss: 1.0,
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            tokens: 1,
            tokens_per_second: 1.0,
            memory_bytes: 1,
        };
        store.record_metrics(&id, &[metrics], 20.0).expect("recorded");
        store.record_checkpoint(&id, 10, &run.directory.join("checkpoints/step-10"), 3, true).expect("recorded");
        let paused = of(Status::Paused).expect("halted");
        assert_eq!((paused.elapsed_seconds, paused.memory_bytes), (20.0, Some(5_000_000)));
        assert_eq!(paused.disk_bytes, lines.concat().len() as u64);
        assert_eq!((paused.resumes_after_step, paused.remaining_seconds.expect("known").expected), (10, 60.0));
        assert_eq!(paused.actions[0].command, Some(format!("peft-studio resume {id}")));
        // What was done after the checkpoint has to be done again.
        let again = remaining(&run, &told(10, 60.0), 5);
        assert!((again.expected - 70.0).abs() < 1e-9, "{again:?}");
        assert!(of(Status::Interrupted).is_some() && of(Status::Failed).is_some() && of(Status::Finished).is_none());
    }
}
