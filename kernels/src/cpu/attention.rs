//! Causal grouped-query attention in blocks, softmax on the way (Milakov & Gimelshein 2018, Dao et al. 2022).
//!
//! A task takes some positions of one sequence and one query head, or, where positions are few, all query heads that share
//! a key head, stacked head after head. Keys and values are packed once for all of them (`attention_keys.rs`).

use super::attention_keys::{HeldHead, KEYS, Read, hold};
use super::exp::{exp, tanh};
use super::finish::tile;
use super::gemm::{Epilogue, steps};
use super::pack::Along;
use super::packed::Lying;
use super::panels::{Kernel, Side};
use super::pool::Pool;
#[cfg(target_arch = "x86_64")]
use super::simd_avx512_rows::Scores;
use super::simd_dispatch::{Isa, vectorized};
use super::sink::{Sink, SinkTile};
use super::source::Source;
use crate::backend::{AttentionParams, Segment, Write};
use crate::host::{Tile, View, ViewMut};
use std::ops::Range;

/// Query rows of one task at most.
const QUERIES: usize = 64;
/// The same of rows that are stacked, about.
const STACKED: usize = 128;

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

    /// Those of one query head alone.
    pub(super) fn of_query(params: &AttentionParams, head: usize) -> Self {
        let heads = params.heads;
        let of_key = Self::of(params, head * heads.n_kv_heads / heads.n_heads);
        Self { group: 1, at: [head * heads.head_dim, of_key.at[1], of_key.at[2]], ..of_key }
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

/// Positions of one task of all heads that share a key head.
pub(super) fn positions_per_task(params: &AttentionParams) -> usize {
    (STACKED * params.heads.n_kv_heads / params.heads.n_heads).max(8)
}

/// Positions of one task of one head: whole panels.
pub(super) fn positions_of_head(kernel: Kernel) -> usize {
    QUERIES / kernel.mr * kernel.mr
}

/// Row ranges of the tasks of all sequences, in order, each with the number of its sequence.
pub(super) fn row_ranges(segments: &[Segment], step: usize) -> Vec<(usize, Range<usize>)> {
    let blocks = |(i, s): (usize, &Segment)| steps(s.start..s.start + s.len, step).map(move |rows| (i, rows));
    segments.iter().enumerate().flat_map(blocks).collect()
}

/// The positions that a query at `position` sees.
#[inline(always)]
pub(super) fn seen(window: Option<usize>, position: usize) -> Range<usize> {
    window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
}

/// `out[m, n] (=|+=) a·b` of packed panels, the first `depth` steps of them; rows of `out` are `stride` apart.
pub(super) fn product(
    kernel: Kernel,
    a: &[f32],
    b: Lying,
    (m, n, depth): (usize, usize, usize),
    (out, stride): (&mut [f32], usize),
    write: Write,
) {
    let Kernel { mr, nr, .. } = kernel;
    let (a_words, b_words) = (kernel.left_words(depth), kernel.words(depth));
    let (mut out, mut of_panel) = (out.chunks_mut(stride), Vec::with_capacity(mr));
    kernel.ready(|multiply| {
        for (a, rows) in a.chunks_exact(mr * a_words).zip(steps(0..m, mr)) {
            of_panel.clear();
            of_panel.extend(out.by_ref().take(rows.len()));
            for (panel, cols) in steps(0..n, nr).enumerate() {
                let b = &b.words[panel * b.stride..][..nr * b_words];
                tile(kernel, &[(a, b)], &mut of_panel, cols, Epilogue::plain(write), multiply);
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
    let of_head = |segment: &Segment, head: usize| {
        let all = |col| qkv.rows_from(segment.start, segment.len).columns(col, heads.head_dim);
        let [_, keys, values] = Columns::of(params, head).at;
        vec![(Read::Numbers(all(keys)), Along::Lanes), (Read::Numbers(all(values)), Along::Depth)]
    };
    let of_segment = |s| (0..heads.n_kv_heads).map(move |head| of_head(s, head));
    let held = hold(pool, kernel, &params.segments.iter().flat_map(of_segment).collect::<Vec<_>>());
    let blocks = row_ranges(&params.segments, positions_of_head(kernel));
    let ranges = || blocks.iter().map(|(_, rows)| rows.clone());
    let tiles = y.tiles(ranges(), heads.head_dim).into_iter().zip(lse.tiles(ranges(), 1));
    let owners = blocks.iter().flat_map(|(i, _)| (0..heads.n_heads).map(move |head| (*i, head)));
    pool.each(owners.zip(tiles).collect(), |((i, head), (y, lse))| {
        let held = held.head(i * heads.n_kv_heads + head / group);
        let (first, rows) = (y.row - params.segments[i].start, y.row..y.row + y.rows.len());
        let run = Run { queries: qkv, rows, first, held, columns: Columns::of_query(params, head), params };
        run.attend(pool, kernel, y, Some(lse));
    });
}

/// The queries of one task and everything they may attend to.
pub(super) struct Run<'a> {
    pub(super) queries: Source<'a>,
    pub(super) rows: Range<usize>,
    /// Position of the first row in its sequence.
    pub(super) first: usize,
    /// Keys with positions as lanes, values with positions as depth.
    pub(super) held: HeldHead<'a>,
    pub(super) columns: Columns,
    pub(super) params: &'a AttentionParams,
}

impl Run<'_> {
    pub(super) fn attend(&self, pool: &Pool, kernel: Kernel, y: SinkTile, lse: Option<Tile>) {
        let isa = kernel.isa;
        let &Self { columns, params, first, held, .. } = self;
        let (n, hd) = (self.rows.len(), columns.head_dim);
        let m = n * columns.group;
        let mut out = pool.scratch(m * hd);
        let mut a = pool.scratch(kernel.left_len(m, KEYS));
        let mut q_panels = pool.scratch(kernel.left_len(m, hd));
        let mut scores = pool.scratch(m * KEYS);
        let mut state = pool.scratch(2 * m);
        let mut heads = pool.scratch(columns.group * hd);
        let (max, sum) = state.split_at_mut(m);
        self.pack_queries(kernel, &mut out, &mut q_panels);
        out.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        // A sink is a first key that has no value.
        let sinks = params.sinks.iter().skip(columns.at[0] / hd).take(columns.group);
        for ((max, sum), sink) in max.chunks_exact_mut(n).zip(sum.chunks_exact_mut(n)).zip(sinks) {
            max.fill(*sink);
            sum.fill(1.0);
        }
        for (block, keys) in held.blocks(seen(params.window, first).start..first + n) {
            let count = keys.len();
            let to = (&mut scores[..m * count], count);
            product(kernel, &q_panels, held.panels(block, 0), (m, count, hd), to, Write::Set);
            for (r, scores) in scores.chunks_exact_mut(count).take(m).enumerate() {
                let seen = clamp(seen(params.window, first + r % n), &keys);
                soften(isa, scores, seen, &mut out[r * hd..][..hd], &mut max[r], &mut sum[r], params);
            }
            let p = Source::Dense(View::dense(&scores[..m * count], m, count));
            kernel.left(Side::of(p, false), 0..m, 0..count, &mut a).pack();
            product(kernel, &a, held.panels(block, 1), (m, hd, count), (&mut out, hd), Write::Add);
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

    /// The queries as a left operand; `stacked` has room for them.
    fn pack_queries(&self, kernel: Kernel, stacked: &mut [f32], panels: &mut [f32]) {
        let Self { queries, columns, rows, .. } = self;
        let (n, hd) = (rows.len(), columns.head_dim);
        let m = n * columns.group;
        let source = if columns.group == 1 {
            queries.rows_from(rows.start, n).columns(columns.at[0], hd)
        } else {
            columns.stack(kernel.isa, *queries, columns.at[0], rows.clone(), stacked);
            Source::Dense(View::dense(stacked, m, hd))
        };
        kernel.left(Side::of(source, false), 0..m, 0..hd, panels).pack();
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

/// Products to weights `exp(s - max)`, zero outside of `seen`; a new maximum rescales what was summed before.
fn soften(
    isa: Isa,
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
    #[cfg(target_arch = "x86_64")]
    if let (Isa::Avx512(isa), None) = (isa, params.softcap) {
        return isa.soften(scores, params.scale, Scores { max, sum, out });
    }
    soften_all(isa, scores, out, max, sum, params);
}

vectorized! {
    fn soften_all(scores: &mut [f32], out: &mut [f32], max: &mut f32, sum: &mut f32, params: &AttentionParams) {
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
    // By halves, which takes four additions one after the other instead of fifteen.
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

#[cfg(test)]
mod tests {
    use super::{soften, total};
    use crate::backend::{AttentionParams, Heads, Segment};
    use crate::cpu::path::{PATHS, Path};

    #[test]
    fn weights_have_the_same_bits_on_every_path() {
        let heads = Heads { n_heads: 1, n_kv_heads: 1, head_dim: 20 };
        let segments = vec![Segment { start: 0, len: 77 }];
        let params = AttentionParams { heads, scale: 0.37, softcap: None, window: None, sinks: Vec::new(), segments };
        let isas: Vec<_> = PATHS.iter().filter_map(|row| Path::isa(row.0)).collect();
        for (seen, softcap) in
            [(0..77, None), (5..70, None), (3..8, Some(9.0)), (40..41, None), (9..9, None), (0..64, None)]
        {
            let params = AttentionParams { softcap, ..params.clone() };
            let of = |isa| {
                let mut scores: Vec<f32> = (0..77).map(|i| (i * 37 % 29) as f32 / 3.0 - 4.0).collect();
                let mut out: Vec<f32> = (0..20).map(|i| i as f32 / 7.0).collect();
                let (mut max, mut sum) = (1.25, 0.5);
                soften(isa, &mut scores, seen.clone(), &mut out, &mut max, &mut sum, &params);
                scores.extend(out);
                scores.extend([max, sum]);
                scores.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let plain = of(Path::Portable.isa().expect("runs everywhere"));
            assert!(isas.iter().all(|isa| of(*isa) == plain), "{seen:?} {softcap:?}");
        }
    }

    #[test]
    fn a_total_is_that_of_all_elements() {
        for n in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(total(&x), (0..n).sum::<i32>() as f32, "{n}");
        }
    }
}
