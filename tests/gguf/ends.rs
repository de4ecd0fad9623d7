//! Exports that end halfway: killed, or on a full disk. What has its final name is whole, always.

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
        // The same command, once what it finished is away, is not troubled by what the dead one left.
        if point % 10 == 5 {
            for name in files(&out).keys() {
                std::fs::remove_file(Path::new(&out).join(name)).expect("removed");
            }
            assert!(home.run(&words(&out)).status.success());
            assert!(files(&out) == whole);
        }
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
fn a_full_disk_leaves_nothing_of_an_export_7() {
    full(6);
}

#[test]
#[ignore = "a campaign of minutes: run it by hand"]
fn a_hundred_kills_and_a_hundred_full_disks_7() {
    killed(100);
    full(100);
}
