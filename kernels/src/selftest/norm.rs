//! RMS norm over whole rows and over heads.

use super::Case;
use super::rig::{Rig, verb};
use crate::backend::{Backend, NormParams, Write};
use crate::error::Result;
use crate::reference::Reference;

/// Rows, groups, columns of a group. With one column nothing is left of the gradient but rounding.
const SHAPES: [(usize, usize, usize); 6] = [(1, 1, 8), (1, 3, 5), (5, 1, 7), (7, 4, 33), (33, 2, 128), (129, 1, 300)];

#[derive(Clone, Copy)]
pub(super) struct Norm {
    rows: usize,
    groups: usize,
    n: usize,
    offset: f32,
}

impl Norm {
    fn all() -> impl Iterator<Item = Self> {
        let of = |(rows, groups, n)| [0.0, 1.0].map(|offset| Self { rows, groups, n, offset });
        SHAPES.into_iter().flat_map(of)
    }

    fn params(self) -> NormParams {
        NormParams { eps: 1e-5, offset: self.offset }
    }

    fn label(self) -> String {
        format!("[{}, {}·{}], gain from {}", self.rows, self.groups, self.n, self.offset)
    }
}

impl Case for Norm {
    fn name(&self) -> String {
        format!("rms_norm {}", self.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { rows, groups, n, .. } = self;
        let (x, w) = (rig.input(rows, groups * n)?, rig.tensor(1, n)?);
        let (mut y, mut rstd) = (rig.output(rows, groups * n, Write::Set)?, rig.unset(rows, groups)?);
        rig.be.rms_norm(y.view_mut(), &mut rstd, x.view(), &w, &self.params())?;
        rig.take("y", &y)?;
        rig.take_tensor("rstd", &rstd)
    }
}

pub(super) fn norm() -> Vec<Norm> {
    Norm::all().collect()
}

pub(super) struct NormBackward {
    norm: Norm,
    write: Write,
    /// Whether the gain is trained.
    dw: bool,
}

impl Case for NormBackward {
    fn name(&self) -> String {
        let trained = if self.dw { ", gain trained" } else { "" };
        format!("rms_norm_bwd {}, {}{trained}", self.norm.label(), verb(self.write))
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { norm, write, dw } = self;
        let (rows, cols, n) = (norm.rows, norm.groups * norm.n, norm.n);
        let (x, w) = (rig.noise(rows * cols), rig.noise(n));
        let rstd = rstd(norm, &x, &w)?;
        let (x, w, rstd) =
            (rig.field(rows, cols, &x)?, rig.be.tensor(1, n, &w)?, rig.be.tensor(rows, norm.groups, &rstd)?);
        let (dy, mut dx) = (rig.input(rows, cols)?, rig.output(rows, cols, write)?);
        let mut gain = rig.tensor(1, n)?;
        let into = dw.then_some(&mut gain);
        rig.be.rms_norm_bwd(dx.view_mut(), into, dy.view(), x.view(), &w, &rstd, &norm.params(), write)?;
        rig.take("dx", &dx)?;
        rig.take_tensor("dw", &gain)
    }
}

/// What the forward pass saves, from the reference: a wrong forward pass is not the backward's fault.
fn rstd(norm: Norm, x: &[f32], w: &[f32]) -> Result<Vec<f32>> {
    let (be, cols) = (Reference, norm.groups * norm.n);
    let (x, w) = (be.tensor(norm.rows, cols, x)?, be.tensor(1, norm.n, w)?);
    let (mut y, mut rstd) = (be.zeros(norm.rows, cols)?, be.zeros(norm.rows, norm.groups)?);
    be.rms_norm(y.view_mut(), &mut rstd, x.view(), &w, &norm.params())?;
    be.download(&rstd)
}

pub(super) fn backward() -> Vec<NormBackward> {
    let ways = [(Write::Set, true), (Write::Add, true), (Write::Add, false)];
    Norm::all().flat_map(|norm| ways.map(|(write, dw)| NormBackward { norm, write, dw })).collect()
}
