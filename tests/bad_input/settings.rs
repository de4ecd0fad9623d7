//! Settings that cannot be, and places that cannot be written.

use crate::trial::{Trial, detail};
use peft_tests::home::text;

#[test]
fn numbers_out_of_range() {
    let trial = Trial::of("qwen2");
    for (setting, named) in [
        ("adapter.rank=0", "adapter.rank"),
        ("adapter.rank=-1", "adapter.rank"),
        ("adapter.rank=1e9", "adapter.rank"),
        ("adapter.rank=1000000", "adapter.rank"),
        ("adapter.rank=many", "adapter.rank"),
        ("adapter.alpha=0", "adapter.alpha"),
        ("adapter.alpha=1e999", "adapter.alpha"),
        ("adapter.dropout=1", "adapter.dropout"),
        ("adapter.method=magic", "adapter.method"),
        ("training.learning_rate=0", "training.learning_rate"),
        ("training.learning_rate=-1e-4", "training.learning_rate"),
        ("training.learning_rate=\"fast\"", "training.learning_rate"),
        ("training.epochs=0", "training.epochs"),
        ("training.max_steps=0", "training.max_steps"),
        ("training.max_steps=18446744073709551615", "training.max_steps"),
        ("training.micro_batch_size=0", "training.micro_batch_size"),
        ("training.max_sequence_length=1", "training.max_sequence_length"),
        ("training.max_sequence_length=1000000", "training.max_sequence_length"),
        ("training.objective=dpo", "training.objective"),
        ("training.optimizer=sgd", "training.optimizer"),
        ("training.precision=f8", "training.precision"),
        ("training.neftune_alpha=-1", "training.neftune_alpha"),
        ("training.kept_layers=-1", "training.kept_layers"),
        ("training.kept_layers=99999999", "training.kept_layers"),
        ("training.neftune_alpha=1e9", "training.neftune_alpha"),
        ("training.optimizer=adam8", "training.optimizer"),
        ("logging.tensorboard=7", "logging.tensorboard"),
        ("training.seed=-1", "training.seed"),
        ("dataset.validation_split=0.9", "dataset.validation_split"),
        ("checkpoint.keep=0", "checkpoint.keep"),
        ("checkpoint.every_steps=0", "checkpoint.every_steps"),
        ("guards.on_divergence=panic", "guards.on_divergence"),
        ("guards.memory_limit_fraction=0", "guards.memory_limit_fraction"),
        ("quantization.format=int3", "quantization.format"),
    ] {
        let error =
            trial.refused_with("PS-CFG-001", 3, &["--model", &trial.model, "--data", &trial.data, "--set", setting]);
        assert!(detail(&error).contains(named), "{setting}: {error}");
    }
}

#[test]
fn names_that_nothing_has() {
    let trial = Trial::of("qwen2");
    let with = |code: &str, more: &[&str]| {
        trial.refused_with(code, 3, &[&["--model", &trial.model, "--data", &trial.data], more].concat())
    };
    for (setting, near) in [
        ("training.learning_rat=1", "training.learning_rate"),
        ("adaptor.rank=4", "adapter"),
        ("rank=4", "adapter.rank"),
        ("training.=1", ""),
        ("=1", ""),
        ("training.learning_rate.x.y=1", ""),
    ] {
        let output =
            trial.home.run(&["train", "--json", "--model", &trial.model, "--data", &trial.data, "--set", setting]);
        let stderr = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(2 | 3)), "{setting}: {stderr}");
        assert!(stderr.contains(near), "{setting}: {stderr}");
    }
    let error = with("PS-CFG-002", &["--set", "trainig.epochs=2"]);
    assert!(detail(&error).contains("training"), "{error}");
    for modules in ["q_projj", "self_attn", "model.layers.9.self_attn.q_proj", "^nothing$"] {
        let error = with("PS-CFG-003", &["--target-modules", modules]);
        assert!(detail(&error).contains("q_proj"), "what there is is listed: {error}");
    }
    // One that is there does not excuse one that is not.
    let error = with("PS-CFG-003", &["--target-modules", "q_proj", "x_proj"]);
    assert!(detail(&error).contains("x_proj"), "{error}");
    let broken = trial.home.run(&[
        "train",
        "--json",
        "--model",
        &trial.model,
        "--data",
        &trial.data,
        "--target-modules",
        "q_(proj",
    ]);
    assert_eq!(broken.status.code(), Some(3), "{}", text(&broken.stderr));
}

#[test]
fn run_files_that_cannot_be_read() {
    let trial = Trial::of("qwen2");
    let whole =
        |more: &str| format!(r#"{{"model":{{"id":{:?}}},"dataset":{{"path":{:?}}}{more}}}"#, trial.model, trial.data);
    for (content, code, told) in [
        (whole(r#","trainning":{"epochs":1}"#), "PS-CFG-002", "training"),
        (whole(r#","training":{"epoch":1}"#), "PS-CFG-002", "training.epochs"),
        (whole(r#","adapter":{"lora_rank":8}"#), "PS-CFG-002", "adapter."),
        (whole(r#","adapter":{"rank":0}"#), "PS-CFG-001", "adapter.rank"),
        (whole(r#","adapter":{"rank":"eight"}"#), "PS-CFG-001", "adapter.rank"),
        (whole(r#","version":99"#), "PS-CFG-001", "99"),
        (whole(r#","schema":"other/run""#), "PS-CFG-001", "other/run"),
        ("{".to_owned(), "PS-CFG-001", "JSON"),
        (String::new(), "PS-CFG-001", "JSON"),
        ("[]".to_owned(), "PS-CFG-001", ""),
        ("{}".to_owned(), "PS-CFG-001", "model"),
        (r#"{"model":{"id":"starter"}}"#.to_owned(), "PS-CFG-001", "data"),
        ("[".repeat(100_000), "PS-CFG-001", "JSON"),
    ] {
        let file = trial.home.write("RUN.json", content);
        let error = trial.refused_with(code, 3, &[&file]);
        assert!(detail(&error).contains(told), "{told}: {error}");
    }
    trial.refused_with("PS-FILE-001", 3, &[&trial.home.path("none.json")]);
}

/// A list would fill a section field by field, in an order that nobody knows.
#[test]
fn a_section_is_no_list() {
    let trial = Trial::of("qwen2");
    for section in [r#""adapter":["lora",4]"#, r#""training":[]"#, r#""checkpoint":[5]"#] {
        let (model, data) = (&trial.model, &trial.data);
        let content = format!(r#"{{"model":{{"id":{model:?}}},"dataset":{{"path":{data:?}}},{section}}}"#);
        let file = trial.home.write("RUN.json", content);
        trial.refused_with("PS-CFG-001", 3, &[&file]);
    }
}

#[test]
fn places_that_cannot_be_written() {
    let trial = Trial::of("qwen2");
    // Below a file there can be no folder, whoever asks.
    let below = format!("{}/out", trial.data);
    let output = trial.home.run(&["train", "--json", "--model", &trial.model, "--data", &trial.data, "--out", &below]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("PS-DISK-00"), "{stderr}");
    assert_eq!(trial.home.json(&["runs", "list"])["runs"], serde_json::json!([]));
    if std::path::Path::new("/proc/self").exists() {
        let output =
            trial.home.run(&["train", "--json", "--model", &trial.model, "--data", &trial.data, "--out", "/proc/out"]);
        let stderr = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(3 | 4)) && stderr.contains("\"code\":\"PS-"), "{stderr}");
        assert_eq!(trial.home.json(&["runs", "list"])["runs"], serde_json::json!([]));
    }
    let home = format!("{}/home", trial.data);
    let output =
        trial.home.run(&["train", "--json", "--model", &trial.model, "--data", &trial.data, "--data-dir", &home]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("PS-DISK-00"), "{stderr}");
}

#[test]
fn a_mistake_does_not_use_up_the_folder_that_was_named() {
    let trial = Trial::of("qwen2");
    let out = trial.home.path("out");
    let words = [
        "train",
        "--json",
        "--model",
        &trial.model,
        "--data",
        &trial.data,
        "--out",
        &out,
        "--set",
        "training.max_steps=1",
    ];
    let wrong = trial.home.run(&[&words[..], &["--target-modules", "q_projj"]].concat());
    assert_eq!(wrong.status.code(), Some(3), "{}", text(&wrong.stderr));
    let right = trial.home.run(&words);
    assert_eq!(right.status.code(), Some(0), "{}", text(&right.stderr));
}
