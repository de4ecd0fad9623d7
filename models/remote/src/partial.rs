//! The unfinished file of a download, and the hash of what it holds.

use durable::hex;
use peft_plan::{Fault, Result};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Read between two looks at the clock.
const BLOCK: usize = 4 << 20;

/// What the content of a file must be, in the words of the hub: its etag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A large file.
    Sha256(String),
    /// A small file, by its name in git.
    GitSha1(String),
}

impl Expected {
    /// By its length: 64 hexadecimal digits, or 40.
    pub(crate) fn new(etag: &str) -> Option<Self> {
        let is_hash = etag.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match etag.len() {
            64 if is_hash => Some(Self::Sha256(etag.to_owned())),
            40 if is_hash => Some(Self::GitSha1(etag.to_owned())),
            _ => None,
        }
    }

    /// The name of the blob.
    pub(crate) fn etag(&self) -> &str {
        match self {
            Self::Sha256(etag) | Self::GitSha1(etag) => etag,
        }
    }
}

#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Hasher {
    fn new(expected: &Expected, size: u64) -> Self {
        match expected {
            Expected::Sha256(_) => Self::Sha256(Sha256::new()),
            Expected::GitSha1(_) => Self::GitSha1(Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitSha1(hash) => hash.update(bytes),
        }
    }

    fn is(self, expected: &Expected) -> bool {
        let digits = match self {
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::GitSha1(hash) => hex(&hash.finalize()),
        };
        digits == expected.etag()
    }
}

/// The first bytes of a file that is being fetched.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    expected: Expected,
    size: u64,
    /// Bytes it holds.
    pub(crate) held: u64,
}

impl Partial {
    /// Open what an earlier try left at `path`, or begin. The caller has the lock.
    pub(crate) async fn open(path: &Path, expected: &Expected, size: u64) -> Result<Self> {
        let io = |error| Fault::io("open", path, error);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?.len();
        let mut partial = Self {
            path: path.to_owned(),
            file,
            hasher: Hasher::new(expected, size),
            expected: expected.clone(),
            size,
            held: 0,
        };
        if found > size {
            partial.restart()?;
        } else {
            partial.hash_found(found).await?;
        }
        Ok(partial)
    }

    /// What is there was hashed by a process that is gone.
    async fn hash_found(&mut self, found: u64) -> Result<()> {
        let io = |error| Fault::io("read", &self.path, error);
        let mut buffer = vec![0; BLOCK.min(usize::try_from(found).unwrap_or(BLOCK))];
        while self.held < found {
            let read = self.file.read(&mut buffer).map_err(io)?;
            if read == 0 {
                break;
            }
            self.hasher.update(&buffer[..read]);
            self.held += read as u64;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Whether every byte is there.
    pub(crate) fn is_full(&self) -> bool {
        self.held == self.size
    }

    /// Add what arrived. `false`: it is more than there may be, and nothing of it was kept.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.held + bytes.len() as u64 > self.size {
            return Ok(false);
        }
        if let Err(error) = self.file.write_all(bytes) {
            // What of it reached the file is unknown; the end that is known counts.
            drop(self.file.set_len(self.held).and_then(|()| self.file.seek(SeekFrom::End(0))));
            return Err(Fault::io("write", &self.path, error));
        }
        self.hasher.update(bytes);
        self.held += bytes.len() as u64;
        Ok(true)
    }

    /// Forget everything.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let io = |error| Fault::io("write", &self.path, error);
        self.file.set_len(0).map_err(io)?;
        self.file.rewind().map_err(io)?;
        self.hasher = Hasher::new(&self.expected, self.size);
        self.held = 0;
        Ok(())
    }

    /// Whether the content is what was expected; asked when it is full.
    pub(crate) fn is_right(&self) -> bool {
        self.is_full() && self.hasher.clone().is(&self.expected)
    }

    /// Give it its name, durably.
    pub(crate) fn finish(self, to: &Path) -> Result<()> {
        let Self { path, file, .. } = self;
        drop(file);
        durable::rename_file(&path, to).map_err(|error| Fault::io("finish", to, error))
    }
}

/// Whether the file at `path` has the content `expected`.
pub(crate) async fn verify(path: &Path, expected: &Expected, size: u64) -> Result<bool> {
    let io = |error| Fault::io("read", path, error);
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Hasher::new(expected, size);
    let mut buffer = vec![0; BLOCK];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            return Ok(length == size && hasher.is(expected));
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    /// `printf hello | git hash-object --stdin` and `printf hello | sha256sum`.
    const GIT: &str = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
    const SHA: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn what_an_earlier_process_left_is_gone_on_with() {
        let place = tempfile::tempdir().expect("a directory");
        for etag in [GIT, SHA] {
            let path = place.path().join(format!("{etag}.incomplete"));
            let expected = Expected::new(etag).expect("a hash");
            let mut partial = now(Partial::open(&path, &expected, 5)).expect("opened");
            assert!(partial.push(b"he").expect("written"));
            drop(partial);
            let mut partial = now(Partial::open(&path, &expected, 5)).expect("opened");
            assert_eq!(partial.held, 2);
            assert!(!partial.push(b"llo!").expect("refused") && partial.held == 2);
            assert!(partial.push(b"llo").expect("written") && partial.is_right());
            partial.finish(&place.path().join(etag)).expect("renamed");
            assert!(now(verify(&place.path().join(etag), &expected, 5)).expect("read"));
            assert!(!path.exists());
        }
    }

    #[test]
    fn too_much_or_wrong_content_is_no_success() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("x");
        std::fs::write(&path, "jelly and more").expect("written");
        let expected = Expected::new(SHA).expect("a hash");
        let mut partial = now(Partial::open(&path, &expected, 5)).expect("opened");
        assert_eq!(partial.held, 0);
        assert!(partial.push(b"jelly").expect("written") && partial.is_full() && !partial.is_right());
        partial.restart().expect("emptied");
        assert!(partial.push(b"hello").expect("written") && partial.is_right());
    }

    #[test]
    fn an_etag_that_is_no_hash_is_no_name_of_a_file() {
        for etag in ["", "abc", "../../../../../../../../etc/passwd", &"g".repeat(64), &"A".repeat(40)] {
            assert!(Expected::new(etag).is_none(), "{etag}");
        }
    }
}
