//! Scales and sums by row.

use super::columns::with_rows;
use super::dots::dot;
use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::Isa;
use super::sink::Sink;
use super::source::Source;
use crate::backend::Write;

/// `y (=|+=) s∘x`
pub(super) fn scale_rows(pool: &Pool, isa: Isa, y: Sink, x: Source, s: &[f32], write: Write) {
    with_rows(pool, isa, y, x, write, |i, y, x| {
        let (elements, s) = (y.iter_mut().zip(x), s[i]);
        match write {
            Write::Set => elements.for_each(|(y, x)| *y = x * s),
            Write::Add => elements.for_each(|(y, x)| *y += x * s),
        }
    });
}

/// `out[i] = Σ_columns a[i, ·]·b[i, ·]`
pub(super) fn row_dots(pool: &Pool, isa: Isa, out: &mut [f32], a: Source, b: Source) {
    let step = rows_per_task(a.cols()).max(1);
    pool.each(out.chunks_mut(step).enumerate().collect(), |(block, out)| {
        let (mut of_a, mut of_b) = (pool.scratch(a.room()), pool.scratch(b.room()));
        for (i, out) in (block * step..).zip(out) {
            *out = dot(isa, a.row(isa, i, &mut of_a), b.row(isa, i, &mut of_b));
        }
    });
}
