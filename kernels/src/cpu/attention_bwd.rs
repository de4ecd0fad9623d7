//! Backward of attention, in one pass that recomputes the weights from the log-sum-exp.
//!
//! A task owns a query head of one sequence: blocks of queries, each with the blocks of keys that they see. Weights and
//! gradients of the scores are computed once and are factors of all three sums: `dq` over keys, and the head's share of
//! `dk` and `dv` over queries, which are turned, so that nothing else has to be. Shares of the heads that have a key head
//! in common are added in their order. Every gradient is summed by one task, in order.

use super::attention::{Columns, clamp, clear_outside, positions_of_head, product, row_ranges, score, seen, total};
use super::attention_keys::{HeldHead, KEYS, Read, hold};
use super::exp::exp;
use super::factors::Factors;
use super::gemm::steps;
use super::pack::{Along, Form, pack_as};
use super::packed::Lying;
use super::panels::{Kernel, Side};
use super::pool::Pool;
use super::simd_dispatch::{Isa, vectorized};
use super::sink::{Row, Sink, SinkTile};
use super::source::Source;
use crate::backend::{AttentionParams, Segment, Write};
use crate::host::View;
use std::ops::Range;

/// Tasks of a round for each thread: the shares of so many heads are in memory at a time.
const TASKS_OF_THREAD: usize = 4;

/// What all tasks read.
struct Inputs<'a> {
    pool: &'a Pool,
    kernel: Kernel,
    qkv: Source<'a>,
    dy: Source<'a>,
    /// Log-sum-exp of the scores, `[rows, n_heads]`.
    lse: View<'a>,
    /// `dy·y` of every head, `[rows, n_heads]`.
    weighted: View<'a>,
    params: &'a AttentionParams,
}

/// One query head of one sequence.
struct HeadTask<'a> {
    segment: Segment,
    head: usize,
    /// Keys and values with positions as lanes, keys with positions as depth.
    held: HeldHead<'a>,
    dq: Vec<Row<'a>>,
    /// Its share of the gradients of keys and values: of every block of keys both, `[head_dim, positions]`.
    shares: &'a mut [f32],
}

/// With `p = exp(s - lse)`: `dv += p·dy`, `ds = p·(dy·v - dy·y)`, `dq += scale·ds·k`, `dk += scale·ds·q`.
pub(super) fn attention_bwd(
    pool: &Pool,
    kernel: Kernel,
    mut dqkv: Sink,
    dy: Source,
    y: Source,
    lse: View,
    qkv: Source,
    params: &AttentionParams,
) {
    let heads = params.heads;
    let (group, hd, n_kv) = (heads.n_heads / heads.n_kv_heads, heads.head_dim, heads.n_kv_heads);
    clear_outside(dqkv.reborrow(), params.segments.iter().map(|s| s.start..s.start + s.len));
    let mut weighted = pool.scratch(qkv.rows() * heads.n_heads);
    let tasks = weighted.chunks_mut(16 * heads.n_heads).enumerate().collect();
    pool.each(tasks, |(block, out)| {
        let (mut of_dy, mut of_y) = (pool.scratch(dy.room()), pool.scratch(y.room()));
        for (i, out) in out.chunks_exact_mut(heads.n_heads).enumerate() {
            let row = block * 16 + i;
            let (dy, y) = (dy.row(kernel.isa, row, &mut of_dy), y.row(kernel.isa, row, &mut of_y));
            row_dots(kernel.isa, out, dy, y, hd);
        }
    });
    let weighted = View::dense(&weighted, qkv.rows(), heads.n_heads);
    let inputs = Inputs { pool, kernel, qkv, dy, lse, weighted, params };

    let of_key = |segment: &Segment, head: usize| {
        let all = |col| Read::Numbers(qkv.rows_from(segment.start, segment.len).columns(col, hd));
        let [_, keys, values] = Columns::of(params, head).at.map(all);
        vec![(keys, Along::Lanes), (values, Along::Lanes), (keys, Along::Depth)]
    };
    let owners: Vec<(Segment, usize)> =
        params.segments.iter().flat_map(|s| (0..n_kv).map(move |head| (*s, head))).collect();
    let held = hold(pool, kernel, &owners.iter().map(|(s, head)| of_key(s, *head)).collect::<Vec<_>>());

    // Tiles of every block of positions and every head of queries, keys and values.
    let mut tiles = Tiles::of(dqkv, &params.segments, heads.n_heads + 2 * n_kv, hd);
    let round = (TASKS_OF_THREAD * pool.count()).div_ceil(group);
    for (first, owners) in owners.chunks(round).enumerate().map(|(i, owners)| (i * round, owners)) {
        let mut all = pool.scratch(owners.iter().map(|(segment, _)| 2 * hd * segment.len * group).sum());
        let (mut shares, mut rest) = (Vec::new(), &mut all[..]);
        for (segment, _) in owners {
            let (of_key, behind) = std::mem::take(&mut rest).split_at_mut(2 * hd * segment.len * group);
            shares.push(of_key);
            rest = behind;
        }
        let mut tasks = Vec::new();
        for ((i, (segment, key_head)), shares) in owners.iter().enumerate().zip(&mut shares) {
            for (g, shares) in shares.chunks_exact_mut((2 * hd * segment.len).max(1)).enumerate() {
                let head = key_head * group + g;
                let dq = tiles.take(segment, head).into_iter().flat_map(|tile| tile.rows).collect();
                tasks.push(HeadTask { segment: *segment, head, held: held.head(first + i), dq, shares });
            }
        }
        pool.each(tasks, |task| inputs.head(task));
        let mut tasks = Vec::new();
        for ((segment, key_head), shares) in owners.iter().zip(&shares) {
            for (of_values, column) in [(false, heads.n_heads + key_head), (true, heads.n_heads + n_kv + key_head)] {
                let tiles = tiles.take(segment, column).into_iter().zip(steps(0..segment.len, KEYS));
                tasks.extend(tiles.map(|(tile, block)| (tile, block, of_values, &**shares, 2 * hd * segment.len)));
            }
        }
        pool.each(tasks, |(tile, block, of_values, shares, of_head)| {
            add_shares(pool, kernel.isa, tile, &block, of_values, (shares, of_head), hd);
        });
    }
}

/// Where gradients are written: of every block of positions the tiles of all heads, each taken once.
struct Tiles<'a> {
    left: Vec<Option<SinkTile<'a>>>,
    /// First row of every block, ascending.
    firsts: Vec<usize>,
    of_block: usize,
}

impl<'a> Tiles<'a> {
    fn of(y: Sink<'a>, segments: &[Segment], of_block: usize, head_dim: usize) -> Self {
        let blocks: Vec<Range<usize>> = row_ranges(segments, KEYS).into_iter().map(|(_, rows)| rows).collect();
        let firsts = blocks.iter().map(|rows| rows.start).collect();
        Self { left: y.tiles(blocks, head_dim).into_iter().map(Some).collect(), firsts, of_block }
    }

    /// Those of one head of a sequence.
    fn take(&mut self, segment: &Segment, column: usize) -> Vec<SinkTile<'a>> {
        let first = self.firsts.partition_point(|row| *row < segment.start);
        let blocks = first..first + segment.len.div_ceil(KEYS);
        blocks.filter_map(|block| self.left[block * self.of_block + column].take()).collect()
    }
}

vectorized! {
    /// `out[h] = a·b` of every head.
    fn row_dots(out: &mut [f32], a: &[f32], b: &[f32], head_dim: usize) {
        for ((out, a), b) in out.iter_mut().zip(a.chunks_exact(head_dim)).zip(b.chunks_exact(head_dim)) {
            let mut lanes = [0.0; 16];
            for (a, b) in a.chunks(16).zip(b.chunks(16)) {
                for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
                    *lane += a * b;
                }
            }
            *out = total(&lanes);
        }
    }
}

/// The weight and the gradient of `q·k`.
#[inline(always)]
fn gradient(s: f32, dp: f32, lse: f32, weighted: f32, scale: f32, softcap: Option<f32>) -> (f32, f32) {
    let (s, slope) = score(s, scale, softcap);
    let p = exp(s - lse);
    (p, p * (dp - weighted) * slope * scale)
}

/// Products of one query with some keys become weights, in `s`, and gradients, in `dp`.
fn weigh(
    isa: Isa,
    [s, dp]: [&mut [f32]; 2],
    seen: Range<usize>,
    (lse, weighted): (f32, f32),
    params: &AttentionParams,
) {
    for x in [&mut *s, &mut *dp] {
        x[..seen.start].fill(0.0);
        x[seen.end..].fill(0.0);
    }
    let (s, dp) = (&mut s[seen.clone()], &mut dp[seen]);
    #[cfg(target_arch = "x86_64")]
    if let (Isa::Avx512(isa), None) = (isa, params.softcap) {
        return isa.weigh(s, dp, params.scale, lse, weighted);
    }
    weigh_all(isa, s, dp, lse, weighted, params);
}

vectorized! {
    fn weigh_all(s: &mut [f32], dp: &mut [f32], lse: f32, weighted: f32, params: &AttentionParams) {
        let all = s.iter_mut().zip(dp);
        match params.softcap {
            None => all.for_each(|(s, dp)| (*s, *dp) = gradient(*s, *dp, lse, weighted, params.scale, None)),
            cap => all.for_each(|(s, dp)| (*s, *dp) = gradient(*s, *dp, lse, weighted, params.scale, cap)),
        }
    }
}

impl Inputs<'_> {
    /// `dq` of one head, and its share of the gradients of keys and values.
    fn head(&self, task: HeadTask) {
        let HeadTask { segment, head, held, dq, shares } = task;
        let Self { pool, kernel, qkv, dy, params, .. } = *self;
        let isa = kernel.isa;
        let Columns { head_dim: hd, at: [column, ..], .. } = Columns::of_query(params, head);
        let step = positions_of_head(kernel);
        let most = step.min(segment.len);
        let [mut q, mut of_y] = [(); 2].map(|()| pool.scratch(kernel.left_len(most, hd)));
        let [mut q_turned, mut of_y_turned] = [(); 2].map(|()| pool.scratch(kernel.left_len(hd, most)));
        let mut a = pool.scratch(kernel.left_len(most, KEYS));
        let mut b = pool.scratch(kernel.right_len(KEYS, most));
        let [mut s, mut dp] = [(); 2].map(|()| pool.scratch(most * KEYS));
        let mut sums = pool.scratch(most * hd);
        let mut buffer = pool.scratch(hd);
        shares.fill(0.0);
        let mut dq = dq.into_iter();
        for positions in steps(0..segment.len, step) {
            let (n, row) = (positions.len(), segment.start + positions.start);
            for (source, panels, turned) in [(qkv, &mut q, &mut q_turned), (dy, &mut of_y, &mut of_y_turned)] {
                let source = source.rows_from(row, n).columns(column, hd);
                kernel.left(Side::of(source, false), 0..n, 0..hd, panels).pack();
                kernel.left(Side::of(source, true), 0..hd, 0..n, turned).pack();
            }
            sums.fill(0.0);
            for (block, keys) in held.blocks(seen(params.window, positions.start).start..positions.end) {
                let count = keys.len();
                let (s, dp) = (&mut s[..n * count], &mut dp[..n * count]);
                product(kernel, &q, held.panels(block, 0), (n, count, hd), (&mut *s, count), Write::Set);
                product(kernel, &of_y, held.panels(block, 1), (n, count, hd), (&mut *dp, count), Write::Set);
                for (i, (s, dp)) in s.chunks_exact_mut(count).zip(dp.chunks_exact_mut(count)).enumerate() {
                    let seen = clamp(seen(params.window, positions.start + i), &keys);
                    let of_row = (self.lse.at(row + i, head), self.weighted.at(row + i, head));
                    weigh(isa, [s, dp], seen, of_row, params);
                }
                let [p, ds] = [s, dp].map(|x| Source::Dense(View::dense(x, n, count)));
                kernel.left(Side::of(ds, false), 0..n, 0..count, &mut a).pack();
                product(kernel, &a, held.panels(block, 2), (n, hd, count), (&mut sums, hd), Write::Add);
                let whole = (segment.len - keys.start).min(KEYS);
                let of_block = &mut shares[2 * hd * keys.start..][..2 * hd * whole];
                let (dk, dv) = of_block.split_at_mut(hd * whole);
                for (factor, turned, to) in [(p, &of_y_turned, dv), (ds, &q_turned, dk)] {
                    kernel.right(Side::of(factor, false), 0..count, 0..n, &mut b).pack();
                    let b = Lying { words: &b, stride: kernel.nr * kernel.words(n) };
                    product(kernel, turned, b, (hd, count, n), (to, whole), Write::Add);
                }
            }
            for (row, sums) in dq.by_ref().take(n).zip(sums.chunks_exact(hd)) {
                row.write(isa, Write::Set, &mut buffer, |row| row.copy_from_slice(sums));
            }
        }
    }
}

/// The gradient of the keys, or of the values, of one block: shares of heads added, and turned.
fn add_shares(
    pool: &Pool,
    isa: Isa,
    tile: SinkTile,
    block: &Range<usize>,
    of_values: bool,
    (shares, of_head): (&[f32], usize),
    hd: usize,
) {
    let count = block.len();
    let first = 2 * hd * block.start + if of_values { hd * count } else { 0 };
    let mut sums = pool.scratch(hd * count);
    for (g, share) in shares.chunks_exact(of_head).enumerate() {
        let share = &share[first..][..hd * count];
        if g == 0 {
            sums.copy_from_slice(share);
        } else {
            add(isa, &mut sums, share);
        }
    }
    let mut turned = pool.scratch(hd * count);
    let form = Form { factors: Factors::F32, width: hd, words: count };
    pack_as(isa, form, Source::Dense(View::dense(&sums, hd, count)), Along::Lanes, 0..hd, 0..count, &mut turned);
    let mut buffer = pool.scratch(hd);
    for (row, numbers) in tile.rows.into_iter().zip(turned.chunks_exact(hd)) {
        row.write(isa, Write::Set, &mut buffer, |row| row.copy_from_slice(numbers));
    }
}

vectorized! {
    fn add(sums: &mut [f32], more: &[f32]) {
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
}

#[cfg(test)]
mod tests {
    use super::weigh;
    use crate::backend::{AttentionParams, Heads};
    use crate::cpu::path::{PATHS, Path};

    #[test]
    fn gradients_of_scores_have_the_same_bits_on_every_path() {
        let heads = Heads { n_heads: 1, n_kv_heads: 1, head_dim: 20 };
        let params = AttentionParams {
            heads,
            scale: 0.37,
            softcap: None,
            window: None,
            sinks: Vec::new(),
            segments: Vec::new(),
        };
        for (seen, softcap) in [(0..77, None), (5..70, None), (3..8, Some(9.0)), (9..9, None), (0..64, None)] {
            let params = AttentionParams { softcap, ..params.clone() };
            let of = |isa| {
                let mut s: Vec<f32> = (0..77).map(|i| (i * 37 % 29) as f32 / 3.0 - 4.0).collect();
                let mut dp: Vec<f32> = (0..77).map(|i| (i * 11 % 31) as f32 / 5.0 - 3.0).collect();
                weigh(isa, [&mut s, &mut dp], seen.clone(), (2.5, 0.75), &params);
                assert!(s[seen.end..].iter().chain(&dp[..seen.start]).all(|x| *x == 0.0), "{isa:?} {seen:?}");
                s.into_iter().chain(dp).map(f32::to_bits).collect::<Vec<_>>()
            };
            let plain = of(Path::Portable.isa().expect("runs everywhere"));
            let isas = PATHS.iter().filter_map(|row| Path::isa(row.0));
            assert!(isas.into_iter().all(|isa| of(isa) == plain), "{seen:?} {softcap:?}");
        }
    }
}
