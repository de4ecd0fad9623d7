//! Products of few rows, as when answers are generated: a weight is read once, as it is stored (`gemv.cu`).

use super::THREADS;
use super::call::{Call, Place};
use super::device::Device;
use crate::backend::Write;
use crate::error::Result;

/// The most rows.
pub(super) const FEW: usize = 8;

/// Warps of a block.
const WARPS: usize = THREADS as usize / 32;

/// Numbers of the sum that a warp takes at once.
const PIECE: usize = 256;

/// Below so many warps a card is not busy.
const BUSY: usize = 4096;

/// A product `y (=|+=) x·wᵀ + bias` of few rows.
#[derive(Clone, Copy)]
pub(super) struct FewRows {
    pub(super) y: Place,
    pub(super) x: Place,
    pub(super) bias: Option<u64>,
    pub(super) rows: usize,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) write: Write,
}

/// Rows of a dense weight: where they lie, how many numbers apart, and a type as `weights.cuh` counts them.
#[derive(Clone, Copy)]
pub(super) struct DenseRows {
    pub(super) address: u64,
    pub(super) stride: usize,
    pub(super) kind: u32,
}

impl FewRows {
    /// Whether there are kernels for it.
    pub(super) fn fits(&self) -> bool {
        (1..=FEW).contains(&self.rows) && self.outputs > 0 && self.inputs > 0
    }

    /// The kernel for the rows, of those for at most 1, 2, 4 and 8.
    pub(super) fn kernel(&self, names: [&'static str; 4]) -> &'static str {
        names[self.rows.next_power_of_two().trailing_zeros() as usize]
    }

    /// Warps that have an output together: sizes alone decide it, so that a result does not depend on the card.
    pub(super) fn share(&self) -> usize {
        let enough = |share: &usize| self.outputs * share <= BUSY && self.inputs >= share * PIECE;
        [WARPS, WARPS / 2, WARPS / 4].into_iter().find(enough).unwrap_or(1)
    }

    /// A launch whose arguments are complete.
    pub(super) fn run<D: Device>(&self, call: Call<'_, D>) -> Result<()> {
        call.blocks(self.outputs.div_ceil(WARPS / self.share()))
    }
}

/// `y (=|+=) alpha·x·wᵀ + bias` of few rows with a dense weight.
pub(super) fn dense<D: Device>(device: &D, few: &FewRows, w: DenseRows, alpha: f32) -> Result<()> {
    let kernel = few.kernel(["gemv_dense_1", "gemv_dense_2", "gemv_dense_4", "gemv_dense_8"]);
    // Numbers of which 16 bytes are made.
    let line = if w.kind == 0 { 4 } else { 8 };
    let wide = w.address.is_multiple_of(16) && w.stride.is_multiple_of(line);
    let call = Call::new(device, kernel).either(&few.y).either(&few.x).address(w.address).size(w.stride);
    let call = call.word(w.kind).address(few.bias.unwrap_or(0)).word(few.rows as u32);
    let call = call.sizes([few.outputs, few.inputs]).word(few.share() as u32).flag(wide);
    few.run(call.number(alpha).flag(few.bias.is_some()).write(few.write))
}
