//! Attention on tensor cores: queries, keys, values and gradients in bfloat16, in tiles of 64 queries.

use super::attention::{Rows, backward_inputs, geometry_of, tiles};
use super::call::{Call, Place};
use super::device::Device;
use super::memory::Memory;
use super::{Cuda, Precision};
use crate::backend::{AttentionParams, CachedSegment, Heads, Segment};
use crate::error::Result;

/// Queries of a tile, as in `attention_bf16.cuh`.
const SIDE: usize = 64;

/// The kernels for heads of exactly `columns`.
struct Kernels {
    columns: usize,
    /// Threads of a block.
    threads: u32,
    /// Keys of a tile.
    keys: usize,
    forward: &'static str,
    dq: &'static str,
    dkv: &'static str,
}

macro_rules! kernels {
    ($($columns:literal: $threads:literal, $keys:literal);*) => {
        [$(Kernels {
            columns: $columns,
            threads: $threads,
            keys: $keys,
            forward: concat!("attention_bf16_", $columns),
            dq: concat!("attention_bf16_dq_", $columns),
            dkv: concat!("attention_bf16_dkv_", $columns),
        }),*]
    };
}

/// Those of 256 columns are in `attention_bf16_256.cu`.
const KERNELS: [Kernels; 6] = kernels![16: 128, 64; 64: 128, 64; 80: 128, 64; 96: 128, 64; 128: 128, 64; 256: 256, 32];

/// Rows in bfloat16, each on a multiple of 16 bytes, and what holds them where they were made for this.
struct Packed<D: Device> {
    at: Place,
    _memory: Option<Memory<D>>,
}

impl<D: Device> Cuda<D> {
    fn kernels_bf16(&self, heads: &Heads) -> Option<&'static Kernels> {
        let found = KERNELS.iter().find(|k| k.columns == heads.head_dim);
        found.filter(|_| self.precision == Precision::Bf16)
    }

    fn packed_rows(&self, op: &'static str, x: Place, rows: usize, cols: usize) -> Result<Packed<D>> {
        if x.is_narrow && x.is_wide() {
            return Ok(Packed { at: x, _memory: None });
        }
        let stride = cols.next_multiple_of(8);
        let memory = Memory::uninit(&self.device, op, rows.saturating_mul(stride), 2)?;
        self.pack_rows(memory.address(), stride, x, rows, cols)?;
        Ok(Packed { at: Place::narrow(memory.address(), stride), _memory: Some(memory) })
    }

    /// `cols` columns of `rows` rows of `x` to rows of `stride`, with zeros behind.
    fn pack_rows(&self, to: u64, stride: usize, x: Place, rows: usize, cols: usize) -> Result<()> {
        let call = Call::new(&*self.device, "pack_bf16").address(to).either(&x);
        call.sizes([rows, cols, rows, stride]).number(1.0).pieces(rows, stride)
    }

    /// [`crate::Backend::attention`] where there is a kernel for it; otherwise `None`, and nothing is done.
    pub(super) fn attention_mma(
        &self,
        (y, lse): (Place, Place),
        qkv: Place,
        rows: usize,
        params: &AttentionParams,
    ) -> Option<Result<()>> {
        let kernels = self.kernels_bf16(&params.heads)?;
        Some(self.attend_bf16(kernels, (y, lse), qkv, rows, params))
    }

    fn attend_bf16(
        &self,
        kernels: &Kernels,
        (y, lse): (Place, Place),
        qkv: Place,
        rows: usize,
        params: &AttentionParams,
    ) -> Result<()> {
        let heads = params.heads;
        let mut all = Vec::new();
        for &Segment { start, len } in &params.segments {
            tiles(&mut all, SIDE, start, len, 0, start);
        }
        let packed = self.packed_rows("attention", qkv, rows, heads.qkv_dim())?;
        let Rows { q, k, v } = Rows::of(packed.at, &heads);
        self.attend_tiles(kernels, (y, lse), (q, k.address, v.address, k.stride), &all, params)
    }

    /// Tiles of queries over packed rows: queries, and keys and values that have one stride.
    fn attend_tiles(
        &self,
        kernels: &Kernels,
        (y, lse): (Place, Place),
        (q, k, v, stride): (Place, u64, u64, usize),
        all: &[i64],
        params: &AttentionParams,
    ) -> Result<()> {
        const OP: &str = "attention";
        let (lists, sinks) = (self.small(OP, all)?, self.small(OP, &params.sinks)?);
        let call = Call::new(&*self.device, kernels.forward).either(&y).address(lse.address).packed(q);
        let call = call.address(k).address(v).size(stride).memory(&sinks).memory(&lists);
        let call = geometry_of(call, params, false).flag(!params.sinks.is_empty());
        call.run(all.len() / 4 * params.heads.n_heads, kernels.threads)
    }

    /// [`crate::Backend::attention_cached`] where there is a kernel for it, over a cache that holds the fresh rows
    /// already; otherwise `None`, and nothing is done.
    pub(super) fn attention_mma_cached(
        &self,
        y: Place,
        (qkv, rows): (Place, usize),
        cache: Place,
        segments: &[CachedSegment],
        params: &AttentionParams,
    ) -> Option<Result<()>> {
        let kernels = self.kernels_bf16(&params.heads)?;
        Some(self.attend_bf16_cached(kernels, y, (qkv, rows), cache, segments, params))
    }

    fn attend_bf16_cached(
        &self,
        kernels: &Kernels,
        y: Place,
        (qkv, rows): (Place, usize),
        cache: Place,
        segments: &[CachedSegment],
        params: &AttentionParams,
    ) -> Result<()> {
        const OP: &str = "attention_cached";
        let heads = params.heads;
        // The slots one after the other, without what lies between them.
        let (mut all, mut slots, mut height) = (Vec::new(), Vec::new(), 0);
        for s in segments.iter().filter(|s| s.len > 0) {
            tiles(&mut all, SIDE, s.start, s.len, s.past, height);
            slots.push((s.slot, height, s.past + s.len));
            height += s.past + s.len;
        }
        let queries = self.packed_rows(OP, qkv, rows, heads.q_dim())?;
        let stride = (2 * heads.kv_dim()).next_multiple_of(8);
        let keys = Memory::uninit(&self.device, OP, height.saturating_mul(stride), 2)?;
        for (slot, first, count) in slots {
            let to = keys.address() + 2 * (first * stride) as u64;
            self.pack_rows(to, stride, cache.at_row(slot), count, 2 * heads.kv_dim())?;
        }
        let lse = Memory::uninit(&self.device, OP, rows * heads.n_heads, size_of::<f32>())?;
        let lse = Place::single(lse.address(), heads.n_heads);
        let q = queries.at;
        let (k, v) = (keys.address(), keys.address() + 2 * heads.kv_dim() as u64);
        self.attend_tiles(kernels, (y, lse), (q, k, v, stride), &all, params)
    }

    /// The two backward kernels, with `dots` = dy·y of every row and head; `None` as above.
    pub(super) fn attention_mma_back(
        &self,
        dqkv: Place,
        (dy, lse, qkv): (Place, Place, Place),
        dots: &Memory<D>,
        rows: usize,
        params: &AttentionParams,
    ) -> Option<Result<()>> {
        let kernels = self.kernels_bf16(&params.heads)?;
        Some(self.attend_bf16_back(kernels, dqkv, (dy, lse, qkv), dots, rows, params))
    }

    fn attend_bf16_back(
        &self,
        kernels: &Kernels,
        dqkv: Place,
        (dy, lse, qkv): (Place, Place, Place),
        dots: &Memory<D>,
        rows: usize,
        params: &AttentionParams,
    ) -> Result<()> {
        const OP: &str = "attention_bwd";
        let heads = params.heads;
        let (mut by_query, mut by_key) = (Vec::new(), Vec::new());
        for &Segment { start, len } in &params.segments {
            tiles(&mut by_query, SIDE, start, len, 0, start);
            tiles(&mut by_key, kernels.keys, start, len, 0, start + len);
        }
        let (queries, keys) = (by_query.len() / 4, by_key.len() / 4);
        let (by_query, by_key) = (self.small(OP, &by_query)?, self.small(OP, &by_key)?);
        let packed = self.packed_rows(OP, qkv, rows, heads.qkv_dim())?;
        let grads = self.packed_rows(OP, dy, rows, heads.q_dim())?;
        let (from, dy, to) = (Rows::of(packed.at, &heads), grads.at, Rows::of(dqkv, &heads));
        let call = Call::new(&*self.device, kernels.dq).either(&to.q);
        let call = backward_inputs(call, dy, from, lse, dots, &by_query);
        geometry_of(call, params, false).run(queries * heads.n_heads, kernels.threads)?;
        let call = Call::new(&*self.device, kernels.dkv).address(to.k.address).either(&to.v);
        let call = backward_inputs(call, dy, from, lse, dots, &by_key);
        geometry_of(call, params, false).run(keys * heads.n_kv_heads, kernels.threads)
    }
}
