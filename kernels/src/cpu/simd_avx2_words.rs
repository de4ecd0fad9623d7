//! Sums of products of sixteen bits with 256-bit vectors, for attention over a cache in eight bits. They are whole and
//! exact, so their order is free: several positions at once, and lanes are added for eight of them together.

use super::simd_avx2::Avx2;
use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute2x128_si256,
    _mm256_set1_epi32, _mm256_setzero_si256,
};
use std::mem::transmute;

/// Numbers of sixteen bits in a vector.
pub(super) const WORDS: usize = 16;
/// Sums of 32 bits in a vector.
pub(super) const SUMS: usize = 8;
/// Positions whose sums are taken together.
pub(super) const TOGETHER: usize = 8;

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx2 {
    /// `sums[j] = Σ a·rows[j]`; each of the rows has as many vectors as `a`, and they are whole eights.
    pub(super) fn word_dots(self, sums: &mut [[i32; TOGETHER]], a: &[[i16; WORDS]], rows: &[[i16; WORDS]]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { word_dots(sums, a, rows) }
    }

    /// `sums = Σ_p weights[p]·pairs[p]`, where each pair of rows has as many vectors as there are of sums, two numbers
    /// for each of them.
    pub(super) fn weighted_words(self, sums: &mut [[i32; SUMS]], weights: &[[i16; 2]], pairs: &[[i16; WORDS]]) {
        let width = sums.len();
        for (i, sums) in sums.chunks_mut(SUMS).enumerate() {
            let first = i * SUMS;
            // SAFETY: `self` proves the features the functions are compiled for.
            unsafe {
                if let Some(sums) = sums.first_chunk_mut::<SUMS>() {
                    weighted_words(sums, weights, pairs, width, first);
                } else {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        weighted_words(std::array::from_mut(sum), weights, pairs, width, first + i);
                    }
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[i16; WORDS]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn word_dots(sums: &mut [[i32; TOGETHER]], a: &[[i16; WORDS]], rows: &[[i16; WORDS]]) {
    let len = a.len();
    for (sums, rows) in sums.iter_mut().zip(rows.chunks_exact(TOGETHER * len)) {
        let mut lanes = [_mm256_setzero_si256(); TOGETHER];
        for (i, a) in a.iter().enumerate() {
            let a = load(a);
            for (j, lanes) in lanes.iter_mut().enumerate() {
                *lanes = _mm256_add_epi32(*lanes, _mm256_madd_epi16(a, load(&rows[j * len + i])));
            }
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let (ab, cd) = (_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let (ef, gh) = (_mm256_hadd_epi32(e, f), _mm256_hadd_epi32(g, h));
        // Each has the sums of its four rows from lower lanes, then those from upper ones.
        let (first, second) = (_mm256_hadd_epi32(ab, cd), _mm256_hadd_epi32(ef, gh));
        let lower = _mm256_permute2x128_si256::<0x20>(first, second);
        let upper = _mm256_permute2x128_si256::<0x31>(first, second);
        // SAFETY: both types are 32 bytes, of which every content is valid.
        *sums = unsafe { transmute::<__m256i, [i32; TOGETHER]>(_mm256_add_epi32(lower, upper)) };
    }
}

/// `N` vectors of sums from the one at `first`, of `width`.
#[inline]
#[target_feature(enable = "avx2")]
fn weighted_words<const N: usize>(
    sums: &mut [[i32; SUMS]; N],
    weights: &[[i16; 2]],
    pairs: &[[i16; WORDS]],
    width: usize,
    first: usize,
) {
    let mut lanes = [_mm256_setzero_si256(); N];
    for ([a, b], pair) in weights.iter().zip(pairs.chunks_exact(width)) {
        let both = _mm256_set1_epi32(i32::from(*a) & 0xFFFF | i32::from(*b) << 16);
        for (lanes, pair) in lanes.iter_mut().zip(&pair[first..first + N]) {
            *lanes = _mm256_add_epi32(*lanes, _mm256_madd_epi16(both, load(pair)));
        }
    }
    for (sums, lanes) in sums.iter_mut().zip(lanes) {
        // SAFETY: both types are 32 bytes, of which every content is valid.
        *sums = unsafe { transmute::<__m256i, [i32; SUMS]>(lanes) };
    }
}
