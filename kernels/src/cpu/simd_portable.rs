//! The register tile and the table look-up for any processor: plain loops the compiler vectorises.

/// Rows and columns of the tile, 8 of 16 registers of four.
pub(super) const MR: usize = 4;
pub(super) const NR: usize = 8;

/// `sums[r, c] = Σ_d a[d, r]·b[d, c]`
pub(super) fn tile(a: &[[f32; MR]], b: &[[f32; NR]], sums: &mut [[f32; NR]; MR]) {
    let mut acc = [[0.0; NR]; MR];
    for (a, b) in a.iter().zip(b) {
        for (acc, &a) in acc.iter_mut().zip(a) {
            for (acc, &b) in acc.iter_mut().zip(b) {
                *acc += a * b;
            }
        }
    }
    *sums = acc;
}

/// `panel[d·width + at + i] = rows[i][d]`
pub(super) fn transpose(rows: &[&[f32]; 8], width: usize, at: usize, panel: &mut [f32]) {
    let n = rows[0].len();
    let rows = rows.map(|row| &row[..n]);
    for (d, step) in panel.chunks_exact_mut(width).take(n).enumerate() {
        let eight: &mut [f32; 8] = step[at..].first_chunk_mut().expect("eight lanes fit in the panel");
        *eight = rows.map(|row| row[d]);
    }
}

/// A word for each byte of two codes: the first's value in the low half, the second's in the high one.
pub(super) fn look_up_pairs(codes: &[u8], low: &[f32; 16], high: &[f32; 16], out: &mut [f32]) {
    for (word, &byte) in out.iter_mut().zip(codes) {
        let (first, second) = (low[usize::from(byte >> 4)], high[usize::from(byte & 15)]);
        *word = f32::from_bits(first.to_bits() | second.to_bits());
    }
}

/// `out[i] = table[code i]`, two codes a byte, the first in the high nibble.
pub(super) fn look_up(codes: &[u8], table: &[f32; 16], out: &mut [f32]) {
    for (pair, &byte) in out.chunks_mut(2).zip(codes) {
        pair[0] = table[usize::from(byte >> 4)];
        if let Some(second) = pair.get_mut(1) {
            *second = table[usize::from(byte & 15)];
        }
    }
}
