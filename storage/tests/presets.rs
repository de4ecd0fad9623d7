//! Presets are kept whole, found by any case of their name, and not replaced by accident.

use peft_plan::RunConfig;
use peft_plan::preset::{Preset, built_in};
use peft_storage::Store;

fn preset(name: &str) -> Preset {
    let mut config = RunConfig::default();
    config.set("adapter.rank=8").expect("known");
    config.set("dataset.path=/data/a.jsonl").expect("known");
    config.set("model.id=owner/name").expect("known");
    Preset { name: name.to_owned(), description: "d".to_owned(), tags: vec!["one".to_owned()], config }
}

#[test]
fn a_preset_keeps_settings_data_and_model_s4_8_2() {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    store.save_preset(&preset("Support bot"), false).expect("saved");
    let found = store.find_preset("support BOT").expect("readable").expect("there");
    assert_eq!(found.preset.config.adapter.rank, Some(8));
    assert_eq!(found.preset.config.dataset.path.as_deref(), Some("/data/a.jsonl"));
    assert_eq!(found.preset.config.model.id.as_deref(), Some("owner/name"));
    assert_eq!(found.preset.tags, ["one"]);

    let fault = store.save_preset(&preset("support bot"), false).expect_err("taken");
    assert_eq!(fault.code, "PS-CFG-001");
    let mut other = preset("support bot");
    other.config.set("adapter.rank=4").expect("known");
    store.save_preset(&other, true).expect("replaced");
    let all = store.presets().expect("readable");
    assert_eq!((all.len(), all[0].preset.config.adapter.rank), (1, Some(4)));
    assert!(store.delete_preset("SUPPORT BOT").expect("deleted"));
    assert!(!store.delete_preset("support bot").expect("nothing to delete"));
}

#[test]
fn every_built_in_preset_can_be_kept() {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    for preset in built_in() {
        store.save_preset(preset, false).expect("saved");
        let back = store.find_preset(&preset.name).expect("readable").expect("there").preset;
        assert_eq!(back.to_value(), preset.to_value());
    }
}
