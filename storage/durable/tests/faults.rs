//! G4, G5: the n-th operation of every protocol fails, for every n until the fault is no longer
//! reached, once or from then on. Afterwards the old state is there or the new, never a third.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use peft_durable::{
    DurableFile, Fs, Manifest, RealFs, Writer, commit_directory, commit_directory_on, remove_leftovers,
    replace_directory_on, verify_directory, write_file, write_file_on,
};
use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

#[derive(Clone, Copy, Debug)]
struct Faults {
    at: usize,
    persistent: bool,
    error: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operation {
    Create(PathBuf),
    Write(PathBuf),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Does what the real file system does, except for the faults; a write that fails has written
/// half of its bytes.
struct FaultyFs {
    faults: Faults,
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    count: Cell<usize>,
    log: RefCell<Vec<Operation>>,
    failed_syncs: RefCell<Vec<PathBuf>>,
}

impl FaultyFs {
    fn new(faults: Faults) -> Self {
        Self { faults, state: Rc::default() }
    }

    fn healthy() -> Self {
        Self::new(Faults { at: usize::MAX, persistent: false, error: EIO })
    }

    fn was_reached(&self) -> bool {
        self.state.count.get() >= self.faults.at
    }
}

impl State {
    fn step(&self, faults: Faults, operation: Operation) -> io::Result<()> {
        let count = self.count.get() + 1;
        self.count.set(count);
        let fails = count == faults.at || (faults.persistent && count > faults.at);
        if let Operation::Sync(path) = &operation {
            assert!(!self.failed_syncs.borrow().contains(path), "a failed fsync was tried again");
            if fails {
                self.failed_syncs.borrow_mut().push(path.clone());
            }
        }
        if fails {
            return Err(io::Error::from_raw_os_error(faults.error));
        }
        self.log.borrow_mut().push(operation);
        Ok(())
    }
}

struct FaultyFile {
    file: Box<dyn DurableFile>,
    path: PathBuf,
    faults: Faults,
    state: Rc<State>,
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.state.step(self.faults, Operation::Write(self.path.clone())) {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DurableFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        self.state.step(self.faults, Operation::Sync(self.path.clone()))?;
        self.file.sync()
    }
}

impl Fs for FaultyFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        self.state.step(self.faults, Operation::Create(path.to_owned()))?;
        let file = RealFs.create(path)?;
        let (faults, state) = (self.faults, Rc::clone(&self.state));
        Ok(Box::new(FaultyFile { file, path: path.to_owned(), faults, state }))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.state.step(self.faults, Operation::Create(path.to_owned()))?;
        RealFs.create_directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.step(self.faults, Operation::Rename(from.to_owned(), to.to_owned()))?;
        RealFs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.state.step(self.faults, Operation::Remove(path.to_owned()))?;
        RealFs.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.state.step(self.faults, Operation::Remove(path.to_owned()))?;
        RealFs.remove_directory(path)
    }

    /// The parent is fsynced by every attempt; only files are never fsynced twice.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.state.step(self.faults, Operation::Sync(path.to_owned()))?;
        RealFs.sync_directory(path)
    }
}

fn write_new(out: &mut dyn Write) -> io::Result<()> {
    for piece in [&b"new"[..], &vec![7; 600_000], b"end"] {
        out.write_all(piece)?;
    }
    Ok(())
}

fn new_content() -> Vec<u8> {
    let mut bytes = Vec::new();
    write_new(&mut bytes).expect("a Vec takes everything");
    bytes
}

fn write_files(writer: &mut Writer) -> io::Result<()> {
    writer.file("adapter.safetensors", write_new)?;
    writer.file("state.json", |out| out.write_all(b"{}"))?;
    writer.file("empty", |_| Ok(()))
}

fn write_old_files(writer: &mut Writer) -> io::Result<()> {
    writer.file("old.bin", |out| out.write_all(b"old"))
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Calls `attempt` with every fault in turn, and with an empty directory each time; `attempt`
/// returns whether the fault was reached. Returns how many there were.
fn for_every_fault(mut attempt: impl FnMut(&Path, Faults) -> bool) -> usize {
    let mut reached = 0;
    for persistent in [false, true] {
        for error in [ENOSPC, EIO] {
            let mut at = 1;
            loop {
                let home = tempfile::tempdir().unwrap();
                if !attempt(home.path(), Faults { at, persistent, error }) {
                    break;
                }
                at += 1;
                reached += 1;
                assert!(at < 1000, "the fault is reached for ever");
            }
            assert!(at > 5, "the protocol has more steps than that");
        }
    }
    reached
}

#[test]
fn g4_a_file_is_old_or_new_whichever_operation_fails() {
    for had_old in [true, false] {
        let reached = for_every_fault(|home, faults| {
            let path = home.join("settings.json");
            if had_old {
                write_file(&path, b"old").unwrap();
            }
            let fs = FaultyFs::new(faults);
            let result = write_file_on(&fs, &path, write_new);
            let found = fs::read(&path).ok();
            let old = had_old.then(|| b"old".to_vec());
            assert!(found == old || found == Some(new_content()), "a third state: {faults:?}");
            if result.is_ok() {
                assert_eq!(found, Some(new_content()), "{faults:?}");
            } else {
                let renamed =
                    fs.state.log.borrow().iter().any(|done| matches!(done, Operation::Rename(_, to) if *to == path));
                assert_eq!(found == old, !renamed, "{faults:?}");
            }
            if !faults.persistent {
                assert!(names(home).len() <= 1, "a temporary file was left: {faults:?}");
            }
            remove_leftovers(home).unwrap();
            assert!(names(home).iter().all(|name| name == "settings.json"));
            fs.was_reached()
        });
        assert!(reached >= 20, "{reached}");
    }
}

#[test]
fn g4_a_directory_is_absent_or_whole_whichever_operation_fails() {
    let reached = for_every_fault(|home, faults| {
        let target = home.join("step-400");
        let fs = FaultyFs::new(faults);
        let result = commit_directory_on(&fs, &target, write_files);
        if target.exists() {
            verify_directory(&target).unwrap_or_else(|damage| panic!("{faults:?}: {damage}"));
        }
        if result.is_ok() {
            assert!(target.exists());
        } else if !faults.persistent {
            assert_eq!(names(home), [""; 0], "{faults:?}");
            // R: resume works after space is freed.
            commit_directory(&target, write_files).unwrap();
            verify_directory(&target).unwrap();
        }
        remove_leftovers(home).unwrap();
        assert!(names(home).iter().all(|name| name == "step-400"), "{faults:?}");
        fs.was_reached()
    });
    assert!(reached >= 40, "{reached}");
}

#[test]
fn g4_a_replaced_directory_is_old_or_new_whichever_operation_fails() {
    let reached = for_every_fault(|home, faults| {
        let target = home.join("adapter");
        let old = commit_directory(&target, write_old_files).unwrap();
        let fs = FaultyFs::new(faults);
        let result = replace_directory_on(&fs, &target, write_files);
        remove_leftovers(home).unwrap();
        assert_eq!(names(home), ["adapter"], "{faults:?}");
        let found = verify_directory(&target).unwrap_or_else(|damage| panic!("{damage}"));
        match result {
            Ok(new) => assert_eq!(found, new, "{faults:?}"),
            Err(_) if faults.persistent => {
                assert!(found == old || found.digest("state.json").is_some(), "{faults:?}");
            }
            Err(_) => assert_eq!(found, old, "{faults:?}"),
        }
        fs.was_reached()
    });
    assert!(reached >= 40, "{reached}");
}

#[test]
fn an_error_that_the_caller_drops_still_fails_the_write() {
    let reached = for_every_fault(|home, faults| {
        let target = home.join("step-1");
        let fs = FaultyFs::new(faults);
        let result = commit_directory_on(&fs, &target, |writer| {
            drop(writer.file("a.bin", |out| {
                drop(out.write_all(&vec![1; 600_000]));
                Ok(())
            }));
            drop(writer.file("b.bin", |out| out.write_all(b"b")));
            Ok(())
        });
        if result.is_ok() {
            let manifest = verify_directory(&target).unwrap();
            assert_eq!(manifest.files.len(), 2, "{faults:?}");
            assert_eq!(manifest.bytes(), 600_001, "{faults:?}");
        }
        fs.was_reached()
    });
    assert!(reached >= 40, "{reached}");
}

/// G5: what a rename makes visible is on the disk before it, and the rename itself afterwards.
#[test]
fn g5_everything_is_synced_before_the_rename_and_the_parent_after_it() {
    let home = tempfile::tempdir().unwrap();
    let check = |fs: &FaultyFs, target: &Path| {
        let log = fs.state.log.borrow();
        let is_rename = |done: &Operation| matches!(done, Operation::Rename(_, to) if to == target);
        let renamed = log.iter().position(is_rename).unwrap();
        for (at, done) in log.iter().enumerate() {
            let (Operation::Create(path) | Operation::Write(path)) = done else {
                continue;
            };
            assert!(at < renamed, "{done:?} after the rename");
            let synced = log[at..renamed].contains(&Operation::Sync(path.clone()));
            assert!(synced, "{done:?} is not synced before the rename");
        }
        let parent = Operation::Sync(home.path().to_owned());
        assert!(log[renamed..].contains(&parent), "the rename is not synced");
    };
    let fs = FaultyFs::healthy();
    write_file_on(&fs, &home.path().join("file"), write_new).unwrap();
    check(&fs, &home.path().join("file"));
    for _ in 0..2 {
        let fs = FaultyFs::healthy();
        replace_directory_on(&fs, &home.path().join("directory"), write_files).unwrap();
        check(&fs, &home.path().join("directory"));
    }
}

/// A file system that writes seven bytes at a time and is interrupted before each.
struct SlowFs;
struct SlowFile {
    file: Box<dyn DurableFile>,
    is_interrupted: bool,
}

impl Write for SlowFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_interrupted = !self.is_interrupted;
        if self.is_interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.file.write(&bytes[..bytes.len().min(7)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DurableFile for SlowFile {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Fs for SlowFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        Ok(Box::new(SlowFile { file: RealFs.create(path)?, is_interrupted: false }))
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        RealFs.create_directory(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_file(path)
    }
    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_directory(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        RealFs.sync_directory(path)
    }
}

#[test]
fn short_and_interrupted_writes_are_completed() {
    let home = tempfile::tempdir().unwrap();
    let slow = home.path().join("slow");
    let fast = home.path().join("fast");
    let files = |writer: &mut Writer| writer.file("a", |out| out.write_all(&new_content()[..9000]));
    let manifest: Manifest = commit_directory_on(&SlowFs, &slow, files).unwrap();
    assert_eq!(manifest, commit_directory(&fast, files).unwrap());
    verify_directory(&slow).unwrap();
}
