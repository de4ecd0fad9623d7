//! Products of bf16 with 512-bit vectors: the register tile over panels of pairs.

use super::simd_avx512::{LANES, MR, NR, load, store};
use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps, _mm512_set1_ps, _mm512_setzero_ps};

/// Proof that this processor multiplies pairs of bf16 in 512-bit vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16(());

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx512Bf16 {
    pub(super) fn detect() -> Option<Self> {
        let found = std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bf16");
        found.then_some(Self(()))
    }

    /// `sums[r, c] = Σ_d a[d, r]·b[d, c]`, both halves of every word, for the first `rows` and `cols` of the panels.
    /// Subnormal factors count as zero.
    pub(super) fn tile(self, a: &[[f32; MR]], b: &[[f32; NR]], rows: usize, cols: usize, sums: &mut [[f32; NR]; MR]) {
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match (rows.div_ceil(2), cols <= LANES) {
                (..=1, true) => tile::<2, 1>(a, b, sums),
                (..=1, false) => tile::<2, 2>(a, b, sums),
                (2, true) => tile::<4, 1>(a, b, sums),
                (2, false) => tile::<4, 2>(a, b, sums),
                (3..=4, true) => tile::<8, 1>(a, b, sums),
                (3..=4, false) => tile::<8, 2>(a, b, sums),
                (_, true) => tile::<MR, 1>(a, b, sums),
                (_, false) => tile::<MR, 2>(a, b, sums),
            }
        }
    }
}

/// Words as what they hold.
#[target_feature(enable = "avx512f")]
fn pairs(words: __m512) -> __m512bh {
    // SAFETY: both types are 64 bytes, of which every content is valid.
    unsafe { std::mem::transmute::<__m512, __m512bh>(words) }
}

/// The first `R` rows and `W` vectors of the tile.
#[target_feature(enable = "avx512f,avx512bf16")]
fn tile<const R: usize, const W: usize>(a: &[[f32; MR]], b: &[[f32; NR]], sums: &mut [[f32; NR]; MR]) {
    let mut acc = [[_mm512_setzero_ps(); W]; R];
    for (a, b) in a.iter().zip(b) {
        let b = b.as_chunks().0;
        let mut columns = [_mm512_setzero_ps(); W];
        for w in 0..W {
            columns[w] = load(&b[w]);
        }
        for r in 0..R {
            let row = pairs(_mm512_set1_ps(a[r]));
            for w in 0..W {
                acc[r][w] = _mm512_dpbf16_ps(acc[r][w], row, pairs(columns[w]));
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (sums, acc) in sums.as_chunks_mut().0.iter_mut().zip(acc) {
            store(sums, acc);
        }
    }
}
