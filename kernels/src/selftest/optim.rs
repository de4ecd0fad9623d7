//! Optimizer steps and the norm that clipping needs.

use super::Case;
use super::rig::Rig;
use crate::backend::{AdamW, Backend};
use crate::error::Result;

const SHAPES: [(usize, usize); 4] = [(1, 8), (5, 7), (33, 129), (130, 500)];

pub(super) struct Steps {
    rows: usize,
    cols: usize,
    step: u32,
    weight_decay: f32,
}

impl Case for Steps {
    fn name(&self) -> String {
        format!("adamw [{}, {}], step {}, decay {}", self.rows, self.cols, self.step, self.weight_decay)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { rows, cols, step, weight_decay } = self;
        let (mut p, g) = (rig.tensor(rows, cols)?, rig.tensor(rows, cols)?);
        let (mut m, second) = (rig.tensor(rows, cols)?, rig.at_least(0.1, rows * cols));
        let mut v = rig.be.tensor(rows, cols, &second)?;
        if step == 1 {
            (m, v) = (rig.be.zeros(rows, cols)?, rig.be.zeros(rows, cols)?);
        }
        let params = AdamW {
            learning_rate: 2e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay,
            step,
            gradient_scale: 0.75,
        };
        rig.be.adamw(&mut p, &mut m, &mut v, &g, &params)?;
        rig.take_tensor("p", &p)?;
        rig.take_tensor("m", &m)?;
        rig.take_tensor("v", &v)
    }
}

pub(super) fn adamw() -> Vec<Steps> {
    let of = |(rows, cols)| {
        [(1, 0.0), (2, 0.1), (1000, 0.01)].map(|(step, weight_decay)| Steps { rows, cols, step, weight_decay })
    };
    SHAPES.into_iter().flat_map(of).collect()
}

pub(super) struct SumSquares {
    rows: usize,
    cols: usize,
}

impl Case for SumSquares {
    fn name(&self) -> String {
        format!("sum_squares [{}, {}]", self.rows, self.cols)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { rows, cols } = self;
        let mut data = rig.noise(rows * cols);
        let x = rig.be.tensor(rows, cols, &data)?;
        let sum = rig.be.sum_squares(&x)?;
        rig.put("sum", vec![sum as f32]);
        // Squares beyond f32 are not beyond f64.
        let large: Vec<f32> = data.iter().map(|x| x * 1e25).collect();
        let sum = rig.be.sum_squares(&rig.be.tensor(rows, cols, &large)?)?;
        rig.put("sum of large numbers", vec![(sum / 1e50) as f32]);
        // One number that is none, anywhere.
        let mut seen = Vec::new();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let at = rig.below(data.len());
            let good = std::mem::replace(&mut data[at], bad);
            let sum = rig.be.sum_squares(&rig.be.tensor(rows, cols, &data)?)?;
            seen.push(f32::from(u8::from(!sum.is_finite())));
            data[at] = good;
        }
        rig.put("a bad number is seen", seen);
        Ok(())
    }
}

pub(super) fn sum_squares() -> Vec<SumSquares> {
    SHAPES.map(|(rows, cols)| SumSquares { rows, cols }).into()
}
