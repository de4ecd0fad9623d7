//! Squares of sixteen words turned with 512-bit vectors.

use super::simd_avx512::{LANES, store};
use std::arch::x86_64::{
    __m128, __m512, _mm_loadu_ps, _mm512_broadcast_f32x4, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_mask_broadcast_f32x4, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

/// `panel[d·width + at + i] = rows[i][d]` for rows of equal length.
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(rows: &[&[f32]; LANES], width: usize, at: usize, panel: &mut [f32]) {
    let n = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let whole = n - n % LANES;
    for d in (0..whole).step_by(LANES) {
        for quarter in (d..d + LANES).step_by(4) {
            for (i, column) in columns(rows, quarter).into_iter().enumerate() {
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

/// Columns `d..d + 4` of sixteen rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn columns(rows: &[&[f32]; LANES], d: usize) -> [__m512; 4] {
    let four = |row: usize| -> __m128 {
        let from: &[f32; 4] = rows[row][d..].first_chunk().expect("four columns remain");
        // SAFETY: the reference covers the four floats that an unaligned load reads.
        unsafe { _mm_loadu_ps(from.as_ptr()) }
    };
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
