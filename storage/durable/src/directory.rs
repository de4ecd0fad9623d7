//! A directory of files that appears whole, with a manifest, or not at all.
//!
//! Replacing a directory takes two renames, for which no portable atomic operation exists. The old
//! one is moved aside under a name that [`remove_leftovers`] understands, so that a crash between
//! the two ends with the old directory back in its place.

use crate::file::{TEMPORARY, is_unique, parent_of, temporary_in, unique};
use crate::fs::{Fs, RealFs};
use crate::hashed::{same_error, write_new};
use crate::manifest::{Entry, MANIFEST_NAME, Manifest, is_plain_name};
use crate::part::{JOURNAL, PART, Part, Sealed, lock, part_path};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What the name of a directory starts with that has been moved aside.
const ASIDE: &str = ".old-";
/// Who is at work in a directory that grows in steps.
const LOCK: &str = ".lock";

/// Takes the files of a directory that is being written.
pub struct Writer<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
    files: Vec<Entry>,
    sealed: Vec<Sealed>,
    failed: Option<io::Error>,
}

impl Writer<'_> {
    /// Writes one file, hashing it on the way, and fsyncs it.
    ///
    /// `name` is a plain file name that every operating system can hold. After the first error
    /// the directory cannot be committed any more, whatever the caller does with the error.
    pub fn file(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        if let Some(error) = &self.failed {
            return Err(same_error(error));
        }
        let written = self.write(name, write);
        if let Err(error) = &written {
            self.failed = Some(same_error(error));
        }
        written
    }

    /// Writes one file in steps; in a directory that goes on, `write` gets what is there of it already, if that was
    /// begun with the same fingerprint (see [`Part::open`]).
    pub fn part(
        &mut self,
        name: &str,
        fingerprint: &str,
        write: impl FnOnce(&mut Part) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(error) = &self.failed {
            return Err(same_error(error));
        }
        let written = self.grow(name, fingerprint, write);
        if let Err(error) = &written {
            self.failed = Some(same_error(error));
        }
        written
    }

    fn grow(
        &mut self,
        name: &str,
        fingerprint: &str,
        write: impl FnOnce(&mut Part) -> io::Result<()>,
    ) -> io::Result<()> {
        self.may_write(name)?;
        let mut part = Part::open(&self.path.join(name), fingerprint)?;
        write(&mut part)?;
        let mut sealed = part.seal()?;
        sealed.unlock();
        self.files.push(Entry { name: name.to_owned(), digest: sealed.digest().clone() });
        self.sealed.push(sealed);
        Ok(())
    }

    fn may_write(&self, name: &str) -> io::Result<()> {
        if !is_plain_name(name) {
            let message = format!("`{name}` is not a plain file name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if self.files.iter().any(|file| file.name.eq_ignore_ascii_case(name)) {
            let message = format!("`{name}` is written twice");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(())
    }

    fn write(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        self.may_write(name)?;
        let (digest, _) = write_new(self.fs, &self.path.join(name), write)?;
        self.files.push(Entry { name: name.to_owned(), digest });
        Ok(())
    }
}

/// Writes the directory `target`, which must not exist yet or be empty.
///
/// On an error `target` is as it was, and the call can be repeated. The parent must exist.
pub fn commit_directory(target: &Path, files: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<Manifest> {
    commit_directory_on(&RealFs, target, files)
}

/// [`commit_directory`] on a file system of the caller's choice.
pub fn commit_directory_on(
    fs: &dyn Fs,
    target: &Path,
    files: impl FnOnce(&mut Writer) -> io::Result<()>,
) -> io::Result<Manifest> {
    if is_occupied(target)? {
        let message = format!("`{}` already exists", target.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    commit(fs, target, None, files)
}

/// [`commit_directory`] for what takes long: the files that the writer gets as parts are kept where the process dies,
/// or where `files` ends with an error of the kind `Interrupted`, and the next call goes on with them.
///
/// The directory grows as `target.part`. `WouldBlock`: another process is writing it.
pub fn continue_directory(target: &Path, files: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<Manifest> {
    if is_occupied(target)? {
        let message = format!("`{}` already exists", target.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let growing = part_path(target);
    let place_of_lock = growing.join(LOCK);
    let is_ours = place_of_lock.is_file() || growing.join(MANIFEST_NAME).is_file();
    if is_occupied(&growing)? && !is_ours {
        let message = format!("`{}` is there, and it is not what an earlier attempt left", growing.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    if !growing.is_dir() {
        RealFs.create_directory(&growing)?;
    }
    let held = File::options().read(true).write(true).create(true).truncate(false).open(&place_of_lock)?;
    lock(&held)?;
    let done = tidy(&growing, |name| name == LOCK || name.ends_with(PART) || name.ends_with(JOURNAL))
        .and_then(|()| fill(&RealFs, &growing, files));
    let manifest = match done {
        Ok(manifest) => manifest,
        Err(error) => {
            if error.kind() != io::ErrorKind::Interrupted {
                drop(fs::remove_dir_all(&growing));
            }
            return Err(error);
        }
    };
    drop(held);
    let is_ours = |name: &str| name == MANIFEST_NAME || manifest.files.iter().any(|file| file.name == name);
    tidy(&growing, is_ours)?;
    place(&RealFs, &growing, target, None)?;
    Ok(manifest)
}

/// Remove the files of `directory` that are not to be kept.
fn tidy(directory: &Path, keep: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&keep) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Writes the directory `target`; a directory that is there already is replaced.
///
/// On an error the old one is in its place, at the latest after [`remove_leftovers`].
pub fn replace_directory(target: &Path, files: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<Manifest> {
    replace_directory_on(&RealFs, target, files)
}

/// [`replace_directory`] on a file system of the caller's choice.
pub fn replace_directory_on(
    fs: &dyn Fs,
    target: &Path,
    files: impl FnOnce(&mut Writer) -> io::Result<()>,
) -> io::Result<Manifest> {
    if !is_occupied(target)? {
        return commit(fs, target, None, files);
    }
    // The name is part of the name it gets aside, from which it must be read back.
    let Some(name) = target.file_name().and_then(|name| name.to_str()) else {
        let message = "the name of a directory that is replaced must be valid Unicode";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    };
    let aside = parent_of(target).join(format!("{ASIDE}{}-{name}", unique()));
    commit(fs, target, Some(&aside), files)
}

/// Whether something is at `target` that a rename would not replace.
fn is_occupied(target: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => Ok(fs::read_dir(target)?.next().is_some()),
        Ok(_) => {
            let message = format!("`{}` is not a directory", target.display());
            Err(io::Error::new(io::ErrorKind::NotADirectory, message))
        }
    }
}

fn commit(
    fs: &dyn Fs,
    target: &Path,
    aside: Option<&Path>,
    files: impl FnOnce(&mut Writer) -> io::Result<()>,
) -> io::Result<Manifest> {
    let temporary = temporary_in(parent_of(target));
    fs.create_directory(&temporary)?;
    let committed =
        fill(fs, &temporary, files).and_then(|manifest| place(fs, &temporary, target, aside).map(|()| manifest));
    if committed.is_err() {
        drop(fs.remove_directory(&temporary));
    }
    committed
}

fn fill(fs: &dyn Fs, path: &Path, files: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<Manifest> {
    let mut writer = Writer { fs, path: path.to_owned(), files: Vec::new(), sealed: Vec::new(), failed: None };
    files(&mut writer)?;
    if let Some(error) = writer.failed {
        return Err(error);
    }
    for sealed in writer.sealed {
        sealed.place()?;
    }
    let manifest = Manifest { files: writer.files };
    write_new(fs, &path.join(MANIFEST_NAME), |out| out.write_all(manifest.to_json().as_bytes()))?;
    fs.sync_directory(path)?;
    Ok(manifest)
}

fn place(fs: &dyn Fs, temporary: &Path, target: &Path, aside: Option<&Path>) -> io::Result<()> {
    if let Some(aside) = aside {
        fs.rename(target, aside)?;
    }
    if let Err(error) = fs.rename(temporary, target) {
        if let Some(aside) = aside {
            drop(fs.rename(aside, target));
        }
        return Err(error);
    }
    if let Err(error) = fs.sync_directory(parent_of(target)) {
        // Nobody knows which names the disk holds. Taking the directory back lets the caller write
        // it again from memory, which is the only way on after a failed fsync.
        if fs.rename(target, temporary).is_ok()
            && let Some(aside) = aside
        {
            drop(fs.rename(aside, target));
        }
        return Err(error);
    }
    if let Some(aside) = aside {
        // It is in nobody's way; `remove_leftovers` tries again.
        drop(fs.remove_directory(aside));
    }
    Ok(())
}

/// Removes what interrupted writes left in `parent`, and puts back a directory whose replacement
/// did not get that far.
///
/// Only for a `parent` that no other process is writing into: hold the lock of the run first.
pub fn remove_leftovers(parent: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut aside = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.strip_prefix(TEMPORARY).is_some_and(is_unique) {
            remove(&entry.path())?;
        } else if let Some((stamp, target)) = name.strip_prefix(ASIDE).and_then(|rest| rest.split_once('-'))
            && is_unique(stamp)
            && !target.is_empty()
        {
            aside.push((stamp.to_owned(), entry.path(), parent.join(target)));
        }
    }
    // The latest first: that is the one which was in place before the crash.
    aside.sort_by(|left, right| right.0.cmp(&left.0));
    for (_, old, target) in aside {
        if fs::symlink_metadata(&target).is_ok() {
            remove(&old)?;
        } else {
            RealFs.rename(&old, &target)?;
            RealFs.sync_directory(parent)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
