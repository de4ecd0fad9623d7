//! Scales and sums by row.

use super::dot;
use crate::backend::Write;
use crate::host::{View, ViewMut};

/// `y (=|+=) s∘x`
pub(super) fn scale_rows(mut y: ViewMut, x: View, s: &[f32], write: Write) {
    for (i, &s) in s.iter().enumerate() {
        for (y, &x) in y.row(i).iter_mut().zip(x.row(i)) {
            *y = (write.start(*y) + f64::from(x) * f64::from(s)) as f32;
        }
    }
}

/// `out[i] = Σ_columns a[i, ·]·b[i, ·]`
pub(super) fn row_dots(out: &mut [f32], a: View, b: View) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = dot(a.row(i), b.row(i)) as f32;
    }
}
