//! Attention of single queries over a long past: pieces of the past side by side, then joined in their order.

use super::Cuda;
use super::attention::{Rows, geometry_of, tiles};
use super::call::{Call, Place};
use super::device::Device;
use super::memory::Memory;
use crate::backend::{AttentionParams, CachedSegment};
use crate::error::Result;

/// Positions of a piece, and threads of a block, as in `attention_few.cu`.
const PIECE: usize = 128;
const THREADS: u32 = 128;

impl<D: Device> Cuda<D> {
    /// Every row of `segments` attends to its slot, which holds the fresh rows already.
    pub(super) fn attend_few(
        &self,
        y: Place,
        from: Rows,
        segments: &[CachedSegment],
        params: &AttentionParams,
    ) -> Result<()> {
        const OP: &str = "attention_cached";
        let heads = params.heads;
        let mut all = Vec::new();
        for s in segments {
            tiles(&mut all, 1, s.start, s.len, s.past, s.slot);
        }
        let (queries, longest) = (all.len() / 4, segments.iter().map(|s| s.past + s.len).max().unwrap_or(0));
        let pieces = longest.div_ceil(PIECE);
        let numbers = (queries * pieces * heads.n_heads).saturating_mul(heads.head_dim + 2);
        let parts = Memory::uninit(&self.device, OP, numbers, size_of::<f32>())?;
        let (tiles, sinks) = (self.small(OP, &all)?, self.small(OP, &params.sinks)?);
        let call = Call::new(&*self.device, "attention_pieces").memory(&parts).either(&from.q);
        let call = call.address(from.k.address).window(&from.v).memory(&tiles).size(pieces);
        geometry_of(call, params, true).run(queries * pieces * heads.n_heads, THREADS)?;
        let call = Call::new(&*self.device, "attention_join").either(&y).memory(&parts).memory(&sinks).memory(&tiles);
        let call = call.size(pieces).word(heads.n_heads as u32).word(heads.head_dim as u32);
        let call = call.long(params.window.map_or(i64::MAX as u64, |window| window as u64));
        call.flag(!params.sinks.is_empty()).run(queries * heads.n_heads, THREADS)
    }
}
