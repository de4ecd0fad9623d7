//! The memory map of a file, and giving its pages back: the only `unsafe` of this crate.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The bytes of a file, read when touched.
pub(crate) fn map(path: &Path) -> io::Result<Arc<Mmap>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder, not a file"));
    }
    // SAFETY: the map is read-only and private to this process, and every use of it goes through a
    // bounds-checked slice of its length. What remains is that another program may change the file
    // while it is mapped: changed numbers are plain data to us, since every byte pattern is a valid
    // `u8` and nothing is decided from a header after it was checked; a file cut short ends the
    // process with a bus error. Model files are replaced by rename, which leaves the map intact.
    let map = unsafe { Mmap::map(&file) }?;
    Ok(Arc::new(map))
}

/// Gives the pages under `part` of `map` back to the system: the process no longer counts them as its own. Read
/// again they come from the file. Nothing happens where the system cannot do that.
pub(crate) fn release(map: &Mmap, part: &[u8]) {
    let Some(offset) = (part.as_ptr() as usize).checked_sub(map.as_ptr() as usize) else { return };
    if part.is_empty() || offset + part.len() > map.len() {
        return;
    }
    #[cfg(unix)]
    {
        // SAFETY: the map is private, read-only and backed by a file, and was never written to, so what comes back
        // on the next access is what was there before: the content of the file. No reference sees a change.
        let given = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len()) };
        // A system that keeps the pages costs memory, nothing else.
        given.ok();
    }
}
