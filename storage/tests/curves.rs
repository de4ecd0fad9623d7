//! The curves of very long runs, and lists of very many: S4.13.1, and what issue 5 promises of both.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use peft_storage::{NewRun, RunFilter, RunId, RunSort, Status, StepMetrics, Store};
use serde_json::json;
use tempfile::TempDir;

fn open() -> (TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    (home, store)
}

fn create(store: &Store, name: &str) -> RunId {
    store.create_run(&NewRun { name: name.to_owned(), config: json!({"name": name}), ..NewRun::default() }).unwrap()
}

/// Steps `from` to `to`, with a spike of the loss at 40,000, a fall at 50,001 and a steep gradient at 60,002.
fn record(store: &Store, run: &RunId, from: u64, to: u64) {
    let step = |step: u64| StepMetrics {
        step,
        loss: match step {
            40_000 => 99.0,
            50_001 => 0.001,
            _ => 2.0 + (step % 7) as f64,
        },
        gradient_norm: if step == 60_002 { 77.0 } else { 1.0 },
        tokens: 1,
        ..StepMetrics::default()
    };
    let all: Vec<StepMetrics> = (from..=to).map(step).collect();
    for some in all.chunks(10_000) {
        store.record_metrics(run, some, 1.0).unwrap();
    }
}

#[test]
fn a_very_long_run_is_drawn_from_few_steps_and_loses_no_spike() {
    let (_home, store) = open();
    let (long, short) = (create(&store, "long"), create(&store, "short"));
    record(&store, &long, 1, 70_100);
    record(&store, &short, 1, 1000);
    assert_eq!(store.curve(&short).unwrap(), store.metrics(&short).unwrap());
    let all = store.metrics(&long).unwrap();
    let curve = store.curve(&long).unwrap();
    assert!(curve.len() < 3 * 137 + 512, "{}", curve.len());
    assert!(curve.windows(2).all(|two| two[0].step < two[1].step));
    let steps: Vec<u64> = curve.iter().map(|m| m.step).collect();
    assert_eq!((steps[0], steps[steps.len() - 1]), (1, 70_100));
    for kept in [40_000, 50_001, 60_002] {
        assert!(steps.contains(&kept), "{kept}");
    }
    assert!(curve.iter().all(|m| *m == all[m.step as usize - 1]));
}

/// S4.13.3: what came after the step that a run went back to is nobody's curve.
#[test]
fn a_curve_forgets_what_a_run_went_back_behind() {
    let (_home, store) = open();
    let run = create(&store, "a");
    record(&store, &run, 1, 70_000);
    store.truncate_after(&run, 45_000).unwrap();
    let all: Vec<StepMetrics> =
        (45_001..=70_000).map(|step| StepMetrics { step, loss: 1.0, tokens: 1, ..StepMetrics::default() }).collect();
    store.record_metrics(&run, &all, 1.0).unwrap();
    let curve = store.curve(&run).unwrap();
    let steps: Vec<u64> = curve.iter().map(|m| m.step).collect();
    assert!(steps.contains(&40_000) && steps[steps.len() - 1] == 70_000);
    let later = curve.iter().filter(|m| m.step > 45_000);
    assert!(later.clone().all(|m| m.loss < 1.5) && later.count() > 100);
    assert_eq!(store.last_recorded_step(&run).unwrap(), 70_000);
    assert_eq!(store.last_recorded_step(&create(&store, "b")).unwrap(), 0);
}

#[test]
fn a_page_of_a_long_history_says_how_long_it_is() {
    let (_home, store) = open();
    for i in 0..30 {
        create(&store, &format!("run {i:02}"));
    }
    let page = RunFilter { limit: Some(7), sort: RunSort::Name, ascending: true, ..RunFilter::default() };
    let names: Vec<String> = store.list_runs(&page).unwrap().into_iter().map(|run| run.name).collect();
    assert_eq!(names, (0..7).map(|i| format!("run {i:02}")).collect::<Vec<_>>());
    assert_eq!(store.count_runs(&page).unwrap(), Some(30));
    let named = RunFilter { name_contains: Some("N 2".to_owned()), ..page.clone() };
    assert_eq!(store.count_runs(&named).unwrap(), Some(10));
    assert_eq!(store.count_runs(&RunFilter { status: Some(Status::Finished), ..page.clone() }).unwrap(), Some(0));
    // Whether a process lives is not counted.
    assert_eq!(store.count_runs(&RunFilter { status: Some(Status::Running), ..page }).unwrap(), None);
}
