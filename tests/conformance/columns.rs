//! Copies, scales and sums by row and column; `DoRA`'s norm.

use crate::harness::{Case, Field, Outputs, nmse, noise, tensor, unset};
use crate::weights::{ALL, Held, Storage};
use peft_kernels::reference::Reference;
use peft_kernels::{Backend, Operand, Result, Write};

/// Everything that goes element by element or sums columns.
#[derive(Debug)]
pub(crate) struct Columns {
    rows: usize,
    cols: usize,
    write: Write,
}

impl Case for Columns {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, cols, write } = self;
        let (a, b, s) = (Field::noise(be, 1, rows, cols), Field::noise(be, 2, rows, cols), tensor(be, 3, 1, cols));
        let mut copied = Field::output(be, rows, cols, write);
        be.copy(copied.view_mut(), a.view(), write)?;
        let mut scaled = Field::output(be, rows, cols, write);
        be.scale_columns(scaled.view_mut(), a.view(), &s, write)?;
        let mut halved = Field::noise(be, 4, rows, cols);
        be.scale(halved.view_mut(), 0.5)?;
        let mut filled = Field::output(be, rows, cols, Write::Set);
        be.fill(filled.view_mut(), 2.5)?;
        let (mut sums, mut dots) = (tensor(be, 5, 1, cols), tensor(be, 6, 1, cols));
        be.sum_rows(&mut sums, a.view())?;
        be.column_dots(&mut dots, a.view(), b.view())?;
        let (mut quotient, mut capped) = (unset(be, rows, cols), tensor(be, 7, rows, cols));
        let numbers: Vec<f32> = noise(8, rows * cols).iter().map(|x| x.abs() + 0.5).collect();
        be.divide(&mut quotient, &tensor(be, 9, rows, cols), &be.tensor(rows, cols, &numbers)?)?;
        be.softcap(&mut capped, 1.25)?;
        Ok(vec![
            ("copy", copied.take(be)),
            ("scale_columns", scaled.take(be)),
            ("scale", halved.take(be)),
            ("fill", filled.take(be)),
            ("sum_rows", be.download(&sums)?),
            ("column_dots", be.download(&dots)?),
            ("divide", be.download(&quotient)?),
            ("softcap", be.download(&capped)?),
        ])
    }
}

pub(crate) fn columns() -> Vec<Columns> {
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (1, 129), (5, 7), (33, 33), (129, 5), (300, 70)] {
        for write in [Write::Set, Write::Add] {
            cases.push(Columns { rows, cols, write });
        }
    }
    cases
}

#[derive(Debug)]
pub(crate) struct RowSquares {
    rows: usize,
    cols: usize,
    storage: Storage,
}

impl Case for RowSquares {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let w = Held::new(be, self.storage, 1, self.rows, self.cols);
        let mut out = unset(be, 1, self.rows);
        be.row_squares(&mut out, w.matrix())?;
        Ok(vec![("out", be.download(&out)?)])
    }
}

pub(crate) fn row_squares() -> Vec<RowSquares> {
    let sizes = [(1, 1), (5, 33), (33, 7), (129, 300)];
    ALL.into_iter().flat_map(|storage| sizes.map(|(rows, cols)| RowSquares { rows, cols, storage })).collect()
}

#[derive(Debug)]
pub(crate) struct Dora {
    outputs: usize,
    rank: usize,
    s: f32,
}

impl Case for Dora {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { outputs, rank, s } = self;
        let squares: Vec<f32> = noise(1, outputs).iter().map(|x| 50.0 + 10.0 * rank as f32 + x).collect();
        let squares = be.tensor(1, outputs, &squares)?;
        let (projected, gram, b) =
            (tensor(be, 2, rank, outputs), tensor(be, 3, rank, rank), tensor(be, 4, outputs, rank));
        let mut out = unset(be, 1, outputs);
        be.dora_norm(&mut out, &squares, &projected, &gram, &b, s)?;
        Ok(vec![("out", be.download(&out)?)])
    }
}

pub(crate) fn dora() -> Vec<Dora> {
    [(1, 1, 0.5), (5, 1, -0.25), (33, 4, 0.25), (129, 8, 0.1), (7, 33, 0.05)]
        .map(|(outputs, rank, s)| Dora { outputs, rank, s })
        .into()
}

/// The identity behind `dora_norm`: the norms of `W + s·B·A`, formed.
pub(crate) fn dora_norm_is_the_norm_of_the_sum() {
    let (be, outputs, inputs, rank, s) = (Reference, 9, 12, 3, 0.7);
    let (w, a, b) = (tensor(&be, 1, outputs, inputs), tensor(&be, 2, rank, inputs), tensor(&be, 3, outputs, rank));
    let mut squares = unset(&be, 1, outputs);
    be.row_squares(&mut squares, peft_kernels::Matrix::Dense(&w)).expect("shapes fit");
    let (mut projected, mut gram) = (unset(&be, rank, outputs), unset(&be, rank, rank));
    let product = |y: &mut _, x: &_| {
        be.gemm(
            peft_kernels::Tensor::view_mut(y),
            Operand::plain(a.view()),
            Operand::transposed(peft_kernels::Tensor::view(x)),
            1.0,
            Write::Set,
        )
        .expect("shapes fit");
    };
    product(&mut projected, &w);
    product(&mut gram, &a);
    let mut norms = unset(&be, 1, outputs);
    be.dora_norm(&mut norms, &squares, &projected, &gram, &b, s).expect("shapes fit");

    let mut sum = w;
    be.gemm(sum.view_mut(), Operand::plain(b.view()), Operand::plain(a.view()), s, Write::Add).expect("shapes fit");
    be.row_squares(&mut squares, peft_kernels::Matrix::Dense(&sum)).expect("shapes fit");
    let want: Vec<f32> = be.download(&squares).expect("download").iter().map(|x| x.sqrt()).collect();
    assert!(nmse(&be.download(&norms).expect("download"), &want) < 1e-12);
}
