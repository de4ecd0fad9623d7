//! Exports that end halfway: killed, or on a full disk. What has its final name is whole, always, and the same command
//! goes on to the same bytes.

use peft_tests::home::{Home, text};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const WORDS: [&str; 7] = ["export", "--model", "starter", "--to", "gguf", "--quant", "q8_0,q4_k_m,f16"];

fn words(out: &str) -> Vec<&str> {
    [&WORDS[..], &["--out", out]].concat()
}

/// GGUF files with their final names.
fn files(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let named = paths.filter(|path| path.extension().is_some_and(|end| end == "gguf"));
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    named.filter(|p| !name(p).starts_with('.')).map(|p| (name(&p), std::fs::read(&p).expect("read"))).collect()
}

/// What an export that nobody disturbs writes, and how long it takes.
fn undisturbed(home: &Home) -> (BTreeMap<String, Vec<u8>>, Duration) {
    let out = home.path("whole");
    // The first start of a program is slower than the others.
    home.run(&["--help"]);
    let begun = Instant::now();
    let output = home.run(&words(&out));
    assert!(output.status.success(), "{}", text(&output.stderr));
    (files(&out), begun.elapsed())
}

fn killed(points: u32) {
    let home = Home::new();
    let (whole, time) = undisturbed(&home);
    assert_eq!(whole.len(), 3);
    for point in 0..points {
        let out = home.path(&format!("killed-{point}"));
        let mut child = home.command(&words(&out)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        sleep(time * point / points);
        child.kill().expect("killed, or over already");
        child.wait().expect("over");
        for (name, bytes) in files(&out) {
            assert!(bytes == whole[&name], "{name} after kill {point} of {points} is not whole");
        }
        // The same command, once what it finished is away, goes on with what the dead one left.
        for name in files(&out).keys() {
            std::fs::remove_file(Path::new(&out).join(name)).expect("removed");
        }
        let output = home.run(&words(&out));
        assert!(output.status.success(), "after kill {point}: {}", text(&output.stderr));
        assert!(files(&out) == whole, "after kill {point}");
        assert!(leftovers(&out).is_empty(), "after kill {point}: {:?}", leftovers(&out));
    }
}

/// Names of what an export that was not finished leaves.
fn leftovers(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".part") || name.starts_with('.')).collect()
}

/// All files of a folder, or none where it is not there.
fn folder(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let read = |path: &Path| std::fs::read(path).expect("read");
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(&entry.path()))).collect()
}

fn killed_while_merging(points: u32) {
    let home = Home::new();
    let words = |out: &str| {
        ["export", "--model", "starter", "--to", "merged", "--dtype", "f32", "--max-shard-size", "1MB", "--out", out]
            .map(str::to_owned)
    };
    let run = |out: &str| {
        let words = words(out);
        home.command(&words.each_ref().map(String::as_str))
    };
    home.run(&["--help"]);
    let begun = Instant::now();
    assert!(run(&home.path("whole")).output().expect("starts").status.success());
    let time = begun.elapsed();
    let whole = folder(Path::new(&home.path("whole")));
    for point in 0..points {
        let out = home.path(&format!("merged-{point}"));
        let mut child = run(&out).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        sleep(time * point / points);
        child.kill().expect("killed, or over already");
        child.wait().expect("over");
        let found = folder(Path::new(&out));
        if found.is_empty() {
            let output = run(&out).output().expect("starts");
            assert!(output.status.success(), "after kill {point}: {}", text(&output.stderr));
        }
        assert!(folder(Path::new(&out)) == whole, "after kill {point}");
        assert!(!Path::new(&home.path(&format!("merged-{point}.part"))).exists());
    }
}

fn full(points: u64) {
    let home = Home::new();
    let (whole, _) = undisturbed(&home);
    let largest = whole.values().map(Vec::len).max().expect("files") as u64 / 512;
    for point in 0..points {
        let out = home.path(&format!("full-{point}"));
        let blocks = 1 + largest.saturating_sub(2) * point / points;
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks} && exec \"$0\" \"$@\"")]);
        let output = home.launched(shell, &words(&out)).output().expect("starts");
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(4) && told.contains("PS-DISK-00"), "{blocks} blocks: {told}");
        assert!(files(&out).is_empty(), "{blocks} blocks: all of the files, or none");
        let left: Vec<_> = std::fs::read_dir(&out).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{blocks} blocks: {left:?} is left");
    }
}

#[test]
fn a_killed_export_leaves_no_file_that_is_not_whole_7() {
    killed(6);
}

#[test]
fn a_killed_merge_leaves_a_whole_folder_or_none_and_goes_on_7() {
    killed_while_merging(5);
}

#[test]
fn an_export_goes_on_at_its_last_tensor_7() {
    let home = Home::new();
    let (whole, _) = undisturbed(&home);
    let mut goes_on = false;
    for attempt in 0..20 {
        let out = home.path(&format!("stopped-{attempt}"));
        let part = Path::new(&out).join("starter-F16.gguf.part");
        let mut child = home.command(&words(&out)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let wanted = whole["starter-F16.gguf"].len() as u64 / 3;
        while child.try_wait().expect("asked").is_none() {
            if std::fs::metadata(&part).is_ok_and(|found| found.len() > wanted) {
                child.kill().expect("killed, or over already");
                break;
            }
        }
        child.wait().expect("over");
        if !part.exists() {
            // It was faster than we.
            continue;
        }
        assert!(files(&out).is_empty());
        let output = home.run(&words(&out));
        let told = text(&output.stderr);
        assert!(output.status.success() && told.contains("Going on where it was stopped"), "{told}");
        assert!(files(&out) == whole && leftovers(&out).is_empty());
        goes_on = true;
        break;
    }
    assert!(goes_on, "no attempt was stopped halfway");
}

#[test]
fn a_full_disk_leaves_nothing_of_an_export_7() {
    full(6);
}

#[test]
#[ignore = "a campaign of minutes: run it by hand"]
fn a_hundred_kills_and_a_hundred_full_disks_7() {
    killed(100);
    killed_while_merging(100);
    full(100);
}
