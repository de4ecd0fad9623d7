//! Products with weights as they are stored: blocks for many rows, one dot product after the other for few.

use super::Cpu;
use super::factors::Factors;
use super::few::{self, Few};
use super::gemm::{Epilogue, Side, gemm};
use super::pool::Pool;
use super::simd_dispatch::Isa;
use super::sink::Sink;
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

/// `y (=|+=) alpha·x·wᵀ + bias`, with one dot product after the other where the rows are few.
pub(super) fn linear(cpu: &Cpu, factors: Factors, few: Few, y: Sink, x: Source, w: Source, epilogue: Epilogue) {
    let part = few::Part { columns: 0..y.cols(), w, epilogue };
    if let Some(y) = few_rows(cpu, few, y, x, &[part]) {
        let a = Side { source: x, transposed: false };
        gemm(&cpu.pool, cpu.isa, factors, y, a, Side { source: w, transposed: true }, x.cols(), epilogue);
    }
}

/// [`few::products`] of numbers of either kind: few rows are widened before, and rounded behind.
pub(super) fn few_rows<'a>(cpu: &Cpu, few: Few, y: Sink<'a>, x: Source, parts: &[few::Part]) -> Option<Sink<'a>> {
    let (pool, isa) = (&cpu.pool, cpu.isa);
    let mut y = match (y, x) {
        (Sink::F32(y), Source::Dense(x)) => return few::products(pool, isa, few, y, x, parts).map(Sink::F32),
        (y, _) => y,
    };
    let (rows, cols) = (y.rows(), y.cols());
    if !few.takes(rows, parts) {
        return Some(y);
    }
    let (mut of_x, mut of_y) = (pool.scratch(rows * x.cols()), pool.scratch(rows * cols));
    for (row, to) in of_x.chunks_exact_mut(x.cols().max(1)).enumerate() {
        x.copy_to(isa, row, 0..x.cols(), to);
    }
    let mut buffer = pool.scratch(y.room());
    for (row, to) in y.reborrow().into_rows().into_iter().zip(of_y.chunks_exact_mut(cols.max(1))) {
        row.write(isa, Write::Add, &mut buffer, |row| to.copy_from_slice(row));
    }
    let (wide, of_x) = (ViewMut::dense(&mut of_y, rows, cols), View::dense(&of_x, rows, x.cols()));
    if few::products(pool, isa, few, wide, of_x, parts).is_some() {
        return Some(y);
    }
    for (row, from) in y.into_rows().into_iter().zip(of_y.chunks_exact(cols.max(1))) {
        row.write(isa, Write::Set, &mut buffer, |row| row.copy_from_slice(from));
    }
    None
}

/// `dx (=|+=) dy·w`
pub(super) fn linear_bwd_input(pool: &Pool, isa: Isa, factors: Factors, dx: Sink, dy: Source, w: Source, write: Write) {
    let a = Side { source: dy, transposed: false };
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
    let (left, right) = (Source::window(a.x), Source::window(b.x));
    let epilogue = Epilogue { alpha, ..Epilogue::plain(write) };
    let large = cpu.isa.tiles(cpu.factors).map_or(LARGE, |_| LARGE_IN_TILES);
    let is_large = y.at.rows.min(y.at.cols).min(k) >= large;
    let factors = if is_large { cpu.factors } else { Factors::F32 };
    if b.transposed && !a.transposed {
        let few = Few { eight_bits: None, ..cpu.few() };
        linear(cpu, factors, few, Sink::of(y), left, right, epilogue);
    } else {
        let a = Side { source: left, transposed: a.transposed };
        let b = Side { source: right, transposed: b.transposed };
        gemm(&cpu.pool, cpu.isa, factors, Sink::of(y), a, b, k, epilogue);
    }
    Ok(())
}
