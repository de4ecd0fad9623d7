//! Causal grouped-query attention, one query at a time.

use super::dot;
use crate::backend::{AttentionParams, CachedSegment};
use crate::host::{View, ViewMut};
use std::ops::Range;

impl AttentionParams {
    /// The positions a query at `position` of its sequence sees.
    fn seen(&self, position: usize) -> Range<usize> {
        let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        first..position + 1
    }

    /// The score before the mask, and its derivative by `scale·q·k`.
    fn score(&self, q: &[f32], k: &[f32]) -> (f64, f64) {
        let u = f64::from(self.scale) * dot(q, k);
        match self.softcap.map(f64::from) {
            Some(c) => {
                let t = (u / c).tanh();
                (c * t, 1.0 - t * t)
            }
            None => (u, 1.0),
        }
    }

    /// Where the columns of query head `h`, and of its key and value, begin.
    fn columns_of(&self, h: usize) -> [usize; 3] {
        let kv = h / (self.heads.n_heads / self.heads.n_kv_heads) * self.heads.head_dim;
        [h * self.heads.head_dim, self.heads.q_dim() + kv, self.heads.q_dim() + self.heads.kv_dim() + kv]
    }
}

/// `y = softmax(scores, sink)·v` over what is seen, the sink having no value; returns the log-sum-exp of the scores.
fn attend<'a>(y: &mut [f32], scores: &[f64], sink: Option<&f32>, v: impl Fn(usize) -> &'a [f32]) -> f64 {
    let all = || scores.iter().copied().chain(sink.map(|&s| f64::from(s)));
    let max = all().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = all().map(|s| (s - max).exp()).sum();
    let lse = max + sum.ln();
    for (c, y) in y.iter_mut().enumerate() {
        *y = scores.iter().enumerate().map(|(j, s)| (s - lse).exp() * f64::from(v(j)[c])).sum::<f64>() as f32;
    }
    lse
}

/// Forward; rows outside every segment give zeros.
pub(super) fn attention(mut y: ViewMut, mut lse: ViewMut, qkv: View, params: &AttentionParams) {
    y.reborrow().into_rows().for_each(|row| row.fill(0.0));
    lse.reborrow().into_rows().for_each(|row| row.fill(0.0));
    let hd = params.heads.head_dim;
    for segment in &params.segments {
        for position in 0..segment.len {
            let row = segment.start + position;
            for h in 0..params.heads.n_heads {
                let [q, k, v] = params.columns_of(h);
                let seen = params.seen(position);
                let part = |j: usize, col: usize| &qkv.row(segment.start + j)[col..col + hd];
                let scores: Vec<f64> = seen.clone().map(|j| params.score(part(position, q), part(j, k)).0).collect();
                let (y, sink) = (&mut y.row(row)[q..q + hd], params.sinks.get(h));
                lse.row(row)[h] = attend(y, &scores, sink, |j| part(seen.start + j, v)) as f32;
            }
        }
    }
}

/// With `p = exp(s - lse)`: `dv += p·dy`, `ds = p·(dy·v - dy·y)`, `dq += scale·ds·k`, `dk += scale·ds·q`.
pub(super) fn attention_bwd(mut dqkv: ViewMut, dy: View, y: View, lse: View, qkv: View, params: &AttentionParams) {
    let (hd, width) = (params.heads.head_dim, params.heads.qkv_dim());
    let mut sums = vec![0.0_f64; qkv.rows() * width];
    for segment in &params.segments {
        for position in 0..segment.len {
            let row = segment.start + position;
            for h in 0..params.heads.n_heads {
                let [q, k, v] = params.columns_of(h);
                let (query, dy) = (&qkv.row(row)[q..q + hd], &dy.row(row)[q..q + hd]);
                let weighted = dot(dy, &y.row(row)[q..q + hd]);
                for other in params.seen(position).map(|j| segment.start + j) {
                    let (key, value) = (&qkv.row(other)[k..k + hd], &qkv.row(other)[v..v + hd]);
                    let (s, slope) = params.score(query, key);
                    let p = (s - f64::from(lse.row(row)[h])).exp();
                    let du = f64::from(params.scale) * slope * p * (dot(dy, value) - weighted);
                    for c in 0..hd {
                        sums[other * width + v + c] += p * f64::from(dy[c]);
                        sums[row * width + q + c] += du * f64::from(key[c]);
                        sums[other * width + k + c] += du * f64::from(query[c]);
                    }
                }
            }
        }
    }
    for (i, row) in sums.chunks_exact(width).enumerate() {
        for (d, &sum) in dqkv.row(i).iter_mut().zip(row) {
            *d = sum as f32;
        }
    }
}

/// New keys and values go to the cache, then every new row attends over what its slot holds.
pub(super) fn attention_cached(
    mut y: ViewMut,
    mut cache: ViewMut,
    qkv: View,
    segments: &[CachedSegment],
    params: &AttentionParams,
) {
    y.reborrow().into_rows().for_each(|row| row.fill(0.0));
    let (hd, q_dim) = (params.heads.head_dim, params.heads.q_dim());
    for s in segments {
        for i in 0..s.len {
            cache.row(s.slot + s.past + i).copy_from_slice(&qkv.row(s.start + i)[q_dim..]);
        }
        for i in 0..s.len {
            for h in 0..params.heads.n_heads {
                let [q, k, v] = params.columns_of(h);
                let query = &qkv.row(s.start + i)[q..q + hd];
                let seen = params.seen(s.past + i);
                let mut part = |j: usize, col: usize| cache.row(s.slot + j)[col - q_dim..][..hd].to_vec();
                let scores: Vec<f64> = seen.clone().map(|j| params.score(query, &part(j, k)).0).collect();
                let values: Vec<Vec<f32>> = seen.map(|j| part(j, v)).collect();
                attend(&mut y.row(s.start + i)[q..q + hd], &scores, params.sinks.get(h), |j| &values[j]);
            }
        }
    }
}
