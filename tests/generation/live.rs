//! Chat while it trains (B9): answers equal those of the checkpoint, and training does not notice.

use crate::starter;
use crate::tiny::{Job, base, examples, plan};
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, TrainJob, kept_adapter};
use peft_models::generate::{GenerateOptions, Generated, Halt, Prompt, Sampling};
use peft_models::train::{Listener, Question, RunOutcome, Tokens};
use peft_plan::{Fault, RunEvent, TrainingPlan};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

/// What an answer told.
#[derive(Default)]
struct Heard {
    step: Option<u64>,
    tokens: Vec<(usize, u32)>,
    done: Option<Vec<Vec<u32>>>,
    failed: Option<&'static str>,
    /// Nobody wants it after so many tokens.
    enough: usize,
}

struct Ear(Rc<RefCell<Heard>>);

impl Listener for Ear {
    fn begun(&mut self, step: u64) {
        self.0.borrow_mut().step = Some(step);
    }
    fn token(&mut self, prompt: usize, token: u32) -> ControlFlow<Halt> {
        self.0.borrow_mut().tokens.push((prompt, token));
        ControlFlow::Continue(())
    }
    fn is_gone(&mut self) -> bool {
        let heard = self.0.borrow();
        heard.tokens.len() >= heard.enough
    }
    fn done(&mut self, generated: Generated) {
        self.0.borrow_mut().done = Some(generated.answers.into_iter().map(|a| a.ids).collect());
    }
    fn failed(&mut self, fault: Fault) {
        self.0.borrow_mut().failed = Some(fault.code);
    }
}

fn options(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampling: Sampling { temperature: 0.9, seed: 4, ..Sampling::default() },
        max_new_tokens,
        ..GenerateOptions::default()
    }
}

fn prompts() -> Vec<Prompt> {
    [false, true].map(|adapter| Prompt { ids: (10..19).collect(), adapter }).to_vec()
}

/// After which step somebody asks what, and who hears the answer.
type Asked = (u64, Vec<Prompt>, GenerateOptions, Rc<RefCell<Heard>>);

/// Train while somebody asks.
fn train(
    base: &BaseModel,
    plan: &TrainingPlan,
    rows: &[Tokens],
    directory: &Path,
    mut asked: Vec<Asked>,
) -> Vec<RunEvent> {
    let step = RefCell::new(0);
    let mut events = Vec::new();
    let mut sink = |event: &RunEvent| {
        if let RunEvent::Step(metrics) = event {
            *step.borrow_mut() = metrics.step;
        }
        events.push(event.clone());
        ControlFlow::Continue(())
    };
    let mut questions = || {
        let due = asked.iter().position(|(at, ..)| *at <= *step.borrow())?;
        let (_, prompts, options, heard) = asked.remove(due);
        Some(Question { prompts, options, listener: Box::new(Ear(heard)) })
    };
    let job = TrainJob {
        base,
        plan,
        train: rows,
        validation: &[],
        truncated: 0,
        directory,
        run: "r",
        name: "a run",
        dataset_hash: "d",
        data_bytes: 0,
        resume: false,
        changed: false,
        request: &mut || None,
        questions: &mut questions,
        samples: None,
        peak_memory: || 0,
        guard: peft_models::train::GuardJob::default(),
    };
    let outcome = Engine::open("cpu", 2).expect("an engine").train(job, &mut sink).expect("trained");
    assert!(matches!(outcome, RunOutcome::Finished(_)));
    events
}

fn heard(enough: usize) -> Rc<RefCell<Heard>> {
    Rc::new(RefCell::new(Heard { enough, ..Heard::default() }))
}

#[test]
fn an_answer_equals_that_of_the_checkpoint_and_training_does_not_notice_b9() {
    for method in ["lora", "dora"] {
        let base = base("llama");
        let rows = examples(320, 24);
        let method = format!("adapter.method={method}");
        let settings = ["training.max_steps=120", "checkpoint.every_steps=7", &method, "training.learning_rate=1e-2"];
        let plan = plan(base.spec(), &rows, &settings);
        let quiet = tempfile::tempdir().expect("a folder");
        train(&base, &plan, &rows, quiet.path(), Vec::new());
        let asked = tempfile::tempdir().expect("a folder");
        let (first, second) = (heard(usize::MAX), heard(usize::MAX));
        let questions = vec![
            (7, prompts(), options(12), Rc::clone(&first)),
            // Waits for the first to be done.
            (8, prompts(), options(3), Rc::clone(&second)),
        ];
        train(&base, &plan, &rows, asked.path(), questions);
        let job = |directory| Job { base: &base, plan: &plan, train: &rows, validation: &[], directory };
        assert!(job(quiet.path()).result() == job(asked.path()).result(), "{method}: training noticed");

        let first = first.borrow();
        assert_eq!(first.step, Some(7), "{method}");
        let kept = kept_adapter(&base, &plan, &asked.path().join("adapters/step-7.safetensors")).expect("kept");
        let expected = starter::answers(starter::session(&base, Some(&kept)).as_mut(), &prompts(), &options(12));
        assert_eq!(first.done.as_ref(), Some(&expected), "{method}");
        let told: Vec<u32> = first.tokens.iter().filter(|(i, _)| *i == 1).map(|(_, token)| *token).collect();
        assert_eq!(told, expected[1]);
        let second = second.borrow();
        assert!(second.step > first.step && second.done.as_ref().is_some_and(|done| done[1].len() == 3), "{method}");
        // The base's answer is no work of the adapter.
        assert_eq!(second.done.as_ref().expect("done")[0], expected[0][..3]);
    }
}

#[test]
fn whoever_waits_when_the_run_ends_is_told_and_bad_questions_harm_nobody() {
    let base = base("llama");
    let rows = examples(320, 24);
    let plan = plan(base.spec(), &rows, &["training.max_steps=6"]);
    let (bad, late, gone) = (heard(usize::MAX), heard(usize::MAX), heard(0));
    let questions = vec![
        (1, vec![Prompt { ids: Vec::new(), adapter: true }], options(3), Rc::clone(&bad)),
        (1, prompts(), options(3), Rc::clone(&gone)),
        (6, prompts(), options(4000), Rc::clone(&late)),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    train(&base, &plan, &rows, folder.path(), questions);
    assert_eq!(bad.borrow().failed, Some("PS-CFG-001"));
    assert_eq!(late.borrow().failed, Some("PS-RUN-003"));
    assert!(late.borrow().done.is_none());
    assert!(gone.borrow().done.is_some() && gone.borrow().tokens.is_empty());
}

#[test]
fn a_full_fine_tune_answers_as_it_is_and_trains_the_same() {
    let base = base("llama");
    let rows = examples(320, 24);
    let plan =
        plan(base.spec(), &rows, &["training.max_steps=40", "adapter.method=full", "training.learning_rate=1e-4"]);
    let (quiet, asked) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    train(&base, &plan, &rows, quiet.path(), Vec::new());
    let ear = heard(usize::MAX);
    let question = (2, vec![prompts().remove(1)], options(6), Rc::clone(&ear));
    train(&base, &plan, &rows, asked.path(), vec![question]);
    assert_eq!(ear.borrow().done.as_ref().map(|done| done[0].len()), Some(6));
    let job = |directory| Job { base: &base, plan: &plan, train: &rows, validation: &[], directory };
    assert!(job(quiet.path()).result() == job(asked.path()).result());
}

/// Seconds that the processor worked for this process: what others do on the machine does not count.
pub(crate) fn worked() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = text.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a count");
    (ticks(11) + ticks(12)) / 100.0
}

/// The starter, trained alone and while it answers one long question after the other.
#[test]
#[ignore = "a measurement of time: alone on a machine"]
fn training_slows_by_less_than_15_percent_while_it_answers_b9() {
    let base = starter::base();
    let rows: Vec<Tokens> = examples(2048, 64)
        .into_iter()
        .map(|mut row| {
            row.ids = row.ids.repeat(6);
            row.trained = row.trained.repeat(6);
            row
        })
        .collect();
    let plan = plan(base.spec(), &rows, &["training.max_steps=60", "checkpoint.every_seconds=1e6"]);
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..6 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut asked = Vec::new();
        let ears: Vec<_> = (0..40).map(|_| heard(usize::MAX)).collect();
        if round % 2 == 1 {
            for (i, ear) in ears.iter().enumerate() {
                asked.push((i as u64 / 20, prompts(), options(400), Rc::clone(ear)));
            }
        }
        let before = worked();
        train(&base, &plan, &rows, folder.path(), asked);
        let own = worked() - before;
        seconds[round % 2].push(own);
        let tokens: usize = ears.iter().map(|ear| ear.borrow().tokens.len()).sum();
        eprintln!("round {round}: {own:.2} s of work, {tokens} tokens answered");
    }
    let slower = seconds[1].iter().sum::<f64>() / seconds[0].iter().sum::<f64>() - 1.0;
    eprintln!("slower by {:.1} %", slower * 100.0);
    assert!(slower < 0.15, "{slower}");
}
