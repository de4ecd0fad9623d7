//! Half a per cent of poisoned rows (B7): the ledger puts them on top, and without them a run that went back is as good
//! as one that never saw them.

use crate::faults;
use crate::reactions::Trial;
use crate::world::{Data, World, plan, world};
use peft_models::train::{GuardJob, Request, RunOutcome, Tokens, ledger};
use peft_plan::RunEvent;
use peft_plan::findings::rank_rows;
use peft_plan::order::SplitMix;
use std::collections::BTreeSet;

/// What was measured of one poisoned run.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) poisoned: usize,
    /// Of these among the top 1 % of the ledger.
    pub(crate) on_top: usize,
    /// Held-out losses: clean, poisoned to the end, without the top rows from the beginning, and from the oldest
    /// checkpoint that was left when the run was a third through.
    pub(crate) clean: f64,
    pub(crate) spoilt: f64,
    pub(crate) again: f64,
    pub(crate) rewound: f64,
}

fn last_loss(events: &[RunEvent]) -> f64 {
    let loss = |e: &RunEvent| if let RunEvent::Evaluation(e) = e { Some(e.loss) } else { None };
    events.iter().rev().find_map(loss).expect("evaluated")
}

/// `garbled`: the answers become noise; otherwise they are answers of other rows, word for word.
fn poison(w: &mut World, garbled: bool, seed: u64) -> BTreeSet<u32> {
    let count = (w.train.len() / 200).max(1);
    let mut random = SplitMix::new(seed);
    let mut chosen = BTreeSet::new();
    while chosen.len() < count {
        chosen.insert(random.below(w.train.len()));
    }
    let mut rows: Vec<Tokens> = chosen.iter().map(|&i| w.train[i].clone()).collect();
    if garbled {
        let vocabulary = w.base.spec().vocab_size;
        faults::garble(&mut rows, 1.0, vocabulary, seed);
    } else {
        for row in &mut rows {
            let other = &w.train[random.below(w.train.len())];
            let (a, b) = (faults::answer_at(row), faults::answer_at(other));
            *row = Tokens {
                ids: [&row.ids[..a], &other.ids[b..]].concat(),
                trained: [&row.trained[..a], &other.trained[b..]].concat(),
                row: row.row,
                pair: None,
            };
        }
    }
    for (&i, row) in chosen.iter().zip(rows) {
        w.train[i] = row;
    }
    chosen.iter().map(|&i| w.train[i].row).collect()
}

pub(crate) fn measure(data: Data, count: usize, garbled: bool, seed: u64, look_at: f64) -> Measured {
    let settings = ["training.learning_rate=2e-3", "guards.on_divergence=continue", "checkpoint.keep=4"];
    let clean = world("starter", data, count, seed, &settings);
    let mut w = world("starter", data, count, seed, &settings);
    let bad = poison(&mut w, garbled, seed);
    let plan_clean = plan(&clean.base, &clean.train, &clean.settings);
    let plan = plan(&w.base, &w.train, &w.settings);
    let home = tempfile::tempdir().expect("a directory");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| home.path().join(name));
    let loss_clean = last_loss(&Trial::new(&clean, &plan_clean, &a).whole().1);
    let (_, events) = Trial::new(&w, &plan, &b).whole();
    let spoilt = last_loss(&events);
    // Part of the way is enough to see them.
    let halt = (plan.total_steps as f64 * look_at) as u64;
    let mut results = Vec::new();
    let mut on_top = 0;
    for (directory, rewind_to) in [(&c, 0), (&d, halt / 2)] {
        let trial = Trial::new(&w, &plan, directory);
        let (outcome, _) = trial.run(false, false, &|asked| (asked == halt).then_some(Request::Pause));
        assert_eq!(outcome, RunOutcome::Paused(halt));
        let ranked = rank_rows(&ledger::read(directory).expect("a ledger"));
        let top: Vec<u32> = ranked.iter().take(w.train.len().div_ceil(100)).map(|r| r.row).collect();
        on_top = top.iter().filter(|row| bad.contains(row)).count();
        let mut without = plan.clone();
        without.guards.exclude_rows = top;
        without.guards.exclude_rows.sort_unstable();
        let guard = GuardJob { rewind_to: Some(rewind_to), ..GuardJob::default() };
        let back = Trial { guard, ..Trial::new(&w, &without, directory) };
        results.push(last_loss(&back.run(true, true, &|_| None).1));
    }
    let [again, rewound] = [results[0], results[1]];
    Measured { poisoned: bad.len(), on_top, clean: loss_clean, spoilt, again, rewound }
}

#[test]
#[ignore = "thirty runs: minutes"]
fn poisoned_rows_are_on_top_of_the_ledger_and_without_them_the_run_is_as_good_as_a_clean_one() {
    let (mut poisoned, mut on_top, mut clean, mut again) = (0, 0, 0.0_f64, 0.0_f64);
    for (data, count, garbled, look_at) in [
        (Data::Cafe, 452, true, 0.5),
        (Data::Corpus, 1000, true, 0.34),
        (Data::Corpus, 1000, false, 0.34),
        (Data::Say, 600, true, 0.7),
        (Data::Say, 600, false, 0.7),
        (Data::Cafe, 452, false, 0.7),
    ] {
        let m = measure(data, count, garbled, 11, look_at);
        crate::campaign::print(&format!(
            "{data:?} {count} garbled={garbled} {m:?} {:+.2} % {:+.2} % {:+.2} %",
            100.0 * (m.spoilt / m.clean - 1.0),
            100.0 * (m.again / m.clean - 1.0),
            100.0 * (m.rewound / m.clean - 1.0)
        ));
        poisoned += m.poisoned;
        on_top += m.on_top;
        clean += m.clean;
        again += m.again;
    }
    assert!(on_top as f64 >= 0.9 * poisoned as f64, "{on_top} of {poisoned}");
    // The losses are a twentieth of a nat, where leaving out any five rows moves one run by some per cent either way:
    // what holds is the mean.
    crate::campaign::print(&format!(
        "{on_top} of {poisoned} on top; held-out loss {:+.2} %",
        100.0 * (again / clean - 1.0)
    ));
    assert!(again < 1.01 * clean, "{again} {clean}");
}
