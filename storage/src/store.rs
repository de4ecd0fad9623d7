//! One connection to the database: how it is opened, and how reads and writes wait for others.

use crate::error::{fault, is_busy, is_missing_run};
use crate::migrate::{MIGRATIONS, flags, migrate, version};
use crate::paths::DataDir;
use peft_plan::{Fault, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often `SQLite` tries again while another connection writes: for about 5 seconds.
const ATTEMPTS: i32 = 1250;
/// `SQLite` gives up at once where waiting might deadlock. Then we start over, for this long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Up to this size the whole file is checked whenever it is opened.
const CHECKED_BYTES: i64 = 16 << 20;

/// One connection to the database of a data directory.
///
/// Several processes may have one each; a thread needs its own.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    layout: DataDir,
}

/// What a power cut may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing that was committed.
    Committed,
    /// The last moments: the next [`Durability::Committed`] write makes them durable too.
    Soon,
}

impl Store {
    /// Opens the database of `data_dir`, creating or migrating it if need be.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let layout = DataDir::new(data_dir);
        let directories = [layout.root().to_owned(), layout.runs(), layout.exports(), layout.logs()];
        for directory in directories {
            durable::create_directories(&directory)
                .map_err(|error| Fault::io("create the folder", &directory, error))?;
        }
        let path = layout.database();
        let connection = Connection::open_with_flags(path, flags()).map_err(|error| fault(&layout, error))?;
        let mut store = Self { connection, layout };
        store.configure()?;
        store.bring_up_to_date()?;
        store.check_if_small()?;
        Ok(store)
    }

    /// The layout of the data directory.
    pub fn layout(&self) -> &DataDir {
        &self.layout
    }

    /// Reads the whole database and compares what is stored twice: for `check` commands.
    pub fn check(&self) -> Result<()> {
        self.examine("PRAGMA integrity_check(1)")?;
        let orphans = self.read(|connection| connection.prepare("PRAGMA foreign_key_check")?.exists([]))?;
        if orphans {
            return Err(self.damaged("some rows belong to a run that is not there"));
        }
        Ok(())
    }

    fn configure(&mut self) -> Result<()> {
        self.connection.busy_handler(Some(wait_for_writer)).map_err(|error| fault(&self.layout, error))?;
        self.read(|connection| {
            connection.pragma_update(None, "foreign_keys", true)?;
            // The file may come from somebody else: it must not run functions of ours, and
            // memory maps turn a damaged disk into a crash.
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "cell_size_check", true)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            connection.pragma_update(None, "mmap_size", 0)?;
            connection.pragma_update(None, "synchronous", "FULL")
        })?;
        if self.read(|connection| connection.is_readonly("main"))? {
            let readonly = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
            return Err(fault(&self.layout, rusqlite::Error::SqliteFailure(readonly, None)));
        }
        Ok(())
    }

    /// Creating, migrating and the switch to a write-ahead log happen in one process at a time.
    fn bring_up_to_date(&mut self) -> Result<()> {
        let is_current = |store: &Self| -> Result<bool> {
            let found = patiently(|| version(&store.connection, &store.layout))?;
            let journal: String =
                store.read(|connection| connection.pragma_query_value(None, "journal_mode", |row| row.get(0)))?;
            Ok(found == MIGRATIONS.len() && journal == "wal")
        };
        if is_current(self)? {
            return Ok(());
        }
        let path = self.layout.migration_lock();
        let io = |error| Fault::io("lock", &path, error);
        let lock = File::options().create(true).append(true).open(&path).map_err(io)?;
        lock.lock().map_err(io)?;
        let found = patiently(|| version(&self.connection, &self.layout))?;
        if found == 0 {
            self.refuse_a_stump()?;
        }
        // Where the file system cannot share memory, SQLite stays with its slower journal.
        self.read(|connection| connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())))?;
        migrate(&mut self.connection, &self.layout, found)
    }

    /// `SQLite` takes a file that is shorter than the smallest page for an empty database, and would
    /// write over what is left of a damaged one.
    fn refuse_a_stump(&self) -> Result<()> {
        const SMALLEST_PAGE: u64 = 512;
        let path = self.layout.database();
        let length = std::fs::metadata(&path).map_err(|error| Fault::io("open", &path, error))?.len();
        if (1..SMALLEST_PAGE).contains(&length) {
            return Err(self.damaged("it has been cut off"));
        }
        Ok(())
    }

    fn check_if_small(&self) -> Result<()> {
        let pragma =
            |name| self.read(|connection| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)));
        if pragma("page_count")?.saturating_mul(pragma("page_size")?) <= CHECKED_BYTES {
            self.examine("PRAGMA quick_check(1)")?;
        }
        Ok(())
    }

    fn examine(&self, pragma: &str) -> Result<()> {
        let verdict: String = self.read(|connection| connection.query_row(pragma, [], |row| row.get(0)))?;
        if verdict == "ok" { Ok(()) } else { Err(self.damaged(&verdict)) }
    }

    fn damaged(&self, finding: &str) -> Fault {
        let path = self.layout.database();
        Fault::new("PS-DB-004", format!("`{}` is damaged: {finding}.", path.display()))
    }

    /// Runs `work` on the connection, again while others are in the way.
    pub(crate) fn read<T>(&self, work: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        patiently(|| work(&self.connection).map_err(|error| fault(&self.layout, error)))
    }

    /// Runs `work` in a transaction, again while others are in the way.
    ///
    /// The write lock is taken at the start: a transaction that reads first and finds out later
    /// that somebody else has written could only fail.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        work: impl Fn(&Transaction) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let synchronous = if durability == Durability::Committed { "FULL" } else { "NORMAL" };
        let attempt = || {
            self.connection.pragma_update(None, "synchronous", synchronous)?;
            let immediate = TransactionBehavior::Immediate;
            let transaction = Transaction::new_unchecked(&self.connection, immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        patiently(|| {
            attempt().map_err(|error| {
                if is_missing_run(&error) {
                    Fault::new("PS-RUN-001", "This run is no longer there; it has been deleted.")
                } else {
                    fault(&self.layout, error)
                }
            })
        })
    }
}

/// `SQLite`'s own handler waits longer and longer, up to 100 ms, while a newcomer tries at once: among
/// busy writers the oldest would starve. Short pauses of uneven length give each the same chance.
fn wait_for_writer(attempts: i32) -> bool {
    const MILLISECONDS: [u64; 7] = [1, 5, 2, 7, 3, 6, 4];
    sleep(Duration::from_millis(MILLISECONDS[attempts.unsigned_abs() as usize % MILLISECONDS.len()]));
    attempts < ATTEMPTS
}

/// Runs `attempt` until nobody is in its way any more.
fn patiently<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match attempt() {
            Err(fault) if was_busy(&fault) && start.elapsed() < PATIENCE => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(200));
            }
            result => return result,
        }
    }
}

fn was_busy(fault: &Fault) -> bool {
    fault.source.as_ref().and_then(|source| source.downcast_ref::<rusqlite::Error>()).is_some_and(is_busy)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}

/// `SQLite`'s integers are signed; what does not fit is larger than anything that is counted here.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The way back. A negative number was not written by us, and means nothing.
pub(crate) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Paths are stored as text.
pub(crate) fn path_text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        let detail = format!("The path `{}` is not valid Unicode.", path.display());
        Fault::new("PS-DISK-004", detail)
    })
}
