//! One download of a file at a time, in any process: the locks of Hugging Face's own library.

use crate::progress::Event;
use peft_plan::{Fault, Result};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(200);
/// The person is told again that something is waited for.
const TELL_EVERY: u32 = 50;

/// Held until it is dropped or the process ends in any way. Its file stays: whoever waits has it open.
pub(crate) struct Lock {
    _file: File,
}

/// Take the lock at `path`, waiting for whoever has it; `tell` hears of a wait.
pub(crate) async fn acquire(path: &Path, what: &str, tell: impl Fn(Event)) -> Result<Lock> {
    let io = |error| Fault::io("lock", path, error);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io)?;
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    for turn in 0_u32.. {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                if turn % TELL_EVERY == 0 {
                    let reason = format!("another process is downloading {what}");
                    tell(Event::Waiting { seconds: (PAUSE * TELL_EVERY).as_secs_f64(), reason });
                }
                tokio::time::sleep(PAUSE).await;
            }
            // Some network file systems have no locks; the hash still decides what is kept.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => break,
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
    }
    Ok(Lock { _file: file })
}
