//! Dropout and noise: the same random numbers everywhere.

use super::Case;
use super::rig::{Rig, verb};
use crate::backend::{Backend, Dropout, Write};
use crate::error::Result;

pub(super) struct Masked {
    rows: usize,
    cols: usize,
    p: f32,
    write: Write,
}

impl Case for Masked {
    fn name(&self) -> String {
        format!("dropout [{}, {}], p {}, {}", self.rows, self.cols, self.p, verb(self.write))
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { rows, cols, p, write } = self;
        let params = Dropout { p, seed: rig.bits(), stream: rig.bits() };
        let (x, mut y) = (rig.input(rows, cols)?, rig.output(rows, cols, write)?);
        rig.be.dropout(y.view_mut(), x.view(), &params, write)?;
        rig.take("y", &y)
    }
}

pub(super) fn dropout() -> Vec<Masked> {
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 33), (5, 7), (33, 129), (64, 256)] {
        for (p, write) in [(0.0, Write::Set), (0.1, Write::Add), (0.5, Write::Set), (0.95, Write::Add)] {
            cases.push(Masked { rows, cols, p, write });
        }
    }
    cases
}

pub(super) struct Noise {
    rows: usize,
    cols: usize,
}

impl Case for Noise {
    fn name(&self) -> String {
        format!("noise [{}, {}]", self.rows, self.cols)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { rows, cols } = self;
        let (seed, stream) = (rig.bits(), rig.bits());
        let amplitudes = rig.at_least(0.0, rows);
        let mut y = rig.output(rows, cols, Write::Add)?;
        rig.be.noise(y.view_mut(), &amplitudes, seed, stream)?;
        rig.take("y", &y)
    }
}

pub(super) fn noise() -> Vec<Noise> {
    [(1, 33), (5, 7), (33, 129), (64, 256)].map(|(rows, cols)| Noise { rows, cols }).into()
}
