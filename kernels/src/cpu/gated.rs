//! The gate of the feed-forward block.

use super::exp::{sigmoid, tanh};
use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::{Isa, vectorized};
use super::sink::Sink;
use super::source::Source;
use crate::backend::{Activation, Write};

const ROOT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// The activation and its derivative.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = sigmoid(x);
    (x * s, s * (1.0 + x * (1.0 - s)))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let t = tanh(ROOT_2_OVER_PI * (x + CUBIC * x * x * x));
    let inner = ROOT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
    // Far out tanh is exactly 1, and x² may have become infinite.
    let flat = 1.0 - t * t;
    let bend = if flat == 0.0 { 0.0 } else { flat * inner };
    (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * bend)
}

/// `h = act(gate)·up`
pub(super) fn gated(pool: &Pool, isa: Isa, h: Sink, gate_up: Source, act: Activation) {
    let d_ff = h.cols();
    pool.each(h.blocks(rows_per_task(d_ff)), |(first, h)| {
        let (mut to, mut from) = (pool.scratch(h.room()), pool.scratch(gate_up.room()));
        for (i, h) in h.into_rows().into_iter().enumerate() {
            let (gate, up) = gate_up.row(isa, first + i, &mut from).split_at(d_ff);
            h.write(isa, Write::Set, &mut to, |h| forward_row(isa, h, gate, up, act));
        }
    });
}

vectorized! {
    pub(super) fn forward_row(h: &mut [f32], gate: &[f32], up: &[f32], act: Activation) {
        match act {
            Activation::Silu => {
                for ((h, &gate), &up) in h.iter_mut().zip(gate).zip(up) {
                    *h = silu(gate).0 * up;
                }
            }
            Activation::GeluTanh => {
                for ((h, &gate), &up) in h.iter_mut().zip(gate).zip(up) {
                    *h = gelu_tanh(gate).0 * up;
                }
            }
        }
    }
}

/// `dgate = dh·up·act'(gate)`, `dup = dh·act(gate)`
pub(super) fn gated_bwd(pool: &Pool, isa: Isa, dgate_up: Sink, dh: Source, gate_up: Source, act: Activation) {
    let d_ff = dh.cols();
    pool.each(dgate_up.blocks(rows_per_task(2 * d_ff)), |(first, dgate_up)| {
        let mut buffers = [dgate_up.room(), dh.room(), gate_up.room()].map(|room| pool.scratch(room));
        let [to, of_dh, from] = &mut buffers;
        for (i, row) in dgate_up.into_rows().into_iter().enumerate() {
            let (gate, up) = gate_up.row(isa, first + i, from).split_at(d_ff);
            let dh = dh.row(isa, first + i, of_dh);
            row.write(isa, Write::Set, to, |row| {
                let (dgate, dup) = row.split_at_mut(d_ff);
                backward_row(isa, [dgate, dup], None, dh, [gate, up], act);
            });
        }
    });
}

vectorized! {
    /// Both gradients, and once more what the gate made where `h` asks for it: the activation is computed once for all.
    pub(super) fn backward_row(
        gradients: [&mut [f32]; 2],
        h: Option<&mut [f32]>,
        dh: &[f32],
        gate_up: [&[f32]; 2],
        act: Activation,
    ) {
        let ([dgate, dup], [gate, up]) = (gradients, gate_up);
        // Slopes wait where the gate's gradient goes, values where the other does.
        let both = dgate.iter_mut().zip(&mut *dup).zip(gate);
        match act {
            Activation::Silu => both.for_each(|((slope, value), &gate)| (*value, *slope) = silu(gate)),
            Activation::GeluTanh => both.for_each(|((slope, value), &gate)| (*value, *slope) = gelu_tanh(gate)),
        }
        for ((h, value), up) in h.unwrap_or_default().iter_mut().zip(&*dup).zip(up) {
            *h = value * up;
        }
        for (((dgate, dup), &dh), &up) in dgate.iter_mut().zip(dup).zip(dh).zip(up) {
            *dgate *= dh * up;
            *dup *= dh;
        }
    }
}
