//! A run that was halted and resumed, however often, leaves the bytes and tells the losses of one that was not (B2).

use crate::tiny::{Job, base, examples, losses, plan};
use peft_models::train::{Request, RunOutcome, checkpoint};
use peft_plan::RunEvent;
use std::path::Path;

const STEPS: u64 = 11;

/// What is different from run to run.
const CASES: &[(&str, &[&str])] = &[
    ("llama", &["adapter.dropout=0.3"]),
    (
        "llama",
        &["adapter.method=dora", "adapter.dropout=0.2", "training.packing=true", "training.max_sequence_length=24"],
    ),
    ("mistral", &["adapter.method=qlora", "training.activation_checkpointing=true"]),
    ("mistral", &["adapter.method=qlora", "training.precision=bf16"]),
    ("gemma3", &["adapter.method=qdora", "adapter.lora_plus_ratio=8"]),
    ("qwen2", &["adapter.method=full", "training.scheduler=wsd"]),
    (
        "qwen3",
        &[
            "training.optimizer=adamw_8bit",
            "training.neftune_alpha=5",
            r#"adapter.modules_to_save=["embed_tokens","lm_head","norm"]"#,
        ],
    ),
    ("phi3", &["evaluation.early_stopping_patience=2", "training.learning_rate=5e-2"]),
];

fn whole_and_resumed(family: &str, settings: &[&str], halts: &[u64], check: &dyn Fn(&Path)) {
    let name = format!("{family}, {settings:?}, halted after {halts:?}");
    let base = base(family);
    let rows = examples(base.spec().vocab_size, 14);
    let (train, validation) = rows.split_at(10);
    let usual = [
        "training.max_steps=11",
        "training.micro_batch_size=2",
        "training.gradient_accumulation=2",
        "evaluation.every_steps=2",
        "checkpoint.every_steps=3",
        "training.warmup_ratio=0.3",
    ];
    let plan = plan(base.spec(), train, &[&usual[..], settings].concat());
    let home = tempfile::tempdir().expect("a directory");
    let job = |directory| Job { base: &base, plan: &plan, train, validation, directory };
    let [whole, halted] = ["whole", "halted"].map(|name| home.path().join(name));
    for directory in [&whole, &halted] {
        std::fs::create_dir(directory).expect("created");
    }
    let whole = job(&whole);
    let events = whole.finish();

    let halted = job(&halted);
    let mut told = Vec::new();
    let mut done = 0;
    // Early stopping may end a run before its last halt.
    for &halt in halts.iter().chain([&u64::MAX]) {
        let request = |asked: u64| (done + asked >= halt).then_some(Request::Pause);
        let (outcome, mut events) = halted.run(done > 0, &request).expect("trained");
        told.append(&mut events);
        if let RunOutcome::Finished(_) = outcome {
            break;
        }
        assert_eq!(outcome, RunOutcome::Paused(halt), "{name}");
        done = halt;
        check(halted.directory);
    }

    let bits = |events: &[RunEvent]| losses(events).iter().map(|(s, l)| (*s, l.to_bits())).collect::<Vec<_>>();
    assert_eq!(bits(&told), bits(&events), "{name}");
    let evaluations = |events: &[RunEvent]| -> Vec<RunEvent> {
        events.iter().filter(|event| matches!(event, RunEvent::Evaluation(_))).cloned().collect()
    };
    assert_eq!(evaluations(&told), evaluations(&events), "{name}");
    assert!(whole.result() == halted.result(), "{name}: the results differ");
    let step = checkpoint::steps(whole.directory)[0];
    // After early stopping the newest checkpoint is that of the last halt, if there was one.
    if checkpoint::steps(halted.directory)[0] == step {
        for file in ["parameters.safetensors", "moments.safetensors"] {
            let bytes = |run: &Path| std::fs::read(checkpoint::path(run, step).join(file)).expect("a checkpoint");
            assert!(bytes(whole.directory) == bytes(halted.directory), "{name}: step {step}, {file}");
        }
    }
}

#[test]
fn every_kind_of_run_resumes_bit_for_bit() {
    for (family, settings) in CASES {
        whole_and_resumed(family, settings, &[1, 4, 5, 8], &|_| {});
    }
}

#[test]
fn a_run_may_be_halted_after_any_step() {
    let every: Vec<u64> = (1..STEPS).collect();
    whole_and_resumed("llama", &["adapter.dropout=0.3"], &every, &|_| {});
}

#[test]
fn what_a_crash_leaves_beside_checkpoints_is_tidied() {
    whole_and_resumed("llama", &[], &[4, 7], &|directory| {
        let checkpoints = checkpoint::directory(directory);
        let newest = checkpoint::steps(directory)[0];
        // A checkpoint that was being written, and a newer one of which half is gone.
        let half = checkpoints.join(".tmp-1-2");
        std::fs::create_dir_all(&half).expect("created");
        std::fs::write(half.join("parameters.safetensors"), b"half").expect("written");
        let later = checkpoints.join(format!("step-{}", newest + 1));
        std::fs::create_dir(&later).expect("created");
        std::fs::copy(checkpoint::path(directory, newest).join("state.json"), later.join("state.json"))
            .expect("copied");
    });
}

#[test]
fn a_damaged_state_does_not_push_out_a_good_one() {
    let base = base("llama");
    let rows = examples(320, 10);
    let plan = plan(base.spec(), &rows, &["training.max_steps=30", "checkpoint.every_steps=4", "checkpoint.keep=2"]);
    let home = tempfile::tempdir().expect("a directory");
    let job = Job { base: &base, plan: &plan, train: &rows, validation: &[], directory: home.path() };
    let halt_after = |steps: u64, resume: bool| {
        job.run(resume, &|asked| (asked == steps).then_some(Request::Pause)).expect("halted");
        checkpoint::steps(home.path())
    };
    assert_eq!(halt_after(12, false), [12, 8]);
    std::fs::write(checkpoint::path(home.path(), 12).join("moments.safetensors"), b"damaged").expect("written");
    assert_eq!(halt_after(1, true), [9, 8], "12 is of no use to anybody");
}
