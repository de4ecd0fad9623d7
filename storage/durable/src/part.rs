//! A file that is written in steps and, after whatever ended the writing, goes on behind the last step that is whole.
//!
//! The content grows under the name `NAME.part`. A journal beside it, `NAME.part.journal`, notes after every step how
//! long the content is and which hash it has until there. Nothing is flushed to the disk on the way: who goes on reads
//! the content again and trusts a step only where the hash holds, so a power cut costs steps and never correctness.

use crate::file::parent_of;
use crate::fs::{Fs, RealFs};
use crate::hashed::{BUFFER_BYTES, Digest, Hashed, hex};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const HEAD: &str = "peft-studio/part 1 ";
/// Some hundred thousand steps; a longer journal is not one of ours.
const MAXIMUM_BYTES: u64 = 32 << 20;
/// What the content is called until it is whole.
pub(crate) const PART: &str = ".part";
pub(crate) const JOURNAL: &str = ".part.journal";

/// The end of a step: so long is the content until there, with this hash.
#[derive(Clone)]
struct Step {
    bytes: u64,
    hash: Sha256,
}

/// A file on its way. Dropped, it stays where it is, and the next [`Part::open`] goes on with it.
pub struct Part {
    target: PathBuf,
    /// First line of the journal.
    head: String,
    /// Locked as long as this exists: one process at a time writes a file.
    journal: File,
    content: Hashed<BufWriter<File>>,
    steps: Vec<Step>,
}

/// A file whose content is whole and on the disk, without its name yet.
pub struct Sealed {
    target: PathBuf,
    journal: Option<File>,
    digest: Digest,
}

fn beside(target: &Path, end: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Where the content of `target` is until it is whole.
pub fn part_path(target: &Path) -> PathBuf {
    beside(target, PART)
}

/// How much of `target` an earlier attempt left, whatever it is worth.
pub fn part_bytes(target: &Path) -> u64 {
    fs::symlink_metadata(part_path(target)).map_or(0, |found| if found.is_file() { found.len() } else { 0 })
}

/// Take the lock of a file that says who is at work. `WouldBlock`: another process has it.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "another process is writing it at this moment"))
        }
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

impl Part {
    /// Begin the file `target`, or go on with what an earlier attempt of the same `fingerprint` left.
    ///
    /// The fingerprint is one word that covers everything which decides the content. `WouldBlock`: another process
    /// is writing the file. `AlreadyExists`: `target.part` is there and was not written by this.
    pub fn open(target: &Path, fingerprint: &str) -> io::Result<Self> {
        let (part, noted) = (part_path(target), beside(target, JOURNAL));
        for path in [&part, &noted] {
            let strange = fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
            if strange || path == &part && path.exists() && !noted.exists() {
                let message = format!("`{}` is there, and it is not what an earlier attempt left", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
        }
        let mut journal = open(&noted)?;
        lock(&journal)?;
        let head = format!("{HEAD}{fingerprint}\n");
        let claims = claims(&mut journal, &head)?;
        let mut file = open(&part)?;
        let steps = proven(&mut file, &claims)?;
        let content = Hashed::behind(BufWriter::with_capacity(BUFFER_BYTES, file), 0, Sha256::new());
        let mut part = Self { target: target.to_owned(), head, journal, content, steps };
        part.cut()?;
        Ok(part)
    }

    /// Steps that are whole.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Length of the content so far.
    pub fn bytes(&self) -> u64 {
        self.content.bytes
    }

    /// Forget everything behind the first `count` steps.
    pub fn back_to(&mut self, count: usize) -> io::Result<()> {
        if count >= self.steps.len() {
            return Ok(());
        }
        self.steps.truncate(count);
        self.cut()
    }

    /// Cut content and journal to the steps that count.
    fn cut(&mut self) -> io::Result<()> {
        let last = self.steps.last().cloned().unwrap_or(Step { bytes: 0, hash: Sha256::new() });
        (self.content.bytes, self.content.hash) = (last.bytes, last.hash);
        self.content.writer.flush()?;
        let file = self.content.writer.get_mut();
        file.set_len(last.bytes)?;
        file.seek(SeekFrom::Start(last.bytes))?;
        let lines: String = self.steps.iter().map(|step| line(step.bytes, &step.hash)).collect();
        self.journal.seek(SeekFrom::Start(0))?;
        self.journal.write_all(self.head.as_bytes())?;
        self.journal.write_all(lines.as_bytes())?;
        let end = self.journal.stream_position()?;
        self.journal.set_len(end)
    }

    /// What was written since the last step is whole.
    pub fn step(&mut self) -> io::Result<()> {
        self.flush()?;
        self.content.whole()?;
        let step = Step { bytes: self.content.bytes, hash: self.content.hash.clone() };
        self.journal.write_all(line(step.bytes, &step.hash).as_bytes())?;
        self.steps.push(step);
        Ok(())
    }

    /// The content is whole: returns once it is on the disk. On an error nothing is left.
    pub fn seal(mut self) -> io::Result<Sealed> {
        let flushed = self.flush().and_then(|()| self.content.whole());
        if let Err(error) = flushed.and_then(|()| self.content.writer.get_ref().sync_all()) {
            // The kernel may have dropped what it could not write: reading it back proves nothing.
            self.discard();
            return Err(error);
        }
        Ok(Sealed { target: self.target, journal: Some(self.journal), digest: self.content.ended().0 })
    }

    /// Remove everything.
    pub fn discard(self) {
        remove(&self.target);
    }
}

fn remove(target: &Path) {
    // What cannot be removed is in nobody's way: the next attempt begins with it.
    for end in [PART, JOURNAL] {
        drop(fs::remove_file(beside(target, end)));
    }
}

fn line(bytes: u64, hash: &Sha256) -> String {
    format!("{bytes} {}\n", hex(&hash.clone().finalize()))
}

/// What a journal that begins with `head` says of its steps; nothing, if it is another one's.
fn claims(journal: &mut File, head: &str) -> io::Result<Vec<(u64, String)>> {
    let mut text = String::new();
    if let Err(error) = (&mut *journal).take(MAXIMUM_BYTES).read_to_string(&mut text) {
        // A damaged journal is no journal.
        return if error.kind() == io::ErrorKind::InvalidData { Ok(Vec::new()) } else { Err(error) };
    }
    let Some(lines) = text.strip_prefix(head) else { return Ok(Vec::new()) };
    let mut found: Vec<(u64, String)> = Vec::new();
    for line in lines.split_inclusive('\n') {
        let said = line.strip_suffix('\n').and_then(|line| line.split_once(' '));
        let Some((Ok(bytes), hash)) = said.map(|(bytes, hash)| (bytes.parse::<u64>(), hash)) else { break };
        if found.last().is_some_and(|(before, _)| *before > bytes) {
            break;
        }
        found.push((bytes, hash.to_owned()));
    }
    Ok(found)
}

/// The steps whose content is in `file`.
fn proven(file: &mut File, claims: &[(u64, String)]) -> io::Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(claims.len());
    let (mut hash, mut bytes) = (Sha256::new(), 0u64);
    let mut buffer = vec![0; BUFFER_BYTES];
    for (until, wanted) in claims {
        while bytes < *until {
            let most = buffer.len().min(usize::try_from(until - bytes).unwrap_or(usize::MAX));
            match file.read(&mut buffer[..most]) {
                Ok(0) => return Ok(steps),
                Ok(read) => {
                    hash.update(&buffer[..read]);
                    bytes += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if hex(&hash.clone().finalize()) != *wanted {
            break;
        }
        steps.push(Step { bytes, hash: hash.clone() });
    }
    Ok(steps)
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.content.flush()
    }
}

impl Sealed {
    /// Length and hash of the content.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Where the content is.
    pub fn path(&self) -> PathBuf {
        part_path(&self.target)
    }

    /// The name it is meant for.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Remove the file.
    pub fn discard(self) {
        remove(&self.target);
    }

    /// Let other processes at it; whoever calls this keeps them away by other means.
    pub(crate) fn unlock(&mut self) {
        self.journal = None;
    }

    /// Give the file its name, durably.
    pub fn place(self) -> io::Result<Digest> {
        let target = self.target.clone();
        self.place_as(&target)
    }

    /// Give the file another name in the same directory, durably.
    pub fn place_as(self, name: &Path) -> io::Result<Digest> {
        RealFs.rename(&self.path(), name)?;
        RealFs.sync_directory(parent_of(name))?;
        drop(fs::remove_file(beside(&self.target, JOURNAL)));
        Ok(self.digest)
    }
}
