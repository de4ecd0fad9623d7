//! The decoder against PEFT and bitsandbytes: every family, every method, number for number.
//!
//! The references were written by `tests/fixtures/make_parity.py`; the tolerances are those of `verify`.

use peft_kernels::Backend;
use peft_kernels::cpu::Cpu;
use peft_kernels::reference::Reference;
use peft_models::checkpoint::Checkpoint;
use peft_models::verify::{Verification, verify};
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity")
}

/// Model directory and reference of every fixture.
fn references() -> Vec<(String, PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for family in std::fs::read_dir(fixtures()).expect("fixtures are in the tree") {
        let family = family.expect("readable").path();
        for file in std::fs::read_dir(&family).into_iter().flatten() {
            let reference = file.expect("readable").path();
            if reference.extension().is_none_or(|e| e != "safetensors") {
                continue;
            }
            let stem = reference.file_stem().and_then(|s| s.to_str()).expect("plain name").to_owned();
            // References of stored 4-bit checkpoints belong to the folder of the same ending.
            let model = match stem.as_str() {
                s if s.starts_with("bnb-4bit") => family.join(format!("model-{s}")),
                _ => family.join("model"),
            };
            let name = family.file_name().and_then(|n| n.to_str()).expect("plain name");
            found.push((format!("{name}/{stem}"), model, reference));
        }
    }
    found.sort();
    found
}

#[expect(clippy::print_stdout, reason = "the table of errors is what a person wants to see of a failure")]
fn check<B: Backend>(be: &B, filter: impl Fn(&str) -> bool) {
    let mut failed = Vec::new();
    let mut seen = 0;
    for (name, model, reference) in references() {
        if !filter(&name) {
            continue;
        }
        seen += 1;
        let checkpoint = Checkpoint::open(&model).unwrap_or_else(|f| panic!("{name}: {f}"));
        let v: Verification = verify(be, &checkpoint, &reference).unwrap_or_else(|f| panic!("{name}: {f}"));
        println!(
            "{name:<28} loss {:.1e} logits {:.1e} gradient {:.1e} updated {:.1e} ({})",
            v.loss_relative_error,
            v.logits_relative_error,
            v.gradient_relative_error.worst,
            v.updated_weight_relative_error.worst,
            v.updated_weight_relative_error.tensor
        );
        if !v.within_tolerance {
            failed.push(format!("{name}: {v:?}"));
        }
    }
    assert!(seen > 0, "no fixture matched");
    assert!(failed.is_empty(), "{} of {seen} out of tolerance:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_family_and_method_matches_peft_on_the_cpu() {
    check(&Cpu::new(2).expect("two threads"), |_| true);
}

#[test]
fn lora_matches_peft_on_the_reference_backend() {
    check(&Reference, |name| name.ends_with("/lora"));
}

#[test]
fn there_is_a_reference_for_every_family_and_method() {
    let names: Vec<String> = references().into_iter().map(|r| r.0).collect();
    for family in ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3"] {
        for method in ["lora", "rslora", "dora", "nf4", "nf4-dq", "nf4-dora"] {
            assert!(names.contains(&format!("{family}/{method}")), "{family}/{method}");
        }
    }
    // Later families: what is new in them is one operation each, so one method proves it.
    for family in peft_plan::family::FAMILIES {
        let is_there = references().iter().any(|(name, model, _)| {
            let spec = Checkpoint::open(model).unwrap_or_else(|f| panic!("{name}: {f}")).spec().clone();
            name.ends_with("/lora") && spec.family == family.name
        });
        assert!(is_there, "no reference for {}", family.title);
    }
    for name in ["phi4/lora", "qwen2-long/lora", "mistral-small/lora", "granite/nf4-dq", "qwen3-moe/nf4"] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
}
