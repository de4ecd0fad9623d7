//! The tile unit of Intel's processors (AMX): eight registers of 16 rows, 64 bytes each, and products of pairs of bf16.
//!
//! The kernel has to be asked once per process; a thread says how it divides the registers before it uses them, and
//! gives them back afterwards, so that switching between threads stays cheap. `std` has no intrinsics for it yet.

use super::panels::Pair;
use super::tiles::{BLOCK, BlockSums, Multiplier, SIDE, TileUnit, tiles_deep, works};
use crate::backend::Write;
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Proof that this processor has the unit, that the kernel lets this process use it, and that it computes right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(());

/// `arch_prctl` and its request for a state component; that of the tiles' contents.
const ARCH_PRCTL: u64 = 158;
const REQUEST_STATE: u64 = 0x1023;
const TILE_DATA: u64 = 18;

impl Amx {
    /// Whether the unit can be used, and why not; `None` where the processor has none.
    pub(super) fn state() -> Option<&'static Result<Self, String>> {
        static STATE: OnceLock<Option<Result<Amx, String>>> = OnceLock::new();
        STATE.get_or_init(|| is_there().then(Self::ask)).as_ref()
    }

    fn ask() -> Result<Self, String> {
        if !is_saved() {
            return Err("the operating system does not keep its registers".into());
        }
        let answer = request();
        if answer != 0 {
            return Err(format!("the operating system does not allow it (error {})", answer.wrapping_neg()));
        }
        let amx = Self(());
        if works(TileUnit::Amx(amx)) { Ok(amx) } else { Err("its results are wrong".into()) }
    }

    /// The unit with its registers divided.
    pub(super) fn set_up(self) -> SetUp {
        let shape = Shape { palette: 1, bytes: [64; 8], rows: [SIDE as u8; 8], ..Shape::NONE };
        // SAFETY: `self` proves the unit; the operand is 64 readable bytes of a palette that it has, whose every tile is
        // of the largest size. No register of the compiler is touched.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shape, options(nostack, preserves_flags)) };
        SetUp { proof: self, here: PhantomData }
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shape {
    palette: u8,
    first_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row of each register.
    bytes: [u16; 8],
    no_bytes: [u16; 8],
    rows: [u8; 8],
    no_rows: [u8; 8],
}

impl Shape {
    const NONE: Self = Self {
        palette: 0,
        first_row: 0,
        reserved: [0; 14],
        bytes: [0; 8],
        no_bytes: [0; 8],
        rows: [0; 8],
        no_rows: [0; 8],
    };
}

/// The unit, ready on this thread and given back in the end.
pub(super) struct SetUp {
    #[expect(dead_code, reason = "a proof is held, not read")]
    proof: Amx,
    /// Registers are a thread's own: this must not leave it.
    here: PhantomData<*const ()>,
}

impl Drop for SetUp {
    fn drop(&mut self) {
        // SAFETY: that this exists proves the unit; nobody on this thread uses it after the one who set it up.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

impl Multiplier for SetUp {
    fn multiply(&mut self, a: &[f32], b: &[f32], rows: usize, sums: &mut BlockSums, write: Write) {
        let deep = tiles_deep(a, b);
        if deep == 0 {
            if write == Write::Set {
                sums.0.as_flattened_mut().fill(0.0);
            }
            return;
        }
        let begun = usize::from(write == Write::Add);
        let (a, b, sums) = (a.as_ptr(), b.as_ptr(), sums.0.as_mut_ptr().cast());
        // SAFETY: `self` proves that the registers are divided as the functions need; `tiles_deep` found that both panels
        // are `deep` times two tiles, and `sums` is 32 rows of 32 numbers, one behind the other.
        unsafe {
            if rows > SIDE {
                two_by_two(a, b, deep, sums, begun, size_of::<[f32; BLOCK]>());
            } else {
                one_by_two(a, b, deep, sums, begun);
            }
        }
    }

    fn multiply_to(&mut self, pairs: &[Pair], rows: &mut [&mut [f32; BLOCK]; BLOCK]) -> bool {
        // The function writes all of them from where the first one is.
        let places = rows.each_mut().map(|row| row.as_mut_ptr().expose_provenance());
        let stride = places[1].wrapping_sub(places[0]);
        let is_even = places.windows(2).all(|two| two[1].wrapping_sub(two[0]) == stride);
        let deep = |(a, b): &Pair| tiles_deep(a, b);
        if !is_even || pairs.iter().all(|pair| deep(pair) == 0) {
            return false;
        }
        let sums = std::ptr::with_exposed_provenance_mut(places[0]);
        for (i, pair) in pairs.iter().filter(|pair| deep(pair) > 0).enumerate() {
            let (a, b) = (pair.0.as_ptr(), pair.1.as_ptr());
            // SAFETY: as above; row `i` of 32 numbers lies `i` times `stride` bytes behind the first one, and the
            // references to all rows are held until the function is over.
            unsafe { two_by_two(a, b, deep(pair), sums, usize::from(i > 0), stride) };
        }
        true
    }
}

/// Four tiles of sums, whose rows are `stride` bytes apart; `begun` is one where there are some already, or zero.
///
/// # Safety
/// The tile unit is set up with eight tiles of 16 rows of 64 bytes; `a` and `b` are `deep` times 2048 readable bytes,
/// `deep` at least one, `sums` is 32 times 128 readable and writable ones, `stride` bytes apart.
#[inline(never)]
unsafe extern "sysv64" fn two_by_two(
    a: *const f32,
    b: *const f32,
    deep: usize,
    sums: *mut f32,
    begun: usize,
    stride: usize,
) {
    // The two lower tiles.
    let lower = sums.wrapping_byte_add(stride.wrapping_mul(SIDE));
    // SAFETY: reads and writes what the caller promises: 16 rows of 64 bytes from each address, 64 bytes apart in `a`,
    // 128 in `b`, `stride` in `sums`.
    unsafe {
        asm!(
            "test {begun}, {begun}",
            "jnz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{sums} + 1*{stride}]",
            "tileloadd tmm1, [{sums} + 1*{stride} + 64]",
            "tileloadd tmm2, [{lower} + 1*{stride}]",
            "tileloadd tmm3, [{lower} + 1*{stride} + 64]",
            "2:",
            "tileloadd tmm4, [{a} + 1*{near}]",
            "tileloadd tmm6, [{b} + 1*{far}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + 1*{far} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + 1*{near} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {deep}",
            "jnz 2b",
            "tilestored [{sums} + 1*{stride}], tmm0",
            "tilestored [{sums} + 1*{stride} + 64], tmm1",
            "tilestored [{lower} + 1*{stride}], tmm2",
            "tilestored [{lower} + 1*{stride} + 64], tmm3",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            deep = inout(reg) deep => _,
            sums = in(reg) sums,
            lower = in(reg) lower,
            stride = in(reg) stride,
            begun = in(reg) begun,
            near = in(reg) 64_usize,
            far = in(reg) 128_usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

/// The two upper tiles of sums.
///
/// # Safety
/// As for [`two_by_two`].
#[inline(never)]
unsafe extern "sysv64" fn one_by_two(a: *const f32, b: *const f32, deep: usize, sums: *mut f32, begun: usize) {
    // SAFETY: as in `two_by_two`.
    unsafe {
        asm!(
            "test {begun}, {begun}",
            "jnz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{sums} + 1*{far}]",
            "tileloadd tmm1, [{sums} + 1*{far} + 64]",
            "2:",
            "tileloadd tmm4, [{a} + 1*{near}]",
            "tileloadd tmm6, [{b} + 1*{far}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + 1*{far} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {deep}",
            "jnz 2b",
            "tilestored [{sums} + 1*{far}], tmm0",
            "tilestored [{sums} + 1*{far} + 64], tmm1",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            deep = inout(reg) deep => _,
            sums = in(reg) sums,
            begun = in(reg) begun,
            near = in(reg) 64_usize,
            far = in(reg) 128_usize,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

/// Tiles, and products of bf16 in them, of the one palette that there is.
fn is_there() -> bool {
    const TILES: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    const PALETTES: u32 = 0x1D;
    let known = __cpuid_count(0, 0).eax;
    if known < PALETTES || __cpuid_count(7, 0).edx & (TILES | BF16) != TILES | BF16 {
        return false;
    }
    let palette = __cpuid_count(PALETTES, 1);
    // Bytes of a row, and how many registers; then rows of each.
    palette.ebx == 64 | (8 << 16) && palette.ecx & 0xFFFF == 16
}

/// Whether the operating system keeps the registers of the unit when it switches between threads.
fn is_saved() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const SHAPE_AND_DATA: u32 = 0b11 << 17;
    if __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return false;
    }
    let low: u32;
    // SAFETY: the flag found above is the promise that this instruction exists; it changes the two registers named.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack, preserves_flags)) };
    low & SHAPE_AND_DATA == SHAPE_AND_DATA
}

/// Ask the kernel for the unit, for all threads of this process: zero, or an error as the kernel counts them.
fn request() -> i64 {
    let answer: i64;
    // SAFETY: a call of the kernel on Linux, which changes the registers named; it reads and writes no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inout("rax") ARCH_PRCTL => answer,
            in("rdi") REQUEST_STATE,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    answer
}
