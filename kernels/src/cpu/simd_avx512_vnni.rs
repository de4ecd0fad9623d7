//! Products in whole numbers with 512-bit vectors: four products of bytes and their sum in one instruction.
//!
//! Lane `i` of a group's sums has its elements `4i` to `4i + 3`; the order of everything is that of `int8.rs`. Some rows
//! of weights are gone through together: what is loaded of the activations serves them all, their scales are decoded
//! together, and while one waits for memory another does not. Blocks of 256 are in `simd_avx512_vnni_k.rs`.

use super::int8::{GROUP, LANES, Rounded, Row};
use super::int8_groups::{Codes, Rows, Stored, TABLE_ZERO, Table, iq4_nl};
use super::simd_avx2_bytes::blocks;
use super::simd_avx512_vnni_k::{q4_k, q5_k, q6_k};
use super::simd_dispatch::ask_ahead;
use crate::quant::GgmlType;
use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, __m512i, _mm_insert_epi16, _mm_setzero_si128, _mm256_add_ps,
    _mm256_broadcastsi128_si256, _mm256_castpd_ps, _mm256_castps_pd, _mm256_cvtph_ps, _mm256_movehdup_ps,
    _mm256_mul_ps, _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_unpackhi_pd, _mm256_unpacklo_pd, _mm512_add_ps,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_broadcast_i64x4, _mm512_castps256_ps512, _mm512_castps512_ps256,
    _mm512_castsi256_si512, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16, _mm512_dpbusd_epi32, _mm512_extractf32x8_ps,
    _mm512_inserti64x4, _mm512_mask_add_epi8, _mm512_mul_ps, _mm512_or_si512, _mm512_permutexvar_ps, _mm512_set1_epi8,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_shuffle_epi8, _mm512_slli_epi16, _mm512_slli_epi32,
    _mm512_srli_epi16, _mm512_srlv_epi32, _mm512_xor_si512,
};
use std::mem::transmute;
use std::ops::Range;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
/// Rows of weights from one that is multiplied to the one asked for at the same place.
pub(super) const AHEAD: usize = 4;
/// Bytes of the same row.
pub(super) const NEAR: usize = 1024;

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

    /// `x[r]·w[row]` of these rows, `J` at a time and the last ones alone; `take` is told how many came before.
    pub(super) fn each_row<const R: usize, const J: usize>(
        self,
        w: &Stored,
        rows: Range<usize>,
        x: &[Row; R],
        take: &mut impl FnMut(usize, &[[f32; R]]),
    ) {
        match w.rows(rows.clone()) {
            // SAFETY: `self` proves the features the function is compiled for.
            Rows::Blocks(kind, bytes, size) => unsafe { blocks_of::<R, J>(kind, bytes, size, x, take) },
            Rows::FourBit(table) => {
                let mut buffers: [Vec<f32>; J] = std::array::from_fn(|_| w.buffer());
                let whole = rows.len() - rows.len() % J;
                for j in (0..whole).step_by(J) {
                    let mut row = rows.start + j;
                    let codes = buffers.each_mut().map(|buffer| {
                        row += 1;
                        w.row(row - 1, buffer)
                    });
                    let (bytes, scales) = (codes.each_ref().map(Codes::bytes), codes.each_ref().map(Codes::scales));
                    // SAFETY: `self` proves the features the function is compiled for.
                    take(j, &unsafe { four_bit(bytes, scales, table, x) });
                }
                for j in whole..rows.len() {
                    let codes = w.row(rows.start + j, &mut buffers[0]);
                    // SAFETY: `self` proves the features the function is compiled for.
                    take(j, &unsafe { four_bit([codes.bytes()], [codes.scales()], table, x) });
                }
            }
        }
    }
}

/// Rows of `size` bytes, one behind the other.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn blocks_of<const R: usize, const J: usize>(
    kind: GgmlType,
    bytes: &[u8],
    size: usize,
    x: &[Row; R],
    take: &mut impl FnMut(usize, &[[f32; R]]),
) {
    /// The loop stands around each kernel, so that nothing is called for some rows.
    macro_rules! all {
        ($kernel:ident) => {{
            let mut whole = bytes.chunks_exact(size * J);
            let mut done = 0;
            for some in whole.by_ref() {
                let mut w = [some; J];
                for (j, w) in w.iter_mut().enumerate() {
                    *w = &some[j * size..(j + 1) * size];
                }
                take(done, &$kernel::<R, J>(w, x));
                done += J;
            }
            for row in whole.remainder().chunks_exact(size) {
                take(done, &$kernel::<R, 1>([row], x));
                done += 1;
            }
        }};
    }
    match kind {
        GgmlType::Q8_0 => all!(q8_0),
        GgmlType::Q5_0 => all!(q5_0),
        GgmlType::Iq4Nl => all!(iq4),
        GgmlType::Q6K => all!(q6_k),
        GgmlType::Q5K => all!(q5_k),
        GgmlType::Q4K => all!(q4_k),
        _ => all!(q4_0),
    }
}

/// The lanes of `R` rows of activations with `J` of weights.
pub(super) type Lanes<const R: usize, const J: usize> = [[__m512; R]; J];

/// Nothing yet.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn none<const R: usize, const J: usize>() -> Lanes<R, J> {
    [[_mm512_setzero_ps(); R]; J]
}

/// The sum of the lanes of each.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn in_pairs<const R: usize, const J: usize>(lanes: &Lanes<R, J>) -> [[f32; R]; J] {
    let mut eight = [[_mm256_set1_ps(0.0); R]; J];
    for j in 0..J {
        for r in 0..R {
            let x = lanes[j][r];
            eight[j][r] = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
        }
    }
    in_pairs_of_eight(&eight)
}

/// The sum of the lanes of each, four rows of weights at once.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn in_pairs_of_eight<const R: usize, const J: usize>(lanes: &[[__m256; R]; J]) -> [[f32; R]; J] {
    let mut sums = [[0.0; R]; J];
    for r in 0..R {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j: usize| lanes[j.min(J - 1)][r]);
        let ab = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
        let cd = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(c, d), _mm256_permute2f128_ps::<0x31>(c, d));
        let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
        let (low, high) = (_mm256_unpacklo_pd(ab, cd), _mm256_unpackhi_pd(ab, cd));
        let acbd = _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
        let acbd = _mm256_add_ps(acbd, _mm256_movehdup_ps(acbd));
        // SAFETY: both types are 32 bytes, of which every content is valid.
        let [a, _, c, _, b, _, d, _] = unsafe { transmute::<__m256, [f32; 8]>(acbd) };
        for (row, sum) in sums.iter_mut().zip([a, b, c, d]) {
            row[r] = sum;
        }
    }
    sums
}

/// `lanes += sum·scales`
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn weigh(lanes: &mut __m512, sum: __m512i, scales: __m512) {
    *lanes = _mm512_add_ps(*lanes, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales));
}

/// The codes of a group.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn codes_of(group: &Rounded) -> __m512i {
    // SAFETY: both types are 64 bytes, of which every content is valid.
    unsafe { transmute::<[i8; GROUP], __m512i>(group.codes) }
}

/// Minus the sum of each four codes, times the zero of the weights' codes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn zeros_of<const ZERO: u32>(group: &Rounded) -> __m512i {
    // SAFETY: both types are 64 bytes, of which every content is valid.
    let fours = unsafe { transmute::<[i32; LANES], __m512i>(group.fours) };
    _mm512_slli_epi32::<ZERO>(fours)
}

// By value: what an unaligned load through a pointer is checked for in a build with debug assertions takes it over memory.

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load16(from: &[u8; 16]) -> __m128i {
    // SAFETY: both types are 16 bytes, of which every content is valid.
    unsafe { transmute::<[u8; 16], __m128i>(*from) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load32(from: &[u8; 32]) -> __m256i {
    // SAFETY: both types are 32 bytes, of which every content is valid.
    unsafe { transmute::<[u8; 32], __m256i>(*from) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load64(from: &[u8; GROUP]) -> __m512i {
    // SAFETY: both types are 64 bytes, of which every content is valid.
    unsafe { transmute::<[u8; GROUP], __m512i>(*from) }
}

/// `N` bytes at `at`; the blocks below have them at places that are known when this is compiled.
#[inline]
pub(super) fn at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a block has all of its parts")
}

/// Numbers `2g` and `2g + 1` of sixteen, eight lanes each.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn two_of(numbers: __m512, g: i32) -> __m512 {
    let (a, b) = (2 * g, 2 * g + 1);
    _mm512_permutexvar_ps(_mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b), numbers)
}

/// The f16 at the beginning of both halves of a pair of blocks, one behind the other, for some rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn scales_of_pairs<const N: usize, const J: usize>(rows: &[&[[u8; N]]; J], g: usize) -> __m256 {
    let mut bits = _mm_setzero_si128();
    bits = _mm_insert_epi16::<0>(bits, sixteen(&rows[0][g], 0));
    bits = _mm_insert_epi16::<1>(bits, sixteen(&rows[0][g], N / 2));
    if J > 1 {
        bits = _mm_insert_epi16::<2>(bits, sixteen(&rows[1][g], 0));
        bits = _mm_insert_epi16::<3>(bits, sixteen(&rows[1][g], N / 2));
    }
    if J > 3 {
        bits = _mm_insert_epi16::<4>(bits, sixteen(&rows[2][g], 0));
        bits = _mm_insert_epi16::<5>(bits, sixteen(&rows[2][g], N / 2));
        bits = _mm_insert_epi16::<6>(bits, sixteen(&rows[3][g], 0));
        bits = _mm_insert_epi16::<7>(bits, sixteen(&rows[3][g], N / 2));
    }
    _mm256_cvtph_ps(bits)
}

/// The sixteen bits at `place`.
#[inline]
pub(super) fn sixteen(block: &[u8], place: usize) -> i32 {
    i32::from(u16::from_le_bytes(*at(block, place)))
}

/// The low halves of 32 bytes, then the high ones.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn halves_of_32(bytes: &[u8; 32]) -> __m512i {
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

/// A kernel for pairs of blocks of 32 elements: what makes the unsigned codes of a pair, and their zero.
macro_rules! pairs {
    ($name:ident, $bytes:literal, $zero:literal, |$pair:ident| $codes:expr) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn $name<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
            let (ahead, w) = (AHEAD * w[0].len(), blocks::<$bytes, J>(w));
            let len = w[0].len();
            let (groups, scales) = (x.each_ref().map(|x| &x.groups[..len]), x.each_ref().map(|x| &x.scales[..len]));
            let mut lanes = none::<R, J>();
            for g in 0..len {
                let numbers = scales_of_pairs(&w, g);
                let mut weighed = [numbers; R];
                for r in 0..R {
                    weighed[r] = _mm256_mul_ps(numbers, _mm256_set1_ps(scales[r][g]));
                }
                for j in 0..J {
                    for line in (0..$bytes).step_by(LINE) {
                        ask_ahead::<NEAR>(&w[j][g], line, ahead);
                    }
                    let $pair = &w[j][g];
                    let codes = $codes;
                    for r in 0..R {
                        let group = &groups[r][g];
                        let sum = _mm512_dpbusd_epi32(zeros_of::<$zero>(group), codes, codes_of(group));
                        weigh(&mut lanes[j][r], sum, two_of(_mm512_castps256_ps512(weighed[r]), j as i32));
                    }
                }
            }
            in_pairs(&lanes)
        }
    };
}

pairs!(q8_0, 68, 7, |pair| {
    let (first, second) = pair.split_at(34);
    let codes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load32(at(first, 2))), load32(at(second, 2)));
    _mm512_xor_si512(codes, _mm512_set1_epi8(-128))
});

pairs!(q5_0, 44, 4, |pair| {
    let (first, second) = pair.split_at(22);
    let [low, high] = [first, second].map(|block| u64::from(u32::from_le_bytes(*at(block, 2))));
    let codes = halves_of_16(at(first, 6), at(second, 6));
    _mm512_mask_add_epi8(codes, low | high << 32, codes, _mm512_set1_epi8(16))
});

pairs!(q4_0, 36, 3, |pair| {
    let (first, second) = pair.split_at(18);
    halves_of_16(at(first, 2), at(second, 2))
});

pairs!(iq4, 36, 7, |pair| {
    let (first, second) = pair.split_at(18);
    let values = _mm512_broadcast_i32x4(load16(&iq4_nl()));
    _mm512_shuffle_epi8(values, halves_of_16(at(first, 2), at(second, 2)))
});

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn four_bit<const R: usize, const J: usize>(
    w: [&[u8]; J],
    scales: [&[f32]; J],
    table: &Table,
    x: &[Row; R],
) -> [[f32; R]; J] {
    let [low, high] = [&table.low, &table.high].map(|values| _mm512_broadcast_i32x4(load16(values)));
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<{ GROUP / 2 }, J>(w));
    let len = w[0].len();
    let scales = scales.map(|scales| &scales[..len]);
    let (groups, of_x) = (x.each_ref().map(|x| &x.groups[..len]), x.each_ref().map(|x| &x.scales[..len]));
    let mut lanes = none::<R, J>();
    for g in 0..len {
        for j in 0..J {
            ask_ahead::<NEAR>(&w[j][g], 0, ahead);
            let wide = _mm512_cvtepu8_epi16(load32(&w[j][g]));
            // The high half of a byte comes first.
            let turned = _mm512_or_si512(_mm512_srli_epi16::<4>(wide), _mm512_slli_epi16::<8>(wide));
            let codes = _mm512_and_si512(turned, _mm512_set1_epi8(15));
            let (low, high) = (_mm512_shuffle_epi8(low, codes), _mm512_shuffle_epi8(high, codes));
            for r in 0..R {
                let group = &groups[r][g];
                let (zeros, codes) = (zeros_of::<{ TABLE_ZERO - 8 }>(group), codes_of(group));
                let sum = _mm512_dpbusd_epi32(zeros, high, codes);
                let sum = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(sum), low, codes);
                weigh(&mut lanes[j][r], sum, _mm512_set1_ps(scales[j][g] * of_x[r][g]));
            }
        }
    }
    in_pairs(&lanes)
}
