//! Rotary embedding, half-split.

use crate::backend::{RopeParams, Turn};
use crate::host::{View, ViewMut};

/// `(a, b) = (a·cos - b·sin, b·cos + a·sin)` for the pairs `(x[i], x[i + rotary/2])` of every head.
pub(super) fn rope(mut x: ViewMut, table: View, positions: &[u32], params: &RopeParams, turn: Turn) {
    let half = params.rotary_dim / 2;
    for (i, &position) in positions.iter().enumerate() {
        let (cos, sin) = table.row(position as usize).split_at(half);
        for head in x.row(i).chunks_exact_mut(params.head_dim) {
            for j in 0..half {
                let (a, b) = (f64::from(head[j]), f64::from(head[j + half]));
                let (c, s) = (f64::from(cos[j]), f64::from(sin[j]));
                let s = if turn == Turn::Forward { s } else { -s };
                head[j] = (a * c - b * s) as f32;
                head[j + half] = (b * c + a * s) as f32;
            }
        }
    }
}
