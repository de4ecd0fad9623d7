//! Products with weights as they are stored: blocks for many rows, one dot product after the other for few.

use super::factors::Factors;
use super::gemm::{Epilogue, Side, gemm, steps};
use super::pack::DECODE;
use super::pool::Pool;
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;
use crate::backend::Write;
use crate::host::{Tile, View, ViewMut};

/// Up to this many rows the weight is read once and nothing is packed.
const FEW_ROWS: usize = 4;
/// Weight rows of one task of the dot products.
const DOTS_PER_TASK: usize = 64;
/// Independent sums of one dot product.
const LANES: usize = 64;

/// `y (=|+=) alpha·x·wᵀ + bias`
pub(super) fn linear(pool: &Pool, isa: Isa, factors: Factors, y: ViewMut, x: View, w: Source, epilogue: Epilogue) {
    if y.rows() <= FEW_ROWS {
        let rows = y.rows();
        pool.each(y.tiles(std::iter::once(0..rows), DOTS_PER_TASK), |tile| dots(isa, tile, x, w, epilogue));
        return;
    }
    let a = Side { source: Source::Dense(x), transposed: false };
    gemm(pool, isa, factors, y, a, Side { source: w, transposed: true }, x.cols(), epilogue);
}

/// `dx (=|+=) dy·w`
pub(super) fn linear_bwd_input(
    pool: &Pool,
    isa: Isa,
    factors: Factors,
    dx: ViewMut,
    dy: View,
    w: Source,
    write: Write,
) {
    let a = Side { source: Source::Dense(dy), transposed: false };
    gemm(pool, isa, factors, dx, a, Side { source: w, transposed: false }, dy.cols(), Epilogue::plain(write));
}

/// Each weight row is decoded a run at a time and multiplied with every row of `x`.
fn dots(isa: Isa, mut tile: Tile, x: View, w: Source, epilogue: Epilogue) {
    let Epilogue { alpha, bias, write } = epilogue;
    let width = tile.rows.first().map_or(0, |row| row.len());
    let mut buffer = [0.0; DECODE];
    for j in 0..width {
        let mut sums = [0.0; FEW_ROWS];
        for cols in steps(0..x.cols(), DECODE) {
            let w = w.read(isa, tile.col + j, cols.clone(), &mut buffer);
            for (i, sum) in sums.iter_mut().enumerate().take(x.rows()) {
                *sum += dot(isa, &x.row(i)[cols.clone()], w);
            }
        }
        let bias = bias.map_or(0.0, |bias| bias[tile.col + j]);
        for (row, sum) in tile.rows.iter_mut().zip(sums) {
            let old = if write == Write::Set { 0.0 } else { row[j] };
            row[j] = old + alpha * sum + bias;
        }
    }
}

vectorized! {
    /// `Σ a·b` in a fixed order: lanes first, then the lanes in pairs.
    pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
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
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }
}
