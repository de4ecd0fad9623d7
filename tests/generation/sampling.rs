//! The order of operations and what they leave, compared with transformers.

use peft_models::generate::{History, Sampling, candidates, penalize};
use serde_json::Value;

#[test]
fn what_may_be_drawn_equals_what_transformers_leaves() {
    let text = include_str!("../fixtures/generation/sampling.json");
    let cases: Vec<Value> = serde_json::from_str(text).expect("JSON");
    assert_eq!(cases.len(), 20);
    for (number, case) in cases.iter().enumerate() {
        let mut settings = serde_json::to_value(Sampling::default()).expect("plain data");
        for (key, value) in case["settings"].as_object().expect("settings") {
            settings[key] = value.clone();
        }
        let sampling: Sampling = serde_json::from_value(settings).expect("settings");
        let numbers = |key: &str| case[key].as_array().expect("numbers").iter();
        let mut logits: Vec<f32> = numbers("logits").map(|v| v.as_f64().expect("a number") as f32).collect();
        let read: Vec<u32> = numbers("read").map(|v| v.as_u64().expect("an id") as u32).collect();
        penalize(&mut logits, &sampling, &History::new(&read));
        let mut left = candidates(&logits, &sampling);
        left.sort_by_key(|candidate| candidate.1);
        let total: f64 = left.iter().map(|candidate| candidate.0).sum();
        let kept = case["kept"].as_object().expect("kept");
        let ids: Vec<String> = left.iter().map(|candidate| candidate.1.to_string()).collect();
        assert_eq!(ids, kept.keys().cloned().collect::<Vec<_>>(), "case {number}: {}", case["settings"]);
        for (weight, id) in left {
            let expected = kept[&id.to_string()].as_f64().expect("a probability");
            assert!(
                (weight / total - expected).abs() < 2e-5,
                "case {number}, token {id}: {} {expected}",
                weight / total
            );
        }
    }
}

#[test]
fn penalties_for_what_was_written_count_it() {
    let sampling = Sampling { presence_penalty: 0.5, frequency_penalty: 0.25, ..Sampling::default() };
    let mut history = History::new(&[0, 1]);
    for token in [1, 1, 2] {
        history.push(token);
    }
    let mut logits = [1.0, 1.0, 1.0, 1.0];
    penalize(&mut logits, &sampling, &history);
    // What was only read is left alone.
    assert_eq!(logits.map(f32::to_bits), [1.0_f32, 0.0, 0.25, 1.0].map(f32::to_bits));
    // A token beyond the logits is no reason to panic.
    penalize(&mut logits[..1], &Sampling { repetition_penalty: 2.0, ..sampling }, &history);
    assert_eq!(logits[0].to_bits(), 0.5_f32.to_bits());
}
