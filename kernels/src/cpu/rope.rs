//! Rotary embedding, half-split.

use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::{Isa, vectorized};
use super::sink::Sink;
use crate::backend::{RopeParams, Turn, Write};
use crate::host::View;

/// `(a, b) = (a·cos - b·sin, b·cos + a·sin)` for the pairs `(x[i], x[i + rotary/2])` of every head.
pub(super) fn rope(pool: &Pool, isa: Isa, x: Sink, table: View, positions: &[u32], params: &RopeParams, turn: Turn) {
    let step = rows_per_task(x.cols());
    pool.each(x.blocks(step), |(first, x)| {
        let mut buffer = pool.scratch(x.room());
        for (row, &position) in x.into_rows().into_iter().zip(&positions[first..]) {
            let table = table.row(position as usize);
            row.write(isa, Write::Add, &mut buffer, |row| turn_row(isa, row, table, params, turn));
        }
    });
}

vectorized! {
    fn turn_row(row: &mut [f32], table: &[f32], params: &RopeParams, turn: Turn) {
        let half = params.rotary_dim / 2;
        let (cos, sin) = table.split_at(half);
        let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
        for head in row.chunks_exact_mut(params.head_dim) {
            let (a, b) = head[..2 * half].split_at_mut(half);
            for (((a, b), &c), &s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                let s = s * sign;
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    }
}
