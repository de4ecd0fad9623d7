//! Versions: numbered by themselves, one active in each project, archived without losing what they measured.

use peft_storage::{NewRun, Outcome, Status, Store};
use std::path::Path;

fn finished(store: &Store, name: &str, project: Option<&str>) -> (String, u64) {
    let new = NewRun { name: name.to_owned(), project: project.map(str::to_owned), ..NewRun::default() };
    let id = store.create_run(&new).expect("created");
    let outcome = Outcome {
        status: Status::Finished,
        last_step: 3,
        seconds: 1.0,
        loss: Some(1.0),
        validation_loss: None,
        quality_score: Some(50.0),
        error: None,
    };
    let version = store.finish(&id, &outcome).expect("finished").expect("a number");
    (id.to_string(), version)
}

#[test]
fn one_version_of_a_project_is_active_s4_14_4() {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    let (_, a) = finished(&store, "a", None);
    let (_, b) = finished(&store, "b", None);
    let (_, c) = finished(&store, "c", Some("other"));
    assert!(a < b && b < c, "S4.14.1: numbers count up");
    for n in [a, b, c] {
        store.activate_version(n).expect("activated");
    }
    assert_eq!(store.active_version(None).expect("readable").map(|v| v.number), Some(b));
    assert_eq!(store.active_version(Some("other")).expect("readable").map(|v| v.number), Some(c));
    let all = store.versions(None).expect("readable");
    assert_eq!(all.iter().map(|v| (v.number, v.active)).collect::<Vec<_>>(), [(c, true), (b, true), (a, false)]);
    assert_eq!(store.activate_version(99).expect_err("there is none").code, "PS-RUN-001");
    assert_eq!(store.version(99).expect_err("there is none").code, "PS-RUN-001");
}

#[test]
fn an_archived_version_forgets_its_checkpoints_and_keeps_its_figures() {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    let (id, n) = finished(&store, "a", None);
    store.record_checkpoint(&id, 3, Path::new("/x/step-3"), 10, true).expect("recorded");
    store.archive_version(n).expect("archived");
    assert!(store.checkpoints(&id).expect("readable").is_empty());
    let version = store.version(n).expect("there");
    assert!(version.archived.is_some());
    assert_eq!(version.run.quality_score, Some(50.0));
    store.archive_version(n).expect("twice is once");
    assert_eq!(store.version(n).expect("there").archived, version.archived);
}
