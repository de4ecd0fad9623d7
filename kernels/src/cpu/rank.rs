//! Sums over all rows of two matrices, one of them narrow: the gradients of adapters.
//!
//! The narrow operand is packed once; each task packs some columns of the wide one and multiplies them at once with all
//! narrow ones they belong to, so that nothing wide is written to memory.

use super::finish::Written;
use super::gemm::{Epilogue, steps};
use super::panels::{Kernel, Side};
use super::pool::{Pool, Scratch};
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;
use crate::backend::Write;
use crate::host::{View, ViewMut};
use std::ops::Range;

/// Panels of the wide operand that one task packs: rows are far from each other, and of each a few lines in a row are read.
const PANELS: usize = 8;

/// A narrow operand, `[rows, rank]`.
pub(super) struct Left<'a>(pub(super) View<'a>);

/// `out += alpha·leftᵀ·right`
pub(super) struct Sum<'a> {
    /// Which narrow operand.
    pub(super) left: usize,
    pub(super) alpha: f32,
    /// `[rank, columns of right]`.
    pub(super) out: ViewMut<'a>,
    /// It is `[columns of right, rank]`.
    pub(super) is_turned: bool,
}

/// A wide operand, `[rows, columns]`, and the sums it is part of.
pub(super) struct Both<'a> {
    pub(super) right: Source<'a>,
    pub(super) sums: Vec<Sum<'a>>,
}

/// Some columns of one.
struct Task<'a> {
    right: Source<'a>,
    columns: Range<usize>,
    sums: Vec<Share<'a>>,
}

/// Their part of a sum.
struct Share<'a> {
    left: usize,
    alpha: f32,
    /// Rows of the rank over the columns, or rows of the columns over the rank.
    rows: Vec<&'a mut [f32]>,
    is_turned: bool,
}

/// All sums. Nothing is empty.
pub(super) fn rank_sums(pool: &Pool, kernel: Kernel, lefts: &[Left], both: Vec<Both>) {
    let Some(Left(first)) = lefts.first() else { return };
    let rows = first.rows();
    let blocks: Vec<Range<usize>> = steps(0..rows, kernel.deepest(rows)).collect();
    let packed = packed(pool, kernel, lefts, &blocks);
    let mut tasks = Vec::new();
    for Both { right, sums } in both {
        let width = PANELS * kernel.nr;
        let mut of_right: Vec<Task> =
            steps(0..right.cols(), width).map(|columns| Task { right, columns, sums: Vec::new() }).collect();
        for Sum { left, alpha, out, is_turned } in sums {
            let all: Vec<Vec<&mut [f32]>> = if is_turned {
                out.blocks(width).into_iter().map(|(_, block)| block.into_rows().collect()).collect()
            } else {
                let rank = out.rows();
                out.tiles(std::iter::once(0..rank), width).into_iter().map(|tile| tile.rows).collect()
            };
            for (task, rows) in of_right.iter_mut().zip(all) {
                task.sums.push(Share { left, alpha, rows, is_turned });
            }
        }
        tasks.extend(of_right.into_iter().filter(|task| !task.sums.is_empty()));
    }
    pool.each(tasks, |task| task.run(pool, kernel, &packed, &blocks));
}

/// Every narrow operand as the left one, block after block of the depth.
fn packed<'p>(pool: &'p Pool, kernel: Kernel, lefts: &[Left], blocks: &[Range<usize>]) -> Vec<Vec<Scratch<'p>>> {
    let room = |left: &Left| -> Vec<Scratch> {
        blocks.iter().map(|block| pool.scratch(kernel.left_len(left.0.cols(), block.len()))).collect()
    };
    let mut packed: Vec<Vec<Scratch>> = lefts.iter().map(room).collect();
    let mut tasks = Vec::new();
    for (Left(left), packed) in lefts.iter().zip(&mut packed) {
        let side = Side::of(Source::Dense(*left), true);
        for (block, out) in blocks.iter().zip(packed) {
            tasks.push(kernel.left(side, 0..left.cols(), block.clone(), out));
        }
    }
    pool.each(tasks, |task| {
        task.pack();
    });
    packed
}

impl Task<'_> {
    fn run(mut self, pool: &Pool, kernel: Kernel, packed: &[Vec<Scratch>], blocks: &[Range<usize>]) {
        let side = Side::of(self.right, false);
        let deepest = blocks.iter().map(Range::len).max().unwrap_or(0);
        let mut panels = pool.scratch(kernel.right_len(self.columns.len(), deepest));
        for (i, block) in blocks.iter().enumerate() {
            let (b, b_words) = kernel.right(side, self.columns.clone(), block.clone(), &mut panels).pack();
            let a_words = kernel.left_words(block.len());
            kernel.ready(|multiply| {
                for sum in &mut self.sums {
                    let a = &packed[sum.left][i];
                    let rank = a.len() / a_words;
                    let rank = rank.min(if sum.is_turned { sum.rows[0].len() } else { sum.rows.len() });
                    for (cols, b) in steps(0..self.columns.len(), kernel.nr).zip(b.chunks(kernel.nr * b_words)) {
                        for (ranks, a) in steps(0..rank, kernel.mr).zip(a.chunks(kernel.mr * a_words)) {
                            multiply.sums(&[(a, b)], ranks.len(), cols.len(), &mut |sums| {
                                sum.add(kernel.isa, ranks.clone(), cols.clone(), sums, kernel.nr);
                            });
                        }
                    }
                }
            });
        }
    }
}

impl Share<'_> {
    fn add(&mut self, isa: Isa, ranks: Range<usize>, cols: Range<usize>, sums: &[f32], nr: usize) {
        if self.is_turned {
            add_turned(isa, &mut self.rows[cols], ranks, sums, nr, self.alpha);
        } else {
            let epilogue = Epilogue { alpha: self.alpha, ..Epilogue::plain(Write::Add) };
            f32::finish(isa, &mut self.rows[ranks], cols, sums, nr, epilogue);
        }
    }
}

vectorized! {
    /// `rows[j][ranks] += alpha·sums[·][j]`
    fn add_turned(rows: &mut [&mut [f32]], ranks: Range<usize>, sums: &[f32], nr: usize, alpha: f32) {
        for (j, row) in rows.iter_mut().enumerate() {
            for (y, sums) in row[ranks.clone()].iter_mut().zip(sums.chunks_exact(nr)) {
                *y += alpha * sums[j];
            }
        }
    }
}
