//! Keys and values of a sequence in panels, packed once for all queries that go through them.

use super::attention_cached::widen;
use super::gemm::steps;
use super::pack::Along;
use super::packed::Lying;
use super::panels::{Kernel, Side};
use super::pool::{Pool, Scratch};
use super::source::Source;
use crate::host::View;
use std::ops::Range;

/// Positions of one block. Blocks begin at multiples of it, wherever the first position that is seen lies.
pub(super) const KEYS: usize = 128;

/// Where keys or values of one head of one sequence are read, `[positions, head_dim]`.
#[derive(Clone, Copy)]
pub(super) enum Read<'a> {
    Numbers(Source<'a>),
    /// Codes of a cache in eight bits, of heads with so many columns.
    Codes(View<'a>, usize),
}

impl Read<'_> {
    fn dims(&self) -> (usize, usize) {
        match self {
            Self::Numbers(source) => source.dims(),
            Self::Codes(codes, head_dim) => (codes.rows(), *head_dim),
        }
    }
}

/// What is read, and how a product goes through it: a position is a lane of scores, or a step of the depth of what is
/// summed over positions.
pub(super) type Rows<'a> = (Read<'a>, Along);

/// What is held of one head of one sequence.
pub(super) struct Held<'p> {
    kernel: Kernel,
    panels: Scratch<'p>,
    positions: usize,
    head_dim: usize,
    ways: Vec<Along>,
}

/// Floats that a block takes in one way.
fn room(kernel: Kernel, way: Along, head_dim: usize) -> usize {
    match way {
        Along::Lanes => kernel.right_len(KEYS, head_dim),
        Along::Depth => kernel.right_len(head_dim, KEYS),
    }
}

/// Everything in panels: of every head of every sequence what is gone through, all with as many positions.
pub(super) fn hold<'p>(pool: &'p Pool, kernel: Kernel, heads: &[Vec<Rows>]) -> Vec<Held<'p>> {
    let one = |rows: &Vec<Rows>| {
        let (positions, head_dim) = rows[0].0.dims();
        let ways: Vec<Along> = rows.iter().map(|rows| rows.1).collect();
        let of_block: usize = ways.iter().map(|way| room(kernel, *way, head_dim)).sum();
        let panels = pool.scratch(of_block * positions.div_ceil(KEYS));
        Held { kernel, panels, positions, head_dim, ways }
    };
    let mut held: Vec<Held> = heads.iter().map(one).collect();
    let mut tasks = Vec::new();
    for (held, rows) in held.iter_mut().zip(heads) {
        let of_block = held.of_block();
        let blocks = steps(0..held.positions, KEYS).zip(held.panels.chunks_mut(of_block.max(1)));
        tasks.extend(blocks.map(|(block, out)| (rows, block, out)));
    }
    pool.each(tasks, |(rows, block, mut out)| {
        for &(read, way) in rows {
            let head_dim = read.dims().1;
            let (panels, rest) = std::mem::take(&mut out).split_at_mut(room(kernel, way, head_dim));
            out = rest;
            let mut numbers;
            let source = match read {
                Read::Numbers(source) => source.rows_from(block.start, block.len()),
                Read::Codes(codes, _) => {
                    numbers = pool.scratch(block.len() * head_dim);
                    for (out, row) in numbers.chunks_exact_mut(head_dim).zip(block.clone()) {
                        widen(kernel.isa, out, codes.row(row));
                    }
                    Source::Dense(View::dense(&numbers, block.len(), head_dim))
                }
            };
            let packing = match way {
                Along::Lanes => kernel.right(Side::of(source, true), 0..block.len(), 0..head_dim, panels),
                Along::Depth => kernel.right(Side::of(source, false), 0..head_dim, 0..block.len(), panels),
            };
            packing.pack();
        }
    });
    held
}

impl Held<'_> {
    fn of_block(&self) -> usize {
        self.ways.iter().map(|way| room(self.kernel, *way, self.head_dim)).sum()
    }

    /// The blocks that have some of these positions: the number of each, and its positions up to the last of them.
    pub(super) fn blocks(&self, positions: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let blocks = positions.start / KEYS..positions.end.min(self.positions).div_ceil(KEYS);
        blocks.map(move |block| (block, block * KEYS..positions.end.min((block + 1) * KEYS)))
    }

    /// The panels of a block in one of the ways.
    pub(super) fn panels(&self, block: usize, way: usize) -> Lying<'_> {
        let before: usize = self.ways[..way].iter().map(|way| room(self.kernel, *way, self.head_dim)).sum();
        let depth = match self.ways[way] {
            Along::Lanes => self.head_dim,
            Along::Depth => (self.positions - block * KEYS).min(KEYS),
        };
        let words = &self.panels[block * self.of_block() + before..];
        Lying { words, stride: self.kernel.nr * self.kernel.words(depth) }
    }
}
