//! One file, replaced whole: temporary name, fsync, rename, fsync of the parent.

use crate::fs::{Fs, RealFs};
use crate::hashed::{Digest, write_into};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the name of an unfinished file or directory starts with.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Puts `bytes` at `path`.
///
/// On an error the old file is intact, with one exception: where only the last step failed, the
/// fsync of the parent directory, the new file is in place but a power cut may still undo it.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_file_with(path, |out| out.write_all(bytes)).map(drop)
}

/// As [`write_file`], for content that is too large to hold in memory; returns what was written.
pub fn write_file_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Digest> {
    write_file_on(&RealFs, path, write)
}

/// [`write_file_with`] on a file system of the caller's choice.
pub fn write_file_on(
    fs: &dyn Fs,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Digest> {
    if path.file_name().is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file needs a name"));
    }
    let parent = parent_of(path);
    remove_abandoned(parent);
    // A name is used once. Who tidies this directory may have opened a file long before removing it by its name: another
    // file of that name would be removed in its place.
    let (temporary, file) = loop {
        let temporary = temporary_in(parent);
        match fs.create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            file => break (temporary, file?),
        }
    };
    // Held until the file has its name: whoever tidies this directory meanwhile sees that it is in use.
    let (digest, _held) = write_into(fs, &temporary, file, write)?;
    if let Err(error) = fs.rename(&temporary, path) {
        drop(fs.remove_file(&temporary));
        return Err(error);
    }
    fs.sync_directory(parent)?;
    Ok(digest)
}

/// Removes the temporary files of writers that died in `parent`: ours by their names, and nobody holds them.
///
/// What cannot be removed is in nobody's way: the next writer tries again.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().and_then(|name| name.strip_prefix(TEMPORARY)).is_some_and(is_unique);
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // Removed while it is locked, so that a writer which has just created it finds it gone and creates another.
        let Ok(file) = File::options().write(true).open(entry.path()) else { continue };
        if file.try_lock().is_ok() {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Gives the finished file `from` the name `to` in the same directory, durably: for a file that
/// another library wrote, such as a download or a backup.
pub fn rename_file(from: &Path, to: &Path) -> io::Result<()> {
    // Windows fsyncs only through a handle that may write.
    File::options().write(true).open(from)?.sync_all()?;
    RealFs.rename(from, to)?;
    RealFs.sync_directory(parent_of(to))
}

/// Creates `path` and the directories above it that are missing, durably.
pub fn create_directories(path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = path;
    while !at.is_dir() {
        missing.push(at);
        at = parent_of(at);
        if at == Path::new(".") {
            break;
        }
    }
    for directory in missing.into_iter().rev() {
        match RealFs.create_directory(directory) {
            // Another process may have been faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            result => result?,
        }
        RealFs.sync_directory(parent_of(directory))?;
    }
    Ok(())
}

/// The directory that holds `path`; `.` for a bare name.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name in `parent` that nobody has used.
pub(crate) fn temporary_in(parent: &Path) -> PathBuf {
    parent.join(format!("{TEMPORARY}{}", unique()))
}

/// Sorts by time; three hexadecimal numbers (time, process, count) joined by `x`.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64);
    let process = std::process::id();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{nanoseconds:016x}x{process:x}x{count:x}")
}

/// Whether `text` is a result of [`unique`]: nothing else is ever removed.
pub(crate) fn is_unique(text: &str) -> bool {
    let parts: Vec<&str> = text.split('x').collect();
    parts.len() == 3
        && parts[0].len() == 16
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
