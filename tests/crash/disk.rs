//! A disk that fills up while a run is saved (G4).
//!
//! Nothing here may mount anything, so the largest file size that a process may write stands for a full disk:
//! where the signal is ignored, writing beyond it fails as writing to a full disk does.

use crate::trial::{Legacy, Live, as_given, checkpoints, database_is_whole, ended, resumed, undisturbed, words};
use peft_tests::home::Home;
use std::process::Command;

/// `sh` that lets no file grow beyond so many blocks of 512 bytes, then becomes the program.
fn limited(blocks: u64) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks} && exec \"$0\" \"$@\"")]);
    shell
}

#[test]
fn a_full_disk_ends_a_run_in_order_and_with_space_it_goes_on_to_the_same_bytes() {
    let home = Home::new();
    let whole = undisturbed(&home, "whole", 40, 4);
    let largest = checkpoints(&home, "whole")
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).expect("readable"))
        .map(|entry| entry.expect("readable").metadata().expect("readable").len())
        .max()
        .expect("a checkpoint has files");
    let mut live = Live::start(home.command(&as_given(&words(&home, "r", 40, 4))));
    live.reach("checkpoint", 8);
    live.kill();
    let before = checkpoints(&home, "r");
    // From room for all but the largest file of a checkpoint to room for nothing: then the database fails as well.
    for blocks in [largest / 512 - 1, 48, 16, 4, 1] {
        let (code, stderr) = ended(home.launched(limited(blocks), &["resume", "r", "--json"]));
        assert_eq!(code, Some(4), "{blocks} blocks: {stderr}");
        assert!(stderr.contains("PS-DISK-00") && !stderr.contains("panicked"), "{blocks} blocks: {stderr}");
        database_is_whole(&home);
        assert_eq!(checkpoints(&home, "r"), before, "{blocks} blocks: what was saved is there, and nothing else");
        assert_ne!(home.json(&["runs", "show", "r"])["status"], "running", "{blocks} blocks");
    }
    resumed(&home, "r");
    Legacy::of(&home, "r").must_be(&whole, "after the disk was full");
}

#[test]
fn a_disk_with_room_for_nothing_says_so_and_leaves_no_run() {
    let home = Home::new();
    let words = words(&home, "r", 4, 2);
    let (code, stderr) = ended(home.launched(limited(1), &as_given(&words)));
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains("PS-DISK-00"), "{stderr}");
    let runs = home.json(&["runs", "list"]);
    let alive: Vec<_> =
        runs["runs"].as_array().expect("runs").iter().filter(|run| run["status"] == "running").collect();
    assert!(alive.is_empty(), "{runs}");
}
