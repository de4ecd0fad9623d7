//! Allocation, transfer, and what goes element by element from one place to another.

use super::Case;
use super::rig::{Rig, verb};
use crate::backend::{Backend, Write};
use crate::error::Result;

#[derive(Clone, Copy)]
enum Way {
    Zeros,
    Transfer,
    Reshape,
    Fingerprint,
}

pub(super) struct Memory {
    way: Way,
    rows: usize,
    cols: usize,
}

impl Case for Memory {
    fn name(&self) -> String {
        let op = match self.way {
            Way::Zeros => "zeros",
            Way::Transfer => "upload and download",
            Way::Reshape => "reshape",
            Way::Fingerprint => "fingerprint",
        };
        format!("{op} [{}, {}]", self.rows, self.cols)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { way, rows, cols } = self;
        match way {
            Way::Zeros => {
                // Memory that held something else is given out again.
                drop(rig.unset(rows, cols)?);
                let zeros = rig.be.zeros(rows, cols)?;
                rig.take_tensor("numbers", &zeros)
            }
            Way::Transfer => {
                let mut t = rig.unset(rows, cols)?;
                let data = rig.noise(rows * cols);
                rig.be.upload(&mut t, &data)?;
                rig.take_tensor("numbers", &t)
            }
            Way::Reshape => {
                let mut t = rig.unset(rows, cols)?;
                for (rows, cols) in [(cols, rows), (rows + 3, 2 * cols), (1, cols)] {
                    rig.be.reshape(&mut t, rows, cols)?;
                    let data = rig.noise(rows * cols);
                    rig.be.upload(&mut t, &data)?;
                    rig.put("shape", vec![t.rows() as f32, t.cols() as f32]);
                    rig.take_tensor("numbers", &t)?;
                }
                Ok(())
            }
            Way::Fingerprint => {
                let is_stable =
                    !rig.be.fingerprint().is_empty() && rig.be.fingerprint() == rig.be.clone().fingerprint();
                rig.put("says something, and always the same", vec![f32::from(u8::from(is_stable))]);
                Ok(())
            }
        }
    }
}

pub(super) fn memory() -> Vec<Memory> {
    let of = |way| [(1, 1), (5, 7), (33, 129)].map(move |(rows, cols)| Memory { way, rows, cols });
    let mut cases: Vec<Memory> = [Way::Zeros, Way::Transfer, Way::Reshape].into_iter().flat_map(of).collect();
    cases.push(Memory { way: Way::Fingerprint, rows: 0, cols: 0 });
    cases
}

#[derive(Clone, Copy)]
enum Op {
    Copy(Write),
    Fill,
    Scale,
}

pub(super) struct Elements {
    op: Op,
    rows: usize,
    cols: usize,
}

impl Case for Elements {
    fn name(&self) -> String {
        let (rows, cols) = (self.rows, self.cols);
        match self.op {
            Op::Copy(write) => format!("copy [{rows}, {cols}], {}", verb(write)),
            Op::Fill => format!("fill [{rows}, {cols}]"),
            Op::Scale => format!("scale [{rows}, {cols}]"),
        }
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { op, rows, cols } = self;
        let x = rig.input(rows, cols)?;
        let factor = rig.noise(1)[0];
        let mut y = match op {
            Op::Copy(write) => rig.output(rows, cols, write)?,
            Op::Fill => rig.output(rows, cols, Write::Set)?,
            Op::Scale => rig.input(rows, cols)?,
        };
        match op {
            Op::Copy(write) => rig.be.copy(y.view_mut(), x.view(), write)?,
            Op::Fill => rig.be.fill(y.view_mut(), factor)?,
            Op::Scale => rig.be.scale(y.view_mut(), factor)?,
        }
        rig.take("y", &y)
    }
}

pub(super) fn copies() -> Vec<Elements> {
    let of = |op| [(1, 5), (5, 7), (33, 129), (300, 70)].map(move |(rows, cols)| Elements { op, rows, cols });
    [Op::Copy(Write::Set), Op::Copy(Write::Add), Op::Fill, Op::Scale].into_iter().flat_map(of).collect()
}
