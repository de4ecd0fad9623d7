//! The bytes of a file, hashed as they pass, with a first piece to look at before reading on.

use durable::hex;
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// How much of a file decides its encoding and container.
pub(crate) const PREFIX: usize = 256 << 10;

/// A reader that hashes and counts everything that is read through it.
pub(crate) struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// The first bytes of the file; all of it if it is shorter than [`PREFIX`].
    pub(crate) fn prefix(&mut self) -> io::Result<Vec<u8>> {
        let mut prefix = Vec::new();
        self.take(PREFIX as u64).read_to_end(&mut prefix)?;
        Ok(prefix)
    }

    /// Read what is left, so that the hash is always that of the whole file.
    pub(crate) fn finish(mut self) -> io::Result<(String, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((hex(&self.hasher.finalize()), self.bytes))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.hasher.update(&out[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_covers_the_whole_file_even_when_reading_stops_early() {
        let mut raw = HashingReader::new(&b"abc"[..]);
        let mut first = [0; 1];
        raw.read_exact(&mut first).expect("a byte");
        let (sha256, bytes) = raw.finish().expect("in memory");
        assert_eq!(bytes, 3);
        assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
