//! Panels for the register tile of 256-bit vectors, from what is most often packed: weights stored in bf16 as right
//! operands, and rows of f32 as left ones.
//!
//! Elsewhere a row is decoded into a buffer that is then turned. Here numbers are turned while they are half as wide, and
//! become f32 on their way into the panel, which is most of what packing takes.

use super::simd_avx2::{Avx2, MR, NR, load, store};
use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_castsi128_si256, _mm256_castsi256_ps,
    _mm256_castsi256_si128, _mm256_cvtepu16_epi32, _mm256_extracti128_si256, _mm256_inserti128_si256,
    _mm256_loadu_si256, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_ps,
    _mm256_slli_epi32, _mm256_unpackhi_epi16, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpackhi_ps,
    _mm256_unpacklo_epi16, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_unpacklo_ps,
};

/// Steps of the depth that are turned together.
const STEPS: usize = 8;
/// Bytes of a number as it is stored.
const STORED: usize = 2;
/// Rows ahead of the one that is read, which are asked for.
const AHEAD: usize = 12;

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx2 {
    /// `panel[d·16 + i] = lanes[i][d]`: lanes of bf16 as they are stored, each as long as the panel is deep.
    pub(super) fn turn_stored(self, lanes: &[&[u8]; NR], panel: &mut [f32]) {
        let depth = panel.len() / NR;
        assert!(lanes.iter().all(|lane| lane.len() == STORED * depth), "lanes are as long as the panel is deep");
        // SAFETY: `self` proves the features the function is compiled for.
        let done = unsafe { turn_stored(lanes, panel) };
        for (d, step) in panel.as_chunks_mut::<NR>().0.iter_mut().enumerate().skip(done) {
            *step = lanes.map(|lane| widened(&lane[STORED * d..]));
        }
    }

    /// `panels[p][d·16 + i] = rows[d·stride + 16·p + i]`: rows of bf16, `stride` bytes after each other, of which each is a
    /// step of the depth of all panels.
    pub(super) fn spread_stored(self, rows: &[u8], stride: usize, panels: &mut [&mut [f32]]) {
        for (p, panel) in panels.iter_mut().enumerate() {
            let steps = panel.as_chunks_mut::<NR>().0;
            let rows = &rows[p * STORED * NR..];
            // SAFETY: `self` proves the features the function is compiled for.
            unsafe { spread_stored(rows, stride, steps) };
        }
    }

    /// `panel[d·6 + i] = lanes[i][d]`, each lane as long as the panel is deep.
    pub(super) fn turn_six(self, lanes: &[&[f32]; MR], panel: &mut [f32]) {
        let depth = panel.len() / MR;
        assert!(lanes.iter().all(|lane| lane.len() == depth), "lanes are as long as the panel is deep");
        // SAFETY: `self` proves the features the function is compiled for.
        let whole = unsafe { turn_six(lanes, panel) };
        for (d, step) in panel.as_chunks_mut::<MR>().0.iter_mut().enumerate().skip(whole) {
            *step = lanes.map(|lane| lane[d]);
        }
    }
}

/// The first number of what is stored.
fn widened(stored: &[u8]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes([stored[0], stored[1]])) << 16)
}

/// Eight numbers of each of two lanes, one in each half.
#[inline]
#[target_feature(enable = "avx2")]
fn load_both(low: &[u8; STORED * STEPS], high: &[u8; STORED * STEPS]) -> __m256i {
    // SAFETY: the references cover the 16 bytes that each unaligned load reads.
    let (low, high) = unsafe { (_mm_loadu_si128(low.as_ptr().cast()), _mm_loadu_si128(high.as_ptr().cast())) };
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
}

/// Squares of lanes and eight steps; how many steps are done. Lanes that lie in one half of the vectors change with those
/// of the other: what becomes f32 together belongs together.
#[target_feature(enable = "avx2")]
fn turn_stored(lanes: &[&[u8]; NR], panel: &mut [f32]) -> usize {
    // Vector i has lane `FIRST[i]` in its lower half, and the lane four behind it in its upper one.
    const FIRST: [usize; 8] = [0, 1, 2, 3, 8, 9, 10, 11];
    let zero = _mm256_setzero_si256();
    let squares = panel.as_chunks_mut::<{ STEPS * NR }>().0;
    for (at, square) in squares.iter_mut().enumerate() {
        let mut x = [zero; 8];
        for (x, first) in x.iter_mut().zip(FIRST) {
            let stored = |lane: usize| lanes[lane][STORED * STEPS * at..].first_chunk().expect("eight steps remain");
            *x = load_both(stored(first), stored(first + 4));
        }
        let mut pairs = [zero; 8];
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_epi16(x[2 * i], x[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_epi16(x[2 * i], x[2 * i + 1]);
        }
        // Of four lanes: steps 0 and 1, 2 and 3, 4 and 5, 6 and 7.
        let mut fours = [[zero; 4]; 2];
        for (fours, pairs) in fours.iter_mut().zip(pairs.as_chunks::<4>().0) {
            fours[0] = _mm256_unpacklo_epi32(pairs[0], pairs[2]);
            fours[1] = _mm256_unpackhi_epi32(pairs[0], pairs[2]);
            fours[2] = _mm256_unpacklo_epi32(pairs[1], pairs[3]);
            fours[3] = _mm256_unpackhi_epi32(pairs[1], pairs[3]);
        }
        for (i, steps) in square.as_chunks_mut::<{ 2 * NR }>().0.iter_mut().enumerate() {
            // Lanes 0 to 3 and 8 to 11 below, 4 to 7 and 12 to 15 above.
            let even = _mm256_unpacklo_epi64(fours[0][i], fours[1][i]);
            let odd = _mm256_unpackhi_epi64(fours[0][i], fours[1][i]);
            let halves = steps.as_chunks_mut::<8>().0;
            for (j, step) in [even, odd].into_iter().enumerate() {
                store(&mut halves[2 * j], _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, step)));
                store(&mut halves[2 * j + 1], _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, step)));
            }
        }
    }
    STEPS * squares.len()
}

#[target_feature(enable = "avx2")]
fn spread_stored(rows: &[u8], stride: usize, steps: &mut [[f32; NR]]) {
    for (d, step) in steps.iter_mut().enumerate() {
        let row: &[u8; STORED * NR] = rows[d * stride..].first_chunk().expect("a row for each step");
        // A hint may name any place.
        _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(AHEAD * stride).cast());
        // SAFETY: the reference covers the 32 bytes that the unaligned load reads.
        let row = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
        let low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(row));
        let high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(row));
        let halves = step.as_chunks_mut::<8>().0;
        store(&mut halves[0], _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)));
        store(&mut halves[1], _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)));
    }
}

/// As the squares of `simd_avx2.rs`, of which two rows are nothing; how many steps are done. A step is written with two
/// numbers more than it has, over which the next one is written: the last one has no next.
#[target_feature(enable = "avx2")]
fn turn_six(lanes: &[&[f32]; MR], panel: &mut [f32]) -> usize {
    let depth = panel.len() / MR;
    let whole = depth.saturating_sub(1) / STEPS * STEPS;
    for d in (0..whole).step_by(STEPS) {
        let mut r = [_mm256_setzero_ps(); MR];
        for (r, lane) in r.iter_mut().zip(lanes) {
            *r = load(lane[d..].first_chunk().expect("eight steps remain"));
        }
        let low = [0, 2, 4].map(|i| _mm256_unpacklo_ps(r[i], r[i + 1]));
        let high = [0, 2, 4].map(|i| _mm256_unpackhi_ps(r[i], r[i + 1]));
        // Steps 0 and 4, 1 and 5, 2 and 6, 3 and 7: of lanes 0 to 3, and of the other two.
        let fours = [
            _mm256_shuffle_ps::<0x44>(low[0], low[1]),
            _mm256_shuffle_ps::<0xEE>(low[0], low[1]),
            _mm256_shuffle_ps::<0x44>(high[0], high[1]),
            _mm256_shuffle_ps::<0xEE>(high[0], high[1]),
        ];
        let twos =
            [low[2], _mm256_shuffle_ps::<0xEE>(low[2], low[2]), high[2], _mm256_shuffle_ps::<0xEE>(high[2], high[2])];
        let steps: &mut [f32; STEPS * MR + 2] = panel[d * MR..].first_chunk_mut().expect("nine steps remain");
        for i in 0..4 {
            let step = _mm256_permute2f128_ps::<0x20>(fours[i], twos[i]);
            store(steps[i * MR..].first_chunk_mut().expect("eight numbers from each step on"), step);
        }
        for i in 0..4 {
            let step = _mm256_permute2f128_ps::<0x31>(fours[i], twos[i]);
            store(steps[(i + 4) * MR..].first_chunk_mut().expect("eight numbers from each step on"), step);
        }
    }
    whole
}
