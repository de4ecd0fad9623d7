//! Products with weights of every storage, and dense products in every transposition.

use super::Case;
use super::rig::{Rig, verb};
use super::weights::{ALL, Held, Storage};
use crate::backend::{Backend, Operand, Write};
use crate::error::Result;
use crate::weight::{DType, FourBitKind};

struct Product {
    rows: usize,
    inputs: usize,
    outputs: usize,
    storage: Storage,
    write: Write,
}

impl Product {
    fn label(&self) -> String {
        let &Self { rows, inputs, outputs, storage, write } = self;
        format!("[{rows}, {inputs}] by [{outputs}, {inputs}] {}, {}", storage.label(), verb(write))
    }

    /// Sizes of less than a vector, around one, of several blocks; one of them with weights of each storage.
    fn all() -> impl Iterator<Item = Self> {
        let shapes = [(1, 64, 33), (2, 129, 5), (5, 33, 7), (4, 96, 18), (33, 5, 16), (16, 64, 128), (17, 300, 259)];
        let small = ALL.into_iter().flat_map(move |storage| {
            shapes.into_iter().zip([Write::Set, Write::Add].into_iter().cycle()).map(move |shape| (shape, storage))
        });
        let large = [
            ((1, 1100, 700), Storage::Dense(DType::BF16)),
            ((65, 530, 300), Storage::FourBit(FourBitKind::Nf4, true, DType::BF16)),
        ];
        let large = large.into_iter().map(|(shape, storage)| ((shape, Write::Add), storage));
        // A single number: nothing to add, which could cancel.
        let single = [(((1, 1, 1), Write::Set), Storage::Dense(DType::F16))];
        small.chain(large).chain(single).map(|(((rows, inputs, outputs), write), storage)| Self {
            rows,
            inputs,
            outputs,
            storage,
            write,
        })
    }
}

pub(super) struct Linear {
    product: Product,
    bias: bool,
}

impl Case for Linear {
    fn name(&self) -> String {
        format!("linear {}{}", self.product.label(), if self.bias { ", bias" } else { "" })
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Product { rows, inputs, outputs, storage, write } = &self.product;
        let w = Held::draw(rig, storage, outputs, inputs)?;
        let bias = self.bias.then(|| rig.tensor(1, outputs)).transpose()?;
        let (x, mut y) = (rig.input(rows, inputs)?, rig.output(rows, outputs, write)?);
        rig.be.linear(y.view_mut(), x.view(), w.matrix(), bias.as_ref(), write)?;
        rig.take("y", &y)
    }
}

pub(super) fn linear() -> Vec<Linear> {
    Product::all().enumerate().map(|(i, product)| Linear { bias: product.rows > 1 && i % 2 == 0, product }).collect()
}

pub(super) struct LinearBackward(Product);

impl Case for LinearBackward {
    fn name(&self) -> String {
        format!("linear_bwd_input {}", self.0.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Product { rows, inputs, outputs, storage, write } = &self.0;
        let w = Held::draw(rig, storage, outputs, inputs)?;
        let (dy, mut dx) = (rig.input(rows, outputs)?, rig.output(rows, inputs, write)?);
        rig.be.linear_bwd_input(dx.view_mut(), dy.view(), w.matrix(), write)?;
        rig.take("dx", &dx)
    }
}

pub(super) fn backward() -> Vec<LinearBackward> {
    Product::all().map(LinearBackward).collect()
}

pub(super) struct Gemm {
    m: usize,
    k: usize,
    n: usize,
    transposed: (bool, bool),
    alpha: f32,
    write: Write,
}

impl Case for Gemm {
    fn name(&self) -> String {
        let &Self { m, k, n, transposed, write, .. } = self;
        let turned = |is_turned| if is_turned { " transposed" } else { "" };
        format!("gemm [{m}, {k}]{} by [{k}, {n}]{}, {}", turned(transposed.0), turned(transposed.1), verb(write))
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { m, k, n, transposed, alpha, write } = self;
        let mut operand = |rows, cols, is_turned| if is_turned { rig.input(cols, rows) } else { rig.input(rows, cols) };
        let (a, b) = (operand(m, k, transposed.0)?, operand(k, n, transposed.1)?);
        let mut y = rig.output(m, n, write)?;
        let (a, b) =
            (Operand { x: a.view(), transposed: transposed.0 }, Operand { x: b.view(), transposed: transposed.1 });
        rig.be.gemm(y.view_mut(), a, b, alpha, write)?;
        rig.take("y", &y)
    }
}

pub(super) fn gemm() -> Vec<Gemm> {
    let mut cases = Vec::new();
    let sizes = [(1, 33, 5), (7, 1, 5), (33, 5, 129), (65, 64, 31), (16, 600, 30), (300, 16, 50), (64, 64, 64)];
    for (m, k, n) in sizes {
        for (i, transposed) in [(false, false), (true, false), (false, true), (true, true)].into_iter().enumerate() {
            let write = if (m + i) % 2 == 0 { Write::Set } else { Write::Add };
            cases.push(Gemm { m, k, n, transposed, alpha: [1.0, -0.5, 2.0, 0.25][i], write });
        }
    }
    // Nothing to sum: a set output becomes zero, an added one stays.
    let empty = |write| Gemm { m: 3, k: 0, n: 5, transposed: (false, false), alpha: 1.0, write };
    cases.extend([Write::Set, Write::Add].map(empty));
    cases
}
