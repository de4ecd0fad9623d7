//! Products in whole numbers with 512-bit vectors, of weights in blocks of 256: sums of a block's groups beside its
//! scales, which are decoded once for all rows that are gone through together.
#![expect(clippy::needless_range_loop, reason = "arrays of registers are indexed by what they belong to")]

use super::int8::Row;
use super::simd_avx2_bytes::blocks;
use super::simd_avx2_bytes_k::{Blocks, by_blocks};
use super::simd_avx512_vnni::{
    AHEAD, LINE, Lanes, NEAR, at, codes_of, halves_of_32, in_pairs, in_pairs_of_eight, load16, load32, load64, none,
    two_of, weigh, zeros_of,
};
use super::simd_dispatch::ask_ahead;
use std::arch::x86_64::{
    __m128i, __m256, __m512, __m512i, _mm_setr_epi32, _mm_setzero_si128, _mm256_add_ps, _mm256_castps128_ps256,
    _mm256_cvtph_ps, _mm256_mul_ps, _mm256_permutevar8x32_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm512_and_si512,
    _mm512_broadcast_f32x4, _mm512_broadcast_i64x4, _mm512_castps256_ps512, _mm512_castps512_ps256,
    _mm512_castsi128_si512, _mm512_castsi512_si128, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_dpbusd_epi32, _mm512_extractf32x8_ps, _mm512_extracti32x4_epi32, _mm512_inserti32x4, _mm512_mul_ps,
    _mm512_or_si512, _mm512_permutexvar_epi32, _mm512_permutexvar_ps, _mm512_rolv_epi32, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi32,
    _mm512_sllv_epi32, _mm512_srli_epi16, _mm512_srli_epi32, _mm512_srlv_epi32,
};
use std::mem::transmute;

#[inline]
#[target_feature(enable = "avx512f")]
fn four_floats(from: &[f32; 4]) -> std::arch::x86_64::__m128 {
    // SAFETY: both types are 16 bytes, of which every content is valid.
    unsafe { transmute::<[f32; 4], std::arch::x86_64::__m128>(*from) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn eight_floats(from: &[f32; 8]) -> __m256 {
    // SAFETY: both types are 32 bytes, of which every content is valid.
    unsafe { transmute::<[f32; 8], __m256>(*from) }
}

/// A quarter of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarter(x: __m512i, i: usize) -> __m128i {
    match i {
        0 => _mm512_castsi512_si128(x),
        1 => _mm512_extracti32x4_epi32::<1>(x),
        2 => _mm512_extracti32x4_epi32::<2>(x),
        _ => _mm512_extracti32x4_epi32::<3>(x),
    }
}

/// Eight scales and, behind them, eight minima of a block of `Q4_K` or `Q5_K` of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn scales_and_mins<const N: usize, const J: usize>(w: &[&[[u8; N]]; J], i: usize) -> [__m512; J] {
    // Two f16, then twelve bytes of six bits for each: of 0 to 3, of their minima, what is left of 4 to 7.
    let mut heads = [_mm_setzero_si128(); 4];
    for j in 0..J {
        heads[j] = load16(at(&w[j][i], 0));
    }
    let all = _mm512_castsi128_si512(heads[0]);
    let all = if J > 1 { _mm512_inserti32x4::<1>(all, heads[1]) } else { all };
    let all = if J > 2 { _mm512_inserti32x4::<2>(all, heads[2]) } else { all };
    let all = if J > 3 { _mm512_inserti32x4::<3>(all, heads[3]) } else { all };
    let shift = _mm512_setr_epi32(0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4);
    let (six, four, two) = (0x3F3F_3F3F, 0x0F0F_0F0F, 0x3030_3030);
    let low = _mm512_setr_epi32(six, four, six, four, six, four, six, four, six, four, six, four, six, four, six, four);
    let high = _mm512_setr_epi32(0, two, 0, two, 0, two, 0, two, 0, two, 0, two, 0, two, 0, two);
    let lower = _mm512_and_si512(_mm512_srlv_epi32(_mm512_shuffle_epi32::<0b11_10_11_01>(all), shift), low);
    let upper = _mm512_and_si512(_mm512_srli_epi32::<2>(_mm512_shuffle_epi32::<0b10_10_01_01>(all)), high);
    let small = _mm512_or_si512(lower, upper);
    let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    let factors = _mm256_cvtph_ps(_mm512_castsi512_si128(_mm512_permutexvar_epi32(firsts, all)));
    let mut numbers = [_mm512_setzero_ps(); J];
    for j in 0..J {
        let of_row = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(quarter(small, j)));
        numbers[j] = _mm512_mul_ps(two_of(_mm512_castps256_ps512(factors), j as i32), of_row);
    }
    numbers
}

/// The scales of each row with each of activations, and their minima times the sums of activations.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn weigh_both<const R: usize, const J: usize>(
    minima: &mut [[__m256; R]; J],
    numbers: &[__m512; J],
    x: &[Blocks; R],
    i: usize,
) -> Lanes<R, J> {
    let mut weighed = none::<R, J>();
    for r in 0..R {
        let scales = _mm256_castps128_ps256(four_floats(&x[r].scales[i]));
        let scales = _mm256_permutevar8x32_ps(scales, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
        let halves = eight_floats(&x[r].halves[i]);
        for j in 0..J {
            let of_mins = _mm256_mul_ps(_mm512_extractf32x8_ps::<1>(numbers[j]), halves);
            minima[j][r] = _mm256_add_ps(minima[j][r], of_mins);
            weighed[j][r] = _mm512_castps256_ps512(_mm256_mul_ps(_mm512_castps512_ps256(numbers[j]), scales));
        }
    }
    weighed
}

/// Sums less minima.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn less<const R: usize, const J: usize>(lanes: &Lanes<R, J>, minima: &[[__m256; R]; J]) -> [[f32; R]; J] {
    let (mut sums, minima) = (in_pairs(lanes), in_pairs_of_eight(minima));
    for j in 0..J {
        for r in 0..R {
            sums[j][r] -= minima[j][r];
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q4_k<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<144, J>(w));
    let x = by_blocks(x, w[0].len());
    let (mut lanes, mut minima) = (none::<R, J>(), [[_mm256_setzero_ps(); R]; J]);
    for i in 0..w[0].len() {
        let weighed = weigh_both(&mut minima, &scales_and_mins(&w, i), &x, i);
        for j in 0..J {
            for line in (0..144).step_by(LINE) {
                ask_ahead::<NEAR>(&w[j][i], line, ahead);
            }
        }
        for g in 0..4 {
            for j in 0..J {
                let codes = halves_of_32(at(&w[j][i], 16 + 32 * g));
                for r in 0..R {
                    let sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, codes_of(&x[r].groups[i][g]));
                    weigh(&mut lanes[j][r], sum, two_of(weighed[j][r], g as i32));
                }
            }
        }
    }
    less(&lanes, &minima)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q5_k<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<176, J>(w));
    let x = by_blocks(x, w[0].len());
    let (mut lanes, mut minima) = (none::<R, J>(), [[_mm256_setzero_ps(); R]; J]);
    for i in 0..w[0].len() {
        let weighed = weigh_both(&mut minima, &scales_and_mins(&w, i), &x, i);
        for j in 0..J {
            for line in (0..176).step_by(LINE) {
                ask_ahead::<NEAR>(&w[j][i], line, ahead);
            }
        }
        for g in 0..4 {
            // Bit `2g`, or the one above it, goes to the fifth place of its byte.
            let (a, b) = (4 - 2 * g as i32, 3 - 2 * g as i32);
            let turn = _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b);
            for j in 0..J {
                let fifths = _mm512_broadcast_i64x4(load32(at(&w[j][i], 16)));
                let fifth = _mm512_and_si512(_mm512_rolv_epi32(fifths, turn), _mm512_set1_epi8(16));
                let codes = _mm512_or_si512(halves_of_32(at(&w[j][i], 48 + 32 * g)), fifth);
                for r in 0..R {
                    let sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, codes_of(&x[r].groups[i][g]));
                    weigh(&mut lanes[j][r], sum, two_of(weighed[j][r], g as i32));
                }
            }
        }
    }
    less(&lanes, &minima)
}

/// The scales of a block of `Q6_K` of each row.
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen_scales<const J: usize>(w: &[&[[u8; 210]]; J], i: usize) -> [__m512; J] {
    let mut bits = [0; 4];
    for j in 0..J {
        bits[j] = i32::from(u16::from_le_bytes(*at(&w[j][i], 208)));
    }
    let [a, b, c, d] = bits;
    let factors = _mm512_castps256_ps512(_mm256_cvtph_ps(_mm_setr_epi32(a, b, c, d)));
    let mut numbers = [_mm512_setzero_ps(); J];
    for j in 0..J {
        let factor = _mm512_permutexvar_ps(_mm512_set1_epi32(2 * j as i32), factors);
        let small = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(at(&w[j][i], 192))));
        numbers[j] = _mm512_mul_ps(factor, small);
    }
    numbers
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q6_k<const R: usize, const J: usize>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (low_bits, high_bits) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let to_left = _mm512_setr_epi32(4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2);
    let to_right = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
    let places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<210, J>(w));
    let x = by_blocks(x, w[0].len());
    let mut lanes = none::<R, J>();
    for i in 0..w[0].len() {
        let numbers = sixteen_scales(&w, i);
        let mut weighed = none::<R, J>();
        for r in 0..R {
            let scales = _mm512_permutexvar_ps(places, _mm512_broadcast_f32x4(four_floats(&x[r].scales[i])));
            // Four of the sixteen belong to a group.
            for j in 0..J {
                weighed[j][r] = _mm512_mul_ps(numbers[j], scales);
            }
        }
        for half in 0..2 {
            let of_lower = _mm512_or_si512(places, _mm512_set1_epi32(8 * half));
            let of_upper = _mm512_or_si512(places, _mm512_set1_epi32(8 * half + 4));
            let half = half as usize;
            for j in 0..J {
                let block = &w[j][i];
                for line in [0, LINE] {
                    ask_ahead::<NEAR>(block, 2 * LINE * half + line, ahead);
                }
                let low = load64(at(block, 64 * half));
                let high = _mm512_broadcast_i64x4(load32(at(block, 128 + 32 * half)));
                let lower = _mm512_and_si512(low, low_bits);
                let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(low), low_bits);
                let high_of_lower = _mm512_and_si512(_mm512_sllv_epi32(high, to_left), high_bits);
                let high_of_upper = _mm512_and_si512(_mm512_srlv_epi32(high, to_right), high_bits);
                let (lower, upper) = (_mm512_or_si512(lower, high_of_lower), _mm512_or_si512(upper, high_of_upper));
                for r in 0..R {
                    let [first, second] = [&x[r].groups[i][2 * half], &x[r].groups[i][2 * half + 1]];
                    let sum = _mm512_dpbusd_epi32(zeros_of::<5>(first), lower, codes_of(first));
                    weigh(&mut lanes[j][r], sum, _mm512_permutexvar_ps(of_lower, weighed[j][r]));
                    let sum = _mm512_dpbusd_epi32(zeros_of::<5>(second), upper, codes_of(second));
                    weigh(&mut lanes[j][r], sum, _mm512_permutexvar_ps(of_upper, weighed[j][r]));
                }
            }
        }
    }
    in_pairs(&lanes)
}
