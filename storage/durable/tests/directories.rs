//! G3: damage that happens after a directory was written is always noticed; and what the writer
//! refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use peft_durable::{
    Damage, Fs, MANIFEST_NAME, Manifest, RealFs, commit_directory, create_directories, read_manifest, remove_leftovers,
    rename_file, replace_directory, sha256_file, verify_directory, write_file,
};
use proptest::prelude::*;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

const CONTENT: &[u8] = b"sixteen bytes of";

fn commit(target: &Path) -> Manifest {
    commit_directory(target, |writer| {
        writer.file("a.safetensors", |out| out.write_all(CONTENT))?;
        writer.file("state.json", |out| out.write_all(b"{}"))
    })
    .unwrap()
}

/// The content with one byte changed, removed or added, in every way that G3 lists.
fn damaged_at(content: &[u8], at: usize) -> Vec<Vec<u8>> {
    let changes: [fn(u8) -> u8; 4] = [|byte| byte ^ 1, |byte| byte ^ 0x80, |_| 0, |_| 0xff];
    let mut all: Vec<Vec<u8>> = changes
        .iter()
        .map(|change| {
            let mut copy = content.to_vec();
            copy[at] = change(copy[at]);
            copy
        })
        .collect();
    let mut shorter = content.to_vec();
    shorter.remove(at);
    let mut longer = content.to_vec();
    longer.insert(at, b' ');
    all.extend([shorter, longer, content[..at].to_vec()]);
    all.retain(|copy| copy != content);
    all
}

#[test]
fn g3_every_changed_byte_and_every_truncation_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("step-1");
    let manifest = commit(&target);
    assert_eq!(verify_directory(&target).unwrap(), manifest);
    let mut checked = 0;
    for name in [MANIFEST_NAME, "a.safetensors", "state.json"] {
        let path = target.join(name);
        let content = fs::read(&path).unwrap();
        for at in 0..content.len() {
            for copy in damaged_at(&content, at) {
                fs::write(&path, &copy).unwrap();
                let found = verify_directory(&target);
                assert!(found.is_err(), "{name}, byte {at}: {:?}", String::from_utf8_lossy(&copy));
                checked += 1;
            }
        }
        for tail in [&b"x"[..], b"\n", &[0; 4096]] {
            fs::write(&path, [&content, tail].concat()).unwrap();
            assert!(verify_directory(&target).is_err(), "{name} with something after it");
        }
        fs::remove_file(&path).unwrap();
        assert!(verify_directory(&target).is_err(), "{name} removed");
        fs::create_dir(&path).unwrap();
        assert!(verify_directory(&target).is_err(), "{name} is a directory");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &content).unwrap();
        verify_directory(&target).unwrap();
    }
    assert!(checked > 1500, "{checked}");
}

#[test]
fn damage_is_named() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("step-1");
    assert!(matches!(verify_directory(&target), Err(Damage::NoManifest)));
    commit(&target);
    let path = target.join("a.safetensors");
    fs::write(&path, b"other bytes, 16.").unwrap();
    let damage = verify_directory(&target).unwrap_err();
    assert_eq!(damage.to_string(), "the content of the file a.safetensors has changed");
    fs::write(&path, b"short").unwrap();
    let damage = verify_directory(&target).unwrap_err();
    assert_eq!(damage.to_string(), "the file a.safetensors has 5 bytes instead of 16");
    fs::remove_file(&path).unwrap();
    let damage = verify_directory(&target).unwrap_err();
    assert_eq!(damage.to_string(), "the file a.safetensors is missing");
    // The manifest alone says nothing about the files.
    assert_eq!(read_manifest(&target).unwrap().bytes(), 18);
}

#[test]
fn the_manifest_is_json_with_the_documented_fields() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("step-1");
    let manifest = commit(&target);
    let text = fs::read_to_string(target.join(MANIFEST_NAME)).unwrap();
    let state = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(manifest.digest("state.json").unwrap().sha256, state);
    assert_eq!(sha256_file(&target.join("state.json")).unwrap().sha256, state);
    let head = "{\"format\":\"peft-studio/manifest\",\"version\":1,\"files\":[\n";
    assert!(text.starts_with(head), "{text}");
    let line = format!("{{\"name\":\"state.json\",\"bytes\":2,\"sha256\":\"{state}\"}}\n]}}\n");
    assert!(text.ends_with(&line), "{text}");
}

#[test]
fn a_manifest_never_leads_out_of_its_directory() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("secret"), CONTENT).unwrap();
    let target = home.path().join("step-1");
    commit(&target);
    let path = target.join(MANIFEST_NAME);
    let text = fs::read_to_string(&path).unwrap();
    for name in ["../secret", "/etc/passwd", "..", "C:secret", "a\\b", "state.json", ""] {
        fs::write(&path, text.replace("a.safetensors", name)).unwrap();
        let found = verify_directory(&target);
        assert!(matches!(found, Err(Damage::Manifest(_))), "{name}: {found:?}");
    }
}

#[test]
fn names_that_some_system_cannot_hold_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("step-1");
    let long = "n".repeat(256);
    for name in ["", ".", "..", "a/b", "a\\b", "a:b", "a\nb", ".hidden", "Manifest.json", &long] {
        let result = commit_directory(&target, |writer| writer.file(name, |_| Ok(())));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
    let twice = commit_directory(&target, |writer| {
        writer.file("a", |_| Ok(()))?;
        writer.file("A", |_| Ok(()))
    });
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn what_is_there_is_replaced_only_on_request() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("adapter");
    fs::create_dir(&target).unwrap();
    // An empty directory is what `--out` often names.
    let first = commit(&target);
    let again = commit_directory(&target, |_| Ok(()));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(verify_directory(&target).unwrap(), first);
    replace_directory(&target, |writer| writer.file("b", |_| Ok(()))).unwrap();
    assert_eq!(verify_directory(&target).unwrap().files.len(), 1);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let file = home.path().join("file");
    write_file(&file, b"x").unwrap();
    assert!(commit_directory(&file, |_| Ok(())).is_err());
    assert!(replace_directory(&file, |_| Ok(())).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn only_our_own_leftovers_are_removed() {
    let home = tempfile::tempdir().unwrap();
    let ours = ".tmp-18f0a1b2c3d4e5f6x1a2bx0";
    for name in [ours, ".tmp-mine", ".tmp-", "tmp", ".old-adapter", ".old-x-adapter"] {
        fs::create_dir(home.path().join(name)).unwrap();
        fs::write(home.path().join(name).join("file"), b"x").unwrap();
    }
    remove_leftovers(home.path()).unwrap();
    assert!(!home.path().join(ours).exists());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 5);
    remove_leftovers(&home.path().join("not there")).unwrap();
}

#[test]
fn a_file_that_is_written_takes_away_what_dead_writers_left_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let (dead, alive) = (".tmp-18f0a1b2c3d4e5f6x1a2bx0", ".tmp-18f0a1b2c3d4e5f6x1a2cx0");
    for name in [dead, alive, ".tmp-mine", "notes.txt"] {
        fs::write(home.path().join(name), b"x").unwrap();
    }
    fs::create_dir(home.path().join(".tmp-18f0a1b2c3d4e5f6x1a2dx0")).unwrap();
    let held = fs::File::open(home.path().join(alive)).unwrap();
    held.lock().unwrap();
    write_file(&home.path().join("new"), b"new").unwrap();
    assert!(!home.path().join(dead).exists());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 5);
    drop(held);
    write_file(&home.path().join("new"), b"newer").unwrap();
    assert!(!home.path().join(alive).exists());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 4);
}

#[test]
fn writers_of_one_directory_leave_each_other_alone() {
    let home = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let path = home.path().join(format!("file-{writer}"));
            scope.spawn(move || {
                for round in 0..200 {
                    write_file(&path, format!("{writer} {round}").as_bytes()).unwrap();
                }
            });
        }
    });
    for writer in 0..8 {
        let path = home.path().join(format!("file-{writer}"));
        assert_eq!(fs::read_to_string(path).unwrap(), format!("{writer} 199"));
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 8);
}

#[test]
fn a_file_that_was_taken_for_abandoned_is_not_made_again_under_its_name() {
    let home = tempfile::tempdir().unwrap();
    let mut outcomes = [0, 0];
    for round in 0..3000 {
        let path = home.path().join(format!("file-{round}"));
        let taken = std::thread::scope(|scope| {
            // What tidies a directory, as fast as it can.
            let taker = scope.spawn(|| {
                let file = loop {
                    if let Ok(file) = fs::File::options().write(true).open(&path) {
                        break file;
                    }
                };
                let is_mine = file.try_lock().is_ok();
                if is_mine {
                    fs::remove_file(&path).unwrap();
                }
                is_mine
            });
            let created = RealFs.create(&path);
            let is_taken = taker.join().unwrap();
            // Held, or told: never another file of that name.
            assert_eq!(path.exists(), !is_taken, "round {round}");
            assert_eq!(created.err().map(|error| error.kind()), is_taken.then_some(ErrorKind::ResourceBusy));
            is_taken
        });
        outcomes[usize::from(taken)] += 1;
    }
    assert!(outcomes[0] > 0, "it is held at least once: {outcomes:?}");
}

#[test]
fn the_latest_of_several_directories_moved_aside_comes_back() {
    let home = tempfile::tempdir().unwrap();
    for (stamp, content) in [("18f0a1b2c3d4e5f6x1x0", b"1"), ("18f0a1b2c3d4e5f7x1x0", b"2")] {
        let aside = home.path().join(format!(".old-{stamp}-my-adapter"));
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("file"), content).unwrap();
    }
    remove_leftovers(home.path()).unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    assert_eq!(fs::read(home.path().join("my-adapter/file")).unwrap(), b"2");
}

#[test]
fn directories_and_finished_files_get_their_names() {
    let home = tempfile::tempdir().unwrap();
    let deep = home.path().join("a/b/c");
    create_directories(&deep).unwrap();
    create_directories(&deep).unwrap();
    fs::write(deep.join("part"), b"done").unwrap();
    rename_file(&deep.join("part"), &deep.join("whole")).unwrap();
    assert_eq!(fs::read(deep.join("whole")).unwrap(), b"done");
    assert!(create_directories(&deep.join("whole/below")).is_err());
    assert!(write_file(Path::new("/"), b"x").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_manifest_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(MANIFEST_NAME), &bytes).unwrap();
        prop_assert!(verify_directory(home.path()).is_err());
    }

    #[test]
    fn what_was_written_is_what_is_verified(
        files in proptest::collection::btree_map("[a-z][a-z0-9_. -]{0,20}[a-z]",
            proptest::collection::vec(any::<u8>(), 0..5000), 0..6)
    ) {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("directory");
        let written = commit_directory(&target, |writer| {
            files.iter().try_for_each(|(name, bytes)| writer.file(name, |out| out.write_all(bytes)))
        }).unwrap();
        prop_assert_eq!(&verify_directory(&target).unwrap(), &written);
        prop_assert_eq!(written.files.len(), files.len());
        for (name, bytes) in &files {
            prop_assert_eq!(&fs::read(target.join(name)).unwrap(), bytes);
        }
    }
}
