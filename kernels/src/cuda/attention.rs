//! Attention: sequences cut into tiles, and the launches over them.

use super::Cuda;
use super::call::{Call, Place};
use super::device::Device;
use super::memory::Memory;
use crate::backend::{AttentionParams, CachedSegment, Heads, Segment, Write};
use crate::error::{Error, Result};

/// Threads of a block, as in `attention.cuh`.
const THREADS: u32 = 128;

/// Sequences that no more queries come to are attended to query by query.
const FEW_QUERIES: usize = 4;

/// The kernels for heads of at most `columns`.
struct Kernels {
    columns: usize,
    /// Queries, and keys, of a tile.
    side: usize,
    forward: &'static str,
    dq: &'static str,
    dkv: &'static str,
}

const KERNELS: [Kernels; 3] = [
    Kernels { columns: 64, side: 16, forward: "attention_64", dq: "attention_dq_64", dkv: "attention_dkv_64" },
    Kernels { columns: 128, side: 16, forward: "attention_128", dq: "attention_dq_128", dkv: "attention_dkv_128" },
    Kernels { columns: 256, side: 8, forward: "attention_256", dq: "attention_dq_256", dkv: "attention_dkv_256" },
];

fn kernels(heads: &Heads) -> Result<&'static Kernels> {
    let found = KERNELS.iter().find(|k| heads.head_dim <= k.columns);
    found.ok_or_else(|| Error::Unavailable {
        reason: format!("the GPU's attention has no kernel for heads of {} columns", heads.head_dim),
    })
}

/// Rows of f32, and what holds them where they are copies.
struct Singles<D: Device> {
    at: Place,
    memory: Option<Memory<D>>,
}

/// Whether some of `rows` rows belong to no sequence.
pub(super) fn leaves_rows(segments: &[Segment], rows: usize) -> bool {
    segments.iter().map(|s| s.len).sum::<usize>() < rows
}

/// The tiles of one sequence: rows from `row`, the first at `position`; `last` is the fourth number of each.
pub(super) fn tiles(out: &mut Vec<i64>, side: usize, row: usize, len: usize, position: usize, last: usize) {
    for first in (0..len).step_by(side) {
        let tile = [row + first, side.min(len - first), position + first, last];
        out.extend(tile.map(|x| x as i64));
    }
}

/// Where queries, keys and values lie.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) q: Place,
    pub(super) k: Place,
    pub(super) v: Place,
}

impl Rows {
    /// All in rows of `qkv`.
    pub(super) fn of(qkv: Place, heads: &Heads) -> Self {
        let k = qkv.at_col(heads.q_dim());
        Self { q: qkv, k, v: k.at_col(heads.kv_dim()) }
    }
}

fn geometry<'a, D: Device>(call: Call<'a, D>, params: &AttentionParams) -> Call<'a, D> {
    geometry_of(call, params, true)
}

/// Parameters in the order of the kernels: heads, their columns where the kernel does not know them, scale, window, cap.
pub(super) fn geometry_of<'a, D: Device>(call: Call<'a, D>, params: &AttentionParams, columns: bool) -> Call<'a, D> {
    let heads = params.heads;
    let call = call.word(heads.n_heads as u32).word(heads.n_kv_heads as u32);
    let call = if columns { call.word(heads.head_dim as u32) } else { call };
    let window = params.window.map_or(i64::MAX as u64, |window| window as u64);
    call.number(params.scale).long(window).number(params.softcap.unwrap_or(0.0))
}

/// What both backward kernels read.
pub(super) fn backward_inputs<'a, D: Device>(
    call: Call<'a, D>,
    dy: Place,
    from: Rows,
    lse: Place,
    dots: &Memory<D>,
    tiles: &Memory<D>,
) -> Call<'a, D> {
    let call = if dy.is_narrow { call.packed(dy) } else { call.window(&dy) };
    let call = call.address(from.q.address).address(from.k.address).address(from.v.address).size(from.v.stride);
    call.address(lse.address).memory(dots).memory(tiles)
}

impl<D: Device> Cuda<D> {
    /// Every tile of queries attends; `lse` where asked for.
    fn attend(&self, y: Place, lse: Option<Place>, from: Rows, tiles: &[i64], params: &AttentionParams) -> Result<()> {
        const OP: &str = "attention";
        let kernels = kernels(&params.heads)?;
        let (count, sinks) = (tiles.len() / 4, self.small(OP, &params.sinks)?);
        let tiles = self.small(OP, tiles)?;
        let call = Call::new(&*self.device, kernels.forward).window(&y).address(lse.map_or(0, |lse| lse.address));
        let call = call.window(&from.q).address(from.k.address).window(&from.v).memory(&sinks).memory(&tiles);
        let call = geometry(call, params).flag(!params.sinks.is_empty()).flag(lse.is_some());
        call.run(count * params.heads.n_heads, THREADS)
    }

    /// Rows as f32: themselves, or copies.
    fn singles(&self, op: &'static str, x: Place, rows: usize, cols: usize) -> Result<Singles<D>> {
        if !x.is_narrow {
            return Ok(Singles { at: x, memory: None });
        }
        let memory = Memory::uninit(&self.device, op, rows.saturating_mul(cols), size_of::<f32>())?;
        let at = Place::single(memory.address(), cols);
        self.copy_rows(at, x, rows, cols, Write::Set)?;
        Ok(Singles { at, memory: Some(memory) })
    }

    /// Copies of rows back to where these came from.
    fn back(&self, to: Place, from: &Singles<D>, rows: usize, cols: usize) -> Result<()> {
        if from.memory.is_none() { Ok(()) } else { self.copy_rows(to, from.at, rows, cols, Write::Set) }
    }

    /// [`crate::Backend::attention`]; rows of no sequence are zeros already.
    pub(super) fn attention_of(
        &self,
        (y, lse): (Place, Place),
        (qkv, rows): (Place, usize),
        params: &AttentionParams,
    ) -> Result<()> {
        const OP: &str = "attention";
        let from = self.singles(OP, qkv, rows, params.heads.qkv_dim())?;
        let to = self.singles(OP, y, rows, params.heads.q_dim())?;
        let side = kernels(&params.heads)?.side;
        let mut all = Vec::new();
        for &Segment { start, len } in &params.segments {
            tiles(&mut all, side, start, len, 0, start);
        }
        self.attend(to.at, Some(lse), Rows::of(from.at, &params.heads), &all, params)?;
        self.back(y, &to, rows, params.heads.q_dim())
    }

    /// [`crate::Backend::attention_cached`], with `y` full of zeros; `qkv` has so many rows.
    pub(super) fn attention_over(
        &self,
        y: Place,
        cache: Place,
        (qkv, rows): (Place, usize),
        segments: &[CachedSegment],
        params: &AttentionParams,
    ) -> Result<()> {
        let (heads, side) = (params.heads, kernels(&params.heads)?.side);
        let fresh = qkv.at_col(heads.q_dim());
        for s in segments {
            let (to, from) = (cache.at_row(s.slot + s.past), fresh.at_row(s.start));
            self.copy_rows(to, from, s.len, 2 * heads.kv_dim(), Write::Set)?;
        }
        let from = Rows { q: qkv, k: cache, v: cache.at_col(heads.kv_dim()) };
        if segments.iter().all(|s| s.len <= FEW_QUERIES) {
            return self.attend_few(y, from, segments, params);
        }
        if let Some(done) = self.attention_mma_cached(y, (qkv, rows), cache, segments, params) {
            return done;
        }
        let mut all = Vec::new();
        for s in segments {
            tiles(&mut all, side, s.start, s.len, s.past, s.slot);
        }
        let queries = self.singles("attention_cached", qkv, rows, heads.q_dim())?;
        let to = self.singles("attention_cached", y, rows, heads.q_dim())?;
        self.attend(to.at, None, Rows { q: queries.at, ..from }, &all, params)?;
        self.back(y, &to, rows, heads.q_dim())
    }

    /// [`crate::Backend::attention_bwd`]; rows of no sequence are zeros already.
    pub(super) fn attention_back(
        &self,
        dqkv: Place,
        (dy, y, lse, qkv): (Place, Place, Place, Place),
        rows: usize,
        params: &AttentionParams,
    ) -> Result<()> {
        const OP: &str = "attention_bwd";
        let (heads, kernels) = (params.heads, kernels(&params.heads)?);
        let dots = Memory::uninit(&self.device, OP, rows * heads.n_heads, size_of::<f32>())?;
        let call = Call::new(&*self.device, "attention_dots").memory(&dots).either(&dy).either(&y).size(rows);
        let call = call.word(heads.n_heads as u32).word(heads.head_dim as u32);
        // A warp has a row and a head.
        call.elements(rows * heads.n_heads * 32)?;

        if let Some(done) = self.attention_mma_back(dqkv, (dy, lse, qkv), &dots, rows, params) {
            return done;
        }

        let (mut by_query, mut by_key) = (Vec::new(), Vec::new());
        for &Segment { start, len } in &params.segments {
            tiles(&mut by_query, kernels.side, start, len, 0, start);
            tiles(&mut by_key, kernels.side, start, len, 0, start + len);
        }
        let (x, dy) = (self.singles(OP, qkv, rows, heads.qkv_dim())?, self.singles(OP, dy, rows, heads.q_dim())?);
        let out = self.singles(OP, dqkv, rows, heads.qkv_dim())?;
        let (from, to, dy) = (Rows::of(x.at, &heads), Rows::of(out.at, &heads), dy.at);
        let count = by_query.len() / 4;
        let (by_query, by_key) = (self.small(OP, &by_query)?, self.small(OP, &by_key)?);
        let call = Call::new(&*self.device, kernels.dq).window(&to.q);
        let call = backward_inputs(call, dy, from, lse, &dots, &by_query);
        geometry(call, params).run(count * heads.n_heads, THREADS)?;
        let call = Call::new(&*self.device, kernels.dkv).address(to.k.address).window(&to.v);
        let call = backward_inputs(call, dy, from, lse, &dots, &by_key);
        geometry(call, params).run(count * heads.n_kv_heads, THREADS)?;
        self.back(dqkv, &out, rows, heads.qkv_dim())
    }
}
