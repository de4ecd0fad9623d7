//! K5, S4.13, S4.14: what is recorded of a run is what is read back, and a resumed run forgets
//! what came after its checkpoint.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use peft_storage::{
    CommandKind, Evaluation, NewRun, Outcome, RunFilter, RunId, RunLock, RunSort, Start, Status, StepMetrics, Store,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

fn open() -> (TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    (home, store)
}

fn create(store: &Store, name: &str) -> RunId {
    let new = NewRun { name: name.to_owned(), config: json!({"name": name}), ..NewRun::default() };
    store.create_run(&new).unwrap()
}

fn step(step: u64) -> StepMetrics {
    StepMetrics {
        step,
        epoch: step as f64 / 100.0,
        loss: 3.0 / step as f64,
        gradient_norm: 0.7,
        learning_rate: 2e-4,
        tokens: 10,
        tokens_per_second: 123.5,
        memory_bytes: 1 << 30,
    }
}

fn finished(loss: f64) -> Outcome {
    Outcome {
        status: Status::Finished,
        last_step: 7,
        seconds: 12.5,
        loss: Some(loss),
        validation_loss: Some(loss + 0.5),
        quality_score: None,
        error: None,
    }
}

fn ids(store: &Store, filter: &RunFilter) -> Vec<RunId> {
    store.list_runs(filter).unwrap().into_iter().map(|run| run.id).collect()
}

#[test]
fn a_new_run_is_queued_with_its_frozen_configuration() {
    let (home, store) = open();
    let new = NewRun {
        name: "support-bot".to_owned(),
        directory: None,
        config: json!({"schema": "peft-studio/run", "training": {"learning_rate": 0.0002}}),
        plan: json!({"threads": 2}),
        dataset_hash: Some("d".to_owned()),
        base_hash: Some("b".to_owned()),
        project: Some("p".to_owned()),
        total_steps: 70,
    };
    let id = store.create_run(&new).unwrap();
    let run = store.get_run(&id).unwrap();
    assert_eq!(run.status, Status::Queued);
    assert_eq!((&run.config, &run.plan), (&new.config, &new.plan));
    assert_eq!((&run.dataset_hash, &run.base_hash, &run.project), (&new.dataset_hash, &new.base_hash, &new.project));
    assert_eq!(run.directory, home.path().join("runs").join(id.as_str()));
    assert!(run.directory.is_dir());
    assert!(run.created > 1_700_000_000);

    // The names that scripts read (cli.md, `runs list`).
    let shown = serde_json::to_value(&run).unwrap();
    for field in
        ["id", "name", "status", "created", "steps", "loss", "validation_loss", "quality_score", "seconds", "config"]
    {
        assert!(shown.get(field).is_some(), "{field}");
    }
    assert_eq!(shown["status"], "queued");
    assert_eq!(shown["id"], id.as_str());
}

#[test]
fn every_status_is_stored_under_the_name_it_is_shown_with() {
    let (_home, store) = open();
    let run = create(&store, "a");
    for status in
        [Status::Queued, Status::Paused, Status::Stopped, Status::Finished, Status::Failed, Status::Interrupted]
    {
        store.update_status(&run, status).unwrap();
        assert_eq!(store.get_run(&run).unwrap().status, status);
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    assert_eq!(serde_json::to_value(Status::Running).unwrap(), Status::Running.as_str());
}

#[test]
fn a_name_means_the_newest_run_that_has_it() {
    let (_home, store) = open();
    let first = create(&store, "bot");
    let second = create(&store, "bot");
    assert_ne!(first, second);
    assert_eq!(store.get_run("bot").unwrap().id, second);
    assert_eq!(store.get_run(&first).unwrap().id, first);
    // An id goes before a name that looks like it.
    create(&store, &first);
    assert_eq!(store.get_run(&first).unwrap().id, first);
    store.delete_run(&second).unwrap();
    assert_eq!(store.get_run("bot").unwrap().id, first);
}

#[test]
fn an_unknown_name_is_ps_run_001_with_the_nearest_one() {
    let (_home, store) = open();
    let fault = store.get_run("anything").unwrap_err();
    assert_eq!((fault.code, fault.actions.len()), ("PS-RUN-001", 0));
    for name in ["billing", "support-bot", "translation"] {
        create(&store, name);
    }
    let fault = store.get_run("suport-Bot").unwrap_err();
    assert_eq!(fault.code, "PS-RUN-001");
    assert!(fault.actions[0].label.contains("support-bot"), "{:?}", fault.actions);
    let command = fault.actions[0].command.as_deref();
    assert_eq!(command, Some("peft-studio runs show 'support-bot'"));
    assert!(store.get_run("qqqq").unwrap_err().actions.is_empty());
    let endless = "é".repeat(100_000);
    assert_eq!(store.get_run(&endless).unwrap_err().code, "PS-RUN-001");
}

#[test]
fn lists_are_filtered_sorted_and_cut() {
    let (_home, store) = open();
    let [a, b, c] = ["Alpha", "beta", "gamma"].map(|name| create(&store, name));
    store.finish(&a, &finished(2.0)).unwrap();
    store.finish(&b, &finished(1.0)).unwrap();
    let all = RunFilter::default();
    assert_eq!(ids(&store, &all), [c.clone(), b.clone(), a.clone()]);
    let by = |sort, ascending| RunFilter { sort, ascending, ..RunFilter::default() };
    // A run without a loss is last in either direction.
    assert_eq!(ids(&store, &by(RunSort::Loss, true)), [b.clone(), a.clone(), c.clone()]);
    assert_eq!(ids(&store, &by(RunSort::Loss, false)), [a.clone(), b.clone(), c.clone()]);
    assert_eq!(ids(&store, &by(RunSort::Name, true)), [a.clone(), b.clone(), c.clone()]);
    for sort in [RunSort::Status, RunSort::ValidationLoss, RunSort::QualityScore, RunSort::Seconds] {
        assert_eq!(ids(&store, &by(sort, true)).len(), 3);
    }
    let named = RunFilter { name_contains: Some("AL".to_owned()), ..RunFilter::default() };
    assert_eq!(ids(&store, &named), [a]);
    let done = RunFilter { status: Some(Status::Finished), limit: Some(1), ..RunFilter::default() };
    assert_eq!(ids(&store, &done), [b]);
    let queued = RunFilter { status: Some(Status::Queued), ..RunFilter::default() };
    assert_eq!(ids(&store, &queued), [c]);
    let other = RunFilter { project: Some("none".to_owned()), ..RunFilter::default() };
    assert!(ids(&store, &other).is_empty());
}

/// S4.14.1
#[test]
fn finished_runs_are_numbered_and_no_number_is_given_twice() {
    let (_home, store) = open();
    let [a, b, c] = ["a", "b", "c"].map(|name| create(&store, name));
    assert_eq!(store.finish(&a, &finished(1.0)).unwrap(), Some(1));
    let stopped = Outcome { status: Status::Stopped, ..finished(1.0) };
    assert_eq!(store.finish(&b, &stopped).unwrap(), None);
    assert_eq!(store.finish(&b, &finished(1.0)).unwrap(), Some(2));
    assert_eq!(store.finish(&b, &finished(1.0)).unwrap(), Some(2));
    store.delete_run(&b).unwrap();
    assert_eq!(store.finish(&c, &finished(1.0)).unwrap(), Some(3));
    let run = store.get_run(&c).unwrap();
    assert_eq!((run.version, run.last_step, run.seconds), (Some(3), 7, 12.5));
    assert_eq!(store.finish(&b, &finished(1.0)).unwrap_err().code, "PS-RUN-001");
}

#[test]
fn a_failed_run_keeps_its_fault_until_it_starts_again() {
    let (_home, store) = open();
    let run = create(&store, "a");
    let error = json!({"code": "PS-DISK-002"});
    let failed = Outcome { status: Status::Failed, error: Some(error.clone()), ..finished(f64::NAN) };
    assert_eq!(store.finish(&run, &failed).unwrap(), None);
    let found = store.get_run(&run).unwrap();
    assert_eq!((found.error, found.loss), (Some(error), None));
    let _lock = RunLock::take(&found.directory).unwrap();
    let start = Start {
        total_steps: 9,
        backend: "cpu".to_owned(),
        device: "a processor".to_owned(),
        plan: Some(json!({"threads": 4})),
    };
    store.start_run(&run, &start).unwrap();
    let found = store.get_run(&run).unwrap();
    assert_eq!((found.status, found.error, found.total_steps), (Status::Running, None, 9));
    assert_eq!(found.pid, Some(std::process::id()));
    assert_eq!(found.plan, json!({"threads": 4}));
    store.start_run(&run, &Start { plan: None, ..start }).unwrap();
    assert_eq!(store.get_run(&run).unwrap().plan, json!({"threads": 4}));
}

/// S4.13.3, and the regression of §1.6: the step goes on from the checkpoint, not from the crash.
#[test]
fn a_resumed_run_forgets_what_came_after_its_checkpoint() {
    let (_home, store) = open();
    let run = create(&store, "a");
    let other = create(&store, "b");
    let batch: Vec<StepMetrics> = (1..=10).map(step).collect();
    for id in [&run, &other] {
        store.record_metrics(id, &batch, 5.0).unwrap();
        for at in [5, 10] {
            let evaluation = Evaluation { step: at, loss: at as f64, ..Evaluation::default() };
            store.record_evaluation(id, &evaluation).unwrap();
            store.record_event(id, at, "checkpoint", &json!({"step": at})).unwrap();
        }
        for at in [4, 6, 8] {
            let path = format!("/runs/{id}/step-{at}");
            store.record_checkpoint(id, at, Path::new(&path), 100, at == 6).unwrap();
        }
    }
    assert_eq!(store.get_run(&run).unwrap().tokens, 100);

    let dropped = store.truncate_after(&run, 6).unwrap();
    assert_eq!(dropped.iter().map(|dropped| dropped.step).collect::<Vec<_>>(), [8]);
    assert_eq!(store.metrics(&run).unwrap(), batch[..6]);
    assert_eq!(store.evaluations(&run).unwrap().len(), 1);
    assert_eq!(store.events(&run, 0).unwrap().len(), 1);
    assert_eq!(store.checkpoints(&run).unwrap().len(), 2);
    let found = store.get_run(&run).unwrap();
    assert_eq!((found.last_step, found.tokens), (6, 60));
    assert_eq!((found.loss, found.validation_loss), (Some(0.5), Some(5.0)));

    // A run that died before its first checkpoint starts at 0.
    assert_eq!(store.truncate_after(&run, 0).unwrap().len(), 2);
    let found = store.get_run(&run).unwrap();
    assert_eq!((found.last_step, found.tokens, found.loss), (0, 0, None));

    assert_eq!(store.metrics(&other).unwrap(), batch);
    assert_eq!(store.checkpoints(&other).unwrap().len(), 3);
    assert_eq!(store.truncate_after("nobody", 1).unwrap_err().code, "PS-RUN-001");
}

#[test]
fn a_step_that_is_recorded_again_counts_once() {
    let (_home, store) = open();
    let run = create(&store, "a");
    store.record_metrics(&run, &[step(1), step(2)], 1.0).unwrap();
    let again = StepMetrics { tokens: 25, loss: 9.0, ..step(2) };
    store.record_metrics(&run, &[again.clone(), step(3)], 2.0).unwrap();
    assert_eq!(store.metrics(&run).unwrap(), [step(1), again, step(3)]);
    let found = store.get_run(&run).unwrap();
    assert_eq!((found.tokens, found.seconds, found.last_step), (45, 2.0, 3));
    assert_eq!(store.metrics_after(&run, Some(2)).unwrap(), [step(3)]);
    store.record_metrics(&run, &[], 3.0).unwrap();
    assert!(same(store.get_run(&run).unwrap().seconds, 2.0));
}

#[test]
fn at_most_one_checkpoint_is_the_best() {
    let (_home, store) = open();
    let run = create(&store, "a");
    for (at, best) in [(1, true), (2, true), (3, false)] {
        store.record_checkpoint(&run, at, Path::new("/x"), 5, best).unwrap();
    }
    let best: Vec<u64> = store
        .checkpoints(&run)
        .unwrap()
        .into_iter()
        .filter(|checkpoint| checkpoint.best)
        .map(|checkpoint| checkpoint.step)
        .collect();
    assert_eq!(best, [2]);
    store.delete_checkpoint(&run, 2).unwrap();
    store.delete_checkpoint(&run, 2).unwrap();
    assert_eq!(store.checkpoints(&run).unwrap().len(), 2);
}

#[test]
fn commands_are_handed_out_once_and_in_order() {
    let (_home, store) = open();
    let run = create(&store, "a");
    let other = create(&store, "b");
    let kinds = [CommandKind::Snapshot, CommandKind::Evaluate, CommandKind::Pause, CommandKind::Stop];
    for kind in kinds {
        store.push_command(&run, kind, &json!({"by": "test"})).unwrap();
    }
    store.push_command(&other, CommandKind::Stop, &Value::Null).unwrap();
    let taken = store.take_commands(&run).unwrap();
    assert_eq!(taken.iter().map(|command| command.kind).collect::<Vec<_>>(), kinds);
    assert_eq!(taken[0].payload, json!({"by": "test"}));
    assert!(store.take_commands(&run).unwrap().is_empty());
    assert_eq!(store.take_commands(&other).unwrap().len(), 1);
    let lost = store.push_command("nobody", CommandKind::Stop, &Value::Null);
    assert_eq!(lost.unwrap_err().code, "PS-RUN-001");
}

#[test]
fn a_deleted_run_takes_everything_with_it() {
    let (_home, store) = open();
    let run = create(&store, "a");
    store.record_metrics(&run, &[step(1)], 1.0).unwrap();
    store.record_evaluation(&run, &Evaluation::default()).unwrap();
    assert_eq!(store.record_event(&run, 1, "paused", &json!({})).unwrap(), 1);
    assert_eq!(store.record_event(&run, 1, "resumed", &json!({})).unwrap(), 2);
    assert_eq!(store.events(&run, 1).unwrap()[0].kind, "resumed");
    store.record_checkpoint(&run, 1, Path::new("/x"), 5, true).unwrap();
    store.push_command(&run, CommandKind::Stop, &Value::Null).unwrap();
    store.delete_run(&run).unwrap();
    store.check().unwrap();
    assert!(store.metrics(&run).unwrap().is_empty());
    assert!(store.evaluations(&run).unwrap().is_empty());
    assert!(store.events(&run, 0).unwrap().is_empty());
    assert!(store.checkpoints(&run).unwrap().is_empty());
    assert!(store.take_commands(&run).unwrap().is_empty());
    // A trainer whose run is deleted under it learns that, not that the database is broken.
    let gone = [
        store.delete_run(&run).unwrap_err(),
        store.record_metrics(&run, &[step(2)], 1.0).unwrap_err(),
        store.record_evaluation(&run, &Evaluation::default()).unwrap_err(),
        store.record_event(&run, 1, "paused", &json!({})).unwrap_err(),
        store.record_checkpoint(&run, 1, Path::new("/x"), 5, true).unwrap_err(),
        store.update_status(&run, Status::Paused).unwrap_err(),
    ];
    assert!(gone.iter().all(|fault| fault.code == "PS-RUN-001"), "{gone:?}");
}

/// Every number comes back exactly.
#[allow(clippy::float_cmp, reason = "the claim is equality")]
fn same(left: f64, right: f64) -> bool {
    left == right || (left.is_nan() && right.is_nan())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]

    #[test]
    fn metrics_are_read_back_as_they_were_recorded(
        rows in proptest::collection::btree_map(0..=i64::MAX as u64,
            (any::<[f64; 5]>(), 0..=i64::MAX as u64, 0..=i64::MAX as u64), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let (_home, store) = open();
        let run = create(&store, "a");
        let batch: Vec<StepMetrics> = rows
            .into_iter()
            .map(|(step, (numbers, tokens, memory_bytes))| {
                let [epoch, loss, gradient_norm, learning_rate, tokens_per_second] = numbers;
                StepMetrics { step, epoch, loss, gradient_norm, learning_rate, tokens,
                    tokens_per_second, memory_bytes }
            })
            .collect();
        let (first, second) = batch.split_at(cut.index(batch.len()));
        store.record_metrics(&run, first, 1.0).unwrap();
        store.record_metrics(&run, second, 2.0).unwrap();
        let found = store.metrics(&run).unwrap();
        prop_assert_eq!(found.len(), batch.len());
        for (found, expected) in found.iter().zip(&batch) {
            prop_assert_eq!((found.step, found.tokens, found.memory_bytes),
                (expected.step, expected.tokens, expected.memory_bytes));
            for (found, expected) in [
                (found.epoch, expected.epoch),
                (found.loss, expected.loss),
                (found.gradient_norm, expected.gradient_norm),
                (found.learning_rate, expected.learning_rate),
                (found.tokens_per_second, expected.tokens_per_second),
            ] {
                prop_assert!(same(found, expected), "{} {}", found, expected);
            }
        }
    }

    #[test]
    fn any_text_is_a_name(name in ".*") {
        let (_home, store) = open();
        let run = create(&store, &name);
        let found = store.get_run(&name).unwrap();
        prop_assert_eq!(&found.id, &run);
        prop_assert_eq!(&found.name, &name);
        drop(store.get_run(&format!("{name}x")));
    }
}
