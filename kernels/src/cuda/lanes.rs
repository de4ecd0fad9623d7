//! What a card does beside what it computes: streams of the driver for copies and for decoding, events between them, and
//! memory that is pinned.
//!
//! They are opened when somebody asks for them. A driver that lacks a function or refuses one is a reason, and the card
//! goes on without. The streams wait for nothing by themselves, not for the one that computes either.

use super::device::{Arg, Lane, Lanes};
use super::driver::{Driver, lost, missing, words};
use crate::error::{Error, Result};
use cudarc::driver::result::{self, DriverError, event, stream};
use cudarc::driver::sys::{self, CUevent, CUevent_flags, CUevent_wait_flags, CUresult, CUstream};
use std::ffi::c_void;
use std::ptr::null_mut;

/// What a driver must have for them, besides what every driver must have.
const NEEDED: [&str; 11] = [
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventDestroy_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
];

/// The streams beside the one that computes. None comes before that one: a stream without a priority has the lowest.
pub(super) struct Streams {
    out: CUstream,
    into: CUstream,
    ahead: CUstream,
}

fn refused(e: DriverError) -> Error {
    Error::Unavailable { reason: format!("the driver copies nothing beside what it computes: {}", words(e)) }
}

fn stopped(e: DriverError) -> Error {
    lost("a copy beside what the graphics card computes", e)
}

impl Streams {
    /// Open them in the context of this thread.
    pub(super) fn open() -> Result<Self> {
        if let Some(name) = missing(&NEEDED) {
            return Err(Error::Unavailable { reason: format!("the driver has no {name}") });
        }
        let mut made = Self { out: null_mut(), into: null_mut(), ahead: null_mut() };
        match made.begin() {
            Ok(()) => Ok(made),
            Err(e) => {
                made.close();
                Err(refused(e))
            }
        }
    }

    fn begin(&mut self) -> std::result::Result<(), DriverError> {
        for place in [&mut self.out, &mut self.into, &mut self.ahead] {
            *place = stream::create(stream::StreamKind::NonBlocking)?;
        }
        Ok(())
    }

    fn of(&self, lane: Lane) -> CUstream {
        match lane {
            Lane::Compute => null_mut(),
            Lane::Out => self.out,
            Lane::In => self.into,
            Lane::Ahead => self.ahead,
        }
    }

    /// Give them back. The card's context is that of this thread.
    pub(super) fn close(&self) {
        for stream in [self.out, self.into, self.ahead].into_iter().filter(|stream| !stream.is_null()) {
            // SAFETY: made by `open` and destroyed once. What cannot be given back is gone with the card.
            let _gone = unsafe { stream::destroy(stream) };
        }
    }
}

impl Driver {
    fn opened(&self) -> Result<&Streams> {
        self.bind()?;
        self.streams()
    }
}

fn handle(event: u64) -> CUevent {
    std::ptr::with_exposed_provenance_mut(event as usize)
}

impl Lanes for Driver {
    fn pin(&self, bytes: usize) -> Result<u64> {
        self.opened()?;
        // SAFETY: memory without content, which is read after copies only.
        let found = unsafe { result::malloc_host(bytes.max(1), 0) };
        let found = found.map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { op: "pin", bytes },
            _ => refused(e),
        })?;
        Ok(found.expose_provenance() as u64)
    }

    fn unpin(&self, address: u64) {
        if self.bind().is_ok() {
            // SAFETY: `pin` gave it, and no copy uses it. What cannot be given back is gone with the card.
            let _gone = unsafe { result::free_host(std::ptr::with_exposed_provenance_mut(address as usize)) };
        }
    }

    fn read_pinned(&self, bytes: &mut [u8], address: u64) -> Result<()> {
        let from: *const u8 = std::ptr::with_exposed_provenance(address as usize);
        // SAFETY: `HostSlabs` keeps within what `pin` gave, after every copy.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn event(&self) -> Result<u64> {
        self.opened()?;
        let made = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(refused)?;
        Ok(made.expose_provenance() as u64)
    }

    fn forget(&self, event: u64) {
        if self.bind().is_ok() {
            // SAFETY: made by `event` and forgotten once.
            let _gone = unsafe { event::destroy(handle(event)) };
        }
    }

    fn record(&self, event: u64, lane: Lane) -> Result<()> {
        let streams = self.opened()?;
        if lane == Lane::Compute {
            self.run_launched()?;
        }
        // SAFETY: an event and a stream of this card.
        unsafe { event::record(handle(event), streams.of(lane)) }.map_err(stopped)
    }

    fn wait(&self, lane: Lane, event: u64) -> Result<()> {
        let streams = self.opened()?;
        if lane == Lane::Compute {
            // What was launched before does not wait.
            self.run_launched()?;
        }
        let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: an event and a stream of this card.
        unsafe { stream::wait_event(streams.of(lane), handle(event), flags) }.map_err(stopped)
    }

    fn copy_out(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        let streams = self.opened()?;
        let to: *mut c_void = std::ptr::with_exposed_provenance_mut(to as usize);
        // SAFETY: `HostSlabs` keeps within what `pin` and `alloc` gave, and gives back neither before the copy has ended.
        let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, bytes, streams.out) };
        copied.result().map_err(stopped)
    }

    fn copy_in(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        let streams = self.opened()?;
        let from: *const c_void = std::ptr::with_exposed_provenance(from as usize);
        // SAFETY: as in `copy_out`.
        let copied = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, bytes, streams.into) };
        copied.result().map_err(stopped)
    }

    fn launch_in(&self, lane: Lane, kernel: &'static str, blocks: u32, threads: u32, args: &[Arg]) -> Result<()> {
        let streams = self.opened()?;
        let function = self.function(kernel)?;
        // Low bytes first: a parameter of four bytes reads the first four.
        let mut values: Vec<u64> = args.iter().map(|arg| arg.bits().to_le()).collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
        let (grid, block) = ((blocks, 1, 1), (threads, 1, 1));
        // SAFETY: as many places as there are arguments, each of which lasts until the driver has copied it; the
        // emulation compares them with the kernel's parameters, as for every launch (`graphs.rs`).
        unsafe { result::launch_kernel(function, grid, block, 0, streams.of(lane), &mut places) }.map_err(stopped)
    }

    fn settle(&self) -> Result<()> {
        let streams = self.opened()?;
        self.run_launched()?;
        for lane in [Lane::Compute, Lane::Out, Lane::In, Lane::Ahead] {
            // SAFETY: a stream of this card.
            unsafe { stream::synchronize(streams.of(lane)) }.map_err(stopped)?;
        }
        Ok(())
    }
}
