//! Products with weights as they are stored: blocks for many rows, one dot product after the other for few.

use super::dots::{DOTS_PER_TASK, FEW_ROWS, dots};
use super::factors::Factors;
use super::gemm::{Epilogue, Side, gemm};
use super::pool::Pool;
use super::simd_dispatch::Isa;
use super::source::Source;
use crate::backend::Write;
use crate::host::{View, ViewMut};

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
