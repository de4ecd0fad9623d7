//! What the backend asks of a machine: memory and launches of kernels by name.
//!
//! Two machines are meant: a driver with a GPU, and the emulation that tests compile the kernels for
//! (`tests/src/emulated.rs`). Everything above this trait is the same for both.

use super::lt::{Dense, DenseShape};
use crate::error::Result;

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// An address in the device's memory; 0 is none.
    Address(u64),
    /// 32 bits: a count that is small, or yes (1) and no (0).
    Word(u32),
    /// A number.
    Single(f32),
    /// 64 bits: a size, an index.
    Long(u64),
}

impl Arg {
    /// Its bits, the low ones first.
    pub fn bits(self) -> u64 {
        match self {
            Self::Address(bits) | Self::Long(bits) => bits,
            Self::Word(bits) => u64::from(bits),
            Self::Single(x) => u64::from(x.to_bits()),
        }
    }

    /// Which of the four it is, from 0.
    pub fn kind(self) -> u8 {
        match self {
            Self::Address(_) => 0,
            Self::Word(_) => 1,
            Self::Single(_) => 2,
            Self::Long(_) => 3,
        }
    }
}

/// The memory of a device at one moment, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What this program has of it.
    pub held: usize,
    /// What of that is in use; the rest is kept for the next use.
    pub used: usize,
    /// The most that was in use at a time.
    pub peak: usize,
    /// What could still be had beside.
    pub available: usize,
}

/// A machine that kernels run on. All calls take effect in the order they are made.
pub trait Device: Send + Sync + 'static {
    /// What it is, for a run's record.
    fn name(&self) -> String;
    /// At least `bytes` of memory, at a multiple of 256. What it holds is undefined.
    fn alloc(&self, bytes: usize) -> Result<u64>;
    /// Give back what [`Device::alloc`] gave. Launches made before may still use it.
    fn free(&self, address: u64);
    /// Take a block of `bytes` at once, from which what is asked for later is given. Blocks that nobody uses are given
    /// back first.
    fn reserve(&self, _bytes: usize) -> Result<()> {
        Ok(())
    }
    /// Give back the blocks that nobody uses.
    fn trim(&self) {}
    /// Its memory, where it is known.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }
    /// Copy to the device; `bytes` may change when this returns.
    fn upload(&self, address: u64, bytes: &[u8]) -> Result<()>;
    /// Copy from the device, after everything launched before.
    fn download(&self, bytes: &mut [u8], address: u64) -> Result<()>;
    /// Whether it has the kernels of compute capability 9.0 ([`super::shipped::PTX_9_0`]).
    fn has_wgmma(&self) -> bool {
        false
    }
    /// The library of its maker that it multiplies with, and from which sizes on.
    fn library(&self) -> Option<String> {
        None
    }
    /// Whether such a library multiplies factors of this shape faster than the kernels here.
    fn suits(&self, _shape: &DenseShape) -> bool {
        false
    }
    /// Have it multiply, after everything launched before; `false`: it does not, and nothing was done.
    fn multiply(&self, _dense: &Dense) -> Result<bool> {
        Ok(false)
    }
    /// Begin what was launched, without waiting for it: a machine may gather launches until somebody needs them.
    fn submit(&self) -> Result<()> {
        Ok(())
    }
    /// Run `kernel` with as many blocks of so many threads.
    fn launch(&self, kernel: &'static str, blocks: u32, threads: u32, args: &[Arg]) -> Result<()>;
}
