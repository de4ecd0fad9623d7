//! The product of two matrices: blocks, panels, register tiles.
//!
//! Loops, from the outside: rows in `ROWS`, depth in `DEPTH`, columns in `COLS`; the panels of one
//! block are packed once and shared by all threads; then tiles of `TILE_ROWS x TILE_COLS` outputs go
//! to whichever thread is free. Each output is summed by one thread, in order of depth.

use super::factors::Factors;
use super::kernel::Sums;
use super::pack::{Along, Form, pack_as, packed_len};
use super::pack_squares::pack_squares;
use super::pool::Pool;
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;
use super::tiles::{BLOCK, BlockSums, SIDE, TileUnit};
use crate::backend::Write;
use crate::host::{Tile, ViewMut};
use std::ops::Range;

/// Rows of the left operand packed at a time.
const ROWS: usize = 2048;
/// Words of depth packed at a time: a panel of each operand stays close to the processor.
const DEPTH: usize = 384;
/// The same where a unit multiplies tiles: it is done with a panel sooner than sums are brought to their place, so those
/// are brought there as seldom as a task's panels, 1.5 MiB, allow.
const DEPTH_OF_TILES: usize = 1024;
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
    let kernel = Kernel::of(isa, factors);
    let deep = kernel.deepest(k);
    let mut a_panels = pool.scratch(packed_len(m.min(ROWS), kernel.mr, kernel.left_words(deep.min(k))));
    let mut b_panels = pool.scratch(packed_len(n.min(COLS), kernel.nr, kernel.words(deep.min(k))));
    for rows in steps(0..m, ROWS) {
        for depth in steps(0..k, deep) {
            for cols in steps(0..n, COLS) {
                // The left operand with the first columns of the right one, so that threads meet once less.
                let mut tasks = kernel.right(b, cols.clone(), &depth, &mut b_panels);
                if cols.start == 0 {
                    tasks.extend(kernel.left(a, rows.clone(), &depth, &mut a_panels));
                }
                pool.each(tasks, |task| kernel.pack(task, depth.clone()));
                let block = y.reborrow().rows_from(rows.start, rows.len()).columns(cols.start, cols.len());
                let part = Part {
                    kernel,
                    a: &a_panels,
                    b: &b_panels,
                    depth: (kernel.left_words(depth.len()), kernel.words(depth.len())),
                    epilogue: Epilogue {
                        alpha: epilogue.alpha,
                        bias: epilogue.bias.filter(|_| depth.start == 0).map(|bias| &bias[cols.clone()]),
                        write: if depth.start == 0 { epilogue.write } else { Write::Add },
                    },
                };
                pool.each(block.tiles(steps(0..rows.len(), TASK.0 * kernel.mr), TASK.1 * kernel.nr), |tile| {
                    part.fill(tile);
                });
            }
        }
    }
}

/// `range` in steps of at most `step`.
pub(super) fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    range.clone().step_by(step).map(move |start| start..range.end.min(start + step))
}

/// What multiplies, and so the form of the panels.
#[derive(Clone, Copy)]
struct Kernel {
    isa: Isa,
    factors: Factors,
    tiles: Option<TileUnit>,
    /// The left operand lies in squares, not in panels.
    squares: bool,
    /// Rows and columns of the sums that are computed at a time.
    mr: usize,
    nr: usize,
}

impl Kernel {
    fn of(isa: Isa, factors: Factors) -> Self {
        let tiles = isa.tiles(factors);
        let (mr, nr) = if tiles.is_some() { (BLOCK, BLOCK) } else { (isa.mr(), isa.nr()) };
        Self { isa, factors, tiles, squares: isa.squares(factors).is_some(), mr, nr }
    }

    /// Steps of the inner dimension, of `k`, that are packed at a time.
    fn deepest(self, k: usize) -> usize {
        if self.tiles.is_none() {
            return DEPTH * self.factors.steps();
        }
        // Parts of about the same depth, all but the last of whole tiles.
        let parts = k.div_ceil(DEPTH_OF_TILES * self.factors.steps());
        k.div_ceil(parts).next_multiple_of(SIDE * self.factors.steps())
    }

    /// Words that `steps` of the inner dimension take in a panel of the right operand.
    fn words(self, steps: usize) -> usize {
        let words = self.factors.words(steps);
        if self.tiles.is_some() { words.next_multiple_of(SIDE) } else { words }
    }

    /// The same of the left one.
    fn left_words(self, steps: usize) -> usize {
        let words = self.factors.words(steps);
        if self.squares { words.next_multiple_of(SIDE) } else { words }
    }

    /// What is to be packed of the left operand.
    fn left<'a>(
        self,
        side: Side<'a>,
        lanes: Range<usize>,
        depth: &Range<usize>,
        out: &'a mut [f32],
    ) -> Vec<Packing<'a>> {
        let along = if side.transposed { Along::Depth } else { Along::Lanes };
        let words = self.left_words(depth.len());
        packing(side.source, along, lanes, (self.mr, words), self.squares, out)
    }

    /// And of the right one.
    fn right<'a>(
        self,
        side: Side<'a>,
        lanes: Range<usize>,
        depth: &Range<usize>,
        out: &'a mut [f32],
    ) -> Vec<Packing<'a>> {
        let along = if side.transposed { Along::Lanes } else { Along::Depth };
        packing(side.source, along, lanes, (self.nr, self.words(depth.len())), false, out)
    }

    fn pack(self, task: Packing, depth: Range<usize>) {
        let Self { isa, factors, .. } = self;
        let Packing { source, along, lanes, width, words, squares, out } = task;
        if squares {
            pack_squares(isa, source, along, lanes, depth, (width, words), out);
        } else {
            pack_as(isa, Form { factors, width, words }, source, along, lanes, depth, out);
        }
    }
}

/// A few panels a task.
fn packing<'a>(
    source: Source<'a>,
    along: Along,
    lanes: Range<usize>,
    (width, words): (usize, usize),
    squares: bool,
    out: &'a mut [f32],
) -> Vec<Packing<'a>> {
    let some = width * if along == Along::Lanes { PACKED.0 } else { PACKED.1 };
    let out = &mut out[..packed_len(lanes.len(), width, words)];
    let task = |(lanes, out)| Packing { source, along, lanes, width, words, squares, out };
    steps(lanes, some).zip(out.chunks_mut(some * words)).map(task).collect()
}

/// Panels, or rows of squares, that one task packs.
struct Packing<'a> {
    source: Source<'a>,
    along: Along,
    lanes: Range<usize>,
    width: usize,
    words: usize,
    squares: bool,
    out: &'a mut [f32],
}

/// Packed panels and what becomes of their product.
struct Part<'a> {
    kernel: Kernel,
    a: &'a [f32],
    b: &'a [f32],
    /// Of each, in words.
    depth: (usize, usize),
    epilogue: Epilogue<'a>,
}

impl Part<'_> {
    /// One task: all register tiles of `tile`.
    fn fill(&self, tile: Tile) {
        let Kernel { isa, factors, tiles, .. } = self.kernel;
        if let Some(unit) = tiles {
            let mut sums = BlockSums([[0.0; BLOCK]; BLOCK]);
            unit.with(|unit| {
                self.fill_with(tile, |a, b, rows, _, finish| {
                    unit.multiply(a, b, rows, &mut sums);
                    finish(sums.0.as_flattened());
                });
            });
            return;
        }
        let mut sums: Sums = [0.0; 448];
        self.fill_with(tile, |a, b, rows, cols, finish| {
            isa.tile_of(factors, a, b, rows, cols, &mut sums);
            finish(&sums);
        });
    }

    /// Every block of `tile`: its panels, rows and columns, and what takes its sums.
    fn fill_with(
        &self,
        mut tile: Tile,
        mut multiply: impl FnMut(&[f32], &[f32], usize, usize, &mut dyn FnMut(&[f32])),
    ) {
        let &Self { kernel: Kernel { isa, mr, nr, .. }, a, b, depth, epilogue } = self;
        let width = tile.rows.first().map_or(0, |row| row.len());
        for cols in steps(0..width, nr) {
            let b = &b[(tile.col + cols.start) * depth.1..][..nr * depth.1];
            let bias = epilogue.bias.map(|bias| &bias[tile.col..][cols.clone()]);
            for (i, rows) in tile.rows.chunks_mut(mr).enumerate() {
                let a = &a[(tile.row + i * mr) * depth.0..][..mr * depth.0];
                multiply(a, b, rows.len(), cols.len(), &mut |sums| {
                    finish(isa, rows, cols.clone(), sums, nr, Epilogue { bias, ..epilogue });
                });
            }
        }
    }
}

vectorized! {
    /// Bring the sums of one register tile to their place.
    fn finish(rows: &mut [&mut [f32]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue) {
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
