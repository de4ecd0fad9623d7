//! The campaign: sixty runs on tiny models and the starter, twenty healthy and forty with one planted fault each. What
//! is planted is found before it has cost a tenth of the run; of the healthy ones at most one is suspected.

use crate::faults;
use crate::world::{Data, World, world};
use peft_models::engine::{Engine, TrainJob};
use peft_models::train::{GuardJob, Request};
use peft_plan::RunEvent;
use std::ops::ControlFlow;
use std::path::Path;

/// What every run of the campaign begins as: model, rows, how many, settings.
type Ground = (&'static str, Data, usize, &'static [&'static str]);

const GROUNDS: [Ground; 12] = [
    ("starter", Data::Cafe, 452, &["training.learning_rate=2e-3"]),
    ("starter", Data::Cafe, 452, &[]),
    ("starter", Data::Corpus, 500, &["training.learning_rate=1e-3"]),
    ("starter", Data::Cafe, 300, &["training.learning_rate=2e-3", "adapter.method=dora"]),
    ("starter", Data::Cafe, 300, &["training.learning_rate=3e-4", "adapter.method=full"]),
    ("starter", Data::Say, 300, &["training.learning_rate=2e-3", "adapter.method=qlora"]),
    ("llama", Data::Cipher, 600, &["training.learning_rate=5e-3"]),
    ("qwen3", Data::Cipher, 600, &["training.learning_rate=3e-3", "adapter.method=full"]),
    ("gemma3", Data::Say, 400, &["training.learning_rate=1e-2"]),
    ("phi3", Data::Cipher, 600, &["training.learning_rate=1e-2", "adapter.method=dora"]),
    ("mistral", Data::Say, 400, &[]),
    ("qwen2", Data::Cipher, 300, &["training.learning_rate=5e-3", "training.micro_batch_size=2"]),
];

/// Changes a healthy run into one that is in trouble.
type Plant = fn(&mut World, u64, &Path);

/// A fault, by which names it may be found, and the grounds that it is planted into.
struct Fault {
    name: &'static str,
    kinds: &'static [&'static str],
    plant: Plant,
    grounds: &'static [usize],
}

fn rate_of(world: &World) -> f64 {
    crate::world::plan(&world.base, &world.train, &world.settings).learning_rate
}

fn rate_30(w: &mut World, _: u64, _: &Path) {
    let rate = (rate_of(w) * 30.0).min(10.0);
    w.settings.push(format!("training.learning_rate={rate}"));
}

fn rate_30_unclipped(w: &mut World, seed: u64, folder: &Path) {
    rate_30(w, seed, folder);
    w.settings.push("training.max_gradient_norm=0".to_owned());
}

fn rate_nearly_nothing(w: &mut World, _: u64, _: &Path) {
    w.settings.push("training.learning_rate=1e-7".to_owned());
}

fn garbled(w: &mut World, seed: u64, _: &Path) {
    let vocabulary = w.base.spec().vocab_size;
    faults::garble(&mut w.train, 0.03, vocabulary, seed);
}

fn shuffled(w: &mut World, seed: u64, _: &Path) {
    faults::shuffle_labels(&mut w.train, 1.0, seed);
    faults::shuffle_labels(&mut w.validation, 1.0, seed + 1);
}

fn exploded(w: &mut World, _: u64, folder: &Path) {
    faults::exploded_adapter(w, 3.0, folder);
    w.settings.push(format!("adapter.init_from={}", folder.display()));
}

fn leaked(w: &mut World, seed: u64, _: &Path) {
    faults::leak(w, 0.3, false, seed);
}

fn nearly_leaked(w: &mut World, seed: u64, _: &Path) {
    faults::leak(w, 0.3, true, seed);
}

fn only_ends(w: &mut World, seed: u64, _: &Path) {
    faults::mask_answers(&mut w.train, 1.0, seed);
}

fn some_only_ends(w: &mut World, seed: u64, _: &Path) {
    faults::mask_answers(&mut w.train, 0.3, seed);
}

fn questions_learnt(w: &mut World, seed: u64, _: &Path) {
    faults::invert_masks(&mut w.train, 1.0, seed);
}

fn same_answers(w: &mut World, _: u64, _: &Path) {
    faults::same_answers(&mut w.train);
}

/// A token that some rows hold is beyond what numbers can carry, as where a file was made in half precision.
fn overflow_of_a_token(w: &mut World, _: u64, folder: &Path) {
    let model = w.base.id().to_owned();
    let usage = |token: u32| w.train.iter().filter(|t| t.ids.contains(&token)).count();
    // As rare as it can be while it is there early enough to cost anything.
    let rare = (10..w.base.spec().vocab_size as u32).filter(|&t| usage(t) >= 10).min_by_key(|&t| usage(t));
    w.base = faults::overflowing_token(&model, folder, rare.expect("some token is used"));
    w.settings.push(r#"adapter.target_modules=["down_proj"]"#.to_owned());
}

/// A layer whose output is beyond what numbers can carry.
fn overflow_of_a_layer(w: &mut World, _: u64, folder: &Path) {
    let model = w.base.id().to_owned();
    w.base = faults::altered(&model, folder, &|name, _, values| {
        if name.contains("layers.0.mlp.") {
            for value in values.iter_mut() {
                *value *= 1e25;
            }
        }
    });
}

const FAULTS: [Fault; 14] = [
    Fault {
        name: "rate x 30",
        kinds: &["divergence", "rate", "gradient_explosion"],
        plant: rate_30,
        grounds: &[0, 2, 3, 5, 6, 8, 9],
    },
    Fault {
        name: "rate x 30, unclipped",
        kinds: &["divergence", "rate", "gradient_explosion"],
        plant: rate_30_unclipped,
        grounds: &[0, 7],
    },
    Fault { name: "rate of 1e-7", kinds: &["plateau"], plant: rate_nearly_nothing, grounds: &[1, 6, 10] },
    Fault { name: "garbled rows, 3 %", kinds: &["rows"], plant: garbled, grounds: &[0, 2, 4, 7, 8, 11] },
    Fault { name: "shuffled answers", kinds: &["answers"], plant: shuffled, grounds: &[1, 2, 5, 6, 10] },
    Fault {
        name: "exploded start",
        kinds: &["start", "divergence", "gradient_explosion", "nan"],
        plant: exploded,
        grounds: &[0, 5, 6],
    },
    Fault { name: "held-out rows leak", kinds: &["leak"], plant: leaked, grounds: &[0, 7] },
    Fault { name: "held-out rows nearly leak", kinds: &["leak"], plant: nearly_leaked, grounds: &[2, 8] },
    Fault { name: "only end tokens learnt", kinds: &["masking"], plant: only_ends, grounds: &[1, 9] },
    Fault { name: "30 % only end tokens", kinds: &["masking"], plant: some_only_ends, grounds: &[4] },
    Fault { name: "questions learnt", kinds: &["masking"], plant: questions_learnt, grounds: &[3, 6] },
    Fault { name: "one answer to all", kinds: &["answers"], plant: same_answers, grounds: &[0] },
    Fault { name: "overflow of a token", kinds: &["nan"], plant: overflow_of_a_token, grounds: &[0, 6] },
    Fault { name: "overflow of a layer", kinds: &["nan"], plant: overflow_of_a_layer, grounds: &[5, 8] },
];

/// What a run told of trouble: step and kind, and its number of steps.
struct Told {
    steps: u64,
    anomalies: Vec<(u64, String, String)>,
    outcome: String,
}

fn train(w: &World) -> Told {
    let plan = crate::world::plan(&w.base, &w.train, &w.settings);
    let home = tempfile::tempdir().expect("a directory");
    let engine = Engine::open("cpu", 1).expect("an engine");
    let mut anomalies = Vec::new();
    let mut none = || None::<Request>;
    let job = TrainJob {
        base: &w.base,
        plan: &plan,
        train: &w.train,
        validation: &w.validation,
        truncated: 0,
        directory: home.path(),
        run: "r",
        name: "a run",
        dataset_hash: "d",
        data_bytes: 0,
        resume: false,
        changed: false,
        request: &mut none,
        questions: &mut || None,
        samples: None,
        peak_memory: || 0,
        guard: GuardJob::default(),
    };
    let mut sink = |event: &RunEvent| {
        if std::env::var("DETAIL").is_ok() {
            match event {
                RunEvent::Step(s) => {
                    print(&format!("{} {:.2} {:.2} {:.1e}", s.step, s.loss, s.gradient_norm, s.learning_rate));
                }
                RunEvent::Probe(p) => print(&format!("{p:?}")),
                _ => {}
            }
        }
        if let RunEvent::Anomaly { step, kind, message, .. } = event {
            anomalies.push((*step, kind.clone(), message.clone()));
        }
        ControlFlow::Continue(())
    };
    let outcome = match engine.train(job, &mut sink) {
        Ok(outcome) => format!("{outcome:?}").split(['(', '{']).next().unwrap_or_default().to_owned(),
        Err(fault) => fault.code.to_owned(),
    };
    Told { steps: plan.total_steps, anomalies, outcome }
}

fn healthy(ground: usize, seed: u64) -> Told {
    let (model, data, count, settings) = GROUNDS[ground];
    train(&world(model, data, count, seed, settings))
}

fn planted(fault: &Fault, ground: usize, seed: u64) -> Told {
    let (model, data, count, settings) = GROUNDS[ground];
    let folder = tempfile::tempdir().expect("a directory");
    let mut w = world(model, data, count, seed, settings);
    (fault.plant)(&mut w, seed, folder.path());
    train(&w)
}

/// Where the fault was found first, as a share of the run.
fn found(fault: &Fault, told: &Told) -> Option<f64> {
    let first = told.anomalies.iter().filter(|(_, kind, _)| fault.kinds.contains(&kind.as_str())).map(|a| a.0).min()?;
    Some(first as f64 / told.steps as f64)
}

pub(crate) fn print(line: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "{line}").expect("stderr");
}

#[test]
#[ignore = "sixty runs: about five minutes"]
fn every_planted_fault_is_found_before_it_has_cost_a_tenth_and_healthy_runs_are_left_alone() {
    // `ONLY=leak` for the faults whose names hold it.
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut false_alarms, mut late, mut runs) = (0, 0, 0);
    for n in 0..20_u64 {
        let ground = n as usize % GROUNDS.len();
        let (model, data, ..) = GROUNDS[ground];
        if !"healthy".contains(&only) {
            continue;
        }
        let told = healthy(ground, 100 + n);
        runs += 1;
        false_alarms += u32::from(!told.anomalies.is_empty());
        print(&format!("healthy | {model} {data:?} {ground} | {} | {:?}", told.outcome, told.anomalies));
    }
    for fault in FAULTS.iter().filter(|fault| fault.name.contains(&only)) {
        for (n, &ground) in fault.grounds.iter().enumerate() {
            let (model, data, ..) = GROUNDS[ground];
            let told = planted(fault, ground, 200 + n as u64);
            runs += 1;
            let at = found(fault, &told);
            let in_time = at.is_some_and(|share| share < 0.1);
            late += u32::from(!in_time);
            let verdict = at.map_or("MISSED".to_owned(), |share| format!("{:.1} %", 100.0 * share));
            let mark = if in_time { "" } else { " <<<" };
            print(&format!(
                "{} | {model} {data:?} {ground} | {} | {verdict}{mark} | {:?}",
                fault.name,
                told.outcome,
                told.anomalies.first()
            ));
        }
    }
    print(&format!("{runs} runs: {late} faults missed or late, {false_alarms} false alarms"));
    assert!(late == 0 && false_alarms <= 1, "{late} missed or late, {false_alarms} false alarms");
}

#[test]
#[ignore = "one run, to look at: FAULT, GROUND and SEED say which"]
fn one() {
    if std::env::var_os("FAULT").is_none() {
        return;
    }
    let word = |name: &str| std::env::var(name).expect("set");
    let (ground, seed) = (word("GROUND").parse().expect("a number"), word("SEED").parse().expect("a number"));
    let told = match FAULTS.iter().find(|f| f.name == word("FAULT")) {
        Some(fault) => planted(fault, ground, seed),
        None => healthy(ground, seed),
    };
    print(&format!("{} {:?}", told.outcome, told.anomalies));
}
