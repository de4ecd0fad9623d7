//! Copies, sums and scales by row and column.

use super::dots::dot;
use super::exp;
use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::{Isa, vectorized};
use super::sink::Sink;
use super::source::Source;
use crate::backend::Write;
use crate::host::{View, ViewMut};

/// Columns of one task of a sum over rows.
const COLS: usize = 256;
/// Elements of one task over a whole tensor.
const STEP: usize = 1 << 15;

/// `task` on every row of `y`, which holds what it held before.
pub(super) fn each_row(pool: &Pool, isa: Isa, y: Sink, task: impl Fn(&mut [f32]) + Sync + Send) {
    let step = rows_per_task(y.cols());
    pool.each(y.blocks(step), |(_, y)| {
        let mut buffer = pool.scratch(y.room());
        y.into_rows().into_iter().for_each(|y| y.write(isa, Write::Add, &mut buffer, &task));
    });
}

/// `task` on every row of `y` and that of `x`, with their number; `y` holds what it held before where it is added to.
pub(super) fn with_rows(
    pool: &Pool,
    isa: Isa,
    y: Sink,
    x: Source,
    write: Write,
    task: impl Fn(usize, &mut [f32], &[f32]) + Sync + Send,
) {
    let step = rows_per_task(y.cols());
    pool.each(y.blocks(step), |(first, y)| {
        let (mut to, mut from) = (pool.scratch(y.room()), pool.scratch(x.room()));
        for (i, y) in y.into_rows().into_iter().enumerate() {
            let x = x.row(isa, first + i, &mut from);
            y.write(isa, write, &mut to, |y| task(first + i, y, x));
        }
    });
}

/// `y (=|+=) x`
pub(super) fn copy(pool: &Pool, isa: Isa, y: Sink, x: Source, write: Write) {
    with_rows(pool, isa, y, x, write, |_, y, x| match write {
        Write::Set => y.copy_from_slice(x),
        Write::Add => y.iter_mut().zip(x).for_each(|(y, x)| *y += x),
    });
}

/// `y (=|+=) x∘s`
pub(super) fn scale_columns(pool: &Pool, isa: Isa, y: Sink, x: Source, s: &[f32], write: Write) {
    with_rows(pool, isa, y, x, write, |_, y, x| {
        let elements = y.iter_mut().zip(x).zip(s);
        match write {
            Write::Set => elements.for_each(|((y, x), s)| *y = x * s),
            Write::Add => elements.for_each(|((y, x), s)| *y += x * s),
        }
    });
}

/// `task` on runs of columns of `out`, with the number of the first.
fn each_run(pool: &Pool, out: &mut [f32], task: impl Fn(usize, &mut [f32]) + Sync + Send) {
    pool.each(out.chunks_mut(COLS).enumerate().collect(), |(i, out)| task(i * COLS, out));
}

/// `out[j] += Σ_rows dy[·, j]`
pub(super) fn sum_rows(pool: &Pool, isa: Isa, out: &mut [f32], dy: Source) {
    each_run(pool, out, |col, out| {
        let (mut sums, mut buffer) = ([0.0; COLS], [0.0; COLS]);
        for i in 0..dy.rows() {
            let dy = dy.read(isa, i, col..col + out.len(), &mut buffer);
            sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    });
}

/// `out[j] += Σ_rows a[·, j]·b[·, j]`
pub(super) fn column_dots(pool: &Pool, isa: Isa, out: &mut [f32], a: Source, b: Source) {
    each_run(pool, out, |col, out| {
        let (mut sums, mut of_a, mut of_b) = ([0.0; COLS], [0.0; COLS], [0.0; COLS]);
        let columns = col..col + out.len();
        for i in 0..a.rows() {
            let products =
                a.read(isa, i, columns.clone(), &mut of_a).iter().zip(b.read(isa, i, columns.clone(), &mut of_b));
            sums.iter_mut().zip(products).for_each(|(sum, (a, b))| *sum += a * b);
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    });
}

/// `out[j] = Σ_k w[j, k]²`
pub(super) fn row_squares(pool: &Pool, isa: Isa, out: &mut [f32], w: Source) {
    let rows = w.rows();
    let out = ViewMut::dense(out, rows, 1);
    pool.each(out.blocks(rows_per_task(w.cols())), |(first, out)| {
        let mut buffer = pool.scratch(w.cols());
        for (i, out) in out.into_rows().enumerate() {
            let row = w.read(isa, first + i, 0..w.cols(), &mut buffer);
            out[0] = dot(isa, row, row);
        }
    });
}

/// `out[j] = √(squares[j] + 2s·Σ_k b[j,k]·projected[k,j] + s²·b[j]·gram·b[j]ᵀ)`, in f64: the terms may cancel.
pub(super) fn dora_norm(pool: &Pool, out: &mut [f32], squares: &[f32], projected: View, gram: View, b: View, s: f32) {
    let s = f64::from(s);
    let product = |a: f32, b: f32| f64::from(a) * f64::from(b);
    each_run(pool, out, |first, out| {
        for (j, out) in (first..).zip(out) {
            let row = b.row(j);
            let (mut cross, mut own) = (0.0, 0.0);
            for (k, &b) in row.iter().enumerate() {
                cross += product(b, projected.at(k, j));
                own += f64::from(b) * gram.row(k).iter().zip(row).map(|(&g, &b)| product(g, b)).sum::<f64>();
            }
            *out = (f64::from(squares[j]) + 2.0 * s * cross + s * s * own).max(0.0).sqrt() as f32;
        }
    });
}

/// `y = a / b`
pub(super) fn divide(pool: &Pool, y: &mut [f32], a: &[f32], b: &[f32]) {
    let tasks = y.chunks_mut(STEP).zip(a.chunks(STEP)).zip(b.chunks(STEP)).collect();
    pool.each(tasks, |((y, a), b)| y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = a / b));
}

/// `x = cap·tanh(x / cap)`
pub(super) fn softcap(pool: &Pool, isa: Isa, x: &mut [f32], cap: f32) {
    pool.each(x.chunks_mut(STEP).collect(), |x| cap_run(isa, x, cap));
}

vectorized! {
    fn cap_run(x: &mut [f32], cap: f32) {
        for x in x {
            *x = cap * exp::tanh(*x / cap);
        }
    }
}
