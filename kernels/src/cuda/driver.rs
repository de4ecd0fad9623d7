//! NVIDIA's driver, found when the program runs: memory, the kernels it carries, and launches.
//!
//! Without a driver, with one that is too old, or without a card, [`Driver::open`] is an error with a reason. Everything
//! runs on one stream, so that calls take effect in their order; kernels wait in lists that become graphs (`graphs.rs`)
//! until somebody needs what they do. What the card does not tell until later (a kernel that left its memory) shows at
//! the next copy from it, as [`Error::Lost`].

use super::arena::{self, Arena};
use super::device::{Arg, Device, DeviceMemory, Lanes};
use super::graphs::Graphs;
use super::lanes::Streams;
use super::library::{Choice, Library};
use super::lt::Dense;
use super::replay::unstarted;
use super::shipped::{PTX, PTX_9_0, entries};
use crate::error::{Error, Result};
use cudarc::driver::result::{self, DriverError, device as cards, module, primary_ctx};
use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute_enum as Attribute, CUfunction, CUmodule, CUresult,
};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The functions that are called here. A driver that lacks one is too old.
const NEEDED: [&str; 22] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemcpyHtoD_v2",
    "cuMemcpyDtoH_v2",
    "cuMemGetInfo_v2",
    "cuLaunchKernel",
    "cuGetErrorName",
    "cuGetErrorString",
];

/// The oldest version of the driver's interface that reads the PTX: CUDA 12.0, drivers from 525 on.
const OLDEST_DRIVER: i32 = 12_000;

/// The oldest cards whose instructions the PTX uses: Ampere.
const OLDEST_CARD: (i32, i32) = (8, 0);

/// The cards that [`PTX_9_0`] is for.
const WGMMA_CARD: (i32, i32) = (9, 0);

/// Memory of a card of `total` bytes that is left to the driver and the screen.
pub(super) fn reserve_of(total: usize) -> usize {
    (300 << 20).min(total / 16)
}

/// A card.
pub struct Driver {
    card: CUdevice,
    context: CUcontext,
    modules: Vec<CUmodule>,
    functions: HashMap<&'static str, CUfunction>,
    name: String,
    chip: (i32, i32),
    version: i32,
    wgmma: bool,
    pub(super) library: Mutex<Library>,
    arena: Mutex<Arena>,
    /// Taken after `arena` where both are.
    pub(super) graphs: Mutex<Graphs>,
    /// How often memory was asked of the driver.
    asked: AtomicU64,
    /// Opened when somebody copies or decodes beside what is computed.
    streams: OnceLock<Result<Streams>>,
}

// SAFETY: the handles are names that the driver gave out. Its functions may be called from any thread that has made
// the context its own (`bind`), at the same time too.
unsafe impl Send for Driver {}
// SAFETY: as above; arena and graphs have locks of their own, and streams are only told of.
unsafe impl Sync for Driver {}

/// Free and total memory of a card, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardMemory {
    /// What a program can have, without what is left to the driver.
    pub available: usize,
    /// All of it.
    pub total: usize,
}

pub(super) fn unavailable(reason: impl Into<String>) -> Error {
    Error::Unavailable { reason: reason.into() }
}

/// The driver's own words for an error.
pub(super) fn words(e: DriverError) -> String {
    let text = |found: std::result::Result<&std::ffi::CStr, DriverError>| {
        found.map_or_else(|_| format!("error {}", e.0 as u32), |text| text.to_string_lossy().into_owned())
    };
    format!("{} ({})", text(e.error_string()), text(e.error_name()))
}

pub(super) fn lost(what: &str, e: DriverError) -> Error {
    Error::Lost { reason: format!("{what}: {}", words(e)) }
}

/// The first of `names` that the driver, which is loaded, does not have.
pub(super) fn missing(names: &[&'static str]) -> Option<&'static str> {
    // SAFETY: the library is there; symbols are looked up and not called.
    unsafe {
        let library = sys::culib();
        names.iter().find(|name| library.get::<*const c_void>(name.as_bytes()).is_err()).copied()
    }
}

/// Looks for the driver and starts it; then for its functions, before any of them is called. Its version, as in 12040.
fn start() -> Result<i32> {
    // SAFETY: loads the library if there is one, whose own start is the driver's business.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable("no NVIDIA driver was found on this computer"));
    }
    if let Some(name) = missing(&NEEDED) {
        return Err(Error::OldDriver { reason: format!("NVIDIA's driver is too old: it has no {name}") });
    }
    result::init().map_err(|e| match e.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => unavailable("NVIDIA's driver is installed and finds no card"),
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            unavailable("NVIDIA's driver and its kernel module are of different versions: restart the computer")
        }
        _ => unavailable(format!("NVIDIA's driver does not start: {}", words(e))),
    })?;
    let mut version = 0;
    // SAFETY: writes one number.
    let answer = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    if answer != CUresult::CUDA_SUCCESS || version < OLDEST_DRIVER {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        let reason = format!("NVIDIA's driver offers CUDA {major}.{minor}; the kernels need 12.0, driver 525 or newer");
        return Err(Error::OldDriver { reason });
    }
    Ok(version)
}

/// Card number `ordinal`, with its name and compute capability.
fn card(ordinal: usize) -> Result<(CUdevice, String, (i32, i32))> {
    let silent = |e| unavailable(format!("graphics card {ordinal} does not answer: {}", words(e)));
    let count = usize::try_from(cards::get_count().map_err(silent)?).unwrap_or(0);
    let number = i32::try_from(ordinal).ok().filter(|_| ordinal < count);
    let Some(number) = number else {
        return Err(unavailable(match count {
            0 => "NVIDIA's driver finds no card".to_owned(),
            1 => format!("there is one graphics card, number 0, and none of number {ordinal}"),
            _ => format!("there are {count} graphics cards, counted from 0, and none of number {ordinal}"),
        }));
    };
    let card = cards::get(number).map_err(silent)?;
    let name = cards::get_name(card).map_err(silent)?;
    // SAFETY: a card that the driver just named.
    let ask = |attribute| unsafe { cards::get_attribute(card, attribute) }.map_err(silent);
    let major = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok((card, name, (major, minor)))
}

/// A card as the driver lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it calls itself.
    pub name: String,
    /// Its compute capability.
    pub chip: (i32, i32),
    /// All of its memory, bytes.
    pub memory: usize,
}

impl Driver {
    /// All cards that the driver finds, by their numbers. Nothing is opened.
    pub fn list() -> Result<Vec<Listed>> {
        start()?;
        let count =
            cards::get_count().map_err(|e| unavailable(format!("NVIDIA's driver does not answer: {}", words(e))))?;
        let each = (0..usize::try_from(count).unwrap_or(0)).map(|ordinal| {
            let (card, name, chip) = card(ordinal)?;
            // SAFETY: a card that the driver just named.
            let memory = unsafe { cards::total_mem(card) }.unwrap_or(0);
            Ok(Listed { name, chip, memory })
        });
        each.collect()
    }

    /// Card number `ordinal`, with all kernels loaded and graphs where they work.
    pub fn open(ordinal: usize) -> Result<Self> {
        let mut driver = Self::open_plain(ordinal)?;
        driver.use_wgmma();
        driver.use_graphs();
        Ok(driver)
    }

    /// Card number `ordinal` without what could take a program down with it: graphs, the kernels of compute capability
    /// 9.0 and libraries are used when they were asked for.
    pub fn open_plain(ordinal: usize) -> Result<Self> {
        let version = start()?;
        let (card, name, chip) = card(ordinal)?;
        if chip < OLDEST_CARD {
            let (major, minor) = chip;
            let reason = format!(
                "{name} has compute capability {major}.{minor}; the kernels need {}.{} or newer",
                OLDEST_CARD.0, OLDEST_CARD.1
            );
            return Err(Error::OldCard { reason });
        }
        // SAFETY: a card of the driver; given back when `Driver` is dropped.
        let context = unsafe { primary_ctx::retain(card) };
        let context = context.map_err(|e| unavailable(format!("{name} cannot be used: {}", words(e))))?;
        // From here on `drop` gives back what was taken, whatever happens.
        let mut driver = Self {
            card,
            context,
            modules: Vec::new(),
            functions: HashMap::new(),
            name: format!("{name}, {}.{}", chip.0, chip.1),
            chip,
            version,
            wgmma: false,
            library: Mutex::default(),
            arena: Mutex::default(),
            graphs: Mutex::new(Graphs::without("the card was not examined yet")),
            asked: AtomicU64::new(0),
            streams: OnceLock::new(),
        };
        driver.bind()?;
        driver.load_all(PTX)?;
        Ok(driver)
    }

    /// CUDA version of the driver, as in 12040.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// Whether this is a card for the kernels of compute capability 9.0.
    pub fn could_use_wgmma(&self) -> bool {
        self.chip == WGMMA_CARD
    }

    /// Load the kernels of compute capability 9.0 where this is a card for them. What such a driver does not take, a
    /// card can do without.
    pub fn use_wgmma(&mut self) {
        self.wgmma = self.could_use_wgmma() && self.bind().is_ok() && self.load_all(PTX_9_0).is_ok();
    }

    fn load_all(&mut self, texts: &'static [(&str, &str)]) -> Result<()> {
        for (file, ptx) in texts {
            // SAFETY: a text that ends with a zero, as `shipped.rs` makes them.
            let loaded = unsafe { module::load_data(ptx.as_ptr().cast()) };
            let loaded = loaded.map_err(|e| match e.0 {
                CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
                    Error::OldDriver { reason: format!("NVIDIA's driver is too old for the kernels: {}", words(e)) }
                }
                _ => unavailable(format!("NVIDIA's driver refuses the kernels of {file}: {}", words(e))),
            })?;
            self.modules.push(loaded);
            for entry in entries(ptx) {
                let name = CString::new(entry).map_err(|_| unavailable("a kernel without a name"))?;
                // SAFETY: a module that stays loaded as long as `self`.
                let function = unsafe { module::get_function(loaded, name) };
                let function = function.map_err(|e| unavailable(format!("no kernel {entry}: {}", words(e))))?;
                self.functions.insert(entry, function);
            }
        }
        Ok(())
    }

    /// Make the card's context that of this thread.
    pub(super) fn bind(&self) -> Result<()> {
        // SAFETY: the context is retained as long as `self`.
        unsafe { result::ctx::set_current(self.context) }.map_err(|e| lost("the graphics card was lost", e))
    }

    /// The kernel of this name.
    pub(super) fn function(&self, kernel: &str) -> Result<CUfunction> {
        let missing = || unavailable(format!("no kernel {kernel} in this program"));
        self.functions.get(kernel).copied().ok_or_else(missing)
    }

    /// The streams beside the one that computes. The card's context is that of this thread.
    pub(super) fn streams(&self) -> Result<&Streams> {
        self.streams.get_or_init(Streams::open).as_ref().map_err(Clone::clone)
    }

    fn arena(&self) -> MutexGuard<'_, Arena> {
        // Its content is whole between any two calls.
        self.arena.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of the card; what this holds and does not use counts as available, and so do what a library works in and what
    /// graphs have: a plan has them all.
    pub fn memory(&self) -> Result<CardMemory> {
        self.bind()?;
        let (free, total) = result::mem_get_info().map_err(|e| lost("the graphics card does not answer", e))?;
        let beside = self.library_bytes() + self.graph_bytes();
        let arena = self.arena();
        let own = arena.held() - arena.used() + beside;
        Ok(CardMemory { available: free.saturating_sub(reserve_of(total)) + own, total })
    }

    /// What the card calls itself, and its compute capability.
    pub fn card_name(&self) -> &str {
        &self.name
    }

    /// Bytes that were taken from the card, used or kept for the next use.
    pub fn held(&self) -> usize {
        self.library_bytes() + self.graph_bytes() + self.arena().held()
    }

    /// How often memory was asked of the driver.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Memory beside the arena, for somebody else to use. The card's context is that of this thread.
    pub(super) fn take_apart(bytes: usize) -> Result<u64> {
        // SAFETY: memory without content, which is written before it is read.
        unsafe { result::malloc_sync(bytes) }.map_err(|e| refused(e, bytes))
    }

    /// Give that back. It waits for kernels under way; what cannot be given back is gone with the card.
    pub(super) fn give_apart(&self, address: u64) {
        // SAFETY: of `take_apart`, and given back once.
        let _gone = self.bind().map(|()| unsafe { result::free_sync(address) });
    }

    /// Ask the driver for a block of `size` bytes. The card's context is that of this thread.
    fn block(&self, arena: &mut Arena, size: usize) -> std::result::Result<(), DriverError> {
        let (free, total) = result::mem_get_info().unwrap_or((usize::MAX, usize::MAX));
        let reserve = reserve_of(total);
        // Some drivers lend the computer's memory instead of refusing, at a hundredth of the speed.
        if size >= reserve && size > free.saturating_sub(reserve) {
            return Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        // SAFETY: memory without content, which nobody reads before it is written.
        let base = unsafe { result::malloc_sync(size) }?;
        arena.add(base, size);
        Ok(())
    }

    /// The same, in the place of graphs where there is no other.
    fn block_before_graphs(&self, arena: &mut Arena, size: usize) -> std::result::Result<(), DriverError> {
        self.block(arena, size).or_else(|_| {
            self.graphs().give_back();
            self.block(arena, size)
        })
    }
}

/// Memory that the driver refuses, as an error.
fn refused(e: DriverError, bytes: usize) -> Error {
    match e {
        DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => Error::OutOfMemory { op: "alloc", bytes },
        e => lost("the graphics card gives no memory", e),
    }
}

/// Give the driver the blocks that nobody uses. The card's context is that of this thread.
fn give_back(arena: &mut Arena) {
    for address in arena.drain() {
        // SAFETY: the driver gave it and nobody uses it. It waits for kernels under way. What cannot be given back is
        // gone with the card.
        let _gone = unsafe { result::free_sync(address) };
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.bind().is_ok() {
            self.close_library();
            self.graphs().forget();
            if let Some(Ok(streams)) = self.streams.take() {
                streams.close();
            }
            give_back(&mut self.arena());
            for module in std::mem::take(&mut self.modules) {
                // SAFETY: loaded by `load`, and unloaded once. A card that was lost has nothing to unload.
                let _gone = unsafe { module::unload(module) };
            }
        }
        // SAFETY: retained once, by `open`.
        let _gone = unsafe { primary_ctx::release(self.card) };
    }
}

impl Device for Driver {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        let mut arena = self.arena();
        if let Some(address) = arena.take(bytes) {
            return Ok(address);
        }
        self.bind()?;
        let mut given = self.block(&mut arena, arena::block_for(bytes));
        if given.is_err() {
            self.run_launched()?;
            give_back(&mut arena);
            given = self.block_before_graphs(&mut arena, arena::rounded(bytes));
        }
        given.map_err(|e| refused(e, bytes))?;
        arena.take(bytes).ok_or(Error::OutOfMemory { op: "alloc", bytes })
    }

    fn free(&self, address: u64) {
        assert!(self.arena().put(address), "memory is given back to where it came from");
    }

    fn reserve(&self, bytes: usize) -> Result<()> {
        self.bind()?;
        let mut arena = self.arena();
        self.run_launched()?;
        give_back(&mut arena);
        self.block_before_graphs(&mut arena, arena::rounded(bytes)).map_err(|e| refused(e, bytes))
    }

    fn set_graph_room(&self, bytes: Option<usize>) {
        Self::set_graph_room(self, bytes);
    }

    fn trim(&self) {
        // A card that was lost has nothing to give back.
        if self.bind().is_ok() {
            let mut arena = self.arena();
            let _unstarted = self.run_launched();
            give_back(&mut arena);
        }
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let available = Self::memory(self).ok()?.available;
        let (library, graph_kernel) = (self.library_bytes(), self.graph_kernel_bytes());
        let beside = library + self.graph_bytes();
        let arena = self.arena();
        let (held, used, peak) = (arena.held() + beside, arena.used() + beside, arena.peak() + beside);
        let own = arena.held() - arena.used() + beside;
        Some(DeviceMemory { held, used, peak, available: available - own.min(available), library, graph_kernel })
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.bind()?;
        self.run_launched()?;
        // SAFETY: `Memory` keeps within what `alloc` gave.
        let copied = unsafe { result::memcpy_htod_sync(address, bytes) };
        copied.map_err(|e| lost("the graphics card takes no data", e))
    }

    fn download(&self, bytes: &mut [u8], address: u64) -> Result<()> {
        self.bind()?;
        self.run_launched()?;
        // SAFETY: `Memory` keeps within what `alloc` gave.
        let copied = unsafe { result::memcpy_dtoh_sync(bytes, address) };
        copied.map_err(|e| lost("the graphics card stopped", e))
    }

    fn has_wgmma(&self) -> bool {
        self.wgmma
    }

    fn library(&self) -> Option<(String, Choice)> {
        self.library_in_use()
    }

    fn open_library(&self) -> Result<Option<String>> {
        self.open_offered()?;
        Ok(self.library_in_use().map(|(version, _)| version))
    }

    fn multiply(&self, dense: &Dense) -> Result<bool> {
        self.multiply_by_library(dense)
    }

    fn launch(&self, kernel: &'static str, blocks: u32, threads: u32, args: &[Arg]) -> Result<()> {
        self.bind()?;
        let function = self.function(kernel)?;
        let values = args.iter().map(|arg| arg.bits());
        self.graphs().push(kernel, function, (blocks, threads), values).map_err(unstarted)
    }

    fn submit(&self) -> Result<()> {
        self.bind()?;
        self.run_launched()
    }

    fn lanes(&self) -> Result<&dyn Lanes> {
        self.bind()?;
        self.streams()?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever this machine has, the answer is a card or a reason (G5).
    #[test]
    fn a_machine_without_a_card_is_a_reason_and_no_panic() {
        for ordinal in [0, 63, usize::MAX] {
            match Driver::open(ordinal) {
                Ok(driver) => assert!(driver.memory().expect("a card has memory").total > 0),
                Err(Error::Unavailable { reason } | Error::OldDriver { reason } | Error::OldCard { reason }) => {
                    assert!(!reason.is_empty());
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
