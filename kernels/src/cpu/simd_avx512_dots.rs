//! Dot products with 512-bit vectors whose weights are decoded in registers: what few rows are multiplied with.
//!
//! Element `i` of a run is added to lane `i % 64`, products are not fused, and the lanes are added in pairs: the bits
//! are those of decoding into memory and [`super::dots::dot`].

use super::simd_avx512::{Avx512, LANES, NR, load, nibbles, round, store, table};
use super::source::widen_f16;
use crate::quant::GgmlType;
use crate::quant::ggml::blocks256::six_bit_pairs;
use crate::weight::DType;
use std::arch::x86_64::{
    __m128i, __m512, __m512i, _MM_HINT_T1, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps,
    _mm_prefetch, _mm_shuffle_ps, _mm256_add_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_loadu_si256,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castps512_ps256, _mm512_castsi512_ps,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32, _mm512_extractf32x8_ps,
    _mm512_mask_or_epi32, _mm512_mul_ps, _mm512_or_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_slli_epi32, _mm512_srli_epi32, _mm512_sub_epi32, _mm512_sub_ps, _mm512_test_epi32_mask,
};

/// Elements that are decoded together: one for each lane.
pub(super) const GROUP: usize = 64;
/// Their vectors.
type Group = [__m512; GROUP / LANES];

/// Four-bit codes and what they stand for.
pub(super) struct Codes<'a> {
    /// Of whole blocks, the first of two in the high half.
    pub(super) bytes: &'a [u8],
    /// One a block.
    pub(super) scales: &'a [f32],
    pub(super) values: &'a [f32; 16],
    pub(super) rounding: DType,
    /// Elements of a block, whole groups.
    pub(super) block: usize,
}

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx512 {
    /// `sums[r] += Σ x[r]·w` for weights in 4-bit codes.
    pub(super) fn add_four_bit<const R: usize>(self, w: &Codes, x: &[&[f32]; R], sums: &mut [f32; R]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { four_bit(w, x, sums) }
    }

    /// The same for plain numbers; whole groups.
    pub(super) fn add_floats<const R: usize>(self, w: &[f32], x: &[&[f32]; R], sums: &mut [f32; R]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { floats(w, x, sums) }
    }

    /// The same for 16-bit numbers; whole groups.
    pub(super) fn add_dense<const R: usize>(self, bytes: &[u8], is_f16: bool, x: &[&[f32]; R], sums: &mut [f32; R]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { dense(bytes, is_f16, x, sums) }
    }

    /// `sums[i] += Σ x·w[i]` for 32 rows of a weight side by side, in the pairs of bf16 that panels hold: whole times four
    /// of them.
    pub(super) fn add_panel(self, words: &[[f32; NR]], x: &[f32], sums: &mut [f32; NR]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { panel(words, x, sums) }
    }

    /// The same for blocks of a GGUF file, whole groups of them. False where this type has no such kernel.
    pub(super) fn add_blocks<const R: usize>(
        self,
        kind: GgmlType,
        bytes: &[u8],
        x: &[&[f32]; R],
        sums: &mut [f32; R],
    ) -> bool {
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match kind {
                GgmlType::Q8_0 => q8_0(bytes, x, sums),
                GgmlType::Q5_0 => q5_0(bytes, x, sums),
                GgmlType::Q4_0 => q4_0(bytes, x, sums),
                GgmlType::Q5K => q5_k(bytes, x, sums),
                GgmlType::Q4K => q4_k(bytes, x, sums),
                GgmlType::Q6K => q6_k(bytes, x, sums),
                GgmlType::F16 => dense(bytes, true, x, sums),
                GgmlType::BF16 => dense(bytes, false, x, sums),
                _ => return false,
            }
        }
        true
    }
}

/// The lanes of `R` rows.
struct Sums<const R: usize>([Group; R]);

impl<const R: usize> Sums<R> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        Self([[_mm512_setzero_ps(); 4]; R])
    }

    /// The group at `at` of every row, times `w`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(&mut self, w: Group, x: &[&[f32]; R], at: usize) {
        for (lanes, x) in self.0.iter_mut().zip(x) {
            let x = x[at..at + GROUP].as_chunks::<LANES>().0;
            for ((lane, w), x) in lanes.iter_mut().zip(w).zip(x) {
                *lane = _mm512_add_ps(*lane, _mm512_mul_ps(load(x), w));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn finish(self, sums: &mut [f32; R]) {
        for (sum, [a, b, c, d]) in sums.iter_mut().zip(self.0) {
            let x = _mm512_add_ps(_mm512_add_ps(a, c), _mm512_add_ps(b, d));
            let x = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            *sum += _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)));
        }
    }
}

/// Words of every row that are multiplied together: their sums stay in registers.
const TOGETHER: usize = 4;
/// Bytes ahead of a word that are asked for: what comes after all that is multiplied in one call.
const AHEAD: usize = 32 << 10;

#[target_feature(enable = "avx512f")]
fn panel(words: &[[f32; NR]], x: &[f32], sums: &mut [f32; NR]) {
    let high = _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed());
    let words = words.as_chunks::<TOGETHER>().0;
    let x = x.as_chunks::<{ 2 * TOGETHER }>().0;
    let all = words.len().min(x.len());
    let mut parts = [[_mm512_setzero_ps(); 2]; GROUP];
    for (g, parts) in parts.as_chunks_mut::<{ 2 * TOGETHER }>().0.iter_mut().enumerate() {
        let mut acc = [[_mm512_setzero_ps(); 2]; 2 * TOGETHER];
        let mut at = g;
        while at < all {
            let (words, x) = (&words[at], &x[at]);
            at += GROUP / (2 * TOGETHER);
            for i in 0..TOGETHER {
                let (even, odd) = (_mm512_set1_ps(x[2 * i]), _mm512_set1_ps(x[2 * i + 1]));
                let halves = words[i].as_chunks().0;
                for half in 0..2 {
                    _mm_prefetch::<_MM_HINT_T1>(halves[half].as_ptr().cast::<i8>().wrapping_add(AHEAD));
                    let word = _mm512_castps_si512(load(&halves[half]));
                    let low = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(word));
                    let high = _mm512_castsi512_ps(_mm512_and_si512(word, high));
                    acc[2 * i][half] = _mm512_add_ps(acc[2 * i][half], _mm512_mul_ps(even, low));
                    acc[2 * i + 1][half] = _mm512_add_ps(acc[2 * i + 1][half], _mm512_mul_ps(odd, high));
                }
            }
        }
        *parts = acc;
    }
    let mut width = GROUP / 2;
    while width > 0 {
        let (left, right) = parts.split_at_mut(width);
        for (left, right) in left.iter_mut().zip(right) {
            *left = [_mm512_add_ps(left[0], right[0]), _mm512_add_ps(left[1], right[1])];
        }
        width /= 2;
    }
    for (sum, part) in sums.as_chunks_mut().0.iter_mut().zip(parts[0]) {
        store(sum, _mm512_add_ps(load(sum), part));
    }
}

/// 16 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn bytes16(from: &[u8; LANES]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes that an unaligned load reads.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

/// 16 bytes as numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(from: &[u8; LANES]) -> __m512i {
    _mm512_cvtepu8_epi32(bytes16(from))
}

#[target_feature(enable = "avx512f,avx512dq")]
fn four_bit<const R: usize>(w: &Codes, x: &[&[f32]; R], sums: &mut [f32; R]) {
    let values = load(w.values);
    let mut lanes = Sums::new();
    let mut at = 0;
    for (codes, &scale) in w.bytes.chunks_exact(w.block / 2).zip(w.scales) {
        let values = round(_mm512_mul_ps(values, _mm512_set1_ps(scale)), w.rounding);
        for codes in codes.as_chunks::<{ GROUP / 2 }>().0 {
            let [first, second] = codes.as_chunks::<LANES>().0 else { continue };
            let ([a, b], [c, d]) = (table(widened(first), values), table(widened(second), values));
            lanes.add([a, b, c, d], x, at);
            at += GROUP;
        }
    }
    lanes.finish(sums);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn floats<const R: usize>(w: &[f32], x: &[&[f32]; R], sums: &mut [f32; R]) {
    let mut lanes = Sums::new();
    for (i, group) in w.as_chunks::<GROUP>().0.iter().enumerate() {
        let mut w = [_mm512_setzero_ps(); 4];
        for (w, part) in w.iter_mut().zip(group.as_chunks::<LANES>().0) {
            *w = load(part);
        }
        lanes.add(w, x, i * GROUP);
    }
    lanes.finish(sums);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn dense<const R: usize>(bytes: &[u8], is_f16: bool, x: &[&[f32]; R], sums: &mut [f32; R]) {
    let mut lanes = Sums::new();
    for (i, group) in bytes.as_chunks::<{ 2 * GROUP }>().0.iter().enumerate() {
        let mut w = [_mm512_setzero_ps(); 4];
        for (w, half) in w.iter_mut().zip(group.as_chunks::<{ 2 * LANES }>().0) {
            *w = sixteen_bits(half, is_f16);
        }
        lanes.add(w, x, i * GROUP);
    }
    lanes.finish(sums);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen_bits(from: &[u8; 2 * LANES], is_f16: bool) -> __m512 {
    // SAFETY: the reference covers the 32 bytes that an unaligned load reads.
    let bits = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
    if is_f16 {
        return std::arch::x86_64::_mm512_cvtph_ps(bits);
    }
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
}

/// The f16 at `at`.
#[inline]
fn half_at(block: &[u8], at: usize) -> f32 {
    widen_f16(u16::from_le_bytes([block[at], block[at + 1]]))
}

#[target_feature(enable = "avx512f,avx512dq")]
fn q8_0<const R: usize>(bytes: &[u8], x: &[&[f32]; R], sums: &mut [f32; R]) {
    const BLOCK: usize = 34;
    let mut lanes = Sums::new();
    for (i, group) in bytes.as_chunks::<{ 2 * BLOCK }>().0.iter().enumerate() {
        let mut w = [_mm512_setzero_ps(); 4];
        for (w, block) in w.as_chunks_mut::<2>().0.iter_mut().zip(group.as_chunks::<BLOCK>().0) {
            let d = _mm512_set1_ps(half_at(block, 0));
            for (w, q) in w.iter_mut().zip(block[2..].as_chunks::<LANES>().0) {
                *w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes16(q))));
            }
        }
        lanes.add(w, x, i * GROUP);
    }
    lanes.finish(sums);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn q5_0<const R: usize>(bytes: &[u8], x: &[&[f32]; R], sums: &mut [f32; R]) {
    const BLOCK: usize = 22;
    let zero = _mm512_set1_epi32(16);
    let mut lanes = Sums::new();
    for (i, group) in bytes.as_chunks::<{ 2 * BLOCK }>().0.iter().enumerate() {
        let mut w = [_mm512_setzero_ps(); 4];
        for (w, block) in w.as_chunks_mut::<2>().0.iter_mut().zip(group.as_chunks::<BLOCK>().0) {
            let d = _mm512_set1_ps(half_at(block, 0));
            let Some(codes) = block.last_chunk() else { continue };
            let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
            for ((w, q), high) in w.iter_mut().zip(nibbles(widened(codes))).zip([high as u16, (high >> 16) as u16]) {
                let q = _mm512_mask_or_epi32(q, high, q, zero);
                *w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_sub_epi32(q, zero)));
            }
        }
        lanes.add(w, x, i * GROUP);
    }
    lanes.finish(sums);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn q4_0<const R: usize>(bytes: &[u8], x: &[&[f32]; R], sums: &mut [f32; R]) {
    const BLOCK: usize = 18;
    let zero = _mm512_set1_epi32(8);
    let mut lanes = Sums::new();
    for (i, group) in bytes.as_chunks::<{ 2 * BLOCK }>().0.iter().enumerate() {
        let mut w = [_mm512_setzero_ps(); 4];
        for (w, block) in w.as_chunks_mut::<2>().0.iter_mut().zip(group.as_chunks::<BLOCK>().0) {
            let d = _mm512_set1_ps(half_at(block, 0));
            let Some(codes) = block.last_chunk() else { continue };
            for (w, q) in w.iter_mut().zip(nibbles(widened(codes))) {
                *w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_sub_epi32(q, zero)));
            }
        }
        lanes.add(w, x, i * GROUP);
    }
    lanes.finish(sums);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn q5_k<const R: usize>(bytes: &[u8], x: &[&[f32]; R], sums: &mut [f32; R]) {
    let sixteen = _mm512_set1_epi32(16);
    let mut lanes = Sums::new();
    for (i, block) in bytes.as_chunks::<176>().0.iter().enumerate() {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let (scales, mins) = six_bit_pairs(&block[4..16]);
        let [first_high, second_high] = block[16..48].as_chunks::<LANES>().0 else { continue };
        let high = [widened(first_high), widened(second_high)];
        for (j, codes) in block[48..].as_chunks::<32>().0.iter().enumerate() {
            let [first, second] = codes.as_chunks::<LANES>().0 else { continue };
            let (first, second) = (nibbles(widened(first)), nibbles(widened(second)));
            let mut w = [_mm512_setzero_ps(); 4];
            let pairs = [first[0], second[0], first[1], second[1]];
            for (k, (w, q)) in w.iter_mut().zip(pairs).enumerate() {
                let part = 2 * j + k / 2;
                let fifth = _mm512_test_epi32_mask(high[k % 2], _mm512_set1_epi32(1 << part));
                let q = _mm512_mask_or_epi32(q, fifth, q, sixteen);
                let scale = _mm512_set1_ps(d * f32::from(scales[part]));
                let min = _mm512_set1_ps(dmin * f32::from(mins[part]));
                *w = _mm512_sub_ps(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(q)), min);
            }
            lanes.add(w, x, i * 256 + j * GROUP);
        }
    }
    lanes.finish(sums);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn q4_k<const R: usize>(bytes: &[u8], x: &[&[f32]; R], sums: &mut [f32; R]) {
    let mut lanes = Sums::new();
    for (i, block) in bytes.as_chunks::<144>().0.iter().enumerate() {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let (scales, mins) = six_bit_pairs(&block[4..16]);
        for (j, codes) in block[16..].as_chunks::<32>().0.iter().enumerate() {
            let [first, second] = codes.as_chunks::<LANES>().0 else { continue };
            let (first, second) = (nibbles(widened(first)), nibbles(widened(second)));
            let mut w = [_mm512_setzero_ps(); 4];
            let pairs = [first[0], second[0], first[1], second[1]];
            for (k, (w, q)) in w.iter_mut().zip(pairs).enumerate() {
                let part = 2 * j + k / 2;
                let scale = _mm512_set1_ps(d * f32::from(scales[part]));
                let min = _mm512_set1_ps(dmin * f32::from(mins[part]));
                *w = _mm512_sub_ps(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(q)), min);
            }
            lanes.add(w, x, i * 256 + j * GROUP);
        }
    }
    lanes.finish(sums);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn q6_k<const R: usize>(bytes: &[u8], x: &[&[f32]; R], sums: &mut [f32; R]) {
    let (two, half) = (_mm512_set1_epi32(3), _mm512_set1_epi32(32));
    let mut lanes = Sums::new();
    for (i, block) in bytes.as_chunks::<210>().0.iter().enumerate() {
        let d = half_at(block, 208);
        for part in 0..2 {
            // Byte `l` of 64 holds the low bits of elements `l` and `64 + l`, byte `l` of 32 the high bits of four.
            let low = &block[64 * part..64 * part + 64].as_chunks::<LANES>().0;
            let high = &block[128 + 32 * part..160 + 32 * part].as_chunks::<LANES>().0;
            let scales = &block[192 + 8 * part..200 + 8 * part];
            let mut w = [_mm512_setzero_ps(); 8];
            for (k, low) in low.iter().enumerate() {
                let high = widened(&high[k % 2]);
                let [a, b] = nibbles(widened(low));
                let pairs = if k < 2 {
                    [high, _mm512_srli_epi32::<4>(high)]
                } else {
                    [_mm512_srli_epi32::<2>(high), _mm512_srli_epi32::<6>(high)]
                };
                for (at, (q, high)) in [(k, (a, pairs[0])), (k + 4, (b, pairs[1]))] {
                    let q = _mm512_or_si512(q, _mm512_slli_epi32::<4>(_mm512_and_si512(high, two)));
                    let scale = _mm512_set1_ps(d * f32::from(scales[at] as i8));
                    w[at] = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_sub_epi32(q, half)));
                }
            }
            let [a, b] = w.as_chunks::<4>().0 else { continue };
            lanes.add(*a, x, i * 256 + part * 128);
            lanes.add(*b, x, i * 256 + part * 128 + GROUP);
        }
    }
    lanes.finish(sums);
}
