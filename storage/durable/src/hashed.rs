//! A file that is hashed while it is written, and the same hash of a file that is already there.

use crate::fs::{DurableFile, Fs};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

pub(crate) const BUFFER_BYTES: usize = 1 << 18;

/// Length and SHA-256 of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Length.
    pub bytes: u64,
    /// SHA-256 in 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Hashes what reaches a writer, and stays failed after the first error: a caller that drops an
/// error cannot turn it into a file with a hole.
pub(crate) struct Hashed<W> {
    pub(crate) writer: W,
    pub(crate) hash: Sha256,
    pub(crate) bytes: u64,
    pub(crate) failed: Option<io::Error>,
}

impl<W> Hashed<W> {
    /// Goes on behind `bytes` bytes that have this hash.
    pub(crate) fn behind(writer: W, bytes: u64, hash: Sha256) -> Self {
        Self { writer, hash, bytes, failed: None }
    }

    /// The error that ended the writing, if one did.
    pub(crate) fn whole(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(same_error(error)))
    }

    /// What was written, and where to.
    pub(crate) fn ended(self) -> (Digest, W) {
        (Digest { bytes: self.bytes, sha256: hex(&self.hash.finalize()) }, self.writer)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.whole()?;
        let written = match self.writer.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            result => result,
        };
        match written {
            Ok(written) => {
                self.hash.update(&bytes[..written]);
                self.bytes += written as u64;
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed = Some(same_error(&error));
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.writer.flush();
        if let Err(error) = &flushed {
            self.failed = Some(same_error(error));
        }
        flushed
    }
}

/// What was written, and the file itself, which is held as long as this lives.
type Written = (Digest, Box<dyn DurableFile>);

/// Creates `path`, lets `write` fill it, and fsyncs it. On an error nothing is left at `path`.
pub(crate) fn write_new(
    fs: &dyn Fs,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Written> {
    write_into(fs, path, fs.create(path)?, write)
}

/// The same into `file`, which was created at `path`.
pub(crate) fn write_into(
    fs: &dyn Fs,
    path: &Path,
    file: Box<dyn DurableFile>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Written> {
    let written = fill(file, write);
    if written.is_err() {
        drop(fs.remove_file(path));
    }
    written
}

fn fill(file: Box<dyn DurableFile>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Written> {
    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, Hashed::behind(file, 0, Sha256::new()));
    write(&mut buffered)?;
    let mut hashed = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    hashed.whole()?;
    hashed.flush()?;
    hashed.writer.sync()?;
    Ok(hashed.ended())
}

/// Length and SHA-256 of the file at `path`, read in pieces.
pub fn sha256_file(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => {
                return Ok(Digest { bytes, sha256: hex(&hash.finalize()) });
            }
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `io::Error` is not `Clone`; its number or kind is what a caller decides by.
pub(crate) fn same_error(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Bytes as people compare hashes: two lower-case hexadecimal digits each.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text
}
