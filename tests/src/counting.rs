//! A card that computes nothing and counts what is asked of its memory: how much a model of any size would take is known
//! in a moment.

use peft_kernels::cuda::Cuda;
use peft_kernels::cuda::device::{Arg, Device, DeviceMemory, Lane, Lanes};
use peft_kernels::cuda::library::Choice;
use peft_kernels::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was asked for.
#[derive(Debug, Default)]
pub struct Counted {
    pieces: HashMap<u64, usize>,
    next: u64,
    /// Bytes in use.
    pub used: usize,
    /// The most that was in use at a time.
    pub peak: usize,
    /// Kernels that were launched.
    pub launches: u64,
    /// All that there is; 0: no end.
    pub capacity: usize,
    /// The version of a library that multiplies, and from which sizes on.
    pub library: Option<(String, Choice)>,
}

impl Counted {
    fn free(&self) -> usize {
        if self.capacity == 0 { usize::MAX } else { self.capacity.saturating_sub(self.used) }
    }
}

/// The card.
#[derive(Clone, Debug, Default)]
pub struct Counting(Arc<Mutex<Counted>>);

impl Counting {
    /// What was asked for so far.
    pub fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A backend over it, and the counter.
    pub fn backend() -> (Cuda<Self>, Self) {
        let device = Self::default();
        (Cuda::new(device.clone()).expect("nothing can be missing"), device)
    }
}

impl Device for Counting {
    fn name(&self) -> String {
        "counting".to_owned()
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        let mut counted = self.counted();
        let Some(size) = bytes.checked_next_multiple_of(512) else {
            return Err(Error::OutOfMemory { op: "alloc", bytes });
        };
        if size > counted.free() {
            return Err(Error::OutOfMemory { op: "alloc", bytes });
        }
        counted.next += 1 << 12;
        let address = counted.next;
        counted.next += size as u64;
        counted.pieces.insert(address, size);
        counted.used += size;
        counted.peak = counted.peak.max(counted.used);
        Ok(address)
    }

    fn free(&self, address: u64) {
        let mut counted = self.counted();
        let size = counted.pieces.remove(&address).expect("memory is given back once");
        counted.used -= size;
    }

    fn reserve(&self, bytes: usize) -> Result<()> {
        let has = bytes <= self.counted().free();
        has.then_some(()).ok_or(Error::OutOfMemory { op: "reserve", bytes })
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let counted = self.counted();
        // Nobody presses: it is there or not.
        let available = usize::MAX >> 8;
        Some(DeviceMemory {
            held: counted.used,
            used: counted.used,
            peak: counted.peak,
            available,
            library: 0,
            graph_kernel: 0,
        })
    }

    fn library(&self) -> Option<(String, Choice)> {
        self.counted().library.clone()
    }

    fn upload(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn download(&self, bytes: &mut [u8], _: u64) -> Result<()> {
        bytes.fill(0);
        Ok(())
    }

    fn lanes(&self) -> Result<&dyn Lanes> {
        Ok(self)
    }

    fn launch(&self, _: &'static str, _: u32, _: u32, _: &[Arg]) -> Result<()> {
        self.counted().launches += 1;
        Ok(())
    }
}

/// Nothing is copied, and nobody has to wait.
impl Lanes for Counting {
    fn pin(&self, _: usize) -> Result<u64> {
        Ok(1)
    }

    fn unpin(&self, _: u64) {}

    fn read_pinned(&self, bytes: &mut [u8], _: u64) -> Result<()> {
        bytes.fill(0);
        Ok(())
    }

    fn event(&self) -> Result<u64> {
        Ok(1)
    }

    fn forget(&self, _: u64) {}

    fn record(&self, _: u64, _: Lane) -> Result<()> {
        Ok(())
    }

    fn wait(&self, _: Lane, _: u64) -> Result<()> {
        Ok(())
    }

    fn copy_out(&self, _: u64, _: u64, _: usize) -> Result<()> {
        Ok(())
    }

    fn copy_in(&self, _: u64, _: u64, _: usize) -> Result<()> {
        Ok(())
    }

    fn launch_in(&self, _: Lane, _: &'static str, _: u32, _: u32, _: &[Arg]) -> Result<()> {
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}
