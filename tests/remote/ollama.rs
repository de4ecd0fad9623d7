//! Models registered with an Ollama that behaves and with ones that do not.

use peft_remote::ollama::{Blob, Ollama, Step, Waiting};
use peft_tests::ollama::{Habit, MockOllama};
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Duration;

/// What comes of a registration, and what was told on the way.
fn register(ollama: &MockOllama, on_step: &mut dyn FnMut(&Step) -> ControlFlow<()>) -> peft_plan::Result<bool> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, vec![7; 700_000]).expect("written");
    let digest = durable::sha256_file(&path).expect("read");
    let waiting = Waiting { probe: Duration::from_secs(2), work: Duration::from_millis(700) };
    let connected = Ollama::connect(&Ollama::address(Some(&ollama.host()))?, waiting)?;
    let blob = Blob { path: &path, bytes: digest.bytes, sha256: &digest.sha256 };
    let request = json!({"model": "bot", "files": {"model.gguf": format!("sha256:{}", digest.sha256)}});
    connected.register(blob, &request, on_step)
}

#[test]
fn a_file_is_sent_once_and_the_model_is_made() {
    let ollama = MockOllama::new(Habit::Good);
    let mut said = Vec::new();
    for _ in 0..2 {
        let mut hear = |step: &Step| {
            if let Step::Says(text) = step {
                said.push(text.clone());
            }
            ControlFlow::Continue(())
        };
        assert!(register(&ollama, &mut hear).expect("registered"));
    }
    assert!(said.iter().any(|text| text == "writing manifest"), "{said:?}");
    let sent =
        ollama.take_log().iter().filter(|heard| heard.method == "POST" && heard.path.starts_with("/api/blobs")).count();
    assert_eq!(sent, 1, "a blob that is there is not sent again");
    assert!(ollama.models().contains_key("bot"));
}

#[test]
fn each_way_to_fail_is_told_and_none_hangs() {
    for (habit, code, says) in [
        (Habit::Old, "PS-OLL-003", "0.3.12"),
        (Habit::FailsInside, "PS-OLL-004", "invalid file magic"),
        (Habit::EndsEarly, "PS-OLL-004", "without saying"),
        (Habit::Babbles, "PS-OLL-004", "not JSON"),
        (Habit::RefusesBlob, "PS-OLL-004", "digest mismatch"),
        (Habit::FallsSilent, "PS-OLL-004", "said nothing"),
        (Habit::HangsUp, "PS-OLL-004", "connection broke"),
        (Habit::IsSomethingElse, "PS-OLL-001", "not Ollama"),
    ] {
        let fault = register(&MockOllama::new(habit), &mut |_| ControlFlow::Continue(())).expect_err("it fails");
        assert!(fault.code == code && fault.detail.contains(says), "{habit:?}: {} {}", fault.code, fault.detail);
    }
    let address = Ollama::address(Some("http://127.0.0.1:1")).expect("an address");
    let fault = Ollama::connect(&address, Waiting::default()).err().expect("nobody is there");
    assert_eq!(fault.code, "PS-OLL-001");
}

#[test]
fn whoever_had_enough_of_a_silent_ollama_is_heard() {
    let ollama = MockOllama::new(Habit::FallsSilent);
    assert!(!register(&ollama, &mut |_| ControlFlow::Break(())).expect("no fault"));
    assert!(ollama.models().is_empty());
}
