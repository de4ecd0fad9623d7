//! The gate of gpt-oss: clamped, and gate and other half side by side.

use super::exp::sigmoid;
use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::{Isa, vectorized};
use super::sink::Sink;
use super::source::Source;
use crate::backend::{ClampedGate, Write};

/// `g·sigmoid(alpha·g)` of the clamped gate, and its derivative by the gate.
#[inline(always)]
fn glu(params: ClampedGate, gate: f32) -> (f32, f32) {
    let g = if gate > params.limit { params.limit } else { gate };
    let s = sigmoid(params.alpha * g);
    let slope = s + params.alpha * g * s * (1.0 - s);
    (g * s, if gate > params.limit { 0.0 } else { slope })
}

/// One more than the clamped other half, and its derivative.
#[inline(always)]
fn other(params: ClampedGate, up: f32) -> (f32, f32) {
    let high = if up > params.limit { params.limit } else { up };
    let u = if high < -params.limit { -params.limit } else { high };
    (u + 1.0, if up.abs() > params.limit { 0.0 } else { 1.0 })
}

/// `h = (u + 1)·g·sigmoid(alpha·g)`
pub(super) fn gated_clamped(pool: &Pool, isa: Isa, h: Sink, gate_up: Source, params: ClampedGate) {
    let step = rows_per_task(h.cols());
    pool.each(h.blocks(step), |(first, h)| {
        let (mut to, mut from) = (pool.scratch(h.room()), pool.scratch(gate_up.room()));
        for (i, h) in h.into_rows().into_iter().enumerate() {
            let gate_up = gate_up.row(isa, first + i, &mut from);
            h.write(isa, Write::Set, &mut to, |h| forward_row(isa, h, gate_up, params));
        }
    });
}

vectorized! {
    fn forward_row(h: &mut [f32], gate_up: &[f32], params: ClampedGate) {
        for (h, [gate, up]) in h.iter_mut().zip(gate_up.as_chunks::<2>().0) {
            *h = glu(params, *gate).0 * other(params, *up).0;
        }
    }
}

/// `dgate = dh·(u + 1)·glu'(gate)`, `dup = dh·glu(gate)` where the limits cut nothing off
pub(super) fn gated_clamped_bwd(
    pool: &Pool,
    isa: Isa,
    dgate_up: Sink,
    dh: Source,
    gate_up: Source,
    params: ClampedGate,
) {
    pool.each(dgate_up.blocks(rows_per_task(gate_up.cols())), |(first, dgate_up)| {
        let mut buffers = [dgate_up.room(), dh.room(), gate_up.room()].map(|room| pool.scratch(room));
        let [to, of_dh, from] = &mut buffers;
        for (i, row) in dgate_up.into_rows().into_iter().enumerate() {
            let (dh, gate_up) = (dh.row(isa, first + i, of_dh), gate_up.row(isa, first + i, from));
            row.write(isa, Write::Set, to, |row| backward_row(isa, row, dh, gate_up, params));
        }
    });
}

vectorized! {
    fn backward_row(dgate_up: &mut [f32], dh: &[f32], gate_up: &[f32], params: ClampedGate) {
        let pairs = dgate_up.as_chunks_mut::<2>().0.iter_mut().zip(gate_up.as_chunks::<2>().0);
        for (([dgate, dup], [gate, up]), &dh) in pairs.zip(dh) {
            let ((value, slope), (up, open)) = (glu(params, *gate), other(params, *up));
            *dgate = dh * up * slope;
            *dup = dh * value * open;
        }
    }
}
