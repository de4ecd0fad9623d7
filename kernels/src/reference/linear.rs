//! Products.

use super::dot;
use crate::backend::Write;
use crate::host::{View, ViewMut};

/// `y (=|+=) x·wᵀ + bias`
pub(super) fn linear(mut y: ViewMut, x: View, w: View, bias: Option<&[f32]>, write: Write) {
    for i in 0..x.rows() {
        for (j, y) in y.row(i).iter_mut().enumerate() {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[j]));
            *y = (write.start(*y) + dot(x.row(i), w.row(j)) + bias) as f32;
        }
    }
}

/// `dx (=|+=) dy·w`
pub(super) fn linear_bwd_input(dx: ViewMut, dy: View, w: View, write: Write) {
    gemm(dx, (dy, false), (w, false), dy.cols(), 1.0, write);
}

/// `y (=|+=) alpha·op(a)·op(b)`, where `(x, true)` is `xᵀ`.
pub(super) fn gemm(mut y: ViewMut, a: (View, bool), b: (View, bool), k: usize, alpha: f32, write: Write) {
    let element = |(x, transposed): (View, bool), i, j| f64::from(if transposed { x.at(j, i) } else { x.at(i, j) });
    for i in 0..y.rows() {
        for (j, y) in y.row(i).iter_mut().enumerate() {
            let sum: f64 = (0..k).map(|l| element(a, i, l) * element(b, l, j)).sum();
            *y = (write.start(*y) + f64::from(alpha) * sum) as f32;
        }
    }
}
