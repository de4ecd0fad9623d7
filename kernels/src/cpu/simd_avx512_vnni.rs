//! Products in whole numbers with 512-bit vectors: four products of bytes and their sum in one instruction.
//!
//! Lane `i` of a group's sums has its elements `4i` to `4i + 3`; the order of everything is that of `int8.rs`.

use super::int8::{GROUP, LANES, Rounded, Row};
use super::int8_groups::{Codes, TABLE_ZERO, Table, half_at, iq4_nl};
use crate::quant::GgmlType;
use std::arch::x86_64::{
    __m128i, __m256i, __m512, __m512i, _mm_loadu_si128, _mm_set_epi64x, _mm_set1_epi16, _mm256_broadcastsi128_si256,
    _mm256_loadu_si256, _mm256_set_m128i, _mm512_add_ps, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_broadcast_i64x4, _mm512_castsi256_si512, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16,
    _mm512_cvtepu8_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_inserti64x4, _mm512_loadu_si512,
    _mm512_mask_add_epi8, _mm512_mask_blend_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_permutexvar_ps,
    _mm512_rolv_epi32, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi16, _mm512_slli_epi32, _mm512_sllv_epi32,
    _mm512_srli_epi16, _mm512_srlv_epi32, _mm512_storeu_ps, _mm512_xor_si512,
};

/// Proof that this processor multiplies bytes in 512-bit vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vnni(());

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx512Vnni {
    /// Beside what [`super::simd_avx512::Avx512`] stands for.
    pub(super) fn detect() -> Option<Self> {
        let found = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }

    /// `x[r]·w`
    pub(super) fn dots<const R: usize>(self, w: &Codes, x: &[Row; R]) -> [f32; R] {
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match w {
                Codes::FourBit(bytes, scales, table) => four_bit(bytes, scales, table, x),
                Codes::Blocks(GgmlType::Q8_0, bytes) => q8_0(bytes, x),
                Codes::Blocks(GgmlType::Q5_0, bytes) => q5_0(bytes, x),
                Codes::Blocks(GgmlType::Iq4Nl, bytes) => iq4(bytes, x),
                Codes::Blocks(GgmlType::Q6K, bytes) => q6_k(bytes, x),
                Codes::Blocks(GgmlType::Q5K, bytes) => q5_k(bytes, x),
                Codes::Blocks(GgmlType::Q4K, bytes) => q4_k(bytes, x),
                Codes::Blocks(_, bytes) => q4_0(bytes, x),
            }
        }
    }
}

/// The lanes of `R` rows.
struct Sums<const R: usize>([__m512; R]);

impl<const R: usize> Sums<R> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        Self([_mm512_setzero_ps(); R])
    }

    /// Group `g` of every row, times codes whose zero is `1 << ZERO`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn add<const ZERO: u32>(&mut self, codes: __m512i, scales: __m512, x: &[Row; R], g: usize) {
        for (lanes, x) in self.0.iter_mut().zip(x) {
            let (codes_of_x, fours) = parts(&x.groups[g]);
            let sum = _mm512_dpbusd_epi32(_mm512_slli_epi32::<ZERO>(fours), codes, codes_of_x);
            weigh(lanes, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales), x.scales[g]);
        }
    }

    /// The same times codes without a zero, which have minima.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn add_with_mins(&mut self, codes: __m512i, scales: __m512, mins: __m512, x: &[Row; R], g: usize) {
        for (lanes, x) in self.0.iter_mut().zip(x) {
            let (codes_of_x, fours) = parts(&x.groups[g]);
            let sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, codes_of_x);
            let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales);
            let min = _mm512_mul_ps(_mm512_cvtepi32_ps(fours), mins);
            weigh(lanes, _mm512_add_ps(sum, min), x.scales[g]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn finish(self) -> [f32; R] {
        self.0.map(|lanes| {
            let mut sums = [0.0; LANES];
            // SAFETY: the reference covers the 16 floats that an unaligned store writes.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), lanes) };
            let mut width = LANES / 2;
            while width > 0 {
                for i in 0..width {
                    sums[i] += sums[i + width];
                }
                width /= 2;
            }
            sums[0]
        })
    }
}

/// `lanes += weighed·scale`
#[inline]
#[target_feature(enable = "avx512f")]
fn weigh(lanes: &mut __m512, weighed: __m512, scale: f32) {
    *lanes = _mm512_add_ps(*lanes, _mm512_mul_ps(weighed, _mm512_set1_ps(scale)));
}

/// The codes of a group and their sums by fours.
#[inline]
#[target_feature(enable = "avx512f")]
fn parts(group: &Rounded) -> (__m512i, __m512i) {
    // SAFETY: the references cover the 64 bytes that each unaligned load reads.
    unsafe { (_mm512_loadu_si512(group.codes.as_ptr().cast()), _mm512_loadu_si512(group.fours.as_ptr().cast())) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load16(from: &[u8; 16]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes that an unaligned load reads.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load32(from: &[u8; 32]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load64(from: &[u8; GROUP]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes that an unaligned load reads.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// `N` bytes at `at`; the blocks below have them at places that are known when this is compiled.
#[inline]
fn at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a block has all of its parts")
}

/// The f16 at the beginning of two blocks, eight lanes each.
#[inline]
#[target_feature(enable = "avx512f")]
fn two_scales(first: &[u8], second: &[u8]) -> __m512 {
    let [low, high] = [first, second].map(|block| _mm_set1_epi16(i16::from_le_bytes(*at(block, 0))));
    _mm512_cvtph_ps(_mm256_set_m128i(high, low))
}

/// The low halves of 32 bytes, then the high ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves_of_32(bytes: &[u8; 32]) -> __m512i {
    let shift = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4);
    let both = _mm512_broadcast_i64x4(load32(bytes));
    _mm512_and_si512(_mm512_srlv_epi32(both, shift), _mm512_set1_epi8(15))
}

/// The low halves of 16 bytes, then the high ones, and the same of the second.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves_of_16(first: &[u8; 16], second: &[u8; 16]) -> __m512i {
    let shift = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    let (first, second) = (_mm256_broadcastsi128_si256(load16(first)), _mm256_broadcastsi128_si256(load16(second)));
    let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
    _mm512_and_si512(_mm512_srlv_epi32(both, shift), _mm512_set1_epi8(15))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q8_0<const R: usize>(bytes: &[u8], x: &[Row; R]) -> [f32; R] {
    let mut sums = Sums::new();
    for (g, pair) in bytes.as_chunks::<68>().0.iter().enumerate() {
        let (first, second) = pair.split_at(34);
        let codes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load32(at(first, 2))), load32(at(second, 2)));
        let codes = _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
        sums.add::<7>(codes, two_scales(first, second), x, g);
    }
    sums.finish()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q5_0<const R: usize>(bytes: &[u8], x: &[Row; R]) -> [f32; R] {
    let mut sums = Sums::new();
    for (g, pair) in bytes.as_chunks::<44>().0.iter().enumerate() {
        let (first, second) = pair.split_at(22);
        let [low, high] = [first, second].map(|block| u64::from(u32::from_le_bytes(*at(block, 2))));
        let codes = halves_of_16(at(first, 6), at(second, 6));
        let codes = _mm512_mask_add_epi8(codes, low | high << 32, codes, _mm512_set1_epi8(16));
        sums.add::<4>(codes, two_scales(first, second), x, g);
    }
    sums.finish()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q4_0<const R: usize>(bytes: &[u8], x: &[Row; R]) -> [f32; R] {
    let mut sums = Sums::new();
    for (g, pair) in bytes.as_chunks::<36>().0.iter().enumerate() {
        let (first, second) = pair.split_at(18);
        sums.add::<3>(halves_of_16(at(first, 2), at(second, 2)), two_scales(first, second), x, g);
    }
    sums.finish()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn iq4<const R: usize>(bytes: &[u8], x: &[Row; R]) -> [f32; R] {
    let values = _mm512_broadcast_i32x4(load16(&iq4_nl()));
    let mut sums = Sums::new();
    for (g, pair) in bytes.as_chunks::<36>().0.iter().enumerate() {
        let (first, second) = pair.split_at(18);
        let codes = _mm512_shuffle_epi8(values, halves_of_16(at(first, 2), at(second, 2)));
        sums.add::<7>(codes, two_scales(first, second), x, g);
    }
    sums.finish()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn four_bit<const R: usize>(bytes: &[u8], scales: &[f32], table: &Table, x: &[Row; R]) -> [f32; R] {
    let [low, high] = [&table.low, &table.high].map(|values| _mm512_broadcast_i32x4(load16(values)));
    let mut sums = Sums::new();
    for (g, (bytes, &scale)) in bytes.as_chunks::<{ GROUP / 2 }>().0.iter().zip(scales).enumerate() {
        let wide = _mm512_cvtepu8_epi16(load32(bytes));
        // The high half of a byte comes first.
        let turned = _mm512_or_si512(_mm512_srli_epi16::<4>(wide), _mm512_slli_epi16::<8>(wide));
        let codes = _mm512_and_si512(turned, _mm512_set1_epi8(15));
        let (low, high) = (_mm512_shuffle_epi8(low, codes), _mm512_shuffle_epi8(high, codes));
        let scale = _mm512_set1_ps(scale);
        for (lanes, x) in sums.0.iter_mut().zip(x) {
            let (codes_of_x, fours) = parts(&x.groups[g]);
            let sum = _mm512_dpbusd_epi32(_mm512_slli_epi32::<{ TABLE_ZERO - 8 }>(fours), high, codes_of_x);
            let sum = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(sum), low, codes_of_x);
            weigh(lanes, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), x.scales[g]);
        }
    }
    sums.finish()
}

/// Eight scales and, behind them, eight minima of a block of `Q4_K` or `Q5_K`.
#[inline]
#[target_feature(enable = "avx512f")]
fn scales_and_mins(block: &[u8]) -> __m512 {
    let [a, b, c] = [4, 8, 12].map(|place| u32::from_le_bytes(*at(block, place)));
    let (low, high) = (0x3F3F_3F3F, 0x0303_0303);
    let pair = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32) as i64;
    let scales = pair(a & low, (c & 0x0F0F_0F0F) | (a >> 6 & high) << 4);
    let mins = pair(b & low, (c >> 4 & 0x0F0F_0F0F) | (b >> 6 & high) << 4);
    let small = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_set_epi64x(mins, scales)));
    let [scale, min] = [half_at(block, 0), half_at(block, 2)].map(|x| _mm512_set1_ps(x));
    _mm512_mul_ps(_mm512_mask_blend_ps(0xFF00, scale, min), small)
}

/// Numbers `2g` and `2g + 1` of sixteen, eight lanes each.
#[inline]
#[target_feature(enable = "avx512f")]
fn two_of(numbers: __m512, g: i32) -> __m512 {
    let (a, b) = (2 * g, 2 * g + 1);
    _mm512_permutexvar_ps(_mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b), numbers)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q4_k<const R: usize>(bytes: &[u8], x: &[Row; R]) -> [f32; R] {
    let mut sums = Sums::new();
    for (i, block) in bytes.as_chunks::<144>().0.iter().enumerate() {
        let small = scales_and_mins(block);
        for g in 0..4 {
            let codes = halves_of_32(at(block, 16 + 32 * g));
            let (scales, mins) = (two_of(small, g as i32), two_of(small, g as i32 + 4));
            sums.add_with_mins(codes, scales, mins, x, 4 * i + g);
        }
    }
    sums.finish()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q5_k<const R: usize>(bytes: &[u8], x: &[Row; R]) -> [f32; R] {
    let mut sums = Sums::new();
    for (i, block) in bytes.as_chunks::<176>().0.iter().enumerate() {
        let small = scales_and_mins(block);
        let fifths = _mm512_broadcast_i64x4(load32(at(block, 16)));
        for g in 0..4 {
            // Bit `2g`, or the one above it, goes to the fifth place of its byte.
            let (a, b) = (4 - 2 * g, 3 - 2 * g);
            let turn = _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b);
            let fifth = _mm512_and_si512(_mm512_rolv_epi32(fifths, turn), _mm512_set1_epi8(16));
            let codes = _mm512_or_si512(halves_of_32(at(block, 48 + 32 * g as usize)), fifth);
            sums.add_with_mins(codes, two_of(small, g), two_of(small, g + 4), x, 4 * i + g as usize);
        }
    }
    sums.finish()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q6_k<const R: usize>(bytes: &[u8], x: &[Row; R]) -> [f32; R] {
    let (low_bits, high_bits) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let mut sums = Sums::new();
    for (i, block) in bytes.as_chunks::<210>().0.iter().enumerate() {
        let small = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(at(block, 192))));
        let small = _mm512_mul_ps(_mm512_set1_ps(half_at(block, 208)), small);
        for half in 0..2 {
            let low = load64(at(block, 64 * half));
            let high = _mm512_broadcast_i64x4(load32(at(block, 128 + 32 * half)));
            let to_left = _mm512_setr_epi32(4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2);
            let to_right = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
            let lower = _mm512_and_si512(low, low_bits);
            let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(low), low_bits);
            let high_of_lower = _mm512_and_si512(_mm512_sllv_epi32(high, to_left), high_bits);
            let high_of_upper = _mm512_and_si512(_mm512_srlv_epi32(high, to_right), high_bits);
            let pairs = [(lower, high_of_lower), (upper, high_of_upper)];
            for (part, (low, high)) in pairs.into_iter().enumerate() {
                let g = 2 * half + part;
                let four = _mm512_set1_epi32(4 * g as i32);
                let places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
                let scales = _mm512_permutexvar_ps(_mm512_or_si512(places, four), small);
                sums.add::<5>(_mm512_or_si512(low, high), scales, x, 4 * i + g);
            }
        }
    }
    sums.finish()
}
