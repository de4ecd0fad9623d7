//! Squares of sixteen words turned with 512-bit vectors; panels of pairs of weights that are stored in bf16.

use super::packed::SQUARE;
use super::simd_avx512::{LANES, NR, load, store};
use super::simd_avx512_vnni::{LINE, at, load32};
use super::simd_dispatch::ask_ahead;
use std::arch::x86_64::{
    __m128, __m512, __m512d, _MM_HINT_T0, _MM_HINT_T1, _mm_loadu_ps, _mm_prefetch, _mm512_and_si512,
    _mm512_broadcast_f32x4, _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps_si512, _mm512_castsi512_pd,
    _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_mask_broadcast_f32x4, _mm512_or_si512, _mm512_set1_epi64,
    _mm512_shuffle_f64x2, _mm512_slli_epi32, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps, _mm512_xor_si512,
};

/// Bytes of a word, which is a pair.
const WORD: usize = 4;
/// Bytes of the same lane that are asked for while others are turned.
const NEAR: usize = 4 * LINE;
/// Pairs of rows ahead of those that are spread, which are asked for: for the first cache, and for the second.
const ROWS_AHEAD: (usize, usize) = (4, 16);

/// `panel[d·width + at + i] = rows[i][d]` for rows of equal length.
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(rows: &[&[f32]; LANES], width: usize, at: usize, panel: &mut [f32]) {
    let n = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let whole = n - n % LANES;
    for d in (0..whole).step_by(LANES) {
        for quarter in (d..d + LANES).step_by(4) {
            let four = |row: usize| rows[row][quarter..].first_chunk().expect("four columns remain");
            for (i, column) in columns(four).into_iter().enumerate() {
                let step = &mut panel[(quarter + i) * width + at..];
                store(step.first_chunk_mut().expect("sixteen lanes fit in the panel"), column);
            }
        }
    }
    for (d, step) in (whole..n).zip(panel.chunks_exact_mut(width).skip(whole)) {
        for (to, row) in step[at..].iter_mut().zip(rows) {
            *to = row[d];
        }
    }
}

/// `panel[d·32 + i]` is pair `d` of `lanes[i]`: bf16 as it is stored, an even number of each.
#[target_feature(enable = "avx512f")]
pub(super) fn turn_stored(lanes: &[&[u8]; NR], panel: &mut [f32]) {
    let n = panel.len() / NR;
    let whole = n - n % LANES;
    // A row of the weight behind those of the panel, which the next panel begins with.
    let next = lanes[1].as_ptr().addr().wrapping_sub(lanes[0].as_ptr().addr()).wrapping_mul(NR);
    for d in (0..whole).step_by(LANES) {
        for lane in lanes {
            ask_ahead::<NEAR>(lane, WORD * d, next);
        }
        for quarter in (d..d + LANES).step_by(4) {
            for (half, lanes) in lanes.as_chunks::<LANES>().0.iter().enumerate() {
                let four = |row: usize| lanes[row][WORD * quarter..].first_chunk::<16>().expect("four pairs remain");
                for (i, column) in columns(four).into_iter().enumerate() {
                    let step = &mut panel[(quarter + i) * NR + half * LANES..];
                    store(step.first_chunk_mut().expect("sixteen lanes fit in the panel"), column);
                }
            }
        }
    }
    for (d, step) in (whole..n).zip(panel.as_chunks_mut::<NR>().0.iter_mut().skip(whole)) {
        for (to, lane) in step.iter_mut().zip(lanes) {
            *to = f32::from_le_bytes(*at(lane, WORD * d));
        }
    }
}

/// `panels[p][d·32 + i]` is element `32·p + i` of rows `2·d` and `2·d + 1`, bf16 as it is stored: rows lie `stride` bytes
/// after each other, and each is a step of the depth of all panels.
#[target_feature(enable = "avx512f")]
pub(super) fn spread_stored(rows: &[u8], stride: usize, panels: &mut [&mut [f32]]) {
    let pairs = panels.first().map_or(0, |panel| panel.len() / NR);
    for d in 0..pairs {
        let (low, high) = (&rows[2 * d * stride..], &rows[(2 * d + 1) * stride..]);
        for (p, panel) in panels.iter_mut().enumerate() {
            let place = 2 * NR * p;
            for row in [low, high] {
                let row = row.as_ptr().wrapping_add(place);
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(2 * ROWS_AHEAD.0 * stride).cast());
                _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(2 * ROWS_AHEAD.1 * stride).cast());
            }
            for (half, step) in panel[d * NR..][..NR].as_chunks_mut().0.iter_mut().enumerate() {
                let place = place + 2 * LANES * half;
                let low = _mm512_cvtepu16_epi32(load32(at(low, place)));
                let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load32(at(high, place))));
                store(step, _mm512_castsi512_ps(_mm512_or_si512(low, high)));
            }
        }
    }
}

/// Pairs of two columns of 32 rows become pairs of two rows of 32 columns: `out[i·32 + c]` is element `c` of rows `2·i` and
/// `2·i + 1`, `square[d·32 + r]` elements `2·d` and `2·d + 1` of row `r`.
#[target_feature(enable = "avx512f")]
pub(super) fn turn_pairs(square: &[f32; SQUARE], out: &mut [f32; SQUARE]) {
    let (words, out) = (square.as_chunks::<LANES>().0, out.as_chunks_mut::<LANES>().0);
    // Two words are four numbers, of which the inner ones change places; then such fours, eight times eight of them.
    for (down, across) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let of = |i: usize| inner_swapped(load(&words[2 * (LANES / 2 * down + i) + across]));
        let columns = turn_eight(&[of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7)]);
        for (i, column) in columns.into_iter().enumerate() {
            store(&mut out[2 * (LANES / 2 * across + i) + down], _mm512_castpd_ps(column));
        }
    }
}

/// The second and the third of every four halves of words change places.
#[inline]
#[target_feature(enable = "avx512f")]
fn inner_swapped(x: __m512) -> __m512d {
    let x = _mm512_castps_si512(x);
    let differ = _mm512_and_si512(_mm512_xor_si512(x, _mm512_srli_epi64::<16>(x)), _mm512_set1_epi64(0xFFFF_0000));
    _mm512_castsi512_pd(_mm512_xor_si512(_mm512_xor_si512(x, differ), _mm512_slli_epi64::<16>(differ)))
}

/// Eight times eight numbers of 64 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn_eight(r: &[__m512d; 8]) -> [__m512d; 8] {
    let even = turn_quarters([
        _mm512_unpacklo_pd(r[0], r[1]),
        _mm512_unpacklo_pd(r[2], r[3]),
        _mm512_unpacklo_pd(r[4], r[5]),
        _mm512_unpacklo_pd(r[6], r[7]),
    ]);
    let odd = turn_quarters([
        _mm512_unpackhi_pd(r[0], r[1]),
        _mm512_unpackhi_pd(r[2], r[3]),
        _mm512_unpackhi_pd(r[4], r[5]),
        _mm512_unpackhi_pd(r[6], r[7]),
    ]);
    [even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]]
}

/// Four times four quarters of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn_quarters([a, b, c, d]: [__m512d; 4]) -> [__m512d; 4] {
    let (front, front2) = (_mm512_shuffle_f64x2::<0x44>(a, b), _mm512_shuffle_f64x2::<0x44>(c, d));
    let (back, back2) = (_mm512_shuffle_f64x2::<0xEE>(a, b), _mm512_shuffle_f64x2::<0xEE>(c, d));
    [
        _mm512_shuffle_f64x2::<0x88>(front, front2),
        _mm512_shuffle_f64x2::<0xDD>(front, front2),
        _mm512_shuffle_f64x2::<0x88>(back, back2),
        _mm512_shuffle_f64x2::<0xDD>(back, back2),
    ]
}

/// Four words of a row.
trait Four {
    fn load(&self) -> __m128;
}

impl Four for [f32; 4] {
    #[inline(always)]
    fn load(&self) -> __m128 {
        // SAFETY: the reference covers the four floats that an unaligned load reads.
        unsafe { _mm_loadu_ps(self.as_ptr()) }
    }
}

impl Four for [u8; 16] {
    #[inline(always)]
    fn load(&self) -> __m128 {
        // SAFETY: the reference covers the sixteen bytes that an unaligned load reads.
        unsafe { _mm_loadu_ps(self.as_ptr().cast()) }
    }
}

/// Four columns of sixteen rows, of which `row` has the words.
#[inline]
#[target_feature(enable = "avx512f")]
fn columns<'a, T: Four + 'a>(row: impl Fn(usize) -> &'a T) -> [__m512; 4] {
    let four = |i: usize| row(i).load();
    // Of rows i, i + 4, i + 8 and i + 12, a quarter each: what is left to do stays within quarters.
    let of = |i: usize| {
        let x = _mm512_broadcast_f32x4(four(i));
        let x = _mm512_mask_broadcast_f32x4(x, 0x00F0, four(i + 4));
        let x = _mm512_mask_broadcast_f32x4(x, 0x0F00, four(i + 8));
        _mm512_mask_broadcast_f32x4(x, 0xF000, four(i + 12))
    };
    let [a, b, c, d] = [of(0), of(1), of(2), of(3)];
    let [low, high] = [_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(a, b))];
    let [low2, high2] = [_mm512_castps_pd(_mm512_unpacklo_ps(c, d)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d))];
    [
        _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2)),
    ]
}

#[cfg(test)]
mod tests {
    use crate::cpu::path::Path;
    use crate::cpu::simd_dispatch::Isa;

    #[test]
    fn stored_rows_become_panels_of_pairs() {
        let Some(Isa::Avx512(isa)) = Path::Avx512.isa() else { return };
        // Pairs of the depth, and bytes between rows.
        for (pairs, stride) in [(1, 64), (3, 100), (16, 64), (37, 150), (64, 256)] {
            let bytes: Vec<u8> = (0..64 * 2 * stride + 4 * pairs).map(|i| (i * 7 + i / 256) as u8).collect();
            let word = |low: usize, high: usize| {
                u32::from_le_bytes([bytes[low], bytes[low + 1], bytes[high], bytes[high + 1]])
            };
            let mut panel = vec![-1.0; pairs * 32];
            let lanes: [&[u8]; 32] = std::array::from_fn(|i| &bytes[i * stride..][..4 * pairs]);
            isa.turn_stored(&lanes, &mut panel);
            for (j, x) in panel.iter().enumerate() {
                let at = j % 32 * stride + j / 32 * 4;
                assert_eq!(x.to_bits(), word(at, at + 2), "{pairs} pairs, {stride}: {j}");
            }
            let rows: Vec<u8> = (0..2 * pairs * stride + 192).map(|i| (i * 5 + i / 256) as u8).collect();
            let mut panels = vec![vec![-1.0; pairs * 32]; if stride < 192 { 1 } else { 3 }];
            let mut of: Vec<&mut [f32]> = panels.iter_mut().map(Vec::as_mut_slice).collect();
            isa.spread_stored(&rows, stride, &mut of);
            for (p, panel) in panels.iter().enumerate() {
                for (j, x) in panel.iter().enumerate() {
                    let low = 2 * (j / 32) * stride + 2 * (32 * p + j % 32);
                    let want = [rows[low], rows[low + 1], rows[low + stride], rows[low + stride + 1]];
                    assert_eq!(x.to_bits(), u32::from_le_bytes(want), "{pairs} pairs, {stride}: panel {p}, {j}");
                }
            }
        }
    }

    #[test]
    fn sixteen_rows_become_columns() {
        let Some(Isa::Avx512(isa)) = Path::Avx512.isa() else { return };
        for (n, width, at) in [(0, 16, 0), (1, 16, 0), (15, 32, 16), (16, 32, 0), (33, 32, 16), (128, 20, 3)] {
            let rows: Vec<Vec<f32>> = (0..16).map(|i| (0..n).map(|d| (i * 1000 + d) as f32).collect()).collect();
            let rows: [&[f32]; 16] = std::array::from_fn(|i| rows[i].as_slice());
            let mut panel = vec![-1.0; n * width];
            isa.transpose(&rows, width, at, &mut panel);
            for (j, x) in panel.iter().enumerate() {
                let (d, lane) = (j / width, j % width);
                let want = if (at..at + 16).contains(&lane) { ((lane - at) * 1000 + d) as f32 } else { -1.0 };
                assert_eq!(*x, want, "{n} of width {width} at {at}: step {d}, lane {lane}");
            }
        }
    }
}
