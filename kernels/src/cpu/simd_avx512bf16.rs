//! Products of bf16 with 512-bit vectors: the register tile over panels of pairs.

use super::gemm::Epilogue;
use super::panels::Pair;
use super::simd_avx512::{LANES, MR, NR, ask_for_rows, load, place, store, whole_tile};
use crate::backend::Write;
use std::arch::x86_64::{
    __m256, __m256bh, __m256i, __m512, __m512bh, _mm256_storeu_ps, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_mask_add_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_slli_epi32,
};
use std::ops::Range;

/// Proof that this processor multiplies pairs of bf16 in 512-bit vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16(());

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx512Bf16 {
    pub(super) fn detect() -> Option<Self> {
        let found = std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bf16");
        found.then_some(Self(()))
    }

    /// Neighbours of `x` as pairs; one that is left over is paired with zero. Subnormal numbers, which products take for zero, become it.
    pub(super) fn pair_up(self, out: &mut [f32], x: &[f32]) {
        let (whole, rest) = x.as_chunks();
        let (pairs, last) = out.split_at_mut(whole.len() * (LANES / 2));
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { pair_up(pairs.as_chunks_mut().0, whole) };
        if !rest.is_empty() {
            let (mut numbers, mut words) = ([0.0; LANES], [[0.0; LANES / 2]]);
            numbers[..rest.len()].copy_from_slice(rest);
            // SAFETY: as above.
            unsafe { pair_up(&mut words, &[numbers]) };
            last.copy_from_slice(&words[0][..rest.len().div_ceil(2)]);
        }
    }

    /// Two rows as pairs, element by element; subnormal numbers become zero, too.
    pub(super) fn pair_rows(self, out: &mut [f32], low: &[f32], high: &[f32]) {
        let n = out.len().min(low.len()).min(high.len());
        let (out, rest) = out[..n].as_chunks_mut();
        let ((low, low_rest), (high, high_rest)) = (low[..n].as_chunks(), high[..n].as_chunks());
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { pair_rows(out, low, high) };
        if !rest.is_empty() {
            let (mut pairs, mut rows) = ([[0.0; LANES]], [[0.0; LANES]; 2]);
            rows[0][..rest.len()].copy_from_slice(low_rest);
            rows[1][..rest.len()].copy_from_slice(high_rest);
            // SAFETY: as above.
            unsafe { pair_rows(&mut pairs, &rows[..1], &rows[1..]) };
            rest.copy_from_slice(&pairs[0][..rest.len()]);
        }
    }

    /// A whole tile of these panels, and what becomes of it: `rows (=|+=) alpha·sums + bias`. False where these columns of
    /// the rows are no whole tile, and nothing is done.
    pub(super) fn tile_to(
        self,
        pairs: &[Pair],
        rows: &mut [&mut [f32]],
        cols: Range<usize>,
        epilogue: Epilogue,
    ) -> bool {
        let Some(mut rows) = whole_tile(rows, cols) else { return false };
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { tile_to(pairs, &mut rows, epilogue) };
        true
    }

    /// `sums[r, c] = Σ_d a[d / 16, r, d % 16]·b[d, c]`, both halves of every word, for the first `rows` and `cols` of the
    /// panels of all pairs together. Subnormal factors count as zero.
    pub(super) fn tile(self, pairs: &[Pair], rows: usize, cols: usize, sums: &mut [[f32; NR]; MR]) {
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match (rows.div_ceil(2), cols <= LANES) {
                (..=1, true) => tile::<2, 1>(pairs, sums),
                (..=1, false) => tile::<2, 2>(pairs, sums),
                (2, true) => tile::<4, 1>(pairs, sums),
                (2, false) => tile::<4, 2>(pairs, sums),
                (3..=4, true) => tile::<8, 1>(pairs, sums),
                (3..=4, false) => tile::<8, 2>(pairs, sums),
                (_, true) => tile::<MR, 1>(pairs, sums),
                (_, false) => tile::<MR, 2>(pairs, sums),
            }
        }
    }
}

/// Words of rows of the left operand.
type Square = [[f32; LANES]; MR];

/// Words as what they hold.
#[target_feature(enable = "avx512f")]
fn pairs(words: __m512) -> __m512bh {
    // SAFETY: both types are 64 bytes, of which every content is valid.
    unsafe { std::mem::transmute::<__m512, __m512bh>(words) }
}

/// The sums of the first `R` rows and `W` vectors of the tile. No function: the compiler keeps sums that one returns in
/// memory.
macro_rules! sums_of {
    ($panels:expr, $R:expr, $W:expr) => {{
        let mut acc = [[_mm512_setzero_ps(); $W]; $R];
        for (a, b) in $panels {
            let (a, b): (&[Square], &[[f32; NR]]) = (a.as_chunks().0.as_chunks().0, b.as_chunks().0);
            for (a, b) in a.iter().zip(b.chunks(LANES)) {
                for (d, b) in (0..LANES).zip(b) {
                    let b = b.as_chunks().0;
                    let mut columns = [_mm512_setzero_ps(); $W];
                    for w in 0..$W {
                        columns[w] = load(&b[w]);
                    }
                    for r in 0..$R {
                        let row = pairs(_mm512_set1_ps(a[r][d]));
                        for w in 0..$W {
                            acc[r][w] = _mm512_dpbf16_ps(acc[r][w], row, pairs(columns[w]));
                        }
                    }
                }
            }
        }
        acc
    }};
}

/// The first `R` rows and `W` vectors of the tile.
#[target_feature(enable = "avx512f,avx512bf16")]
fn tile<const R: usize, const W: usize>(panels: &[Pair], sums: &mut [[f32; NR]; MR]) {
    let acc = sums_of!(panels, R, W);
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (sums, acc) in sums.as_chunks_mut().0.iter_mut().zip(acc) {
            store(sums, acc);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn tile_to(panels: &[Pair], rows: &mut [&mut [f32; NR]; MR], epilogue: Epilogue) {
    ask_for_rows(rows);
    let acc = sums_of!(panels, MR, 2);
    place!(acc, rows, epilogue);
}

/// Whole vectors of neighbours as pairs. Subnormal numbers become zero.
#[target_feature(enable = "avx512f,avx512bf16")]
fn pair_up(out: &mut [[f32; LANES / 2]], x: &[[f32; LANES]]) {
    for (out, x) in out.iter_mut().zip(x) {
        let rounded = _mm512_cvtneps_pbh(load(x));
        // SAFETY: both types are 32 bytes, of which every content is valid; the reference covers the 32 bytes of an
        // unaligned store.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), std::mem::transmute::<__m256bh, __m256>(rounded)) };
    }
}

/// Sixteen pairs of each. Subnormal numbers become zero.
#[target_feature(enable = "avx512f,avx512bf16")]
fn pair_rows(out: &mut [[f32; LANES]], low: &[[f32; LANES]], high: &[[f32; LANES]]) {
    let halves = |x: &[f32; LANES]| {
        let rounded = _mm512_cvtneps_pbh(load(x));
        // SAFETY: both types are 32 bytes, of which every content is valid.
        _mm512_cvtepu16_epi32(unsafe { std::mem::transmute::<__m256bh, __m256i>(rounded) })
    };
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        let words = _mm512_or_si512(halves(low), _mm512_slli_epi32::<16>(halves(high)));
        store(out, _mm512_castsi512_ps(words));
    }
}

#[cfg(test)]
mod tests {
    use super::Avx512Bf16;
    use crate::cpu::factors::{pair_rows, pair_up};
    use crate::cpu::path::Path;

    #[test]
    fn pairs_are_those_of_rounding_by_hand_but_for_subnormal_numbers() {
        let (Some(unit), Some(isa)) = (Avx512Bf16::detect(), Path::Portable.isa()) else { return };
        let fractions = (0..1 << 7_u32).flat_map(|i| [0, 1, 0x7FFF, 0x8000, 0x8001].map(|low| (i << 16) | low));
        let numbers = (0..1 << 9_u32).flat_map(|top| fractions.clone().map(move |f| f32::from_bits((top << 23) | f)));
        let numbers: Vec<f32> = numbers.filter(|x| !x.is_subnormal()).collect();
        for n in [0, 1, 2, 15, 16, 17, 31, 500, numbers.len()] {
            let (mut got, mut want) = (vec![-1.0; n.div_ceil(2)], vec![-1.0; n.div_ceil(2)]);
            unit.pair_up(&mut got, &numbers[..n]);
            pair_up(isa, &mut want, &numbers[..n]);
            assert!(got.iter().map(|x| x.to_bits()).eq(want.iter().map(|x| x.to_bits())), "{n}");
            let high: Vec<f32> = numbers[..n].iter().rev().copied().collect();
            let (mut got, mut want) = (vec![-1.0; n], vec![-1.0; n]);
            unit.pair_rows(&mut got, &numbers[..n], &high);
            pair_rows(isa, &mut want, &numbers[..n], &high);
            assert!(got.iter().map(|x| x.to_bits()).eq(want.iter().map(|x| x.to_bits())), "rows of {n}");
        }
        let mut zero = [1.0];
        unit.pair_up(&mut zero, &[f32::from_bits(1), f32::from_bits(0x8000_0001)]);
        assert_eq!(zero[0].to_bits() & 0x7FFF_7FFF, 0);
    }
}
