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

/// What is held of some heads of some sequences.
pub(super) struct HeldKeys<'p> {
    kernel: Kernel,
    /// All of them in one piece, as large as what products borrow.
    panels: Scratch<'p>,
    places: Vec<Place>,
}

/// Where the panels of one head of one sequence are, and what they hold.
struct Place {
    /// Where they begin.
    first: usize,
    positions: usize,
    head_dim: usize,
    ways: Vec<Along>,
}

/// The same to be read.
#[derive(Clone, Copy)]
pub(super) struct HeldHead<'a> {
    kernel: Kernel,
    panels: &'a [f32],
    place: &'a Place,
}

/// Floats that a block takes in one way.
fn room(kernel: Kernel, way: Along, head_dim: usize) -> usize {
    match way {
        Along::Lanes => kernel.right_len(KEYS, head_dim),
        Along::Depth => kernel.right_len(head_dim, KEYS),
    }
}

impl Place {
    /// Floats that a block takes in so many of the ways.
    fn room(&self, kernel: Kernel, ways: usize) -> usize {
        self.ways[..ways].iter().map(|way| room(kernel, *way, self.head_dim)).sum()
    }

    fn of_block(&self, kernel: Kernel) -> usize {
        self.room(kernel, self.ways.len())
    }
}

/// Everything in panels: of every head of every sequence what is gone through, all with as many positions.
pub(super) fn hold<'p>(pool: &'p Pool, kernel: Kernel, of_heads: &[Vec<Rows>]) -> HeldKeys<'p> {
    let (mut places, mut len) = (Vec::new(), 0);
    for rows in of_heads {
        let (positions, head_dim) = rows[0].0.dims();
        let place = Place { first: len, positions, head_dim, ways: rows.iter().map(|rows| rows.1).collect() };
        len += place.of_block(kernel) * positions.div_ceil(KEYS);
        places.push(place);
    }
    let mut panels = pool.scratch(len);
    let mut tasks = Vec::new();
    let mut rest = &mut panels[..];
    for (place, rows) in places.iter().zip(of_heads) {
        for block in steps(0..place.positions, KEYS) {
            let (out, behind) = std::mem::take(&mut rest).split_at_mut(place.of_block(kernel));
            rest = behind;
            tasks.push((rows, block, out));
        }
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
    HeldKeys { kernel, panels, places }
}

impl HeldKeys<'_> {
    /// Head `i` of those that were asked for.
    pub(super) fn head(&self, i: usize) -> HeldHead<'_> {
        let place = &self.places[i];
        HeldHead { kernel: self.kernel, panels: &self.panels[place.first..], place }
    }
}

impl<'a> HeldHead<'a> {
    /// The blocks that have some of these positions: the number of each, and its positions up to the last of them.
    pub(super) fn blocks(&self, positions: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let blocks = positions.start / KEYS..positions.end.min(self.place.positions).div_ceil(KEYS);
        blocks.map(move |block| (block, block * KEYS..positions.end.min((block + 1) * KEYS)))
    }

    /// The panels of a block in one of the ways.
    pub(super) fn panels(&self, block: usize, way: usize) -> Lying<'a> {
        let Self { kernel, panels, place } = *self;
        let depth = match place.ways[way] {
            Along::Lanes => place.head_dim,
            Along::Depth => (place.positions - block * KEYS).min(KEYS),
        };
        let words = &panels[block * place.of_block(kernel) + place.room(kernel, way)..];
        Lying { words, stride: kernel.nr * kernel.words(depth) }
    }
}
