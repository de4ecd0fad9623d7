//! Training with factors rounded to bf16: gradients and losses stay close to those of f32, and runs repeat bit by bit.

use crate::tiny::{Job, base, checkpoint, cpu, decoder, examples, losses, plan, relative};
use peft_kernels::Backend;
use peft_kernels::cpu::{Cpu, Factors, Path};
use peft_models::train::batch_of;

/// Largest distance of all gradients of a model, relative to their size. Eleven of these twelve are below 1.5e-2; one model
/// in four bits, whose biases of keys are large, is at 1.524e-2 since what is kept for the way back is rounded, too.
const GRADIENTS: f64 = 1.55e-2;
/// And of their direction, as a cosine.
const DIRECTION: f64 = 0.9998;
/// Largest distance of the loss of a step, relative to it.
const LOSS: f64 = 1e-2;

/// Every gradient of one pass, one after the other.
fn gradients(be: &Cpu, family: &str, method: &str) -> Vec<f32> {
    let checkpoint = checkpoint(family);
    let rows = examples(checkpoint.spec().vocab_size, 4);
    let plan = plan(checkpoint.spec(), &rows, &[&format!("adapter.method={method}")]);
    let mut decoder = decoder(be, &checkpoint, &plan);
    let mut acts = decoder.activations(false).expect("activations");
    for p in decoder.params_mut() {
        p.zero_grad(be).expect("zeroed");
    }
    decoder.train_pass(&mut acts, &batch_of(&rows, &[0, 1, 2, 3]), 1.0, (5, 9)).expect("a pass");
    let of = |p: &mut peft_models::decoder::Param<Cpu>| be.download(p.grad().expect("trained")).expect("downloaded");
    decoder.params_mut().into_iter().flat_map(of).collect()
}

#[test]
fn gradients_of_rounded_factors_are_those_of_exact_ones() {
    let exact = cpu();
    // What this processor has, and what a unit that multiplies tiles does.
    let tiles = Cpu::with_path(2, Path::ModelledTiles).expect("a model runs everywhere");
    let rounded = [&exact, &tiles].map(|be| be.with_factors(Factors::Bf16));
    for family in ["llama", "qwen2", "phi3", "gemma2"] {
        for method in ["lora", "qlora", "full"] {
            let want = gradients(&exact, family, method);
            for be in &rounded {
                let (near, be) = (gradients(be, family, method), be.fingerprint());
                let error = relative(&near, &want);
                assert!(error < GRADIENTS, "{family}, {method}, {be}: {error}");
                let dot =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let cosine = dot(&near, &want) / (dot(&near, &near) * dot(&want, &want)).sqrt();
                assert!(cosine > DIRECTION, "{family}, {method}, {be}: a cosine of {cosine}");
                assert!(error > 0.0, "{family}, {method}, {be}: nothing was rounded");
            }
        }
    }
}

#[test]
fn runs_of_rounded_factors_follow_those_of_exact_ones_and_repeat() {
    for (family, method) in [("llama", "lora"), ("phi3", "qlora"), ("qwen2", "full")] {
        let base = base(family);
        let rows = examples(base.spec().vocab_size, 8);
        let run = |precision: &str| {
            let settings = [
                format!("adapter.method={method}"),
                format!("training.precision={precision}"),
                "training.max_steps=40".to_owned(),
                "training.micro_batch_size=8".to_owned(),
                "training.gradient_accumulation=1".to_owned(),
            ];
            let plan = plan(base.spec(), &rows, &settings.each_ref().map(String::as_str));
            let home = tempfile::tempdir().expect("a directory");
            let job = Job { base: &base, plan: &plan, train: &rows, validation: &[], directory: home.path() };
            (losses(&job.finish()), job.result())
        };
        let (exact, rounded) = (run("f32"), run("bf16"));
        for ((step, want), (_, near)) in exact.0.iter().zip(&rounded.0) {
            assert!((near - want).abs() < LOSS * want, "{family}, {method}, step {step}: {near}, not {want}");
        }
        assert!(exact.0 != rounded.0, "{family}, {method}: nothing was rounded");
        assert!(rounded == run("bf16"), "{family}, {method}: the same run again differs");
    }
}
