//! cuBLASLt, NVIDIA's library of products, where it is installed: found as a file, opened when the program runs.
//!
//! It multiplies dense factors in bfloat16 with sums in f32, in the layouts of a training step, and only with algorithms
//! that give the same bits every time: no sum is cut into pieces that are joined in an order of their own. What it
//! lacks or refuses is a reason, and our own kernels do the product. Names and numbers of its interface are those of
//! `cublasLt.h` of CUDA 12 and 13, which agree in what is used here.

use super::driver::unavailable;
use crate::error::Result;
use libloading::Library;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

/// Room that its algorithms may use, in bytes.
pub(super) const WORKSPACE: usize = 32 << 20;

/// Shapes of products that are remembered with their algorithm.
const REMEMBERED: usize = 1024;

// `cudaDataType_t`, `cublasComputeType_t`, `cublasOperation_t`.
const R_32F: c_int = 0;
const R_16BF: c_int = 14;
const COMPUTE_32F: c_int = 68;
const TURNED: i32 = 1;
// `cublasLtMatmulDescAttributes_t`.
const DESC_TRANSA: c_int = 3;
// `cublasLtMatmulPreferenceAttributes_t`.
const PREF_WORKSPACE: c_int = 1;
const PREF_REDUCTION: c_int = 3;
const PREF_ALIGNMENTS: [c_int; 4] = [5, 6, 7, 8];
/// No sum is made of parts that are reduced afterwards.
const NO_REDUCTION: u32 = 0;
/// Every factor and result begins, with each of its rows, at a multiple of so many bytes.
const ALIGNMENT: u32 = 16;

type Handle = *mut c_void;

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Heuristic {
    algorithm: [u64; 8],
    workspace: usize,
    status: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

/// Functions of the library by their names.
macro_rules! functions {
    ($($name:ident = $symbol:literal ($($arg:ty),*) -> $answer:ty;)*) => {
        struct Functions {
            // SAFETY: nothing is called here; the types are those of `cublasLt.h`.
            $($name: unsafe extern "C" fn($($arg),*) -> $answer,)*
            /// The functions are its own.
            _library: Library,
        }

        impl Functions {
            fn load(path: &Path) -> Result<Self> {
                // SAFETY: a library of this name and place is NVIDIA's; it was opened in a process of its own before.
                let library = unsafe { Library::new(path) }.map_err(|e| unavailable(format!("it cannot be opened: {e}")))?;
                $(
                    // SAFETY: the signature of `cublasLt.h`.
                    let $name = unsafe { library.get::<unsafe extern "C" fn($($arg),*) -> $answer>($symbol.as_bytes()) };
                    let $name = *$name.map_err(|_| unavailable(concat!("it has no ", $symbol)))?;
                )*
                Ok(Self { $($name,)* _library: library })
            }
        }
    };
}

functions! {
    create = "cublasLtCreate"(*mut Handle) -> c_int;
    destroy = "cublasLtDestroy"(Handle) -> c_int;
    version = "cublasLtGetVersion"() -> usize;
    new_product = "cublasLtMatmulDescCreate"(*mut Handle, c_int, c_int) -> c_int;
    set_product = "cublasLtMatmulDescSetAttribute"(Handle, c_int, *const c_void, usize) -> c_int;
    end_product = "cublasLtMatmulDescDestroy"(Handle) -> c_int;
    new_layout = "cublasLtMatrixLayoutCreate"(*mut Handle, c_int, u64, u64, i64) -> c_int;
    end_layout = "cublasLtMatrixLayoutDestroy"(Handle) -> c_int;
    new_wish = "cublasLtMatmulPreferenceCreate"(*mut Handle) -> c_int;
    set_wish = "cublasLtMatmulPreferenceSetAttribute"(Handle, c_int, *const c_void, usize) -> c_int;
    end_wish = "cublasLtMatmulPreferenceDestroy"(Handle) -> c_int;
    choose = "cublasLtMatmulAlgoGetHeuristic"(
        Handle, Handle, Handle, Handle, Handle, Handle, Handle, c_int, *mut Heuristic, *mut c_int
    ) -> c_int;
    multiply = "cublasLtMatmul"(
        Handle, Handle, *const c_void, u64, Handle, u64, Handle, *const c_void, u64, Handle, u64, Handle,
        *const [u64; 8], u64, usize, Handle
    ) -> c_int;
}

/// `y (=|+=) alpha·a·b` of factors in bfloat16: rows of `a` are rows of steps, rows of `b` are columns of the result, or with
/// `by_step` steps.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    /// Addresses of result and factors.
    pub y: u64,
    /// The left factor.
    pub a: u64,
    /// The right factor.
    pub b: u64,
    /// What does not depend on where they lie.
    pub shape: DenseShape,
    /// What the product is multiplied with.
    pub alpha: f32,
    /// Add to the result instead of setting it.
    pub add: bool,
}

/// What decides the algorithm of a product: sizes, and distances of rows in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DenseShape {
    /// Rows, columns and steps.
    pub sizes: [usize; 3],
    /// Distances of the rows of result, left and right factor.
    pub strides: [usize; 3],
    /// Rows of the right factor are steps.
    pub by_step: bool,
    /// The result is bfloat16 instead of f32.
    pub is_narrow: bool,
}

/// A product as the library knows it.
struct Known {
    product: Handle,
    /// Of `b`, `a` and `y`, in the order of the library, which counts columns first.
    layouts: [Handle; 3],
    algorithm: [u64; 8],
    workspace: usize,
}

/// The library, open for one card whose context is that of the calling thread, in every call.
pub(super) struct Lt {
    functions: Functions,
    handle: Handle,
    version: usize,
    workspace: u64,
    /// `None`: it has no algorithm for this shape.
    known: HashMap<DenseShape, Option<Known>>,
}

// SAFETY: handles may be used by any thread, one at a time, that has made the card's context its own.
unsafe impl Send for Lt {}

fn checked(what: &str, status: c_int) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(unavailable(format!("its {what} answers with status {status}"))) }
}

impl Lt {
    /// Open it; `workspace`: the address of [`WORKSPACE`] bytes of the card.
    pub(super) fn open(path: &Path, workspace: u64) -> Result<Self> {
        let functions = Functions::load(path)?;
        let mut handle = null_mut();
        // SAFETY: writes a handle.
        checked("start", unsafe { (functions.create)(&raw mut handle) })?;
        // SAFETY: a function of no arguments.
        let version = unsafe { (functions.version)() };
        Ok(Self { functions, handle, version, workspace, known: HashMap::new() })
    }

    /// As in `12.4.5`: CUDA 12 counts in tens of thousands, CUDA 13 too.
    pub(super) fn version(&self) -> String {
        let Self { version: v, .. } = self;
        format!("{}.{}.{}", v / 10_000, v / 100 % 100, v % 100)
    }

    /// Begin a product on the stream of everything else; `false`: there is no algorithm for it, and nothing was done.
    pub(super) fn multiply(&mut self, dense: &Dense) -> Result<bool> {
        if !self.known.contains_key(&dense.shape) {
            if self.known.len() == REMEMBERED {
                self.forget();
            }
            let found = self.look_up(&dense.shape)?;
            self.known.insert(dense.shape, found);
        }
        let Some(Some(known)) = self.known.get(&dense.shape) else { return Ok(false) };
        let (alpha, beta) = (dense.alpha, if dense.add { 1.0_f32 } else { 0.0 });
        let [of_b, of_a, of_y] = known.layouts;
        // SAFETY: descriptors of this shape, and addresses that hold it: the emulation compares both with every
        // allocation (`tests/emulated/cublaslt.cpp`). Numbers are read before the call returns.
        let status = unsafe {
            (self.functions.multiply)(
                self.handle,
                known.product,
                (&raw const alpha).cast(),
                dense.b,
                of_b,
                dense.a,
                of_a,
                (&raw const beta).cast(),
                dense.y,
                of_y,
                dense.y,
                of_y,
                &raw const known.algorithm,
                self.workspace,
                known.workspace,
                null_mut(),
            )
        };
        checked("product", status)?;
        Ok(true)
    }

    /// The first algorithm that the library proposes for a shape.
    fn look_up(&self, shape: &DenseShape) -> Result<Option<Known>> {
        let DenseShape { sizes: [m, n, k], strides: [ldy, lda, ldb], by_step, is_narrow } = *shape;
        let f = &self.functions;
        let mut known = Known { product: null_mut(), layouts: [null_mut(); 3], algorithm: [0; 8], workspace: 0 };
        let mut wish = null_mut();
        let look = |known: &mut Known, wish: &mut Handle| -> Result<bool> {
            // Seen column by column, every matrix is turned: yᵀ = bᵀ·aᵀ, and rows of `b` that are columns of `y` lie
            // as steps there.
            let of_b = if by_step { (n, k) } else { (k, n) };
            let of_y = if is_narrow { R_16BF } else { R_32F };
            let layouts = [(R_16BF, of_b, ldb), (R_16BF, (k, m), lda), (of_y, (n, m), ldy)];
            // SAFETY: writes handles, and reads what each attribute is made of.
            unsafe {
                checked("description of a product", (f.new_product)(&raw mut known.product, COMPUTE_32F, R_32F))?;
                if !by_step {
                    let turned = (&raw const TURNED_VALUE).cast();
                    checked("order of a factor", (f.set_product)(known.product, DESC_TRANSA, turned, 4))?;
                }
                for (to, (kind, (rows, cols), stride)) in known.layouts.iter_mut().zip(layouts) {
                    checked("layout", (f.new_layout)(&raw mut *to, kind, rows as u64, cols as u64, stride as i64))?;
                }
                checked("preference", (f.new_wish)(&raw mut *wish))?;
                let room = WORKSPACE as u64;
                checked("workspace", (f.set_wish)(*wish, PREF_WORKSPACE, (&raw const room).cast(), 8))?;
                let reduction = (&raw const NO_REDUCTION_VALUE).cast();
                checked("choice of sums", (f.set_wish)(*wish, PREF_REDUCTION, reduction, 4))?;
                for attribute in PREF_ALIGNMENTS {
                    checked("alignment", (f.set_wish)(*wish, attribute, (&raw const ALIGNMENT_VALUE).cast(), 4))?;
                }
                let (mut best, mut count) = (Heuristic::default(), 0);
                let [of_b, of_a, of_y] = known.layouts;
                let status = (f.choose)(
                    self.handle,
                    known.product,
                    of_b,
                    of_a,
                    of_y,
                    of_y,
                    *wish,
                    1,
                    &raw mut best,
                    &raw mut count,
                );
                (known.algorithm, known.workspace) = (best.algorithm, best.workspace);
                // What it does not support is no fault.
                Ok(status == 0 && count > 0 && best.status == 0 && best.workspace <= WORKSPACE)
            }
        };
        let found = look(&mut known, &mut wish);
        if !wish.is_null() {
            // SAFETY: made above, and given back once.
            let _gone = unsafe { (f.end_wish)(wish) };
        }
        match found {
            Ok(true) => Ok(Some(known)),
            other => {
                self.give_back(&known);
                other.map(|_| None)
            }
        }
    }

    fn give_back(&self, known: &Known) {
        // SAFETY: handles of this library, each given back once.
        unsafe {
            if !known.product.is_null() {
                let _gone = (self.functions.end_product)(known.product);
            }
            for layout in known.layouts.into_iter().filter(|layout| !layout.is_null()) {
                let _gone = (self.functions.end_layout)(layout);
            }
        }
    }

    fn forget(&mut self) {
        for known in std::mem::take(&mut self.known).into_values().flatten() {
            self.give_back(&known);
        }
    }
}

// Attributes are read from memory.
static TURNED_VALUE: i32 = TURNED;
static NO_REDUCTION_VALUE: u32 = NO_REDUCTION;
static ALIGNMENT_VALUE: u32 = ALIGNMENT;

impl Drop for Lt {
    fn drop(&mut self) {
        self.forget();
        // SAFETY: made by `open`, and destroyed once.
        let _gone = unsafe { (self.functions.destroy)(self.handle) };
    }
}

/// Names of the library that a driver of this CUDA version can run, the newest first.
fn names(driver: i32) -> Vec<String> {
    let newest = (driver / 1000).min(13);
    (12..=newest)
        .rev()
        .map(|major| if cfg!(windows) { format!("cublasLt64_{major}.dll") } else { format!("libcublasLt.so.{major}") })
        .collect()
}

/// Folders in which a toolkit, a package of Python or a person puts it.
fn folders() -> Vec<PathBuf> {
    let listed = |name: &str| std::env::var_os(name).map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    let mut all = listed(if cfg!(windows) { "PATH" } else { "LD_LIBRARY_PATH" }).unwrap_or_default();
    all.retain(|folder| folder.is_absolute());
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        all.extend(
            std::env::var_os(name).map(|home| Path::new(&home).join(if cfg!(windows) { "bin" } else { "lib64" })),
        );
    }
    if cfg!(unix) {
        let usual = ["/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/opt/cuda/lib64"];
        all.extend(usual.map(PathBuf::from));
    }
    let python = |root: PathBuf| {
        let versions = std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = versions.filter(|path| path.join("site-packages/nvidia").is_dir()).collect();
        found.sort();
        found
            .into_iter()
            .flat_map(|path| ["cublas/lib", "cu13/lib"].map(|package| path.join("site-packages/nvidia").join(package)))
    };
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        if let Some(root) = std::env::var_os(name).map(PathBuf::from) {
            all.push(root.join("lib"));
            all.extend(python(root));
        }
    }
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        all.extend(python(home.join(".local")));
    }
    all
}

/// Where the library is that a driver of this CUDA version can run, as in 12040. Nothing is opened.
pub fn find(driver: i32) -> Option<PathBuf> {
    let (names, folders) = (names(driver), folders());
    let places = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_looked_for_by_the_versions_that_the_driver_can_run() {
        let majors = |driver| {
            names(driver)
                .iter()
                .filter_map(|name| name.chars().find(char::is_ascii_digit).map(|_| name.contains("13")))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (majors(12_040), majors(13_000), majors(14_000)),
            (vec![false], vec![true, false], vec![true, false])
        );
        assert!(names(11_080).is_empty());
    }

    /// A file that is no library is a reason.
    #[test]
    fn what_cannot_be_opened_is_a_reason_and_no_panic() {
        for path in ["/nowhere/libcublasLt.so.12", env!("CARGO_MANIFEST_DIR")] {
            let error = Lt::open(Path::new(path), 0).err().expect("there is none");
            assert!(error.to_string().starts_with("it cannot be opened"), "{error}");
        }
    }
}
