//! `manifest.json`: which files a directory holds, with their lengths and hashes.
//!
//! There is exactly one spelling of a manifest, and the reader accepts no other. So every changed
//! byte is noticed, even one that a JSON parser would not mind, and no JSON parser is needed.

use crate::hashed::{Digest, sha256_file};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The name of the manifest within its directory.
pub const MANIFEST_NAME: &str = "manifest.json";

const HEAD: &str = "{\"format\":\"peft-studio/manifest\",\"version\":1,\"files\":[\n";
const TAIL: &str = "]}\n";
/// About 50 000 files; a longer manifest is not one of ours.
const MAXIMUM_BYTES: u64 = 16 << 20;

/// One file of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name within the directory.
    pub name: String,
    /// Length and hash.
    pub digest: Digest,
}

/// The files of a directory, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The files, without the manifest itself.
    pub files: Vec<Entry>,
}

/// Why a directory cannot be trusted.
#[derive(Debug)]
pub enum Damage {
    /// There is no manifest, so the directory was never finished.
    NoManifest,
    /// The manifest is not one that this program wrote.
    Manifest(&'static str),
    /// A file is missing.
    Missing {
        /// Its name.
        name: String,
    },
    /// A file is shorter or longer than it was.
    Length {
        /// Its name.
        name: String,
        /// The length when it was written.
        expected: u64,
        /// The length on the disk.
        found: u64,
    },
    /// A file has the right length and another content.
    Content {
        /// Its name.
        name: String,
    },
    /// The system did not let us read a file.
    Unreadable {
        /// Its name.
        name: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Manifest {
    /// The one spelling of this manifest.
    pub fn to_json(&self) -> String {
        let lines: Vec<String> = self
            .files
            .iter()
            .map(|Entry { name, digest: Digest { bytes, sha256 } }| {
                // A plain name needs no escapes.
                format!("{{\"name\":\"{name}\",\"bytes\":{bytes},\"sha256\":\"{sha256}\"}}")
            })
            .collect();
        let end = if lines.is_empty() { "" } else { "\n" };
        format!("{HEAD}{}{end}{TAIL}", lines.join(",\n"))
    }

    /// Length and hash of `name`, if the directory holds it.
    pub fn digest(&self, name: &str) -> Option<&Digest> {
        self.files.iter().find(|file| file.name == name).map(|file| &file.digest)
    }

    /// Length of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.digest.bytes))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let body = text.strip_prefix(HEAD).ok_or("it does not start like a manifest")?;
        let body = body.strip_suffix(TAIL).ok_or("it does not end like a manifest")?;
        let mut manifest = Self::default();
        for line in body.lines() {
            let entry = parse_entry(line.strip_suffix(',').unwrap_or(line))
                .ok_or("one of its lines does not describe a file")?;
            if manifest.digest(&entry.name).is_some() {
                return Err("it names a file twice");
            }
            manifest.files.push(entry);
        }
        if manifest.to_json() != text {
            return Err("it is not spelled as it was written");
        }
        Ok(manifest)
    }
}

fn parse_entry(line: &str) -> Option<Entry> {
    let (name, rest) = line.strip_prefix("{\"name\":\"")?.split_once("\",\"bytes\":")?;
    let (bytes, rest) = rest.split_once(",\"sha256\":\"")?;
    let sha256 = rest.strip_suffix("\"}")?;
    let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_plain_name(name) || !is_hash {
        return None;
    }
    let digest = Digest { bytes: bytes.parse().ok()?, sha256: sha256.to_owned() };
    Some(Entry { name: name.to_owned(), digest })
}

/// Whether every operating system takes `name` for a file within one directory: a manifest must
/// not lead a reader elsewhere.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |character: char| !character.is_control() && !"\"\\/:*?<>|".contains(character);
    (1..=255).contains(&name.len())
        && name.chars().all(plain)
        && !name.ends_with(['.', ' '])
        && !name.starts_with('.')
        && !name.eq_ignore_ascii_case(MANIFEST_NAME)
}

/// The manifest of the directory `path`; its files are not looked at.
pub fn read_manifest(path: &Path) -> Result<Manifest, Damage> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Damage::NoManifest,
        _ => Damage::Unreadable { name: MANIFEST_NAME.to_owned(), error },
    };
    let path = path.join(MANIFEST_NAME);
    // Opening a named pipe would wait for ever.
    if !fs::metadata(&path).map_err(unreadable)?.is_file() {
        return Err(Damage::Manifest("it is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAXIMUM_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAXIMUM_BYTES {
        return Err(Damage::Manifest("it is far too long"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Damage::Manifest("it is not text"))?;
    Manifest::parse(text).map_err(Damage::Manifest)
}

/// Reads every file of the directory `path` and compares it with the manifest.
///
/// Files that the manifest does not name are ignored: they are never read.
pub fn verify_directory(path: &Path) -> Result<Manifest, Damage> {
    let manifest = read_manifest(path)?;
    for Entry { name, digest } in &manifest.files {
        verify_file(&path.join(name), name, digest)?;
    }
    Ok(manifest)
}

fn verify_file(path: &Path, name: &str, expected: &Digest) -> Result<(), Damage> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Damage::Missing { name: name.to_owned() },
        _ => Damage::Unreadable { name: name.to_owned(), error },
    };
    let wrong_length = |found| Damage::Length { name: name.to_owned(), expected: expected.bytes, found };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Damage::Missing { name: name.to_owned() });
    }
    if metadata.len() != expected.bytes {
        return Err(wrong_length(metadata.len()));
    }
    let found = sha256_file(path).map_err(unreadable)?;
    if found.bytes != expected.bytes {
        return Err(wrong_length(found.bytes));
    }
    if found.sha256 != expected.sha256 {
        return Err(Damage::Content { name: name.to_owned() });
    }
    Ok(())
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoManifest => write!(out, "{MANIFEST_NAME} is missing"),
            Self::Manifest(why) => write!(out, "{MANIFEST_NAME} is damaged: {why}"),
            Self::Missing { name } => write!(out, "the file {name} is missing"),
            Self::Length { name, expected, found } => {
                write!(out, "the file {name} has {found} bytes instead of {expected}")
            }
            Self::Content { name } => write!(out, "the content of the file {name} has changed"),
            Self::Unreadable { name, error } => {
                write!(out, "the file {name} could not be read: {error}")
            }
        }
    }
}

impl std::error::Error for Damage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            _ => None,
        }
    }
}
