//! Small lists that were uploaded lately: positions, tiles of sequences and the like are the same for every layer of a
//! step, and a copy to a card waits for what runs there.

use super::ahead::Ahead;
use super::device::Device;
use super::memory::Memory;
use crate::error::Result;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lists that are kept, and the longest of them in bytes.
const KEPT: usize = 32;
const LONGEST: usize = 1 << 20;

/// A list and where it lies.
struct Entry<D: Device> {
    op: &'static str,
    bytes: Vec<u8>,
    memory: Arc<Memory<D>>,
    /// The last pass that used it.
    pass: u64,
}

/// The lists.
struct Lists<D: Device> {
    /// The one used last at the end.
    kept: VecDeque<Entry<D>>,
    pass: u64,
}

impl<D: Device> Lists<D> {
    /// A list of the same operation and length that this pass has not used, and nobody else: the next pass finds its
    /// lists where the last one had them, so that its launches have the same arguments.
    fn outdated(&self, op: &'static str, len: usize) -> Option<usize> {
        self.kept
            .iter()
            .position(|e| e.op == op && e.bytes.len() == len && e.pass < self.pass && Arc::strong_count(&e.memory) == 1)
    }
}

/// The lists, behind a lock, and panels of weights that are decoded ahead.
pub(super) struct Recent<D: Device> {
    lists: Mutex<Lists<D>>,
    ahead: Mutex<Option<Arc<Ahead<D>>>>,
}

impl<D: Device> Recent<D> {
    pub(super) fn new() -> Self {
        Self { lists: Mutex::new(Lists { kept: VecDeque::new(), pass: 0 }), ahead: Mutex::new(None) }
    }

    fn lists(&self) -> MutexGuard<'_, Lists<D>> {
        // Its content is whole between any two calls.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keep none of them any longer.
    pub(super) fn clear(&self) {
        self.lists().kept.clear();
        if let Some(ahead) = self.ahead() {
            ahead.clear();
        }
    }

    /// What decodes ahead, if anything does.
    pub(super) fn ahead(&self) -> Option<Arc<Ahead<D>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Decode ahead with this from now on.
    pub(super) fn set_ahead(&self, ahead: Option<Ahead<D>>) {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = ahead.map(Arc::new);
    }

    /// Another pass over a model begins.
    pub(super) fn next_pass(&self) {
        self.lists().pass += 1;
    }

    /// Memory that holds `bytes` and is only read.
    pub(super) fn holding(&self, device: &Arc<D>, op: &'static str, bytes: Vec<u8>) -> Result<Arc<Memory<D>>> {
        let mut lists = self.lists();
        let pass = lists.pass;
        let known = lists.kept.iter().position(|e| e.bytes == bytes);
        let found = known.or_else(|| lists.outdated(op, bytes.len()));
        if let Some(found) = found
            && let Some(mut entry) = lists.kept.remove(found)
        {
            if known.is_none() {
                // Launches made before still find the old numbers: everything takes effect in its order.
                entry.memory.write(&bytes)?;
                entry.bytes = bytes;
            }
            entry.pass = pass;
            let memory = Arc::clone(&entry.memory);
            lists.kept.push_back(entry);
            return Ok(memory);
        }
        let memory = Arc::new(Memory::holding(device, op, &bytes)?);
        if bytes.len() <= LONGEST {
            if lists.kept.len() == KEPT {
                lists.kept.pop_front();
            }
            lists.kept.push_back(Entry { op, bytes, memory: Arc::clone(&memory), pass });
        }
        Ok(memory)
    }
}
