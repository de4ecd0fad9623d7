//! Scales and sums by row.

use super::Case;
use super::rig::{Rig, verb};
use crate::backend::{Backend, Write};
use crate::error::Result;

#[derive(Clone, Copy)]
enum Op {
    ScaleRows(Write),
    RowDots,
}

pub(super) struct Rows {
    op: Op,
    /// Rows and columns.
    shape: (usize, usize),
}

impl Case for Rows {
    fn name(&self) -> String {
        let (rows, cols) = self.shape;
        match self.op {
            Op::ScaleRows(write) => format!("scale_rows [{rows}, {cols}], {}", verb(write)),
            Op::RowDots => format!("row_dots [{rows}, {cols}]"),
        }
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { op, shape: (rows, cols) } = self;
        let a = rig.input(rows, cols)?;
        match op {
            Op::ScaleRows(write) => {
                let (s, mut y) = (rig.tensor(rows, 1)?, rig.output(rows, cols, write)?);
                rig.be.scale_rows(y.view_mut(), a.view(), &s, write)?;
                rig.take("y", &y)
            }
            Op::RowDots => {
                let (b, mut out) = (rig.input(rows, cols)?, rig.unset(rows, 1)?);
                rig.be.row_dots(&mut out, a.view(), b.view())?;
                rig.take_tensor("out", &out)
            }
        }
    }
}

pub(super) fn rows() -> Vec<Rows> {
    let ops = [Op::ScaleRows(Write::Set), Op::ScaleRows(Write::Add), Op::RowDots];
    let of = |op| [(5, 7), (33, 33), (129, 5), (300, 70)].map(move |shape| Rows { op, shape });
    ops.into_iter().flat_map(of).collect()
}
