//! How much of a document is read before it is called a trap.

use std::time::Duration;

/// What a reader accepts. Formats that unpack themselves can hold far more than their size says.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a file that has to be held whole.
    pub whole_file: u64,
    /// Bytes that an archive may unpack to, all in all.
    pub unpacked: u64,
    /// How many times its packed size an entry may unpack to, beyond [`Self::unsuspicious`].
    pub ratio: u64,
    /// Bytes of an entry that are unpacked whatever the ratio.
    pub unsuspicious: u64,
    /// Entries of an archive.
    pub entries: usize,
    /// Elements inside one another.
    pub depth: usize,
    /// Warnings that are kept of a file; the others are counted.
    pub warnings: usize,
    /// Bytes of a piece of a file that is read in pieces.
    pub piece: usize,
    /// Bytes of memory that a process of its own may take for a document.
    pub memory: u64,
    /// How long such a process may take for a piece.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            whole_file: 256 << 20,
            unpacked: 256 << 20,
            ratio: 100,
            unsuspicious: 4 << 20,
            entries: 10_000,
            depth: 256,
            warnings: 20,
            piece: 8 << 20,
            memory: 1 << 30,
            silence: Duration::from_mins(1),
        }
    }
}
