//! Whole runs learn: eight examples by heart with every method, and early stopping keeps the best.

use crate::tiny::{Job, base, examples, folder, losses, plan};
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, Quantization};
use peft_models::train::{MOST_REWINDS, RunOutcome, Tokens};
use peft_plan::{RunEvent, TrainingPlan};
use std::path::Path;

/// Mean loss of what a finished run left, loaded again.
fn loss_of_result(base: &BaseModel, plan: &TrainingPlan, directory: &Path, rows: &[Tokens]) -> f64 {
    let engine = Engine::open("cpu", 2).expect("an engine");
    let model = directory.join("model");
    let full = model.is_dir().then(|| BaseModel::open("full", &model).expect("a whole model"));
    let mut session = match &full {
        Some(full) => engine.session(full, None, None),
        None => engine.session(base, Some(&directory.join("adapter")), Quantization::of_plan(plan)),
    }
    .expect("a session");
    session.score(rows, true).expect("scores").mean_loss()
}

#[test]
fn every_method_learns_eight_examples_by_heart_and_keeps_what_it_learnt() {
    for (family, method, rate) in [
        ("llama", "lora", "2e-2"),
        ("phi3", "qlora", "2e-2"),
        ("qwen3", "dora", "2e-2"),
        ("mistral", "qdora", "2e-2"),
        ("llama", "full", "5e-3"),
        ("gemma3", "full", "5e-3"),
        ("qwen2", "full", "5e-3"),
    ] {
        let name = format!("{family}, {method}");
        let home = tempfile::tempdir().expect("a directory");
        let base = base(family);
        let rows = examples(base.spec().vocab_size, 8);
        let settings = [
            format!("adapter.method={method}"),
            format!("training.learning_rate={rate}"),
            "adapter.rank=8".to_owned(),
            "training.max_steps=60".to_owned(),
            "training.micro_batch_size=8".to_owned(),
            "training.gradient_accumulation=1".to_owned(),
            "training.scheduler=linear".to_owned(),
        ];
        let plan = plan(base.spec(), &rows, &settings.each_ref().map(String::as_str));
        let job = Job { base: &base, plan: &plan, train: &rows, validation: &[], directory: home.path() };
        let events = job.finish();
        let losses = losses(&events);
        assert_eq!(losses.len(), 60, "{name}");
        let (first, last) = (losses[0].1, losses[59].1);
        assert!(first > 4.0 && last < 0.6, "{name}: from {first} to {last}");
        let kept = loss_of_result(&base, &plan, home.path(), &rows);
        // The last step's update comes after its loss was measured; `full` is rounded to bf16.
        assert!((kept - last).abs() < 0.05 + 0.2 * last, "{name}: {kept} on disk, {last} in the run");
    }
}

#[test]
fn early_stopping_keeps_the_adapter_of_the_best_evaluation() {
    let home = tempfile::tempdir().expect("a directory");
    let base = base("llama");
    // Random tokens: what is learnt by heart makes every other answer less likely.
    let rows = examples(320, 12);
    let (train, validation) = rows.split_at(6);
    let settings = [
        "training.learning_rate=5e-2",
        "training.max_steps=200",
        "training.micro_batch_size=6",
        "training.gradient_accumulation=1",
        "evaluation.every_steps=2",
        "evaluation.early_stopping_patience=3",
    ];
    let plan = plan(base.spec(), train, &settings);
    let job = Job { base: &base, plan: &plan, train, validation, directory: home.path() };
    let events = job.finish();
    let evaluations: Vec<(u64, f64)> = events
        .iter()
        .filter_map(|event| match event {
            // Step 0 is the untouched base, which is no candidate.
            RunEvent::Evaluation(e) if e.step > 0 => Some((e.step, e.loss)),
            _ => None,
        })
        .collect();
    let best = evaluations.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).expect("evaluated");
    let last = *evaluations.last().expect("evaluated");
    assert_eq!(last.0, best.0 + 6, "three evaluations without gain: {evaluations:?}");
    assert!(last.0 < 200);
    let kept = loss_of_result(&base, &plan, home.path(), validation);
    assert!((kept - best.1).abs() < 1e-6 * best.1, "{kept}, {evaluations:?}");
}

#[test]
fn a_model_whose_weights_are_not_numbers_is_refused_by_name() {
    let home = tempfile::tempdir().expect("a directory");
    let model = home.path().join("model");
    std::fs::create_dir(&model).expect("created");
    for entry in std::fs::read_dir(folder("llama").join("model")).expect("a fixture") {
        let path = entry.expect("readable").path();
        std::fs::copy(&path, model.join(path.file_name().expect("a name"))).expect("copied");
    }
    let weights = model.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("readable");
    let at = bytes.len() - 10;
    bytes[at..at + 2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).expect("written");
    let base = BaseModel::open("broken", &model).expect("its headers are fine");
    let rows = examples(320, 2);
    let plan = plan(base.spec(), &rows, &["training.max_steps=1"]);
    let run = home.path().join("run");
    let job = Job { base: &base, plan: &plan, train: &rows, validation: &[], directory: &run };
    let fault = job.run(false, &|_| None).expect_err("nothing can be learnt from that");
    assert_eq!(fault.code, "PS-MODEL-005");
    let last = base.checkpoint().non_finite(|_| true).expect("it is found");
    assert!(fault.detail.contains(&last), "{fault}");
    assert!(!run.exists(), "nothing was written");
}

#[test]
fn a_rate_that_blows_up_ends_the_run_before_anything_worse_is_kept() {
    let home = tempfile::tempdir().expect("a directory");
    let base = base("llama");
    let rows = examples(320, 4);
    let settings = [
        "adapter.method=full",
        "training.learning_rate=10",
        "training.scheduler=constant",
        "training.max_gradient_norm=0",
        "training.max_steps=500",
        "checkpoint.every_steps=1",
        "checkpoint.every_seconds=1e9",
    ];
    let plan = TrainingPlan { learning_rate: 1e30, ..plan(base.spec(), &rows, &settings) };
    let job = Job { base: &base, plan: &plan, train: &rows, validation: &[], directory: home.path() };
    let (outcome, events) = job.run(false, &|_| None).expect("the guard holds it");
    let RunOutcome::Halted(finding) = outcome else { panic!("{outcome:?}") };
    assert_eq!(finding.code, "PS-TRAIN-002");
    let back = events.iter().filter(|e| matches!(e, RunEvent::Anomaly { rewound_to: Some(_), .. })).count();
    assert_eq!(back as u32, MOST_REWINDS, "{events:?}");
    assert!(!home.path().join("model").exists(), "no broken model is left");
}
