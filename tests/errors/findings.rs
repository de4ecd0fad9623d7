//! What a run is told about itself, provoked one by one with events and rows made for it (S4.6).

use peft_plan::event::{Evaluation, Interval, RunEvent, StepMetrics};
use peft_plan::findings::{
    Detector, ExampleView, Explosion, Finding, Overfitting, Plateau, RowLoss, RowWatch, RunFacts, Start, examine,
};

const FACTS: RunFacts =
    RunFacts { total_steps: 100, warmup_steps: 0, learning_rate: 1e-4, max_gradient_norm: 1.0, vocabulary: 1000 };

fn step(step: u64, loss: f64, gradient_norm: f64) -> RunEvent {
    RunEvent::Step(StepMetrics {
        step,
        epoch: 0.0,
        loss,
        gradient_norm,
        learning_rate: 1e-4,
        tokens: 10,
        tokens_per_second: 1.0,
        memory_bytes: 1,
        eta_seconds: Interval { low: 0.0, expected: 0.0, high: 0.0 },
        preference: None,
    })
}

fn evaluation(step: u64, loss: f64) -> RunEvent {
    RunEvent::Evaluation(Evaluation { step, loss, perplexity: loss.exp(), token_accuracy: 0.5, preference: None })
}

/// The first finding of `events`.
fn found(mut detector: impl Detector, events: &[RunEvent]) -> Option<Finding> {
    events.iter().find_map(|event| detector.observe(event, &FACTS))
}

fn codes(finding: Option<Finding>) -> (&'static str, u8) {
    let fault = finding.expect("a finding").fault();
    assert!((2..=3).contains(&fault.shown_actions().len()), "{fault:?}");
    (fault.code, fault.entry().exit)
}

#[test]
fn learning_by_heart_is_found_s4_6_2() {
    let events = [
        step(1, 3.0, 1.0),
        evaluation(1, 2.0),
        step(2, 2.0, 1.0),
        evaluation(2, 2.1),
        step(3, 1.0, 1.0),
        evaluation(3, 2.4),
    ];
    assert_eq!(codes(found(Overfitting::default(), &events)), ("PS-TRAIN-003", 1));
    assert_eq!(found(Overfitting::default(), &events[..4]), None);
}

#[test]
fn learning_nothing_is_found() {
    let events: Vec<RunEvent> = (1..=3).map(|at| step(at, 3.0, 0.0)).collect();
    assert_eq!(codes(found(Plateau::default(), &events)), ("PS-TRAIN-004", 1));
    assert_eq!(found(Plateau::default(), &events[..2]), None);
}

#[test]
fn an_exploding_gradient_is_found_s4_6_4() {
    let mut events: Vec<RunEvent> = (1..=6).map(|at| step(at, 3.0, 1.0)).collect();
    events.push(step(7, 3.0, 50.0));
    assert_eq!(found(Explosion::default(), &events), None, "once is no explosion where gradients are clipped");
    events.push(step(8, 3.0, 60.0));
    assert_eq!(codes(found(Explosion::default(), &events)).0, "PS-TRAIN-005");
}

#[test]
fn a_start_worse_than_guessing_is_found() {
    assert_eq!(codes(found(Start::default(), &[step(1, 20.0, 1.0)])).0, "PS-TRAIN-006");
}

#[test]
fn rows_that_stand_out_are_found_b7() {
    let mut watch = RowWatch::default();
    let row = |row: u32, loss: f32| RowLoss { row, loss, tokens: 20 };
    let usual: Vec<RowLoss> = (0..30).map(|n| row(n, 1.0 + 0.01 * n as f32)).collect();
    let place = |row: u32| format!("row {row}");
    assert_eq!(watch.observe(1, &usual, &FACTS, &place), None);
    let with_wild = [row(31, 1.1), row(32, 1.2), row(33, 30.0)];
    let finding = watch.observe(2, &with_wild, &FACTS, &place);
    assert_eq!(finding.as_ref().map(|finding| finding.rows.clone()), Some(vec![33]));
    assert_eq!(codes(finding).0, "PS-TRAIN-007");
}

/// Rows of a question and an answer; the last token ends it. `learnt`: tokens from the end that are learnt.
fn rows(answer: impl Fn(u32) -> u32, learnt: usize) -> Vec<(Vec<u32>, Vec<bool>)> {
    let row = |n: u32| {
        let ids = vec![1, 100 + n, 2, answer(n), 300 + n % 3, 9];
        let trained = (0..ids.len()).map(|at| at + learnt >= ids.len()).collect();
        (ids, trained)
    };
    (0..40).map(row).collect()
}

fn views(rows: &[(Vec<u32>, Vec<bool>)]) -> Vec<ExampleView<'_>> {
    rows.iter().enumerate().map(|(row, (ids, trained))| ExampleView { ids, trained, row: row as u32 }).collect()
}

#[test]
fn masked_answers_equal_answers_and_leaks_are_found_in_the_rows() {
    let place = |row: u32| format!("row {row}");
    let codes = |train: &[ExampleView], validation: &[ExampleView]| -> Vec<&'static str> {
        examine(train, validation, &place).findings.iter().map(|finding| finding.fault().code).collect()
    };
    let sound = rows(|n| 200 + n, 3);
    assert!(codes(&views(&sound), &[]).is_empty());
    let only_ends = rows(|n| 200 + n, 1);
    assert!(codes(&views(&only_ends), &[]).contains(&"PS-TRAIN-008"));
    let mut same = rows(|_| 200, 3);
    for (ids, _) in &mut same {
        ids[4] = 300;
    }
    assert!(codes(&views(&same), &[]).contains(&"PS-TRAIN-009"));
    assert!(codes(&views(&sound), &views(&sound)[..10]).contains(&"PS-DATA-010"));
}
