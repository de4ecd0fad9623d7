//! Lines of a stream, one at a time, in bounded memory.
//!
//! A line longer than the limit is skipped without ever being held: a 2 GB file without a line
//! break costs no more than the limit.

use std::io::{self, BufRead, Read};

/// The longest line, CSV record or JSON element that is read.
pub(crate) const LONGEST_LINE: usize = 64 << 20;

/// Capacity worth keeping after a long line.
const KEPT: usize = 1 << 20;

/// How much of an overlong line is shown.
const SHOWN: usize = 200;

/// One line without its line break.
pub(crate) enum Line<'a> {
    /// The bytes of the line.
    Whole(&'a [u8]),
    /// Longer than the limit: how it starts and how long it is.
    TooLong { start: &'a [u8], bytes: u64 },
}

/// A reader of lines, counted from 1.
pub(crate) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    limit: usize,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self::with_limit(reader, LONGEST_LINE)
    }

    pub(crate) fn with_limit(reader: R, limit: usize) -> Self {
        Self { reader, buffer: Vec::new(), limit, number: 0 }
    }

    /// The next line and its number, or `None` at the end.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<(usize, Line<'_>)>> {
        self.buffer.clear();
        if self.buffer.capacity() > KEPT {
            self.buffer.shrink_to(KEPT);
        }
        let count = self.reader.by_ref().take(self.limit as u64 + 1).read_until(b'\n', &mut self.buffer)?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        } else if self.buffer.len() > self.limit {
            self.buffer.truncate(SHOWN);
            self.buffer.shrink_to(KEPT);
            let rest = self.reader.skip_until(b'\n')?;
            let bytes = count as u64 + rest as u64;
            return Ok(Some((self.number, Line::TooLong { start: &self.buffer, bytes })));
        }
        Ok(Some((self.number, Line::Whole(&self.buffer))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn lines_end_with_either_line_break_or_the_file() {
        let mut lines = Lines::new(&b"a\r\n\nb"[..]);
        let mut seen = Vec::new();
        while let Some((number, line)) = lines.next_line().expect("in memory") {
            let Line::Whole(bytes) = line else { panic!("short line") };
            seen.push((number, bytes.to_vec()));
        }
        assert_eq!(seen, [(1, b"a".to_vec()), (2, Vec::new()), (3, b"b".to_vec())]);
    }

    #[test]
    fn two_gigabytes_in_one_line_are_never_held() {
        let limit = 1 << 20;
        let endless = io::repeat(b'a').take(2 << 30).chain(&b"\nafter\n"[..]);
        let mut lines = Lines::with_limit(BufReader::with_capacity(1 << 20, endless), limit);
        let (number, line) = lines.next_line().expect("in memory").expect("a line");
        let Line::TooLong { start, bytes } = line else { panic!("too long") };
        assert_eq!((number, start.len(), bytes), (1, SHOWN, (2 << 30) + 1));
        assert!(lines.buffer.capacity() <= 2 * limit);
        let (number, line) = lines.next_line().expect("in memory").expect("a line");
        assert!(matches!(line, Line::Whole(b"after")));
        assert_eq!(number, 2);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_read() {
        let mut lines = Lines::with_limit(&b"abcd\nabcde\n"[..], 4);
        assert!(matches!(lines.next_line(), Ok(Some((1, Line::Whole(b"abcd"))))));
        assert!(matches!(lines.next_line(), Ok(Some((2, Line::TooLong { bytes: 6, .. })))));
    }
}
