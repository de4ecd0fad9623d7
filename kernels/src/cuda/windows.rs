//! What is done to every row of a window: copies, fills, norms and scales.

use super::call::Place;
use super::device::Device;
use super::{Cuda, THREADS};
use crate::backend::{Activation, NormParams, Write};
use crate::error::Result;
use crate::tensor::{In, Out, Tensor};

impl<D: Device> Cuda<D> {
    /// `y (=|+=) x`, of `rows` rows.
    pub(super) fn copy_rows(&self, y: Place, x: Place, rows: usize, cols: usize, write: Write) -> Result<()> {
        self.call("copy_window").either(&y).either(&x).sizes([rows, cols]).write(write).pieces(rows, cols)
    }

    /// Norm of `x`, or of `x` and `branch` together, whose sum goes to the place beside it.
    pub(super) fn norm(
        &self,
        y: Place,
        rstd: &Tensor<Self>,
        x: Place,
        branch: Option<(Place, Place)>,
        w: &Tensor<Self>,
        params: NormParams,
    ) -> Result<()> {
        let kernel = if is_short(w.cols()) { "rms_norm_short" } else { "rms_norm" };
        let call = self.call(kernel).either(&y).whole(rstd);
        let call = match &branch {
            Some((sum, branch)) => call.either(sum).either(&x).either(branch),
            None => call.neither().either(&x).neither(),
        };
        let call = call.whole(w).sizes([rstd.rows(), rstd.cols(), w.cols()]).numbers([params.eps, params.offset]);
        call.flag(branch.is_some()).blocks(blocks_of(rstd.len(), w.cols()))
    }

    pub(super) fn fill_rows(&self, y: Place, rows: usize, cols: usize, value: f32) -> Result<()> {
        self.call("fill_window").either(&y).sizes([rows, cols]).number(value).pieces(rows, cols)
    }

    /// `s` has a number a row, or a number a column.
    pub(super) fn scale_lines(
        &self,
        y: &Out<Self>,
        x: &In<Self>,
        s: &Tensor<Self>,
        by_row: bool,
        write: Write,
    ) -> Result<()> {
        let call = self.call("scale_lines").either(y).either(x).whole(s).sizes([x.at.rows, x.at.cols]);
        call.flag(by_row).write(write).pieces(x.at.rows, x.at.cols)
    }
}

/// Whether a warp has a group of so many columns, and not a block.
pub(super) fn is_short(columns: usize) -> bool {
    columns <= 1024
}

/// Blocks for so many groups.
pub(super) fn blocks_of(groups: usize, columns: usize) -> usize {
    if is_short(columns) { groups.div_ceil(THREADS as usize / 32) } else { groups }
}

/// An activation as `gated.cu` counts them.
pub(super) fn number_of(act: Activation) -> u32 {
    match act {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
    }
}
