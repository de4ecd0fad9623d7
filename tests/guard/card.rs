//! A card that has too little memory for a run, or loses some in the middle of a step: the run makes itself smaller and
//! goes on from the last step that was done (S4.2.4, S4.6.3). The card counts and computes nothing.

use crate::world::{Data, plan, world};
use peft_kernels::Backend;
use peft_kernels::cuda::Cuda;
use peft_kernels::cuda::library::Choice;
use peft_models::adapter::{AdapterSource, AdapterSpec};
use peft_models::decoder::{BuildOptions, build};
use peft_models::train::{GuardJob, RunOutcome, Trainer, checkpoint};
use peft_plan::{Fault, RunEvent};
use peft_tests::counting::Counting;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Steps that were done, what was done about the memory, and how it ended.
type Story = (Vec<u64>, Vec<String>, Result<RunOutcome, Fault>);

/// A run of four steps on a card of `capacity` bytes, which is another one once `at` steps are done.
fn run(directory: &Path, capacity: usize, at: u64, later: usize) -> (Story, usize) {
    let device = Counting::default();
    device.counted().capacity = capacity;
    let story = run_on(directory, &device, "memory_pressure", at, |device| device.counted().capacity = later);
    let peak = device.counted().peak;
    (story, peak)
}

/// The same on this card, to which `change` comes once `at` steps are done, and what was done about findings of `kind`.
fn run_on(directory: &Path, card: &Counting, kind: &str, at: u64, change: impl Fn(&Counting)) -> Story {
    let settings = ["training.micro_batch_size=4", "training.gradient_accumulation=1", "training.max_steps=4"];
    let w = world("llama", Data::Cipher, 40, 3, &settings);
    let plan = plan(&w.base, &w.train, &w.settings);
    let be = Cuda::new(card.clone()).expect("nothing can be missing");
    let source = AdapterSource::Fresh { spec: AdapterSpec::of_plan(&plan), seed: 1 };
    let options = BuildOptions { full: false, quantize: None, adapter: Some(source), trainable: true };
    let mut decoder = build(&be, w.base.checkpoint(), &options).expect("built");
    let mut asked = 0;
    let mut request = || {
        if asked == at {
            change(card);
        }
        asked += 1;
        None
    };
    let mut trainer = Trainer {
        plan: &plan,
        train: &w.train,
        validation: &[],
        directory,
        reference: None,
        fingerprint: BTreeMap::from([("backend".to_owned(), be.fingerprint())]),
        request: &mut request,
        questions: &mut || None,
        samples: None,
        write_result: &mut |_| Ok(directory.to_owned()),
        peak_memory: || 0,
        guard: GuardJob::default(),
    };
    let (mut steps, mut taken) = (Vec::new(), Vec::new());
    let mut sink = |event: &RunEvent| {
        match event {
            RunEvent::Step(step) => steps.push(step.step),
            RunEvent::Anomaly { kind: found, step, message, taken: what, code, .. } if found == kind => {
                taken.push(format!("{step}: {message}: {what} {}", code.as_deref().unwrap_or_default()));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let outcome = trainer.run(&mut decoder, &mut sink, None);
    (steps, taken, outcome)
}

/// Our kernels multiply from there on: the run says so, and is resumed with them (issue 8, 3).
#[test]
fn a_library_that_fails_in_the_middle_of_a_run_is_told_of_once_and_not_taken_up_again() {
    let home = tempfile::tempdir().expect("a directory");
    let choice = Choice { forward: Some(64), back: None };
    let device = Counting::default();
    device.counted().library = Some(("12.4.5".to_owned(), choice));
    let (steps, told, outcome) = run_on(home.path(), &device, "device", 2, |card| card.counted().library = None);
    assert!(outcome.is_ok() && steps == [1, 2, 3, 4], "{outcome:?}");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("3: ")
            && told[0].contains("cuBLASLt 12.4.5 forward from 64")
            && told[0].contains("last bits")
            && told[0].ends_with("PS-HW-009")
    );
    let has_mark =
        |directory: &Path| checkpoint::read(directory, 4).expect("a state").fingerprint["backend"].contains("cuBLASLt");
    assert!(!has_mark(home.path()), "a resumed run would go on with it");

    let whole = home.path().join("whole");
    device.counted().library = Some(("12.4.5".to_owned(), choice));
    let (_, told, _) = run_on(&whole, &device, "device", 99, |_| ());
    assert!(told.is_empty() && has_mark(&whole), "{told:?}");
}

#[test]
fn a_run_shrinks_where_a_card_has_too_little_memory_and_does_the_step_again_s4_6_3() {
    let home = tempfile::tempdir().expect("a directory");
    let ((steps, taken, _), peak) = run(&home.path().join("whole"), 0, 99, 0);
    assert_eq!((steps, taken.len()), (vec![1, 2, 3, 4], 0));

    // Too little from the beginning: layers are computed twice.
    let ((steps, taken, outcome), less) = run(&home.path().join("little"), peak * 9 / 10, 99, 0);
    assert!(outcome.is_ok() && steps == [1, 2, 3, 4] && less <= peak * 9 / 10, "{taken:?} {outcome:?}");
    assert!(taken[0].contains("layers twice"), "{taken:?}");

    // Less while it runs: the step that found none is done again, in the end with smaller micro-batches. Half of it all are
    // weights and what is learned of them, which nothing makes smaller.
    let late = home.path().join("late");
    let ((steps, taken, outcome), _) = run(&late, 0, 2, peak * 7 / 10);
    assert!(outcome.is_ok() && steps == [1, 2, 3, 4], "{steps:?} {taken:?} {outcome:?}");
    assert!(!taken.is_empty(), "nothing was done");
    let state = checkpoint::read(&late, 4).expect("the last state");
    assert!(state.guard.sets.is_some(), "{:?}", state.guard);

    // Nothing helps: a fault with its reason, and what was done is kept.
    let hopeless = home.path().join("hopeless");
    let ((steps, taken, outcome), _) = run(&hopeless, 0, 2, peak / 10);
    assert_eq!((steps, outcome.expect_err("no room").code), (vec![1, 2], "PS-MEM-001"));
    assert!(taken.is_empty() || taken.iter().any(|what| what.contains("parts")), "{taken:?}");
}
