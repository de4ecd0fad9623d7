//! Lines of a stream of bytes, as they become whole.

/// Longest line of an answer.
const LONGEST: usize = 4 << 20;

/// What has come and is not yet a line.
#[derive(Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
    start: usize,
}

impl Lines {
    /// More bytes. False where a line became too long.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        if self.start > 0 {
            self.held.drain(..self.start);
            self.start = 0;
        }
        self.held.extend_from_slice(bytes);
        self.held.len() <= LONGEST
    }

    /// The next whole line that is not empty, without its end.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = &self.held[self.start..];
            let length = rest.iter().position(|byte| *byte == b'\n')?;
            let line = rest[..length].trim_ascii().to_vec();
            self.start += length + 1;
            if !line.is_empty() {
                return Some(line);
            }
        }
    }

    /// What is left at the end of the stream.
    pub(crate) fn rest(self) -> Option<Vec<u8>> {
        let rest = self.held[self.start..].trim_ascii().to_vec();
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let text = b"data: one\r\n\r\ndata: t\xc3\xa4\n: comment\nrest";
        for size in 1..text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in text.chunks(size) {
                assert!(lines.push(piece));
                while let Some(line) = lines.next() {
                    found.push(line);
                }
            }
            let expected: [&[u8]; 3] = [b"data: one", b"data: t\xc3\xa4", b": comment"];
            assert_eq!(found, expected, "pieces of {size}");
            assert_eq!(lines.rest().expect("the rest"), b"rest");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'a'; LONGEST]) && lines.next().is_none());
        assert!(!lines.push(b"a"));
    }
}
