//! The product of two matrices: blocks, panels, register tiles.
//!
//! Loops, from the outside: rows in `ROWS`, depth in `DEPTH`, columns in `COLS`; the panels of one
//! block are packed once and shared by all threads; then tiles of `TILE_ROWS x TILE_COLS` outputs go
//! to whichever thread is free. Each output is summed by one thread, in order of depth.

use super::factors::Factors;
use super::kernel::Sums;
use super::pack::{Along, pack_as, packed_len};
use super::pool::Pool;
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;
use crate::backend::Write;
use crate::host::{Tile, ViewMut};
use std::ops::Range;

/// Rows of the left operand packed at a time.
const ROWS: usize = 2048;
/// Words of depth packed at a time: a panel of each operand stays close to the processor.
const DEPTH: usize = 384;
/// Columns of the right operand packed at a time: 3 MiB.
const COLS: usize = 2048;
/// Register tiles that one task takes, down and across: small enough that threads end at about the same time.
const TASK: (usize, usize) = (4, 8);
/// Panels that one task packs where a row of the source is a lane, and where it is a step of the depth: shorter runs
/// of a row than that are read slowly.
const PACKED: (usize, usize) = (2, 4);

/// One side of a product.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) source: Source<'a>,
    pub(super) transposed: bool,
}

/// What is done with the sums.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a> {
    pub(super) alpha: f32,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) write: Write,
}

impl Epilogue<'_> {
    pub(super) fn plain(write: Write) -> Self {
        Self { alpha: 1.0, bias: None, write }
    }
}

/// `y (=|+=) alpha·op(a)·op(b) + bias`, `k` the inner dimension. `y` may be any shape, 0 included.
pub(super) fn gemm(
    pool: &Pool,
    isa: Isa,
    factors: Factors,
    mut y: ViewMut,
    a: Side,
    b: Side,
    k: usize,
    epilogue: Epilogue,
) {
    let (m, n) = (y.rows(), y.cols());
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        let nothing = |row: &mut [f32]| match (epilogue.write, epilogue.bias) {
            (Write::Set, Some(bias)) => row.copy_from_slice(bias),
            (Write::Set, None) => row.fill(0.0),
            (Write::Add, Some(bias)) => row.iter_mut().zip(bias).for_each(|(y, b)| *y += b),
            (Write::Add, None) => {}
        };
        return y.into_rows().for_each(nothing);
    }
    let (mr, nr) = (isa.mr(), isa.nr());
    let words = DEPTH.min(factors.words(k));
    let mut a_panels = pool.scratch(packed_len(m.min(ROWS), mr, words));
    let mut b_panels = pool.scratch(packed_len(n.min(COLS), nr, words));
    for rows in steps(0..m, ROWS) {
        for depth in steps(0..k, DEPTH * factors.steps()) {
            let along = if a.transposed { Along::Depth } else { Along::Lanes };
            pack_shared(pool, isa, factors, a.source, along, rows.clone(), depth.clone(), mr, &mut a_panels);
            for cols in steps(0..n, COLS) {
                let along = if b.transposed { Along::Lanes } else { Along::Depth };
                pack_shared(pool, isa, factors, b.source, along, cols.clone(), depth.clone(), nr, &mut b_panels);
                let block = y.reborrow().rows_from(rows.start, rows.len()).columns(cols.start, cols.len());
                let part = Part {
                    isa,
                    factors,
                    a: &a_panels,
                    b: &b_panels,
                    depth: factors.words(depth.len()),
                    epilogue: Epilogue {
                        alpha: epilogue.alpha,
                        bias: epilogue.bias.filter(|_| depth.start == 0).map(|bias| &bias[cols.clone()]),
                        write: if depth.start == 0 { epilogue.write } else { Write::Add },
                    },
                };
                pool.each(block.tiles(steps(0..rows.len(), TASK.0 * mr), TASK.1 * nr), |tile| part.fill(tile));
            }
        }
    }
}

/// `range` in steps of at most `step`.
pub(super) fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    range.clone().step_by(step).map(move |start| start..range.end.min(start + step))
}

/// Pack with every thread, a few panels each.
fn pack_shared(
    pool: &Pool,
    isa: Isa,
    factors: Factors,
    source: Source,
    along: Along,
    lanes: Range<usize>,
    depth: Range<usize>,
    width: usize,
    panels: &mut [f32],
) {
    let some = width * if along == Along::Lanes { PACKED.0 } else { PACKED.1 };
    let words = factors.words(depth.len());
    let used = &mut panels[..packed_len(lanes.len(), width, words)];
    let tasks = steps(lanes, some).zip(used.chunks_mut(some * words)).collect();
    pool.each(tasks, |(lanes, out)| pack_as(factors, isa, source, along, lanes, depth.clone(), width, out));
}

/// Packed panels and what becomes of their product.
struct Part<'a> {
    isa: Isa,
    factors: Factors,
    a: &'a [f32],
    b: &'a [f32],
    /// In words.
    depth: usize,
    epilogue: Epilogue<'a>,
}

impl Part<'_> {
    /// One task: all register tiles of `tile`.
    fn fill(&self, mut tile: Tile) {
        let &Self { isa, factors, a, b, depth, epilogue } = self;
        let (mr, nr) = (isa.mr(), isa.nr());
        let width = tile.rows.first().map_or(0, |row| row.len());
        let mut sums: Sums = [0.0; 448];
        for cols in steps(0..width, nr) {
            let b = &b[(tile.col + cols.start) * depth..][..nr * depth];
            for (i, rows) in tile.rows.chunks_mut(mr).enumerate() {
                let a = &a[(tile.row + i * mr) * depth..][..mr * depth];
                isa.tile_of(factors, a, b, rows.len(), cols.len(), &mut sums);
                let bias = epilogue.bias.map(|bias| &bias[tile.col..][cols.clone()]);
                finish(isa, rows, cols.clone(), &sums, nr, Epilogue { bias, ..epilogue });
            }
        }
    }
}

vectorized! {
    /// Bring the sums of one register tile to their place.
    fn finish(rows: &mut [&mut [f32]], cols: Range<usize>, sums: &Sums, nr: usize, epilogue: Epilogue) {
        let Epilogue { alpha, bias, write } = epilogue;
        for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(nr)) {
            let row = &mut row[cols.clone()];
            if write == Write::Set {
                for (y, &sum) in row.iter_mut().zip(sums) {
                    *y = alpha * sum;
                }
            } else {
                for (y, &sum) in row.iter_mut().zip(sums) {
                    *y += alpha * sum;
                }
            }
            if let Some(bias) = bias {
                for (y, &bias) in row.iter_mut().zip(bias) {
                    *y += bias;
                }
            }
        }
    }
}
