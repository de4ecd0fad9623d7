//! Backward of attention, in two passes that recompute the weights from the log-sum-exp.
//!
//! The first pass owns blocks of queries and sums `dq` over keys; the second owns blocks of keys and
//! sums `dk`, `dv` over queries. Every gradient is summed by one task, in order.

use super::attention::{
    Columns, KEYS, clamp, clear_outside, positions_per_task, product, row_ranges, score, seen, total,
};
use super::exp::exp;
use super::gemm::steps;
use super::panels::{Kernel, Side};
use super::pool::Pool;
use super::simd_dispatch::vectorized;
use super::sink::{Sink, SinkTile};
use super::source::Source;
use crate::backend::{AttentionParams, Segment, Write};
use crate::host::View;
use std::ops::Range;

/// What both passes read.
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

    let blocks = row_ranges(&params.segments, positions_per_task(params));
    let tiles = dqkv.reborrow().columns(0, heads.q_dim()).tiles(blocks.iter().map(|b| b.1.clone()), group * hd);
    let owners = blocks.iter().flat_map(|(segment, _)| (0..n_kv).map(move |head| (*segment, head)));
    pool.each(owners.zip(tiles).collect(), |((segment, head), dq)| inputs.queries(segment, head, dq));

    let blocks = row_ranges(&params.segments, KEYS);
    let columns = dqkv.columns(heads.q_dim(), 2 * heads.kv_dim());
    let mut tiles = columns.tiles(blocks.iter().map(|b| b.1.clone()), hd).into_iter();
    let mut tasks = Vec::new();
    for (segment, _) in &blocks {
        let dk: Vec<SinkTile> = tiles.by_ref().take(n_kv).collect();
        let dv: Vec<SinkTile> = tiles.by_ref().take(n_kv).collect();
        tasks.extend((0..n_kv).zip(dk).zip(dv).map(|((head, dk), dv)| (*segment, head, dk, dv)));
    }
    pool.each(tasks, |(segment, head, dk, dv)| inputs.keys(segment, head, dk, dv));
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

vectorized! {
    /// Products `s` and `dp` of one query with some keys become the gradients of `s`, in `dp`.
    fn query_row(
        s: &[f32],
        dp: &mut [f32],
        seen: Range<usize>,
        lse: f32,
        weighted: f32,
        params: &AttentionParams,
    ) {
        dp[..seen.start].fill(0.0);
        dp[seen.end..].fill(0.0);
        let pairs = s[seen.clone()].iter().zip(&mut dp[seen]);
        match params.softcap {
            None => pairs.for_each(|(&s, dp)| *dp = gradient(s, *dp, lse, weighted, params.scale, None).1),
            cap => pairs.for_each(|(&s, dp)| *dp = gradient(s, *dp, lse, weighted, params.scale, cap).1),
        }
    }
}

vectorized! {
    /// Products of one key with some queries become weights, in `s`, and gradients, in `dp`.
    fn key_row(
        s: &mut [f32],
        dp: &mut [f32],
        seen_by: Range<usize>,
        lse: &[f32],
        weighted: &[f32],
        params: &AttentionParams,
    ) {
        for x in [&mut *s, &mut *dp] {
            x[..seen_by.start].fill(0.0);
            x[seen_by.end..].fill(0.0);
        }
        let (lse, weighted) = (&lse[seen_by.clone()], &weighted[seen_by.clone()]);
        let all = s[seen_by.clone()].iter_mut().zip(&mut dp[seen_by]).zip(lse).zip(weighted);
        match params.softcap {
            None => all.for_each(|(((s, dp), &l), &w)| (*s, *dp) = gradient(*s, *dp, l, w, params.scale, None)),
            cap => all.for_each(|(((s, dp), &l), &w)| (*s, *dp) = gradient(*s, *dp, l, w, params.scale, cap)),
        }
    }
}

impl Inputs<'_> {
    /// The stacked column of one number per query head.
    fn stack_numbers(x: View, head: usize, group: usize, rows: Range<usize>, out: &mut [f32]) {
        let n = rows.len();
        for (i, row) in rows.enumerate() {
            for (g, &x) in x.row(row)[head * group..][..group].iter().enumerate() {
                out[g * n + i] = x;
            }
        }
    }

    /// `dq` of one block of queries.
    fn queries(&self, segment: Segment, head: usize, dq: SinkTile) {
        let Self { pool, kernel, qkv, params, .. } = *self;
        let isa = kernel.isa;
        let columns = Columns::of(params, head);
        let (n, hd) = (dq.rows.len(), columns.head_dim);
        let m = n * columns.group;
        let rows = dq.row..dq.row + n;
        let first = dq.row - segment.start;
        let mut sums = pool.scratch(m * hd);
        let mut q_panels = pool.scratch(kernel.left_len(m, hd));
        let mut dy_panels = pool.scratch(kernel.left_len(m, hd));
        let mut a = pool.scratch(kernel.left_len(m, KEYS));
        let mut b = pool.scratch(kernel.right_len(KEYS, hd).max(kernel.right_len(hd, KEYS)));
        let (mut s, mut dp) = (pool.scratch(m * KEYS), pool.scratch(m * KEYS));
        let mut numbers = pool.scratch(2 * m);
        let (lse, weighted) = numbers.split_at_mut(m);
        Self::stack_numbers(self.lse, head, columns.group, rows.clone(), lse);
        Self::stack_numbers(self.weighted, head, columns.group, rows.clone(), weighted);
        columns.stack(isa, qkv, columns.at[0], rows.clone(), &mut sums);
        kernel.left(Side::of(Source::Dense(View::dense(&sums, m, hd)), false), 0..m, 0..hd, &mut q_panels).pack();
        columns.stack(isa, self.dy, columns.at[0], rows, &mut sums);
        kernel.left(Side::of(Source::Dense(View::dense(&sums, m, hd)), false), 0..m, 0..hd, &mut dy_panels).pack();
        sums.fill(0.0);
        let of_segment = |col| qkv.rows_from(segment.start, segment.len).columns(col, hd);
        let [all_keys, all_values] = [columns.at[1], columns.at[2]].map(of_segment);
        for keys in steps(seen(params.window, first).start..first + n, KEYS) {
            let count = keys.len();
            kernel.right(Side::of(all_keys, true), keys.clone(), 0..hd, &mut b).pack();
            product(kernel, &q_panels, &b, m, count, hd, &mut s, Write::Set);
            kernel.right(Side::of(all_values, true), keys.clone(), 0..hd, &mut b).pack();
            product(kernel, &dy_panels, &b, m, count, hd, &mut dp, Write::Set);
            for (r, (s, dp)) in s.chunks_exact(count).zip(dp.chunks_exact_mut(count)).take(m).enumerate() {
                let seen = clamp(seen(params.window, first + r % n), &keys);
                query_row(isa, s, dp, seen, lse[r], weighted[r], params);
            }
            let ds = Source::Dense(View::dense(&dp[..m * count], m, count));
            kernel.left(Side::of(ds, false), 0..m, 0..count, &mut a).pack();
            let block = all_keys.rows_from(keys.start, count);
            kernel.right(Side::of(block, false), 0..hd, 0..count, &mut b).pack();
            product(kernel, &a, &b, m, hd, count, &mut sums, Write::Add);
        }
        let mut heads = pool.scratch(columns.group * hd);
        for (i, dq) in dq.rows.into_iter().enumerate() {
            dq.write(isa, Write::Set, &mut heads, |dq| {
                for (g, dq) in dq.chunks_exact_mut(hd).enumerate() {
                    dq.copy_from_slice(&sums[(g * n + i) * hd..][..hd]);
                }
            });
        }
    }

    /// `dk`, `dv` of one block of keys.
    fn keys(&self, segment: Segment, head: usize, dk: SinkTile, dv: SinkTile) {
        let Self { pool, kernel, qkv, params, .. } = *self;
        let isa = kernel.isa;
        let columns = Columns::of(params, head);
        let (count, hd) = (dk.rows.len(), columns.head_dim);
        let step = positions_per_task(params);
        let most = step * columns.group;
        let first = dk.row - segment.start;
        let mut k_panels = pool.scratch(kernel.left_len(count, hd));
        let mut v_panels = pool.scratch(kernel.left_len(count, hd));
        let mut a = pool.scratch(kernel.left_len(count, most));
        let mut b = pool.scratch(kernel.right_len(most, hd).max(kernel.right_len(hd, most)));
        let (mut q, mut dy) = (pool.scratch(most * hd), pool.scratch(most * hd));
        let (mut s, mut dp) = (pool.scratch(count * most), pool.scratch(count * most));
        let mut numbers = pool.scratch(2 * most);
        let mut sums = pool.scratch(2 * count * hd);
        sums.fill(0.0);
        let (dk_sums, dv_sums) = sums.split_at_mut(count * hd);
        let of_block = |col| qkv.rows_from(dk.row, count).columns(col, hd);
        kernel.left(Side::of(of_block(columns.at[1]), false), 0..count, 0..hd, &mut k_panels).pack();
        kernel.left(Side::of(of_block(columns.at[2]), false), 0..count, 0..hd, &mut v_panels).pack();
        let last = params.window.map_or(segment.len, |window| segment.len.min(first + count - 1 + window));
        for positions in steps(first..last, step) {
            let n = positions.len();
            let m = n * columns.group;
            let rows = segment.start + positions.start..segment.start + positions.end;
            let (lse, weighted) = numbers.split_at_mut(most);
            Self::stack_numbers(self.lse, head, columns.group, rows.clone(), lse);
            Self::stack_numbers(self.weighted, head, columns.group, rows.clone(), weighted);
            columns.stack(isa, qkv, columns.at[0], rows.clone(), &mut q);
            columns.stack(isa, self.dy, columns.at[0], rows, &mut dy);
            let (q, dy) = (View::dense(&q[..m * hd], m, hd), View::dense(&dy[..m * hd], m, hd));
            let (q, dy) = (Source::Dense(q), Source::Dense(dy));
            kernel.right(Side::of(q, true), 0..m, 0..hd, &mut b).pack();
            product(kernel, &k_panels, &b, count, m, hd, &mut s, Write::Set);
            kernel.right(Side::of(dy, true), 0..m, 0..hd, &mut b).pack();
            product(kernel, &v_panels, &b, count, m, hd, &mut dp, Write::Set);
            for (j, (s, dp)) in s.chunks_exact_mut(m).zip(dp.chunks_exact_mut(m)).take(count).enumerate() {
                let key = first + j;
                let seen_by = key..params.window.map_or(segment.len, |window| segment.len.min(key + window));
                let seen_by = clamp(seen_by, &positions);
                let heads = s.chunks_exact_mut(n).zip(dp.chunks_exact_mut(n));
                for ((s, dp), (lse, weighted)) in heads.zip(lse.chunks_exact(n).zip(weighted.chunks_exact(n))) {
                    key_row(isa, s, dp, seen_by.clone(), lse, weighted, params);
                }
            }
            for (weights, right, sums) in [(&s, dy, &mut *dv_sums), (&dp, q, &mut *dk_sums)] {
                let weights = Source::Dense(View::dense(&weights[..count * m], count, m));
                kernel.left(Side::of(weights, false), 0..count, 0..m, &mut a).pack();
                kernel.right(Side::of(right, false), 0..hd, 0..m, &mut b).pack();
                product(kernel, &a, &b, count, hd, m, sums, Write::Add);
            }
        }
        let mut buffer = pool.scratch(hd);
        for (rows, sums) in [(dk.rows, dk_sums), (dv.rows, dv_sums)] {
            for (row, sums) in rows.into_iter().zip(sums.chunks_exact(hd)) {
                row.write(isa, Write::Set, &mut buffer, |row| row.copy_from_slice(sums));
            }
        }
    }
}
