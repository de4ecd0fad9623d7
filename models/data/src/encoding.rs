//! From the bytes of a file to UTF-8.
//!
//! The first piece of a file decides its encoding. A file that is mostly UTF-8 is passed through
//! as it is, and bytes that are not UTF-8 after all are read as Windows-1252 on their own, so one
//! pasted paragraph does not spoil the rest. Other encodings are transcoded while streaming.

use encoding_rs::{Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use peft_plan::{Fault, Result};
use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;

/// Bytes beyond ASCII that a guess other than Windows-1252 needs as evidence.
const ENOUGH_EVIDENCE: usize = 64;

/// How a file stores its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charset {
    pub(crate) encoding: &'static Encoding,
    /// Length of the byte order mark.
    pub(crate) mark: usize,
    /// Whether the encoding is an inference a person should check.
    pub(crate) guessed: bool,
}

impl Charset {
    /// UTF-8, beyond doubt.
    pub(crate) const UTF8: Self = Self { encoding: UTF_8, mark: 0, guessed: false };

    /// The name for reports.
    pub(crate) fn name(self) -> String {
        self.encoding.name().to_lowercase()
    }

    pub(crate) fn is_utf8(self) -> bool {
        self.encoding == UTF_8
    }

    /// The first piece of the file as text; a character cut at its end is dropped.
    pub(crate) fn decode_prefix(self, prefix: &[u8]) -> String {
        let body = prefix.get(self.mark..).unwrap_or_default();
        let mut text = String::new();
        let mut decoder = self.encoding.new_decoder_without_bom_handling();
        if let Some(room) = decoder.max_utf8_buffer_length(body.len()) {
            text.reserve(room);
            let (_result, _read, _replaced) = decoder.decode_to_string(body, &mut text, false);
        }
        text
    }

    /// A reader of UTF-8 (or of bytes that are nearly so, see the module).
    pub(crate) fn reader<'a>(self, mut raw: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let mut mark = [0; 4];
        raw.read_exact(&mut mark[..self.mark])?;
        if self.is_utf8() {
            return Ok(Box::new(raw));
        }
        Ok(Box::new(Transcoder::new(raw, self.encoding)))
    }
}

/// Decide the encoding from the first bytes of `path`.
pub(crate) fn detect(prefix: &[u8], path: &Path) -> Result<Charset> {
    let certain = |encoding, mark| Charset { encoding, mark, guessed: false };
    if prefix.starts_with(b"\xFF\xFE\0\0") || prefix.starts_with(b"\0\0\xFE\xFF") {
        let detail = format!("`{}` is stored as UTF-32, which is not read", path.display());
        return Err(Fault::new("PS-DATA-008", detail));
    }
    if let Some((encoding, mark)) = Encoding::for_bom(prefix) {
        return Ok(certain(encoding, mark));
    }
    if let Some(encoding) = utf16_without_mark(prefix) {
        return Ok(Charset { encoding, mark: 0, guessed: true });
    }
    let (characters, strays) = count_utf8(prefix);
    if strays == 0 || characters > strays {
        return Ok(certain(UTF_8, 0));
    }
    Ok(Charset { encoding: guess_legacy(prefix), mark: 0, guessed: true })
}

/// Zeroes in every other byte are the upper halves of Latin characters.
fn utf16_without_mark(prefix: &[u8]) -> Option<&'static Encoding> {
    let pairs = prefix.len() / 2;
    if pairs < 2 {
        return None;
    }
    let zeroes = |offset: usize| prefix.iter().skip(offset).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (zeroes(0), zeroes(1));
    if odd * 3 > pairs && even * 20 < pairs {
        return Some(UTF_16LE);
    }
    (even * 3 > pairs && odd * 20 < pairs).then_some(UTF_16BE)
}

/// How many characters beyond ASCII are UTF-8, and how many places are not. A character that the
/// end of the prefix cuts counts as neither.
fn count_utf8(prefix: &[u8]) -> (usize, usize) {
    let (mut characters, mut strays) = (0, 0);
    let mut chunks = prefix.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        characters += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        let cut = chunks.peek().is_none()
            && prefix.len() == crate::source::PREFIX
            && std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none());
        strays += usize::from(!chunk.invalid().is_empty() && !cut);
    }
    (characters, strays)
}

fn guess_legacy(prefix: &[u8]) -> &'static Encoding {
    if prefix.iter().filter(|b| !b.is_ascii()).count() < ENOUGH_EVIDENCE {
        return WINDOWS_1252;
    }
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(prefix, true);
    detector.guess(None, chardetng::Utf8Detection::Deny)
}

/// A piece of a UTF-8 file. Bytes in it that are not UTF-8 are read as Windows-1252; `strays`
/// counts the pieces that needed it.
pub(crate) fn decode_line<'a>(bytes: &'a [u8], strays: &mut usize) -> Cow<'a, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    *strays += 1;
    let mut text = String::with_capacity(bytes.len() + bytes.len() / 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.push_str(&WINDOWS_1252.decode_without_bom_handling(chunk.invalid()).0);
    }
    Cow::Owned(text)
}

/// Decodes a stream to UTF-8 in pieces.
struct Transcoder<R> {
    inner: R,
    decoder: Decoder,
    input: Vec<u8>,
    pending: std::ops::Range<usize>,
    output: Vec<u8>,
    ready: std::ops::Range<usize>,
    ended: bool,
    finished: bool,
}

impl<R: Read> Transcoder<R> {
    fn new(inner: R, encoding: &'static Encoding) -> Self {
        Self {
            inner,
            decoder: encoding.new_decoder_without_bom_handling(),
            input: vec![0; 64 << 10],
            pending: 0..0,
            output: vec![0; 64 << 10],
            ready: 0..0,
            ended: false,
            finished: false,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        while self.ready.is_empty() && !self.finished {
            if self.pending.is_empty() && !self.ended {
                let count = self.inner.read(&mut self.input)?;
                self.pending = 0..count;
                self.ended = count == 0;
            }
            let source = &self.input[self.pending.clone()];
            let (result, read, written, _) = self.decoder.decode_to_utf8(source, &mut self.output, self.ended);
            self.pending.start += read;
            self.ready = 0..written;
            self.finished = self.ended && result == encoding_rs::CoderResult::InputEmpty;
        }
        Ok(())
    }
}

impl<R: Read> Read for Transcoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.refill()?;
        let count = self.ready.len().min(out.len());
        let from = self.ready.start;
        out[..count].copy_from_slice(&self.output[from..from + count]);
        self.ready.start += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(bytes: &[u8]) -> Charset {
        detect(bytes, Path::new("f")).expect("readable")
    }

    #[test]
    fn utf16_is_known_with_and_without_a_mark() {
        let text = "question,answer\nWhy?,Because äöü\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (bytes, mark, name) in [(little, b"\xFF\xFE", "utf-16le"), (big, b"\xFE\xFF", "utf-16be")] {
            for with_mark in [false, true] {
                let file = if with_mark { [&mark[..], &bytes].concat() } else { bytes.clone() };
                let charset = detected(&file);
                assert_eq!(charset.name(), name);
                let mut read = String::new();
                charset.reader(&file[..]).expect("mark").read_to_string(&mut read).expect("text");
                assert_eq!(read, text);
                assert_eq!(charset.decode_prefix(&file), text);
            }
        }
    }

    #[test]
    fn one_stray_line_does_not_make_a_utf8_file_something_else() {
        let file = b"Gr\xC3\xBC\xC3\x9Fe aus K\xC3\xB6ln\ncaf\xE9\n";
        assert_eq!(detected(file).name(), "utf-8");
        assert_eq!(detected(b"caf\xE9 au lait").name(), "windows-1252");
        let mut strays = 0;
        assert_eq!(decode_line(b"caf\xE9 \x80 caf\xC3\xA9", &mut strays), "café € café");
        assert_eq!(decode_line("café".as_bytes(), &mut strays), "café");
        assert_eq!(strays, 1);
    }

    #[test]
    fn cyrillic_and_japanese_files_are_guessed_when_there_is_enough_text() {
        let russian = encoding_rs::WINDOWS_1251
            .encode("Столица Франции Париж, а столица Германии Берлин. Москва стоит на реке Москве.")
            .0;
        assert_eq!(detected(&russian).name(), "windows-1251");
        let japanese = encoding_rs::SHIFT_JIS
            .encode("フランスの首都はパリです。日本の首都は東京です。よろしくお願いします。明日は雨が降るでしょう。")
            .0;
        assert_eq!(detected(&japanese).name(), "shift_jis");
    }

    #[test]
    fn utf32_is_refused_by_name() {
        let fault = detect(b"\xFF\xFE\0\0a\0\0\0", Path::new("f")).expect_err("refused");
        assert_eq!(fault.code, "PS-DATA-008");
    }
}
