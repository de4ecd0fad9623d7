//! What a token is chosen from: the largest logits of a row, so that not the whole row has to leave the device.

use super::call::Place;
use super::device::Device;
use super::memory::Memory;
use super::{Cuda, THREADS};
use crate::error::Result;
use crate::largest::{LARGEST, Penalties};

/// Numbers that a block sorts, as in `sample.cu`; of each [`LARGEST`] are kept.
const PIECE: usize = 2048;

impl<D: Device> Cuda<D> {
    /// The largest of `count` numbers at `row`, once they are lowered by `penalties`.
    pub(super) fn largest_of(&self, row: Place, count: usize, penalties: &Penalties) -> Result<Vec<(u32, f32)>> {
        const OP: &str = "largest";
        if !penalties.tokens.is_empty() {
            let (tokens, written) = (self.small(OP, &penalties.tokens)?, self.small(OP, &penalties.written)?);
            let call = self.call("penalize").address(row.address).memory(&tokens).memory(&written);
            let call = call.size(penalties.tokens.len());
            let numbers = [penalties.repetition, penalties.presence, penalties.frequency];
            call.numbers(numbers).elements(penalties.tokens.len())?;
        }
        let (mut left, mut kept) = (count, None::<Memory<D>>);
        loop {
            let blocks = left.div_ceil(PIECE).max(1);
            let to = Memory::uninit(&self.device, OP, blocks * LARGEST, size_of::<u64>())?;
            let call = self.call("largest").memory(&to).address(row.address).maybe(kept.as_ref()).size(left);
            call.flag(kept.is_none()).run(blocks, THREADS)?;
            if blocks == 1 {
                return Ok(numbers(&to.read()?));
            }
            (left, kept) = (blocks * LARGEST, Some(to));
        }
    }
}

/// What `sortable` of `sample.cu` made of numbers, as numbers again.
fn numbers(bytes: &[u8]) -> Vec<(u32, f32)> {
    let keys = bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).take_while(|&key| key != 0);
    keys.map(|key| {
        let (high, place) = ((key >> 32) as u32, !(key as u32));
        (place, f32::from_bits(if high >> 31 == 1 { high & 0x7fff_ffff } else { !high }))
    })
    .collect()
}
