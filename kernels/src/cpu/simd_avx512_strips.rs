//! Products in whole numbers with 512-bit vectors of weights that lie sixteen rows side by side (`interleaved.rs`).
//!
//! Four products of bytes are added to 32 bits in one instruction, and four numbers of an activation come to all lanes
//! with it, straight from memory. What is whole is exact in any order, and what is not is added as everywhere, so the bits are those
//! of 256-bit vectors.

#![expect(clippy::needless_range_loop, reason = "arrays of registers are indexed by what they belong to")]

use super::interleaved::{Kind, STEP_OF_VALUES, Table, WIDE_STRIP};
use super::interleaved_rows::{Group, both};
use super::simd_avx512_vnni::{Avx512Vnni, LINE, at, load16, load32, load64};
use super::simd_dispatch::ask_ahead;
use crate::quant::GgmlType;
use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_castsi512_ps,
    _mm512_cvtepi8_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
    _mm512_madd_epi16, _mm512_mul_ps, _mm512_mullo_epi32, _mm512_or_si512, _mm512_set1_epi8, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srai_epi32, _mm512_srli_epi16, _mm512_srli_epi32, _mm512_sub_ps,
};
use std::mem::transmute;

/// Bytes from what is multiplied to what is asked for: for the second cache, and for the first.
const FAR: usize = 8192;
const NEAR: usize = 2304;

/// `x·wᵀ` of the rows of a strip.
pub(super) fn strip<const R: usize>(
    _: Avx512Vnni,
    kind: &Kind,
    strip: &[u8],
    x: &[&[Group]; R],
) -> [[f32; WIDE_STRIP]; R] {
    // SAFETY: that the first argument exists says that the processor has the features the function is compiled for.
    unsafe { strip_of(kind, strip, x) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn strip_of<const R: usize>(kind: &Kind, strip: &[u8], x: &[&[Group]; R]) -> [[f32; WIDE_STRIP]; R] {
    let sums = match kind {
        Kind::Blocks(GgmlType::Q4K) => q4_k(strip, x),
        Kind::Blocks(GgmlType::Q6K) => q6_k(strip, x),
        Kind::Blocks(GgmlType::Q5K) => q5_k(strip, x),
        Kind::Blocks(GgmlType::Q4_0) => pairs::<576, false, R>(strip, x),
        Kind::Blocks(_) => pairs::<704, true, R>(strip, x),
        Kind::FourBit(_, _, table) => four_bit(strip, x, table),
    };
    // SAFETY: both types are 64 bytes, of which every content is valid.
    sums.map(|sums| unsafe { transmute::<__m512, [f32; WIDE_STRIP]>(sums) })
}

/// Asks for what is behind all of these.
#[inline]
fn ask_for_all(bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        ask_ahead::<NEAR>(line, 0, FAR);
    }
}

/// `sums + codes·x`, with four codes of a group for all rows.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply(sums: &mut __m512i, codes: __m512i, x: &Group, word: usize) {
    *sums = _mm512_dpbusd_epi32(*sums, codes, _mm512_set1_epi32(x.four(word)));
}

/// Two numbers, for all rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn two(pair: [i16; 2]) -> __m512i {
    _mm512_set1_epi32(both(pair))
}

/// The sum of two numbers times `by`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn times(pair: [i16; 2], by: i16) -> __m512i {
    _mm512_madd_epi16(two(pair), _mm512_set1_epi16(by))
}

/// `sums + whole·scale`
#[inline]
#[target_feature(enable = "avx512f")]
fn add(sums: __m512, whole: __m512i, scale: __m512) -> __m512 {
    _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale))
}

/// Low and high halves of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halves(bytes: __m512i) -> [__m512i; 2] {
    let low = _mm512_set1_epi8(15);
    [_mm512_and_si512(bytes, low), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low)]
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

/// Scales of a group of a type with minima: of its first half and of its second, and the minima of both side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn scales_and_minima(group: &[u8]) -> ([__m512i; 2], __m512i) {
    let scales = _mm512_cvtepu8_epi16(load32(at(group, 0)));
    let second = _mm512_srli_epi32::<16>(scales);
    let first = _mm512_and_si512(scales, _mm512_set1_epi32(0xFFFF));
    ([first, second], _mm512_cvtepu8_epi16(load32(at(group, 32))))
}

/// `sums + whole·scales - minima·x`, of a group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn less(sums: __m512, whole: __m512i, scales: __m512, mins: __m512i, scales_of_mins: __m512, x: &Group) -> __m512 {
    let scale = _mm512_set1_ps(x.scale);
    let least = _mm512_cvtepi32_ps(_mm512_madd_epi16(mins, two(x.halves)));
    let sums = add(sums, whole, _mm512_mul_ps(scales, scale));
    _mm512_sub_ps(sums, _mm512_mul_ps(least, _mm512_mul_ps(scales_of_mins, scale)))
}

/// The sums of both halves, each with its scales.
#[inline]
#[target_feature(enable = "avx512f")]
fn weighed(halves: [__m512i; 2], scales: [__m512i; 2]) -> __m512i {
    _mm512_add_epi32(_mm512_mullo_epi32(halves[0], scales[0]), _mm512_mullo_epi32(halves[1], scales[1]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q4_k<const R: usize>(strip: &[u8], x: &[&[Group]; R]) -> [__m512; R] {
    let (units, x) = units::<2368, 4, R>(strip, x);
    let mut sums = [_mm512_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        let [scales_of, mins_of] = [_mm512_cvtph_ps(load32(at(unit, 0))), _mm512_cvtph_ps(load32(at(unit, 32)))];
        for g in 0..4 {
            let group: &[u8; 576] = at(unit, 64 + 576 * g);
            ask_for_all(group);
            let mut whole = [[_mm512_setzero_si512(); 2]; R];
            for t in 0..8 {
                let codes = halves(load64(at(group, 64 + 64 * t)));
                for r in 0..R {
                    multiply(&mut whole[r][0], codes[0], &x[r][i][g], t);
                    multiply(&mut whole[r][1], codes[1], &x[r][i][g], 8 + t);
                }
            }
            let (scales, mins) = scales_and_minima(group);
            for r in 0..R {
                sums[r] = less(sums[r], weighed(whole[r], scales), scales_of, mins, mins_of, &x[r][i][g]);
            }
        }
    }
    sums
}

/// Words of codes of five bits: of every number of a word what brings its bit to the fifth place.
macro_rules! fives {
    ($group:ident, $x:expr, $to:ident: $($t:literal $shift:ident $by:literal),*) => {{
        let sixteen = _mm512_set1_epi8(16);
        let fifths = [load64(at($group, 576)), load64(at($group, 640))];
        $({
            let nibbles = halves(load64(at($group, 64 + 64 * $t)));
            for half in 0..2 {
                let codes = _mm512_or_si512(nibbles[half], _mm512_and_si512($shift::<$by>(fifths[half]), sixteen));
                for r in 0..R {
                    multiply(&mut $to[r][half], codes, $x(r), 8 * half + $t);
                }
            }
        })*
    }};
    ($group:ident, $x:expr, $to:ident) => {
        fives!($group, $x, $to:
            0 _mm512_slli_epi16 4, 1 _mm512_slli_epi16 3, 2 _mm512_slli_epi16 2, 3 _mm512_slli_epi16 1,
            4 _mm512_slli_epi16 0, 5 _mm512_srli_epi16 1, 6 _mm512_srli_epi16 2, 7 _mm512_srli_epi16 3)
    };
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q5_k<const R: usize>(strip: &[u8], x: &[&[Group]; R]) -> [__m512; R] {
    let (units, x) = units::<2880, 4, R>(strip, x);
    let mut sums = [_mm512_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        let [scales_of, mins_of] = [_mm512_cvtph_ps(load32(at(unit, 0))), _mm512_cvtph_ps(load32(at(unit, 32)))];
        for g in 0..4 {
            let group: &[u8; 704] = at(unit, 64 + 704 * g);
            ask_for_all(group);
            let mut whole = [[_mm512_setzero_si512(); 2]; R];
            fives!(group, |r: usize| &x[r][i][g], whole);
            let (scales, mins) = scales_and_minima(group);
            for r in 0..R {
                sums[r] = less(sums[r], weighed(whole[r], scales), scales_of, mins, mins_of, &x[r][i][g]);
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn q6_k<const R: usize>(strip: &[u8], x: &[&[Group]; R]) -> [__m512; R] {
    let high = _mm512_set1_epi8(0x30);
    let (units, x) = units::<3392, 4, R>(strip, x);
    let mut sums = [_mm512_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        let scales_of = _mm512_castsi512_ps(load64(at(unit, 0)));
        for g in 0..4 {
            let group: &[u8; 832] = at(unit, 64 + 832 * g);
            ask_for_all(group);
            let mut whole = [_mm512_setzero_si512(); R];
            // The low halves of these words belong to a quarter of the group, the high ones to the quarter two further on.
            for pair in 0..2 {
                let mut quarters = [[_mm512_setzero_si512(); 2]; R];
                for r in 0..R {
                    let of = &x[r][i][g].quarters;
                    quarters[r] = [times(of[pair], -32), times(of[pair + 2], -32)];
                }
                for t in 0..4 {
                    let nibbles = halves(load64(at(group, 64 + 64 * (4 * pair + t))));
                    let bits = load64(at(group, 576 + 64 * t));
                    let bits = if pair == 0 {
                        [_mm512_slli_epi16::<4>(bits), bits]
                    } else {
                        [_mm512_slli_epi16::<2>(bits), _mm512_srli_epi16::<2>(bits)]
                    };
                    for half in 0..2 {
                        let codes = _mm512_or_si512(nibbles[half], _mm512_and_si512(bits[half], high));
                        for r in 0..R {
                            multiply(&mut quarters[r][half], codes, &x[r][i][g], 8 * half + 4 * pair + t);
                        }
                    }
                }
                for half in 0..2 {
                    // Of two quarters in turns.
                    let scales = _mm512_cvtepi8_epi16(load32(at(group, 32 * half)));
                    let scales = if pair == 0 { _mm512_slli_epi32::<16>(scales) } else { scales };
                    let scales = _mm512_srai_epi32::<16>(scales);
                    for r in 0..R {
                        whole[r] = _mm512_add_epi32(whole[r], _mm512_mullo_epi32(quarters[r][half], scales));
                    }
                }
            }
            for r in 0..R {
                sums[r] = add(sums[r], whole[r], _mm512_mul_ps(scales_of, _mm512_set1_ps(x[r][i][g].scale)));
            }
        }
    }
    sums
}

/// Pairs of blocks of 32 elements, whose zero is half of what their codes can be: of `Q5_0`, and of `Q4_0`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pairs<const N: usize, const FIVE: bool, const R: usize>(strip: &[u8], x: &[&[Group]; R]) -> [__m512; R] {
    let (units, x) = units::<N, 1, R>(strip, x);
    let mut sums = [_mm512_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        ask_for_all(unit);
        let scales = [_mm512_cvtph_ps(load32(at(unit, 0))), _mm512_cvtph_ps(load32(at(unit, 32)))];
        let mut whole = [[_mm512_setzero_si512(); 2]; R];
        for r in 0..R {
            let (pairs, zero) = (x[r][i][0].pairs, if FIVE { -16 } else { -8 });
            whole[r] = [times(pairs[0], zero), times(pairs[1], zero)];
        }
        if FIVE {
            fives!(unit, |r: usize| &x[r][i][0], whole);
        } else {
            for t in 0..8 {
                let codes = halves(load64(at(unit, 64 + 64 * t)));
                for r in 0..R {
                    multiply(&mut whole[r][0], codes[0], &x[r][i][0], t);
                    multiply(&mut whole[r][1], codes[1], &x[r][i][0], 8 + t);
                }
            }
        }
        for r in 0..R {
            let scale = _mm512_set1_ps(x[r][i][0].scale);
            for half in 0..2 {
                sums[r] = add(sums[r], whole[r][half], _mm512_mul_ps(scales[half], scale));
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn four_bit<const R: usize>(strip: &[u8], x: &[&[Group]; R], table: &Table) -> [__m512; R] {
    let [low, high] = [&table.low, &table.high].map(|values| _mm512_broadcast_i32x4(load16(values)));
    let (units, x) = units::<576, 1, R>(strip, x);
    let mut sums = [_mm512_setzero_ps(); R];
    for (i, unit) in units.iter().enumerate() {
        ask_for_all(unit);
        let scales = _mm512_castsi512_ps(load64(at(unit, 0)));
        let (mut of_low, mut of_high) = ([_mm512_setzero_si512(); R], [_mm512_setzero_si512(); R]);
        for r in 0..R {
            of_high[r] = times(x[r][i][0].halves, -32);
        }
        for t in 0..8 {
            let codes = halves(load64(at(unit, 64 + 64 * t)));
            for half in 0..2 {
                let values = [_mm512_shuffle_epi8(low, codes[half]), _mm512_shuffle_epi8(high, codes[half])];
                for r in 0..R {
                    multiply(&mut of_low[r], values[0], &x[r][i][0], 8 * half + t);
                    multiply(&mut of_high[r], values[1], &x[r][i][0], 8 * half + t);
                }
            }
        }
        for r in 0..R {
            let whole = _mm512_add_epi32(of_low[r], _mm512_slli_epi32::<4>(of_high[r]));
            let scale = _mm512_set1_ps(x[r][i][0].scale * STEP_OF_VALUES);
            sums[r] = add(sums[r], whole, _mm512_mul_ps(scales, scale));
        }
    }
    sums
}
