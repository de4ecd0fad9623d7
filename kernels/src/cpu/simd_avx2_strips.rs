//! Products in whole numbers with 256-bit vectors of weights that lie eight rows side by side (`interleaved.rs`).
//!
//! Unsigned codes times signed ones are summed in pairs of sixteen bits, and those over a half or a quarter of a group
//! before they are widened: 16 products of codes below 16 need no more bits, and of larger codes the zero is taken away
//! in the same sixteen bits, around which sums may run over and come back, because the whole fits them
//! (16 · 16 · 127 and 8 · 32 · 127 are 32512). The step to 32 bits multiplies with the scales of eight rows.

#![expect(clippy::needless_range_loop, reason = "arrays of registers are indexed by what they belong to")]

use super::interleaved::{Kind, STEP_OF_VALUES, STRIP, Table};
use super::interleaved_rows::{Group, both};
use super::simd_avx2_bytes::{Avx2Bytes, LINE, at, load16, load32, numbers_of};
use super::simd_avx2_bytes_k::halves_of_32;
use super::simd_dispatch::ask_ahead;
use crate::quant::GgmlType;
use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_castsi256_ps, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_cvtph_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srai_epi16,
    _mm256_srli_epi16, _mm256_sub_epi16, _mm256_sub_ps,
};
use std::mem::transmute;

/// Bytes from what is multiplied to what is asked for: for the second cache, and for the first.
const FAR: usize = 8192;
const NEAR: usize = 2304;

/// `x·wᵀ` of the eight rows of a strip.
pub(super) fn strip<const R: usize>(_: Avx2Bytes, kind: &Kind, strip: &[u8], x: &[&[Group]; R]) -> [[f32; STRIP]; R] {
    // SAFETY: that the first argument exists says that the processor has the features the function is compiled for.
    unsafe { strip_of(kind, strip, x) }
}

#[target_feature(enable = "avx2,f16c")]
fn strip_of<const R: usize>(kind: &Kind, strip: &[u8], x: &[&[Group]; R]) -> [[f32; STRIP]; R] {
    let sums = match kind {
        Kind::Blocks(GgmlType::Q4K) => q4_k(strip, x),
        Kind::Blocks(GgmlType::Q6K) => q6_k(strip, x),
        Kind::Blocks(GgmlType::Q5K) => q5_k(strip, x),
        Kind::Blocks(GgmlType::Q4_0) => pairs::<288, false, R>(strip, x),
        Kind::Blocks(_) => pairs::<352, true, R>(strip, x),
        Kind::FourBit(_, _, table) => four_bit(strip, x, table),
    };
    sums.map(|sums| numbers_of(sums))
}

/// Four codes of a group, for eight rows.
#[inline]
#[target_feature(enable = "avx2")]
fn four(x: &Group, word: usize) -> __m256i {
    _mm256_set1_epi32(x.four(word))
}

/// Two numbers, for eight rows.
#[inline]
#[target_feature(enable = "avx2")]
fn two(pair: [i16; 2]) -> __m256i {
    _mm256_set1_epi32(both(pair))
}

/// `sums += codes·x`
#[inline]
#[target_feature(enable = "avx2")]
fn multiply(sums: &mut __m256i, codes: __m256i, x: __m256i) {
    *sums = _mm256_add_epi16(*sums, _mm256_maddubs_epi16(codes, x));
}

/// `sums + whole·scale`
#[inline]
#[target_feature(enable = "avx2")]
fn add(sums: __m256, whole: __m256i, scale: __m256) -> __m256 {
    _mm256_add_ps(sums, _mm256_mul_ps(_mm256_cvtepi32_ps(whole), scale))
}

/// Bytes `PLACE`, `PLACE + 2` to `PLACE + 14` of sixteen: each as byte `AT` of a pair, and again in the pair beside it,
/// for eight rows. The other bytes are zero.
#[inline]
#[target_feature(enable = "avx2")]
fn each_twice<const PLACE: i8, const AT: usize>(both: __m256i) -> __m256i {
    const {
        assert!(PLACE < 2 && AT < 2);
    }
    let order = const {
        let mut order = [-1_i8; 32];
        let mut pair = 0;
        while pair < 16 {
            order[2 * pair + AT] = 2 * (pair as i8 / 2) + PLACE;
            pair += 1;
        }
        order
    };
    // SAFETY: both types are 32 bytes, of which every content is valid.
    _mm256_shuffle_epi8(both, unsafe { transmute::<[i8; 32], __m256i>(order) })
}

/// Whole units of a strip, and as many of each row.
#[inline]
fn units<'a, const N: usize, const G: usize, const R: usize>(
    strip: &'a [u8],
    x: &[&'a [Group]; R],
) -> (&'a [[u8; N]], [&'a [[Group; G]]; R]) {
    let units = strip.as_chunks().0;
    (units, x.map(|x| &x.as_chunks().0[..units.len()]))
}

/// `sums + whole·scales - minima·x`, of a group.
#[inline]
#[target_feature(enable = "avx2")]
fn less(sums: __m256, whole: __m256i, scales: __m256, mins: __m256i, scales_of_mins: __m256, x: &Group) -> __m256 {
    let scale = _mm256_set1_ps(x.scale);
    let least = _mm256_cvtepi32_ps(_mm256_madd_epi16(mins, two(x.halves)));
    let sums = add(sums, whole, _mm256_mul_ps(scales, scale));
    _mm256_sub_ps(sums, _mm256_mul_ps(least, _mm256_mul_ps(scales_of_mins, scale)))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q4_k<const R: usize>(strip: &[u8], x: &[&[Group]; R]) -> [__m256; R] {
    let (units, x) = units::<1184, 4, R>(strip, x);
    let mut sums = [_mm256_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        let [scales_of, mins_of] = [0, 16].map(|place| _mm256_cvtph_ps(load16(at(unit, place))));
        for g in 0..4 {
            let group: &[u8; 288] = at(unit, 32 + 288 * g);
            for line in (0..288).step_by(LINE) {
                ask_ahead::<NEAR>(group, line, FAR);
            }
            let scales = _mm256_broadcastsi128_si256(load16(at(group, 0)));
            let scales = [each_twice::<0, 0>(scales), each_twice::<1, 0>(scales)];
            let mins = _mm256_cvtepu8_epi16(load16(at(group, 16)));
            let mut halves = [[_mm256_setzero_si256(); R]; 2];
            for t in 0..8 {
                let codes = halves_of_32(at(group, 32 + 32 * t));
                for r in 0..R {
                    multiply(&mut halves[0][r], codes[0], four(&x[r][i][g], t));
                    multiply(&mut halves[1][r], codes[1], four(&x[r][i][g], 8 + t));
                }
            }
            for r in 0..R {
                let first = _mm256_madd_epi16(halves[0][r], scales[0]);
                let whole = _mm256_add_epi32(first, _mm256_madd_epi16(halves[1][r], scales[1]));
                sums[r] = less(sums[r], whole, scales_of, mins, mins_of, &x[r][i][g]);
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2")]
fn q6_k<const R: usize>(strip: &[u8], x: &[&[Group]; R]) -> [__m256; R] {
    let (low, high) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    let (units, x) = units::<1696, 4, R>(strip, x);
    let mut sums = [_mm256_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        let scales_of = _mm256_castsi256_ps(load32(at(unit, 0)));
        for g in 0..4 {
            let group: &[u8; 416] = at(unit, 32 + 416 * g);
            for line in (0..416).step_by(LINE) {
                ask_ahead::<NEAR>(group, line, FAR);
            }
            let mut whole = [_mm256_setzero_si256(); R];
            macro_rules! parts {
                ($($part:literal: $place:literal, $nibble:ident $low:literal, $bits:ident $by:literal);*) => {$({
                    let scales = _mm256_broadcastsi128_si256(load16(at(group, 16 * ($part / 2))));
                    let scales = _mm256_srai_epi16::<8>(each_twice::<$place, 1>(scales));
                    let mut quarters = [_mm256_setzero_si256(); R];
                    for r in 0..R {
                        let zero = _mm256_slli_epi16::<5>(two(x[r][i][g].quarters[$part]));
                        quarters[r] = _mm256_sub_epi16(quarters[r], zero);
                    }
                    for t in 0..4 {
                        let halves = load32(at(group, 32 + 32 * (4 * ($part % 2) + t)));
                        let halves = _mm256_and_si256($nibble::<$low>(halves), low);
                        let bits = _mm256_and_si256($bits::<$by>(load32(at(group, 288 + 32 * t))), high);
                        let codes = _mm256_or_si256(halves, bits);
                        for r in 0..R {
                            multiply(&mut quarters[r], codes, four(&x[r][i][g], 4 * $part + t));
                        }
                    }
                    for r in 0..R {
                        whole[r] = _mm256_add_epi32(whole[r], _mm256_madd_epi16(quarters[r], scales));
                    }
                })*};
            }
            parts!(
                0: 0, _mm256_srli_epi16 0, _mm256_slli_epi16 4;
                1: 1, _mm256_srli_epi16 0, _mm256_slli_epi16 2;
                2: 0, _mm256_srli_epi16 4, _mm256_slli_epi16 0;
                3: 1, _mm256_srli_epi16 4, _mm256_srli_epi16 2
            );
            for r in 0..R {
                let scale = _mm256_mul_ps(scales_of, _mm256_set1_ps(x[r][i][g].scale));
                sums[r] = add(sums[r], whole[r], scale);
            }
        }
    }
    sums
}

/// Words of codes of five bits: of every number of a word what brings its bit to the fifth place.
macro_rules! fives {
    ($group:ident, $fifths:ident, $x:expr, $to:ident: $($t:literal $shift:ident $by:literal),*) => {$({
        let sixteen = _mm256_set1_epi8(16);
        let nibbles = halves_of_32(at($group, 32 + 32 * $t));
        for half in 0..2 {
            let fifth = _mm256_and_si256($shift::<$by>($fifths[half]), sixteen);
            let codes = _mm256_or_si256(nibbles[half], fifth);
            for r in 0..R {
                multiply(&mut $to[half][r], codes, four($x(r), 8 * half + $t));
            }
        }
    })*};
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q5_k<const R: usize>(strip: &[u8], x: &[&[Group]; R]) -> [__m256; R] {
    let (units, x) = units::<1440, 4, R>(strip, x);
    let mut sums = [_mm256_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        let [scales_of, mins_of] = [0, 16].map(|place| _mm256_cvtph_ps(load16(at(unit, place))));
        for g in 0..4 {
            let group: &[u8; 352] = at(unit, 32 + 352 * g);
            for line in (0..352).step_by(LINE) {
                ask_ahead::<NEAR>(group, line, FAR);
            }
            let scales = _mm256_broadcastsi128_si256(load16(at(group, 0)));
            let scales = [each_twice::<0, 0>(scales), each_twice::<1, 0>(scales)];
            let mins = _mm256_cvtepu8_epi16(load16(at(group, 16)));
            let fifths = [288, 320].map(|place| load32(at(group, place)));
            let mut whole = [_mm256_setzero_si256(); R];
            // Sixteen bits hold the sums of a quarter.
            let mut quarters = [[_mm256_setzero_si256(); R]; 2];
            fives!(group, fifths, |r: usize| &x[r][i][g], quarters:
                0 _mm256_slli_epi16 4, 1 _mm256_slli_epi16 3, 2 _mm256_slli_epi16 2, 3 _mm256_slli_epi16 1);
            for half in 0..2 {
                for r in 0..R {
                    whole[r] = _mm256_add_epi32(whole[r], _mm256_madd_epi16(quarters[half][r], scales[half]));
                }
            }
            let mut quarters = [[_mm256_setzero_si256(); R]; 2];
            fives!(group, fifths, |r: usize| &x[r][i][g], quarters:
                4 _mm256_slli_epi16 0, 5 _mm256_srli_epi16 1, 6 _mm256_srli_epi16 2, 7 _mm256_srli_epi16 3);
            for half in 0..2 {
                for r in 0..R {
                    whole[r] = _mm256_add_epi32(whole[r], _mm256_madd_epi16(quarters[half][r], scales[half]));
                }
            }
            for r in 0..R {
                sums[r] = less(sums[r], whole[r], scales_of, mins, mins_of, &x[r][i][g]);
            }
        }
    }
    sums
}

/// Pairs of blocks of 32 elements, whose zero is half of what their codes can be: of `Q5_0`, and of `Q4_0`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn pairs<const N: usize, const FIVE: bool, const R: usize>(strip: &[u8], x: &[&[Group]; R]) -> [__m256; R] {
    let one = _mm256_set1_epi16(1);
    let (units, x) = units::<N, 1, R>(strip, x);
    let mut sums = [_mm256_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        for line in (0..N).step_by(LINE) {
            ask_ahead::<NEAR>(unit, line, FAR);
        }
        let scales = [0, 16].map(|place| _mm256_cvtph_ps(load16(at(unit, place))));
        let mut halves = [[_mm256_setzero_si256(); R]; 2];
        for half in 0..2 {
            for r in 0..R {
                let pair = two(x[r][i][0].pairs[half]);
                let zero = if FIVE { _mm256_slli_epi16::<4>(pair) } else { _mm256_slli_epi16::<3>(pair) };
                halves[half][r] = _mm256_sub_epi16(halves[half][r], zero);
            }
        }
        if FIVE {
            let fifths = [288, 320].map(|place| load32(at(unit, place)));
            fives!(unit, fifths, |r: usize| &x[r][i][0], halves:
                0 _mm256_slli_epi16 4, 1 _mm256_slli_epi16 3, 2 _mm256_slli_epi16 2, 3 _mm256_slli_epi16 1,
                4 _mm256_slli_epi16 0, 5 _mm256_srli_epi16 1, 6 _mm256_srli_epi16 2, 7 _mm256_srli_epi16 3);
        } else {
            for t in 0..8 {
                let codes = halves_of_32(at(unit, 32 + 32 * t));
                for r in 0..R {
                    multiply(&mut halves[0][r], codes[0], four(&x[r][i][0], t));
                    multiply(&mut halves[1][r], codes[1], four(&x[r][i][0], 8 + t));
                }
            }
        }
        for r in 0..R {
            let scale = _mm256_set1_ps(x[r][i][0].scale);
            for half in 0..2 {
                let whole = _mm256_madd_epi16(halves[half][r], one);
                sums[r] = add(sums[r], whole, _mm256_mul_ps(scales[half], scale));
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2")]
fn four_bit<const R: usize>(strip: &[u8], x: &[&[Group]; R], table: &Table) -> [__m256; R] {
    let [low, high] = [&table.low, &table.high].map(|values| _mm256_broadcastsi128_si256(load16(values)));
    let (nibble, one, sixteen) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1), _mm256_set1_epi16(16));
    let (units, x) = units::<288, 1, R>(strip, x);
    let mut sums = [_mm256_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        for line in (0..288).step_by(LINE) {
            ask_ahead::<NEAR>(unit, line, FAR);
        }
        let scales = _mm256_castsi256_ps(load32(at(unit, 0)));
        let mut whole = [_mm256_setzero_si256(); R];
        for part in 0..4 {
            let (mut of_low, mut of_high) = ([_mm256_setzero_si256(); R], [_mm256_setzero_si256(); R]);
            for r in 0..R {
                let zero = _mm256_slli_epi16::<5>(two(x[r][i][0].quarters[part]));
                of_high[r] = _mm256_sub_epi16(of_high[r], zero);
            }
            for t in 0..4 {
                let both = load32(at(unit, 32 + 32 * (4 * (part % 2) + t)));
                let both = if part < 2 { both } else { _mm256_srli_epi16::<4>(both) };
                let codes = _mm256_and_si256(both, nibble);
                let values = [low, high].map(|table| _mm256_shuffle_epi8(table, codes));
                for r in 0..R {
                    let four = four(&x[r][i][0], 4 * part + t);
                    multiply(&mut of_low[r], values[0], four);
                    multiply(&mut of_high[r], values[1], four);
                }
            }
            for r in 0..R {
                let (of_low, of_high) = (_mm256_madd_epi16(of_low[r], one), _mm256_madd_epi16(of_high[r], sixteen));
                whole[r] = _mm256_add_epi32(whole[r], _mm256_add_epi32(of_low, of_high));
            }
        }
        for r in 0..R {
            let scale = _mm256_set1_ps(x[r][i][0].scale * STEP_OF_VALUES);
            sums[r] = add(sums[r], whole[r], _mm256_mul_ps(scales, scale));
        }
    }
    sums
}
