//! Compressed files, read as what is in them, piece by piece.
//!
//! A small file can hold any number of gigabytes of zeroes. What comes out may be large, but not out of all
//! proportion to the file.

use flate2::read::MultiGzDecoder;
use peft_plan::Fault;
use std::io::{self, Read};
use std::path::Path;

/// What may come out of any file.
const FREE: u64 = 256 << 20;

/// Bytes that may come out beyond that for each byte of the file; text shrinks to a tenth, rarely to a hundredth.
const LARGEST_RATIO: u64 = 300;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// By how the file begins.
    pub(crate) fn of(prefix: &[u8]) -> Option<Self> {
        match prefix {
            [0x1F, 0x8B, ..] => Some(Self::Gzip),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What is in `inner`, a file of `size` bytes.
    pub(crate) fn inflate<'a>(self, inner: impl Read + 'a, size: u64) -> io::Result<Box<dyn Read + 'a>> {
        let left = FREE.max(size.saturating_mul(LARGEST_RATIO));
        Ok(match self {
            Self::Gzip => Box::new(Bounded { inner: MultiGzDecoder::new(inner), left }),
            Self::Zstd => Box::new(Bounded { inner: zstd::stream::read::Decoder::new(inner)?, left }),
        })
    }
}

/// More came out than any text holds.
#[derive(Debug)]
struct Suspicious;

impl std::fmt::Display for Suspicious {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it unpacks to more than any text does")
    }
}

impl std::error::Error for Suspicious {}

struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(Suspicious))?;
        Ok(count)
    }
}

/// The fault of a compressed file that cannot be read to its end.
pub(crate) fn fault(path: &Path, compression: Compression, error: io::Error) -> Fault {
    if matches!(error.get_ref(), Some(inner) if inner.is::<Suspicious>()) {
        let detail = format!(
            "`{}` unpacks to more than {LARGEST_RATIO} times its size, which no text does; it was not read further",
            path.display()
        );
        return Fault::new("PS-DATA-012", detail);
    }
    // The disk reports other kinds.
    let damaged = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput, io::ErrorKind::UnexpectedEof];
    if damaged.contains(&error.kind()) || error.kind() == io::ErrorKind::Other {
        let name = compression.name();
        let detail = format!("`{}` is a damaged or incomplete {name} file: {error}", path.display());
        return Fault::new("PS-DATA-001", detail).action("Download or copy the file again", None);
    }
    Fault::io("read", path, error)
}
