//! The schema, step by step: each file of `migrations/` is applied once, in a transaction of its
//! own that also counts `user_version` up. A file is never edited once it has been released.

use crate::error::fault;
use crate::paths::DataDir;
use peft_plan::{Fault, Result};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::fs;

/// Version `n` of the schema is the first `n` of these.
pub(crate) const MIGRATIONS: [&str; 13] = [
    include_str!("../migrations/0001_runs.sql"),
    include_str!("../migrations/0002_metrics.sql"),
    include_str!("../migrations/0003_checkpoints.sql"),
    include_str!("../migrations/0004_commands.sql"),
    include_str!("../migrations/0005_memory.sql"),
    include_str!("../migrations/0006_presets.sql"),
    include_str!("../migrations/0007_conversations.sql"),
    include_str!("../migrations/0008_versions.sql"),
    include_str!("../migrations/0009_queue.sql"),
    include_str!("../migrations/0010_documents.sql"),
    include_str!("../migrations/0011_teaching.sql"),
    include_str!("../migrations/0012_outlines.sql"),
    include_str!("../migrations/0013_project_changes.sql"),
];

/// "PEFT", written by the first migration: tells our file from another program's.
const APPLICATION_ID: i64 = 1_346_717_268;

/// The version of the database behind `connection`; 0 is an empty file.
pub(crate) fn version(connection: &Connection, layout: &DataDir) -> Result<usize> {
    let (found, application, is_empty) = header(connection).map_err(|error| fault(layout, error))?;
    let path = layout.database();
    let path = path.display();
    let foreign = if found == 0 { !is_empty } else { application != APPLICATION_ID };
    if foreign || found < 0 {
        let detail = format!("`{path}` is a database, but not one of PEFT Studio.");
        return Err(Fault::new("PS-DB-004", detail));
    }
    let known = MIGRATIONS.len();
    let found = found as usize;
    if found > known {
        let detail = format!("`{path}` has format {found}; this version of PEFT Studio knows formats up to {known}.");
        return Err(Fault::new("PS-DB-002", detail));
    }
    Ok(found)
}

/// `user_version`, `application_id` and whether there are no tables, all at one instant: another
/// process may be creating the database.
fn header(connection: &Connection) -> rusqlite::Result<(i64, i64, bool)> {
    let snapshot = connection.unchecked_transaction()?;
    let pragma = |name| snapshot.pragma_query_value(None, name, |row| row.get(0));
    let is_empty = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
    Ok((pragma("user_version")?, pragma("application_id")?, snapshot.query_row(is_empty, [], |row| row.get(0))?))
}

/// Brings the database from version `from` to the latest. The caller holds the migration lock.
pub(crate) fn migrate(connection: &mut Connection, layout: &DataDir, from: usize) -> Result<()> {
    if (1..MIGRATIONS.len()).contains(&from) {
        back_up(connection, layout, from)?;
    }
    for (index, statements) in MIGRATIONS.iter().enumerate().skip(from) {
        apply(connection, statements, index + 1).map_err(|error| fault(layout, error))?;
    }
    Ok(())
}

fn apply(connection: &mut Connection, statements: &str, version: usize) -> rusqlite::Result<()> {
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(statements)?;
    transaction.pragma_update(None, "user_version", version as i64)?;
    transaction.commit()
}

/// A whole copy, in place before anything is changed. One of an earlier attempt is replaced.
fn back_up(connection: &Connection, layout: &DataDir, version: usize) -> Result<()> {
    let target = layout.backup(version);
    let mut unfinished = target.clone().into_os_string();
    unfinished.push(".tmp");
    let io = |error| Fault::io("write the backup", &target, error);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let name = unfinished.to_string_lossy();
    connection.execute("VACUUM INTO ?1", [name.as_ref()]).map_err(|error| fault(layout, error))?;
    durable::rename_file(unfinished.as_ref(), &target).map_err(io)
}

/// How a connection to the database is opened, whoever opens it.
pub(crate) fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}
