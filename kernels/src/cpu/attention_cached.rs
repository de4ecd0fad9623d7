//! Attention over a cache of keys and values, for a few new rows or a piece of a prompt.
//!
//! A cache holds numbers as they are, or codes of eight bits with a scale for each head of each position: half a head's
//! worth of rounding steps of 1/127 of its largest number, a quarter of the memory. All queries that share a key head
//! go through its keys together, a run of positions at a time; with codes in whole numbers (`attention_rounded.rs`).

use super::Cpu;
use super::attention::{Columns, Run, clear_outside, largest, positions_per_task, score, seen, total};
use super::attention_keys::{Read, hold};
use super::attention_rounded;
use super::exp::{exp, nearest};
use super::gemm::steps;
use super::pack::Along;
use super::panels::Kernel;
use super::pool::Pool;
use super::simd_dispatch::{Isa, ask_for, vectorized};
use super::sink::{Sink, SinkTile};
use super::source::Source;
use crate::backend::{AttentionParams, CachedSegment, Heads, Write};
use crate::host::{View, ViewMut};
use std::ops::Range;

/// Up to this many new rows a cached sequence is attended to without packing.
const FEW_ROWS: usize = 4;
/// Positions whose keys or values are gone through by all queries before the next ones: so few that those of a head stay in
/// the first cache, where rows that are a power of two apart have little room.
const RUN: usize = 8;
/// Runs from the one that is gone through to the one that is asked for.
const AHEAD: usize = 2;
/// The largest code.
pub(super) const LARGEST: f32 = 127.0;
/// Codes in the bits of a number.
pub(super) const CODES: usize = 4;
/// Independent sums of a score.
const LANES: usize = 16;
const HALF: usize = LANES / 2;
/// Positions whose scores are summed together.
const TOGETHER: usize = 8;

impl Cpu {
    /// The same threads, with caches of keys and values in eight bits where a head has a multiple of four columns.
    #[must_use]
    pub fn with_eight_bit_cache(&self, eight_bit_cache: bool) -> Self {
        Self { eight_bit_cache, ..self.clone() }
    }
}

/// Columns of a cache in eight bits, where there is one: of every key head and then of every value head the codes, four
/// in the bits of a number, and the scale.
pub(super) fn rounded_columns(heads: &Heads) -> Option<usize> {
    (heads.head_dim.is_multiple_of(CODES) && heads.head_dim > 0).then(|| 2 * heads.n_kv_heads * width(heads.head_dim))
}

/// Columns of a cache, in eight bits where that is wanted and can be.
pub(super) fn columns(heads: &Heads, eight_bits: bool) -> usize {
    rounded_columns(heads).filter(|_| eight_bits).unwrap_or(2 * heads.kv_dim())
}

/// Columns of a head in eight bits.
fn width(head_dim: usize) -> usize {
    head_dim / CODES + 1
}

/// New keys and values go to the cache, then every new row attends over what its slot holds.
pub(super) fn attention_cached(
    pool: &Pool,
    kernel: Kernel,
    mut y: Sink,
    mut cache: ViewMut,
    qkv: Source,
    segments: &[CachedSegment],
    params: &AttentionParams,
) {
    let (isa, heads) = (kernel.isa, params.heads);
    let (group, hd) = (heads.n_heads / heads.n_kv_heads, heads.head_dim);
    let rounded = cache.cols() != 2 * heads.kv_dim();
    clear_outside(y.reborrow(), segments.iter().map(|s| s.start..s.start + s.len));
    let mut buffer = pool.scratch(qkv.room());
    for s in segments {
        for i in 0..s.len {
            let new = &qkv.row(isa, s.start + i, &mut buffer)[heads.q_dim()..];
            let to = cache.row(s.slot + s.past + i);
            if rounded {
                for (to, new) in to.chunks_exact_mut(width(hd)).zip(new.chunks_exact(hd)) {
                    round(isa, to, new);
                }
            } else {
                to.copy_from_slice(new);
            }
        }
    }
    let cache = cache.into_view();
    let of_head = |s: &CachedSegment, head: usize| {
        let width = if rounded { width(hd) } else { hd };
        let held = |head: usize| cache.rows_from(s.slot, s.past + s.len).columns(head * width, width);
        (held(head), held(heads.n_kv_heads + head))
    };
    // Many rows go through panels, which are packed once for all of them.
    let read = |x| if rounded { Read::Codes(x, hd) } else { Read::Numbers(Source::Dense(x)) };
    let many = segments.iter().filter(|s| s.len > FEW_ROWS);
    let of_many = many.flat_map(|s| {
        (0..heads.n_kv_heads).map(move |head| {
            let (keys, values) = of_head(s, head);
            vec![(read(keys), Along::Lanes), (read(values), Along::Depth)]
        })
    });
    let held = hold(pool, kernel, &of_many.collect::<Vec<_>>());
    let (mut owners, mut ranges, mut first) = (Vec::new(), Vec::new(), 0);
    for s in segments {
        let is_many = s.len > FEW_ROWS;
        let step = if is_many { positions_per_task(params) } else { FEW_ROWS };
        for rows in steps(s.start..s.start + s.len, step) {
            let held = |head: usize| is_many.then(|| held.head(first + head));
            owners.extend((0..heads.n_kv_heads).map(|head| (*s, head, held(head))));
            ranges.push(rows);
        }
        first += if is_many { heads.n_kv_heads } else { 0 };
    }
    let tiles = y.tiles(ranges, group * hd);
    pool.each(owners.into_iter().zip(tiles).collect(), |((s, head, held), y)| {
        let columns = Columns::of(params, head);
        let (first, rows) = (s.past + y.row - s.start, y.row..y.row + y.rows.len());
        if let Some(held) = held {
            let run = Run { queries: qkv, rows, first, held, columns, params };
            return run.attend(pool, kernel, y, None);
        }
        let of_head = of_head(&s, head);
        if rounded {
            attention_rounded::attend(pool, isa, y, qkv, of_head, first, columns, params);
        } else {
            attend_few(pool, isa, y, qkv, of_head, first, columns, params);
        }
    });
}

vectorized! {
    /// Codes and, at the end, their scale. Number `i` is in the byte of its quarter of the head. A head with a number
    /// that is none, or is beyond all, has a scale like it.
    fn round(to: &mut [f32], x: &[f32]) {
        // The bits of magnitudes ascend with them, and those of no numbers are above all.
        let largest = f32::from_bits(x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7FFF_FFFF)));
        let per_number = LARGEST / largest;
        let Some((scale, words)) = to.split_last_mut() else { return };
        if !largest.is_finite() || !per_number.is_finite() {
            words.fill(0.0);
            *scale = if largest.is_finite() { 0.0 } else { f32::NAN };
            return;
        }
        let quarter = words.len();
        for (i, word) in words.iter_mut().enumerate() {
            let mut bits = 0;
            for k in 0..CODES {
                let code = nearest(x[k * quarter + i] * per_number);
                bits |= (code as u32 & 0xFF) << (8 * k);
            }
            *word = f32::from_bits(bits);
        }
        *scale = largest / LARGEST;
    }
}

vectorized! {
    /// What [`round`] rounded.
    pub(super) fn widen(out: &mut [f32], from: &[f32]) {
        let Some((scale, words)) = from.split_last() else { return };
        for (k, out) in out.chunks_exact_mut(words.len()).enumerate() {
            let left = 24 - 8 * k as u32;
            for (y, word) in out.iter_mut().zip(words) {
                *y = ((word.to_bits() << left) as i32 >> 24) as f32 * scale;
            }
        }
    }
}

/// The queries of a few rows, all that share a key head together.
fn attend_few(
    pool: &Pool,
    isa: Isa,
    y: SinkTile,
    qkv: Source,
    (keys, values): (View, View),
    first: usize,
    columns: Columns,
    params: &AttentionParams,
) {
    let (n, hd) = (y.rows.len(), columns.head_dim);
    let queries = n * columns.group;
    let all = seen(params.window, first).start..first + n;
    let mut stacked = pool.scratch(queries * hd);
    let mut out = pool.scratch(queries * hd);
    let mut scores = pool.scratch(queries * all.len());
    columns.stack(isa, qkv, columns.at[0], y.row..y.row + n, &mut stacked);
    // Rows of a head lie far from each other: nobody sees a stream in them.
    let ask = |held: View, run: &Range<usize>| {
        (run.end..all.end).skip((AHEAD - 1) * RUN).take(RUN).for_each(|row| ask_for(held.row(row)));
    };
    for run in steps(all.clone(), RUN) {
        ask(keys, &run);
        let keys = keys.rows_from(run.start, run.len());
        weigh_keys(isa, &mut scores, all.len(), run.start - all.start, &stacked, keys, params);
    }
    shares_of_seen(isa, &mut scores, &all, (first, n), &columns, params);
    out.fill(0.0);
    for run in steps(all.clone(), RUN) {
        ask(values, &run);
        let values = values.rows_from(run.start, run.len());
        add_values(isa, &mut out, &scores, all.len(), run.start - all.start, values);
    }
    // Nobody needs the queries any more.
    for (i, y) in y.rows.into_iter().enumerate() {
        y.write(isa, Write::Set, &mut stacked, |y| {
            for (g, y) in y.chunks_exact_mut(hd).enumerate() {
                y.copy_from_slice(&out[(g * n + i) * hd..][..hd]);
            }
        });
    }
}

/// Scores to shares, of every query with the positions `all`; what a query does not see of them has no weight. Queries of
/// `n` rows from `first`, heads one after the other.
pub(super) fn shares_of_seen(
    isa: Isa,
    scores: &mut [f32],
    all: &Range<usize>,
    (first, n): (usize, usize),
    columns: &Columns,
    params: &AttentionParams,
) {
    for (q, scores) in scores.chunks_exact_mut(all.len()).enumerate() {
        let seen = seen(params.window, first + q % n);
        let seen = seen.start.max(all.start) - all.start..seen.end - all.start;
        let sink = params.sinks.get(columns.at[0] / columns.head_dim + q / n).copied();
        scores[..seen.start].fill(0.0);
        scores[seen.end..].fill(0.0);
        to_shares(isa, &mut scores[seen], sink);
    }
}

/// Scores of every query, `len` of each, with the keys of the positions from `at`.
fn weigh_keys(
    isa: Isa,
    scores: &mut [f32],
    len: usize,
    at: usize,
    queries: &[f32],
    keys: View,
    params: &AttentionParams,
) {
    // Lanes of some positions lie beside each other and are turned, so that those of one place are added together.
    let mut lanes = [[0.0; HALF]; TOGETHER];
    let mut turned = [0.0; HALF * TOGETHER];
    for (q, scores) in queries.chunks_exact(keys.cols()).zip(scores.chunks_exact_mut(len)) {
        for (i, scores) in scores[at..at + keys.rows()].chunks_mut(TOGETHER).enumerate() {
            lanes_of(isa, &mut lanes, q, keys.rows_from(i * TOGETHER, scores.len()));
            isa.transpose(&lanes.each_ref().map(|lanes| &lanes[..]), TOGETHER, 0, &mut turned);
            add_turned(isa, scores, &turned, params);
        }
    }
}

vectorized! {
    /// Products of a query with some keys: [`LANES`] sums of each, of which the second half is added to the first.
    fn lanes_of(lanes: &mut [[f32; HALF]; TOGETHER], q: &[f32], keys: View) {
        let (q, q_rest) = q.as_chunks::<LANES>();
        for (j, lanes) in lanes.iter_mut().enumerate().take(keys.rows()) {
            let (k, k_rest) = keys.row(j).as_chunks::<LANES>();
            // All lanes are made anew each time: of sums that are changed one by one the compiler makes no vectors.
            let mut sums = [0.0; LANES];
            for (q, k) in q.iter().zip(k) {
                sums = std::array::from_fn(|i| sums[i] + q[i] * k[i]);
            }
            *lanes = std::array::from_fn(|i| sums[i] + sums[i + HALF]);
            for (i, (&q, &k)) in q_rest.iter().zip(k_rest).enumerate() {
                lanes[i % HALF] += q * k;
            }
        }
    }
}

vectorized! {
    /// The sums of all lanes, one after the other, as scores.
    fn add_turned(scores: &mut [f32], turned: &[f32; HALF * TOGETHER], params: &AttentionParams) {
        let (first, rest) = turned.split_first_chunk::<TOGETHER>().expect("there are lanes");
        let mut sums = *first;
        for lanes in rest.as_chunks::<TOGETHER>().0 {
            for (sum, lane) in sums.iter_mut().zip(lanes) {
                *sum += lane;
            }
        }
        for (s, sum) in scores.iter_mut().zip(sums) {
            *s = score(sum, params.scale, params.softcap).0;
        }
    }
}

vectorized! {
    /// Scores to what their values count, which is one together with what a sink takes.
    pub(super) fn to_shares(scores: &mut [f32], sink: Option<f32>) {
        let top = largest(scores).max(sink.unwrap_or(f32::NEG_INFINITY));
        for s in &mut *scores {
            *s = exp(*s - top);
        }
        let scale = 1.0 / (total(scores) + sink.map_or(0.0, |sink| exp(sink - top)));
        for s in scores {
            *s *= scale;
        }
    }
}

vectorized! {
    /// `out += shares·values` of every query for the positions from `at`.
    fn add_values(out: &mut [f32], shares: &[f32], len: usize, at: usize, values: View) {
        for (y, shares) in out.chunks_exact_mut(values.cols()).zip(shares.chunks_exact(len)) {
            let shares = &shares[at..at + values.rows()];
            let (runs, rest) = y.as_chunks_mut::<LANES>();
            let done = runs.len() * LANES;
            for (i, y) in runs.iter_mut().enumerate() {
                let mut sums = *y;
                for (j, share) in shares.iter().enumerate() {
                    let Some(v) = values.row(j)[i * LANES..].first_chunk::<LANES>() else { continue };
                    for (sum, v) in sums.iter_mut().zip(v) {
                        *sum += share * v;
                    }
                }
                *y = sums;
            }
            for (j, share) in shares.iter().enumerate() {
                for (y, v) in rest.iter_mut().zip(&values.row(j)[done..]) {
                    *y += share * v;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::{AttentionParams, Backend, CachedSegment, Heads};
    use crate::cpu::Cpu;
    use crate::cpu::path::{PATHS, Path};
    use crate::host::View;

    const HEADS: Heads = Heads { n_heads: 6, n_kv_heads: 2, head_dim: 64 };

    fn noise(n: usize, mut state: u32) -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next() + next() + next()).collect()
    }

    /// What rows of a sequence become that are fed some at a time.
    fn fed(cpu: &Cpu, qkv: &[f32], pieces: &[usize], window: Option<usize>) -> Vec<f32> {
        let params = AttentionParams {
            heads: HEADS,
            scale: 0.125,
            window,
            softcap: None,
            sinks: Vec::new(),
            segments: Vec::new(),
        };
        let rows: usize = pieces.iter().sum();
        let mut cache = cpu.zeros(rows + 3, cpu.cache_columns(&HEADS)).expect("memory");
        let mut all = Vec::new();
        let mut past = 0;
        for &len in pieces {
            let width = HEADS.qkv_dim();
            let x = cpu.tensor(len, width, &qkv[past * width..(past + len) * width]).expect("memory");
            let mut y = cpu.zeros(len, HEADS.q_dim()).expect("memory");
            let segment = CachedSegment { start: 0, len, slot: 2, past };
            cpu.attention_cached(y.view_mut(), &mut cache, x.view(), &[segment], &params).expect("fits");
            all.extend(cpu.into_numbers(y).expect("numbers"));
            past += len;
        }
        all
    }

    #[test]
    fn keys_and_values_in_eight_bits_stay_near_exact_ones_s4_5() {
        let rows = 100;
        let qkv = noise(rows * HEADS.qkv_dim(), 3);
        for window in [None, Some(37)] {
            for path in PATHS.iter().map(|row| row.0).filter(|path| path.available()) {
                let exact = Cpu::with_path(2, path).expect("an available path");
                let rounded = exact.with_eight_bit_cache(true);
                assert_eq!(rounded.cache_columns(&HEADS), 2 * 2 * 17);
                assert_eq!(exact.cache_columns(&HEADS), 2 * 2 * 64);
                let pieces: Vec<usize> = [60, 4, 3].into_iter().chain([1; 33]).collect();
                let (wanted, found) = (fed(&exact, &qkv, &pieces, window), fed(&rounded, &qkv, &pieces, window));
                let size = (wanted.iter().map(|x| f64::from(x * x)).sum::<f64>() / wanted.len() as f64).sqrt();
                let far = wanted.iter().zip(&found).map(|(a, b)| f64::from(a - b).abs());
                let most = far.fold(0.0, f64::max) / size;
                assert!(most > 1e-6 && most < 0.05, "{path:?}, {window:?}: {most}");
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone_as_beside_others_and_for_any_threads_s4_5() {
        let qkv = noise(80 * HEADS.qkv_dim(), 5);
        for path in [Path::Portable, Path::best()] {
            for cpu in [false, true].map(|eight| Cpu::with_path(1, path).expect("a path").with_eight_bit_cache(eight)) {
                let alone: Vec<usize> = [50].into_iter().chain([1; 30]).collect();
                let wanted = fed(&cpu, &qkv, &alone, Some(20));
                for pieces in [vec![50, 3, 4, 2, 1, 4, 4, 4, 4, 4], vec![50, 4, 4, 4, 4, 4, 4, 4, 2]] {
                    let cpu = Cpu::with_path(3, path).expect("a path").with_eight_bit_cache(cpu.eight_bit_cache);
                    let found = fed(&cpu, &qkv, &pieces, Some(20));
                    assert!(wanted.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "{path:?} {pieces:?}");
                }
            }
        }
    }

    #[test]
    fn scores_summed_for_some_positions_have_the_bits_of_each_alone_s4_5() {
        for (hd, positions) in [(64, 32), (20, 9), (16, 8), (5, 3), (128, 1)] {
            let (queries, keys) = (noise(3 * hd, 3), noise(positions * hd, 5));
            let params = AttentionParams {
                heads: Heads { n_heads: 3, n_kv_heads: 1, head_dim: hd },
                scale: 0.125,
                window: None,
                softcap: None,
                sinks: Vec::new(),
                segments: Vec::new(),
            };
            for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
                let mut scores = vec![0.5; 3 * 40];
                super::weigh_keys(isa, &mut scores, 40, 4, &queries, View::dense(&keys, positions, hd), &params);
                for (q, scores) in queries.chunks(hd).zip(scores.chunks(40)) {
                    for (j, k) in keys.chunks(hd).enumerate() {
                        let (mut lanes, whole) = ([0.0; super::LANES], hd - hd % super::LANES);
                        let mut products = q.iter().zip(k).map(|(q, k)| q * k).enumerate();
                        products.by_ref().take(whole).for_each(|(i, product)| lanes[i % super::LANES] += product);
                        let (low, high) = lanes.split_at_mut(super::HALF);
                        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
                        products.for_each(|(i, product)| low[i % super::HALF] += product);
                        let want = low.iter().copied().reduce(|a, b| a + b).unwrap_or(0.0) * 0.125;
                        assert_eq!(scores[4 + j].to_bits(), want.to_bits(), "{isa:?}, {hd}, {j}");
                    }
                    assert!(
                        scores[..4].iter().chain(&scores[4 + positions..]).all(|s| s.to_bits() == 0.5f32.to_bits())
                    );
                }
            }
        }
    }

    #[test]
    fn heads_without_whole_fours_are_kept_as_they_are() {
        let cpu = Cpu::new(1).expect("a thread").with_eight_bit_cache(true);
        assert_eq!(cpu.cache_columns(&Heads { n_heads: 2, n_kv_heads: 1, head_dim: 6 }), 12);
    }
}
