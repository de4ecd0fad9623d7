//! Products of matrices: blocks, panels, register tiles; adapters inside them.
//!
//! Loops, from the outside: rows in `ROWS`, depth, columns in `COLS`; the panels of one block are packed once and shared
//! by all threads; then tiles of `TASK` register tiles go to whichever thread is free. Each output is summed by one
//! thread, in order of depth.
//!
//! Several products may have the left operand in common, which is packed once for all of them. A narrow product of it is
//! computed by whoever packs it, and is a factor in turn: its product with a second narrow matrix is summed in the
//! registers of the wide one, behind the last step of the depth (`[x, s·x·aᵀ]·[w, b]ᵀ`).

use super::factors::Factors;
use super::few::tiles;
use super::finish::{Written, tile as tile_at};
use super::packed::Lying;
pub(super) use super::panels::Side;
use super::panels::{Kernel, Multiply, Packing};
use super::pool::{Pool, Scratch};
use super::simd_dispatch::Isa;
use super::sink::Sink;
use super::source::Source;
use super::whole;
use crate::backend::Write;
use crate::host::{Tile, View, ViewMut};
use std::ops::Range;

/// Rows of the left operand packed at a time.
pub(super) const ROWS: usize = 2048;
/// Columns of the right operand packed at a time: 3 MiB.
pub(super) const COLS: usize = 2048;
/// Register tiles that one task takes, down and across: small enough that threads end at about the same time.
pub(super) const TASK: (usize, usize) = (4, 8);

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

    /// The sum of column `column` to its place.
    #[inline(always)]
    pub(super) fn store(&self, y: &mut f32, column: usize, sum: f32) {
        let bias = self.bias.map_or(0.0, |bias| bias[column]);
        let old = if self.write == Write::Set { 0.0 } else { *y };
        *y = old + self.alpha * sum + bias;
    }
}

/// One of the products with the same left operand.
pub(super) struct Wide<'a> {
    /// Columns of the left operand. Products follow each other by them; those with the same columns are one group.
    pub(super) of: Range<usize>,
    pub(super) w: Side<'a>,
    /// Columns of the result; in a group they ascend without overlap.
    pub(super) columns: Range<usize>,
    pub(super) bias: Option<&'a [f32]>,
    /// Narrow products whose second factors are summed with it. Only in the last group.
    pub(super) narrow: Range<usize>,
}

/// A narrow product of the left operand, which is then a factor beside it.
pub(super) struct Narrow<'a> {
    /// Columns of the left operand: those of a group.
    pub(super) of: Range<usize>,
    pub(super) first: Side<'a>,
    /// Multiplies the product.
    pub(super) alpha: f32,
    /// The product: is set.
    pub(super) out: ViewMut<'a>,
    /// Multiplies it where it is a factor.
    pub(super) scale: f32,
    pub(super) second: Side<'a>,
}

/// `y (=|+=) alpha·op(a)·op(b) + bias`, `k` the inner dimension. `y` may be any shape, 0 included.
pub(super) fn gemm(pool: &Pool, isa: Isa, factors: Factors, y: Sink, a: Side, b: Side, k: usize, epilogue: Epilogue) {
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
        let mut buffer = pool.scratch(y.room());
        return y.into_rows().into_iter().for_each(|row| row.write(isa, epilogue.write, &mut buffer, nothing));
    }
    let wide = Wide { of: 0..k, w: b, columns: 0..n, bias: epilogue.bias, narrow: 0..0 };
    products(pool, Kernel::of(isa, factors), Some(y), a, &[wide], &mut [], epilogue.alpha, epilogue.write);
}

/// `y (=|+=) alpha·Σ left·w + bias` of all `wides`, and their `narrows`. Nothing is empty. Without `y` only the narrow
/// products are computed.
pub(super) fn products(
    pool: &Pool,
    kernel: Kernel,
    y: Option<Sink>,
    left: Side,
    wides: &[Wide],
    narrows: &mut [Narrow],
    alpha: f32,
    write: Write,
) {
    let of = &wides[0].of;
    let is_one_block = of.len() <= kernel.deepest(of.len()) && wides.iter().all(|wide| wide.of == *of);
    match y {
        None => blocks::<f32>(pool, kernel, None, left, wides, narrows, alpha, write),
        Some(Sink::F32(y)) => blocks(pool, kernel, Some(y), left, wides, narrows, alpha, write),
        Some(Sink::Bf16(y)) if is_one_block => blocks(pool, kernel, Some(y), left, wides, narrows, alpha, write),
        // What is summed block after block is f32 until it is whole.
        Some(Sink::Bf16(y)) => whole::rounded(pool, kernel, y, left, wides, narrows, alpha, write),
    }
}

/// [`products`] into numbers of one kind; where they are rounded there is one block of the depth.
fn blocks<T: Written>(
    pool: &Pool,
    kernel: Kernel,
    mut y: Option<ViewMut<T>>,
    left: Side,
    wides: &[Wide],
    narrows: &mut [Narrow],
    alpha: f32,
    write: Write,
) {
    let m = if left.transposed { left.source.cols() } else { left.source.rows() };
    let groups: Vec<&[Wide]> = wides.chunk_by(|a, b| a.of == b.of).collect();
    let firsts = first_factors(pool, kernel, narrows);
    let pieces: Vec<Vec<Vec<Piece>>> =
        groups.iter().map(|group| if y.is_some() { pieces(group) } else { vec![Vec::new()] }).collect();
    for rows in steps(0..m, ROWS) {
        for (g, (group, pieces)) in groups.iter().zip(&pieces).enumerate() {
            let of = &group[0].of;
            let deep = kernel.deepest(of.len()).min(of.len());
            let mut a_panels = pool.scratch(kernel.left_len(rows.len(), deep));
            for (i, depth) in steps(of.clone(), kernel.deepest(of.len())).enumerate() {
                let is_first = g == 0 && i == 0;
                let is_last = g + 1 == groups.len() && depth.end == of.end;
                let mut seconds: Vec<Scratch> = Vec::new();
                for narrow in narrows.iter().filter(|_| is_last) {
                    seconds.push(pool.scratch(kernel.left_len(rows.len(), narrow.out.cols())));
                }
                for (p, pieces) in pieces.iter().enumerate() {
                    let in_source = depth.start - of.start..depth.end - of.start;
                    let deep = (deep, &in_source);
                    let lengths = RightPanels::lengths(kernel, group, pieces, narrows, deep, is_last);
                    let mut room = pool.scratch(lengths.iter().flatten().sum());
                    let (mut b_panels, _) = RightPanels::new(kernel, group, pieces, &in_source, &lengths, &mut room);
                    let mut tasks = b_panels.tasks(kernel, group, pieces, narrows, &in_source);
                    if p == 0 {
                        // The left operand with the first columns of the right one, so that threads meet once less.
                        let turns = Turns { kernel, pool, left, depth: &depth, block: i, is_last };
                        tasks.extend(turns.tasks(&rows, narrows, &firsts, &mut a_panels, &mut seconds));
                    }
                    pool.each(tasks, Task::run);
                    let Some(y) = &mut y else { continue };
                    let block = y.reborrow().rows_from(rows.start, rows.len());
                    let columns = |piece: &Piece| {
                        let first = group[piece.wide].columns.start;
                        (first + piece.lanes.start..first + piece.lanes.end, TASK.1 * kernel.nr)
                    };
                    let write = if is_first { write } else { Write::Add };
                    let of_left = (&a_panels[..], depth.len());
                    let seconds = is_last.then_some((&*narrows, &seconds[..]));
                    let part = |(at, piece): (usize, &Piece)| {
                        let wide = &group[piece.wide];
                        let bias = wide.bias.filter(|_| is_first).map(|bias| &bias[piece.lanes.clone()]);
                        b_panels.part(kernel, at, of_left, (wide, seconds), Epilogue { alpha, bias, write })
                    };
                    let parts: Vec<Part> = pieces.iter().enumerate().map(part).collect();
                    let mut tasks = Vec::new();
                    for (first, rows) in block.blocks(TASK.0 * kernel.mr) {
                        let of_rows = tiles(rows, pieces.iter().map(columns));
                        tasks.extend(of_rows.into_iter().map(|(at, tile)| (at, Tile { row: first, ..tile })));
                    }
                    pool.each(tasks, |(at, tile)| parts[at].fill(tile));
                }
            }
        }
    }
}

/// `range` in steps of at most `step`.
pub(super) fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    range.clone().step_by(step).map(move |start| start..range.end.min(start + step))
}

/// Columns of one product of a group.
pub(super) struct Piece {
    pub(super) wide: usize,
    pub(super) lanes: Range<usize>,
}

/// The columns of a group, about `COLS` at a time.
fn pieces(group: &[Wide]) -> Vec<Vec<Piece>> {
    let (mut all, mut room) = (Vec::new(), 0);
    for (wide, Wide { columns, .. }) in group.iter().enumerate() {
        let mut start = 0;
        while start < columns.len() {
            if room == 0 {
                all.push(Vec::new());
                room = COLS;
            }
            let lanes = start..columns.len().min(start + room);
            room -= lanes.len();
            start = lanes.end;
            if let Some(last) = all.last_mut() {
                last.push(Piece { wide, lanes });
            }
        }
    }
    all
}

/// The first factor of every narrow product, packed for each block of its depth.
pub(super) fn first_factors<'p>(pool: &'p Pool, kernel: Kernel, narrows: &[Narrow]) -> Vec<Vec<Scratch<'p>>> {
    let blocks = |narrow: &Narrow| steps(0..narrow.of.len(), kernel.deepest(narrow.of.len()));
    let room = |narrow: &Narrow| -> Vec<Scratch> {
        blocks(narrow).map(|depth| pool.scratch(kernel.right_len(narrow.out.cols(), depth.len()))).collect()
    };
    let mut panels: Vec<Vec<Scratch>> = narrows.iter().map(room).collect();
    let mut tasks = Vec::new();
    for (narrow, panels) in narrows.iter().zip(&mut panels) {
        for (depth, panels) in blocks(narrow).zip(panels) {
            tasks.push(kernel.right(narrow.first, 0..narrow.out.cols(), depth, panels));
        }
    }
    pool.each(tasks, |task| {
        task.pack();
    });
    panels
}

/// Narrow products, and each packed as a factor.
type Seconds<'n, 'b, 'a, 'p> = (&'n [Narrow<'b>], &'a [Scratch<'p>]);

/// Panels of the right operand: of every piece those of its product, then those of its second factors.
pub(super) struct RightPanels<'p> {
    panels: Vec<Vec<&'p mut [f32]>>,
    /// Of every piece its product's panels, where they lie in its weight.
    lying: Vec<Option<Lying<'p>>>,
}

impl<'p> RightPanels<'p> {
    /// The room that each of them takes, of every piece.
    pub(super) fn lengths(
        kernel: Kernel,
        group: &[Wide],
        pieces: &[Piece],
        narrows: &[Narrow],
        (deep, depth): (usize, &Range<usize>),
        is_last: bool,
    ) -> Vec<Vec<usize>> {
        let of_piece = |Piece { wide, lanes }: &Piece| {
            let Wide { w, narrow, .. } = &group[*wide];
            let packed = if kernel.lying(*w, lanes, depth).is_some() { 0 } else { kernel.right_len(lanes.len(), deep) };
            let seconds = narrow.clone().filter(|_| is_last);
            let seconds = seconds.map(|narrow| kernel.right_len(lanes.len(), narrows[narrow].out.cols()));
            std::iter::once(packed).chain(seconds).collect()
        };
        pieces.iter().map(of_piece).collect()
    }

    /// Panels of these lengths at the beginning of `room`, and what is left of that.
    pub(super) fn new(
        kernel: Kernel,
        group: &[Wide<'p>],
        pieces: &[Piece],
        depth: &Range<usize>,
        lengths: &[Vec<usize>],
        mut room: &'p mut [f32],
    ) -> (Self, &'p mut [f32]) {
        let mut take = |len: &usize| {
            let (panels, rest) = std::mem::take(&mut room).split_at_mut(*len);
            room = rest;
            panels
        };
        let panels = lengths.iter().map(|lengths| lengths.iter().map(&mut take).collect()).collect();
        let lying = |piece: &Piece| kernel.lying(group[piece.wide].w, &piece.lanes, depth);
        (Self { panels, lying: pieces.iter().map(lying).collect() }, room)
    }

    /// Panels of a piece's product; packed ones are `stride` long.
    fn main(&self, piece: usize, stride: usize) -> Lying<'_> {
        self.lying[piece].unwrap_or(Lying { words: &*self.panels[piece][0], stride })
    }

    fn second(&self, piece: usize, narrow: usize) -> &[f32] {
        &*self.panels[piece][1 + narrow]
    }

    /// What is summed for the piece at `at`: its product with the left operand's panels, of so many steps, and where the
    /// depth ends there what its adapters add.
    pub(super) fn part<'a>(
        &'a self,
        kernel: Kernel,
        at: usize,
        (left, steps): (&'a [f32], usize),
        (wide, seconds): (&Wide, Option<Seconds<'_, '_, 'a, '_>>),
        epilogue: Epilogue<'a>,
    ) -> Part<'a> {
        let words = kernel.words(steps);
        let b = self.main(at, kernel.nr * words);
        let mut panels = vec![Panels { a: left, b, depth: (kernel.left_words(steps), words) }];
        if let Some((narrows, seconds)) = seconds {
            panels.extend(wide.narrow.clone().enumerate().map(|(j, narrow)| {
                let rank = narrows[narrow].out.cols();
                let depth = (kernel.left_words(rank), kernel.words(rank));
                let b = Lying { words: self.second(at, j), stride: kernel.nr * depth.1 };
                Panels { a: &seconds[narrow], b, depth }
            }));
        }
        Part { kernel, panels, epilogue }
    }

    pub(super) fn tasks<'a>(
        &'a mut self,
        kernel: Kernel,
        group: &'a [Wide],
        pieces: &[Piece],
        narrows: &[Narrow<'a>],
        depth: &Range<usize>,
    ) -> Vec<Task<'a>> {
        let mut tasks = Vec::new();
        for ((piece, panels), lying) in pieces.iter().zip(&mut self.panels).zip(&self.lying) {
            let Piece { wide, lanes } = piece;
            let wide = &group[*wide];
            let narrows = wide.narrow.clone().map(|narrow| &narrows[narrow]);
            let seconds = narrows.map(|narrow| (narrow.second, 0..narrow.out.cols()));
            let sides = std::iter::once((wide.w, depth.clone())).chain(seconds);
            for (out, (side, depth)) in panels.iter_mut().zip(sides).skip(usize::from(lying.is_some())) {
                tasks.extend(kernel.right(side, lanes.clone(), depth, out).split().map(Task::Right));
            }
        }
        tasks
    }
}

/// What is to be done before tiles are filled.
pub(super) enum Task<'a> {
    Right(Packing<'a>),
    Left(LeftTask<'a>),
}

impl Task<'_> {
    pub(super) fn run(self) {
        match self {
            Self::Right(packing) => {
                packing.pack();
            }
            Self::Left(task) => task.run(),
        }
    }
}

/// What is to be done with the left operand of one block.
pub(super) struct Turns<'a> {
    pub(super) kernel: Kernel,
    pub(super) pool: &'a Pool,
    pub(super) left: Side<'a>,
    pub(super) depth: &'a Range<usize>,
    /// Number of the block of the depth in its group.
    pub(super) block: usize,
    pub(super) is_last: bool,
}

impl<'a> Turns<'a> {
    pub(super) fn tasks(
        &self,
        rows: &Range<usize>,
        narrows: &'a mut [Narrow],
        firsts: &'a [Vec<Scratch>],
        panels: &'a mut [f32],
        seconds: &'a mut [Scratch],
    ) -> Vec<Task<'a>> {
        let &Self { kernel, pool, left, depth, block, is_last } = self;
        let some = kernel.left_lanes(left.transposed);
        let panels = panels.chunks_mut((some * kernel.left_words(depth.len())).max(1));
        let mut tasks: Vec<LeftTask> = (steps(rows.clone(), some).zip(panels))
            .map(|(lanes, out)| {
                let packing = kernel.left(left, lanes, depth.clone(), out);
                LeftTask { kernel, pool, packing, narrow: Vec::new() }
            })
            .collect();
        let mut seconds = seconds.iter_mut();
        for (narrow, firsts) in narrows.iter_mut().zip(firsts) {
            let is_active = narrow.of.start <= depth.start && depth.end <= narrow.of.end;
            let rank = narrow.out.cols();
            let mut second =
                seconds.next().filter(|_| is_last).map(|out| out.chunks_mut((some * kernel.left_words(rank)).max(1)));
            if !is_active && second.is_none() {
                continue;
            }
            let blocks = narrow.out.reborrow().rows_from(rows.start, rows.len()).blocks(some);
            for (task, (_, out)) in tasks.iter_mut().zip(blocks) {
                task.narrow.push(NarrowRows {
                    first: is_active.then(|| &firsts[block][..]),
                    epilogue: Epilogue {
                        alpha: narrow.alpha,
                        ..Epilogue::plain(if block == 0 { Write::Set } else { Write::Add })
                    },
                    out,
                    scale: narrow.scale,
                    second: second.as_mut().and_then(Iterator::next),
                });
            }
        }
        tasks.into_iter().map(Task::Left).collect()
    }
}

/// Rows of the left operand to be packed, and what is made of them on the way.
pub(super) struct LeftTask<'a> {
    kernel: Kernel,
    pool: &'a Pool,
    packing: Packing<'a>,
    narrow: Vec<NarrowRows<'a>>,
}

/// The same rows of one narrow product.
struct NarrowRows<'a> {
    /// Its first factor, where this block of the depth belongs to it.
    first: Option<&'a [f32]>,
    epilogue: Epilogue<'a>,
    out: ViewMut<'a>,
    scale: f32,
    /// Where it is packed as a factor, once it is complete.
    second: Option<&'a mut [f32]>,
}

impl LeftTask<'_> {
    fn run(self) {
        let Self { kernel, pool, packing, narrow } = self;
        let (a, words) = packing.pack();
        for NarrowRows { first, epilogue, mut out, scale, second } in narrow {
            if let Some(first) = first {
                let right = first.len() / out.cols().next_multiple_of(kernel.nr);
                let b = Lying { words: first, stride: kernel.nr * right };
                let panels = vec![Panels { a, b, depth: (words, right) }];
                let part = Part { kernel, panels, epilogue };
                let rows = out.reborrow().into_rows().collect();
                part.fill(Tile { row: 0, col: 0, rows });
            }
            if let Some(second) = second {
                let (rows, rank) = (out.rows(), out.cols());
                let mut scaled = pool.scratch(rows * rank);
                for (to, row) in scaled.chunks_exact_mut(rank).zip(out.into_rows()) {
                    to.iter_mut().zip(row).for_each(|(to, x)| *to = scale * *x);
                }
                let side = Side::of(Source::Dense(View::dense(&scaled, rows, rank)), false);
                kernel.left(side, 0..rows, 0..rank, second).pack();
            }
        }
    }
}

/// Packed panels of both operands.
struct Panels<'a> {
    a: &'a [f32],
    b: Lying<'a>,
    /// Of each, in words.
    depth: (usize, usize),
}

/// Panels whose products are summed, and what becomes of the sums.
pub(super) struct Part<'a> {
    kernel: Kernel,
    panels: Vec<Panels<'a>>,
    epilogue: Epilogue<'a>,
}

impl Part<'_> {
    /// One task: all register tiles of `tile`.
    pub(super) fn fill<T: Written>(&self, tile: Tile<T>) {
        self.kernel.ready(|multiply| self.fill_with(tile, multiply));
    }

    /// The same with what multiplies set up.
    pub(super) fn fill_with<T: Written>(&self, mut tile: Tile<T>, multiply: &mut dyn Multiply) {
        let &Self { kernel, ref panels, epilogue } = self;
        let Kernel { mr, nr, .. } = kernel;
        let width = tile.rows.first().map_or(0, |row| row.len());
        let mut pairs = Vec::with_capacity(panels.len());
        for cols in steps(0..width, nr) {
            let bias = epilogue.bias.map(|bias| &bias[tile.col..][cols.clone()]);
            for (i, rows) in tile.rows.chunks_mut(mr).enumerate() {
                pairs.clear();
                pairs.extend(panels.iter().map(|&Panels { a, b, depth }| {
                    let a = &a[(tile.row + i * mr) * depth.0..][..mr * depth.0];
                    (a, &b.words[(tile.col + cols.start) / nr * b.stride..][..nr * depth.1])
                }));
                tile_at(kernel, &pairs, rows, cols.clone(), Epilogue { bias, ..epilogue }, multiply);
            }
        }
    }
}
