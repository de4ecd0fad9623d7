//! Sums and scales by row and column.

use super::dot;
use crate::backend::Write;
use crate::host::{View, ViewMut};

/// `y (=|+=) x`
pub(super) fn copy(mut y: ViewMut, x: View, write: Write) {
    for i in 0..x.rows() {
        for (y, &x) in y.row(i).iter_mut().zip(x.row(i)) {
            *y = if write == Write::Add { *y + x } else { x };
        }
    }
}

/// `out[j] += Σ_rows dy[·, j]`
pub(super) fn sum_rows(out: &mut [f32], dy: View) {
    for (j, out) in out.iter_mut().enumerate() {
        let sum: f64 = (0..dy.rows()).map(|i| f64::from(dy.at(i, j))).sum();
        *out = (f64::from(*out) + sum) as f32;
    }
}

/// `y (=|+=) x∘s`
pub(super) fn scale_columns(mut y: ViewMut, x: View, s: &[f32], write: Write) {
    for i in 0..x.rows() {
        for ((y, &x), &s) in y.row(i).iter_mut().zip(x.row(i)).zip(s) {
            *y = (write.start(*y) + f64::from(x) * f64::from(s)) as f32;
        }
    }
}

/// `out[j] += Σ_rows a[·, j]·b[·, j]`
pub(super) fn column_dots(out: &mut [f32], a: View, b: View) {
    for (j, out) in out.iter_mut().enumerate() {
        let sum: f64 = (0..a.rows()).map(|i| f64::from(a.at(i, j)) * f64::from(b.at(i, j))).sum();
        *out = (f64::from(*out) + sum) as f32;
    }
}

/// `out[j] = Σ_k w[j, k]²`
pub(super) fn row_squares(out: &mut [f32], w: View) {
    for (j, out) in out.iter_mut().enumerate() {
        *out = dot(w.row(j), w.row(j)) as f32;
    }
}

/// `out[j] = √(squares[j] + 2s·Σ_k b[j,k]·projected[k,j] + s²·b[j]·gram·b[j]ᵀ)`
pub(super) fn dora_norm(out: &mut [f32], squares: &[f32], projected: View, gram: View, b: View, s: f32) {
    let s = f64::from(s);
    for (j, out) in out.iter_mut().enumerate() {
        let row = b.row(j);
        let cross: f64 = row.iter().enumerate().map(|(k, &b)| f64::from(b) * f64::from(projected.at(k, j))).sum();
        let own: f64 = row.iter().enumerate().map(|(k, &b)| f64::from(b) * dot(gram.row(k), row)).sum();
        // Rounding can leave a tiny negative number where the adapter cancels the row.
        *out = (f64::from(squares[j]) + 2.0 * s * cross + s * s * own).max(0.0).sqrt() as f32;
    }
}
