//! Products with weights as they are stored: blocks for many rows, one dot product after the other for few.

use super::Cpu;
use super::dots::{DOTS_PER_TASK, FEW_ROWS, dots};
use super::factors::Factors;
use super::few::{self, Few};
use super::gemm::{Epilogue, Side, gemm};
use super::pool::Pool;
use super::simd_dispatch::Isa;
use super::source::Source;
use crate::backend::{Operand, Write};
use crate::error::Result;
use crate::host::{View, ViewMut};
use crate::shapes;
use crate::tensor::Out;

/// Dense products of which every dimension is at least this are rounded where products with weights are; the
/// narrow ones of adapters stay f32, since packing them is most of their work.
const LARGE: usize = 64;
/// The same where a unit multiplies tiles: for it their work is nothing, and rows need not be turned to be packed.
const LARGE_IN_TILES: usize = 8;

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

/// `y (=|+=) alpha·op(a)·op(b)` of dense matrices.
pub(super) fn dense(
    cpu: &Cpu,
    y: Out<Cpu>,
    a: &Operand<Cpu>,
    b: &Operand<Cpu>,
    alpha: f32,
    write: Write,
) -> Result<()> {
    let k = shapes::gemm(&y, a, b)?;
    let (left, right) = (View::of(a.x), Source::Dense(View::of(b.x)));
    let epilogue = Epilogue { alpha, ..Epilogue::plain(write) };
    let large = cpu.isa.tiles(cpu.factors).map_or(LARGE, |_| LARGE_IN_TILES);
    let is_large = y.at.rows.min(y.at.cols).min(k) >= large;
    let factors = if is_large { cpu.factors } else { Factors::F32 };
    if b.transposed && !a.transposed {
        let y = ViewMut::of(y);
        let part = few::Part { columns: 0..y.cols(), w: right, epilogue };
        let few = Few { eight_bits: None, ..cpu.few() };
        if let Some(y) = few::products(&cpu.pool, cpu.isa, few, y, left, &[part]) {
            linear(&cpu.pool, cpu.isa, factors, y, left, right, epilogue);
        }
    } else {
        let a = Side { source: Source::Dense(left), transposed: a.transposed };
        let b = Side { source: right, transposed: b.transposed };
        gemm(&cpu.pool, cpu.isa, factors, ViewMut::of(y), a, b, k, epilogue);
    }
    Ok(())
}
