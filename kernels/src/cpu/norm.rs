//! RMS norm of groups of columns.

use super::attention::total;
use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::{Isa, vectorized};
use super::sink::Sink;
use super::source::Source;
use crate::backend::{NormParams, Write};
use crate::host::{View, ViewMut};
use std::ops::Range;

/// Independent sums of one group.
const LANES: usize = 32;
/// Most partial sums of a gain's gradient.
const PARTS: usize = 32;

/// `Σ a·b` of one group in a fixed order.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    total(&lanes)
}

/// `rstd = 1/√(mean(x²) + eps)`, `y = x·rstd·(offset + w)`
pub(super) fn rms_norm(pool: &Pool, isa: Isa, y: Sink, rstd: ViewMut, x: Source, w: &[f32], params: NormParams) {
    let step = rows_per_task(x.cols());
    let tasks = y.blocks(step).into_iter().zip(rstd.blocks(step)).collect();
    pool.each(tasks, |((first, y), (_, rstd))| {
        let (mut to, mut from) = (pool.scratch(y.room()), pool.scratch(x.room()));
        for (i, (y, rstd)) in y.into_rows().into_iter().zip(rstd.into_rows()).enumerate() {
            let x = x.row(isa, first + i, &mut from);
            y.write(isa, Write::Set, &mut to, |y| forward_row(isa, y, rstd, x, w, params));
        }
    });
}

/// Rows under a norm of which `rstd` is known.
#[derive(Clone, Copy)]
pub(super) struct NormedRows<'a> {
    /// `[rows, n]`.
    pub(super) x: View<'a>,
    /// `[rows, 1]`.
    pub(super) rstd: View<'a>,
    pub(super) w: &'a [f32],
    pub(super) offset: f32,
}

impl NormedRows<'_> {
    /// Rows `row..row + rows`.
    pub(super) fn rows_from(self, row: usize, rows: usize) -> Self {
        Self { x: self.x.rows_from(row, rows), rstd: self.rstd.rows_from(row, rows), ..self }
    }
}

/// `rstd` of whole rows: what [`rms_norm`] sets.
pub(super) fn rstd_of(pool: &Pool, isa: Isa, rstd: ViewMut, x: View, eps: f32) {
    pool.each(rstd.blocks(rows_per_task(x.cols())), |(first, rstd)| {
        for (i, rstd) in rstd.into_rows().enumerate() {
            let x = x.row(first + i);
            rstd[0] = root(isa, x, eps);
        }
    });
}

vectorized! {
    /// `1/√(mean(x²) + eps)`
    fn root(x: &[f32], eps: f32) -> f32 {
        1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
    }
}

vectorized! {
    /// Part of row `row`: the bits that [`rms_norm`] gives there.
    pub(super) fn read(out: &mut [f32], of: &NormedRows, row: usize, cols: Range<usize>) {
        let (x, w, rstd) = (&of.x.row(row)[cols.clone()], &of.w[cols], of.rstd.at(row, 0));
        for ((y, &x), &w) in out.iter_mut().zip(x).zip(w) {
            *y = x * rstd * (of.offset + w);
        }
    }
}

vectorized! {
    fn forward_row(y: &mut [f32], rstd: &mut [f32], x: &[f32], w: &[f32], params: NormParams) {
        let n = w.len();
        for ((y, x), rstd) in y.chunks_exact_mut(n).zip(x.chunks_exact(n)).zip(rstd) {
            *rstd = 1.0 / (dot(x, x) / n as f32 + params.eps).sqrt();
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                *y = x * *rstd * (params.offset + w);
            }
        }
    }
}

/// With `x̂ = x·rstd` and `g = dy·(offset + w)`: `dx = rstd·(g - x̂·mean(g·x̂))`, `dw += Σ_rows dy·x̂`.
///
/// The rows are cut into parts by their number alone; the partial sums of `dw` are added in order.
pub(super) fn rms_norm_bwd(
    pool: &Pool,
    isa: Isa,
    dx: Sink,
    dw: Option<&mut [f32]>,
    dy: Source,
    x: Source,
    w: &[f32],
    rstd: View,
    params: NormParams,
    write: Write,
) {
    let n = w.len();
    let step = x.rows().div_ceil(PARTS).max(rows_per_task(x.cols()).min(16)).max(1);
    let parts = x.rows().div_ceil(step);
    let mut sums = pool.scratch(parts * n);
    let tasks = dx.blocks(step).into_iter().zip(sums.chunks_exact_mut(n)).collect();
    pool.each(tasks, |((first, dx), sums)| {
        let mut g = pool.scratch(n);
        let mut buffers = [dx.room(), dy.room(), x.room()].map(|room| pool.scratch(room));
        let [to, of_dy, of_x] = &mut buffers;
        sums.fill(0.0);
        for (i, dx) in dx.into_rows().into_iter().enumerate() {
            let row = first + i;
            let (dy, x) = (dy.row(isa, row, of_dy), x.row(isa, row, of_x));
            dx.write(isa, write, to, |dx| {
                backward_row(isa, dx, sums, &mut g, dy, x, w, rstd.row(row), params.offset, write);
            });
        }
    });
    if let Some(dw) = dw {
        for part in sums.chunks_exact(n) {
            dw.iter_mut().zip(part).for_each(|(dw, part)| *dw += part);
        }
    }
}

vectorized! {
    fn backward_row(
        dx: &mut [f32],
        sums: &mut [f32],
        g: &mut [f32],
        dy: &[f32],
        x: &[f32],
        w: &[f32],
        rstd: &[f32],
        offset: f32,
        write: Write,
    ) {
        let n = w.len();
        let groups = dx.chunks_exact_mut(n).zip(dy.chunks_exact(n).zip(x.chunks_exact(n)).zip(rstd));
        for (dx, ((dy, x), &rstd)) in groups {
            for ((((g, sum), &dy), &x), &w) in g.iter_mut().zip(&mut *sums).zip(dy).zip(x).zip(w) {
                *g = dy * (offset + w);
                *sum += dy * (x * rstd);
            }
            let mean = dot(g, x) * rstd / n as f32;
            if write == Write::Set {
                for ((dx, &g), &x) in dx.iter_mut().zip(&*g).zip(x) {
                    *dx = rstd * (g - x * rstd * mean);
                }
            } else {
                for ((dx, &g), &x) in dx.iter_mut().zip(&*g).zip(x) {
                    *dx += rstd * (g - x * rstd * mean);
                }
            }
        }
    }
}
