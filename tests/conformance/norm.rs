//! RMS norm over whole rows and over heads.

use crate::harness::{Case, Field, Outputs, dot, is_gradient, noise, tensor, unset};
use peft_kernels::reference::Reference;
use peft_kernels::{Backend, NormParams, Result, Write};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    rows: usize,
    groups: usize,
    n: usize,
    offset: f32,
    write: Write,
    dw: bool,
}

impl Norm {
    fn params(self) -> NormParams {
        // A group of one has no gradient but through eps.
        NormParams { eps: if self.n == 1 { 0.5 } else { 1e-6 }, offset: self.offset }
    }
}

impl Case for Norm {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, groups, n, write, .. } = self;
        let (x, w) = (Field::noise(be, 1, rows, groups * n), tensor(be, 2, 1, n));
        let mut y = Field::output(be, rows, groups * n, Write::Set);
        let mut rstd = unset(be, rows, groups);
        be.rms_norm(y.view_mut(), &mut rstd, x.view(), &w, &self.params())?;
        let dy = Field::noise(be, 3, rows, groups * n);
        let mut dx = Field::output(be, rows, groups * n, write);
        let mut dw = tensor(be, 4, 1, n);
        let into = self.dw.then_some(&mut dw);
        be.rms_norm_bwd(dx.view_mut(), into, dy.view(), x.view(), &w, &rstd, &self.params(), write)?;
        Ok(vec![("y", y.take(be)), ("rstd", be.download(&rstd)?), ("dx", dx.take(be)), ("dw", be.download(&dw)?)])
    }
}

pub(crate) fn norm() -> Vec<Norm> {
    let mut cases = Vec::new();
    for (rows, groups, n) in
        [(1, 1, 1), (1, 3, 5), (5, 1, 7), (7, 4, 33), (33, 2, 128), (129, 1, 129), (300, 1, 40), (2, 1, 1030)]
    {
        for (offset, write, dw) in [(0.0, Write::Set, true), (1.0, Write::Add, true), (0.0, Write::Add, false)] {
            cases.push(Norm { rows, groups, n, offset, write, dw });
        }
    }
    cases
}

/// The norm of a sum, which is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfSum {
    rows: usize,
    n: usize,
}

impl Case for OfSum {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, n } = self;
        let (x, branch, w) = (Field::noise(be, 1, rows, n), Field::noise(be, 5, rows, n), tensor(be, 2, 1, n));
        let mut y = Field::output(be, rows, n, Write::Set);
        let (mut sum, mut rstd) = (unset(be, rows, n), unset(be, rows, 1));
        let params = NormParams { eps: 1e-6, offset: 1.0 };
        be.add_rms_norm(&mut sum, y.view_mut(), &mut rstd, (x.view(), branch.view()), &w, &params)?;
        Ok(vec![("y", y.take(be)), ("sum", be.download(&sum)?), ("rstd", be.download(&rstd)?)])
    }
}

/// A warp, and a block, for a row; whole pieces of eight and others.
pub(crate) fn of_sums() -> Vec<OfSum> {
    [(1, 1), (5, 7), (17, 129), (9, 64), (3, 1100), (2, 2056)].map(|(rows, n)| OfSum { rows, n }).into()
}

pub(crate) fn gradient() {
    let be = Reference;
    for offset in [0.0, 1.0] {
        let case = Norm { rows: 3, groups: 2, n: 4, offset, write: Write::Set, dw: true };
        let Norm { rows, groups, n, .. } = case;
        let (x, w, g) = (noise(1, rows * groups * n), noise(2, n), noise(3, rows * groups * n));
        let forward = |x: &[f32], w: &[f32]| {
            let (x, w) = (Field::holding(&be, rows, groups * n, x), be.tensor(1, n, w).expect("memory"));
            let mut y = Field::output(&be, rows, groups * n, Write::Set);
            let mut rstd = unset(&be, rows, groups);
            be.rms_norm(y.view_mut(), &mut rstd, x.view(), &w, &case.params()).expect("shapes fit");
            (dot(&y.take(&be), &g), rstd)
        };
        let rstd = forward(&x, &w).1;
        let (dy, xs) = (Field::holding(&be, rows, groups * n, &g), Field::holding(&be, rows, groups * n, &x));
        let (mut dx, mut dw) = (Field::output(&be, rows, groups * n, Write::Set), be.zeros(1, n).expect("memory"));
        let ws = be.tensor(1, n, &w).expect("memory");
        be.rms_norm_bwd(dx.view_mut(), Some(&mut dw), dy.view(), xs.view(), &ws, &rstd, &case.params(), Write::Set)
            .expect("shapes fit");
        is_gradient("rms_norm dx", &x, &dx.take(&be), |x| forward(x, &w).0);
        is_gradient("rms_norm dw", &w, &be.download(&dw).expect("download"), |w| forward(&x, w).0);
    }
}
