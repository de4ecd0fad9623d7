//! Products of weights with low-rank adapters beside them (Hu et al. 2021): what they are given, and one after the other
//! by the other operations of a backend.

use crate::backend::{Backend, NormParams, Operand, Part, Write};
use crate::error::Result;
use crate::tensor::{In, Out, Tensor};
use crate::weight::Matrix;
use std::ops::Range;

/// An adapter in a forward pass: adds `scaling·(x·aᵀ)·bᵀ`.
pub struct Adapter<'a, B: Backend> {
    /// `[rank, in]`.
    pub a: &'a Tensor<B>,
    /// `[out, rank]`.
    pub b: &'a Tensor<B>,
    /// Multiplies what it adds.
    pub scaling: f32,
    /// Becomes `x·aᵀ`, `[rows, rank]`.
    pub xa: &'a mut Tensor<B>,
}

/// One of the products of [`Backend::adapted`].
pub struct Adapted<'a, B: Backend> {
    /// Its weight.
    pub part: Part<'a, B>,
    /// Its adapter, where it has one.
    pub adapter: Option<Adapter<'a, B>>,
}

/// An adapter in a backward pass.
pub struct AdapterGradient<'a, B: Backend> {
    /// `[rank, in]`.
    pub a: &'a Tensor<B>,
    /// `[out, rank]`.
    pub b: &'a Tensor<B>,
    /// As in the forward pass.
    pub scaling: f32,
    /// Of the forward pass.
    pub xa: &'a Tensor<B>,
    /// Is added to, where `a` is trained.
    pub da: Option<&'a mut Tensor<B>>,
    /// Is added to, where `b` is trained.
    pub db: Option<&'a mut Tensor<B>>,
}

/// One of the products of [`Backend::adapted_bwd`].
pub struct AdaptedGradient<'a, B: Backend> {
    /// Its columns of `dy`.
    pub columns: Range<usize>,
    /// `[columns, in]`.
    pub w: Matrix<'a, B>,
    /// Its adapter, where it has one.
    pub adapter: Option<AdapterGradient<'a, B>>,
}

/// Rows whose RMS norm is the input of products.
pub struct Normed<'a, B: Backend> {
    /// `[rows, n]`.
    pub x: In<'a, B>,
    /// `[1, n]`.
    pub gain: &'a Tensor<B>,
    /// Of the norm.
    pub params: NormParams,
}

/// [`Backend::adapted_of_norm`] by [`Backend::rms_norm`] and [`Backend::adapted`].
pub(crate) fn forward_of_norm<B: Backend>(
    be: &B,
    y: Out<B>,
    rstd: &mut Tensor<B>,
    Normed { x, gain, params }: &Normed<B>,
    parts: &mut [Adapted<B>],
) -> Result<()> {
    let mut normed = be.zeros(x.at.rows, x.at.cols)?;
    be.rms_norm(normed.view_mut(), rstd, *x, gain, params)?;
    be.adapted(y, normed.view(), parts)
}

/// [`Backend::adapted_of_norm_bwd`] by the same and [`Backend::adapted_bwd`].
pub(crate) fn backward_of_norm<B: Backend>(
    be: &B,
    dx: Option<Out<B>>,
    dy: In<B>,
    Normed { x, gain, params }: &Normed<B>,
    parts: &mut [AdaptedGradient<B>],
    dxa: &mut Tensor<B>,
) -> Result<()> {
    let mut normed = be.zeros(x.at.rows, x.at.cols)?;
    let mut rstd = be.zeros(x.at.rows, 1)?;
    be.rms_norm(normed.view_mut(), &mut rstd, *x, gain, params)?;
    be.adapted_bwd(dx, dy, normed.view(), parts, dxa)
}

/// [`Backend::adapted`] by [`Backend::linears`] and [`Backend::gemm`].
pub(crate) fn forward<B: Backend>(be: &B, mut y: Out<B>, x: In<B>, parts: &mut [Adapted<B>]) -> Result<()> {
    let plain: Vec<Part<B>> = parts
        .iter()
        .map(|Adapted { part, .. }| Part { columns: part.columns.clone(), w: part.w, bias: part.bias })
        .collect();
    be.linears(y.by_ref(), x, &plain)?;
    for Adapted { part, adapter } in parts {
        let Some(Adapter { a, b, scaling, xa }) = adapter else { continue };
        be.reshape(xa, x.at.rows, a.rows())?;
        be.gemm(xa.view_mut(), Operand::plain(x), Operand::transposed(a.view()), 1.0, Write::Set)?;
        let y = y.by_ref().cols(part.columns.clone());
        be.gemm(y, Operand::plain(xa.view()), Operand::transposed(b.view()), *scaling, Write::Add)?;
    }
    Ok(())
}

/// `db += s·dyᵀ·xa`, `dxa = s·dy·b`, `da += dxaᵀ·x` of one adapter, by [`Backend::gemm`].
pub(crate) fn gradients<B: Backend>(
    be: &B,
    adapter: &mut AdapterGradient<B>,
    dy: In<B>,
    x: In<B>,
    dxa: &mut Tensor<B>,
) -> Result<()> {
    let AdapterGradient { b, scaling, xa, da, db, .. } = adapter;
    if let Some(db) = db {
        be.gemm(db.view_mut(), Operand::transposed(dy), Operand::plain(xa.view()), *scaling, Write::Add)?;
    }
    be.reshape(dxa, dy.at.rows, b.cols())?;
    be.gemm(dxa.view_mut(), Operand::plain(dy), Operand::plain(b.view()), *scaling, Write::Set)?;
    if let Some(da) = da {
        be.gemm(da.view_mut(), Operand::transposed(dxa.view()), Operand::plain(x), 1.0, Write::Add)?;
    }
    Ok(())
}

/// [`Backend::adapted_bwd`] by [`Backend::linear_bwd_input`] and [`Backend::gemm`].
pub(crate) fn backward<B: Backend>(
    be: &B,
    mut dx: Option<Out<B>>,
    dy: In<B>,
    x: In<B>,
    parts: &mut [AdaptedGradient<B>],
    dxa: &mut Tensor<B>,
) -> Result<()> {
    for (i, AdaptedGradient { columns, w, adapter }) in parts.iter_mut().enumerate() {
        let dy = dy.cols(columns.clone());
        if let Some(adapter) = adapter {
            gradients(be, adapter, dy, x, dxa)?;
        }
        let Some(dx) = &mut dx else { continue };
        let write = if i == 0 { Write::Set } else { Write::Add };
        be.linear_bwd_input(dx.by_ref(), dy, *w, write)?;
        if let Some(AdapterGradient { a, .. }) = adapter {
            be.gemm(dx.by_ref(), Operand::plain(dxa.view()), Operand::plain(a.view()), 1.0, Write::Add)?;
        }
    }
    Ok(())
}
