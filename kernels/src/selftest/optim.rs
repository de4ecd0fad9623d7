//! Optimizer steps, with moments in f32 and in 8 bits, and the norm that clipping needs.

use super::Case;
use super::rig::Rig;
use crate::backend::{AdamW, Backend};
use crate::error::Result;
use crate::quant::eight_bit::{BLOCK, DynamicMap, EightBit, Rounding};

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

/// A step with moments in 8 bits: the parameters as exact as ever. The moments are looked at after they were encoded,
/// where a number between two codes may become either.
pub(super) struct Steps8 {
    rows: usize,
    cols: usize,
    step: u32,
    is_parameter: bool,
    rounding: Rounding,
}

impl Case for Steps8 {
    fn name(&self) -> String {
        let what = if self.is_parameter { "parameters" } else { "moments" };
        format!("adamw_8bit [{}, {}], step {}, {:?}, {what}", self.rows, self.cols, self.step, self.rounding)
    }

    fn allowed(&self) -> f64 {
        if self.is_parameter { super::ALLOWED } else { 1e-6 }
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { rows, cols, step, is_parameter, rounding } = self;
        let (mut p, g) = (rig.tensor(rows, cols)?, rig.tensor(rows, cols)?);
        let len = rows * cols;
        let mut state = |lowest: u8| -> Result<EightBit<B>> {
            if step == 1 {
                return EightBit::zeros(rig.be, len);
            }
            let codes: Vec<u8> = rig.bytes(len).into_iter().map(|code| code.max(lowest)).collect();
            let absmax = rig.at_least(0.1, len.div_ceil(BLOCK));
            Ok(EightBit { codes: rig.be.codes(&codes)?, absmax: rig.be.tensor(1, absmax.len(), &absmax)?, len })
        };
        // Second moments that are nearly zero would divide by nearly nothing.
        let (mut m, mut v) = (state(0)?, state(100)?);
        let params = AdamW {
            learning_rate: 2e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.1,
            step,
            gradient_scale: 0.75,
        };
        rig.be.adamw_8bit(&mut p, &mut m, &mut v, &g, &params, rounding)?;
        if is_parameter {
            return rig.take_tensor("p", &p);
        }
        let moments = decoded(rig.be, &m, DynamicMap::signed())?;
        rig.put("m", moments);
        let moments = decoded(rig.be, &v, DynamicMap::unsigned())?;
        rig.put("v", moments);
        // So that an error of the parameters is found here too.
        rig.take_tensor("p", &p)
    }
}

fn decoded<B: Backend>(be: &B, state: &EightBit<B>, map: &DynamicMap) -> Result<Vec<f32>> {
    let (codes, absmax) = (be.download_codes(&state.codes)?, be.download(&state.absmax)?);
    let mut numbers = vec![0.0; codes.len()];
    for ((numbers, codes), absmax) in numbers.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(absmax) {
        map.decode(numbers, codes, absmax);
    }
    Ok(numbers)
}

pub(super) fn adamw_8bit() -> Vec<Steps8> {
    let of = |(rows, cols)| {
        let case = move |step, is_parameter, rounding| Steps8 { rows, cols, step, is_parameter, rounding };
        let (nearest, dithered) = (Rounding::Nearest, Rounding::Dithered);
        [
            case(1, true, nearest),
            case(2, true, dithered),
            case(1000, true, nearest),
            case(1, false, dithered),
            case(1000, false, nearest),
            case(1000, false, dithered),
        ]
    };
    SHAPES.into_iter().flat_map(of).collect()
}

/// Codes come back as they were.
pub(super) struct Codes(usize);

impl Case for Codes {
    fn name(&self) -> String {
        format!("codes {}", self.0)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let data = rig.bytes(self.0);
        let codes = rig.be.codes(&data)?;
        let back = rig.be.download_codes(&codes)?;
        rig.put("bytes", back.into_iter().map(f32::from).collect());
        Ok(())
    }
}

pub(super) fn codes() -> Vec<Codes> {
    vec![Codes(1), Codes(1000)]
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
