//! Causal grouped-query attention: windows, soft caps, several sequences, a cache.

use crate::harness::{Case, Field, Outputs, dot, is_gradient, nmse, noise, tensor, unset};
use peft_kernels::reference::Reference;
use peft_kernels::{AttentionParams, Backend, CachedSegment, Heads, Result, Segment, Write};

#[derive(Clone, Debug)]
pub(crate) struct Attention {
    rows: usize,
    heads: (usize, usize, usize),
    window: Option<usize>,
    softcap: Option<f32>,
    sinks: bool,
    segments: &'static [(usize, usize)],
}

impl Attention {
    /// Few enough rows for a test that runs it many times.
    pub(crate) fn is_small(&self) -> bool {
        self.rows <= 33
    }

    fn params(&self) -> AttentionParams {
        let (n_heads, n_kv_heads, head_dim) = self.heads;
        AttentionParams {
            heads: Heads { n_heads, n_kv_heads, head_dim },
            scale: 1.0 / (head_dim as f32).sqrt(),
            window: self.window,
            softcap: self.softcap,
            // Some above the scores and some below.
            sinks: (0..if self.sinks { n_heads } else { 0 }).map(|h| h as f32 - 1.25).collect(),
            segments: self.segments.iter().map(|&(start, len)| Segment { start, len }).collect(),
        }
    }
}

impl Case for Attention {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let (rows, params) = (self.rows, self.params());
        let (q_dim, width) = (params.heads.q_dim(), params.heads.qkv_dim());
        let qkv = Field::noise(be, 1, rows, width);
        let mut y = Field::output(be, rows, q_dim, Write::Set);
        let mut lse = unset(be, rows, params.heads.n_heads);
        be.attention(y.view_mut(), &mut lse, qkv.view(), &params)?;
        let dy = Field::noise(be, 2, rows, q_dim);
        let mut dqkv = Field::output(be, rows, width, Write::Set);
        be.attention_bwd(dqkv.view_mut(), dy.view(), y.view(), &lse, qkv.view(), &params)?;
        Ok(vec![("y", y.take(be)), ("lse", be.download(&lse)?), ("dqkv", dqkv.take(be))])
    }
}

pub(crate) fn attention() -> Vec<Attention> {
    let mut cases = Vec::new();
    let shapes: [(usize, &[(usize, usize)]); 7] = [
        (1, &[(0, 1)]),
        (5, &[(0, 5)]),
        (7, &[(1, 3), (5, 2)]),
        (33, &[(0, 33)]),
        (129, &[(0, 60), (60, 69)]),
        (200, &[(3, 150), (160, 0), (170, 29)]),
        (300, &[(0, 300)]),
    ];
    for (rows, segments) in shapes {
        for (i, heads) in [(1, 1, 4), (4, 1, 8), (2, 2, 33), (4, 2, 64)].into_iter().enumerate() {
            let window = [None, Some(1), Some(4), Some(70)][(rows + i) % 4];
            let softcap = [None, Some(1.5)][(rows / 2 + i) % 2];
            cases.push(Attention { rows, heads, window, softcap, sinks: (rows + i) % 3 == 0, segments });
        }
    }
    for sinks in [false, true] {
        let (window, softcap) = (None, Some(50.0));
        cases.push(Attention { rows: 70, heads: (2, 1, 256), window, softcap, sinks, segments: &[(0, 70)] });
        let (window, softcap) = (Some(65), None);
        cases.push(Attention { rows: 290, heads: (3, 1, 128), window, softcap, sinks, segments: &[(0, 290)] });
    }
    cases
}

/// Of heads that have a kernel on tensor cores.
pub(crate) fn on_tensor_cores() -> Vec<Attention> {
    let heads = [(4, 2, 16), (2, 1, 64), (1, 1, 80), (2, 2, 96), (3, 1, 128), (2, 1, 256)];
    let shapes: [(usize, &[(usize, usize)]); 3] = [(5, &[(1, 3)]), (131, &[(0, 60), (61, 69)]), (150, &[(0, 150)])];
    let cases = shapes.into_iter().enumerate().flat_map(|(s, (rows, segments))| {
        heads.into_iter().enumerate().map(move |(i, heads)| {
            let (window, softcap) = ([None, Some(70), Some(1)][(s + i) % 3], [None, Some(1.5)][(s + i / 2) % 2]);
            Attention { rows, heads, window, softcap, sinks: (s + i) % 2 == 0, segments }
        })
    });
    cases.collect()
}

/// Of the widest heads, which have kernels of their own.
pub(crate) fn widest() -> Vec<Attention> {
    on_tensor_cores().into_iter().filter(|case| case.heads.2 == 256).collect()
}

/// The same in two tiles of queries and several steps of keys, for tests that run it many times.
pub(crate) fn widest_short() -> Vec<Attention> {
    let (heads, window) = ((2, 1, 256), Some(40));
    vec![Attention { rows: 70, heads, window, softcap: None, sinks: true, segments: &[(1, 69)] }]
}

/// Generation: `past` rows are stored first, the rest attends to them.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    heads: (usize, usize, usize),
    window: Option<usize>,
    softcap: Option<f32>,
    sinks: bool,
    /// Of each sequence: rows the slot holds already, rows that come.
    sequences: &'static [(usize, usize)],
}

impl Cached {
    fn layout(&self) -> (AttentionParams, Vec<CachedSegment>, usize, usize) {
        let &Self { heads, window, softcap, sinks, .. } = self;
        let whole = Attention { rows: 0, heads, window, softcap, sinks, segments: &[] };
        let (mut start, mut slot, mut segments) = (1, 2, Vec::new());
        for &(past, len) in self.sequences {
            segments.push(CachedSegment { start, len, slot, past });
            start += len + 1;
            slot += past + len + 3;
        }
        (whole.params(), segments, start, slot)
    }
}

impl Case for Cached {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let (params, segments, rows, slots) = self.layout();
        let qkv = Field::noise(be, 1, rows, params.heads.qkv_dim());
        let mut y = Field::output(be, rows, params.heads.q_dim(), Write::Set);
        let mut cache = tensor(be, 2, slots, 2 * params.heads.kv_dim());
        be.attention_cached(y.view_mut(), &mut cache, qkv.view(), &segments, &params)?;
        Ok(vec![("y", y.take(be)), ("cache", be.download(&cache)?)])
    }
}

pub(crate) fn cached() -> Vec<Cached> {
    let mut cases = Vec::new();
    let all: [&[(usize, usize)]; 6] = [
        &[(0, 1)],
        &[(0, 7), (9, 1)],
        &[(130, 1), (64, 2), (1, 1)],
        &[(100, 33)],
        &[(0, 0), (5, 3)],
        &[(3, 6), (2, 1), (40, 9), (0, 21)],
    ];
    for sequences in all {
        for (i, heads) in [(1, 1, 5), (4, 1, 16), (4, 4, 64), (6, 2, 128)].into_iter().enumerate() {
            let (window, softcap) = ([None, Some(3), Some(66), None][i], [None, None, Some(2.0), Some(5.0)][i]);
            cases.push(Cached { heads, window, softcap, sinks: i % 2 == 1, sequences });
        }
    }
    let (heads, window, sequences) = ((2, 1, 256), Some(40), &[(45, 70)][..]);
    cases.push(Cached { heads, window, softcap: None, sinks: true, sequences });
    cases
}

pub(crate) fn gradient() {
    let be = Reference;
    for (heads, window, softcap, sinks) in [
        ((1, 1, 4), None, None, false),
        ((4, 2, 2), Some(3), None, true),
        ((2, 1, 4), None, Some(0.8), false),
        ((3, 3, 2), Some(2), Some(1.1), true),
    ] {
        let case = Attention { rows: 8, heads, window, softcap, sinks, segments: &[(0, 5), (6, 2)] };
        let params = case.params();
        let (q_dim, width) = (params.heads.q_dim(), params.heads.qkv_dim());
        let (qkv, g) = (noise(1, 8 * width), noise(2, 8 * q_dim));
        let forward = |qkv: &[f32]| {
            let (qkv, mut y) = (Field::holding(&be, 8, width, qkv), Field::output(&be, 8, q_dim, Write::Set));
            let mut lse = unset(&be, 8, params.heads.n_heads);
            be.attention(y.view_mut(), &mut lse, qkv.view(), &params).expect("shapes fit");
            (y, lse)
        };
        let (y, lse) = forward(&qkv);
        let (dy, x) = (Field::holding(&be, 8, q_dim, &g), Field::holding(&be, 8, width, &qkv));
        let mut dqkv = Field::output(&be, 8, width, Write::Set);
        be.attention_bwd(dqkv.view_mut(), dy.view(), y.view(), &lse, x.view(), &params).expect("shapes fit");
        is_gradient("attention dqkv", &qkv, &dqkv.take(&be), |qkv| dot(&forward(qkv).0.take(&be), &g));
    }
}

/// A sequence generated in pieces equals the sequence at once.
pub(crate) fn cache_equals_whole<B: Backend>(be: &B) {
    let case =
        Attention { rows: 40, heads: (4, 2, 16), window: Some(21), softcap: None, sinks: true, segments: &[(0, 40)] };
    let params = case.params();
    let (q_dim, width) = (params.heads.q_dim(), params.heads.qkv_dim());
    let qkv = tensor(be, 1, 40, width);
    let (mut whole, mut lse) = (unset(be, 40, q_dim), unset(be, 40, 4));
    be.attention(whole.view_mut(), &mut lse, qkv.view(), &params).expect("shapes fit");
    let (mut pieces, mut cache) = (unset(be, 40, q_dim), unset(be, 64, 2 * params.heads.kv_dim()));
    let mut past = 0;
    for len in [13, 1, 1, 20, 5] {
        let rows = past..past + len;
        let segment = CachedSegment { start: 0, len, slot: 7, past };
        be.attention_cached(
            pieces.view_mut().rows(rows.clone()),
            &mut cache,
            qkv.view().rows(rows),
            &[segment],
            &params,
        )
        .expect("shapes fit");
        past += len;
    }
    let error = nmse(&be.download(&pieces).expect("download"), &be.download(&whole).expect("download"));
    assert!(error < 1e-11, "error {error:e}");
}
