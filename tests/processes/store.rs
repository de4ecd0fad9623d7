//! A store that is not as it should be, and a clock that is not either.

use crate::lone::{json, shown, words};
use peft_storage::DataDir;
use peft_tests::home::{Home, text};
use rusqlite::Connection;
use std::io::Write;
use std::path::Path;
use std::process::Command;

fn database(home: &Home) -> Connection {
    Connection::open(DataDir::new(Path::new(&home.path("home"))).database()).expect("a database")
}

#[test]
fn the_order_of_the_queue_does_not_depend_on_the_clock() {
    let home = Home::new();
    json(&home, &["runs", "queue", "add"], &words(&home, "before", 5));
    // As if the clock had been a year ahead until now.
    let changed =
        database(&home).execute("UPDATE runs SET created = created + 31536000, updated = updated + 31536000", []);
    assert_eq!(changed.expect("changed"), 1);
    json(&home, &["runs", "queue", "add"], &words(&home, "after", 5));
    let people = text(&home.run(&["runs", "list"]).stdout);
    assert!(people.contains("before") && people.contains("after"), "{people}");
    let output = home.run(&["runs", "queue", "start", "--foreground"]);
    let shown_turns = text(&output.stdout);
    let turns: Vec<&str> = shown_turns.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    assert_eq!(turns, ["before", "after"], "{shown_turns} {}", text(&output.stderr));
    for name in ["before", "after"] {
        let run = shown(&home, name);
        assert_eq!((&run["status"], &run["steps"]), (&"finished".into(), &5.into()), "{run}");
        assert!(run["seconds"].as_f64().is_some_and(|seconds| (0.0..600.0).contains(&seconds)), "{run}");
        assert_eq!(home.run(&["runs", "attach", name]).status.code(), Some(0));
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused_by_every_new_command() {
    let home = Home::new();
    json(&home, &["runs", "queue", "add"], &words(&home, "r", 5));
    database(&home).pragma_update(None, "user_version", 999).expect("changed");
    let detached = words(&home, "other", 5);
    let detached: Vec<&str> = ["train", "--detach"].into_iter().chain(detached.iter().map(String::as_str)).collect();
    let commands: [&[&str]; 6] = [
        &detached,
        &["runs", "attach", "r"],
        &["runs", "queue", "list"],
        &["runs", "queue", "start"],
        &["runs", "queue", "stop"],
        &["notifications", "list"],
    ];
    for command in commands {
        assert_eq!(home.fault(1, command)["code"], "PS-DB-002", "{command:?}");
    }
    assert!(!Path::new(&home.path("other")).exists(), "nothing is left behind");
}

/// Who may not write: this user without rights, or nobody where this user may do everything.
#[cfg(unix)]
fn powerless() -> Option<Command> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    let mut command = Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        let tried = Command::new("setpriv").args(["--reuid", "65534", "--clear-groups", "true"]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            let _told = writeln!(std::io::stderr(), "SKIPPED: no process without rights could be started");
            return None;
        }
    }
    Some(command)
}

#[cfg(unix)]
#[test]
fn a_store_on_a_disk_for_reading_only_is_refused_with_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    json(&home, &["runs", "queue", "add"], &words(&home, "r", 5));
    let rights = |path: &str, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
    };
    let folder = home.path("home");
    rights(&home.path(""), 0o755);
    rights(&folder, 0o555);
    rights(&format!("{folder}/studio.sqlite"), 0o444);
    for command in [["runs", "queue", "list", "--json"], ["runs", "queue", "start", "--json"]] {
        let Some(launcher) = powerless() else { return };
        let output = home.launched(launcher, &command).output().expect("starts");
        let stderr = text(&output.stderr);
        if stderr.contains("Permission denied") && !stderr.contains("PS-") {
            let _told = writeln!(std::io::stderr(), "SKIPPED: the program is where nobody else may read it");
            break;
        }
        assert_eq!(output.status.code(), Some(4), "{command:?}: {stderr}");
        assert!(stderr.contains("PS-DISK-004"), "{command:?}: {stderr}");
    }
    rights(&folder, 0o755);
    rights(&format!("{folder}/studio.sqlite"), 0o644);
}
