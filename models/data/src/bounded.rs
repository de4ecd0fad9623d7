//! Rows of a table with a limit on each: a quotation mark that is never closed would swallow the file.

use csv::{ByteRecord, Reader};
use std::io::{self, Read};

/// A reader that gives out a limited number of bytes until the limit is renewed.
#[derive(Debug)]
pub struct Bounded<R> {
    inner: R,
    left: usize,
}

impl<R: Read> Bounded<R> {
    /// `inner`, of which nothing is given out before [`next_record`] allows it.
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0 }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let room = out.len().min(self.left);
        let count = self.inner.read(&mut out[..room])?;
        self.left -= count;
        Ok(count)
    }
}

/// Read the next row of `table`, for which at most `longest` bytes are read; whether there was one.
///
/// # Errors
/// `FileTooLarge` where a row takes more.
pub fn next_record<R: Read>(
    table: &mut Reader<Bounded<R>>,
    record: &mut ByteRecord,
    longest: usize,
) -> io::Result<bool> {
    table.get_mut().left = longest;
    table.read_byte_record(record).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    })
}
