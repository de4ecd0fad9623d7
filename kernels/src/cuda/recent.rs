//! Small lists that were uploaded lately: positions, tiles of sequences and the like are the same for every layer of a
//! step, and a copy to a card waits for what runs there.

use super::device::Device;
use super::memory::Memory;
use crate::error::Result;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Lists that are kept, and the longest of them in bytes.
const KEPT: usize = 32;
const LONGEST: usize = 1 << 20;

/// A list and where it lies.
type Entry<D> = (Vec<u8>, Arc<Memory<D>>);

/// The lists, the one used last at the end.
pub(super) struct Recent<D: Device>(Mutex<VecDeque<Entry<D>>>);

impl<D: Device> Recent<D> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Keep none of them any longer.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Memory that holds `bytes` and is only read.
    pub(super) fn holding(&self, device: &Arc<D>, op: &'static str, bytes: Vec<u8>) -> Result<Arc<Memory<D>>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().position(|(known, _)| *known == bytes)
            && let Some(entry) = kept.remove(found)
        {
            let memory = Arc::clone(&entry.1);
            kept.push_back(entry);
            return Ok(memory);
        }
        let memory = Arc::new(Memory::holding(device, op, &bytes)?);
        if bytes.len() <= LONGEST {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back((bytes, Arc::clone(&memory)));
        }
        Ok(memory)
    }
}
