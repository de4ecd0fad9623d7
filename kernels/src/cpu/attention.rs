//! Causal grouped-query attention in blocks, softmax on the way (Milakov & Gimelshein 2018, Dao et al. 2022).
//!
//! A task takes some positions of one sequence and all query heads that share one key head; its
//! queries are stacked head after head, so that a block of keys is packed once for all of them.

use super::exp::{exp, tanh};
use super::finish::tile;
use super::gemm::{Epilogue, steps};
use super::panels::{Kernel, Side};
use super::pool::Pool;
use super::simd_dispatch::Isa;
use super::simd_dispatch::vectorized;
use super::sink::{Sink, SinkTile};
use super::source::Source;
use crate::backend::{AttentionParams, Segment, Write};
use crate::host::{Tile, View, ViewMut};
use std::ops::Range;

/// Stacked query rows of one task, about.
const QUERIES: usize = 128;
/// Keys of one block.
pub(super) const KEYS: usize = 128;

/// Where the columns of a key head and its query heads lie.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// Query heads that share the key head.
    pub(super) group: usize,
    pub(super) head_dim: usize,
    /// First column of the queries, of the key, of the value.
    pub(super) at: [usize; 3],
}

impl Columns {
    pub(super) fn of(params: &AttentionParams, kv_head: usize) -> Self {
        let heads = params.heads;
        let (group, kv) = (heads.n_heads / heads.n_kv_heads, kv_head * heads.head_dim);
        let at = [kv * group, heads.q_dim() + kv, heads.q_dim() + heads.kv_dim() + kv];
        Self { group, head_dim: heads.head_dim, at }
    }

    /// The queries of `rows`, stacked: row `g·n + i` is query head `g` of row `i`.
    pub(super) fn stack(&self, isa: Isa, x: Source, col: usize, rows: Range<usize>, out: &mut [f32]) {
        let (n, hd) = (rows.len(), self.head_dim);
        for (i, row) in rows.enumerate() {
            for (g, head) in steps(col..col + self.group * hd, hd).enumerate() {
                x.copy_to(isa, row, head, &mut out[(g * n + i) * hd..][..hd]);
            }
        }
    }
}

/// Positions of one task.
pub(super) fn positions_per_task(params: &AttentionParams) -> usize {
    (QUERIES * params.heads.n_kv_heads / params.heads.n_heads).max(8)
}

/// Row ranges of the tasks of all sequences, in order.
pub(super) fn row_ranges(segments: &[Segment], step: usize) -> Vec<(Segment, Range<usize>)> {
    let blocks = |s: &Segment| steps(s.start..s.start + s.len, step).map(|rows| (*s, rows)).collect::<Vec<_>>();
    segments.iter().flat_map(blocks).collect()
}

/// The positions that a query at `position` sees.
#[inline(always)]
pub(super) fn seen(window: Option<usize>, position: usize) -> Range<usize> {
    window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
}

/// `out[m, n] (=|+=) a·b` of packed panels, `depth` steps deep.
pub(super) fn product(
    kernel: Kernel,
    a: &[f32],
    b: &[f32],
    m: usize,
    n: usize,
    depth: usize,
    out: &mut [f32],
    write: Write,
) {
    let Kernel { mr, nr, .. } = kernel;
    let (a_words, b_words) = (kernel.left_words(depth), kernel.words(depth));
    let mut out: Vec<&mut [f32]> = out[..m * n].chunks_exact_mut(n).collect();
    kernel.ready(|multiply| {
        for (b, cols) in b.chunks_exact(nr * b_words).zip(steps(0..n, nr)) {
            for (a, rows) in a.chunks_exact(mr * a_words).zip(out.chunks_mut(mr)) {
                tile(kernel, &[(a, b)], rows, cols.clone(), Epilogue::plain(write), multiply);
            }
        }
    });
}

/// Zero the rows that belong to no sequence.
pub(super) fn clear_outside(y: Sink, segments: impl Iterator<Item = Range<usize>>) {
    let mut end = 0;
    let mut rows = y.into_rows().into_iter();
    for s in segments {
        rows.by_ref().take(s.start - end).for_each(|mut row| row.clear());
        rows.by_ref().take(s.len()).for_each(drop);
        end = s.end;
    }
    rows.for_each(|mut row| row.clear());
}

/// Forward; rows outside every segment give zeros.
pub(super) fn attention(
    pool: &Pool,
    kernel: Kernel,
    mut y: Sink,
    mut lse: ViewMut,
    qkv: Source,
    params: &AttentionParams,
) {
    let covered = || params.segments.iter().map(|s| s.start..s.start + s.len);
    clear_outside(y.reborrow(), covered());
    clear_outside(Sink::F32(lse.reborrow()), covered());
    let heads = params.heads;
    let group = heads.n_heads / heads.n_kv_heads;
    let blocks = row_ranges(&params.segments, positions_per_task(params));
    let ranges = || blocks.iter().map(|(_, rows)| rows.clone());
    let tiles = y.tiles(ranges(), group * heads.head_dim).into_iter().zip(lse.tiles(ranges(), group));
    let owners = blocks.iter().flat_map(|(segment, _)| (0..heads.n_kv_heads).map(move |head| (*segment, head)));
    pool.each(owners.zip(tiles).collect(), |((segment, head), (y, lse))| {
        let columns = Columns::of(params, head);
        let all = |col| qkv.rows_from(segment.start, segment.len).columns(col, heads.head_dim);
        let (first, rows) = (y.row - segment.start, y.row..y.row + y.rows.len());
        let run =
            Run { queries: qkv, rows, first, keys: all(columns.at[1]), values: all(columns.at[2]), columns, params };
        run.attend(pool, kernel, y, Some(lse));
    });
}

/// The queries of one task and everything they may attend to.
pub(super) struct Run<'a> {
    pub(super) queries: Source<'a>,
    pub(super) rows: Range<usize>,
    /// Position of the first row in its sequence.
    pub(super) first: usize,
    pub(super) keys: Source<'a>,
    pub(super) values: Source<'a>,
    pub(super) columns: Columns,
    pub(super) params: &'a AttentionParams,
}

impl Run<'_> {
    pub(super) fn attend(&self, pool: &Pool, kernel: Kernel, y: SinkTile, lse: Option<Tile>) {
        let isa = kernel.isa;
        let Self { columns, params, first, .. } = self;
        let (n, hd) = (self.rows.len(), columns.head_dim);
        let m = n * columns.group;
        let mut out = pool.scratch(m * hd);
        let mut a = pool.scratch(kernel.left_len(m, KEYS));
        let mut q_panels = pool.scratch(kernel.left_len(m, hd));
        let mut b = pool.scratch(kernel.right_len(KEYS, hd).max(kernel.right_len(hd, KEYS)));
        let mut scores = pool.scratch(m * KEYS);
        let mut state = pool.scratch(2 * m);
        let mut heads = pool.scratch(columns.group * hd);
        let (max, sum) = state.split_at_mut(m);
        columns.stack(isa, self.queries, columns.at[0], self.rows.clone(), &mut out);
        let queries = Side::of(Source::Dense(View::dense(&out, m, hd)), false);
        kernel.left(queries, 0..m, 0..hd, &mut q_panels).pack();
        out.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        // A sink is a first key that has no value.
        let sinks = params.sinks.iter().skip(columns.at[0] / hd).take(columns.group);
        for ((max, sum), sink) in max.chunks_exact_mut(n).zip(sum.chunks_exact_mut(n)).zip(sinks) {
            max.fill(*sink);
            sum.fill(1.0);
        }
        for keys in steps(seen(params.window, *first).start..first + n, KEYS) {
            let count = keys.len();
            kernel.right(Side::of(self.keys, true), keys.clone(), 0..hd, &mut b).pack();
            product(kernel, &q_panels, &b, m, count, hd, &mut scores, Write::Set);
            for (r, scores) in scores.chunks_exact_mut(count).take(m).enumerate() {
                let seen = seen(params.window, first + r % n);
                let seen = clamp(seen, &keys);
                soften(isa, scores, seen, &mut out[r * hd..][..hd], &mut max[r], &mut sum[r], params);
            }
            let p = Source::Dense(View::dense(&scores[..m * count], m, count));
            kernel.left(Side::of(p, false), 0..m, 0..count, &mut a).pack();
            let values = self.values.rows_from(keys.start, count);
            kernel.right(Side::of(values, false), 0..hd, 0..count, &mut b).pack();
            product(kernel, &a, &b, m, hd, count, &mut out, Write::Add);
        }
        for (i, y) in y.rows.into_iter().enumerate() {
            y.write(isa, Write::Set, &mut heads, |y| {
                for (g, y) in y.chunks_exact_mut(hd).enumerate() {
                    let r = g * n + i;
                    let scale = 1.0 / sum[r];
                    y.iter_mut().zip(&out[r * hd..]).for_each(|(y, o)| *y = o * scale);
                }
            });
        }
        for (i, lse) in lse.into_iter().flat_map(|tile| tile.rows).enumerate() {
            for (g, lse) in lse.iter_mut().enumerate() {
                *lse = max[g * n + i] + sum[g * n + i].ln();
            }
        }
    }
}

/// The part of `range` in `within`, counted from its start; empty when there is none.
pub(super) fn clamp(range: Range<usize>, within: &Range<usize>) -> Range<usize> {
    let start = range.start.clamp(within.start, within.end);
    start - within.start..range.end.clamp(start, within.end) - within.start
}

/// The score of a product `q·k`, and its derivative by `scale·q·k`.
#[inline(always)]
pub(super) fn score(product: f32, scale: f32, softcap: Option<f32>) -> (f32, f32) {
    let u = product * scale;
    match softcap {
        Some(cap) => {
            let t = tanh(u / cap);
            (cap * t, 1.0 - t * t)
        }
        None => (u, 1.0),
    }
}

vectorized! {
    /// Products to weights `exp(s - max)`, zero outside of `seen`; a new maximum rescales what was summed before.
    fn soften(
        scores: &mut [f32],
        seen: Range<usize>,
        out: &mut [f32],
        max: &mut f32,
        sum: &mut f32,
        params: &AttentionParams,
    ) {
        scores[..seen.start].fill(0.0);
        scores[seen.end..].fill(0.0);
        let scores = &mut scores[seen];
        if scores.is_empty() {
            return;
        }
        match params.softcap {
            Some(_) => scores.iter_mut().for_each(|s| *s = score(*s, params.scale, params.softcap).0),
            None => scores.iter_mut().for_each(|s| *s *= params.scale),
        }
        let largest = largest(scores);
        if largest > *max {
            let shrink = exp(*max - largest);
            *max = largest;
            *sum *= shrink;
            for o in out {
                *o *= shrink;
            }
        }
        let top = *max;
        for s in &mut *scores {
            *s = exp(*s - top);
        }
        *sum += total(scores);
    }
}

/// The largest element, by lanes.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (runs, rest) = x.as_chunks::<16>();
    for run in runs {
        for (lane, &x) in lanes.iter_mut().zip(run) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// The sum of all elements, by lanes.
#[inline(always)]
pub(super) fn total(x: &[f32]) -> f32 {
    let mut lanes = [0.0; 16];
    let (runs, rest) = x.as_chunks::<16>();
    for run in runs {
        for (lane, &x) in lanes.iter_mut().zip(run) {
            *lane += x;
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    lanes.iter().sum()
}
