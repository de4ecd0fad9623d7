//! One `AdamW` step, in `PyTorch`'s order, with moments in f32 or in 8 bits, and the norm that clipping needs.

use super::Cpu;
use super::numbers::slice_mut;
use super::pool::Pool;
use super::simd_dispatch::{Isa, vectorized};
use crate::backend::AdamW;
use crate::quant::eight_bit::{BLOCK, DynamicMap, EightBit, Rounding};

/// Elements of one task.
const STEP: usize = 1 << 15;

/// The numbers of a step that are the same for every element, computed in f64 as `PyTorch` does.
#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    decay: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    step_size: f32,
    root_correction: f32,
    eps: f32,
}

impl Factors {
    fn new(params: &AdamW) -> Self {
        let (beta1, beta2) = (f64::from(params.beta1), f64::from(params.beta2));
        let lr = f64::from(params.learning_rate);
        let t = f64::from(params.step);
        Self {
            gradient_scale: params.gradient_scale,
            decay: (1.0 - lr * f64::from(params.weight_decay)) as f32,
            beta2: params.beta2,
            one_minus_beta1: (1.0 - beta1) as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            step_size: (lr / (1.0 - beta1.powf(t))) as f32,
            root_correction: (1.0 - beta2.powf(t)).sqrt() as f32,
            eps: params.eps,
        }
    }
}

/// `p -= lr·wd·p`, `m += (1 - β₁)(g - m)`, `v = β₂v + (1 - β₂)g²`, `p -= lr/c₁ · m / (√v/√c₂ + eps)`
/// with `cᵢ = 1 - βᵢ^step`.
pub(super) fn adamw(pool: &Pool, isa: Isa, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], params: &AdamW) {
    let factors = Factors::new(params);
    let moments = m.chunks_mut(STEP).zip(v.chunks_mut(STEP));
    let tasks = p.chunks_mut(STEP).zip(moments).zip(g.chunks(STEP)).collect();
    pool.each(tasks, |((p, (m, v)), g)| update(isa, p, m, v, g, factors));
}

vectorized! {
    fn update(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], f: Factors) {
        step(p, m, v, g, f);
    }
}

#[inline(always)]
fn step(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], f: Factors) {
    for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
        let g = g * f.gradient_scale;
        *m += f.one_minus_beta1 * (g - *m);
        *v = *v * f.beta2 + f.one_minus_beta2 * g * g;
        let denominator = v.sqrt() / f.root_correction + f.eps;
        *p = *p * f.decay - f.step_size * (*m / denominator);
    }
}

/// [`adamw`] on blocks whose moments are decoded before and encoded after.
pub(super) fn adamw_8bit(
    pool: &Pool,
    isa: Isa,
    p: &mut [f32],
    m: &mut EightBit<Cpu>,
    v: &mut EightBit<Cpu>,
    g: &[f32],
    params: &AdamW,
    rounding: Rounding,
) -> crate::error::Result<()> {
    const BLOCKS: usize = STEP / BLOCK;
    let factors = Factors::new(params);
    let m = m.codes.chunks_mut(STEP).zip(slice_mut(&mut m.absmax)?.chunks_mut(BLOCKS));
    let v = v.codes.chunks_mut(STEP).zip(slice_mut(&mut v.absmax)?.chunks_mut(BLOCKS));
    let tasks = p.chunks_mut(STEP).zip(g.chunks(STEP)).zip(m).zip(v).enumerate().collect();
    pool.each(tasks, |(task, (((p, g), m), v))| {
        update_8bit(isa, p, g, m, v, factors, rounding, task * STEP, params.step);
    });
    Ok(())
}

/// Codes of some blocks and their largest magnitudes.
type Blocks<'a> = (&'a mut [u8], &'a mut [f32]);

vectorized! {
    /// `first` is the number of the first element in its tensor.
    fn update_8bit(
        p: &mut [f32],
        g: &[f32],
        m: Blocks<'_>,
        v: Blocks<'_>,
        f: Factors,
        rounding: Rounding,
        first: usize,
        number: u32,
    ) {
        let (signed, unsigned) = (DynamicMap::signed(), DynamicMap::unsigned());
        let (mut moment, mut square) = ([0.0; BLOCK], [0.0; BLOCK]);
        let mut at = first;
        let m = m.0.chunks_mut(BLOCK).zip(m.1);
        let v = v.0.chunks_mut(BLOCK).zip(v.1);
        for (((p, g), (m, m_absmax)), (v, v_absmax)) in p.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).zip(m).zip(v) {
            let (moment, square) = (&mut moment[..p.len()], &mut square[..p.len()]);
            signed.decode(moment, m, *m_absmax);
            unsigned.decode(square, v, *v_absmax);
            step(p, moment, square, g, f);
            *m_absmax = signed.encode(m, moment);
            *v_absmax = match rounding {
                Rounding::Nearest => unsigned.encode(v, square),
                Rounding::Dithered => unsigned.encode_dithered(v, square, at, number),
            };
            at += p.len();
        }
    }
}

/// `Σ x²`: blocks in parallel, their sums in order.
pub(super) fn sum_squares(pool: &Pool, isa: Isa, x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(STEP)];
    pool.each(sums.iter_mut().zip(x.chunks(STEP)).collect(), |(sum, x)| *sum = block_squares(isa, x));
    sums.iter().sum()
}

vectorized! {
    fn block_squares(x: &[f32]) -> f64 {
        let mut lanes = [0.0_f64; 32];
        let (runs, rest) = x.as_chunks::<32>();
        for run in runs {
            for (lane, &x) in lanes.iter_mut().zip(run) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(x) * f64::from(x);
        }
        lanes.iter().sum()
    }
}
