//! Optimizer steps and the norm that clipping needs.

use crate::harness::{Case, Outputs, noise, tensor};
use peft_kernels::quant::eight_bit::{BLOCK, DynamicMap, EightBit, Rounding};
use peft_kernels::{AdamW, Backend, Result};

#[derive(Debug)]
pub(crate) struct Steps {
    rows: usize,
    cols: usize,
    weight_decay: f32,
    eps: f32,
    first: u32,
}

impl Case for Steps {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, cols, weight_decay, eps, first } = self;
        let mut p = tensor(be, 1, rows, cols);
        let (mut m, mut v) = (be.zeros(rows, cols)?, be.zeros(rows, cols)?);
        for i in 0..3 {
            let g = tensor(be, 10 + u64::from(i), rows, cols);
            let params = AdamW {
                learning_rate: 2e-3,
                beta1: 0.9,
                beta2: 0.999,
                eps,
                weight_decay,
                step: first + i,
                gradient_scale: 0.75,
            };
            be.adamw(&mut p, &mut m, &mut v, &g, &params)?;
        }
        let squares = be.sum_squares(&p)? as f32;
        Ok(vec![("p", be.download(&p)?), ("m", be.download(&m)?), ("v", be.download(&v)?), ("Σp²", vec![squares])])
    }
}

pub(crate) fn steps() -> Vec<Steps> {
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (5, 7), (33, 129), (130, 1000)] {
        for (weight_decay, eps, first) in [(0.0, 1e-8, 1), (0.1, 1e-6, 1000)] {
            cases.push(Steps { rows, cols, weight_decay, eps, first });
        }
    }
    cases
}

/// Steps with moments in 8 bits, from zeros. After them a number that lay between two codes may have either.
#[derive(Debug)]
pub(crate) struct Steps8 {
    rows: usize,
    cols: usize,
    steps: u32,
    rounding: Rounding,
}

impl Case for Steps8 {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, cols, steps, rounding } = self;
        let mut p = tensor(be, 1, rows, cols);
        let (mut m, mut v) = (EightBit::zeros(be, rows * cols)?, EightBit::zeros(be, rows * cols)?);
        for step in 1..=steps {
            let g = tensor(be, 10 + u64::from(step), rows, cols);
            let params = AdamW {
                learning_rate: 2e-3,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.1,
                step,
                gradient_scale: 0.75,
            };
            be.adamw_8bit(&mut p, &mut m, &mut v, &g, &params, rounding)?;
        }
        let (first, second) = (decoded(be, &m, DynamicMap::signed())?, decoded(be, &v, DynamicMap::unsigned())?);
        Ok(vec![("p", be.download(&p)?), ("m", first), ("v", second)])
    }

    fn tolerance(&self) -> f64 {
        1e-6
    }
}

fn decoded<B: Backend>(be: &B, state: &EightBit<B>, map: &DynamicMap) -> Result<Vec<f32>> {
    let (codes, absmax) = (be.download_codes(&state.codes)?, be.download(&state.absmax)?);
    assert_eq!((codes.len(), absmax.len()), (state.len, state.len.div_ceil(BLOCK)), "a byte an element and a scale");
    let mut numbers = vec![0.0; codes.len()];
    for ((numbers, codes), absmax) in numbers.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(absmax) {
        map.decode(numbers, codes, absmax);
    }
    Ok(numbers)
}

pub(crate) fn steps_8bit() -> Vec<Steps8> {
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (5, 7), (33, 129), (130, 1000)] {
        for (steps, rounding) in [(1, Rounding::Nearest), (3, Rounding::Nearest), (3, Rounding::Dithered)] {
            cases.push(Steps8 { rows, cols, steps, rounding });
        }
    }
    cases
}

/// The first three steps of `torch.optim.AdamW(lr=0.1, weight_decay=0.01)` on 1.0 with gradients 0.5, -1.0, 0.25.
pub(crate) fn agrees_with_hand_computation<B: Backend>(be: &B) {
    let mut p = be.tensor(1, 1, &[1.0]).expect("memory");
    let (mut m, mut v) = (be.zeros(1, 1).expect("memory"), be.zeros(1, 1).expect("memory"));
    let (mut want, mut first, mut second) = (1.0_f64, 0.0_f64, 0.0_f64);
    for (step, g) in (1..).zip([0.5, -1.0, 0.25]) {
        let params = AdamW {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            step,
            gradient_scale: 1.0,
        };
        let gradient = be.tensor(1, 1, &[g]).expect("memory");
        be.adamw(&mut p, &mut m, &mut v, &gradient, &params).expect("shapes fit");
        let g = f64::from(g);
        want *= 1.0 - 0.1 * 0.01;
        first = 0.9 * first + 0.1 * g;
        second = 0.999 * second + 0.001 * g * g;
        let corrected = (1.0 - 0.9_f64.powi(step as i32), 1.0 - 0.999_f64.powi(step as i32));
        want -= 0.1 * (first / corrected.0) / ((second / corrected.1).sqrt() + 1e-8);
        let got = f64::from(be.download(&p).expect("download")[0]);
        assert!((got - want).abs() < 1e-6, "step {step}: {got} instead of {want}");
    }
}

/// One bad element anywhere shows in the sum.
pub(crate) fn bad_numbers_show<B: Backend>(be: &B) {
    for (i, bad) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().cycle().take(9).enumerate() {
        let mut data = noise(1, 5000);
        data[i * 600] = bad;
        let x = be.tensor(50, 100, &data).expect("memory");
        assert!(!be.sum_squares(&x).expect("sum").is_finite(), "{bad} at {}", i * 600);
    }
    // Squares that overflow f32 do not overflow f64.
    let x = be.tensor(1, 3, &[1e30, -1e30, 1e30]).expect("memory");
    let sum = be.sum_squares(&x).expect("sum");
    assert!((sum / 3e60 - 1.0).abs() < 1e-6, "{sum}");
}
