//! Products with frozen weights of every storage, and dense products in every transposition.

use crate::harness::{Case, Field, Outputs, dot, is_gradient, noise, tensor};
use crate::weights::{ALL, Held, Storage};
use peft_kernels::reference::Reference;
use peft_kernels::{Backend, DType, FourBitKind, Matrix, Operand, Result, Write};

#[derive(Debug)]
pub(crate) struct Linear {
    rows: usize,
    inputs: usize,
    outputs: usize,
    storage: Storage,
    bias: bool,
    write: Write,
}

impl Case for Linear {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, inputs, outputs, storage, bias, write } = self;
        let w = Held::new(be, storage, 3, outputs, inputs);
        let bias = bias.then(|| tensor(be, 4, 1, outputs));
        let x = Field::noise(be, 1, rows, inputs);
        let mut y = Field::output(be, rows, outputs, write);
        be.linear(y.view_mut(), x.view(), w.matrix(), bias.as_ref(), write)?;
        let dy = Field::noise(be, 2, rows, outputs);
        let mut dx = Field::output(be, rows, inputs, write);
        be.linear_bwd_input(dx.view_mut(), dy.view(), w.matrix(), write)?;
        Ok(vec![("y", y.take(be)), ("dx", dx.take(be))])
    }
}

pub(crate) fn linear() -> Vec<Linear> {
    let mut cases = Vec::new();
    let odd = [(1, 1, 1), (1, 64, 33), (2, 129, 5), (3, 7, 129), (5, 33, 7), (33, 5, 1), (129, 33, 65), (17, 300, 259)];
    for storage in ALL {
        for (i, (rows, inputs, outputs)) in odd.into_iter().enumerate() {
            let write = if i % 2 == 0 { Write::Set } else { Write::Add };
            cases.push(Linear { rows, inputs, outputs, storage, bias: i % 3 == 0, write });
        }
    }
    // More than one block in every direction.
    for storage in [Storage::Dense(DType::BF16), Storage::FourBit(FourBitKind::Nf4, true, DType::BF16)] {
        for (rows, inputs, outputs) in [(1, 1100, 2100), (2, 2100, 700), (260, 530, 300), (40, 900, 2200)] {
            cases.push(Linear { rows, inputs, outputs, storage, bias: true, write: Write::Add });
        }
    }
    cases
}

/// A product of few rows that lie in a matrix of their own, as when answers are generated: 16 bytes at a time.
#[derive(Debug)]
pub(crate) struct Answer {
    rows: usize,
    inputs: usize,
    outputs: usize,
    storage: Storage,
}

impl Case for Answer {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, inputs, outputs, storage } = self;
        let w = Held::new(be, storage, 3, outputs, inputs);
        let x = tensor(be, 1, rows, inputs);
        let mut y = Field::output(be, rows, outputs, Write::Set);
        be.linear(y.view_mut(), x.view(), w.matrix(), None, Write::Set)?;
        Ok(vec![("y", y.take(be))])
    }
}

/// Every number of rows that has a kernel; sums of a warp, of two, four and eight.
pub(crate) fn answers() -> Vec<Answer> {
    let mut cases = Vec::new();
    for (at, storage) in ALL.into_iter().enumerate() {
        for (i, (inputs, outputs)) in [(64, 9), (512, 40), (1096, 21), (2112, 5)].into_iter().enumerate() {
            cases.push(Answer { rows: [1, 2, 3, 8, 5][(at + i) % 5], inputs, outputs, storage });
        }
    }
    // The last inputs are no eight, and several warps share a row.
    cases.push(Answer { rows: 2, inputs: 1099, outputs: 9, storage: Storage::Dense(DType::BF16) });
    cases.push(Answer { rows: 1, inputs: 520, outputs: 1100, storage: Storage::Dense(DType::BF16) });
    cases
}

impl Answer {
    /// Whether a damaged kernel is quickly tried on it.
    pub(crate) fn is_small(&self) -> bool {
        self.outputs < 1000
    }
}

#[derive(Debug)]
pub(crate) struct Gemm {
    m: usize,
    k: usize,
    n: usize,
    transposed: (bool, bool),
    alpha: f32,
    write: Write,
}

impl Case for Gemm {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { m, k, n, transposed, alpha, write } = self;
        let operand = |seed, rows, cols, turned| {
            if turned { Field::noise(be, seed, cols, rows) } else { Field::noise(be, seed, rows, cols) }
        };
        let (a, b) = (operand(1, m, k, transposed.0), operand(2, k, n, transposed.1));
        let mut y = Field::output(be, m, n, write);
        let (a, b) =
            (Operand { x: a.view(), transposed: transposed.0 }, Operand { x: b.view(), transposed: transposed.1 });
        be.gemm(y.view_mut(), a, b, alpha, write)?;
        Ok(vec![("y", y.take(be))])
    }
}

pub(crate) fn gemm() -> Vec<Gemm> {
    let mut cases = Vec::new();
    let sizes = [(1, 1, 1), (1, 33, 5), (5, 1, 7), (7, 129, 33), (33, 5, 129), (129, 7, 8), (8, 129, 64), (65, 64, 31)];
    for (m, k, n) in sizes.into_iter().chain([(16, 600, 300), (300, 16, 500), (270, 900, 16), (2100, 9, 40)]) {
        for (i, transposed) in [(false, false), (true, false), (false, true), (true, true)].into_iter().enumerate() {
            let write = if (m + i) % 2 == 0 { Write::Set } else { Write::Add };
            cases.push(Gemm { m, k, n, transposed, alpha: [1.0, -0.5, 2.0, 0.25][i], write });
        }
    }
    // Nothing to sum: a set output becomes zero, an added one stays.
    for write in [Write::Set, Write::Add] {
        cases.push(Gemm { m: 3, k: 0, n: 5, transposed: (false, false), alpha: 1.0, write });
    }
    cases
}

/// Results of more than a tile in both directions, with a weight's rows as columns and as steps.
pub(crate) fn large() -> Vec<Linear> {
    let storage = Storage::FourBit(FourBitKind::Nf4, true, DType::BF16);
    let case = |(rows, inputs, outputs)| Linear { rows, inputs, outputs, storage, bias: true, write: Write::Add };
    [(130, 200, 170), (66, 136, 300)].into_iter().map(case).collect()
}

/// Results and sums of several tiles, in every transposition.
pub(crate) fn tiled() -> Vec<Gemm> {
    let turned = [(false, false), (true, false), (false, true), (true, true)];
    turned.map(|transposed| Gemm { m: 150, k: 100, n: 70, transposed, alpha: 1.0, write: Write::Set }).into()
}

/// Few outputs of long sums, as gradients of an adapter's matrices have.
pub(crate) fn long_sums() -> Vec<Gemm> {
    let cases = [
        ((16, 1100, 40), (true, false)),
        ((40, 2100, 9), (false, false)),
        ((9, 1100, 70), (true, true)),
        ((70, 1055, 70), (false, true)),
    ];
    let case = |((m, k, n), transposed)| Gemm { m, k, n, transposed, alpha: -0.5, write: Write::Add };
    cases.into_iter().map(case).collect()
}

pub(crate) fn gradient() {
    let (rows, inputs, outputs, be) = (3, 5, 4, Reference);
    let (x, w, g) = (noise(1, rows * inputs), tensor(&be, 2, outputs, inputs), noise(3, rows * outputs));
    let forward = |x: &[f32]| {
        let (x, mut y) = (Field::holding(&be, rows, inputs, x), Field::output(&be, rows, outputs, Write::Set));
        be.linear(y.view_mut(), x.view(), Matrix::Dense(&w), None, Write::Set).expect("shapes fit");
        dot(&y.take(&be), &g)
    };
    let (dy, mut dx) = (Field::holding(&be, rows, outputs, &g), Field::output(&be, rows, inputs, Write::Set));
    be.linear_bwd_input(dx.view_mut(), dy.view(), Matrix::Dense(&w), Write::Set).expect("shapes fit");
    is_gradient("linear dx", &x, &dx.take(&be), forward);

    // dw = dyᵀ·x is the same product that adapters use.
    let forward = |w: &[f32]| {
        let w = be.tensor(outputs, inputs, w).expect("memory");
        let (x, mut y) = (Field::holding(&be, rows, inputs, &x), Field::output(&be, rows, outputs, Write::Set));
        be.linear(y.view_mut(), x.view(), Matrix::Dense(&w), None, Write::Set).expect("shapes fit");
        dot(&y.take(&be), &g)
    };
    let (x, mut dw) = (Field::holding(&be, rows, inputs, &x), Field::output(&be, outputs, inputs, Write::Set));
    let (a, b) = (Operand::transposed(dy.view()), Operand::plain(x.view()));
    be.gemm(dw.view_mut(), a, b, 1.0, Write::Set).expect("shapes fit");
    is_gradient("linear dw", &noise(2, outputs * inputs), &dw.take(&be), forward);
}
