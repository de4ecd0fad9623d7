//! ZIP archives, as far as documents need them: stored and deflated entries, and a limit on everything.
//!
//! What an archive says of itself is checked or not used: entries are unpacked into what was really there, never into
//! room that a number in the file asked for, and a ratio or a sum beyond the limits ends it.

use crate::limits::Limits;
use flate2::read::DeflateDecoder;
use peft_plan::{Fault, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The record at the end: its fixed part, and the longest comment behind it.
const END_BYTES: usize = 22;
const LONGEST_COMMENT: usize = 0xFFFF;

/// An archive that is open.
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    limits: Limits,
    /// Bytes that may still be unpacked.
    left: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    method: u16,
    is_encrypted: bool,
    crc: u32,
    packed: u64,
    header_at: u64,
}

impl Archive {
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| Fault::io("open", path, error))?;
        let entries = directory(&mut file, path, limits)?;
        Ok(Self { path: path.to_owned(), file, entries, limits: *limits, left: limits.unpacked })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        let exact = self.entries.iter().find(|entry| entry.name == name);
        exact.or_else(|| self.entries.iter().find(|entry| entry.name.eq_ignore_ascii_case(name)))
    }

    /// The bytes of an entry.
    pub(crate) fn unpack(&mut self, name: &str) -> Result<Vec<u8>> {
        let damaged = |what: &str| damaged(&self.path, &format!("`{name}` in it {what}"));
        let Some(entry) = self.find(name).cloned() else { return Err(damaged("is missing")) };
        if entry.is_encrypted {
            return Err(damaged("is protected by a password"));
        }
        let mut header = [0; 30];
        let io = |error: std::io::Error| damaged(&format!("cannot be read ({error})"));
        self.file.seek(SeekFrom::Start(entry.header_at)).map_err(io)?;
        self.file.read_exact(&mut header).map_err(io)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(damaged("is not where the archive says"));
        }
        let names = i64::from(short(&header, 26)) + i64::from(short(&header, 28));
        self.file.seek(SeekFrom::Current(names)).map_err(io)?;
        let allowed = entry.packed.saturating_mul(self.limits.ratio).max(self.limits.unsuspicious).min(self.left);
        let packed = (&self.file).take(entry.packed);
        let mut bytes = Vec::new();
        let read = match entry.method {
            0 => packed.take(allowed + 1).read_to_end(&mut bytes),
            8 => DeflateDecoder::new(packed).take(allowed + 1).read_to_end(&mut bytes),
            other => return Err(damaged(&format!("is packed in a way ({other}) that is not read"))),
        };
        read.map_err(io)?;
        if bytes.len() as u64 > allowed {
            let detail = format!(
                "`{}` unpacks to far more than it should: `{name}` alone to over {} MiB",
                self.path.display(),
                allowed >> 20
            );
            return Err(Fault::new("PS-DATA-012", detail));
        }
        if crc32fast::hash(&bytes) != entry.crc {
            return Err(damaged("is damaged: its checksum is wrong"));
        }
        self.left -= bytes.len() as u64;
        Ok(bytes)
    }

    /// The text of an entry.
    pub(crate) fn unpack_text(&mut self, name: &str) -> Result<String> {
        let bytes = self.unpack(name)?;
        let mut file = peft_data::TextFile::of_bytes(bytes, Path::new(name))?;
        let mut text = String::new();
        while let Some(piece) = file.next_piece(1 << 20)? {
            text.push_str(&piece);
        }
        Ok(text)
    }

    /// A fault about this file.
    pub(crate) fn damaged(&self, what: &str) -> Fault {
        damaged(&self.path, what)
    }
}

/// The texts in an archive whose names are wanted, such as an exported chat beside its pictures.
pub fn texts_in(path: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<Vec<(String, String)>> {
    let mut archive = Archive::open(path, &Limits::default())?;
    let names: Vec<String> =
        archive.entries.iter().map(|entry| entry.name.clone()).filter(|name| is_wanted(name)).collect();
    names.into_iter().map(|name| archive.unpack_text(&name).map(|text| (name, text))).collect()
}

fn damaged(path: &Path, what: &str) -> Fault {
    Fault::new("PS-DATA-011", format!("`{}` cannot be read: {what}", path.display()))
}

/// The list of entries at the end of the file.
fn directory(file: &mut File, path: &Path, limits: &Limits) -> Result<Vec<Entry>> {
    let io = |error| Fault::io("read", path, error);
    let length = file.metadata().map_err(io)?.len();
    let tail_bytes = length.min((END_BYTES + LONGEST_COMMENT) as u64);
    file.seek(SeekFrom::Start(length - tail_bytes)).map_err(io)?;
    let mut tail = Vec::new();
    file.by_ref().take(tail_bytes).read_to_end(&mut tail).map_err(io)?;
    let end = (0..tail.len().saturating_sub(END_BYTES - 1)).rev().find(|at| tail[*at..].starts_with(b"PK\x05\x06"));
    let Some(end) = end.map(|at| &tail[at..]) else {
        return Err(damaged(path, "the archive is cut off"));
    };
    let (count, bytes, start) = (usize::from(short(end, 10)), long(end, 12), long(end, 16));
    if count == 0xFFFF || start == 0xFFFF_FFFF || count > limits.entries {
        let detail = format!("`{}` holds more than {} files, which no document does", path.display(), limits.entries);
        return Err(Fault::new("PS-DATA-012", detail));
    }
    if u64::from(start) + u64::from(bytes) > length {
        return Err(damaged(path, "its list of contents is cut off"));
    }
    file.seek(SeekFrom::Start(u64::from(start))).map_err(io)?;
    let mut list = Vec::new();
    file.by_ref().take(u64::from(bytes)).read_to_end(&mut list).map_err(io)?;
    let mut entries = Vec::new();
    let mut rest = &list[..];
    for _ in 0..count {
        let (entry, length) = entry(rest).ok_or_else(|| damaged(path, "its list of contents is damaged"))?;
        entries.push(entry);
        rest = &rest[length..];
    }
    Ok(entries)
}

/// The entry that a list begins with, and the bytes it takes.
fn entry(list: &[u8]) -> Option<(Entry, usize)> {
    if list.len() < 46 || !list.starts_with(b"PK\x01\x02") {
        return None;
    }
    let name_bytes = usize::from(short(list, 28));
    let length = 46 + name_bytes + usize::from(short(list, 30)) + usize::from(short(list, 32));
    let name = list.get(46..46 + name_bytes)?;
    let entry = Entry {
        name: String::from_utf8_lossy(name).replace('\\', "/"),
        method: short(list, 10),
        is_encrypted: short(list, 8) & 1 == 1,
        crc: long(list, 16),
        packed: u64::from(long(list, 20)),
        header_at: u64::from(long(list, 42)),
    };
    (list.len() >= length).then_some((entry, length))
}

/// Two bytes at a place that the caller knows to be there.
fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writing archives, for tests: what a hostile one may look like is in their hands.
#[cfg(test)]
pub(crate) mod pack {
    use flate2::{Compression, write::DeflateEncoder};
    use std::io::Write;

    /// An archive of these files, deflated.
    pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut out, mut list) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).expect("in memory");
            let packed = encoder.finish().expect("in memory");
            let at = out.len() as u32;
            let mut middle = Vec::new();
            middle.extend([20, 0, 0, 0, 8, 0, 0, 0, 0, 0]);
            middle.extend(crc32fast::hash(bytes).to_le_bytes());
            middle.extend((packed.len() as u32).to_le_bytes());
            middle.extend((bytes.len() as u32).to_le_bytes());
            middle.extend((name.len() as u16).to_le_bytes());
            middle.extend([0, 0]);
            out.extend(b"PK\x03\x04");
            out.extend(&middle);
            out.extend(name.as_bytes());
            out.extend(&packed);
            list.extend(b"PK\x01\x02\x14\0");
            list.extend(&middle);
            list.extend([0; 10]);
            list.extend(at.to_le_bytes());
            list.extend(name.as_bytes());
        }
        let (start, count) = (out.len() as u32, files.len() as u16);
        out.extend(&list);
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend(count.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend((list.len() as u32).to_le_bytes());
        out.extend(start.to_le_bytes());
        out.extend([0, 0]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(bytes: &[u8], limits: &Limits) -> Result<Archive> {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a.zip");
        std::fs::write(&path, bytes).expect("written");
        Archive::open(&path, limits)
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let mut archive =
            opened(&pack::archive(&[("a/b.xml", b"<x/>"), ("c", b"")]), &Limits::default()).expect("open");
        assert_eq!(archive.unpack("a/b.xml").expect("there"), b"<x/>");
        assert_eq!(archive.unpack_text("A/B.XML").expect("there"), "<x/>");
        assert!(archive.unpack("c").expect("there").is_empty() && archive.has("c") && !archive.has("d"));
        assert_eq!(archive.unpack("d").expect_err("missing").code, "PS-DATA-011");
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let bomb = pack::archive(&[("bomb", &vec![0; 8 << 20])]);
        let fault = opened(&bomb, &Limits::default()).expect("open").unpack("bomb").expect_err("refused");
        assert_eq!(fault.code, "PS-DATA-012");
        let two = pack::archive(&[("a", &[b'x'; 600]), ("b", &[b'y'; 600])]);
        let mut archive = opened(&two, &Limits { unpacked: 1000, ..Limits::default() }).expect("open");
        archive.unpack("a").expect("within the sum");
        assert_eq!(archive.unpack("b").expect_err("beyond it").code, "PS-DATA-012");
        let fault = opened(&two, &Limits { entries: 1, ..Limits::default() }).map(drop).expect_err("too many");
        assert_eq!(fault.code, "PS-DATA-012");
    }

    #[test]
    fn no_byte_of_an_archive_can_crash_the_reader() {
        let whole = pack::archive(&[("a.xml", b"<x>some text</x>"), ("b", b"more")]);
        for at in 0..whole.len() {
            for value in [0, 0xFF, whole[at] ^ 0x80] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(mut archive) = opened(&bytes, &Limits::default()) {
                    archive.unpack("a.xml").ok();
                    archive.unpack("b").ok();
                }
            }
            assert!(opened(&whole[..at], &Limits::default()).is_err(), "cut at {at}");
        }
    }
}
