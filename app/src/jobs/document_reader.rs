//! The process that reads documents which may do harm: this program again, with limits on what it may take.

use peft_documents::{Limits, Reader};
use peft_plan::{Fault, Result};
use std::path::Path;

/// What the process is called with.
const ARGUMENTS: [&str; 2] = ["data", "read-files"];

/// A reader that has risky formats read by a process of their own.
pub fn reader() -> Result<Reader> {
    let program = std::env::current_exe().map_err(|error| Fault::io("find", Path::new("this program"), error))?;
    Ok(Reader::apart(program, &ARGUMENTS))
}

/// Be that process, until there are no more orders.
pub fn serve() -> Result<()> {
    let limits = Limits::default();
    limit_memory(limits.memory)?;
    let (orders, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    peft_documents::serve(orders, output, &limits).map_err(|error| {
        Fault::new("PS-DISK-003", format!("The program that asked for documents does not listen: {error}"))
    })
}

/// From here on no more than `bytes` of memory are given to this process: whoever asks for more is ended.
#[cfg(unix)]
fn limit_memory(bytes: u64) -> Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    let refused = |error: nix::Error| Fault::new("PS-DISK-003", format!("The system sets no limits: {error}"));
    setrlimit(Resource::RLIMIT_DATA, bytes, bytes).map_err(refused)
}

/// Elsewhere only time is limited.
#[cfg(not(unix))]
fn limit_memory(_bytes: u64) -> Result<()> {
    Ok(())
}
