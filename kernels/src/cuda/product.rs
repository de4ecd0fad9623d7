//! Products: with frozen weights, decoded a panel at a time, and of dense matrices in every transposition.

use super::call::{Call, Place, element};
use super::device::Device;
use super::few::{self, DenseRows, FewRows};
use super::memory::Memory;
use super::{Cuda, Precision, THREADS, weight};
use crate::backend::Write;
use crate::error::Result;
use crate::weight::{DType, Matrix};

/// Rows and columns that one block makes, as in `gemm.cu`.
const TILE: usize = 64;

/// Elements of a weight that are decoded at once.
pub(super) const PANEL: usize = 64 << 20;

/// One side of a product: the distance of its rows (of the result's columns, for the right side) and of the steps
/// along the sum.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub(super) address: u64,
    pub(super) outer: usize,
    pub(super) inner: usize,
    pub(super) is_narrow: bool,
}

impl Side {
    /// Rows (columns of the result) lie together.
    pub(super) fn rows(at: Place) -> Self {
        Self { address: at.address, outer: at.stride, inner: 1, is_narrow: at.is_narrow }
    }

    /// Steps along the sum lie a row apart.
    pub(super) fn columns(at: Place) -> Self {
        Self { address: at.address, outer: 1, inner: at.stride, is_narrow: at.is_narrow }
    }

    /// Its lines of numbers that lie together.
    pub(super) fn lines(self) -> Place {
        let stride = if self.inner == 1 { self.outer } else { self.inner };
        Place { address: self.address, stride, is_narrow: self.is_narrow }
    }
}

/// Some rows of a weight as f32.
pub(super) struct Panel<D: Device> {
    pub(super) at: Place,
    pub(super) first: usize,
    pub(super) rows: usize,
    /// What `at` points into, where it was decoded for this.
    _decoded: Option<Memory<D>>,
}

impl<D: Device> Cuda<D> {
    /// `y (=|+=) alpha·a·b + bias`, `shape` = rows, columns, length of the sum.
    pub(super) fn product(
        &self,
        y: Place,
        (a, b): (Side, Side),
        bias: Option<u64>,
        shape: [usize; 3],
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        if shape[2] == 0 && bias.is_none() {
            // A sum of nothing reads nothing, whatever numbers there would be.
            return if write == Write::Set { self.fill_rows(y, shape[0], shape[1], 0.0) } else { Ok(()) };
        }
        let few = FewRows { y, x: a.lines(), bias, rows: shape[0], outputs: shape[1], inputs: shape[2], write };
        if a.inner == 1 && b.inner == 1 && few.fits() {
            let kind = if b.is_narrow { weight::number_of(DType::BF16) } else { weight::number_of(DType::F32) };
            return few::dense(&*self.device, &few, DenseRows { address: b.address, stride: b.outer, kind }, alpha);
        }
        if let Some(done) = self.product_skinny(y, (a, b), bias, shape, alpha, write) {
            return done;
        }
        if self.precision == Precision::Bf16 && shape.iter().all(|&n| n > 0) {
            let (a, b) = (self.packed_left(a, shape[0], shape[2])?, self.packed_right(b, shape[1], shape[2])?);
            return self.product_bf16(y, (&a, &b), None, bias, shape, alpha, write);
        }
        let call = Call::new(&*self.device, "gemm_f32").window(&y);
        let call = [a, b].into_iter().fold(call, |call, s| call.whole(&s.lines()).sizes([s.outer, s.inner]));
        let call = call.address(bias.unwrap_or(0)).sizes(shape).number(alpha).flag(bias.is_some()).write(write);
        call.run(shape[0].div_ceil(TILE) * shape[1].div_ceil(TILE), THREADS)
    }

    /// Do something with every row of `w`, a panel at a time; at least once.
    pub(super) fn panels(&self, w: Matrix<Self>, mut each: impl FnMut(&Panel<D>) -> Result<()>) -> Result<()> {
        match w {
            Matrix::Dense(t) => {
                let at = Place::single(t.buf.address(), t.cols());
                each(&Panel { at, first: 0, rows: t.rows(), _decoded: None })
            }
            Matrix::Frozen(w) => {
                let most = (PANEL / w.cols().max(1)).max(1);
                let mut first = 0;
                loop {
                    let rows = most.min(w.rows() - first);
                    let decoded = Memory::uninit(&self.device, "linear", rows * w.cols(), size_of::<f32>())?;
                    let at = Place::single(decoded.address(), w.cols());
                    w.decode(&self.device, at, first, rows)?;
                    each(&Panel { at, first, rows, _decoded: Some(decoded) })?;
                    first += rows;
                    if first >= w.rows() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// `y (=|+=) x·wᵀ + bias`, of shapes that fit.
    pub(super) fn times_weight(
        &self,
        y: Place,
        x: Place,
        w: Matrix<Self>,
        bias: Option<u64>,
        rows: usize,
        write: Write,
    ) -> Result<()> {
        let (outputs, inputs) = super::dims(w);
        if let Matrix::Frozen(w) = w {
            let few = FewRows { y, x, bias, rows, outputs, inputs, write };
            if let Some(done) = w.times_few(&self.device, &few, self.precision == Precision::Single) {
                return done;
            }
        }
        if let Some(w) = self.on_tensor_cores(w, rows) {
            let left = self.packed_left(Side::rows(x), rows, inputs)?;
            return self.packed_panels(w, rows, |panel| {
                let bias = bias.map(|bias| element(bias, panel.first));
                let shape = [rows, panel.rows, inputs];
                self.product_bf16(y.at_col(panel.first), (&left, &panel.as_columns()), None, bias, shape, 1.0, write)
            });
        }
        self.panels(w, |panel| {
            let bias = bias.map(|bias| element(bias, panel.first));
            let sides = (Side::rows(x), Side::rows(panel.at));
            self.product(y.at_col(panel.first), sides, bias, [rows, panel.rows, inputs], 1.0, write)
        })
    }

    /// `dx (=|+=) dy·w`, of shapes that fit.
    pub(super) fn times_weight_back(
        &self,
        dx: Place,
        dy: Place,
        w: Matrix<Self>,
        rows: usize,
        write: Write,
    ) -> Result<()> {
        let inputs = super::dims(w).1;
        if let Some(w) = self.on_tensor_cores(w, rows) {
            return self.packed_panels(w, rows, |panel| {
                let write = if panel.first > 0 { Write::Add } else { write };
                let left = self.packed_left(Side::rows(dy.at_col(panel.first)), rows, panel.rows)?;
                let shape = [rows, inputs, panel.rows];
                self.product_bf16(dx, (&left, &panel.as_steps()), None, None, shape, 1.0, write)
            });
        }
        self.panels(w, |panel| {
            let write = if panel.first > 0 { Write::Add } else { write };
            let sides = (Side::rows(dy.at_col(panel.first)), Side::columns(panel.at));
            self.product(dx, sides, None, [rows, inputs, panel.rows], 1.0, write)
        })
    }
}
