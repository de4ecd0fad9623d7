//! What a run does about trouble: pauses, goes back, leaves rows out, cuts batches, and repeats all of it bit for bit
//! when it is halted in between (S4.6.1, S4.6.3, S4.6.4, B2, B7).

use crate::faults;
use crate::world::{Data, World, plan, world};
use peft_models::engine::{Engine, TrainJob};
use peft_models::train::{GuardJob, MOST_REWINDS, Request, RunOutcome, checkpoint, ledger};
use peft_plan::findings::MemoryReading;
use peft_plan::{RunEvent, TrainingPlan};
use std::ops::ControlFlow;
use std::path::Path;

/// One call of the engine for the run in `directory`.
pub(crate) struct Trial<'a> {
    pub(crate) world: &'a World,
    pub(crate) plan: &'a TrainingPlan,
    pub(crate) directory: &'a Path,
    pub(crate) guard: GuardJob<'a>,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(world: &'a World, plan: &'a TrainingPlan, directory: &'a Path) -> Self {
        Self { world, plan, directory, guard: GuardJob::default() }
    }

    /// `request` is asked before each step, with the number of steps done by this call.
    pub(crate) fn run(
        &self,
        resume: bool,
        changed: bool,
        request: &dyn Fn(u64) -> Option<Request>,
    ) -> (RunOutcome, Vec<RunEvent>) {
        let engine = Engine::open("cpu", self.plan.threads).expect("an engine");
        let (mut events, mut asked) = (Vec::new(), 0);
        let mut ask = || {
            asked += 1;
            request(asked - 1)
        };
        let job = TrainJob {
            base: &self.world.base,
            plan: self.plan,
            train: &self.world.train,
            validation: &self.world.validation,
            truncated: 0,
            directory: self.directory,
            run: "r",
            name: "a run",
            dataset_hash: "d",
            data_bytes: 0,
            resume,
            changed,
            request: &mut ask,
            questions: &mut || None,
            samples: None,
            peak_memory: || 0,
            guard: self.guard,
        };
        let mut sink = |event: &RunEvent| {
            events.push(event.clone());
            ControlFlow::Continue(())
        };
        let outcome = engine.train(job, &mut sink).expect("no fault");
        (outcome, events)
    }

    pub(crate) fn whole(&self) -> (RunOutcome, Vec<RunEvent>) {
        self.run(false, false, &|_| None)
    }

    fn adapter(&self) -> Vec<u8> {
        std::fs::read(self.directory.join("adapter/adapter_model.safetensors")).expect("an adapter")
    }
}

/// Kind, what was done, and where the run went back to.
fn anomalies(events: &[RunEvent]) -> Vec<(String, String, Option<u64>)> {
    let anomaly = |event: &RunEvent| match event {
        RunEvent::Anomaly { kind, taken, rewound_to, .. } => Some((kind.clone(), taken.clone(), *rewound_to)),
        _ => None,
    };
    events.iter().filter_map(anomaly).collect()
}

/// The steps that are left of a story in which some were done again: number, loss bits, rate.
fn story(events: &[RunEvent]) -> Vec<(u64, u64, f64)> {
    let mut told: Vec<(u64, u64, f64)> = Vec::new();
    for event in events {
        match event {
            RunEvent::Started(_) => told.clear(),
            RunEvent::Resumed { step } => told.retain(|s| s.0 <= *step),
            RunEvent::Step(s) => told.push((s.step, s.loss.to_bits(), s.learning_rate)),
            _ => {}
        }
    }
    told
}

fn steep(settings: &[&str]) -> (World, TrainingPlan) {
    steep_with(3, settings)
}

fn steep_with(seed: u64, settings: &[&str]) -> (World, TrainingPlan) {
    let mut w =
        world("starter", Data::Cafe, 120, seed, &["training.learning_rate=6e-2", "training.micro_batch_size=4"]);
    w.settings.extend(settings.iter().map(ToString::to_string));
    let plan = plan(&w.base, &w.train, &w.settings);
    (w, plan)
}

#[test]
fn a_diverging_run_pauses_with_a_checkpoint_and_names_a_lower_rate_s4_6_1() {
    let (w, plan) = steep(&[]);
    let home = tempfile::tempdir().expect("a directory");
    let (outcome, events) = Trial::new(&w, &plan, home.path()).whole();
    let RunOutcome::Halted(finding) = outcome else { panic!("{outcome:?}") };
    assert_eq!(finding.code, "PS-TRAIN-001");
    assert!(finding.step * 10 <= plan.total_steps, "found at step {} of {}", finding.step, plan.total_steps);
    let rate = finding.rate.expect("a rate");
    assert!(rate <= 6e-3 && finding.message.contains(&format!("{rate:.1e}")), "{}", finding.message);
    assert_eq!(checkpoint::steps(home.path())[0], finding.step, "its state is saved");
    let tail: Vec<&RunEvent> = events.iter().rev().take(3).collect();
    assert!(matches!(tail[0], RunEvent::Paused { step } if *step == finding.step), "{tail:?}");
    assert!(matches!(tail[1], RunEvent::Checkpoint { .. }) && matches!(tail[2], RunEvent::Anomaly { .. }), "{tail:?}");
    // Somebody who wants to keep going may, and is not stopped by the same again at once.
    let (outcome, _) =
        Trial::new(&w, &plan, home.path()).run(true, false, &|asked| (asked == 3).then_some(Request::Pause));
    assert_eq!(outcome, RunOutcome::Paused(finding.step + 3));
}

#[test]
fn a_run_that_rewinds_repeats_itself_bit_for_bit_wherever_it_is_halted_b2() {
    let (w, plan) = steep(&["guards.on_divergence=rewind", "training.epochs=1"]);
    let home = tempfile::tempdir().expect("a directory");
    let [whole, halted] = ["whole", "halted"].map(|name| home.path().join(name));
    let whole = Trial::new(&w, &plan, &whole);
    let (outcome, events) = whole.whole();
    assert!(matches!(outcome, RunOutcome::Finished(_)), "{outcome:?}");
    let found = anomalies(&events);
    let back: Vec<_> = found.iter().filter(|(_, _, to)| to.is_some()).collect();
    assert!(!back.is_empty() && back.len() as u32 <= MOST_REWINDS, "{found:?}");
    assert!(back[0].1.contains("lowered the learning rate"), "{back:?}");
    let steps = story(&events);
    assert_eq!(steps.iter().map(|s| s.0).collect::<Vec<_>>(), (1..=plan.total_steps).collect::<Vec<_>>());
    let peak = steps.iter().map(|s| s.2).fold(0.0, f64::max);
    assert!(peak <= 3e-2 + 1e-9 || back[0].2 > Some(0), "the rate is lower from where it went back to: {peak}");
    let kept: Vec<u64> = ledger::read(whole.directory).expect("a ledger").iter().map(|v| v.step).collect();
    assert!(kept.is_sorted() && kept.last() == Some(&plan.total_steps), "the ledger tells the story that happened");

    let halted = Trial::new(&w, &plan, &halted);
    let mut told = Vec::new();
    for n in 0.. {
        let (outcome, mut events) = halted.run(n > 0, false, &|asked| (asked == 4).then_some(Request::Pause));
        told.append(&mut events);
        if matches!(outcome, RunOutcome::Finished(_)) {
            break;
        }
        assert!(n < 60, "{outcome:?}");
    }
    assert_eq!(story(&told), steps);
    assert!(halted.adapter() == whole.adapter(), "the adapters differ");
}

#[test]
fn an_explosion_turns_clipping_on_and_goes_back_and_never_does_so_without_end_s4_6_4() {
    // What such a rate does to a run, and whether its gradient or its loss is found first, hangs on the last bits of the
    // arithmetic: about every second run explodes.
    for seed in 1..=12 {
        let (w, plan) = steep_with(seed, &["training.max_gradient_norm=0", "training.epochs=1"]);
        let home = tempfile::tempdir().expect("a directory");
        let (outcome, events) = Trial::new(&w, &plan, home.path()).whole();
        let found = anomalies(&events);
        assert!(found.iter().filter(|f| f.2.is_some()).count() as u32 <= MOST_REWINDS, "{found:?}");
        assert!(matches!(outcome, RunOutcome::Finished(_) | RunOutcome::Halted(_)), "{outcome:?}");
        if let Some(first) = found.iter().find(|(kind, ..)| kind == "gradient_explosion") {
            assert!(first.1.contains("clips the gradient to 1") && first.2.is_some(), "{found:?}");
            return;
        }
    }
    panic!("none of twelve runs exploded");
}

#[test]
fn rows_that_overflow_are_named_with_a_tensor_and_left_out_and_the_run_goes_on_b7() {
    let home = tempfile::tempdir().expect("a directory");
    let mut w = world("llama", Data::Cipher, 200, 5, &["training.learning_rate=5e-3", "training.epochs=1"]);
    // Two rows hold a token that no number can carry through a layer.
    let token = 300_u32;
    w.base = faults::overflowing_token("llama", &home.path().join("model"), token);
    w.settings.push(r#"adapter.target_modules=["down_proj"]"#.to_owned());
    for at in [40, 90] {
        w.train[at].ids[2] = token;
    }
    let bad = [w.train[40].row, w.train[90].row];
    let plan = plan(&w.base, &w.train, &w.settings);
    let [whole, halted] = ["whole", "halted"].map(|name| home.path().join(name));
    let whole = Trial::new(&w, &plan, &whole);
    let (outcome, events) = whole.whole();
    assert!(matches!(outcome, RunOutcome::Finished(_)), "{outcome:?}");
    let mut named: Vec<u32> = Vec::new();
    for event in &events {
        if let RunEvent::Anomaly { kind, rows, tensor, code, taken, message, .. } = event
            && kind == "nan"
        {
            named.extend(rows);
            assert_eq!(code.as_deref(), Some("PS-TRAIN-002"));
            assert!(tensor.as_deref().is_some_and(|t| t.contains("layer") || t.contains("embedding")), "{tensor:?}");
            assert!(taken.contains("left this row out") && message.contains("row "), "{message} {taken}");
        }
    }
    named.sort_unstable();
    assert_eq!(named, bad);
    assert!(
        ledger::read(whole.directory).expect("a ledger").iter().all(|v| !bad.contains(&v.row)),
        "they taught nothing"
    );

    let halted = Trial::new(&w, &plan, &halted);
    for n in 0.. {
        let (outcome, _) = halted.run(n > 0, false, &|asked| (asked == 5).then_some(Request::Pause));
        if matches!(outcome, RunOutcome::Finished(_)) {
            break;
        }
        assert!(n < 60, "{outcome:?}");
    }
    assert!(halted.adapter() == whole.adapter(), "the adapters differ");
}

#[test]
fn a_model_that_overflows_everywhere_ends_the_run_with_its_code_and_its_place() {
    let home = tempfile::tempdir().expect("a directory");
    let mut w = world("llama", Data::Cipher, 60, 5, &[]);
    w.base = faults::altered("llama", &home.path().join("model"), &|name, _, values| {
        if name.contains("layers.1.mlp.") {
            for value in values.iter_mut() {
                *value *= 1e25;
            }
        }
    });
    let plan = plan(&w.base, &w.train, &w.settings);
    let run = home.path().join("run");
    let (outcome, _) = Trial::new(&w, &plan, &run).whole();
    let RunOutcome::Halted(finding) = outcome else { panic!("{outcome:?}") };
    assert_eq!((finding.code, finding.step), ("PS-TRAIN-002", 1));
    assert_eq!(finding.tensor.as_deref(), Some("the output of layer 1"));
    assert!(!run.join("adapter").exists(), "nothing that is broken is left");
}

#[test]
fn little_memory_cuts_micro_batches_and_each_step_still_learns_from_the_same_rows_s4_6_3() {
    let w = world("llama", Data::Cipher, 120, 5, &["training.micro_batch_size=8", "training.epochs=1"]);
    let plan = plan(&w.base, &w.train, &w.settings);
    let home = tempfile::tempdir().expect("a directory");
    let [usual, tight] = ["usual", "tight"].map(|name| home.path().join(name));
    let usual = Trial::new(&w, &plan, &usual);
    let (_, plain) = usual.whole();
    let memory: fn() -> MemoryReading = || MemoryReading { resident: 990 << 20, available: 10 << 20 };
    let tight =
        Trial { guard: GuardJob { memory: Some(memory), ..GuardJob::default() }, ..Trial::new(&w, &plan, &tight) };
    let (outcome, events) = tight.whole();
    assert!(matches!(outcome, RunOutcome::Finished(_)), "{outcome:?}");
    let found = anomalies(&events);
    assert!(found.iter().any(|(kind, taken, _)| kind == "memory_pressure" && taken.contains("2 parts")), "{found:?}");
    let rows = |directory: &Path| {
        let mut rows: Vec<(u64, u32)> =
            ledger::read(directory).expect("a ledger").iter().map(|v| (v.step, v.row)).collect();
        rows.sort_unstable();
        rows
    };
    assert_eq!(rows(usual.directory), rows(tight.directory));
    for (one, other) in story(&plain).iter().zip(story(&events)) {
        let (a, b) = (f64::from_bits(one.1), f64::from_bits(other.1));
        assert!((a - b).abs() < 1e-3 * a, "step {}: {a} and {b}", one.0);
    }
    // What was cut stays cut after a halt.
    let state = checkpoint::read(tight.directory, plan.total_steps).expect("the last state");
    assert!(state.guard.parts >= 2);
}

#[test]
fn rows_can_be_left_out_from_an_earlier_step_on_and_that_outlives_a_crash_b7() {
    let w = world("llama", Data::Cipher, 120, 5, &["training.epochs=2", "checkpoint.every_steps=4"]);
    let plan = plan(&w.base, &w.train, &w.settings);
    let home = tempfile::tempdir().expect("a directory");
    let trial = Trial::new(&w, &plan, home.path());
    let (outcome, _) = trial.run(false, false, &|asked| (asked == 11).then_some(Request::Pause));
    assert_eq!(outcome, RunOutcome::Paused(11));
    let out: Vec<u32> = w.train[..20].iter().map(|t| t.row).collect();
    let mut sorted = out.clone();
    sorted.sort_unstable();
    let mut without = plan.clone();
    without.guards.exclude_rows = sorted;
    let back = Trial {
        guard: GuardJob { rewind_to: Some(9), ..GuardJob::default() },
        ..Trial::new(&w, &without, home.path())
    };
    // Killed right after its first step: nothing but what was written before counts.
    let (outcome, events) = back.run(true, true, &|asked| (asked == 1).then_some(Request::Pause));
    assert!(events.iter().any(|e| matches!(e, RunEvent::Resumed { step: 8 })), "{events:?}");
    assert_eq!(outcome, RunOutcome::Paused(9));
    std::fs::remove_dir_all(checkpoint::path(home.path(), 9)).expect("removed");
    let (outcome, _) = Trial::new(&w, &without, home.path()).run(true, false, &|_| None);
    assert!(matches!(outcome, RunOutcome::Finished(_)), "{outcome:?}");
    let later = ledger::read(home.path()).expect("a ledger");
    assert!(later.iter().any(|v| v.step <= 8 && out.contains(&v.row)));
    assert!(later.iter().all(|v| v.step <= 8 || !out.contains(&v.row)));
}

#[test]
fn asked_between_steps_a_run_evaluates_and_saves_and_goes_on_as_if_nobody_had() {
    let w = world("llama", Data::Cipher, 120, 5, &["training.epochs=1", "checkpoint.every_steps=50"]);
    let plan = plan(&w.base, &w.train, &w.settings);
    let home = tempfile::tempdir().expect("a directory");
    let [plain, asked] = ["plain", "asked"].map(|name| home.path().join(name));
    let plain = Trial::new(&w, &plan, &plain);
    plain.whole();
    let other = Trial::new(&w, &plan, &asked);
    let (_, events) = other.run(false, false, &|n| match n {
        3 => Some(Request::Evaluate),
        5 => Some(Request::Snapshot),
        _ => None,
    });
    assert!(events.iter().any(|e| matches!(e, RunEvent::Evaluation(e) if e.step == 3)), "{events:?}");
    assert!(events.iter().any(|e| matches!(e, RunEvent::Checkpoint { step: 5, .. })), "{events:?}");
    assert!(plain.adapter() == other.adapter());
}

#[test]
fn early_stopping_that_ends_with_the_last_step_keeps_the_best_too() {
    let mut w =
        world("llama", Data::Cipher, 60, 5, &["training.learning_rate=5e-2", "evaluation.early_stopping_patience=2"]);
    // Answers that were never learnt: every step away from the base is a step into the dark.
    faults::shuffle_labels(&mut w.validation, 1.0, 3);
    w.settings.extend(["evaluation.every_steps=1".to_owned(), "training.max_steps=200".to_owned()]);
    w.settings.push("guards.on_divergence=continue".to_owned());
    let home = tempfile::tempdir().expect("a directory");
    let run = |name: &str, steps: Option<u64>| {
        let mut settings = w.settings.clone();
        settings.push("training.scheduler=constant".to_owned());
        settings.push("training.warmup_ratio=0".to_owned());
        settings.extend(steps.map(|n| format!("training.max_steps={n}")));
        let plan = plan(&w.base, &w.train, &settings);
        let directory = home.path().join(name);
        let trial = Trial::new(&w, &plan, &directory);
        let (_, events) = trial.whole();
        (story(&events).len() as u64, trial.adapter())
    };
    let (steps, kept) = run("long", None);
    assert!(steps < 200, "patience ended it");
    let (again, last) = run("short", Some(steps));
    assert_eq!(again, steps);
    assert!(kept == last, "the last step being the last of the plan changes nothing");
}
