//! Rows of a table by token.

use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::Isa;
use super::source::Source;
use crate::host::{View, ViewMut};

/// Columns of one task of the backward.
const COLS: usize = 256;

/// `y[i] = scale·table[tokens[i]]`
pub(super) fn embed(pool: &Pool, isa: Isa, y: ViewMut, tokens: &[u32], table: Source, scale: f32) {
    let cols = y.cols();
    pool.each(y.blocks(rows_per_task(cols)), |(first, y)| {
        let mut buffer = pool.scratch(cols);
        for (y, &token) in y.into_rows().zip(&tokens[first..]) {
            let row = table.read(isa, token as usize, 0..cols, &mut buffer);
            y.iter_mut().zip(row).for_each(|(y, &t)| *y = scale * t);
        }
    });
}

/// `dtable[tokens[i]] += scale·dy[i]`: a task owns some columns of the whole table, so rows add up in order.
pub(super) fn embed_bwd(pool: &Pool, dtable: ViewMut, dy: View, tokens: &[u32], scale: f32) {
    let rows = dtable.rows();
    pool.each(dtable.tiles(std::iter::once(0..rows), COLS), |mut tile| {
        for (i, &token) in tokens.iter().enumerate() {
            let dt = &mut *tile.rows[token as usize];
            let dy = &dy.row(i)[tile.col..][..dt.len()];
            dt.iter_mut().zip(dy).for_each(|(dt, &dy)| *dt += scale * dy);
        }
    });
}
