//! Causal grouped-query attention: windows, soft caps, several sequences, a cache.

use super::Case;
use super::rig::Rig;
use crate::backend::{AttentionParams, Backend, CachedSegment, Heads, Segment, Write};
use crate::error::Result;
use crate::reference::Reference;

#[derive(Clone, Copy)]
pub(super) struct Attention {
    rows: usize,
    /// Query heads, key heads, columns of one.
    heads: (usize, usize, usize),
    window: Option<usize>,
    softcap: Option<f32>,
    sinks: bool,
    segments: &'static [(usize, usize)],
}

/// A sink for every query head, some above the scores and some below.
fn sinks(wanted: bool, heads: usize) -> Vec<f32> {
    (0..if wanted { heads } else { 0 }).map(|h| h as f32 - 1.25).collect()
}

impl Attention {
    fn all() -> Vec<Self> {
        let heads = [(4, 1, 8), (2, 2, 33), (4, 2, 64)];
        let shapes: [(usize, &'static [(usize, usize)]); 5] = [
            (1, &[(0, 1)]),
            (7, &[(1, 3), (5, 2)]),
            (33, &[(0, 33)]),
            (130, &[(0, 60), (60, 0), (61, 69)]),
            (100, &[(3, 97)]),
        ];
        let mut cases = Vec::new();
        for (rows, segments) in shapes {
            for (i, heads) in heads.into_iter().enumerate() {
                let window = [None, Some(1), Some(4), Some(70)][(rows + i) % 4];
                let softcap = [None, Some(1.5)][(rows + i) % 2];
                let sinks = (rows + i) % 3 == 0;
                cases.push(Self { rows, heads, window, softcap, sinks, segments });
            }
        }
        // Rows beyond one block of keys, and the widest head.
        let wide =
            Self { rows: 290, heads: (3, 1, 16), window: Some(65), softcap: None, sinks: true, segments: &[(0, 290)] };
        cases.push(wide);
        let (window, softcap) = (None, Some(50.0));
        cases.push(Self { rows: 70, heads: (2, 1, 256), window, softcap, sinks: true, segments: &[(1, 69)] });
        cases
    }

    fn params(self) -> AttentionParams {
        let (n_heads, n_kv_heads, head_dim) = self.heads;
        AttentionParams {
            heads: Heads { n_heads, n_kv_heads, head_dim },
            scale: 1.0 / (head_dim as f32).sqrt(),
            window: self.window,
            softcap: self.softcap,
            sinks: sinks(self.sinks, n_heads),
            segments: self.segments.iter().map(|&(start, len)| Segment { start, len }).collect(),
        }
    }

    fn label(self) -> String {
        let Self { rows, heads, segments, .. } = self;
        format!("{rows} rows, {} sequences, heads {}/{}·{}{}", segments.len(), heads.0, heads.1, heads.2, self.extras())
    }

    fn extras(self) -> String {
        let window = self.window.map_or(String::new(), |w| format!(", window {w}"));
        let softcap = self.softcap.map_or("", |_| ", soft cap");
        format!("{window}{softcap}{}", if self.sinks { ", sinks" } else { "" })
    }
}

impl Case for Attention {
    fn name(&self) -> String {
        format!("attention {}", self.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let (rows, params) = (self.rows, self.params());
        let qkv = rig.input(rows, params.heads.qkv_dim())?;
        let mut y = rig.output(rows, params.heads.q_dim(), Write::Set)?;
        let mut lse = rig.unset(rows, params.heads.n_heads)?;
        rig.be.attention(y.view_mut(), &mut lse, qkv.view(), &params)?;
        rig.take("y", &y)?;
        rig.take_tensor("lse", &lse)
    }
}

pub(super) fn attention() -> Vec<Attention> {
    Attention::all()
}

pub(super) struct AttentionBackward(Attention);

impl Case for AttentionBackward {
    fn name(&self) -> String {
        format!("attention_bwd {}", self.0.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let (rows, params) = (self.0.rows, self.0.params());
        let (q_dim, width) = (params.heads.q_dim(), params.heads.qkv_dim());
        let qkv = rig.noise(rows * width);
        let (y, lse) = saved(rows, &params, &qkv)?;
        let (qkv, y, lse) = (
            rig.field(rows, width, &qkv)?,
            rig.field(rows, q_dim, &y)?,
            rig.be.tensor(rows, params.heads.n_heads, &lse)?,
        );
        let (dy, mut dqkv) = (rig.input(rows, q_dim)?, rig.output(rows, width, Write::Set)?);
        rig.be.attention_bwd(dqkv.view_mut(), dy.view(), y.view(), &lse, qkv.view(), &params)?;
        rig.take("dqkv", &dqkv)
    }
}

/// What the forward pass saves, from the reference: a wrong forward pass is not the backward's fault.
fn saved(rows: usize, params: &AttentionParams, qkv: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
    let be = Reference;
    let qkv = be.tensor(rows, params.heads.qkv_dim(), qkv)?;
    let (mut y, mut lse) = (be.zeros(rows, params.heads.q_dim())?, be.zeros(rows, params.heads.n_heads)?);
    be.attention(y.view_mut(), &mut lse, qkv.view(), params)?;
    Ok((be.download(&y)?, be.download(&lse)?))
}

pub(super) fn backward() -> Vec<AttentionBackward> {
    Attention::all().into_iter().map(AttentionBackward).collect()
}

pub(super) struct Cached {
    /// All but rows and sequences.
    kind: Attention,
    /// Of each sequence: rows the slot holds already, rows that come.
    sequences: &'static [(usize, usize)],
}

impl Case for Cached {
    fn name(&self) -> String {
        let Self { kind, sequences } = self;
        let heads = kind.heads;
        format!("attention_cached {sequences:?}, heads {}/{}·{}{}", heads.0, heads.1, heads.2, kind.extras())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { kind, sequences } = self;
        let params = kind.params();
        let (mut rows, mut slots, mut segments) = (1, 2, Vec::new());
        for &(past, len) in sequences {
            segments.push(CachedSegment { start: rows, len, slot: slots, past });
            rows += len + 1;
            slots += past + len + 3;
        }
        let qkv = rig.input(rows, params.heads.qkv_dim())?;
        let mut y = rig.output(rows, params.heads.q_dim(), Write::Set)?;
        let mut cache = rig.tensor(slots, 2 * params.heads.kv_dim())?;
        rig.be.attention_cached(y.view_mut(), &mut cache, qkv.view(), &segments, &params)?;
        rig.take("y", &y)?;
        rig.take_tensor("cache", &cache)
    }
}

pub(super) fn cached() -> Vec<Cached> {
    let heads = [(1, 1, 5), (4, 1, 16), (4, 4, 64), (6, 2, 128)];
    let all: [&'static [(usize, usize)]; 4] =
        [&[(0, 1)], &[(0, 7), (9, 1)], &[(130, 1), (64, 2), (1, 1)], &[(100, 33)]];
    let of = |sequences| {
        [0, 1, 2, 3].map(|i| Cached {
            kind: Attention {
                rows: 0,
                heads: heads[i],
                window: [None, Some(3), Some(66), None][i],
                softcap: [None, None, Some(2.0), Some(5.0)][i],
                sinks: i % 2 == 1,
                segments: &[],
            },
            sequences,
        })
    };
    let mut cases: Vec<Cached> = all.into_iter().flat_map(of).collect();
    let (window, softcap) = (Some(40), None);
    let kind = Attention { rows: 0, heads: (2, 1, 256), window, softcap, sinks: true, segments: &[] };
    cases.push(Cached { kind, sequences: &[(45, 20)] });
    cases
}
