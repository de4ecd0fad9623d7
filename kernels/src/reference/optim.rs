//! One `AdamW` step, in `PyTorch`'s order, with moments in f32 or in 8 bits.

use super::Reference;
use crate::backend::AdamW;
use crate::quant::eight_bit::{BLOCK, DynamicMap, EightBit, Rounding};

/// `p -= lr·wd·p`, `m += (1 - β₁)(g - m)`, `v = β₂v + (1 - β₂)g²`, `p -= lr/c₁ · m / (√v/√c₂ + eps)`
/// with `cᵢ = 1 - βᵢ^step`.
pub(super) fn adamw(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], params: &AdamW) {
    let f = |x: f32| f64::from(x);
    let (beta1, beta2, lr) = (f(params.beta1), f(params.beta2), f(params.learning_rate));
    let correction1 = 1.0 - beta1.powf(f64::from(params.step));
    let correction2 = 1.0 - beta2.powf(f64::from(params.step));
    for (i, &g) in g.iter().enumerate() {
        let g = f(g) * f(params.gradient_scale);
        let decayed = f(p[i]) * (1.0 - lr * f(params.weight_decay));
        let first = f(m[i]) + (1.0 - beta1) * (g - f(m[i]));
        let second = beta2 * f(v[i]) + (1.0 - beta2) * g * g;
        let denominator = second.sqrt() / correction2.sqrt() + f(params.eps);
        p[i] = (decayed - lr / correction1 * first / denominator) as f32;
        m[i] = first as f32;
        v[i] = second as f32;
    }
}

/// [`adamw`] on blocks whose moments are decoded before and encoded after.
pub(super) fn adamw_8bit(
    p: &mut [f32],
    m: &mut EightBit<Reference>,
    v: &mut EightBit<Reference>,
    g: &[f32],
    params: &AdamW,
    rounding: Rounding,
) {
    let (signed, unsigned) = (DynamicMap::signed(), DynamicMap::unsigned());
    for (block, (p, g)) in p.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).enumerate() {
        let at = block * BLOCK..block * BLOCK + p.len();
        let (mut first, mut second) = (vec![0.0; p.len()], vec![0.0; p.len()]);
        signed.decode(&mut first, &m.codes[at.clone()], m.absmax.buf[block]);
        unsigned.decode(&mut second, &v.codes[at.clone()], v.absmax.buf[block]);
        adamw(p, &mut first, &mut second, g, params);
        m.absmax.buf[block] = signed.encode(&mut m.codes[at.clone()], &first);
        v.absmax.buf[block] = match rounding {
            Rounding::Nearest => unsigned.encode(&mut v.codes[at], &second),
            Rounding::Dithered => {
                let first = at.start;
                unsigned.encode_dithered(&mut v.codes[at], &second, first, params.step)
            }
        };
    }
}
