//! Scales and sums by row.

use super::columns::each_row;
use super::dots::dot;
use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::Isa;
use crate::backend::Write;
use crate::host::{View, ViewMut};

/// `y (=|+=) s∘x`
pub(super) fn scale_rows(pool: &Pool, y: ViewMut, x: View, s: &[f32], write: Write) {
    each_row(pool, y, |i, y| {
        let (elements, s) = (y.iter_mut().zip(x.row(i)), s[i]);
        match write {
            Write::Set => elements.for_each(|(y, x)| *y = x * s),
            Write::Add => elements.for_each(|(y, x)| *y += x * s),
        }
    });
}

/// `out[i] = Σ_columns a[i, ·]·b[i, ·]`
pub(super) fn row_dots(pool: &Pool, isa: Isa, out: &mut [f32], a: View, b: View) {
    let step = rows_per_task(a.cols()).max(1);
    pool.each(out.chunks_mut(step).enumerate().collect(), |(block, out)| {
        for (i, out) in (block * step..).zip(out) {
            *out = dot(isa, a.row(i), b.row(i));
        }
    });
}
