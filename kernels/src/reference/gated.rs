//! The gate of the feed-forward block.

use crate::backend::Activation;
use crate::host::{View, ViewMut};

/// The activation and its derivative.
fn activate(act: Activation, x: f64) -> (f64, f64) {
    match act {
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-x).exp());
            (x * s, s * (1.0 + x * (1.0 - s)))
        }
        Activation::GeluTanh => {
            let c = (2.0 / std::f64::consts::PI).sqrt();
            let t = (c * (x + 0.044_715 * x.powi(3))).tanh();
            let dt = (1.0 - t * t) * c * (1.0 + 3.0 * 0.044_715 * x * x);
            (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * dt)
        }
    }
}

/// `h = act(gate)·up`
pub(super) fn gated(mut h: ViewMut, gate_up: View, act: Activation) {
    for i in 0..gate_up.rows() {
        let (gate, up) = gate_up.row(i).split_at(h.cols());
        for ((h, &gate), &up) in h.row(i).iter_mut().zip(gate).zip(up) {
            *h = (activate(act, f64::from(gate)).0 * f64::from(up)) as f32;
        }
    }
}

/// `dgate = dh·up·act'(gate)`, `dup = dh·act(gate)`
pub(super) fn gated_bwd(mut dgate_up: ViewMut, dh: View, gate_up: View, act: Activation) {
    for i in 0..dh.rows() {
        let (gate, up) = gate_up.row(i).split_at(dh.cols());
        let (dgate, dup) = dgate_up.row(i).split_at_mut(dh.cols());
        for (j, &dh) in dh.row(i).iter().enumerate() {
            let (value, slope) = activate(act, f64::from(gate[j]));
            dgate[j] = (f64::from(dh) * f64::from(up[j]) * slope) as f32;
            dup[j] = (f64::from(dh) * value) as f32;
        }
    }
}
