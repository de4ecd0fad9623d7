//! Weights with adapters beside them: the adapter's product is more steps of the weight's sum, so that what both make is
//! written once, and rounded once.

use super::call::{Place, Placed};
use super::device::Device;
use super::few::FEW;
use super::product::Side;
use super::product_bf16::{More, TILE, rows_of_panel};
use super::weight::CudaWeight;
use super::{Cuda, dims};
use crate::adapted::{self, Adapted, AdaptedGradient, Adapter, AdapterGradient};
use crate::backend::{Backend, Operand, Write};
use crate::error::Result;
use crate::shapes;
use crate::tensor::{In, Out, Tensor};
use crate::weight::Matrix;

/// Where the factors of what an adapter adds lie, in f32: rows, and columns or steps.
struct LowRank {
    left: Place,
    right: Place,
    rank: usize,
    scale: f32,
}

impl<D: Device> Cuda<D> {
    /// [`Backend::adapted`].
    pub(super) fn adapted_products(&self, mut y: Out<Self>, x: In<Self>, parts: &mut [Adapted<Self>]) -> Result<()> {
        for Adapted { part, adapter } in parts {
            let mut y = y.by_ref().cols(part.columns.clone());
            let Some(Adapter { a, b, scaling, xa }) = adapter else {
                self.linear(y, x, part.w, part.bias, Write::Set)?;
                continue;
            };
            shapes::linear(&y, &x, dims(part.w), part.bias)?;
            self.reshape(xa, x.at.rows, a.rows())?;
            self.gemm(xa.view_mut(), Operand::plain(x), Operand::transposed(a.view()), 1.0, Write::Set)?;
            let (left, right) = (Operand::plain(xa.view()), Operand::transposed(b.view()));
            let rank = shapes::gemm(&y, &left, &right)?;
            let more = LowRank { left: xa.place(), right: b.place(), rank, scale: *scaling };
            let bias = part.bias.map(|bias| bias.buf.address());
            if let Some(done) = self.times_weight_and(y.place(), x.place(), part.w, bias, x.at.rows, &more) {
                done?;
                continue;
            }
            self.linear(y.by_ref(), x, part.w, part.bias, Write::Set)?;
            self.gemm(y, left, right, *scaling, Write::Add)?;
        }
        Ok(())
    }

    /// [`Backend::adapted_bwd`].
    pub(super) fn adapted_products_back(
        &self,
        mut dx: Option<Out<Self>>,
        dy: In<Self>,
        x: In<Self>,
        parts: &mut [AdaptedGradient<Self>],
        dxa: &mut Tensor<Self>,
    ) -> Result<()> {
        for (i, AdaptedGradient { columns, w, adapter }) in parts.iter_mut().enumerate() {
            let dy = dy.cols(columns.clone());
            if let Some(adapter) = adapter {
                adapted::gradients(self, adapter, dy, x, dxa)?;
            }
            let Some(dx) = &mut dx else { continue };
            let write = if i == 0 { Write::Set } else { Write::Add };
            let Some(AdapterGradient { a, .. }) = adapter else {
                self.linear_bwd_input(dx.by_ref(), dy, *w, write)?;
                continue;
            };
            shapes::linear_bwd_input(dx, &dy, dims(*w))?;
            let (left, right) = (Operand::plain(dxa.view()), Operand::plain(a.view()));
            let rank = shapes::gemm(dx, &left, &right)?;
            let more = LowRank { left: dxa.place(), right: a.place(), rank, scale: 1.0 };
            if let Some(done) = self.times_weight_back_and(dx.place(), dy.place(), *w, dy.at.rows, &more, write) {
                done?;
                continue;
            }
            self.linear_bwd_input(dx.by_ref(), dy, *w, write)?;
            self.gemm(dx.by_ref(), left, right, 1.0, Write::Add)?;
        }
        Ok(())
    }

    /// Which weights are multiplied in one product of many rows, so that more can be added to its sums.
    fn in_one_product<'w>(&self, w: Matrix<'w, Self>, rows: usize, rank: usize) -> Option<&'w CudaWeight<D>> {
        let w = self.on_tensor_cores(w, rows)?;
        (rows > FEW && rank > 0 && w.rows() <= rows_of_panel(w.cols().next_multiple_of(TILE))).then_some(w)
    }

    /// `y = x·wᵀ + bias + scale·left·rightᵀ`, rounded once; `None` where this is no product for it.
    fn times_weight_and(
        &self,
        y: Place,
        x: Place,
        w: Matrix<Self>,
        bias: Option<u64>,
        rows: usize,
        more: &LowRank,
    ) -> Option<Result<()>> {
        let w = self.in_one_product(w, rows, more.rank)?;
        let go = || {
            let a = self.padded(Side::rows(more.left), rows, more.rank, 1.0)?;
            let b = self.padded(Side::rows(more.right), w.rows(), more.rank, more.scale)?;
            let more = More { a, b, steps: more.rank };
            let left = self.packed_left(Side::rows(x), rows, w.cols())?;
            self.packed_panels(w, rows, |panel| {
                let shape = [rows, panel.rows, w.cols()];
                self.product_bf16(y, (&left, &panel.as_columns()), Some(&more), bias, shape, 1.0, Write::Set)
            })
        };
        Some(go())
    }

    /// `dx (=|+=) dy·w + left·right`.
    fn times_weight_back_and(
        &self,
        dx: Place,
        dy: Place,
        w: Matrix<Self>,
        rows: usize,
        more: &LowRank,
        write: Write,
    ) -> Option<Result<()>> {
        let w = self.in_one_product(w, rows, more.rank)?;
        let go = || {
            let a = self.padded(Side::rows(more.left), rows, more.rank, 1.0)?;
            let b = self.packed_right(Side::columns(more.right), w.cols(), more.rank)?;
            let more = More { a, b, steps: more.rank };
            let left = self.packed_left(Side::rows(dy), rows, w.rows())?;
            self.packed_panels(w, rows, |panel| {
                let shape = [rows, w.cols(), panel.rows];
                self.product_bf16(dx, (&left, &panel.as_steps()), Some(&more), None, shape, 1.0, write)
            })
        };
        Some(go())
    }
}
