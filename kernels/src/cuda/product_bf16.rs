//! Products on tensor cores: factors in bfloat16 as `gemm_bf16.cu` reads them, and the choice of its kernels.
//!
//! Frozen weights are decoded to bfloat16 at once; the same rows serve both directions, as columns of the result going
//! forward and as steps of the sum going back.

use super::call::{Call, Place};
use super::device::Device;
use super::memory::Memory;
use super::product::{PANEL, Side};
use super::weight::CudaWeight;
use super::{Cuda, Precision};
use crate::backend::Write;
use crate::error::Result;
use crate::weight::Matrix;

/// Steps of the sum come in pieces of so many.
const DEPTH: usize = 32;
/// Rows and columns come in tiles of at most so many.
const TILE: usize = 128;
/// Below so many rows or columns of the result the small tiles are used.
const SMALL: usize = 64;

/// A factor in bfloat16.
pub(super) struct Packed<D: Device> {
    address: u64,
    /// Distance of its rows.
    stride: usize,
    /// A row is a step of the sum.
    by_step: bool,
    /// What `address` points into, where it was made for this.
    _memory: Option<Memory<D>>,
}

/// Some rows of a weight in bfloat16, with zeros around.
pub(super) struct PackedPanel<D: Device> {
    pub(super) first: usize,
    pub(super) rows: usize,
    stride: usize,
    memory: Memory<D>,
}

impl<D: Device> PackedPanel<D> {
    /// Its rows as columns of the result.
    pub(super) fn as_columns(&self) -> Packed<D> {
        Packed { address: self.memory.address(), stride: self.stride, by_step: false, _memory: None }
    }

    /// Its rows as steps of the sum.
    pub(super) fn as_steps(&self) -> Packed<D> {
        Packed { by_step: true, ..self.as_columns() }
    }
}

impl<D: Device> Cuda<D> {
    /// Which weights are multiplied here: frozen ones that are not empty.
    pub(super) fn on_tensor_cores<'w>(&self, w: Matrix<'w, Self>, rows: usize) -> Option<&'w CudaWeight<D>> {
        match w {
            Matrix::Frozen(w) if self.precision == Precision::Bf16 && rows > 0 && w.rows() > 0 && w.cols() > 0 => {
                Some(w)
            }
            _ => None,
        }
    }

    /// Every row of `w` in bfloat16, a panel at a time.
    pub(super) fn packed_panels(
        &self,
        w: &CudaWeight<D>,
        mut each: impl FnMut(&PackedPanel<D>) -> Result<()>,
    ) -> Result<()> {
        let stride = w.cols().next_multiple_of(TILE);
        let most = (PANEL / stride / TILE * TILE).max(TILE);
        for first in (0..w.rows()).step_by(most) {
            let rows = most.min(w.rows() - first);
            let padded = rows.next_multiple_of(TILE);
            let memory = Memory::uninit(&self.device, "linear", padded.saturating_mul(stride), 2)?;
            w.decode_bf16(&self.device, memory.address(), (first, rows), (padded, stride))?;
            each(&PackedPanel { first, rows, stride, memory })?;
        }
        Ok(())
    }

    fn pack(
        &self,
        kernel: &'static str,
        from: u64,
        stride: usize,
        size: [usize; 2],
        padded: [usize; 2],
    ) -> Result<Memory<D>> {
        let memory = Memory::uninit(&self.device, "gemm", padded[0].saturating_mul(padded[1]), 2)?;
        let call = Call::new(&*self.device, kernel).memory(&memory).address(from).size(stride);
        call.sizes(size).sizes(padded).elements(padded[0] * padded[1])?;
        Ok(memory)
    }

    /// The left factor: `rows` rows of `depth` steps.
    pub(super) fn packed_left(&self, side: Side, rows: usize, depth: usize) -> Result<Packed<D>> {
        let padded = [rows.next_multiple_of(TILE), depth.next_multiple_of(DEPTH)];
        let (kernel, stride) =
            if side.inner == 1 { ("pack_bf16", side.outer) } else { ("pack_bf16_columns", side.inner) };
        let memory = self.pack(kernel, side.address, stride, [rows, depth], padded)?;
        Ok(Packed { address: memory.address(), stride: padded[1], by_step: false, _memory: Some(memory) })
    }

    /// The right factor: `cols` columns of `depth` steps, with whichever lies together kept so.
    pub(super) fn packed_right(&self, side: Side, cols: usize, depth: usize) -> Result<Packed<D>> {
        if side.inner == 1 {
            return self.packed_left(side, cols, depth);
        }
        let padded = [depth.next_multiple_of(DEPTH), cols.next_multiple_of(TILE)];
        let memory = self.pack("pack_bf16", side.address, side.inner, [depth, cols], padded)?;
        Ok(Packed { address: memory.address(), stride: padded[1], by_step: true, _memory: Some(memory) })
    }

    /// `y (=|+=) alpha·a·b + bias`, `shape` = rows, columns, length of the sum.
    pub(super) fn product_bf16(
        &self,
        y: Place,
        (a, b): (&Packed<D>, &Packed<D>),
        bias: Option<u64>,
        [m, n, k]: [usize; 3],
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let (kernel, tile, threads) = match (m.min(n) > SMALL, b.by_step) {
            (true, false) => ("gemm_bf16_large", TILE, 256),
            (true, true) => ("gemm_bf16_large_steps", TILE, 256),
            (false, false) => ("gemm_bf16", SMALL, 128),
            (false, true) => ("gemm_bf16_steps", SMALL, 128),
        };
        let call = Call::new(&*self.device, kernel).window(&y);
        let call = [a, b].into_iter().fold(call, |call, side| call.address(side.address).size(side.stride));
        let call = call.address(bias.unwrap_or(0)).sizes([m, n, k.next_multiple_of(DEPTH)]).number(alpha);
        call.flag(bias.is_some()).write(write).run(m.div_ceil(tile) * n.div_ceil(tile), threads)
    }
}
