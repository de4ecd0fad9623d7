//! Sums and scales by row and column; `DoRA`'s norm.

use super::Case;
use super::rig::{Rig, verb};
use super::weights::{ALL, Held, Storage};
use crate::backend::{Backend, Operand, Write};
use crate::error::Result;
use crate::reference::Reference;
use crate::weight::Matrix;

#[derive(Clone, Copy)]
enum Op {
    SumRows,
    ScaleColumns(Write),
    ColumnDots,
    Divide,
}

pub(super) struct Columns {
    op: Op,
    rows: usize,
    cols: usize,
}

impl Case for Columns {
    fn name(&self) -> String {
        let (rows, cols) = (self.rows, self.cols);
        match self.op {
            Op::SumRows => format!("sum_rows [{rows}, {cols}]"),
            Op::ScaleColumns(write) => format!("scale_columns [{rows}, {cols}], {}", verb(write)),
            Op::ColumnDots => format!("column_dots [{rows}, {cols}]"),
            Op::Divide => format!("divide [{rows}, {cols}]"),
        }
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { op, rows, cols } = self;
        let a = rig.input(rows, cols)?;
        match op {
            Op::SumRows => {
                let mut out = rig.tensor(1, cols)?;
                rig.be.sum_rows(&mut out, a.view())?;
                rig.take_tensor("out", &out)
            }
            Op::ScaleColumns(write) => {
                let (s, mut y) = (rig.tensor(1, cols)?, rig.output(rows, cols, write)?);
                rig.be.scale_columns(y.view_mut(), a.view(), &s, write)?;
                rig.take("y", &y)
            }
            Op::ColumnDots => {
                let (b, mut out) = (rig.input(rows, cols)?, rig.tensor(1, cols)?);
                rig.be.column_dots(&mut out, a.view(), b.view())?;
                rig.take_tensor("out", &out)
            }
            Op::Divide => {
                let (a, below) = (rig.tensor(rows, cols)?, rig.at_least(0.5, rows * cols));
                let (b, mut y) = (rig.be.tensor(rows, cols, &below)?, rig.unset(rows, cols)?);
                rig.be.divide(&mut y, &a, &b)?;
                rig.take_tensor("y", &y)
            }
        }
    }
}

pub(super) fn columns() -> Vec<Columns> {
    let ops = [Op::SumRows, Op::ScaleColumns(Write::Set), Op::ScaleColumns(Write::Add), Op::ColumnDots, Op::Divide];
    let of = |op| [(1, 8), (5, 7), (33, 33), (129, 5), (300, 70)].map(move |(rows, cols)| Columns { op, rows, cols });
    ops.into_iter().flat_map(of).collect()
}

pub(super) struct RowSquares {
    rows: usize,
    cols: usize,
    storage: Storage,
}

impl Case for RowSquares {
    fn name(&self) -> String {
        format!("row_squares [{}, {}] {}", self.rows, self.cols, self.storage.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let w = Held::draw(rig, self.storage, self.rows, self.cols)?;
        let mut out = rig.unset(1, self.rows)?;
        rig.be.row_squares(&mut out, w.matrix())?;
        rig.take_tensor("out", &out)
    }
}

pub(super) fn row_squares() -> Vec<RowSquares> {
    let of = |storage| [(5, 33), (129, 300)].map(move |(rows, cols)| RowSquares { rows, cols, storage });
    ALL.into_iter().flat_map(of).collect()
}

/// The parts are those of a real adapter, made by the reference: of unrelated parts there may be no root.
pub(super) struct DoraNorm {
    outputs: usize,
    inputs: usize,
    rank: usize,
    s: f32,
}

impl Case for DoraNorm {
    fn name(&self) -> String {
        format!("dora_norm [{}, {}], rank {}", self.outputs, self.inputs, self.rank)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { outputs, inputs, rank, s } = self;
        let exact = Reference;
        let (w, a) = (rig.noise(outputs * inputs), rig.noise(rank * inputs));
        let (w, a) = (exact.tensor(outputs, inputs, &w)?, exact.tensor(rank, inputs, &a)?);
        let mut squares = exact.zeros(1, outputs)?;
        exact.row_squares(&mut squares, Matrix::Dense(&w))?;
        let (mut projected, mut gram) = (exact.zeros(rank, outputs)?, exact.zeros(rank, rank)?);
        for (y, right) in [(&mut projected, &w), (&mut gram, &a)] {
            let (left, right) = (Operand::plain(a.view()), Operand::transposed(right.view()));
            exact.gemm(y.view_mut(), left, right, 1.0, Write::Set)?;
        }
        let (squares, b) = (rig.be.tensor(1, outputs, &exact.download(&squares)?)?, rig.tensor(outputs, rank)?);
        let projected = rig.be.tensor(rank, outputs, &exact.download(&projected)?)?;
        let gram = rig.be.tensor(rank, rank, &exact.download(&gram)?)?;
        let mut out = rig.unset(1, outputs)?;
        rig.be.dora_norm(&mut out, &squares, &projected, &gram, &b, s)?;
        rig.take_tensor("out", &out)
    }
}

pub(super) fn dora_norm() -> Vec<DoraNorm> {
    [(5, 16, 1, -0.5), (33, 64, 4, 0.5), (129, 40, 8, 2.0), (7, 50, 33, 0.25)]
        .map(|(outputs, inputs, rank, s)| DoraNorm { outputs, inputs, rank, s })
        .into()
}
