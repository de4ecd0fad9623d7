//! Products in whole numbers with 256-bit vectors, of weights in blocks of 256: sums of a block's groups beside its
//! scales, which are decoded once for a block.
#![expect(clippy::needless_range_loop, reason = "arrays of registers are indexed by what they belong to")]

use super::int8::{Rounded, Row};
use super::simd_avx2_bytes::{
    AHEAD, LINE, NEAR, at, blocks, eight_floats, four_floats, in_pairs, in_pairs_of_eight, load16, load32, none,
    numbers_of, plain_product, product, sixteen, weigh,
};
use super::simd_dispatch::ask_ahead;
use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_setr_epi8, _mm_shuffle_epi8,
    _mm_unpackhi_epi64, _mm256_add_ps, _mm256_and_si256, _mm256_broadcast_ps, _mm256_broadcastss_ps,
    _mm256_castps128_ps256, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_mul_ps,
    _mm256_or_si256, _mm256_permute_ps, _mm256_permutevar8x32_ps, _mm256_set1_epi8, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_setzero_ps, _mm256_slli_epi16, _mm256_srli_epi16,
};

/// A row of activations by blocks of 256.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub(super) groups: &'a [[Rounded; 4]],
    pub(super) scales: &'a [[f32; 4]],
    /// Sums of half groups.
    pub(super) halves: &'a [[f32; 8]],
}

/// The first `len` blocks of every row.
#[inline]
pub(super) fn by_blocks<'a, const R: usize>(x: &[Row<'a>; R], len: usize) -> [Blocks<'a>; R] {
    x.map(|x| Blocks {
        groups: &x.groups.as_chunks().0[..len],
        scales: &x.scales.as_chunks().0[..len],
        halves: &x.halves.as_chunks().0[..len],
    })
}

/// Eight small numbers, a byte each.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_bytes(bytes: u64) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed())))
}

/// Eight scales and eight minima of a block of `Q4_K` or `Q5_K`: its head is two f16, then twelve bytes of six bits for
/// each, of 0 to 3, of their minima, what is left of 4 to 7.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales_and_mins(head: &[u8; 16]) -> [__m256; 2] {
    let [factors, scales, mins, rest] = [0, 4, 8, 12].map(|place| u32::from_le_bytes(*at(head, place)));
    let (six, four, two) = (0x3F3F_3F3F, 0x0F0F_0F0F, 0x3030_3030);
    let upper_scales = rest & four | scales >> 2 & two;
    let upper_mins = rest >> 4 & four | mins >> 2 & two;
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(factors.cast_signed()));
    let of_scales = _mm256_broadcastss_ps(both);
    let of_mins = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(both), _mm256_setr_epi32(1, 1, 1, 1, 1, 1, 1, 1));
    let eight = |lower: u32, upper: u32| u64::from(lower & six) | u64::from(upper) << 32;
    [
        _mm256_mul_ps(of_scales, eight_bytes(eight(scales, upper_scales))),
        _mm256_mul_ps(of_mins, eight_bytes(eight(mins, upper_mins))),
    ]
}

/// Scales of the four groups of a block, each for both of its halves.
#[inline]
#[target_feature(enable = "avx2")]
fn twice(scales: &[f32; 4]) -> __m256 {
    let four = _mm256_castps128_ps256(four_floats(scales));
    _mm256_permutevar8x32_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3))
}

/// A kernel for blocks of `$bytes` with minima, whose half groups have the codes that `$codes` makes of a block, the
/// number of the group, and which half it is.
macro_rules! with_minima {
    ($name:ident, $bytes:literal, |$block:ident, $g:ident| $codes:expr) => {
        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        pub(super) fn $name<const R: usize, const J: usize, const FOURS: bool>(
            w: [&[u8]; J],
            x: &[Row; R],
        ) -> [[f32; R]; J] {
            let (ahead, w) = (AHEAD * w[0].len(), blocks::<$bytes, J>(w));
            let x = by_blocks(x, w[0].len());
            let (mut lanes, mut minima) = (none::<R, J>(), [[_mm256_setzero_ps(); R]; J]);
            for i in 0..w[0].len() {
                let mut weighed = [[[0.0; 8]; R]; J];
                for j in 0..J {
                    for line in (0..$bytes).step_by(LINE) {
                        ask_ahead::<NEAR>(&w[j][i], line, ahead);
                    }
                    let [scales, mins] = scales_and_mins(at(&w[j][i], 0));
                    for r in 0..R {
                        let of_mins = _mm256_mul_ps(mins, eight_floats(&x[r].halves[i]));
                        minima[j][r] = _mm256_add_ps(minima[j][r], of_mins);
                        weighed[j][r] = numbers_of(_mm256_mul_ps(scales, twice(&x[r].scales[i])));
                    }
                }
                for $g in 0..4 {
                    for j in 0..J {
                        let $block = &w[j][i];
                        let codes: [__m256i; 2] = $codes;
                        for half in 0..2 {
                            for r in 0..R {
                                let sum = plain_product::<FOURS>(codes[half], &x[r].groups[i][$g], half);
                                let scale = _mm256_set1_ps(weighed[j][r][2 * $g + half]);
                                weigh(&mut lanes[j][r][half], sum, scale);
                            }
                        }
                    }
                }
            }
            less(in_pairs(&lanes), &in_pairs_of_eight(&minima))
        }
    };
}

with_minima!(q4_k, 144, |block, g| halves_of_32(at(block, 16 + 32 * g)));

with_minima!(q5_k, 176, |block, g| {
    let fifths = load32(at(block, 16));
    // Bit `2g`, and the one above it, go to the fifth place of their byte.
    let [low, high] = match g {
        0 => [_mm256_slli_epi16::<4>(fifths), _mm256_slli_epi16::<3>(fifths)],
        1 => [_mm256_slli_epi16::<2>(fifths), _mm256_slli_epi16::<1>(fifths)],
        2 => [fifths, _mm256_srli_epi16::<1>(fifths)],
        _ => [_mm256_srli_epi16::<2>(fifths), _mm256_srli_epi16::<3>(fifths)],
    };
    let [first, second] = halves_of_32(at(block, 48 + 32 * g));
    let sixteen = _mm256_set1_epi8(16);
    [_mm256_or_si256(first, _mm256_and_si256(low, sixteen)), _mm256_or_si256(second, _mm256_and_si256(high, sixteen))]
});

/// Sums less minima.
#[inline]
fn less<const R: usize, const J: usize>(mut sums: [[f32; R]; J], minima: &[[f32; R]; J]) -> [[f32; R]; J] {
    for (sums, minima) in sums.iter_mut().zip(minima) {
        for (sum, minima) in sums.iter_mut().zip(minima) {
            *sum -= minima;
        }
    }
    sums
}

/// The low halves of 32 bytes, and the high ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn halves_of_32(bytes: &[u8; 32]) -> [__m256i; 2] {
    let (both, low) = (load32(bytes), _mm256_set1_epi8(15));
    [_mm256_and_si256(both, low), _mm256_and_si256(_mm256_srli_epi16::<4>(both), low)]
}

/// The scales of a block of `Q6_K`: of each half those of even places, then those of odd ones.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn sixteen_scales(block: &[u8; 210]) -> [__m256; 2] {
    let order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    let small: __m128i = _mm_shuffle_epi8(load16(at(block, 192)), order);
    let factor = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(sixteen(block, 208))));
    [small, _mm_unpackhi_epi64(small, small)]
        .map(|eight| _mm256_mul_ps(factor, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight))))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn q6_k<const R: usize, const J: usize, const FOURS: bool>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
    let (low_bits, high_bits) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<210, J>(w));
    let x = by_blocks(x, w[0].len());
    let mut lanes = none::<R, J>();
    for i in 0..w[0].len() {
        for j in 0..J {
            let block = &w[j][i];
            let scales = sixteen_scales(block);
            for half in 0..2 {
                for line in [0, LINE] {
                    ask_ahead::<NEAR>(block, 2 * LINE * half + line, ahead);
                }
                // Sixteen elements share a scale, and 64 of activations.
                let mut weighed = [_mm256_setzero_ps(); R];
                for r in 0..R {
                    let of_x = _mm256_broadcast_ps(&four_floats(&x[r].scales[i]));
                    let of_x = if half == 0 {
                        _mm256_permute_ps::<0b01_01_00_00>(of_x)
                    } else {
                        _mm256_permute_ps::<0b11_11_10_10>(of_x)
                    };
                    weighed[r] = _mm256_mul_ps(scales[half], of_x);
                }
                let [first, second] = [0, 32].map(|place| load32(at(block, 64 * half + place)));
                let high = load32(at(block, 128 + 32 * half));
                let codes = [
                    (_mm256_and_si256(first, low_bits), _mm256_slli_epi16::<4>(high)),
                    (_mm256_and_si256(second, low_bits), _mm256_slli_epi16::<2>(high)),
                    (_mm256_and_si256(_mm256_srli_epi16::<4>(first), low_bits), high),
                    (_mm256_and_si256(_mm256_srli_epi16::<4>(second), low_bits), _mm256_srli_epi16::<2>(high)),
                ];
                for (part, (low, high)) in codes.into_iter().enumerate() {
                    let codes = _mm256_or_si256(low, _mm256_and_si256(high, high_bits));
                    for r in 0..R {
                        let sum = product::<5, FOURS>(codes, &x[r].groups[i][2 * half + part / 2], part % 2);
                        let scale = match part {
                            0 => _mm256_permute_ps::<0b00_00_00_00>(weighed[r]),
                            1 => _mm256_permute_ps::<0b01_01_01_01>(weighed[r]),
                            2 => _mm256_permute_ps::<0b10_10_10_10>(weighed[r]),
                            _ => _mm256_permute_ps::<0b11_11_11_11>(weighed[r]),
                        };
                        weigh(&mut lanes[j][r][part % 2], sum, scale);
                    }
                }
            }
        }
    }
    in_pairs(&lanes)
}
