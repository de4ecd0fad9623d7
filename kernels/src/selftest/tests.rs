//! The examination itself, examined: what is right passes, what is wrong is found, and found where it is.

mod broken;

use super::rig::{Record, Rig};
use super::{Check, is_inexact, run};
use crate::cpu::{Cpu, Factors};
use crate::reference::Reference;
use broken::{Broken, Damage};
use std::collections::BTreeSet;

/// Operations that write into a window.
const INTO_WINDOWS: [&str; 22] = [
    "attention",
    "attention_bwd",
    "attention_cached",
    "copy",
    "dropout",
    "embed",
    "fill",
    "gated",
    "gated_bwd",
    "gated_clamped",
    "gated_clamped_bwd",
    "gemm",
    "head_loss",
    "linear",
    "linear_bwd_input",
    "noise",
    "rms_norm",
    "rms_norm_bwd",
    "rope",
    "scale",
    "scale_columns",
    "scale_rows",
];
/// Operations that write into whole tensors, or return a number.
const INTO_TENSORS: [&str; 11] = [
    "adamw",
    "adamw_8bit",
    "column_dots",
    "divide",
    "dora_norm",
    "embed_bwd",
    "row_dots",
    "row_squares",
    "softcap",
    "sum_rows",
    "sum_squares",
];
/// Operations that every case needs.
const MEMORY: [&str; 9] =
    ["codes", "download", "download_codes", "fingerprint", "reshape", "upload", "weight", "weight_shape", "zeros"];

fn failed(checks: &[Check]) -> Vec<String> {
    checks.iter().filter(|c| !c.passed()).map(|c| format!("{} ({:e})", c.name, c.error)).collect()
}

/// The operations that the names of these checks begin with.
fn operations<'a>(checks: impl IntoIterator<Item = &'a Check>) -> BTreeSet<&'a str> {
    checks.into_iter().filter_map(|c| c.name.split(' ').next()).collect()
}

#[test]
fn the_reference_passes_with_every_seed() {
    for seed in [0, u64::MAX] {
        let checks = run(&Reference, seed);
        assert!(checks.len() > 500, "{} checks", checks.len());
        assert_eq!(failed(&checks), [""; 0], "seed {seed}");
    }
}

#[test]
fn rounding_passes_with_every_seed() {
    // With these the few outputs of a case nearly cancel, as with every 25th.
    let rounded = Cpu::new(2).expect("two threads").with_factors(Factors::Bf16);
    for seed in [0, 97, 104, 173, 180] {
        assert_eq!(failed(&super::rounded(&rounded, seed)), [""; 0], "seed {seed}");
    }
}

#[test]
fn more_is_drawn_for_numbers_that_are_not_exact_and_for_nothing_else() {
    let check = |error: f64, allowed: f64| Check { name: "a product".to_owned(), error, allowed };
    assert!(is_inexact(&[check(0.0, 0.0), check(2e-4, 1e-4), check(1e-5, 1e-4)]));
    assert!(!is_inexact(&[check(1e-4, 1e-4), check(0.0, 0.0)]), "it passed");
    // One element beside the output, or one bit that differs when repeated, is one too many.
    assert!(!is_inexact(&[check(2e-4, 1e-4), check(1.0, 0.0)]));
    assert!(!is_inexact(&[check(f64::INFINITY, 1e-4)]) && !is_inexact(&[check(f64::NAN, 1e-4)]));
    let record = |numbers: &[f32], strayed| Record { outputs: vec![("y", numbers.to_vec())], strayed };
    let mut all = record(&[1.0, 2.0], 1);
    all.append(record(&[3.0], 2));
    assert_eq!((&all.outputs[0].1[..], all.strayed), (&[1.0, 2.0, 3.0][..], 3));
}

#[test]
fn the_processor_passes() {
    for seed in [3, 0x0123_4567_89AB_CDEF] {
        let cpu = Cpu::new(2).expect("two threads");
        assert_eq!(failed(&run(&cpu, seed)), [""; 0], "seed {seed}");
        let rounded = cpu.with_factors(Factors::Bf16);
        assert_eq!(failed(&super::rounded(&rounded, seed)), [""; 0], "seed {seed}");
    }
}

#[test]
fn another_seed_draws_other_numbers_and_the_same_seed_the_same() {
    let draw = |seed| Rig::new(&Reference, seed).noise(50);
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5), draw(6));
    let (numbers, n) = (draw(5).into_iter().chain(Rig::new(&Reference, 1).noise(20_000)), 20_050.0);
    let square = numbers.map(|x| x * x).sum::<f32>() / n;
    assert!((square - 1.0).abs() < 0.05, "mean square {square}");
}

/// One element of every output is wrong: each operation is found, by each of its cases.
#[test]
fn every_operation_that_computes_wrongly_is_found() {
    let checks = run(&Broken::new(Damage::Value, None), 7);
    let failed = operations(checks.iter().filter(|c| !c.passed()));
    for op in INTO_WINDOWS.into_iter().chain(INTO_TENSORS) {
        assert!(failed.contains(op), "{op} was wrong and passed");
    }
    let case = |c: &Check| c.name.rsplit_once(": ").map(|(case, _)| case.to_owned());
    let found: BTreeSet<_> = checks.iter().filter(|c| !c.passed()).filter_map(case).collect();
    let unfound: Vec<_> = checks.iter().filter_map(case).filter(|c| !found.contains(c)).collect();
    let memory = ["largest", "zeros", "upload", "reshape", "fingerprint", "philox", "nf4", "fp4", "codes"];
    let unfound: Vec<_> = unfound.iter().filter(|c| !memory.iter().any(|op| c.starts_with(op))).collect();
    assert!(unfound.is_empty(), "passed although wrong: {unfound:?}");
}

/// The last row of every output stays as it was.
#[test]
fn every_operation_that_leaves_something_undone_is_found() {
    let checks = run(&Broken::new(Damage::Unwritten, None), 8);
    let failed = operations(checks.iter().filter(|c| !c.passed()));
    // A sum of squares is returned, not written.
    for op in INTO_WINDOWS.into_iter().chain(INTO_TENSORS).filter(|op| *op != "sum_squares") {
        assert!(failed.contains(op), "{op} did not write everything and passed");
    }
}

/// One element beside every window is overwritten, and nothing else is wrong.
#[test]
fn every_operation_that_writes_beside_its_output_is_found() {
    let checks = run(&Broken::new(Damage::Stray, None), 9);
    let failed: Vec<&Check> = checks.iter().filter(|c| !c.passed()).collect();
    assert!(failed.iter().all(|c| c.name.ends_with("beside the output")), "{failed:?}");
    let failed = operations(failed);
    for op in INTO_WINDOWS {
        assert!(failed.contains(op), "{op} wrote beside its output and passed");
    }
}

/// The last bit of one element changes from call to call.
#[test]
fn every_operation_that_is_not_repeatable_is_found() {
    let checks = run(&Broken::new(Damage::Unsteady, None), 10);
    let unsteady = |c: &&Check| !c.passed() && c.name.ends_with("when repeated");
    let failed = operations(checks.iter().filter(unsteady));
    for op in INTO_WINDOWS.into_iter().chain(INTO_TENSORS).filter(|op| *op != "sum_squares") {
        assert!(failed.contains(op), "{op} gave other bits and passed");
    }
}

#[test]
fn memory_that_does_not_keep_what_it_is_given_is_found() {
    for op in MEMORY {
        let checks = run(&Broken::new(Damage::Value, Some(op)), 11);
        assert!(checks.iter().any(|c| !c.passed()), "{op} was wrong and passed");
    }
}

/// An operation that fails is a failed check that says why, not the end of the examination.
#[test]
fn an_operation_that_returns_an_error_is_reported() {
    let checks = run(&Broken::new(Damage::Refuses, Some("gemm")), 12);
    let failed: Vec<&Check> = checks.iter().filter(|c| !c.passed()).collect();
    assert_eq!(operations(failed.iter().copied()), BTreeSet::from(["gemm"]));
    assert!(failed.iter().all(|c| c.error.is_infinite() && c.name.ends_with("no memory for 1 bytes")), "{failed:?}");
    assert!(checks.len() > 500, "the others were examined too");
}

#[test]
fn not_a_number_never_passes() {
    let check = |error| Check { name: String::new(), error, allowed: 1e-9 };
    assert!(check(1e-9).passed() && check(0.0).passed());
    assert!(!check(f64::NAN).passed() && !check(1.1e-9).passed() && !check(f64::INFINITY).passed());
}
