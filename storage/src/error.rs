//! What `SQLite` says, as a person meets it.

use crate::paths::DataDir;
use peft_plan::Fault;
use rusqlite::{Error, ErrorCode};
use std::fs::File;

/// The code of the primary result of `error`, where it came from `SQLite`.
fn sqlite_code(error: &Error) -> Option<ErrorCode> {
    match error {
        Error::SqliteFailure(failure, _) => Some(failure.code),
        _ => None,
    }
}

/// Another connection is writing.
pub(crate) fn is_busy(error: &Error) -> bool {
    matches!(sqlite_code(error), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// A row refers to a run that is not there.
pub(crate) fn is_missing_run(error: &Error) -> bool {
    matches!(error, Error::SqliteFailure(failure, _)
        if failure.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}

/// `SQLite` also opens a file for reading only when a number in the file itself asks for that, which
/// nothing of ours writes.
fn is_readonly_by_itself(layout: &DataDir, error: &Error) -> bool {
    matches!(error, Error::SqliteFailure(failure, _)
        if failure.extended_code == rusqlite::ffi::SQLITE_READONLY)
        && File::options().write(true).open(layout.database()).is_ok()
}

/// `error` of the database in `layout`.
pub(crate) fn fault(layout: &DataDir, error: Error) -> Fault {
    let path = layout.database();
    let path = path.display();
    let (code, detail) = match sqlite_code(&error) {
        _ if is_readonly_by_itself(layout, &error) => {
            ("PS-DB-004", format!("`{path}` is damaged: it claims to be for reading only."))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("PS-DB-001", format!("Another program has been writing to `{path}` for too long."))
        }
        Some(ErrorCode::DiskFull) => ("PS-DISK-002", format!("There is no space left to write to `{path}`.")),
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::CannotOpen
            | ErrorCode::AuthorizationForStatementDenied,
        ) => ("PS-DISK-004", format!("`{path}` cannot be opened for writing.")),
        Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed) => {
            ("PS-DISK-003", format!("The disk reported an error while `{path}` was read or written."))
        }
        // A missing table or a value of the wrong type: somebody else wrote to this file.
        _ => ("PS-DB-004", format!("`{path}` cannot be read: {error}.")),
    };
    Fault::new(code, detail).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;
    use std::path::Path;

    #[test]
    fn every_kind_of_failure_gets_its_code() {
        let layout = DataDir::new(Path::new("/data"));
        let cases = [
            (ffi::SQLITE_BUSY, "PS-DB-001"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "PS-DB-001"),
            (ffi::SQLITE_LOCKED, "PS-DB-001"),
            (ffi::SQLITE_FULL, "PS-DISK-002"),
            (ffi::SQLITE_READONLY, "PS-DISK-004"),
            (ffi::SQLITE_READONLY_DIRECTORY, "PS-DISK-004"),
            (ffi::SQLITE_CANTOPEN, "PS-DISK-004"),
            (ffi::SQLITE_PERM, "PS-DISK-004"),
            (ffi::SQLITE_IOERR_FSYNC, "PS-DISK-003"),
            (ffi::SQLITE_CORRUPT, "PS-DB-004"),
            (ffi::SQLITE_NOTADB, "PS-DB-004"),
            (ffi::SQLITE_ERROR, "PS-DB-004"),
        ];
        for (number, code) in cases {
            let error = Error::SqliteFailure(ffi::Error::new(number), None);
            assert_eq!(is_busy(&error), code == "PS-DB-001", "{number}");
            let fault = fault(&layout, error);
            assert_eq!(fault.code, code, "{number}");
            assert!(fault.detail.contains("studio.sqlite"), "{}", fault.detail);
            assert!(!fault.entry().title.is_empty());
        }
    }
}
