//! What is done between two steps (held-out rows are scored, prompts are answered) where a card has lost the memory for
//! it: it is done in smaller pieces, the run goes on, and its steps stay what they were (S4.6.3). The card counts and
//! computes nothing.

use crate::world::{Data, plan, world};
use peft_models::adapter::{AdapterSource, AdapterSpec};
use peft_models::decoder::{BuildOptions, build};
use peft_models::train::{GuardJob, RunOutcome, SamplePrompt, Samples, Trainer, checkpoint};
use peft_plan::{Fault, RunEvent};
use peft_tests::counting::Counting;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// What a run does between its steps.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    /// It scores held-out rows, of which many go together.
    Scores,
    /// It answers three prompts.
    Answers,
}

#[derive(Debug, Default)]
struct Story {
    steps: Vec<u64>,
    evaluations: usize,
    samples: usize,
    /// What was done about the memory.
    taken: Vec<String>,
    /// Bytes that what is between the steps took at most, beside what stays.
    need: usize,
    /// The most that was in use at a time.
    peak: usize,
}

/// A run of three steps on a card of `first` bytes; behind the first step it has only `beside` more than what stays.
fn run(directory: &Path, between: Between, first: usize, beside: Option<usize>) -> (Story, Result<RunOutcome, Fault>) {
    let settings = ["training.micro_batch_size=2", "training.max_steps=3", "evaluation.every_steps=1"];
    let w = world("llama", Data::Cipher, 400, 3, &settings);
    let plan = plan(&w.base, &w.train, &w.settings);
    let (be, counting) = Counting::backend();
    counting.counted().capacity = first;
    let source = AdapterSource::Fresh { spec: AdapterSpec::of_plan(&plan), seed: 1 };
    let options = BuildOptions { full: false, quantize: None, adapter: Some(source), trainable: true };
    let mut decoder = build(&be, w.base.checkpoint(), &options).expect("built");
    let prompt = |n: u32| SamplePrompt {
        prompt: format!("prompt {n}"),
        ids: (0..50).map(|i| 20 + (i * 3 + n) % 60).collect(),
        expected: None,
    };
    let prompts: Vec<SamplePrompt> = (0..3).map(prompt).collect();
    let samples = Samples { prompts: &prompts, tokens: 4, stop_ids: &[], tokenizer: w.base.tokenizer() };
    let mut trainer = Trainer {
        plan: &plan,
        train: &w.train[..40],
        validation: if between == Between::Scores { &w.validation } else { &[] },
        directory,
        reference: None,
        fingerprint: BTreeMap::new(),
        request: &mut || None,
        questions: &mut || None,
        samples: (between == Between::Answers).then_some(samples),
        write_result: &mut |_| Ok(directory.to_owned()),
        peak_memory: || 0,
        guard: GuardJob::default(),
    };
    let mut story = Story::default();
    let mut stays = None;
    let mut sink = |event: &RunEvent| {
        let mut counted = counting.counted();
        story.peak = story.peak.max(counted.peak);
        if let Some(stays) = stays {
            story.need = story.need.max(counted.peak.saturating_sub(stays));
        }
        match event {
            RunEvent::Step(step) => {
                story.steps.push(step.step);
                if step.step == 1 {
                    counted.capacity = beside.map_or(first, |beside| counted.used + beside);
                    counted.peak = counted.used;
                    stays = Some(counted.used);
                } else {
                    stays = None;
                }
            }
            RunEvent::Evaluation(_) => story.evaluations += 1,
            RunEvent::Sample { .. } => story.samples += 1,
            RunEvent::Anomaly { kind, taken, .. } if kind == "memory_pressure" => story.taken.push(taken.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let outcome = trainer.run(&mut decoder, &mut sink, None);
    (story, outcome)
}

#[test]
fn held_out_rows_are_scored_in_smaller_pieces_where_there_is_no_memory_for_many() {
    let home = tempfile::tempdir().expect("a directory");
    let (whole, outcome) = run(&home.path().join("whole"), Between::Scores, 0, None);
    assert!(outcome.is_ok() && whole.taken.is_empty() && whole.need > 0, "{whole:?} {outcome:?}");
    assert_eq!((whole.steps.as_slice(), whole.evaluations), (&[1, 2, 3][..], 4));

    let late = home.path().join("late");
    let (story, outcome) = run(&late, Between::Scores, 0, Some(whole.need / 3));
    assert!(outcome.is_ok(), "{story:?} {outcome:?}");
    assert_eq!((story.steps, story.evaluations), (whole.steps.clone(), whole.evaluations));
    assert_eq!(story.taken[0], "scores at most 512 tokens together from here on");
    let guard = checkpoint::read(&late, 3).expect("the last state").guard;
    assert!(guard.score_parts > 1 && guard.parts == 1 && guard.sets.is_none(), "{guard:?}");

    // Too little from the beginning: rows that are only scored make room first, and no step is another.
    let little = home.path().join("little");
    let (story, outcome) = run(&little, Between::Scores, whole.peak * 9 / 10, None);
    assert!(outcome.is_ok() && story.steps == whole.steps, "{story:?} {outcome:?}");
    assert!(story.taken[0].starts_with("scores at most 512 tokens"), "{:?}", story.taken);

    // Not even one row finds memory, whatever is given up.
    let (story, outcome) = run(&home.path().join("hopeless"), Between::Scores, 0, Some(0));
    assert!(story.taken.iter().any(|taken| taken.contains("layers twice")) || outcome.is_err(), "{story:?}");
    if let Err(fault) = outcome {
        assert_eq!(fault.code, "PS-MEM-001");
    }
}

#[test]
fn prompts_are_answered_one_at_a_time_where_there_is_no_memory_for_all() {
    let home = tempfile::tempdir().expect("a directory");
    let (whole, outcome) = run(&home.path().join("whole"), Between::Answers, 0, None);
    assert!(outcome.is_ok() && whole.taken.is_empty() && whole.need > 0, "{whole:?} {outcome:?}");
    assert_eq!((whole.steps.as_slice(), whole.samples), (&[1, 2, 3][..], 4 * 3));
    let (story, outcome) = run(&home.path().join("late"), Between::Answers, 0, Some(whole.need / 2));
    assert!(outcome.is_ok() && story.taken.is_empty(), "{story:?} {outcome:?}");
    assert_eq!((story.steps, story.samples), (whole.steps, whole.samples));
}
