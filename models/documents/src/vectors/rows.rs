//! The bytes of all vectors: in memory, or in the file of an index that is kept, where few of them are ever looked at.

use peft_kernels::codes::{product_of_bytes, products_at};
use std::fs::File;
use std::io;

/// Rows that lie at most this far apart are read together: less costs a call each, more reads what nobody asked for.
const NEAR: u32 = 4;

/// Rows that are read together at most.
const TOGETHER: u32 = 64;

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Rows {
    Here(Vec<i8>),
    /// From the beginning of a file that nobody changes.
    Kept(File),
}

impl Rows {
    /// `scores[i]` = the product of `question` and the row `places[i]`. Places are in order.
    pub(super) fn products(&self, scores: &mut [i32], places: &[u32], question: &[i8]) -> io::Result<()> {
        let file = match self {
            Self::Here(bytes) => {
                products_at(scores, bytes, places, question);
                return Ok(());
            }
            Self::Kept(file) => file,
        };
        let length = question.len();
        let (mut buffer, mut row) = (vec![0; TOGETHER as usize * length], vec![0; length]);
        let mut done = 0;
        while let Some(first) = places.get(done) {
            let mut end = done + 1;
            while end < places.len() && places[end] - places[end - 1] <= NEAR && places[end] - first < TOGETHER {
                end += 1;
            }
            let rows = places[end - 1] - first + 1;
            let bytes = &mut buffer[..rows as usize * length];
            read_at(file, bytes, u64::from(*first) * length as u64)?;
            for (score, place) in scores[done..end].iter_mut().zip(&places[done..end]) {
                signed(&mut row, &bytes[(place - first) as usize * length..][..length]);
                *score = product_of_bytes(&row, question);
            }
            done = end;
        }
        Ok(())
    }

    /// The row at `place`.
    pub(super) fn row(&self, place: usize, row: &mut [i8]) -> io::Result<()> {
        match self {
            Self::Here(bytes) => {
                row.copy_from_slice(&bytes[place * row.len()..][..row.len()]);
                Ok(())
            }
            Self::Kept(file) => {
                let mut bytes = vec![0; row.len()];
                read_at(file, &mut bytes, place as u64 * row.len() as u64)?;
                signed(row, &bytes);
                Ok(())
            }
        }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.capacity(),
            Self::Kept(_) => 0,
        }
    }
}

/// Bytes of a file as numbers.
fn signed(row: &mut [i8], bytes: &[u8]) {
    for (number, byte) in row.iter_mut().zip(bytes) {
        *number = byte.cast_signed();
    }
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, mut bytes: &mut [u8], mut place: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, place)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        place += read as u64;
    }
    Ok(())
}
