//! Products on tensor cores: factors in bfloat16 as `gemm_bf16.cu` reads them, and the choice of its kernels.
//!
//! Frozen weights are decoded to bfloat16 at once; the same rows serve both directions, as columns of the result going
//! forward and as steps of the sum going back.

use super::call::{Call, Place};
use super::device::Device;
use super::memory::Memory;
use super::product::{PANEL, Side};
use super::weight::CudaWeight;
use super::{Cuda, Precision, wgmma};
use crate::backend::Write;
use crate::error::Result;
use crate::weight::Matrix;
use std::sync::Arc;

/// Steps of the sum come in pieces of so many.
pub(super) const DEPTH: usize = 32;
/// Rows and columns come in tiles of at most so many.
pub(super) const TILE: usize = 128;
/// Numbers that a thread packs.
const EACH: usize = 8;
/// Below so many rows or columns of the result the small tiles are used.
const SMALL: usize = 64;

/// Blocks that keep a card busy.
const BUSY: usize = 256;
/// The shortest piece of a sum that is worth a block of its own.
const SHORTEST: usize = 512;

/// Pieces that a sum of `depth` steps is cut into where a result has so few tiles: an adapter's matrices are as long as
/// the weight on one side only. Sizes alone decide it, so that a result does not depend on the card.
fn parts(tiles: usize, depth: usize) -> usize {
    (BUSY / tiles.max(1)).min(depth / SHORTEST).max(1)
}

/// Rows of a weight that are decoded at once, of so many columns.
pub(super) fn rows_of_panel(stride: usize) -> usize {
    (PANEL / stride / TILE * TILE).max(TILE)
}

/// What a product makes: `y (=|+=) alpha·(a sum) + bias` of rows, columns and steps, in so many tiles.
pub(super) struct Sum {
    pub(super) y: Place,
    pub(super) bias: Option<u64>,
    pub(super) shape: [usize; 3],
    pub(super) tiles: usize,
    pub(super) alpha: f32,
    pub(super) write: Write,
}

/// A factor in bfloat16.
pub(super) struct Packed<D: Device> {
    pub(super) address: u64,
    /// Distance of its rows.
    pub(super) stride: usize,
    /// A row is a step of the sum.
    pub(super) by_step: bool,
    /// What `address` points into, where it was made for this.
    _memory: Option<Memory<D>>,
}

/// More of a sum: `a` of as many rows, and `b` of as many columns, that lies as the other factor does.
pub(super) struct More<D: Device> {
    pub(super) a: Packed<D>,
    pub(super) b: Packed<D>,
    pub(super) steps: usize,
}

/// Some rows of a weight in bfloat16, with zeros around.
pub(super) struct PackedPanel<D: Device> {
    pub(super) first: usize,
    pub(super) rows: usize,
    stride: usize,
    address: u64,
    /// What `address` points into.
    _memory: Arc<Memory<D>>,
}

impl<D: Device> PackedPanel<D> {
    /// The first and how many rows of so many columns, in this memory.
    pub(super) fn of((first, rows, stride): (usize, usize, usize), memory: Arc<Memory<D>>) -> Self {
        Self { first, rows, stride, address: memory.address(), _memory: memory }
    }

    /// Its rows as columns of the result.
    pub(super) fn as_columns(&self) -> Packed<D> {
        Packed { address: self.address, stride: self.stride, by_step: false, _memory: None }
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

    /// Every row of `w` in bfloat16, a panel at a time, for a product of so many rows.
    pub(super) fn packed_panels(
        &self,
        w: &CudaWeight<D>,
        tokens: usize,
        mut each: impl FnMut(&PackedPanel<D>) -> Result<()>,
    ) -> Result<()> {
        let stride = w.cols().next_multiple_of(TILE);
        let most = rows_of_panel(stride);
        for first in (0..w.rows()).step_by(most) {
            let rows = most.min(w.rows() - first);
            let at = (first, rows, stride);
            if let Some(whole) = w.held() {
                // Panels begin at whole tiles: each lies in the whole as it would lie by itself.
                let address = whole.address() + (first * stride * 2) as u64;
                each(&PackedPanel { address, ..PackedPanel::of(at, whole) })?;
            } else if let Some(ahead) = self.recent.ahead().filter(|ahead| ahead.is_for(w, tokens)) {
                ahead.panel(w, at, &mut each)?;
            } else {
                each(&PackedPanel::of(at, Arc::new(self.decoded(w, (first, rows), stride)?)))?;
            }
        }
        Ok(())
    }

    /// The first and how many rows of `w` in bfloat16, with zeros around.
    fn decoded(&self, w: &CudaWeight<D>, rows: (usize, usize), stride: usize) -> Result<Memory<D>> {
        let padded = rows.1.next_multiple_of(TILE);
        let memory = Memory::uninit(&self.device, "linear", padded.saturating_mul(stride), 2)?;
        w.decode_bf16(&self.device, memory.address(), rows, (padded, stride), None)?;
        Ok(memory)
    }

    /// [`Backend::hold_decoded`](crate::Backend::hold_decoded).
    pub(super) fn hold(&self, w: &CudaWeight<D>, hold: bool) -> Result<()> {
        let is_used = self.on_tensor_cores(Matrix::Frozen(w), 1).is_some();
        match (hold && is_used, w.held()) {
            (true, None) => {
                let stride = w.cols().next_multiple_of(TILE);
                w.set_held(Some(self.decoded(w, (0, w.rows()), stride)?));
            }
            (false, Some(_)) => w.set_held(None),
            _ => {}
        }
        Ok(())
    }

    /// Rows, or with `turned` columns, at `from` as rows of bfloat16.
    fn pack(&self, turned: bool, from: Place, size: [usize; 2], padded: [usize; 2], scale: f32) -> Result<Memory<D>> {
        let memory = Memory::uninit(&self.device, "gemm", padded[0].saturating_mul(padded[1]), 2)?;
        let kernel = if turned { "pack_bf16_columns" } else { "pack_bf16" };
        let call = Call::new(&*self.device, kernel).memory(&memory).either(&from).sizes(size).sizes(padded);
        let call = if turned { call } else { call.number(scale) };
        // A thread has several: a block of `pack_bf16_columns` turns two tiles, one after the other.
        call.elements((padded[0] * padded[1]).div_ceil(EACH))?;
        Ok(memory)
    }

    /// The left factor: `rows` rows of `depth` steps, where they lie if they are such rows already.
    pub(super) fn packed_left(&self, side: Side, rows: usize, depth: usize) -> Result<Packed<D>> {
        let lines = side.lines();
        if side.inner == 1 && side.is_narrow && lines.is_wide() && depth.is_multiple_of(DEPTH) {
            return Ok(Packed { address: side.address, stride: lines.stride, by_step: false, _memory: None });
        }
        self.padded(side, rows, depth, 1.0)
    }

    /// Rows of steps, times `scale`, with zeros around.
    pub(super) fn padded(&self, side: Side, rows: usize, depth: usize, scale: f32) -> Result<Packed<D>> {
        let padded = [rows.next_multiple_of(TILE), depth.next_multiple_of(DEPTH)];
        let memory = self.pack(side.inner != 1, side.lines(), [rows, depth], padded, scale)?;
        Ok(Packed { address: memory.address(), stride: padded[1], by_step: false, _memory: Some(memory) })
    }

    /// The right factor: `cols` columns of `depth` steps, with whichever lies together kept so.
    pub(super) fn packed_right(&self, side: Side, cols: usize, depth: usize) -> Result<Packed<D>> {
        if side.inner == 1 {
            return self.padded(side, cols, depth, 1.0);
        }
        let padded = [depth.next_multiple_of(DEPTH), cols.next_multiple_of(TILE)];
        let memory = self.pack(false, side.lines(), [depth, cols], padded, 1.0)?;
        Ok(Packed { address: memory.address(), stride: padded[1], by_step: true, _memory: Some(memory) })
    }

    /// `y (=|+=) alpha·(a·b + more) + bias`, `shape` = rows, columns, length of the sum of `a·b`.
    pub(super) fn product_bf16(
        &self,
        y: Place,
        factors: (&Packed<D>, &Packed<D>),
        more: Option<&More<D>>,
        bias: Option<u64>,
        shape: [usize; 3],
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        if bias.is_none()
            && let Some(done) = self.product_by_library(y, factors, more, shape, alpha, write)
        {
            return done;
        }
        self.own_product_bf16(y, factors, more, bias, shape, alpha, write)
    }

    /// The same by the kernels of `kernels/cu`.
    pub(super) fn own_product_bf16(
        &self,
        y: Place,
        (a, b): (&Packed<D>, &Packed<D>),
        more: Option<&More<D>>,
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
        let kernel = if self.wgmma { wgmma::instead_of(kernel) } else { kernel };
        let (k, behind) = (k.next_multiple_of(DEPTH), more.map_or(0, |more| more.steps.next_multiple_of(DEPTH)));
        let (tiles, shape) = (m.div_ceil(tile) * n.div_ceil(tile), [m, n, k + behind]);
        self.in_parts(&Sum { y, bias, shape, tiles, alpha, write }, |sum, parts| {
            let call = Call::new(&*self.device, kernel).either(&sum.y);
            let call = [a, b].into_iter().fold(call, |call, side| call.address(side.address).size(side.stride));
            let call = [more.map(|more| &more.a), more.map(|more| &more.b)].into_iter().fold(call, |call, side| {
                call.address(side.map_or(0, |side| side.address)).size(side.map_or(0, |side| side.stride))
            });
            let call = call.address(sum.bias.unwrap_or(0)).sizes([m, n, k, behind, parts]).number(sum.alpha);
            call.flag(sum.bias.is_some()).write(sum.write).run(tiles * parts, threads)
        })
    }

    /// Launch a product, in pieces that are added in their order where a result has few tiles and a long sum.
    pub(super) fn in_parts(&self, sum: &Sum, launch: impl Fn(&Sum, usize) -> Result<()>) -> Result<()> {
        let &Sum { y, bias, shape: [m, n, k], tiles, alpha, write } = sum;
        let parts = parts(tiles, k);
        if parts == 1 {
            return launch(sum, 1);
        }
        let pieces = Memory::uninit(&self.device, "gemm", parts.saturating_mul(m * n), size_of::<f32>())?;
        let at = Place::single(pieces.address(), n);
        launch(&Sum { y: at, bias: None, alpha: 1.0, write: Write::Set, ..*sum }, parts)?;
        let call = Call::new(&*self.device, "add_parts").either(&y).memory(&pieces).address(bias.unwrap_or(0));
        call.sizes([m, n, parts]).number(alpha).flag(bias.is_some()).write(write).elements(m * n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sums_of_few_tiles_are_cut_and_others_are_not() {
        assert_eq!(parts(64, 8192), 4, "the gradient of an adapter's matrix");
        assert_eq!(parts(2048, 4096), 1, "a product with the weight");
        assert_eq!([parts(1, 511), parts(1, 1024), parts(0, 32)], [1, 2, 1]);
    }
}
