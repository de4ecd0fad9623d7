//! One function body compiled for every instruction set, and the choice between them.

use super::factors::Factors;
#[cfg(target_arch = "aarch64")]
use super::simd_neon::Neon;
use super::tiles::TileUnit;
#[cfg(target_arch = "x86_64")]
use super::{simd_avx2::Avx2, simd_avx2_bytes::Avx2Bytes, simd_avx512::Avx512};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// An instruction set that this processor has: its variants hold proofs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 128-bit vectors of ARM processors.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// Whatever the target promises.
    Portable,
    /// The same beside a model of a unit that multiplies tiles.
    PortableTiles,
}

#[cfg(target_arch = "x86_64")]
impl Isa {
    pub(super) fn avx512() -> Option<Self> {
        Avx512::detect().map(Self::Avx512)
    }

    pub(super) fn avx512_bf16() -> Option<Self> {
        Avx512::detect()?.with_bf16().map(Self::Avx512)
    }

    pub(super) fn amx() -> Option<Self> {
        Avx512::detect()?.with_bf16()?.with_amx().map(Self::Avx512)
    }

    pub(super) fn avx2() -> Option<Self> {
        Avx2::detect().map(Self::Avx2)
    }

    /// The 256-bit vectors of a processor that has them, whatever else it has.
    pub(super) fn avx2_of(self) -> Option<Avx2> {
        match self {
            Self::Avx512(isa) => Some(isa.avx2()),
            Self::Avx2(isa) => Some(isa),
            _ => None,
        }
    }

    /// What multiplies bytes in 256-bit vectors.
    pub(super) fn bytes(self) -> Option<Avx2Bytes> {
        if matches!(self, Self::Avx512(_) | Self::Avx2(_)) { Avx2Bytes::detect() } else { None }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Isa {
    pub(super) fn avx512() -> Option<Self> {
        None
    }

    pub(super) fn avx512_bf16() -> Option<Self> {
        None
    }

    pub(super) fn amx() -> Option<Self> {
        None
    }

    pub(super) fn avx2() -> Option<Self> {
        None
    }
}

impl Isa {
    /// What multiplies rows in eight bits with codes of weights: named as the features are; `None` for plain loops.
    pub(super) fn byte_products(self) -> Option<&'static str> {
        #[cfg(target_arch = "x86_64")]
        {
            if matches!(self, Self::Avx512(isa) if isa.vnni().is_some()) {
                return Some("avx512vnni");
            }
            self.bytes().map(|isa| if isa.has_fours() { "avxvnni" } else { "avx2" })
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    #[cfg(target_arch = "aarch64")]
    pub(super) fn neon() -> Option<Self> {
        Neon::detect().map(Self::Neon)
    }

    #[cfg(not(target_arch = "aarch64"))]
    pub(super) fn neon() -> Option<Self> {
        None
    }

    /// What multiplies tiles of such factors.
    pub(super) fn tiles(self, factors: Factors) -> Option<TileUnit> {
        let unit = match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Avx512(isa) => isa.amx().map(TileUnit::Amx),
            Self::PortableTiles => Some(TileUnit::Model),
            _ => None,
        };
        unit.filter(|_| factors == Factors::Bf16)
    }

    /// The best this processor has.
    pub(crate) fn best() -> Self {
        Self::avx512().or_else(Self::avx2).or_else(Self::neon).unwrap_or(Self::Portable)
    }
}

/// Asks for all lines of `numbers`, which are wanted soon, where the processor can be asked.
pub(super) fn ask_for<T>(numbers: &[T]) {
    const LINE: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for line in numbers.chunks(LINE / size_of::<T>().clamp(1, LINE)) {
        // SAFETY: every processor of this architecture has the instruction, and the address is one of a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, LINE);
}

/// Asks for what is `far` bytes behind byte `at` of `bytes`, and once more for what is `NEAR` bytes behind it; that may be
/// anything: nothing is read. What is far comes to the second cache, which has more reads under way at once than
/// the first. On a core of a Zen 4 weights are read at 20 GB/s so, at 12 where all is asked for the first cache.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn ask_ahead<const NEAR: usize>(bytes: &[u8], at: usize, far: usize) {
    let start = bytes.as_ptr().wrapping_add(at);
    // SAFETY: every processor of this architecture has the instruction, and it may be given any address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(far).cast());
        _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(NEAR).cast());
    }
}

/// Compiles a safe function once per instruction set and lets the first argument choose.
///
/// The compiler vectorises the loops of the body. Sums keep their written order and products are
/// never fused, so the bits are the same whichever copy runs.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::cpu::simd_dispatch::Isa, $($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn portable($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $type),*) $(-> $out)? {
                portable($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $out)? {
                portable($($arg),*)
            }

            match isa {
                // SAFETY: an `Avx512` is made only by `Avx512::detect`, which found every feature enabled above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd_dispatch::Isa::Avx512(_) => unsafe { avx512($($arg),*) },
                // SAFETY: an `Avx2` is made only by `Avx2::detect`, which found every feature enabled above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd_dispatch::Isa::Avx2(_) => unsafe { avx2($($arg),*) },
                // What is compiled for such a processor has its vectors anyway.
                #[cfg(target_arch = "aarch64")]
                $crate::cpu::simd_dispatch::Isa::Neon(_) => portable($($arg),*),
                $crate::cpu::simd_dispatch::Isa::Portable | $crate::cpu::simd_dispatch::Isa::PortableTiles => {
                    portable($($arg),*)
                }
            }
        }
    };
}
pub(crate) use vectorized;
