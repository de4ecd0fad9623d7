//! File types that are not datasets, known by how they begin, so that the refusal can name them.

/// How a file begins (at an offset) and what it then is.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"\x89PNG\r\n", "a picture (PNG)"),
    (0, b"\xFF\xD8\xFF", "a picture (JPEG)"),
    (0, b"GIF8", "a picture (GIF)"),
    (8, b"WEBP", "a picture (WebP)"),
    (0, b"II*\0", "a picture (TIFF)"),
    (0, b"MM\0*", "a picture (TIFF)"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"PARE", "an encrypted Parquet table"),
    (0, b"ARROW1", "an Arrow table"),
    (0, b"Obj\x01", "an Avro table"),
    (0, b"ORC", "an ORC table"),
    (0, b"\x1F\x8B", "a compressed file (gzip)"),
    (0, b"\x28\xB5\x2F\xFD", "a compressed file (zstd)"),
    (0, b"BZh", "a compressed file (bzip2)"),
    (0, b"\xFD7zXZ\0", "a compressed file (xz)"),
    (0, b"7z\xBC\xAF\x27\x1C", "a 7-Zip archive"),
    (0, b"Rar!\x1A\x07", "a RAR archive"),
    (257, b"ustar", "a TAR archive"),
    (0, b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Office document"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"GGUF", "a GGUF model"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x7FELF", "a program"),
    (0, b"MZ\x90", "a program"),
    (0, b"RIFF", "a sound or film"),
    (0, b"OggS", "a sound or film"),
    (0, b"ID3", "a sound file (MP3)"),
    (0, b"fLaC", "a sound file (FLAC)"),
    (4, b"ftyp", "a film (MP4)"),
    (0, b"{\\rtf", "a rich text document (RTF)"),
    (0, b"\x93NUMPY", "a NumPy array"),
];

/// What the file is, if it begins like something that is not text or like a web page.
pub(crate) fn of(prefix: &[u8]) -> Option<&'static str> {
    let known =
        SIGNATURES.iter().find(|(offset, bytes, _)| prefix.get(*offset..).is_some_and(|at| at.starts_with(bytes)));
    if let Some((_, _, name)) = known {
        return Some(name);
    }
    let text = prefix.trim_ascii_start();
    let starts = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()));
    if starts("<!doctype html") || starts("<html") {
        return Some("a web page (HTML)");
    }
    starts("<?xml").then_some("an XML document")
}

/// Whether decoded text is really something else: many control characters that no text holds.
pub(crate) fn is_binary(text: &str) -> bool {
    let mut total = 0_usize;
    let mut control = 0_usize;
    for character in text.chars() {
        total += 1;
        let allowed = matches!(character, '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1b}' | '\u{1a}');
        control += usize::from(character.is_control() && !allowed);
    }
    control * 50 > total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_text_are_named() {
        assert_eq!(of(b"\x89PNG\r\n\x1a\n...."), Some("a picture (PNG)"));
        assert_eq!(of(b"PAR1...."), Some("a Parquet table"));
        assert_eq!(of(b"  <!DOCTYPE HTML><p>"), Some("a web page (HTML)"));
        assert_eq!(of(b"{\"text\": \"%PDF-\"}"), None);
        assert_eq!(of(b""), None);
    }

    #[test]
    fn zeroes_are_binary_and_a_stray_control_character_is_not() {
        assert!(is_binary("\0\0\0\0"));
        let text = format!("{}\u{7f}", "plain words ".repeat(20));
        assert!(!is_binary(&text));
        assert!(!is_binary(""));
    }
}
