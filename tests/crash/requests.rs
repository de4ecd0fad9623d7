//! Runs that are asked to halt, and runs that are resumed where that is not simple.

use crate::trial::{Legacy, Live, adapter, as_given, ended, resumed, story, undisturbed, words};
use peft_tests::home::Home;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A live process that has done a few steps of a long run.
fn under_way(home: &Home, name: &str, steps: u64) -> Live {
    let mut live = Live::start(home.command(&as_given(&words(home, name, steps, 50))));
    live.reach("step", 3);
    live
}

#[test]
fn a_pause_from_another_process_costs_not_a_bit() {
    let home = Home::new();
    let whole = undisturbed(&home, "whole", 240, 50);
    let live = under_way(&home, "paused", 240);
    assert_eq!(home.json(&["pause", "paused"])["requested"], "pause");
    assert_eq!(live.end().0, Some(0));
    let run = home.json(&["runs", "show", "paused"]);
    assert_eq!(run["status"], "paused");
    assert_eq!(run["checkpoints"][0]["step"], run["steps"], "what was done is saved");
    assert!(run["steps"].as_u64().is_some_and(|steps| (3..240).contains(&steps)), "{run}");
    // The number of threads is part of a run: another one would change the last bits.
    let (code, stderr) = ended(home.command(&["resume", "paused", "--json", "--threads", "1"]));
    assert_eq!(code, Some(0), "{stderr}");
    Legacy::of(&home, "paused").must_be(&whole, "paused");
}

#[test]
fn stopping_writes_the_adapter_of_a_live_run_and_of_a_dead_one() {
    let home = Home::new();
    let live = under_way(&home, "live", 4000);
    assert_eq!(home.json(&["stop", "live"])["requested"], "stop");
    assert_eq!(live.end().0, Some(0));
    let run = home.json(&["runs", "show", "live"]);
    assert_eq!(run["status"], "stopped");
    assert!(!adapter(&home, "live").is_empty());
    assert_eq!(story(&home, "live").last().expect("events")["event"], "stopped");

    let mut live = Live::start(home.command(&as_given(&words(&home, "dead", 4000, 5))));
    live.reach("checkpoint", 10);
    live.kill();
    let before = peft_models::train::checkpoint::steps(Path::new(&home.path("dead")))[0];
    let (code, stderr) = ended(home.command(&["stop", "dead", "--json"]));
    assert_eq!(code, Some(0), "{stderr}");
    let run = home.json(&["runs", "show", "dead"]);
    assert_eq!((&run["status"], run["steps"].as_u64()), (&"stopped".into(), Some(before)));
    let parameters = PathBuf::from(home.path("dead")).join(format!("checkpoints/step-{before}/parameters.safetensors"));
    assert!(std::fs::read(parameters).expect("a checkpoint") == adapter(&home, "dead"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_a_second_one_damages_nothing() {
    let home = Home::new();
    let whole = undisturbed(&home, "whole", 240, 50);
    let interrupt = |live: &Live| {
        let id = live.process.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("starts").success());
    };
    let live = under_way(&home, "once", 240);
    interrupt(&live);
    assert_eq!(live.end().0, Some(130));
    let run = home.json(&["runs", "show", "once"]);
    assert_eq!((&run["status"], &run["checkpoints"][0]["step"]), (&"paused".into(), &run["steps"]));
    resumed(&home, "once");
    Legacy::of(&home, "once").must_be(&whole, "interrupted once");

    let live = under_way(&home, "twice", 240);
    interrupt(&live);
    interrupt(&live);
    assert_eq!(live.end().0, Some(130));
    resumed(&home, "twice");
    Legacy::of(&home, "twice").must_be(&whole, "interrupted twice");
}

#[test]
fn one_process_works_on_a_run_at_a_time() {
    let home = Home::new();
    let live = under_way(&home, "r", 4000);
    let pid = live.process.id().to_string();
    for arguments in [&["resume", "r"][..], &["resume", &home.path("r")]] {
        let error = home.fault(1, arguments);
        assert_eq!(error["code"], "PS-RUN-002");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains(&pid)), "{error}");
    }
    assert_eq!(home.json(&["runs", "show", "r"])["status"], "running");
    live.kill();
    assert_eq!(home.json(&["runs", "show", "r"])["status"], "interrupted");
}

#[test]
fn changed_data_is_noticed_and_the_old_data_goes_on() {
    let home = Home::new();
    let whole = undisturbed(&home, "whole", 40, 5);
    let mut live = Live::start(home.command(&as_given(&words(&home, "r", 40, 5))));
    live.reach("checkpoint", 5);
    live.kill();
    let rows = std::fs::read_to_string(home.path("rows.jsonl")).expect("the data");
    home.write("rows.jsonl", rows.replacen("Say 7", "Say 8", 1));
    let error = home.fault(3, &["resume", "r"]);
    assert_eq!(error["code"], "PS-DATA-013");
    assert_eq!(home.json(&["runs", "show", "r"])["status"], "interrupted", "nothing was touched");
    home.write("rows.jsonl", rows);
    resumed(&home, "r");
    Legacy::of(&home, "r").must_be(&whole, "with the old data again");
}

/// Every file below `folder`, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).expect("readable"));
        }
    }
    found
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let home = Home::new();
    undisturbed(&home, "r", 6, 3);
    let folder = PathBuf::from(home.path("r"));
    let (before, run) = (files(&folder), home.json(&["runs", "show", "r"]));
    for words in [&["resume", "r"][..], &["resume", "r", "--json"], &["resume", &home.path("r")]] {
        let (code, stderr) = ended(home.command(words));
        assert_eq!(code, Some(0), "{stderr}");
    }
    assert!(files(&folder) == before);
    assert_eq!(home.json(&["runs", "show", "r"]), run);
    // And a folder that holds a run is not trained into a second time.
    let again = words(&home, "r", 6, 3);
    let (code, stderr) = ended(home.command(&as_given(&again)));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(files(&folder) == before);
}

#[test]
fn a_setting_can_be_changed_for_the_rest_of_a_run() {
    let home = Home::new();
    let mut live = Live::start(home.command(&as_given(&words(&home, "r", 40, 5))));
    live.reach("checkpoint", 5);
    live.kill();
    let (code, stderr) = ended(home.command(&["resume", "r", "--json", "--set", "training.learning_rate=1e-9"]));
    assert_eq!(code, Some(0), "{stderr}");
    let rate =
        story(&home, "r").iter().rfind(|event| event["event"] == "step").expect("steps")["learning_rate"].clone();
    assert!(rate.as_f64().is_some_and(|rate| rate <= 1e-9), "{rate}");
}
