//! `events.jsonl` in the run's directory: the same lines that `train --json` prints.
//!
//! The file tells one story from the first step to the last. When a run goes on from a checkpoint,
//! what an earlier process wrote about later steps is cut off, as is a line that it could not finish.

use super::Receiver;
use peft_plan::{Fault, RunEvent, StepMetrics};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Appends events to `events.jsonl`.
#[derive(Debug)]
pub struct EventsFile {
    path: PathBuf,
    file: File,
    /// What is in the file was compared with where the run goes on.
    is_cut: bool,
}

/// What is looked at in a line that is there already.
#[derive(Deserialize)]
struct Mark {
    #[serde(default)]
    step: Option<u64>,
    /// What made a run go back is part of the story at the step that it went back to.
    #[serde(default)]
    rewound_to: Option<u64>,
}

impl EventsFile {
    /// The file of the run in `directory`. Its first event says how much of it is still true.
    pub fn open(directory: &Path) -> Result<Self, Fault> {
        let path = directory.join("events.jsonl");
        let opened = File::options().append(true).create(true).open(&path);
        let file = opened.map_err(|error| Fault::io("write", &path, error))?;
        Ok(Self { path, file, is_cut: false })
    }

    fn write(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            RunEvent::Started(_) => self.file.set_len(0)?,
            RunEvent::Resumed { step } => self.file.set_len(true_length(&self.path, *step)?)?,
            _ if !self.is_cut => self.file.set_len(true_length(&self.path, u64::MAX)?)?,
            _ => {}
        }
        self.is_cut = true;
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        match event {
            RunEvent::Step(_)
            | RunEvent::Evaluation(_)
            | RunEvent::Probe(_)
            | RunEvent::Anomaly { .. }
            | RunEvent::Hardware(_)
            | RunEvent::Sample { .. } => Ok(()),
            _ => self.file.sync_data(),
        }
    }
}

impl Receiver for EventsFile {
    fn receive(&mut self, event: &RunEvent) -> Result<(), Fault> {
        self.write(event).map_err(|error| Fault::io("write", &self.path, error))
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.file.sync_data().map_err(|error| Fault::io("write", &self.path, error))
    }
}

/// Everything that the file of the run in `directory` tells; nothing where there is no file. Lines that are no events
/// are passed over.
pub(super) fn told(directory: &Path) -> Result<Vec<RunEvent>, Fault> {
    let path = directory.join("events.jsonl");
    let mut told = Vec::new();
    let mut read = || -> io::Result<()> {
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            told.extend(serde_json::from_slice::<RunEvent>(&line?).ok());
        }
        Ok(())
    };
    match read() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Fault::io("read", &path, error)),
        _ => Ok(told),
    }
}

/// The steps in `range` that the file of the run in `directory` tells; none where there is no file.
pub(super) fn steps_told(directory: &Path, range: RangeInclusive<u64>) -> Result<Vec<StepMetrics>, Fault> {
    let path = directory.join("events.jsonl");
    let mut told = Vec::new();
    let mut read = || -> io::Result<()> {
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            if let Ok(RunEvent::Step(step)) = serde_json::from_slice(&line?)
                && range.contains(&step.step)
            {
                told.push(step);
            }
        }
        Ok(())
    };
    match read() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Fault::io("read", &path, error)),
        _ => Ok(told),
    }
}

/// How many bytes of the file at `path` are whole lines up to the first about a step after `step`.
fn true_length(path: &Path, step: u64) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut kept = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        let is_whole = line.ends_with(b"\n");
        match serde_json::from_slice::<Mark>(&line) {
            Ok(mark) if is_whole && mark.rewound_to.or(mark.step).is_none_or(|at| at <= step) => kept += length as u64,
            _ => return Ok(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(step: u64) -> RunEvent {
        RunEvent::Paused { step }
    }

    fn opened(directory: &Path) -> EventsFile {
        EventsFile::open(directory).expect("opened")
    }

    fn steps(directory: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(directory.join("events.jsonl")).expect("text");
        assert!(text.ends_with('\n'));
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("every line is JSON");
        text.lines()
            .map(value)
            .map(|event| format!("{} {}", event["event"].as_str().unwrap_or(""), event["step"]))
            .collect()
    }

    #[test]
    fn a_resumed_file_tells_each_step_once_whatever_killed_the_writer() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("events.jsonl");
        let whole: Vec<u8> =
            (1..=5).flat_map(|step| format!("{{\"event\":\"step\",\"step\":{step}}}\n").into_bytes()).collect();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            opened(directory.path()).receive(&RunEvent::Resumed { step: 3 }).expect("written");
            let told = steps(directory.path());
            let lines = whole[..length].split(|byte| *byte == b'\n').skip(1).count().min(3);
            let expected: Vec<String> =
                (1..=lines).map(|step| format!("step {step}")).chain(["resumed 3".to_owned()]).collect();
            assert_eq!(told, expected, "killed after {length} bytes");
        }
    }

    #[test]
    fn damage_in_the_middle_ends_what_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("events.jsonl");
        std::fs::write(&path, b"{\"event\":\"step\",\"step\":1}\n\0\0\0\0\n{\"event\":\"step\",\"step\":2}\n")
            .expect("written");
        opened(directory.path()).receive(&paused(1)).expect("written");
        assert_eq!(steps(directory.path()), ["step 1", "paused 1"]);
    }

    #[test]
    fn one_process_appends_and_a_missing_directory_is_a_fault() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut file = opened(directory.path());
        for step in [1, 2] {
            file.receive(&paused(step)).expect("written");
        }
        opened(directory.path()).receive(&paused(3)).expect("written");
        assert_eq!(steps(directory.path()), ["paused 1", "paused 2", "paused 3"]);
        let fault = EventsFile::open(&directory.path().join("none")).expect_err("no directory");
        assert_eq!(fault.code, "PS-FILE-001");
    }
}
