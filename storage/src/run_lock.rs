//! One live process per run, by a lock that the system releases when the process dies.

use peft_plan::{Fault, Result};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const NAME: &str = "run.lock";
/// Somebody who only looks holds a shared lock for an instant; that is no reason to give up.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Held by the process that works on a run, until it is dropped or the process ends in any way.
///
/// Its file stays: removing it could take the lock away from whoever gets it next.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of the run in `directory`, or fails with PS-RUN-002 naming its holder.
    pub fn take(directory: &Path) -> Result<Self> {
        let path = directory.join(NAME);
        let io = |error| Fault::io("lock", &path, error);
        durable::create_directories(directory).map_err(io)?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        for attempt in 0.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(taken(Self::holder(directory))),
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
        }
        write_pid(&mut file).map_err(io)?;
        Ok(Self { _file: file })
    }

    /// Whether a live process holds the lock of the run in `directory`.
    pub fn is_held(directory: &Path) -> bool {
        // A shared lock: two processes that look at the same time do not take each other for it.
        File::open(directory.join(NAME))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The process id that the last holder wrote down. Windows does not let others read it while
    /// the lock is held.
    pub fn holder(directory: &Path) -> Option<u32> {
        let mut text = String::new();
        let file = File::open(directory.join(NAME)).ok()?;
        file.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}

fn taken(holder: Option<u32>) -> Fault {
    let detail = match holder {
        Some(process) => format!("Process {process} is working on this run."),
        None => "Another process is working on this run.".to_owned(),
    };
    Fault::new("PS-RUN-002", detail)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    file.flush()
}
