//! The gate of gpt-oss: clamped, and gate and other half side by side.

use crate::backend::ClampedGate;
use crate::host::{View, ViewMut};

/// `g·sigmoid(alpha·g)` of the clamped gate, and its derivative by the gate.
fn glu(params: ClampedGate, gate: f32) -> (f64, f64) {
    let (alpha, limit) = (f64::from(params.alpha), f64::from(params.limit));
    let g = f64::from(gate).min(limit);
    let s = 1.0 / (1.0 + (-alpha * g).exp());
    let slope = if f64::from(gate) <= limit { s + alpha * g * s * (1.0 - s) } else { 0.0 };
    (g * s, slope)
}

/// One more than the clamped other half, and its derivative.
fn other(params: ClampedGate, up: f32) -> (f64, f64) {
    let u = up.clamp(-params.limit, params.limit);
    (f64::from(u) + 1.0, if up.abs() <= params.limit { 1.0 } else { 0.0 })
}

/// `h = (u + 1)·g·sigmoid(alpha·g)`
pub(super) fn gated_clamped(mut h: ViewMut, gate_up: View, params: ClampedGate) {
    for i in 0..gate_up.rows() {
        for (h, pair) in h.row(i).iter_mut().zip(gate_up.row(i).chunks_exact(2)) {
            *h = (glu(params, pair[0]).0 * other(params, pair[1]).0) as f32;
        }
    }
}

/// `dgate = dh·(u + 1)·glu'(gate)`, `dup = dh·glu(gate)` where the limits cut nothing off
pub(super) fn gated_clamped_bwd(mut dgate_up: ViewMut, dh: View, gate_up: View, params: ClampedGate) {
    for i in 0..dh.rows() {
        let pairs = dgate_up.row(i).chunks_exact_mut(2).zip(gate_up.row(i).chunks_exact(2));
        for ((d, pair), &dh) in pairs.zip(dh.row(i)) {
            let ((value, slope), (up, open)) = (glu(params, pair[0]), other(params, pair[1]));
            d[0] = (f64::from(dh) * up * slope) as f32;
            d[1] = (f64::from(dh) * value * open) as f32;
        }
    }
}
