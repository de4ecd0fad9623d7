//! Results on stdout, notes on stderr.
//!
//! Whoever reads stdout may stop reading, as `head` does: that is no failure, and what the command
//! was asked to do is still done. Any other reason why a result cannot be written is one; it is kept
//! until the end, so that a full disk behind a pipe does not end a run.

pub use super::quantity::{bytes, duration};

use peft_plan::{AnswerMemory, Fault};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Why nothing is written to stdout any more.
static ENDED: Mutex<Option<ErrorKind>> = Mutex::new(None);

/// One JSON document on a line of its own.
///
/// # Panics
/// If `value` has maps whose keys are not text, which no result has.
pub fn print_json(value: &impl Serialize) {
    line(&serde_json::to_string(value).expect("results are plain data with text for keys"));
}

/// One line, or several, with a line feed at the end.
pub fn line(content: &str) {
    text(&format!("{content}\n"));
}

/// Text as it is.
pub fn text(content: &str) {
    let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
    if ended.is_none() {
        *ended = deliver(&mut io::stdout().lock(), content).err().map(|error| error.kind());
    }
}

/// Whether nobody reads the results any more.
pub fn is_unread() -> bool {
    ENDED.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// A fault if a result could not be written for another reason than that nobody reads it.
pub fn check() -> Result<(), Fault> {
    match *ENDED.lock().unwrap_or_else(PoisonError::into_inner) {
        None | Some(ErrorKind::BrokenPipe) => Ok(()),
        Some(kind) => Err(Fault::io("write to", Path::new("standard output"), kind.into())),
    }
}

fn deliver(out: &mut impl Write, content: &str) -> io::Result<()> {
    out.write_all(content.as_bytes())?;
    out.flush()
}

/// Something worth knowing that is not a result, on stderr. Nobody is told if that fails.
pub fn note(content: &str) {
    writeln!(anstream::stderr().lock(), "{content}").ok();
}

/// What answers take of the memory.
pub fn answer_memory(memory: &AnswerMemory) -> String {
    let AnswerMemory { weights_bytes, context_tokens, cache_bytes, exact_cache_bytes } = *memory;
    let [weights, cache, exact] = [weights_bytes, cache_bytes, exact_cache_bytes].map(bytes);
    let exact = if cache_bytes < exact_cache_bytes { format!(" ({exact} in f32)") } else { String::new() };
    format!("weights {weights}, keys and values of at most {context_tokens} tokens {cache}{exact}")
}

/// Text from files and names, safe for a terminal: control characters other than line feeds and
/// tabs are shown as `�`, so that data cannot move the cursor or change colours.
pub fn printable(content: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| c.is_control() && c != '\n' && c != '\t';
    if content.contains(is_unsafe) {
        Cow::Owned(content.replace(is_unsafe, "\u{fffd}"))
    } else {
        Cow::Borrowed(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses(ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_written_arrives_whole_and_failures_keep_their_kind() {
        let error = deliver(&mut Refuses(ErrorKind::StorageFull), "text").expect_err("a failure");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let mut out = Vec::new();
        deliver(&mut out, "text").expect("written");
        assert_eq!(out, b"text");
    }

    #[test]
    fn data_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\r\n\tc\u{9b}"), "a\u{fffd}[31mb\u{fffd}\n\tc\u{fffd}");
        assert!(matches!(printable("plain ü"), Cow::Borrowed(_)));
    }
}
