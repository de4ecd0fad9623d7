//! One `AdamW` step, in `PyTorch`'s order.

use crate::backend::AdamW;

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
