//! Whole runs that learn preferences: what they learn, and that halting and resuming changes nothing (B2).

use crate::tiny::{Job, base, losses, plan};
use peft_models::base::BaseModel;
use peft_models::engine::Engine;
use peft_models::train::{Pair, Request, RunOutcome, Tokens, checkpoint};
use peft_plan::order::SplitMix;
use peft_plan::{Objective, PreferenceMetrics, PreferencePlan, RunEvent};
use std::path::Path;

/// Pairs whose better answer is made of sixteen ids and whose worse one of sixteen others, after a random prompt; for
/// KTO an answer of either kind beside one to another prompt.
fn pairs(vocabulary: usize, count: usize, rated: bool, seed: u64) -> Vec<Tokens> {
    let mut random = SplitMix::new(seed);
    let half = vocabulary / 2;
    (0..count)
        .map(|row| {
            let prompt: Vec<u32> = (0..3 + row % 4).map(|_| random.below(vocabulary) as u32).collect();
            let mut answer = |good: bool| -> Vec<u32> {
                let from = if good { 0 } else { half };
                (0..2 + row % 3).map(|_| (from + random.below(16)) as u32).collect()
            };
            let desirable = !rated || row % 2 == 0;
            let answers = if rated { [answer(desirable), answer(!desirable)] } else { [answer(true), answer(false)] };
            let border = prompt.len() + answers[0].len();
            let pair = Some(Pair { border: border as u32, desirable });
            let mut tokens = Tokens { ids: Vec::new(), trained: Vec::new(), row: row as u32, pair };
            for answer in answers {
                tokens.trained.extend(prompt.iter().map(|_| false).chain(answer.iter().map(|_| true)));
                tokens.ids.extend(prompt.iter().copied().chain(answer));
            }
            tokens
        })
        .collect()
}

fn evaluations(events: &[RunEvent]) -> Vec<(f64, PreferenceMetrics)> {
    let of = |event: &RunEvent| match event {
        RunEvent::Evaluation(e) => Some((e.loss, e.preference.expect("preferences were measured"))),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// The held-out scores of the adapter that a run left.
fn held_out(base: &BaseModel, directory: &Path, rows: &[Tokens], objective: Objective) -> PreferenceMetrics {
    let engine = Engine::open("cpu", 2).expect("an engine");
    let mut session = engine.session(base, Some(&directory.join("adapter")), None).expect("a session");
    session.score_preferences(rows, &PreferencePlan::new(objective), true).expect("scores").metrics()
}

#[test]
fn every_objective_learns_what_is_preferred_and_tells_so() {
    for (objective, settings) in [
        ("dpo", &["adapter.method=lora"][..]),
        ("dpo", &["adapter.method=dora", "training.preference_loss=ipo"]),
        ("dpo", &["adapter.method=qlora", "training.preference_loss=hinge"]),
        ("orpo", &["adapter.use_rslora=true", "training.preference_beta=1"]),
        ("kto", &["adapter.method=lora"]),
    ] {
        let name = format!("{objective}, {settings:?}");
        let base = base("llama");
        let rows = pairs(320, 60, objective == "kto", 5);
        let (train, validation) = rows.split_at(48);
        let setting = format!("training.objective={objective}");
        let usual = [
            setting.as_str(),
            "training.max_steps=30",
            "training.micro_batch_size=4",
            "training.gradient_accumulation=2",
            "training.learning_rate=1e-2",
            "evaluation.every_steps=15",
        ];
        let plan = plan(base.spec(), train, &[&usual[..], settings].concat());
        let home = tempfile::tempdir().expect("a directory");
        let job = Job { base: &base, plan: &plan, train, validation, directory: home.path() };
        let events = job.finish();
        let losses = losses(&events);
        let first: f64 = losses[0].1;
        if objective == "dpo"
            && plan.preference.as_ref().is_some_and(|p| p.loss == peft_plan::preference::PairLoss::Sigmoid)
        {
            assert!((first - std::f64::consts::LN_2).abs() < 1e-6, "{name}: the first step has not moved: {first}");
        }
        let evaluations = evaluations(&events);
        let (loss, last) = *evaluations.last().expect("evaluated");
        assert!(loss < 0.95 * first, "{name}: {first}, {evaluations:?}");
        assert!(last.accuracy > 0.9, "{name}: {evaluations:?}");
        assert!(last.margin.is_some_and(|margin| margin > 0.05), "{name}: {evaluations:?}");
        assert_eq!(last.kl.is_some(), objective == "kto");
        let wants = Objective::of(&{
            let mut config = peft_plan::RunConfig::default();
            config.set(&setting).expect("a setting");
            config
        });
        if !plan.method.is_quantized() && wants != Objective::Orpo {
            let loaded = held_out(&base, home.path(), validation, wants);
            let beta = plan.preference.as_ref().expect("a preference").beta / 0.1;
            let (ours, theirs) = (loaded.margin.expect("a margin") * beta, last.margin.expect("a margin"));
            assert!(
                (ours - theirs).abs() < 1e-3 * theirs.abs().max(1.0),
                "{name}: {ours} on disk, {theirs} in the run"
            );
        }
    }
}

#[test]
fn halted_runs_leave_the_bytes_of_runs_that_were_not_b2() {
    for (objective, more) in [("dpo", &["adapter.dropout=0.2"][..]), ("orpo", &[]), ("kto", &["adapter.method=dora"])] {
        let base = base("llama");
        let rows = pairs(320, 17, objective == "kto", 9);
        let (train, validation) = rows.split_at(12);
        let setting = format!("training.objective={objective}");
        // Three epochs of four steps: what the reference scored in the first is needed in the others.
        let usual = [
            setting.as_str(),
            "training.max_steps=11",
            "training.micro_batch_size=2",
            "training.gradient_accumulation=2",
            "evaluation.every_steps=4",
            "checkpoint.every_steps=3",
        ];
        let plan = plan(base.spec(), train, &[&usual[..], more].concat());
        let home = tempfile::tempdir().expect("a directory");
        let whole = Job { base: &base, plan: &plan, train, validation, directory: &home.path().join("whole") };
        let whole_events = whole.finish();
        let halted = Job { directory: &home.path().join("halted"), ..whole };
        let mut told = Vec::new();
        let mut resume = false;
        for after in [2, 4, 3] {
            let (outcome, events) =
                halted.run(resume, &|asked| (asked == after).then_some(Request::Pause)).expect("halted");
            assert!(matches!(outcome, RunOutcome::Paused(_)), "{objective}: {outcome:?}");
            told.extend(events);
            resume = true;
        }
        // The process died without a checkpoint of its last steps.
        let newest = checkpoint::steps(halted.directory)[0];
        std::fs::remove_dir_all(checkpoint::path(halted.directory, newest)).expect("removed");
        let (outcome, events) = halted.run(true, &|_| None).expect("resumed");
        assert!(matches!(outcome, RunOutcome::Finished(_)));
        assert!(halted.result() == Job { directory: &home.path().join("whole"), ..halted }.result(), "{objective}");
        let resumed_at = events.iter().find_map(|event| match event {
            RunEvent::Resumed { step } => Some(*step),
            _ => None,
        });
        let from = resumed_at.expect("resumed") as usize;
        assert_eq!(losses(&events)[..], losses(&whole_events)[from..], "{objective}");
        let steps = |events: &[RunEvent]| -> Vec<(u64, Option<PreferenceMetrics>)> {
            let of = |event: &RunEvent| match event {
                RunEvent::Step(step) => Some((step.step, step.preference)),
                _ => None,
            };
            events.iter().filter_map(of).collect()
        };
        assert_eq!(steps(&events)[..], steps(&whole_events)[from..], "{objective}");
        let last = evaluations(&events).pop().expect("evaluated at the end");
        assert_eq!(Some(last), evaluations(&whole_events).pop(), "{objective}");
    }
}

#[test]
fn an_adapter_that_is_continued_is_its_own_reference_as_in_trl() {
    let base = base("llama");
    let rows = pairs(320, 8, false, 3);
    let home = tempfile::tempdir().expect("a directory");
    let usual = ["training.objective=dpo", "training.max_steps=6", "training.learning_rate=1e-2"];
    let first = plan(base.spec(), &rows, &usual);
    let directory = home.path().join("first");
    Job { base: &base, plan: &first, train: &rows, validation: &[], directory: &directory }.finish();
    let from = format!("adapter.init_from={}", directory.join("adapter").display());
    let second = plan(base.spec(), &rows, &[&usual[..], &[from.as_str()]].concat());
    let whole = home.path().join("second");
    let job = Job { base: &base, plan: &second, train: &rows, validation: &[], directory: &whole };
    let events = job.finish();
    let start = losses(&events)[0].1;
    assert!((start - std::f64::consts::LN_2).abs() < 1e-6, "the reference is the adapter as it came: {start}");
    // And a resumed run still knows it.
    let halted = home.path().join("third");
    let job = Job { directory: &halted, ..job };
    job.run(false, &|asked| (asked == 3).then_some(Request::Pause)).expect("halted");
    let (_, resumed) = job.run(true, &|_| None).expect("resumed");
    assert_eq!(losses(&resumed)[..], losses(&events)[3..]);
    assert!(job.result() == Job { directory: &whole, ..job }.result());
}
