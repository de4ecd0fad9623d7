//! A text file of any encoding and size, as UTF-8 in pieces that end where a line ends.
//!
//! Documents are read through this: a piece is small enough to be held, whatever the size of the file, and no
//! character is lost or cut between two of them.

use crate::encoding::{Charset, decode_line, detect};
use crate::signature;
use crate::source::PREFIX;
use peft_plan::{Fault, Result};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

/// A file that is read as text.
pub struct TextFile {
    path: PathBuf,
    reader: Box<dyn Read>,
    charset: Charset,
    /// Bytes of the next piece that were read already.
    carried: Vec<u8>,
    strays: usize,
    ended: bool,
}

impl TextFile {
    /// Open `path`. What is plainly no text is refused by name.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Fault::io("open", path, error))?;
        Self::new(file, path)
    }

    /// The text of bytes that are at hand; `name` is for messages.
    pub fn of_bytes(bytes: Vec<u8>, name: &Path) -> Result<Self> {
        Self::new(Cursor::new(bytes), name)
    }

    fn new(mut raw: impl Read + 'static, path: &Path) -> Result<Self> {
        let io = |error| Fault::io("read", path, error);
        let mut prefix = Vec::new();
        raw.by_ref().take(PREFIX as u64).read_to_end(&mut prefix).map_err(io)?;
        let charset = detect(&prefix, path)?;
        if signature::is_binary(&charset.decode_prefix(&prefix)) {
            let detail = format!("`{}` holds no text", path.display());
            return Err(Fault::new("PS-DATA-001", detail));
        }
        let reader = charset.reader(Cursor::new(prefix).chain(raw)).map_err(io)?;
        Ok(Self { path: path.to_owned(), reader, charset, carried: Vec::new(), strays: 0, ended: false })
    }

    /// The next piece of about `bytes` bytes, which ends behind a line break where there is one in it; `None` at the
    /// end of the file.
    pub fn next_piece(&mut self, bytes: usize) -> Result<Option<String>> {
        let mut piece = std::mem::take(&mut self.carried);
        if !self.ended {
            // More than what was carried, or a long line would never grow.
            let wanted = bytes.max(16).saturating_sub(piece.len()).max(16) as u64;
            let read = self.reader.by_ref().take(wanted).read_to_end(&mut piece);
            let read = read.map_err(|error| Fault::io("read", &self.path, error))?;
            self.ended = (read as u64) < wanted;
        }
        if piece.is_empty() {
            return Ok(None);
        }
        if !self.ended {
            self.carried = piece.split_off(end_of_piece(&piece));
        }
        Ok(Some(match String::from_utf8(piece) {
            Ok(text) => text,
            Err(error) => decode_line(error.as_bytes(), &mut self.strays).into_owned(),
        }))
    }

    /// The beginning of the text, without taking it; at most about `bytes` bytes.
    pub fn peek(&mut self, bytes: usize) -> Result<String> {
        let Some(piece) = self.next_piece(bytes)? else { return Ok(String::new()) };
        let mut whole = piece.clone().into_bytes();
        whole.append(&mut self.carried);
        self.carried = whole;
        Ok(piece)
    }

    /// The name of the encoding.
    pub fn encoding(&self) -> String {
        self.charset.name()
    }

    /// Whether a person should check the encoding: it was inferred, or some bytes did not fit it.
    pub fn is_doubtful(&self) -> bool {
        self.charset.guessed || self.strays > 0
    }
}

/// Where to cut: behind the last line break, or before a character that is not whole yet.
fn end_of_piece(piece: &[u8]) -> usize {
    if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
        return at + 1;
    }
    let tail = piece.len().saturating_sub(4);
    let begins_character = |byte: &u8| (*byte as i8) >= -0x40;
    match piece[tail..].iter().rposition(begins_character) {
        // A piece of one character is whole: there is always progress.
        Some(at) if tail + at > 0 => tail + at,
        _ => piece.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8], size: usize) -> Vec<String> {
        let mut file = TextFile::of_bytes(bytes.to_vec(), Path::new("f")).expect("text");
        std::iter::from_fn(|| file.next_piece(size).expect("readable")).collect()
    }

    #[test]
    fn pieces_end_with_lines_and_lose_nothing() {
        let text = "eins zwei\ndrei vier fünf\nsechs\n".repeat(40);
        for size in [16, 17, 33, 100, 10_000] {
            let pieces = pieces(text.as_bytes(), size);
            assert_eq!(pieces.concat(), text, "pieces of {size}");
            if size > 20 {
                assert!(pieces.iter().all(|piece| piece.ends_with('\n')));
            }
        }
        assert!(pieces(b"", 100).is_empty());
    }

    #[test]
    fn what_was_looked_at_is_read_again() {
        let mut file = TextFile::of_bytes(b"one\ntwo\nthree".to_vec(), Path::new("f")).expect("text");
        assert_eq!(file.peek(100).expect("readable"), "one\ntwo\nthree");
        assert_eq!(file.next_piece(100).expect("readable").as_deref(), Some("one\ntwo\nthree"));
        assert_eq!(file.next_piece(100).expect("readable"), None);
    }

    #[test]
    fn a_text_without_line_breaks_is_cut_between_characters() {
        let text = "äöü€𝄞".repeat(30);
        assert_eq!(pieces(text.as_bytes(), 17).concat(), text);
    }

    #[test]
    fn other_encodings_and_stray_bytes_become_text() {
        let utf16: Vec<u8> = "\u{feff}Grüße\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(pieces(&utf16, 100), ["Grüße\n"]);
        let mut file =
            TextFile::of_bytes("Grüße aus Köln\ncaf".bytes().chain([0xe9]).collect(), Path::new("f")).expect("text");
        assert_eq!(file.next_piece(1000).expect("readable").as_deref(), Some("Grüße aus Köln\ncafé"));
        assert!(file.is_doubtful());
        let fault = TextFile::of_bytes(vec![0; 64], Path::new("f")).map(drop).expect_err("no text");
        assert_eq!(fault.code, "PS-DATA-001");
    }
}
