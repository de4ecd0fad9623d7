//! G18: every older database is brought up to date with a backup; newer, foreign and damaged ones
//! are refused politely, and never panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use peft_storage::{DataDir, NewRun, RunFilter, StepMetrics, Store};
use proptest::prelude::*;
use rusqlite::Connection;
use std::fs;
use std::path::Path;

fn migrations() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn version(path: &Path) -> usize {
    let connection = Connection::open(path).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap() as usize
}

fn schema(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// A database as the program wrote it when it knew `version` migrations.
fn old_database(home: &Path, version: usize) -> Connection {
    let connection = Connection::open(DataDir::new(home).database()).unwrap();
    for statements in &migrations()[..version] {
        connection.execute_batch(statements).unwrap();
    }
    connection.pragma_update(None, "user_version", version as i64).unwrap();
    connection
}

const OLD_RUN: &str = "INSERT INTO runs (id, name, status, created, updated, directory, config, plan)
    VALUES ('0old', 'old', 'finished', 5, 6, '/nowhere', '{\"a\":1}', 'null')";

#[test]
fn g18_every_older_database_is_brought_up_to_date() {
    let latest = migrations().len();
    let fresh = tempfile::tempdir().unwrap();
    Store::open(fresh.path()).unwrap();
    let expected = schema(&DataDir::new(fresh.path()).database());
    assert_eq!(version(&DataDir::new(fresh.path()).database()), latest);

    for from in 0..=latest {
        let home = tempfile::tempdir().unwrap();
        let layout = DataDir::new(home.path());
        let connection = old_database(home.path(), from);
        if from > 0 {
            connection.execute(OLD_RUN, []).unwrap();
        }
        drop(connection);
        let store = Store::open(home.path()).unwrap();
        store.check().unwrap();
        let names: Vec<String> =
            store.list_runs(&RunFilter::default()).unwrap().into_iter().map(|run| run.name).collect();
        assert_eq!(names.len(), usize::from(from > 0), "from {from}");
        drop(store);
        assert_eq!(schema(&layout.database()), expected, "from {from}");
        assert_eq!(version(&layout.database()), latest);

        let backup = layout.backup(from);
        assert_eq!(backup.exists(), (1..latest).contains(&from), "from {from}");
        if backup.exists() {
            assert_eq!(version(&backup), from);
            let runs: i64 = Connection::open(&backup)
                .unwrap()
                .query_row("SELECT count(*) FROM runs", [], |row| row.get(0))
                .unwrap();
            assert_eq!(runs, 1);
        }
    }
}

#[test]
fn g18_a_migration_that_fails_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let connection = old_database(home.path(), 1);
    // The second table of migration 2 is in the way.
    connection.execute_batch("CREATE TABLE evaluations (mine)").unwrap();
    drop(connection);
    let path = DataDir::new(home.path()).database();
    let before = schema(&path);
    for _ in 0..2 {
        assert_eq!(Store::open(home.path()).unwrap_err().code, "PS-DB-004");
        assert_eq!(version(&path), 1);
        assert_eq!(schema(&path), before);
        assert_eq!(version(&DataDir::new(home.path()).backup(1)), 1);
    }
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    Store::open(home.path()).unwrap();
    let path = DataDir::new(home.path()).database();
    let newer = migrations().len() + 1;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", newer as i64).unwrap();
    let before = fs::read(&path).unwrap();
    let fault = Store::open(home.path()).unwrap_err();
    assert_eq!(fault.code, "PS-DB-002");
    assert!(fault.detail.contains(&format!("format {newer}")), "{}", fault.detail);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_database_of_another_program_is_refused() {
    for user_version in [0, 1, -1] {
        let home = tempfile::tempdir().unwrap();
        let connection = Connection::open(DataDir::new(home.path()).database()).unwrap();
        connection.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
        connection.pragma_update(None, "user_version", user_version).unwrap();
        drop(connection);
        assert_eq!(Store::open(home.path()).unwrap_err().code, "PS-DB-004", "{user_version}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_is_ps_disk_004() {
    // Nobody, not even root, makes folders in sysfs.
    if Path::new("/sys/kernel").is_dir() {
        assert_eq!(Store::open(Path::new("/sys/kernel/x")).unwrap_err().code, "PS-DISK-004");
    }
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(DataDir::new(home.path()).database()).unwrap();
    assert_eq!(Store::open(home.path()).unwrap_err().code, "PS-DISK-004");
}

/// A whole database in one file, with something in every table that is read below.
fn filled_database() -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    for name in ["first", "second"] {
        let new = NewRun { name: name.to_owned(), ..NewRun::default() };
        let run = store.create_run(&new).unwrap();
        let batch: Vec<StepMetrics> = (1..=200).map(|step| StepMetrics { step, ..StepMetrics::default() }).collect();
        store.record_metrics(&run, &batch, 1.0).unwrap();
        store.record_checkpoint(&run, 200, Path::new("/nowhere"), 1, true).unwrap();
    }
    drop(store);
    fs::read(DataDir::new(home.path()).database()).unwrap()
}

/// Opens `bytes` as a database and reads what can be read; the codes of what failed.
fn read_all(home: &Path, bytes: &[u8]) -> Vec<&'static str> {
    let database = DataDir::new(home).database();
    for suffix in ["-wal", "-shm"] {
        let mut path = database.clone().into_os_string();
        path.push(suffix);
        drop(fs::remove_file(path));
    }
    fs::write(&database, bytes).unwrap();
    let store = match Store::open(home) {
        Ok(store) => store,
        Err(fault) => return vec![fault.code],
    };
    let mut codes = Vec::new();
    codes.extend(store.check().err().map(|fault| fault.code));
    match store.list_runs(&RunFilter::default()) {
        Err(fault) => codes.push(fault.code),
        Ok(runs) => {
            for run in runs {
                codes.extend(store.metrics(&run.id).err().map(|fault| fault.code));
                codes.extend(store.checkpoints(&run.id).err().map(|fault| fault.code));
                codes.extend(store.record_metrics(&run.id, &[], 0.0).err().map(|fault| fault.code));
            }
        }
    }
    codes
}

#[test]
fn a_truncated_database_is_ps_db_004_at_every_length() {
    let whole = filled_database();
    let home = tempfile::tempdir().unwrap();
    assert!(read_all(home.path(), &whole).is_empty());
    // SQLite takes what is missing of the last page for zeros, which may be what was there.
    let last_page = whole.len() - 4096;
    let lengths = (1..600).step_by(37).chain((512..last_page).step_by(1531));
    let mut checked = 0;
    for length in lengths.chain([last_page]) {
        let codes = read_all(home.path(), &whole[..length]);
        assert_eq!(codes, ["PS-DB-004"], "{length} of {} bytes", whole.len());
        checked += 1;
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn a_damaged_header_is_never_a_wrong_code() {
    let whole = filled_database();
    let home = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for at in 0..100 {
        for value in [0, 3, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let codes = read_all(home.path(), &bytes);
            let expected = ["PS-DB-004", "PS-DB-002"];
            assert!(codes.iter().all(|code| expected.contains(code)), "byte {at} = {value}: {codes:?}");
            refused += usize::from(!codes.is_empty());
        }
    }
    assert!(refused > 60, "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn random_bytes_are_ps_db_004(bytes in proptest::collection::vec(any::<u8>(), 1..3000)) {
        let home = tempfile::tempdir().unwrap();
        prop_assert_eq!(read_all(home.path(), &bytes), ["PS-DB-004"]);
    }

    /// Fuzz target 18: a damaged database is read or refused, never a panic and never a wrong code.
    #[test]
    fn a_database_with_changed_bytes_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)
    ) {
        static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = WHOLE.get_or_init(filled_database).clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let home = tempfile::tempdir().unwrap();
        for code in read_all(home.path(), &bytes) {
            prop_assert!(["PS-DB-004", "PS-DB-002"].contains(&code), "{}", code);
        }
    }
}
