//! What the backend asks of a machine: memory and launches of kernels by name.
//!
//! Two machines are meant: a driver with a GPU, and the emulation that tests compile the kernels for
//! (`tests/src/emulated.rs`). Everything above this trait is the same for both.

use super::library::Choice;
use super::lt::Dense;
use crate::error::{Error, Result};

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
    /// Of what this program has, and uses, what a library has to work in.
    pub library: usize,
    /// Beside that, what the driver is taken to keep for every kernel of a graph; 0 where launches are no graphs.
    pub graph_kernel: usize,
}

/// A row of work that takes effect in the order of its calls, beside that of the other lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Everything that is launched, and copies that somebody waits for.
    Compute,
    /// Copies to the computer.
    Out,
    /// Copies from it.
    In,
    /// Weights that are decoded before they are needed.
    Ahead,
}

/// Copies between a device and the computer beside what the device computes. Lanes wait for each other where they are
/// told to, at events, and nowhere else.
pub trait Lanes {
    /// Memory of the computer that the device reaches by itself.
    fn pin(&self, bytes: usize) -> Result<u64>;
    /// Give back what [`Lanes::pin`] gave. No copy uses it any more.
    fn unpin(&self, address: u64);
    /// What lies at an address that [`Lanes::pin`] gave. No copy writes there any more.
    fn read_pinned(&self, bytes: &mut [u8], address: u64) -> Result<()>;
    /// A new event. Nobody waits for it before it is recorded.
    fn event(&self) -> Result<u64>;
    /// It is not used any more.
    fn forget(&self, event: u64);
    /// The event is over when everything in `lane` so far is.
    fn record(&self, event: u64, lane: Lane) -> Result<()>;
    /// Whatever comes into `lane` from here on begins after the event that was recorded last.
    fn wait(&self, lane: Lane, event: u64) -> Result<()>;
    /// In [`Lane::Out`]: `bytes` from an address of the device to a pinned one.
    fn copy_out(&self, to: u64, from: u64, bytes: usize) -> Result<()>;
    /// In [`Lane::In`]: `bytes` from a pinned address to one of the device.
    fn copy_in(&self, to: u64, from: u64, bytes: usize) -> Result<()>;
    /// Run `kernel` with as many blocks of so many threads in `lane`, which is not the one that computes.
    fn launch_in(&self, lane: Lane, kernel: &'static str, blocks: u32, threads: u32, args: &[Arg]) -> Result<()>;
    /// Wait until every lane is empty.
    fn settle(&self) -> Result<()>;
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
    /// Graphs of launches may take so many bytes beside those blocks from here on; `None`: as many as without a plan.
    fn set_graph_room(&self, _bytes: Option<usize>) {}
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
    /// The version of its maker's library that it multiplies with, and from which sizes on.
    fn library(&self) -> Option<(String, Choice)> {
        None
    }
    /// Open such a library where one passed its trial; its version.
    fn open_library(&self) -> Result<Option<String>> {
        Ok(None)
    }
    /// Have it multiply, after everything launched before; `false`: it does not, and nothing was done.
    fn multiply(&self, _dense: &Dense) -> Result<bool> {
        Ok(false)
    }
    /// Begin what was launched, without waiting for it: a machine may gather launches until somebody needs them.
    fn submit(&self) -> Result<()> {
        Ok(())
    }
    /// Its lanes for copies, where it has them.
    fn lanes(&self) -> Result<&dyn Lanes> {
        Err(Error::Unavailable { reason: "this device copies nothing while it computes".to_owned() })
    }
    /// Run `kernel` with as many blocks of so many threads.
    fn launch(&self, kernel: &'static str, blocks: u32, threads: u32, args: &[Arg]) -> Result<()>;
}
