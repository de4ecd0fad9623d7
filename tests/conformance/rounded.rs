//! Products of rounded factors: as exact as f32 where nothing had to be rounded, and near where it had.

use crate::adapted::Modules;
use crate::harness::{Case, Field, Outputs, TOLERANCE, conforms, conforms_within, noise};
use crate::weights::{Held, Storage};
use crate::{attention, linear, loss};
use half::bf16;
use peft_kernels::{Backend, DType, FourBitKind, Operand, Result, Write};

/// Each factor is off by 1.1e-3 of itself in the mean and a sum of their products by 1.6e-3 of its size; a few
/// results that cancel may be off by three times as much.
const ROUNDED: f64 = 5e-3 * 5e-3;
/// Of the loss: what a logit of the size of ten is off by goes into the exponent.
const SOFTENED: f64 = 4e-2 * 4e-2;

/// Of attention: a single score may be a sum of few products that cancel.
const SCORED: f64 = 2e-2 * 2e-2;

/// Numbers that bf16 holds.
fn held(seed: u64, n: usize) -> Vec<f32> {
    noise(seed, n).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()
}

/// The three products of a step with factors that need no rounding: a mistake in packing or summing is all that
/// could make a difference.
#[derive(Debug)]
struct Exact {
    rows: usize,
    inputs: usize,
    outputs: usize,
    storage: Storage,
    write: Write,
}

impl Case for Exact {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, inputs, outputs, storage, write } = self;
        let w = match storage {
            Storage::Trainable => Held::Tensor(be.tensor(outputs, inputs, &held(3, outputs * inputs))?),
            stored => Held::new(be, stored, 3, outputs, inputs),
        };
        let x = Field::holding(be, rows, inputs, &held(1, rows * inputs));
        let dy = Field::holding(be, rows, outputs, &held(2, rows * outputs));
        let mut y = Field::output(be, rows, outputs, write);
        be.linear(y.view_mut(), x.view(), w.matrix(), None, write)?;
        let mut dx = Field::output(be, rows, inputs, write);
        be.linear_bwd_input(dx.view_mut(), dy.view(), w.matrix(), write)?;
        // dw = dyᵀ·x
        let mut dw = Field::output(be, outputs, inputs, write);
        let (a, b) = (Operand::transposed(dy.view()), Operand::plain(x.view()));
        be.gemm(dw.view_mut(), a, b, 0.5, write)?;
        Ok(vec![("y", y.take(be)), ("dx", dx.take(be)), ("dw", dw.take(be))])
    }

    fn tolerance(&self) -> f64 {
        TOLERANCE
    }
}

/// `is_first`: with more than one block down, across and deep, which need not be tried again on every path.
fn exact(is_first: bool) -> Vec<Exact> {
    let nf4 = Storage::FourBit(FourBitKind::Nf4, true, DType::BF16);
    let small = [(5, 1, 1), (5, 64, 33), (7, 129, 5), (17, 300, 259), (64, 65, 66), (129, 70, 131)];
    let large = [(2100, 66, 70), (20, 900, 2100), (70, 800, 90)];
    let mut cases = Vec::new();
    for storage in [Storage::Trainable, Storage::Dense(DType::BF16), nf4] {
        let is_large = is_first && storage == Storage::Dense(DType::BF16);
        let large = large.into_iter().filter(|_| is_large);
        for (i, (rows, inputs, outputs)) in small.into_iter().chain(large).enumerate() {
            let write = if i % 2 == 0 { Write::Set } else { Write::Add };
            cases.push(Exact { rows, inputs, outputs, storage, write });
        }
    }
    cases
}

/// Dense products in every transposition, large enough to be rounded.
#[derive(Debug)]
struct Dense {
    sizes: (usize, usize, usize),
    transposed: (bool, bool),
}

impl Case for Dense {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { sizes: (m, k, n), transposed } = self;
        let operand = |seed, rows, cols, turned| {
            let (rows, cols) = if turned { (cols, rows) } else { (rows, cols) };
            Field::holding(be, rows, cols, &held(seed, rows * cols))
        };
        let (a, b) = (operand(1, m, k, transposed.0), operand(2, k, n, transposed.1));
        let mut y = Field::output(be, m, n, Write::Add);
        let (a, b) =
            (Operand { x: a.view(), transposed: transposed.0 }, Operand { x: b.view(), transposed: transposed.1 });
        be.gemm(y.view_mut(), a, b, -2.0, Write::Add)?;
        Ok(vec![("y", y.take(be))])
    }
}

fn dense() -> Vec<Dense> {
    let sizes = [(70, 129, 65), (65, 64, 200), (64, 1601, 66)];
    let turns = [(false, false), (true, false), (false, true), (true, true)];
    sizes.into_iter().flat_map(|sizes| turns.map(|transposed| Dense { sizes, transposed })).collect()
}

pub(crate) fn exact_factors<B: Backend>(be: &B, is_first: bool) {
    conforms(be, &exact(is_first));
    conforms(be, &dense());
}

pub(crate) fn any_factors<B: Backend>(be: &B) {
    conforms_within(be, &linear::linear(), ROUNDED);
    conforms_within(be, &linear::gemm(), ROUNDED);
}

pub(crate) fn attention<B: Backend>(be: &B) {
    conforms_within(be, &attention::attention(), SCORED);
    conforms_within(be, &attention::cached(), SCORED);
}

/// What is a product and then a factor is rounded in between.
pub(crate) fn adapters<B: Backend>(be: &B, cases: &[Modules]) {
    conforms_within(be, cases, ROUNDED);
}

pub(crate) fn head<B: Backend>(be: &B) {
    conforms_within(be, &loss::head(), SOFTENED);
}
