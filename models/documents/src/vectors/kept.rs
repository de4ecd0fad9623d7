//! An index in a file, so that a search reads an eighth of it instead of making it from all vectors again.
//!
//! The file is written from front to end and never changed: rows of bytes, then what is read into memory, then the
//! caller's stamp, then a trailer of fixed length that says how much of each there is. A file that does not add up is
//! no index; whoever has the vectors makes it again. Codes only choose what is compared, so that no file, whatever it
//! holds, makes a score wrong.

use super::VectorIndex;
use super::codes::Codes;
use super::rows::{Rows, read_at};
use peft_kernels::codes::words;
use peft_plan::{Fault, Result};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"PEFTVEC1";

/// Magic, number of vectors, numbers of each, bytes of the stamp, checksum of what lies between rows and trailer.
const TRAILER: usize = 8 + 8 + 8 + 8 + 4;

/// Bytes that are turned into numbers at a time.
const BLOCK: usize = 1 << 16;

/// An index that is read by several threads is ready in half the time; more than these wait for memory.
const MOST_THREADS: usize = 4;

/// Bytes from which on that is worth it.
const WORTH_THREADS: usize = 4 << 20;

/// Writes the file of an index, vector by vector; only what a search reads is in memory.
pub struct VectorWriter<'a> {
    codes: Codes,
    row: Vec<i8>,
    out: &'a mut dyn Write,
}

impl<'a> VectorWriter<'a> {
    /// A file that begins with nothing. The mean is that of `sample`, whose length is the length of all.
    pub fn new(sample: &[Vec<f32>], out: &'a mut dyn Write) -> Result<Self> {
        let codes = Codes::new(sample)?;
        Ok(Self { row: vec![0; codes.length()], codes, out })
    }

    /// A file that begins with those vectors of `old` whose ids are wanted. They are taken as they are there.
    pub fn from(old: &VectorIndex, is_wanted: &dyn Fn(i64) -> bool, out: &'a mut dyn Write) -> Result<Self> {
        let codes = Codes { mean: old.codes.mean.clone(), ..Codes::default() };
        let mut writer = Self { row: vec![0; codes.length()], codes, out };
        for place in (0..old.len()).filter(|place| is_wanted(old.codes.ids[*place])) {
            old.rows.row(place, &mut writer.row).map_err(|error| damaged("read", error))?;
            writer.codes.add_known(&old.codes, place);
            writer.write_row()?;
        }
        Ok(writer)
    }

    /// Adds a vector.
    pub fn add(&mut self, id: i64, vector: &[f32]) -> Result<()> {
        self.codes.add(id, vector, &mut self.row)?;
        self.write_row()
    }

    fn write_row(&mut self) -> Result<()> {
        let bytes: Vec<u8> = self.row.iter().map(|number| number.cast_unsigned()).collect();
        self.out.write_all(&bytes).map_err(|error| damaged("write", error))
    }

    /// The rest of the file. The stamp says what it was made from.
    pub fn finish(self, stamp: &str) -> Result<()> {
        let Self { codes, out, .. } = self;
        let Codes { mean, ids, signs, set, factors, steps } = &codes;
        let mut hashed = Hashed { out, hash: crc32fast::Hasher::new() };
        let mut write = || -> io::Result<()> {
            hashed.numbers(mean, f32::to_le_bytes)?;
            hashed.numbers(ids, i64::to_le_bytes)?;
            hashed.numbers(signs, u64::to_le_bytes)?;
            hashed.numbers(set, u32::to_le_bytes)?;
            hashed.numbers(factors, f32::to_le_bytes)?;
            hashed.numbers(steps, f32::to_le_bytes)?;
            hashed.write(stamp.as_bytes())?;
            let mut trailer = MAGIC.to_vec();
            for number in [ids.len(), mean.len(), stamp.len()] {
                trailer.extend((number as u64).to_le_bytes());
            }
            trailer.extend(hashed.hash.clone().finalize().to_le_bytes());
            hashed.out.write_all(&trailer)
        };
        write().map_err(|error| damaged("write", error))
    }
}

/// Counts what it writes into a checksum.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hash: crc32fast::Hasher,
}

impl Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    fn numbers<T: Copy, const N: usize>(&mut self, numbers: &[T], bytes: fn(T) -> [u8; N]) -> io::Result<()> {
        numbers.chunks(BLOCK / N).try_for_each(|block| {
            let block: Vec<u8> = block.iter().flat_map(|number| bytes(*number)).collect();
            self.write(&block)
        })
    }
}

impl VectorIndex {
    /// The index in `file` and its stamp; `None` where the file is not a whole one.
    pub fn open(mut file: File) -> io::Result<Option<(Self, String)>> {
        let Some(Trailer { count, length, stamp, checksum }) = Trailer::read(&mut file)? else { return Ok(None) };
        let mut source = Source { file: &file, at: (count * length) as u64, hash: crc32fast::Hasher::new() };
        let codes = Codes {
            mean: source.numbers(length, f32::from_le_bytes)?,
            ids: source.numbers(count, i64::from_le_bytes)?,
            signs: source.numbers(count * words(length), u64::from_le_bytes)?,
            set: source.numbers(count, u32::from_le_bytes)?,
            factors: source.numbers(count, f32::from_le_bytes)?,
            steps: source.numbers(count, f32::from_le_bytes)?,
        };
        let stamp = source.numbers(stamp, u8::from_le_bytes)?;
        let is_whole = source.hash.finalize() == checksum;
        let Some(stamp) = String::from_utf8(stamp).ok().filter(|_| is_whole) else { return Ok(None) };
        Ok(Some((Self { codes, rows: Rows::Kept(file) }, stamp)))
    }
}

/// What the end of the file says, once it agrees with the length of the file.
struct Trailer {
    count: usize,
    length: usize,
    stamp: usize,
    checksum: u32,
}

impl Trailer {
    fn read(file: &mut File) -> io::Result<Option<Self>> {
        let size = file.metadata()?.len();
        let Some(end) = size.checked_sub(TRAILER as u64) else { return Ok(None) };
        let mut bytes = [0; TRAILER];
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut bytes)?;
        let number = |at: usize| bytes[at..][..8].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let (count, length, stamp) = (number(8), number(16), number(24));
        let checksum = bytes[32..].iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let is_ours = &bytes[..8] == MAGIC && length > 0 && Self::sum(count, length, stamp) == Some(end);
        // What a file of this machine holds has a size that fits.
        Ok(is_ours.then_some(Self { count: count as usize, length: length as usize, stamp: stamp as usize, checksum }))
    }

    /// Bytes before the trailer.
    fn sum(count: u64, length: u64, stamp: u64) -> Option<u64> {
        let of_each = length.checked_add(8 + 4 + 4 + 4)?.checked_add(length.div_ceil(64).checked_mul(8)?)?;
        count.checked_mul(of_each)?.checked_add(length.checked_mul(4)?)?.checked_add(stamp)
    }
}

/// Counts what it reads into a checksum.
struct Source<'a> {
    file: &'a File,
    at: u64,
    hash: crc32fast::Hasher,
}

impl Source<'_> {
    /// `count` numbers, of which [`Trailer`] has seen that the file holds them.
    fn numbers<T, const N: usize>(&mut self, count: usize, number: fn([u8; N]) -> T) -> io::Result<Vec<T>>
    where
        T: Copy + Default + Send,
    {
        let mut numbers = vec![T::default(); count];
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(MOST_THREADS));
        let each = if count * N < WORTH_THREADS { count } else { count.div_ceil(threads) }.max(1);
        let (file, at) = (self.file, self.at);
        self.at += (count * N) as u64;
        if each >= count {
            self.hash.combine(&read_numbers(file, at, &mut numbers, number)?);
            return Ok(numbers);
        }
        let parts: Vec<io::Result<crc32fast::Hasher>> = std::thread::scope(|scope| {
            let read = |(index, part)| {
                let at = at + (index * each * N) as u64;
                scope.spawn(move || read_numbers(file, at, part, number))
            };
            let running: Vec<_> = numbers.chunks_mut(each).enumerate().map(read).collect();
            let joined = running.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|part| part.unwrap_or_else(|_| Err(io::Error::other("a reader broke down")))).collect()
        });
        for part in parts {
            self.hash.combine(&part?);
        }
        Ok(numbers)
    }
}

/// Fill `numbers` from `at` on; returns the checksum of what was read.
fn read_numbers<T, const N: usize>(
    file: &File,
    mut at: u64,
    numbers: &mut [T],
    number: fn([u8; N]) -> T,
) -> io::Result<crc32fast::Hasher> {
    let mut hash = crc32fast::Hasher::new();
    let mut block = vec![0; BLOCK];
    for part in numbers.chunks_mut(BLOCK / N) {
        let bytes = &mut block[..part.len() * N];
        read_at(file, bytes, at)?;
        hash.update(bytes);
        at += bytes.len() as u64;
        let (parts, _) = bytes.as_chunks::<N>();
        for (slot, bytes) in part.iter_mut().zip(parts) {
            *slot = number(*bytes);
        }
    }
    Ok(hash)
}

fn damaged(what: &str, error: io::Error) -> Fault {
    Fault::io(what, Path::new("the index of vectors"), error)
}
