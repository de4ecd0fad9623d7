//! Dropout: the same mask everywhere.

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
