//! Files and directories that grow in steps: whatever ended the writing, the next attempt ends with the same bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use peft_durable::{Part, continue_directory, part_bytes, part_path, sha256_file, verify_directory};
use proptest::prelude::*;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

const STEPS: usize = 6;

fn content(step: usize) -> Vec<u8> {
    (0..1000 + step * 137).map(|i| (i * 31 + step) as u8).collect()
}

fn whole() -> Vec<u8> {
    (0..STEPS).flat_map(content).collect()
}

/// Write on at `target` until `steps` are whole, and some bytes of the next.
fn attempt(target: &Path, fingerprint: &str, steps: usize, more: usize) -> usize {
    let mut part = Part::open(target, fingerprint).unwrap();
    let found = part.steps();
    for step in found..steps {
        part.write_all(&content(step)).unwrap();
        part.step().unwrap();
    }
    if steps < STEPS {
        part.write_all(&content(steps)[..more]).unwrap();
        part.flush().unwrap();
    } else {
        let sealed = part.seal().unwrap();
        assert!(!target.exists(), "sealed is not placed");
        sealed.place().unwrap();
    }
    found
}

fn journal(target: &Path) -> PathBuf {
    let mut name = part_path(target).into_os_string();
    name.push(".journal");
    name.into()
}

#[test]
fn an_interrupted_file_goes_on_at_its_last_step() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("a.gguf");
    assert_eq!(attempt(&target, "f", 2, 77), 0);
    assert_eq!(part_bytes(&target), content(0).len() as u64 + content(1).len() as u64 + 77);
    assert_eq!(attempt(&target, "f", 4, 0), 2);
    assert_eq!(attempt(&target, "f", STEPS, 0), 4);
    assert_eq!(fs::read(&target).unwrap(), whole());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn another_fingerprint_begins_anew() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("a");
    attempt(&target, "one", 4, 5);
    assert_eq!(attempt(&target, "two", 3, 5), 0);
    assert_eq!(attempt(&target, "two", STEPS, 0), 3);
    assert_eq!(fs::read(&target).unwrap(), whole());
}

#[test]
fn steps_can_be_taken_back() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("a");
    attempt(&target, "f", 5, 9);
    let mut part = Part::open(&target, "f").unwrap();
    part.back_to(9).unwrap();
    assert_eq!(part.steps(), 5);
    part.back_to(1).unwrap();
    assert_eq!((part.steps(), part.bytes()), (1, content(0).len() as u64));
    drop(part);
    assert_eq!(attempt(&target, "f", STEPS, 0), 1);
    assert_eq!(fs::read(&target).unwrap(), whole());
}

#[test]
fn one_process_at_a_time_and_nothing_of_others_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("a");
    let first = Part::open(&target, "f").unwrap();
    assert_eq!(Part::open(&target, "f").err().unwrap().kind(), ErrorKind::WouldBlock);
    first.discard();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    fs::write(part_path(&target), "of somebody else").unwrap();
    assert_eq!(Part::open(&target, "f").err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(part_path(&target)).unwrap(), b"of somebody else");

    let folder = home.path().join("model");
    fs::create_dir(part_path(&folder)).unwrap();
    fs::write(part_path(&folder).join("mine"), "x").unwrap();
    assert_eq!(continue_directory(&folder, |_| Ok(())).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(part_path(&folder).join("mine").exists());
}

/// A directory of two files in steps, which is stopped in the second after `steps` of its steps.
fn grow(target: &Path, steps: usize, end: ErrorKind, found: &mut Vec<usize>) -> io::Result<()> {
    continue_directory(target, |folder| {
        for (name, until) in [("a.bin", STEPS), ("b.bin", steps)] {
            folder.part(name, "f", |part| {
                found.push(part.steps());
                for step in part.steps()..until {
                    part.write_all(&content(step))?;
                    part.step()?;
                }
                if until < STEPS { Err(end.into()) } else { Ok(()) }
            })?;
        }
        folder.file("config.json", |out| out.write_all(b"{}"))
    })
    .map(drop)
}

#[test]
fn a_directory_goes_on_where_it_was_stopped_and_is_gone_where_it_failed() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("model");
    let mut found = Vec::new();
    assert_eq!(grow(&target, 3, ErrorKind::Interrupted, &mut found).unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(!target.exists() && part_path(&target).is_dir());
    fs::write(part_path(&target).join("stray.bin.part.journal"), "x").unwrap();
    grow(&target, STEPS, ErrorKind::Interrupted, &mut found).unwrap();
    assert_eq!(found, [0, 0, STEPS, 3]);
    let manifest = verify_directory(&target).unwrap();
    assert_eq!(
        manifest.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["a.bin", "b.bin", "config.json"]
    );
    assert_eq!(fs::read(target.join("b.bin")).unwrap(), whole());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 4, "three files and their manifest");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);

    let other = home.path().join("other");
    assert_eq!(grow(&other, 3, ErrorKind::StorageFull, &mut found).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "a full disk is given back");
}

proptest! {
    /// Damage of any kind between two attempts costs steps, never a byte of the end.
    #[test]
    fn damage_between_attempts_never_reaches_the_end(
        steps in 0..STEPS, more in 0usize..900, place in any::<prop::sample::Index>(), kind in 0u8..4,
    ) {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("a");
        attempt(&target, "f", steps, more);
        let path = if kind < 2 { part_path(&target) } else { journal(&target) };
        let mut bytes = fs::read(&path).unwrap();
        if !bytes.is_empty() {
            let at = place.index(bytes.len());
            if kind % 2 == 0 { bytes[at] ^= 0x41 } else { bytes.truncate(at) }
        }
        fs::write(&path, &bytes).unwrap();
        let found = attempt(&target, "f", STEPS, 0);
        prop_assert!(found <= steps);
        prop_assert_eq!(fs::read(&target).unwrap(), whole());
        prop_assert_eq!(sha256_file(&target).unwrap().bytes, whole().len() as u64);
    }
}
