//! Rows of a table by token.

use crate::host::{View, ViewMut};

/// `y[i] = scale·table[tokens[i]]`
pub(super) fn embed(mut y: ViewMut, tokens: &[u32], table: View, scale: f32) {
    for (i, &token) in tokens.iter().enumerate() {
        for (y, &t) in y.row(i).iter_mut().zip(table.row(token as usize)) {
            *y = scale * t;
        }
    }
}

/// `dtable[tokens[i]] += scale·dy[i]`
pub(super) fn embed_bwd(mut dtable: ViewMut, dy: View, tokens: &[u32], scale: f32) {
    for (i, &token) in tokens.iter().enumerate() {
        for (dt, &dy) in dtable.row(token as usize).iter_mut().zip(dy.row(i)) {
            *dt += scale * dy;
        }
    }
}
