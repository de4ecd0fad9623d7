//! What a durable write asks of a file system: the seam at which the tests make operations fail.
//!
//! The list is as short as the protocol. Reading is not part of it: a reader verifies hashes and
//! needs no protection from a half-done write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A file that is being written.
pub trait DurableFile: Write {
    /// Returns once the content is on the disk, not only in the kernel's memory.
    fn sync(&mut self) -> io::Result<()>;
}

/// The operations of the protocol.
pub trait Fs {
    /// Creates a file that must not exist yet and holds it: no other process that asks for its lock gets it.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] where someone has taken it for abandoned, and removed it, before it was held.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DurableFile>>;
    /// Creates a directory that must not exist yet.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Renames within one file system; a file or empty directory that has the new name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and what is in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Returns once the names in a directory are on the disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl DurableFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Fs for RealFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        // Some network file systems have no locks; nobody gets one there and removes it for being abandoned.
        let has_no_locks = file.lock().is_err();
        // Between the two it had no owner, and may have been taken for one that a dead process left.
        if has_no_locks || path.exists() { Ok(Box::new(file)) } else { Err(io::ErrorKind::ResourceBusy.into()) }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // Unix replaces an empty directory; Windows wants it out of the way. One that is not empty stays.
        if cfg!(windows) && to.is_dir() {
            fs::remove_dir(to)?;
        }
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    /// Windows has no handle for this, and commits names on its own.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        if cfg!(not(unix)) {
            return Ok(());
        }
        match File::open(path)?.sync_all() {
            // Some network and user-space file systems have no fsync for directories.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            result => result,
        }
    }
}
