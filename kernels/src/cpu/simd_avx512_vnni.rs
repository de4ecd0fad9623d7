//! Products in whole numbers with 512-bit vectors: four products of bytes and their sum in one instruction.
//!
//! Lane `i` of a group's sums has its elements `4i` to `4i + 3`; the order of everything is that of `int8.rs`. Some rows
//! of weights are gone through together: what is loaded of the activations serves them all, and while one waits for
//! memory another does not.

use super::int8::{GROUP, LANES, Rounded, Row};
use super::int8_groups::{Codes, TABLE_ZERO, Table, iq4_nl};
use crate::quant::GgmlType;
use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, __m512i, _MM_HINT_T0, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps,
    _mm_prefetch, _mm_set_epi64x, _mm_set1_epi16, _mm_setr_epi32, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_broadcastsi128_si256, _mm256_castps256_ps128, _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_mul_ps,
    _mm256_set_m128i, _mm256_setzero_ps, _mm512_add_ps, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_broadcast_i64x4, _mm512_castps256_ps512, _mm512_castps512_ps256, _mm512_castsi256_si512,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16, _mm512_cvtepu8_epi32, _mm512_cvtph_ps,
    _mm512_dpbusd_epi32, _mm512_extractf32x8_ps, _mm512_inserti64x4, _mm512_mask_add_epi8, _mm512_mul_ps,
    _mm512_or_si512, _mm512_permutexvar_ps, _mm512_rolv_epi32, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setr_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_sllv_epi32, _mm512_srli_epi16, _mm512_srlv_epi32, _mm512_xor_si512,
};
use std::mem::transmute;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Rows of weights from one that is multiplied to the one asked for at the same place.
const AHEAD: usize = 4;

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

    /// `x[r]·w[j]` for neighbouring rows of one matrix.
    pub(super) fn dots<const R: usize, const J: usize>(self, w: &[Codes; J], x: &[Row; R]) -> [[f32; R]; J] {
        let bytes = w.each_ref().map(Codes::bytes);
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match &w[0] {
                Codes::FourBit(_, _, table) => four_bit(bytes, w.each_ref().map(Codes::scales), table, x),
                Codes::Blocks(GgmlType::Q8_0, _) => q8_0(bytes, x),
                Codes::Blocks(GgmlType::Q5_0, _) => q5_0(bytes, x),
                Codes::Blocks(GgmlType::Iq4Nl, _) => iq4(bytes, x),
                Codes::Blocks(GgmlType::Q6K, _) => q6_k(bytes, x),
                Codes::Blocks(GgmlType::Q5K, _) => q5_k(bytes, x),
                Codes::Blocks(GgmlType::Q4K, _) => q4_k(bytes, x),
                Codes::Blocks(..) => q4_0(bytes, x),
            }
        }
    }
}

/// A group of a row of activations in registers.
#[derive(Clone, Copy)]
struct OfRow {
    codes: __m512i,
    /// Minus the sum of each four codes, times the zero of the weights' codes.
    zeros: __m512i,
    scale: __m512,
}

/// Group `g` of every row, for weights whose zero is `1 << ZERO`.
#[inline]
#[target_feature(enable = "avx512f")]
fn group<const ZERO: u32, const R: usize>(x: &[Row; R], g: usize) -> [OfRow; R] {
    let nothing = OfRow { codes: _mm512_setzero_si512(), zeros: _mm512_setzero_si512(), scale: _mm512_setzero_ps() };
    let mut all = [nothing; R];
    for (of_row, x) in all.iter_mut().zip(x) {
        let (codes, fours) = parts(&x.groups[g]);
        let zeros = if ZERO == 0 { nothing.zeros } else { _mm512_slli_epi32::<ZERO>(fours) };
        *of_row = OfRow { codes, zeros, scale: _mm512_set1_ps(x.scales[g]) };
    }
    all
}

/// The lanes of `R` rows of activations with one of weights.
#[derive(Clone, Copy)]
struct Sums<const R: usize>([__m512; R]);

impl<const R: usize> Sums<R> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        Self([_mm512_setzero_ps(); R])
    }

    /// A group of every row times these codes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn add(&mut self, codes: __m512i, scales: __m512, x: &[OfRow; R]) {
        for (lanes, x) in self.0.iter_mut().zip(x) {
            let sum = _mm512_dpbusd_epi32(x.zeros, codes, x.codes);
            weigh(lanes, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales), x.scale);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn finish(self) -> [f32; R] {
        let mut sums = [0.0; R];
        for (sum, x) in sums.iter_mut().zip(self.0) {
            *sum = in_pairs(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)));
        }
        sums
    }
}

/// The sum of all lanes, halves onto halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn in_pairs(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
}

/// The minima of `R` rows with one of weights: a lane for each part of a block of 256.
#[derive(Clone, Copy)]
struct Minima<const R: usize>([__m256; R]);

impl<const R: usize> Minima<R> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        Self([_mm256_setzero_ps(); R])
    }

    /// Block `i` of every row times these minima.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(&mut self, minima: __m256, x: &[Row; R], i: usize) {
        for (lanes, x) in self.0.iter_mut().zip(x) {
            // SAFETY: both types are 32 bytes, of which every content is valid.
            let halves = unsafe { transmute::<[f32; 8], __m256>(x.halves.as_chunks().0[i]) };
            *lanes = _mm256_add_ps(*lanes, _mm256_mul_ps(minima, halves));
        }
    }

    /// Less these.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn finish(self, mut sums: [f32; R]) -> [f32; R] {
        for (sum, x) in sums.iter_mut().zip(self.0) {
            *sum -= in_pairs(x);
        }
        sums
    }
}

/// `lanes += weighed·scale`
#[inline]
#[target_feature(enable = "avx512f")]
fn weigh(lanes: &mut __m512, weighed: __m512, scale: __m512) {
    *lanes = _mm512_add_ps(*lanes, _mm512_mul_ps(weighed, scale));
}

/// The codes of a group and their sums by fours.
#[inline]
#[target_feature(enable = "avx512f")]
fn parts(group: &Rounded) -> (__m512i, __m512i) {
    // SAFETY: the types on both sides are 64 bytes, of which every content is valid.
    unsafe { (transmute::<[i8; GROUP], __m512i>(group.codes), transmute::<[i32; LANES], __m512i>(group.fours)) }
}

/// Asks for what is `ahead` bytes behind the beginning of `bytes`, which may be anything: nothing is read.
#[inline]
#[target_feature(enable = "avx512f")]
fn ask_for(bytes: &[u8], ahead: usize) {
    _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(ahead).cast());
}

/// The blocks of each row, as many as those of the first.
#[inline]
fn blocks<const N: usize, const J: usize>(rows: [&[u8]; J]) -> [&[[u8; N]]; J] {
    let len = rows[0].len() / N;
    rows.map(|row| &row.as_chunks::<N>().0[..len])
}

// By value: what an unaligned load through a pointer is checked for in a build with debug assertions takes it over memory.

#[inline]
#[target_feature(enable = "avx512f")]
fn load16(from: &[u8; 16]) -> __m128i {
    // SAFETY: both types are 16 bytes, of which every content is valid.
    unsafe { transmute::<[u8; 16], __m128i>(*from) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load32(from: &[u8; 32]) -> __m256i {
    // SAFETY: both types are 32 bytes, of which every content is valid.
    unsafe { transmute::<[u8; 32], __m256i>(*from) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load64(from: &[u8; GROUP]) -> __m512i {
    // SAFETY: both types are 64 bytes, of which every content is valid.
    unsafe { transmute::<[u8; GROUP], __m512i>(*from) }
}

/// `N` bytes at `at`; the blocks below have them at places that are known when this is compiled.
#[inline]
fn at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a block has all of its parts")
}

/// The f16 at the beginning of two slices, eight lanes each.
#[inline]
#[target_feature(enable = "avx512f")]
fn two_scales(first: &[u8], second: &[u8]) -> __m512 {
    let [low, high] = [first, second].map(|block| _mm_set1_epi16(i16::from_le_bytes(*at(block, 0))));
    _mm512_cvtph_ps(_mm256_set_m128i(high, low))
}

/// The f16 at the beginning of both halves of a pair of blocks, eight lanes each, for some rows at once.
#[inline]
#[target_feature(enable = "avx512f")]
fn scales_of_pairs<const N: usize, const J: usize>(rows: &[&[[u8; N]]; J], g: usize) -> [__m512; J] {
    let mut bits = [0; 4];
    for (bits, row) in bits.iter_mut().zip(rows) {
        let [low, high] = [0, N / 2].map(|place| u32::from(u16::from_le_bytes(*at(&row[g], place))));
        *bits = (low | high << 16) as i32;
    }
    let [a, b, c, d] = bits;
    let numbers = _mm512_castps256_ps512(_mm256_cvtph_ps(_mm_setr_epi32(a, b, c, d)));
    let mut scales = [numbers; J];
    for (j, scales) in scales.iter_mut().enumerate() {
        *scales = two_of(numbers, j as i32);
    }
    scales
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
fn q8_0<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<68, J>(w));
    let mut sums = [Sums::new(); J];
    for g in 0..w[0].len() {
        let x = group::<7, R>(x, g);
        let scales = scales_of_pairs(&w, g);
        for ((sums, w), scales) in sums.iter_mut().zip(&w).zip(scales) {
            ask_for(&w[g], ahead);
            let (first, second) = w[g].split_at(34);
            let codes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load32(at(first, 2))), load32(at(second, 2)));
            let codes = _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
            sums.add(codes, scales, &x);
        }
    }
    sums.map(|sums| sums.finish())
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q5_0<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<44, J>(w));
    let mut sums = [Sums::new(); J];
    for g in 0..w[0].len() {
        let x = group::<4, R>(x, g);
        let scales = scales_of_pairs(&w, g);
        for ((sums, w), scales) in sums.iter_mut().zip(&w).zip(scales) {
            ask_for(&w[g], ahead);
            let (first, second) = w[g].split_at(22);
            let [low, high] = [first, second].map(|block| u64::from(u32::from_le_bytes(*at(block, 2))));
            let codes = halves_of_16(at(first, 6), at(second, 6));
            let codes = _mm512_mask_add_epi8(codes, low | high << 32, codes, _mm512_set1_epi8(16));
            sums.add(codes, scales, &x);
        }
    }
    sums.map(|sums| sums.finish())
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q4_0<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<36, J>(w));
    let mut sums = [Sums::new(); J];
    for g in 0..w[0].len() {
        let x = group::<3, R>(x, g);
        let scales = scales_of_pairs(&w, g);
        for ((sums, w), scales) in sums.iter_mut().zip(&w).zip(scales) {
            ask_for(&w[g], ahead);
            let (first, second) = w[g].split_at(18);
            sums.add(halves_of_16(at(first, 2), at(second, 2)), scales, &x);
        }
    }
    sums.map(|sums| sums.finish())
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn iq4<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let values = _mm512_broadcast_i32x4(load16(&iq4_nl()));
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<36, J>(w));
    let mut sums = [Sums::new(); J];
    for g in 0..w[0].len() {
        let x = group::<7, R>(x, g);
        let scales = scales_of_pairs(&w, g);
        for ((sums, w), scales) in sums.iter_mut().zip(&w).zip(scales) {
            ask_for(&w[g], ahead);
            let (first, second) = w[g].split_at(18);
            let codes = _mm512_shuffle_epi8(values, halves_of_16(at(first, 2), at(second, 2)));
            sums.add(codes, scales, &x);
        }
    }
    sums.map(|sums| sums.finish())
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn four_bit<const R: usize, const J: usize>(
    w: [&[u8]; J],
    scales: [&[f32]; J],
    table: &Table,
    x: &[Row; R],
) -> [[f32; R]; J] {
    let [low, high] = [&table.low, &table.high].map(|values| _mm512_broadcast_i32x4(load16(values)));
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<{ GROUP / 2 }, J>(w));
    let mut sums = [Sums::new(); J];
    for g in 0..w[0].len() {
        let x = group::<{ TABLE_ZERO - 8 }, R>(x, g);
        for ((sums, w), scales) in sums.iter_mut().zip(&w).zip(&scales) {
            ask_for(&w[g], ahead);
            let wide = _mm512_cvtepu8_epi16(load32(&w[g]));
            // The high half of a byte comes first.
            let turned = _mm512_or_si512(_mm512_srli_epi16::<4>(wide), _mm512_slli_epi16::<8>(wide));
            let codes = _mm512_and_si512(turned, _mm512_set1_epi8(15));
            let (low, high) = (_mm512_shuffle_epi8(low, codes), _mm512_shuffle_epi8(high, codes));
            let scale = _mm512_set1_ps(scales[g]);
            for (lanes, x) in sums.0.iter_mut().zip(&x) {
                let sum = _mm512_dpbusd_epi32(x.zeros, high, x.codes);
                let sum = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(sum), low, x.codes);
                weigh(lanes, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), x.scale);
            }
        }
    }
    sums.map(|sums| sums.finish())
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
    _mm512_mul_ps(two_scales(block, &block[2..]), small)
}

/// Numbers `2g` and `2g + 1` of sixteen, eight lanes each.
#[inline]
#[target_feature(enable = "avx512f")]
fn two_of(numbers: __m512, g: i32) -> __m512 {
    let (a, b) = (2 * g, 2 * g + 1);
    _mm512_permutexvar_ps(_mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b), numbers)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q4_k<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<144, J>(w));
    let (mut sums, mut minima) = ([Sums::new(); J], [Minima::new(); J]);
    for i in 0..w[0].len() {
        let mut small = [_mm512_setzero_ps(); J];
        for ((small, w), minima) in small.iter_mut().zip(&w).zip(&mut minima) {
            *small = scales_and_mins(&w[i]);
            minima.add(_mm512_extractf32x8_ps::<1>(*small), x, i);
            for line in (0..144).step_by(LINE) {
                ask_for(&w[i], ahead + line);
            }
        }
        for g in 0..4 {
            let x = group::<0, R>(x, 4 * i + g);
            for ((sums, w), small) in sums.iter_mut().zip(&w).zip(&small) {
                sums.add(halves_of_32(at(&w[i], 16 + 32 * g)), two_of(*small, g as i32), &x);
            }
        }
    }
    std::array::from_fn(|j| minima[j].finish(sums[j].finish()))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q5_k<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<176, J>(w));
    let (mut sums, mut minima) = ([Sums::new(); J], [Minima::new(); J]);
    for i in 0..w[0].len() {
        let mut small = [_mm512_setzero_ps(); J];
        for ((small, w), minima) in small.iter_mut().zip(&w).zip(&mut minima) {
            *small = scales_and_mins(&w[i]);
            minima.add(_mm512_extractf32x8_ps::<1>(*small), x, i);
            for line in (0..176).step_by(LINE) {
                ask_for(&w[i], ahead + line);
            }
        }
        for g in 0..4 {
            // Bit `2g`, or the one above it, goes to the fifth place of its byte.
            let (a, b) = (4 - 2 * g, 3 - 2 * g);
            let turn = _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b);
            let x = group::<0, R>(x, 4 * i + g as usize);
            for ((sums, w), small) in sums.iter_mut().zip(&w).zip(&small) {
                let fifths = _mm512_broadcast_i64x4(load32(at(&w[i], 16)));
                let fifth = _mm512_and_si512(_mm512_rolv_epi32(fifths, turn), _mm512_set1_epi8(16));
                let codes = _mm512_or_si512(halves_of_32(at(&w[i], 48 + 32 * g as usize)), fifth);
                sums.add(codes, two_of(*small, g), &x);
            }
        }
    }
    std::array::from_fn(|j| minima[j].finish(sums[j].finish()))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q6_k<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (low_bits, high_bits) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let to_left = _mm512_setr_epi32(4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2);
    let to_right = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
    let places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<210, J>(w));
    let mut sums = [Sums::new(); J];
    for i in 0..w[0].len() {
        for half in 0..2 {
            let (g, next) = (2 * half, 2 * half + 1);
            let (x, x_next) = (group::<5, R>(x, 4 * i + g), group::<5, R>(x, 4 * i + next));
            let [of_lower, of_upper] = [g, next].map(|g| _mm512_or_si512(places, _mm512_set1_epi32(4 * g as i32)));
            for (sums, w) in sums.iter_mut().zip(&w) {
                let block = &w[i];
                for line in [0, LINE] {
                    ask_for(block, ahead + 2 * LINE * half + line);
                }
                let small = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(at(block, 192))));
                let small = _mm512_mul_ps(two_scales(&block[208..], &block[208..]), small);
                let low = load64(at(block, 64 * half));
                let high = _mm512_broadcast_i64x4(load32(at(block, 128 + 32 * half)));
                let lower = _mm512_and_si512(low, low_bits);
                let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(low), low_bits);
                let high_of_lower = _mm512_and_si512(_mm512_sllv_epi32(high, to_left), high_bits);
                let high_of_upper = _mm512_and_si512(_mm512_srlv_epi32(high, to_right), high_bits);
                sums.add(_mm512_or_si512(lower, high_of_lower), _mm512_permutexvar_ps(of_lower, small), &x);
                sums.add(_mm512_or_si512(upper, high_of_upper), _mm512_permutexvar_ps(of_upper, small), &x_next);
            }
        }
    }
    sums.map(|sums| sums.finish())
}
