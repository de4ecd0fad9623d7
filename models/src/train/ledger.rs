//! `rows.ledger`: what every row cost in every step (B7), sixteen bytes a visit.
//!
//! The file is a header and records in the order of the steps. It is only ever appended to, and cut back to a
//! checkpoint where the run goes on from one; it is on disk before a checkpoint is announced. A record that a crash
//! cut short is not there. Nothing in it decides how a run goes on.

use super::Tokens;
use crate::decoder::{Batch, Scores};
use peft_plan::findings::{RowLoss, RowVisit};
use peft_plan::{Fault, Result};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// First bytes of the file, with the version of its layout; as long as a record.
const HEADER: &[u8; RECORD] = b"PEFTROWS\x01\0\0\0\0\0\0\0";
/// Step, row and tokens as `u32`, loss as `f32`, all little-endian.
const RECORD: usize = 16;

/// Where the ledger of the run in `directory` is.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("rows.ledger")
}

/// Appends to the ledger of a run.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Ledger {
    /// The ledger of the run in `directory`, cut back to the steps up to `step`. What is no ledger is replaced.
    pub fn open(directory: &Path, step: u64) -> Result<Self> {
        let path = path(directory);
        let open = || -> io::Result<File> {
            durable::create_directories(directory)?;
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let end = if step == 0 { 0 } else { length_up_to(&mut file, step)? };
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
            if end == 0 {
                file.write_all(HEADER)?;
            }
            Ok(file)
        };
        let file = open().map_err(|e| Fault::io("write", &path, e))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    /// Write down what the rows of `step` cost.
    pub fn append(&mut self, step: u64, rows: &[RowLoss]) -> Result<()> {
        let mut write = || {
            for RowLoss { row, tokens, loss } in rows {
                // Steps beyond u32 would take years; they keep the last number rather than wrap.
                let step = u32::try_from(step).unwrap_or(u32::MAX);
                let mut record = [0; RECORD];
                for (place, word) in record.chunks_exact_mut(4).zip([step, *row, *tokens, loss.to_bits()]) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
                self.file.write_all(&record)?;
            }
            Ok(())
        };
        write().map_err(|e| Fault::io("write", &self.path, e))
    }

    /// On disk, before a checkpoint says that these steps are done.
    pub fn sync(&mut self) -> Result<()> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_data()).map_err(|e| Fault::io("write", &self.path, e))
    }

    /// Forget the steps after `step`.
    pub fn cut(&mut self, step: u64) -> Result<()> {
        let directory = self.path.parent().map(Path::to_owned).unwrap_or_default();
        self.file.flush().map_err(|e| Fault::io("write", &self.path, e))?;
        *self = Self::open(&directory, step)?;
        Ok(())
    }
}

/// Bytes of the whole records up to the last of `step`; 0 where the file is no ledger.
fn length_up_to(file: &mut File, step: u64) -> io::Result<u64> {
    let mut header = [0; RECORD];
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(&mut *file);
    if !fill(&mut reader, &mut header)? || header != *HEADER {
        return Ok(0);
    }
    let mut end = RECORD as u64;
    let mut record = [0; RECORD];
    while fill(&mut reader, &mut record)? {
        if visit(&record).step > step {
            break;
        }
        end += RECORD as u64;
    }
    Ok(end)
}

/// Whether `into` could be filled.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(into) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

fn visit(record: &[u8; RECORD]) -> RowVisit {
    let word = |i: usize| u32::from_le_bytes([record[4 * i], record[4 * i + 1], record[4 * i + 2], record[4 * i + 3]]);
    RowVisit { step: u64::from(word(0)), row: word(1), tokens: word(2), loss: f32::from_bits(word(3)) }
}

/// Every visit of the run in `directory`, in order; none where it keeps no ledger.
pub fn read(directory: &Path) -> Result<Vec<RowVisit>> {
    let path = path(directory);
    let mut visits = Vec::new();
    let mut read = || -> io::Result<()> {
        let mut reader = BufReader::new(File::open(&path)?);
        let mut record = [0; RECORD];
        if !fill(&mut reader, &mut record)? || record != *HEADER {
            return Ok(());
        }
        while fill(&mut reader, &mut record)? {
            visits.push(visit(&record));
        }
        Ok(())
    };
    match read() {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Fault::io("read", &path, e)),
        _ => Ok(visits),
    }
}

/// What each example of a flat batch cost: the losses of its positions are there anyway.
pub(super) fn row_losses(
    examples: &[Tokens],
    indices: &[usize],
    batch: &Batch,
    scores: &Scores,
    into: &mut Vec<RowLoss>,
) {
    for (&index, segment) in indices.iter().zip(&batch.segments) {
        let positions = segment.start..segment.start + segment.len;
        let tokens = batch.targets[positions.clone()].iter().filter(|&&target| target >= 0).count();
        let total: f64 = scores.loss[positions].iter().map(|&loss| f64::from(loss)).sum();
        let loss = (total / tokens.max(1) as f64) as f32;
        into.push(RowLoss { row: examples[index].row, tokens: tokens as u32, loss });
    }
}
