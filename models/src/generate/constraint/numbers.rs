//! JSON's grammar allows numbers that no reader can hold, such as 1e999, and digits without end.

/// Digits of a number, before and after its point together.
const MOST_DIGITS: usize = 20;
/// Digits of an exponent.
const MOST_EXPONENT_DIGITS: usize = 2;

/// Follows an answer byte by byte and knows how long the number at its end is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumberWatch {
    in_string: bool,
    escaped: bool,
    digits: usize,
    /// `Some` behind an `e`.
    exponent: Option<usize>,
}

impl NumberWatch {
    pub(super) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.step(byte);
        }
    }

    /// Whether `bytes` would make a number too long.
    pub(super) fn refuses(&self, bytes: &[u8]) -> bool {
        let mut ahead = *self;
        bytes.iter().any(|&byte| {
            ahead.step(byte);
            ahead.digits > MOST_DIGITS || ahead.exponent.is_some_and(|digits| digits > MOST_EXPONENT_DIGITS)
        })
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match (byte, self.exponent) {
            (b'"', _) => *self = Self { in_string: true, ..Self::default() },
            (b'0'..=b'9', Some(digits)) => self.exponent = Some(digits + 1),
            (b'0'..=b'9', None) => self.digits += 1,
            (b'e' | b'E', None) if self.digits > 0 => self.exponent = Some(0),
            (b'.' | b'+' | b'-', _) => {}
            _ => *self = Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_refused_and_long_strings_are_not() {
        let after = |text: &str| {
            let mut watch = NumberWatch::default();
            watch.read(text.as_bytes());
            watch
        };
        assert!(!after("1e1").refuses(b"9") && after("1e19").refuses(b"9"));
        assert!(after("{\"a\": 1").refuses(b"e999"));
        assert!(after("12345678901234567890").refuses(b"1"));
        assert!(!after("12345678901234567890").refuses(b", 1"));
        assert!(!after("\"1e19").refuses(b"99999999999999999999999999"));
        assert!(!after("\"a\\\"1e19").refuses(b"9") && after("\"a\\\"\", 1e19").refuses(b"9"));
        assert!(!after("true").refuses(b"1"));
    }
}
