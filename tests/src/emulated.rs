//! A GPU that is none: the kernels of `kernels/cu`, compiled for this processor and run under watch.
//!
//! The compiler is called when a test asks for a machine, not when the tests are built: whoever runs no such test needs
//! none, and a test that damages a kernel builds the damaged one the same way. A library is built once for each
//! content of the sources. See `tests/emulated/machine.h` for what the machine finds.

use libloading::Library;
use peft_kernels::cuda::Cuda;
use peft_kernels::cuda::device::{Arg, Device};
use peft_kernels::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory of a machine.
const CAPACITY: u64 = 1 << 31;

/// An order in which threads and blocks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// As they are counted, each until it waits.
    Forward,
    /// The other way round.
    Backward,
    /// The last block first, and each warp as far as it gets before the next.
    Warps,
    /// In an order that a number decides.
    Shuffled(u8),
}

impl Schedule {
    fn number(self) -> c_int {
        match self {
            Self::Forward => 0,
            Self::Backward => 1,
            Self::Warps => 3,
            // Bit 1 stands for whole warps.
            Self::Shuffled(seed) => 4 + 4 * c_int::from(seed),
        }
    }
}

/// An argument as the library reads it.
#[repr(C)]
struct Slot {
    bits: u64,
    kind: u8,
}

/// What a library can do, and how it is found there.
macro_rules! functions {
    ($($name:ident = $symbol:literal: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        struct Calls {
            $(
                // SAFETY: the signature in `kernels.cpp`; every call says why it may be made.
                $name: unsafe extern "C" fn($($arg),*) $(-> $result)?,
            )*
            /// The functions are its own.
            _library: Library,
        }

        impl Calls {
            fn load(path: &Path) -> Result<Self> {
                let broken = |e: libloading::Error| unavailable(format!("the emulated GPU cannot be loaded: {e}"));
                // SAFETY: the library was built from `tests/emulated`; nothing runs when it is loaded.
                let library = unsafe { Library::new(path) }.map_err(broken)?;
                $(
                    // SAFETY: `kernels.cpp` declares the function with the signature of the field.
                    let $name = *unsafe { library.get($symbol) }.map_err(broken)?;
                )*
                Ok(Self { $($name,)* _library: library })
            }
        }
    };
}

functions! {
    new = b"emu_new\0": fn(c_int, u64) -> *mut c_void;
    free = b"emu_free\0": fn(*mut c_void);
    alloc = b"emu_alloc\0": fn(*mut c_void, u64) -> u64;
    release = b"emu_release\0": fn(*mut c_void, u64) -> *const c_char;
    write = b"emu_write\0": fn(*mut c_void, u64, *const c_void, u64) -> *const c_char;
    read = b"emu_read\0": fn(*mut c_void, *mut c_void, u64, u64) -> *const c_char;
    launch = b"emu_launch\0": fn(*mut c_void, *const c_char, *const [u32; 3], *const [u32; 3], *const Slot, u64) -> *const c_char;
    knows = b"emu_knows\0": fn(*const c_char) -> c_int;
}

fn unavailable(reason: impl Into<String>) -> Error {
    Error::Unavailable { reason: reason.into() }
}

/// Where the sources of the project are.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are inside the workspace").to_owned()
}

/// The folder of the kernels.
pub fn sources() -> PathBuf {
    root().join("kernels/cu")
}

/// The library of the kernels in `folder`, all of them or only those of the files named `only`.
fn library(folder: &Path, only: &[&str]) -> Result<Arc<Calls>> {
    static LOADED: Mutex<Option<HashMap<PathBuf, Arc<Calls>>>> = Mutex::new(None);
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err(unavailable("the emulated GPU switches its threads in the way of Linux on x86-64"));
    }
    // One at a time: two tests that want the same library build it once.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let path = library_path(folder, only);
    let loaded = loaded.get_or_insert_default();
    if let Some(calls) = loaded.get(&path) {
        return Ok(Arc::clone(calls));
    }
    if !path.exists() {
        build("kernels.cpp", folder, only, &path)?;
    }
    let calls = Arc::new(Calls::load(&path)?);
    loaded.insert(path, Arc::clone(&calls));
    Ok(calls)
}

/// Named after everything it is made of.
fn library_path(folder: &Path, only: &[&str]) -> PathBuf {
    let mut hash = Sha256::new();
    for folder in [folder, &root().join("tests/emulated")] {
        let entries = std::fs::read_dir(folder).expect("the kernels are there");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
        files.sort();
        for file in files {
            hash.update(file.file_name().expect("a file").as_encoded_bytes());
            hash.update(std::fs::read(&file).expect("a readable file"));
        }
    }
    hash.update(only.join(" "));
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
    let name = format!("{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    let program = std::env::current_exe().expect("a test has a program");
    program.parent().expect("a program lies in a folder").join("emulated").join(format!("{name}.so"))
}

/// Where `compile` leaves what is not finished.
fn unfinished(to: &Path) -> PathBuf {
    to.with_extension(format!("{}.tmp", std::process::id()))
}

/// A compiler of libraries, for `to`.
fn compiler(to: &Path) -> Command {
    std::fs::create_dir_all(to.parent().expect("a folder of its own")).expect("a folder beside the tests");
    let mut command = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    // Nothing is fused that a kernel did not fuse; an access of `now` is one instruction.
    command.args(["-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-ftls-model=initial-exec"]);
    command.arg("-o").arg(unfinished(to));
    command
}

fn build(unit: &str, folder: &Path, only: &[&str], to: &Path) -> Result<()> {
    let emulated = root().join("tests/emulated");
    let mut command = compiler(to);
    // Damaged kernels are loaded beside whole ones: each library keeps its own.
    command.args(["-fno-gnu-unique", "-DHOST_EMU", "-w"]).arg("-I").arg(folder).arg("-I").arg(&emulated);
    if !only.is_empty() {
        command.arg("-DONLY").args(only.iter().map(|name| format!("-DONLY_{name}")));
    }
    command.arg(emulated.join(unit));
    compile(command, to)
}

fn compile(mut command: Command, to: &Path) -> Result<()> {
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => return Err(unavailable(format!("no C++ compiler for the emulated GPU: {e}"))),
    };
    assert!(output.status.success(), "the kernels do not compile:\n{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(unfinished(to), to).expect("a folder beside the tests");
    Ok(())
}

/// A folder with a driver over the emulated machine (`tests/emulated/driver.cpp`), for `LD_LIBRARY_PATH` of a program.
pub fn driver() -> Result<PathBuf> {
    // One at a time; another process may build the same, and the last one wins.
    static BUILDS: Mutex<()> = Mutex::new(());
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err(unavailable("the emulated GPU switches its threads in the way of Linux on x86-64"));
    }
    let folder = library_path(&sources(), &["driver"]).with_extension("driver");
    let path = folder.join("libcuda.so");
    let _alone = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.exists() {
        build("driver.cpp", &sources(), &[], &path)?;
    }
    Ok(folder)
}

/// One is built at a time.
static LIBRARIES: Mutex<()> = Mutex::new(());

/// Folders with that driver and a library of products beside it (`tests/emulated/cublaslt.cpp`), for `LD_LIBRARY_PATH` of a
/// program. `whole`: it has all functions.
pub fn driver_and_library(whole: bool) -> Result<OsString> {
    let driver = driver()?;
    let folder = driver.with_extension(if whole { "library" } else { "lacking" });
    let path = folder.join("libcublasLt.so.12");
    let _alone = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.exists() {
        let lacking = if whole { &[][..] } else { &["-DWITHOUT_PRODUCTS"] };
        let mut command = compiler(&path);
        command.args(lacking).arg(root().join("tests/emulated/cublaslt.cpp")).arg("-L").arg(&driver).arg("-lcuda");
        compile(command, &path)?;
    }
    Ok(std::env::join_paths([driver, folder]).expect("folders without colons"))
}

/// A machine of one library.
pub struct Emulated {
    calls: Arc<Calls>,
    schedule: Schedule,
    wgmma: bool,
    /// Its address; one call at a time.
    machine: Mutex<usize>,
}

impl Emulated {
    /// All kernels as they are.
    pub fn new(schedule: Schedule) -> Result<Self> {
        Self::of(&sources(), &[], schedule)
    }

    /// The kernels in `folder`, of all files or of those named `only`.
    pub fn of(folder: &Path, only: &[&str], schedule: Schedule) -> Result<Self> {
        let calls = library(folder, only)?;
        // SAFETY: the function takes any two numbers.
        let machine = unsafe { (calls.new)(schedule.number(), CAPACITY) } as usize;
        Ok(Self { calls, schedule, wgmma: false, machine: Mutex::new(machine) })
    }

    /// The same as a card of compute capability 9.0.
    #[must_use]
    pub fn with_wgmma(mut self) -> Self {
        self.wgmma = true;
        self
    }

    /// Whether there is a kernel of this name.
    pub fn knows(&self, kernel: &str) -> bool {
        let Ok(name) = CString::new(kernel) else { return false };
        // SAFETY: a text that ends with a zero.
        unsafe { (self.calls.knows)(name.as_ptr()) == 1 }
    }

    fn with<T>(&self, call: impl FnOnce(*mut c_void) -> T) -> T {
        // A test that failed in a call must not fail all others.
        let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        call(*machine as *mut c_void)
    }
}

/// What the machine found wrong.
fn checked(message: *const c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the library returns null or a text that ends with a zero and lasts until this thread calls again.
    let message = unsafe { CStr::from_ptr(message) };
    Err(unavailable(format!("the emulated GPU stopped: {}", message.to_string_lossy())))
}

/// A GPU under `schedule`.
pub fn gpu(schedule: Schedule) -> Result<Cuda<Emulated>> {
    Cuda::new(Emulated::new(schedule)?)
}

impl Device for Emulated {
    fn name(&self) -> String {
        format!("emulated, {:?}", self.schedule)
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        // SAFETY: a machine that lives as long as `self`, and any number.
        let address = self.with(|machine| unsafe { (self.calls.alloc)(machine, bytes as u64) });
        if address == 0 { Err(Error::OutOfMemory { op: "alloc", bytes }) } else { Ok(address) }
    }

    fn free(&self, address: u64) {
        // SAFETY: a machine that lives as long as `self`; it knows its addresses.
        let result = self.with(|machine| unsafe { checked((self.calls.release)(machine, address)) });
        result.expect("memory is given back once");
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        let (from, len) = (bytes.as_ptr().cast(), bytes.len() as u64);
        // SAFETY: as many bytes are read as the slice has; the machine knows its addresses.
        self.with(|machine| unsafe { checked((self.calls.write)(machine, address, from, len)) })
    }

    fn download(&self, bytes: &mut [u8], address: u64) -> Result<()> {
        let (to, len) = (bytes.as_mut_ptr().cast(), bytes.len() as u64);
        // SAFETY: as many bytes are written as the slice has; the machine knows its addresses.
        self.with(|machine| unsafe { checked((self.calls.read)(machine, to, address, len)) })
    }

    fn has_wgmma(&self) -> bool {
        self.wgmma
    }

    fn launch(&self, kernel: &'static str, blocks: u32, threads: u32, args: &[Arg]) -> Result<()> {
        let name = CString::new(kernel).expect("names of kernels have no zeros");
        let slots: Vec<Slot> = args.iter().map(|arg| Slot { bits: arg.bits(), kind: arg.kind() }).collect();
        let (grid, block) = ([blocks, 1, 1], [threads, 1, 1]);
        self.with(|machine| {
            let (name, slots, count) = (name.as_ptr(), slots.as_ptr(), slots.len() as u64);
            // SAFETY: pointers to what this function holds; the machine compares the arguments with the kernel's
            // parameters and every access with its allocations.
            unsafe { checked((self.calls.launch)(machine, name, &raw const grid, &raw const block, slots, count)) }
        })
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // SAFETY: the machine is freed once, and nothing calls it afterwards.
        self.with(|machine| unsafe { (self.calls.free)(machine) });
    }
}
