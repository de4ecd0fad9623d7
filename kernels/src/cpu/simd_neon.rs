//! Kernels of 64-bit ARM processors: the register tile of a product.

use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_n_f32, vld1q_f32, vst1q_f32};

/// Every processor of this kind has these vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

/// Rows and columns of the tile, 24 of the 32 registers.
pub(super) const MR: usize = 8;
pub(super) const NR: usize = 12;
const LANES: usize = 4;

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Neon {
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// `sums[r, c] = Σ_d a[d, r]·b[d, c]` for the first `rows` and `cols` of the panels.
    pub(super) fn tile(self, a: &[[f32; MR]], b: &[[f32; NR]], rows: usize, cols: usize, sums: &mut [[f32; NR]; MR]) {
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match (rows, cols.div_ceil(LANES)) {
                (..=2, 1) => tile::<2, 1>(a, b, sums),
                (..=2, _) => tile::<2, 3>(a, b, sums),
                (3..=4, 1) => tile::<4, 1>(a, b, sums),
                (3..=4, _) => tile::<4, 3>(a, b, sums),
                (_, 1) => tile::<MR, 1>(a, b, sums),
                (_, _) => tile::<MR, 3>(a, b, sums),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[f32; LANES]) -> float32x4_t {
    // SAFETY: the reference covers the 4 floats that the load reads.
    unsafe { vld1q_f32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [f32; LANES], x: float32x4_t) {
    // SAFETY: the reference covers the 4 floats that the store writes.
    unsafe { vst1q_f32(to.as_mut_ptr(), x) }
}

/// The first `R` rows and `W` vectors of the tile.
#[target_feature(enable = "neon")]
fn tile<const R: usize, const W: usize>(a: &[[f32; MR]], b: &[[f32; NR]], sums: &mut [[f32; NR]; MR]) {
    let mut acc = [[vdupq_n_f32(0.0); W]; R];
    for (a, b) in a.iter().zip(b) {
        let b = b.as_chunks().0;
        let mut columns = [vdupq_n_f32(0.0); W];
        for w in 0..W {
            columns[w] = load(&b[w]);
        }
        for r in 0..R {
            for w in 0..W {
                acc[r][w] = vfmaq_n_f32(acc[r][w], columns[w], a[r]);
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (sums, acc) in sums.as_chunks_mut().0.iter_mut().zip(acc) {
            store(sums, acc);
        }
    }
}
