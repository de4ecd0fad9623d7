//! Checkpoints that are not what they were.

use crate::trial::{Legacy, Live, as_given, checkpoints, refused, resumed, story, undisturbed, words};
use peft_tests::home::Home;
use std::path::Path;

/// A run that was killed after its third checkpoint.
fn killed(home: &Home, name: &str) {
    let mut live = Live::start(home.command(&as_given(&words(home, name, 40, 4))));
    live.reach("checkpoint", 12);
    live.kill();
}

/// Spoils the checkpoint in a folder.
type Damage = fn(&Path);

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = std::fs::read(path).expect("readable");
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_the_end_is_the_same() {
    let home = Home::new();
    let whole = undisturbed(&home, "whole", 40, 4);
    let damages: [(&str, Damage); 5] = [
        ("a bit of the weights", |dir| flip(&dir.join("parameters.safetensors"), |n| n - 7)),
        ("a bit of the moments", |dir| flip(&dir.join("moments.safetensors"), |n| n / 2)),
        ("half a file", |dir| {
            let path = dir.join("moments.safetensors");
            let bytes = std::fs::read(&path).expect("readable");
            std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
        }),
        ("another state", |dir| {
            let path = dir.join("state.json");
            let text = std::fs::read_to_string(&path).expect("readable");
            std::fs::write(&path, text.replacen("\"step\"", "\"stop\"", 1)).expect("written");
        }),
        ("no manifest", |dir| std::fs::remove_file(dir.join("manifest.json")).expect("removed")),
    ];
    for (n, (what, damage)) in damages.iter().enumerate() {
        let name = format!("r{n}");
        killed(&home, &name);
        let found = checkpoints(&home, &name);
        assert!(found.len() >= 2, "two are kept");
        damage(&found[0]);
        resumed(&home, &name);
        let story = story(&home, &name);
        assert!(story.iter().any(|event| event["event"] == "anomaly"), "{what}: it is told");
        Legacy::of(&home, &name).must_be(&whole, what);
    }
}

#[test]
fn a_run_whose_checkpoints_are_all_damaged_says_so() {
    let home = Home::new();
    killed(&home, "r");
    for checkpoint in checkpoints(&home, "r") {
        flip(&checkpoint.join("parameters.safetensors"), |n| n - 1);
    }
    assert_eq!(refused(&home, 3, "r")["code"], "PS-CKPT-001");
}

#[test]
fn a_base_that_is_not_the_same_is_noticed() {
    let home = Home::new();
    let model = std::path::PathBuf::from(home.path("model"));
    std::fs::create_dir(&model).expect("created");
    let mut words = words(&home, "r", 40, 4);
    let original = Path::new(&words[2]).to_owned();
    for entry in std::fs::read_dir(&original).expect("a fixture") {
        let path = entry.expect("readable").path();
        std::fs::copy(&path, model.join(path.file_name().expect("a name"))).expect("copied");
    }
    words[2] = model.display().to_string();
    let mut live = Live::start(home.command(&as_given(&words)));
    live.reach("checkpoint", 4);
    live.kill();
    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("readable");
    flip(&weights, |n| n - 100);
    assert_eq!(refused(&home, 3, "r")["code"], "PS-CKPT-002");
    std::fs::write(&weights, bytes).expect("written");
    resumed(&home, "r");
}
