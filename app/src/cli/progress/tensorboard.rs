//! Event files for TensorBoard: its record framing, the few fields of its messages that numbers need, and a restart
//! mark where a run goes on from an earlier step.
//!
//! A file is only ever appended to. A process that goes on with a run writes a file of its own, whose restart mark
//! takes back what earlier files say about later steps; a record that a killed process could not finish ends its file
//! for every reader.

use super::{Receiver, rewound_to};
use peft_plan::config::TensorboardPlace;
use peft_plan::{Evaluation, Fault, PreferenceMetrics, RunConfig, RunEvent};
use peft_storage::Run;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What file names have in common.
const PREFIX: &str = "events.out.tfevents.";

/// Where the event files of `run` go, if it asked for any: its own folder `tensorboard`, or a folder with its id in
/// the one that was named, so that several runs can be shown side by side.
pub(super) fn place(run: &Run) -> Option<PathBuf> {
    match RunConfig::from_value(run.config.clone()).ok()?.logging.tensorboard? {
        TensorboardPlace::Own(false) => None,
        TensorboardPlace::Own(true) => Some(run.directory.join("tensorboard")),
        TensorboardPlace::Folder(folder) => Some(Path::new(&folder).join(run.id.as_str())),
    }
}

/// Appends a run's numbers to an event file.
pub struct Tensorboard {
    folder: PathBuf,
    file: Option<(PathBuf, File)>,
}

impl Tensorboard {
    /// For the event files in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, file: None }
    }

    /// Begin a file that sorts behind all that are there: readers go by the order of the names.
    fn begin(&mut self, now: f64) -> io::Result<()> {
        durable::create_directories(&self.folder)?;
        let mut second = now as u64;
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let theirs = rest.and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
            second = second.max(theirs.map_or(0, |theirs| theirs.saturating_add(1)));
        }
        let path = self.folder.join(format!("{PREFIX}{second:010}.peft-studio.{}.0", std::process::id()));
        let file = File::options().append(true).create_new(true).open(&path)?;
        self.file = Some((path, file));
        self.write(&message(now, 0, &text(3, "brain.Event:2")))
    }

    /// From `step` on, what was told before never happened. The first mark of a folder only says that it begins.
    fn restart(&mut self, now: f64, step: u64) -> io::Result<()> {
        if self.file.is_none() {
            self.begin(now)?;
        }
        // A session log whose status is START.
        self.write(&message(now, step, &nested(7, &[0x08, 0x01])))
    }

    fn scalars(&mut self, now: f64, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        if self.file.is_none() {
            self.restart(now, 0)?;
        }
        let value = |(tag, number): &(&str, f64)| {
            let mut value = text(1, tag);
            value.push(0x15);
            value.extend((*number as f32).to_le_bytes());
            nested(1, &value)
        };
        let summary: Vec<u8> = values.iter().flat_map(value).collect();
        self.write(&message(now, step, &nested(5, &summary)))
    }

    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.file {
            // One call: what is in the file are whole records, unless the disk is full.
            Some((_, file)) => file.write_all(&record(message)),
            None => Ok(()),
        }
    }

    fn take(&mut self, event: &RunEvent, now: f64) -> io::Result<()> {
        match event {
            RunEvent::Started(_) => {
                self.file = None;
                self.restart(now, 0)
            }
            RunEvent::Resumed { step } => {
                self.file = None;
                self.restart(now, step + 1)
            }
            RunEvent::Step(step) => {
                let mut values = vec![
                    ("loss", step.loss),
                    ("gradient_norm", step.gradient_norm),
                    ("learning_rate", step.learning_rate),
                    ("epoch", step.epoch),
                    ("tokens_per_second", step.tokens_per_second),
                    ("memory_bytes", step.memory_bytes as f64),
                ];
                if let Some(metrics) = &step.preference {
                    values.extend(preferences(metrics, ["chosen_reward", "rejected_reward", "margin", "accuracy"]));
                }
                self.scalars(now, step.step, &values)
            }
            RunEvent::Evaluation(evaluation) => {
                let Evaluation { step, loss, perplexity, token_accuracy, preference } = evaluation;
                let mut values = vec![
                    ("eval/loss", *loss),
                    ("eval/perplexity", *perplexity),
                    ("eval/token_accuracy", *token_accuracy),
                ];
                if let Some(metrics) = preference {
                    let tags = ["eval/chosen_reward", "eval/rejected_reward", "eval/margin", "eval/accuracy"];
                    values.extend(preferences(metrics, tags));
                }
                self.scalars(now, *step, &values)
            }
            other => rewound_to(other).map_or(Ok(()), |step| self.restart(now, step + 1)),
        }
    }
}

impl Receiver for Tensorboard {
    fn receive(&mut self, event: &RunEvent) -> Result<(), Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
        self.take(event, now).map_err(|error| {
            let path = self.file.as_ref().map_or(&self.folder, |(path, _)| path);
            Fault::io("write", path, error)
        })
    }
}

/// What preferences add, under these tags; what an objective does not have is left out.
fn preferences(metrics: &PreferenceMetrics, tags: [&'static str; 4]) -> impl Iterator<Item = (&'static str, f64)> {
    let PreferenceMetrics { chosen_reward, rejected_reward, margin, accuracy, .. } = *metrics;
    let values = [chosen_reward, rejected_reward, margin, Some(accuracy)];
    tags.into_iter().zip(values).filter_map(|(tag, value)| Some((tag, value?)))
}

/// `Event { wall_time, step, … }`, with one more field that is encoded already.
fn message(wall_time: f64, step: u64, more: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x09];
    bytes.extend(wall_time.to_le_bytes());
    if step > 0 {
        bytes.push(0x10);
        varint(&mut bytes, step);
    }
    bytes.extend(more);
    bytes
}

fn text(field: u8, content: &str) -> Vec<u8> {
    nested(field, content.as_bytes())
}

/// A field with a length.
fn nested(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    varint(&mut bytes, content.len() as u64);
    bytes.extend(content);
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// `TFRecord`: length, its checksum, content, its checksum.
fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked(crc32c(&length)).to_le_bytes());
    bytes.extend(content);
    bytes.extend(masked(crc32c(content)).to_le_bytes());
    bytes
}

/// A checksum of data that holds checksums would be weak: `TFRecord` turns and shifts it.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli), reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = i as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::{Interval, StepMetrics};

    /// What `tensorboardX` wrote: `fixtures/make_options.py`.
    const GOLDEN: &[u8] = include_bytes!("../../../../tests/fixtures/options/events");

    #[test]
    fn records_are_those_of_tensorboardx() {
        let value: Vec<u8> = [text(1, "loss"), [&[0x15][..], &1.25_f32.to_le_bytes()].concat()].concat();
        let own = [
            record(&message(1.5e9, 0, &text(3, "brain.Event:2"))),
            record(&message(1.5e9 + 0.5, 7, &nested(7, &[0x08, 0x01]))),
            record(&message(1.5e9 + 1.0, 300, &nested(5, &nested(1, &value)))),
        ];
        assert_eq!(own.concat(), GOLDEN);
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    /// Contents of the records of a file, each checked.
    fn contents(path: &Path) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(path).expect("a file");
        let mut rest = &bytes[..];
        let mut contents = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(*rest.first_chunk().expect("a length")) as usize;
            let content = &rest[12..12 + length];
            assert_eq!(rest[..16 + length], record(content), "a checksum is wrong");
            contents.push(content.to_vec());
            rest = &rest[16 + length..];
        }
        contents
    }

    fn step(step: u64) -> RunEvent {
        RunEvent::Step(StepMetrics {
            step,
            epoch: 0.5,
            loss: 2.0,
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            tokens: 100,
            tokens_per_second: 50.0,
            memory_bytes: 1,
            preference: None,
            eta_seconds: Interval { low: 0.0, expected: 0.0, high: 0.0 },
        })
    }

    #[test]
    fn a_resumed_run_takes_back_the_steps_after_its_checkpoint() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("a/b");
        let mut first = Tensorboard::new(folder.clone());
        first.take(&step(1), 100.0).expect("written");
        first.take(&step(200), 101.0).expect("written");
        let mut second = Tensorboard::new(folder.clone());
        // The clock went back.
        second.take(&RunEvent::Resumed { step: 150 }, 50.0).expect("written");
        second.take(&step(151), 51.0).expect("written");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
        files.sort();
        assert_eq!(files.len(), 2);
        let [first, second] = [contents(&files[0]), contents(&files[1])];
        assert_eq!((first.len(), second.len()), (4, 3));
        let mark = |records: &[Vec<u8>]| records[1][9..].to_vec();
        assert_eq!(mark(&first), [0x3A, 2, 8, 1], "a session begins at step 0");
        assert_eq!(mark(&second), [0x10, 151, 1, 0x3A, 2, 8, 1], "and again at step 151");
        assert!(first[2].windows(4).any(|w| w == b"loss") && second[2].windows(8).any(|w| w == b"learning"));
    }
}
