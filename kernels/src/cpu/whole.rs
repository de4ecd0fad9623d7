//! Products whose sums are whole before anything is written: what becomes of a tile is done while it is in the cache.
//!
//! All blocks of the depth are packed, and a task takes one tile through all of them, in memory of its own. So a tile is
//! rounded once, or is factor of something else, without its sums having been anywhere else. Each sum is that of
//! `gemm.rs`, block after block: the same bits.

use super::finish::Written;
use super::gemm::{
    COLS, Epilogue, Narrow, Part, Piece, ROWS, RightPanels, Side, TASK, Task, Turns, Wide, first_factors, steps,
};
use super::numbers::Half;
use super::panels::Kernel;
use super::pool::{Pool, Scratch};
use super::simd_dispatch::Isa;
use super::tiles::BLOCK;
use crate::backend::Write;
use crate::host::{Tile, ViewMut};
use std::ops::Range;

/// Sums that are taken at once, at most, where a kernel's tile is not larger: they stay in the first cache.
const SUMS: usize = 8192;

/// Columns that are packed together: as many of each of some products, which a task takes together.
pub(super) struct Strip {
    /// First column of what is made of them.
    pub(super) at: usize,
    /// Columns of that, and of each product.
    pub(super) width: usize,
    /// Columns of the products, which have the number that they have in their group.
    pub(super) of: Vec<Piece>,
}

/// Takes tiles of sums.
pub(super) trait Taker {
    /// Where one of them goes.
    type Place<'t>: Send
    where
        Self: 't;

    /// The places of so many rows and of these columns of what is made: rows, then columns, in steps of at most these.
    fn places(&mut self, rows: Range<usize>, columns: Range<usize>, step: (usize, usize)) -> Vec<Self::Place<'_>>;

    /// The sums of each product, row by row.
    fn take(place: Self::Place<'_>, sums: &mut [&mut [f32]]);

    /// All tiles of a strip are taken. False where they are to be computed and taken once more.
    fn is_done(&mut self) -> bool {
        true
    }
}

/// A block of the depth, of one group of products.
struct Block {
    group: usize,
    /// Its number in the group.
    number: usize,
    /// Steps, of the left operand.
    depth: Range<usize>,
    /// Of the right one.
    in_source: Range<usize>,
    is_last: bool,
}

/// Columns of what is made, and the places that a task fills there, rows below rows.
struct TileTask<P> {
    columns: Range<usize>,
    places: Vec<(Range<usize>, P)>,
}

/// How many columns of all products of a strip are packed together: a multiple of what a task takes, of the size that
/// one block of the depth has in `gemm.rs`, or what one task takes.
pub(super) fn columns_together(kernel: Kernel, wides: &[Wide]) -> usize {
    let groups = wides.chunk_by(|a, b| a.of == b.of).map(|group| group[0].of.len());
    let (deepest, all) = groups.fold((0, 0), |(most, all), k| (most.max(k.min(kernel.deepest(k))), all + k));
    let task = TASK.1 * kernel.nr;
    (COLS * deepest / all.max(1) / task).max(1) * task
}

/// `alpha·Σ left·w + bias` of all `wides` to `taker`, strip after strip; and their `narrows`. Nothing is empty. Where
/// there are several groups each is one product, of the same columns.
pub(super) fn products<T: Taker>(
    pool: &Pool,
    kernel: Kernel,
    left: Side,
    wides: &[Wide],
    narrows: &mut [Narrow],
    alpha: f32,
    strips: &[Strip],
    taker: &mut T,
) {
    let m = if left.transposed { left.source.cols() } else { left.source.rows() };
    let groups: Vec<&[Wide]> = wides.chunk_by(|a, b| a.of == b.of).collect();
    let firsts = first_factors(pool, kernel, narrows);
    let mut blocks = Vec::new();
    for (group, of) in groups.iter().map(|group| &group[0].of).enumerate() {
        for (number, depth) in steps(of.clone(), kernel.deepest(of.len())).enumerate() {
            let in_source = depth.start - of.start..depth.end - of.start;
            let is_last = group + 1 == groups.len() && depth.end == of.end;
            blocks.push(Block { group, number, depth, in_source, is_last });
        }
    }
    for rows in steps(0..m, ROWS) {
        let mut seconds: Vec<Scratch> = Vec::with_capacity(narrows.len());
        for narrow in &*narrows {
            seconds.push(pool.scratch(kernel.left_len(rows.len(), narrow.out.cols())));
        }
        let mut a_panels = Vec::with_capacity(blocks.len());
        for Block { number, depth, is_last, .. } in &blocks {
            let mut panels = pool.scratch(kernel.left_len(rows.len(), depth.len()));
            let turns = Turns { kernel, pool, left, depth, block: *number, is_last: *is_last };
            pool.each(turns.tasks(&rows, narrows, &firsts, &mut panels, &mut seconds), Task::run);
            a_panels.push(panels);
        }
        let lefts =
            Lefts { pool, kernel, groups: &groups, blocks: &blocks, narrows, panels: &a_panels, seconds: &seconds };
        for strip in strips {
            loop {
                lefts.multiply(strip, rows.clone(), alpha, taker);
                if taker.is_done() {
                    break;
                }
            }
        }
    }
}

/// Packed left operands, and what they are multiplied with.
struct Lefts<'a> {
    pool: &'a Pool,
    kernel: Kernel,
    groups: &'a [&'a [Wide<'a>]],
    blocks: &'a [Block],
    narrows: &'a [Narrow<'a>],
    /// Of every block.
    panels: &'a [Scratch<'a>],
    /// Of every narrow product.
    seconds: &'a [Scratch<'a>],
}

impl Lefts<'_> {
    /// One strip to `taker`; the panels of its right operands are given back.
    fn multiply<T: Taker>(&self, strip: &Strip, rows: Range<usize>, alpha: f32, taker: &mut T) {
        let &Self { pool, kernel, groups, blocks, narrows, panels: a_panels, seconds } = self;
        let lengths = |Block { group, depth, in_source, is_last, .. }: &Block| {
            let deep = (depth.len(), in_source);
            RightPanels::lengths(kernel, groups[*group], &strip.of, narrows, deep, *is_last)
        };
        let lengths: Vec<Vec<Vec<usize>>> = blocks.iter().map(lengths).collect();
        // All in one, so that the next product finds room for its own.
        let mut room = pool.scratch(lengths.iter().flatten().flatten().sum());
        let mut room = &mut room[..];
        let mut b_panels = Vec::with_capacity(blocks.len());
        for (Block { group, in_source, .. }, lengths) in blocks.iter().zip(&lengths) {
            let (panels, rest) = RightPanels::new(kernel, groups[*group], &strip.of, in_source, lengths, room);
            b_panels.push(panels);
            room = rest;
        }
        let mut tasks = Vec::new();
        for (Block { group, in_source, .. }, panels) in blocks.iter().zip(&mut b_panels) {
            tasks.extend(panels.tasks(kernel, groups[*group], &strip.of, narrows, in_source));
        }
        pool.each(tasks, Task::run);
        // Of every product one part for each block.
        let mut parts: Vec<Vec<Part>> = strip.of.iter().map(|_| Vec::with_capacity(blocks.len())).collect();
        for (i, (block, (a, b))) in blocks.iter().zip(a_panels.iter().zip(&b_panels)).enumerate() {
            let write = if i == 0 { Write::Set } else { Write::Add };
            for (at, (piece, parts)) in strip.of.iter().zip(&mut parts).enumerate() {
                let wide = &groups[block.group][piece.wide];
                let bias = wide.bias.filter(|_| i == 0).map(|bias| &bias[piece.lanes.clone()]);
                let of_left = (&a[..], block.depth.len());
                let seconds = block.is_last.then_some((narrows, seconds));
                parts.push(b.part(kernel, at, of_left, (wide, seconds), Epilogue { alpha, bias, write }));
            }
        }
        take_strip(pool, kernel, rows, strip, &parts, taker);
    }
}

/// All tiles of a strip, whose products have such parts.
fn take_strip<T: Taker>(
    pool: &Pool,
    kernel: Kernel,
    rows: Range<usize>,
    strip: &Strip,
    parts: &[Vec<Part>],
    taker: &mut T,
) {
    let across = (TASK.1 / strip.of.len()).max(1) * kernel.nr;
    let few = (SUMS / (parts.len() * across) / kernel.mr).clamp(1, TASK.0);
    let places = taker.places(rows.clone(), strip.at..strip.at + strip.width, (few * kernel.mr, across));
    let mut places = places.into_iter();
    let mut tasks = Vec::new();
    for rows in steps(0..rows.len(), TASK.0 / few * few * kernel.mr) {
        let first = tasks.len();
        tasks.extend(steps(0..strip.width, across).map(|columns| TileTask { columns, places: Vec::new() }));
        for rows in steps(rows, few * kernel.mr) {
            let of_rows = tasks[first..].iter_mut().zip(&mut places);
            of_rows.for_each(|(task, place)| task.places.push((rows.clone(), place)));
        }
    }
    pool.each(tasks, |TileTask { columns, places }: TileTask<T::Place<'_>>| {
        let width = columns.len();
        let mut sums = pool.scratch(parts.len() * few * kernel.mr * width);
        kernel.ready(|multiply| {
            for (rows, place) in places {
                let size = rows.len() * width;
                let mut of_each: Vec<&mut [f32]> = sums.chunks_exact_mut(size).take(parts.len()).collect();
                for (parts, sums) in parts.iter().zip(&mut of_each) {
                    for part in parts {
                        let to = sums.chunks_exact_mut(width).collect();
                        part.fill_with(Tile { row: rows.start, col: columns.start, rows: to }, multiply);
                    }
                }
                T::take(place, &mut of_each);
            }
        });
    });
}

/// `y (=|+=) alpha·Σ left·w + bias` of all `wides`, rounded once, and their `narrows`.
pub(super) fn rounded(
    pool: &Pool,
    kernel: Kernel,
    y: ViewMut<Half>,
    left: Side,
    wides: &[Wide],
    narrows: &mut [Narrow],
    alpha: f32,
    write: Write,
) {
    let group = wides.chunk_by(|a, b| a.of == b.of).next().unwrap_or_default();
    let together = columns_together(kernel, wides);
    let mut strips = Vec::new();
    for (wide, Wide { columns, .. }) in group.iter().enumerate() {
        for lanes in steps(0..columns.len(), together) {
            let (at, width) = (columns.start + lanes.start, lanes.len());
            strips.push(Strip { at, width, of: vec![Piece { wide, lanes }] });
        }
    }
    products(pool, kernel, left, wides, narrows, alpha, &strips, &mut Rounded { isa: kernel.isa, y, write });
}

/// Rounds what it takes.
struct Rounded<'a> {
    isa: Isa,
    y: ViewMut<'a, Half>,
    write: Write,
}

/// Where it brings a tile.
type Rows<'t> = (Isa, Write, Vec<&'t mut [Half]>);

impl Taker for Rounded<'_> {
    type Place<'t>
        = Rows<'t>
    where
        Self: 't;

    fn places(&mut self, rows: Range<usize>, columns: Range<usize>, step: (usize, usize)) -> Vec<Rows<'_>> {
        let window = self.y.reborrow().rows_from(rows.start, rows.len()).columns(columns.start, columns.len());
        let tiles = window.tiles(steps(0..rows.len(), step.0), step.1);
        tiles.into_iter().map(|tile| (self.isa, self.write, tile.rows)).collect()
    }

    fn take((isa, write, mut rows): Rows<'_>, sums: &mut [&mut [f32]]) {
        let width = rows.first().map_or(1, |row| row.len());
        for sums in sums {
            for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(width)) {
                for cols in steps(0..width, BLOCK) {
                    let sums = &sums[cols.clone()];
                    Half::finish(isa, &mut [&mut **row], cols, sums, sums.len(), Epilogue::plain(write));
                }
            }
        }
    }
}
