//! Kernels with 256-bit vectors: the register tile of a product, and the 4-bit table look-up.

use super::gemm::Epilogue;
use super::panels::Pair;
use crate::backend::Write;
use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_loadl_epi64, _mm_prefetch, _mm256_add_ps, _mm256_blendv_ps, _mm256_castsi256_ps,
    _mm256_cvtepu8_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_permute2f128_ps,
    _mm256_permutevar8x32_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};
use std::ops::Range;

/// Proof that this processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// Rows and columns of the tile, 12 of the 16 registers.
pub(super) const MR: usize = 6;
pub(super) const NR: usize = 16;
const LANES: usize = 8;

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let found = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    /// `sums[r, c] = Σ a[d, r]·b[d, c]` over all pairs of panels, for the first `rows` and `cols`.
    pub(super) fn tile(self, pairs: &[Pair], rows: usize, cols: usize, sums: &mut [[f32; NR]; MR]) {
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match (rows, cols <= LANES) {
                (..=2, true) => tile::<2, 1>(pairs, sums),
                (..=2, false) => tile::<2, 2>(pairs, sums),
                (3..=4, true) => tile::<4, 1>(pairs, sums),
                (3..=4, false) => tile::<4, 2>(pairs, sums),
                (_, true) => tile::<MR, 1>(pairs, sums),
                (_, false) => tile::<MR, 2>(pairs, sums),
            }
        }
    }

    /// The same for a whole tile, and what becomes of it: `rows (=|+=) alpha·sums + bias`. False where these columns of the
    /// rows are no whole tile, and nothing is done.
    pub(super) fn tile_to(
        self,
        pairs: &[Pair],
        rows: &mut [&mut [f32]],
        cols: Range<usize>,
        epilogue: Epilogue,
    ) -> bool {
        let Some(rows) = rows.first_chunk_mut::<MR>().filter(|_| cols.len() == NR) else { return false };
        let mut rows = rows.each_mut().map(|row| row[cols.clone()].first_chunk_mut().expect("columns of a whole tile"));
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { tile_to(pairs, &mut rows, epilogue) };
        true
    }

    /// `panel[d·width + at + i] = rows[i][d]`
    pub(super) fn transpose(self, rows: &[&[f32]; LANES], width: usize, at: usize, panel: &mut [f32]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { transpose(rows, width, at, panel) }
    }

    /// `out[i] = table[code i]`, two codes a byte, the first in the high nibble.
    pub(super) fn look_up(self, codes: &[u8], table: &[f32; 16], out: &mut [f32]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { look_up(codes, table, out) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(from: &[f32; LANES]) -> __m256 {
    // SAFETY: the reference covers the 8 floats that an unaligned load reads.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(to: &mut [f32; LANES], x: __m256) {
    // SAFETY: the reference covers the 8 floats that an unaligned store writes.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), x) }
}

/// The sums of the first `R` rows and `W` vectors of the tile.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums_of<const R: usize, const W: usize>(pairs: &[Pair]) -> [[__m256; W]; R] {
    let mut acc = [[_mm256_setzero_ps(); W]; R];
    for (a, b) in pairs {
        for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0) {
            let b = b.as_chunks().0;
            let mut columns = [_mm256_setzero_ps(); W];
            for w in 0..W {
                columns[w] = load(&b[w]);
            }
            for r in 0..R {
                let row = _mm256_set1_ps(a[r]);
                for w in 0..W {
                    acc[r][w] = _mm256_fmadd_ps(row, columns[w], acc[r][w]);
                }
            }
        }
    }
    acc
}

/// The first `R` rows and `W` vectors of the tile.
#[target_feature(enable = "avx2,fma")]
fn tile<const R: usize, const W: usize>(pairs: &[Pair], sums: &mut [[f32; NR]; MR]) {
    for (sums, acc) in sums.iter_mut().zip(sums_of::<R, W>(pairs)) {
        for (sums, acc) in sums.as_chunks_mut().0.iter_mut().zip(acc) {
            store(sums, acc);
        }
    }
}

/// A whole tile from the registers to its place. Rounded as `finish.rs` does, so the bits are those of that way.
#[target_feature(enable = "avx2,fma")]
fn tile_to(pairs: &[Pair], rows: &mut [&mut [f32; NR]; MR], epilogue: Epilogue) {
    let Epilogue { alpha, bias, write } = epilogue;
    for row in &*rows {
        _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().cast());
    }
    let sums = sums_of::<MR, 2>(pairs);
    let scale = _mm256_set1_ps(alpha);
    for (row, sums) in rows.iter_mut().zip(sums) {
        for (i, (y, sum)) in row.as_chunks_mut().0.iter_mut().zip(sums).enumerate() {
            let mut new = _mm256_mul_ps(scale, sum);
            if write == Write::Add {
                new = _mm256_add_ps(load(y), new);
            }
            if let Some(bias) = bias.and_then(|bias| bias[i * LANES..].first_chunk()) {
                new = _mm256_add_ps(new, load(bias));
            }
            store(y, new);
        }
    }
}

/// Squares of 8 x 8 turn in registers: pairs, then fours, then halves change places.
#[target_feature(enable = "avx2")]
fn transpose(rows: &[&[f32]; LANES], width: usize, at: usize, panel: &mut [f32]) {
    let n = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let whole = n - n % LANES;
    for d in (0..whole).step_by(LANES) {
        let mut r = [_mm256_setzero_ps(); LANES];
        for (r, row) in r.iter_mut().zip(rows) {
            *r = load(row[d..].first_chunk().expect("eight steps remain"));
        }
        let mut pairs = [_mm256_setzero_ps(); LANES];
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        let mut fours = [_mm256_setzero_ps(); LANES];
        for i in 0..2 {
            let [a, b, c, d] = [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
            fours[4 * i] = _mm256_shuffle_ps::<0x44>(a, c);
            fours[4 * i + 1] = _mm256_shuffle_ps::<0xEE>(a, c);
            fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(b, d);
            fours[4 * i + 3] = _mm256_shuffle_ps::<0xEE>(b, d);
        }
        for i in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
            let high = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
            store(panel[(d + i) * width + at..].first_chunk_mut().expect("eight lanes fit in the panel"), low);
            store(panel[(d + i + 4) * width + at..].first_chunk_mut().expect("eight lanes fit in the panel"), high);
        }
    }
    if whole < n {
        let rest = rows.map(|row| &row[whole..n]);
        super::simd_portable::transpose(&rest, width, at, &mut panel[whole * width..]);
    }
}

#[target_feature(enable = "avx2")]
fn look_up(codes: &[u8], table: &[f32; 16], out: &mut [f32]) {
    let halves = table.as_chunks::<LANES>().0;
    let (lower, upper) = (load(&halves[0]), load(&halves[1]));
    let (runs, odd) = out.as_chunks_mut::<{ 2 * LANES }>();
    let (bytes, odd_bytes) = codes.split_at(runs.len() * LANES);
    for (bytes, run) in bytes.as_chunks::<LANES>().0.iter().zip(runs) {
        // SAFETY: the reference covers the 8 bytes that the load reads.
        let codes = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) });
        // The permutation reads three bits of an index; the fourth, moved to the sign, picks the half.
        let odd = {
            let (x, y) = (_mm256_permutevar8x32_ps(lower, codes), _mm256_permutevar8x32_ps(upper, codes));
            _mm256_blendv_ps(x, y, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes)))
        };
        let even = {
            let high = _mm256_srli_epi32::<4>(codes);
            let (x, y) = (_mm256_permutevar8x32_ps(lower, high), _mm256_permutevar8x32_ps(upper, high));
            _mm256_blendv_ps(x, y, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(high)))
        };
        let (first, second) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
        let run = run.as_chunks_mut().0;
        store(&mut run[0], _mm256_permute2f128_ps::<0x20>(first, second));
        store(&mut run[1], _mm256_permute2f128_ps::<0x31>(first, second));
    }
    super::simd_portable::look_up(odd_bytes, table, odd);
}
