//! The gate of the feed-forward block.

use super::exp::{sigmoid, tanh};
use super::factors::nearest;
use super::numbers::Half;
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

/// What a bf16 holds, and the nearest bf16.
#[inline(always)]
fn widened(x: Half) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(x)) << 16)
}

#[inline(always)]
fn rounded(x: f32) -> Half {
    (nearest(x) as u16).to_le_bytes()
}

/// Sums of gate and up, rounded, and the rounded `h` of rounded numbers: all in one pass, all of one length.
pub(super) fn forward_rounded(isa: Isa, h: &mut [Half], kept: [&mut [Half]; 2], gate_up: [&[f32]; 2], act: Activation) {
    #[cfg(target_arch = "x86_64")]
    if let (Activation::Silu, Some(isa)) = (act, isa.pairs()) {
        return isa.silu(h, kept, gate_up);
    }
    forward_all(isa, h, kept, gate_up, act);
}

vectorized! {
    fn forward_all(h: &mut [Half], kept: [&mut [Half]; 2], gate_up: [&[f32]; 2], act: Activation) {
        let ([kept_gate, kept_up], [gate, up]) = (kept, gate_up);
        let all = h.iter_mut().zip(kept_gate).zip(kept_up).zip(gate).zip(up);
        macro_rules! with {
            ($act:ident) => {
                for ((((h, kept_gate), kept_up), &gate), &up) in all {
                    (*kept_gate, *kept_up) = (rounded(gate), rounded(up));
                    *h = rounded($act(widened(*kept_gate)).0 * widened(*kept_up));
                }
            };
        }
        match act {
            Activation::Silu => with!(silu),
            Activation::GeluTanh => with!(gelu_tanh),
        }
    }
}

/// [`backward_row`] of rounded numbers in one pass: both gradients and what the gate made, rounded, all of one length.
pub(super) fn backward_rounded(
    isa: Isa,
    gradients: [&mut [Half]; 2],
    h: &mut [Half],
    dh: &[f32],
    gate_up: [&[Half]; 2],
    act: Activation,
) {
    #[cfg(target_arch = "x86_64")]
    if let (Activation::Silu, Some(isa)) = (act, isa.pairs()) {
        return isa.silu_bwd(gradients, h, dh, gate_up);
    }
    backward_all(isa, gradients, h, dh, gate_up, act);
}

vectorized! {
    fn backward_all(
        gradients: [&mut [Half]; 2],
        h: &mut [Half],
        dh: &[f32],
        gate_up: [&[Half]; 2],
        act: Activation,
    ) {
        let ([dgate, dup], [gate, up]) = (gradients, gate_up);
        let all = dgate.iter_mut().zip(dup).zip(h).zip(dh).zip(gate).zip(up);
        macro_rules! with {
            ($act:ident) => {
                for (((((dgate, dup), h), &dh), &gate), &up) in all {
                    let ((value, slope), up) = ($act(widened(gate)), widened(up));
                    (*dgate, *dup, *h) = (rounded(slope * (dh * up)), rounded(value * dh), rounded(value * up));
                }
            };
        }
        match act {
            Activation::Silu => with!(silu),
            Activation::GeluTanh => with!(gelu_tanh),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::{Half, backward_rounded, backward_row, forward_rounded, forward_row, rounded, widened};
    use crate::backend::Activation;
    use crate::cpu::path::{PATHS, Path};

    /// From -`most` to `most`, none of which a bf16 holds.
    fn numbers(n: usize, most: f32, step: usize) -> Vec<f32> {
        (0..n).map(|i| most * ((i * step % n) as f32 / n as f32 * 2.0 - 1.0) + 1.0 / 1024.0).collect()
    }

    fn wide(halves: &[Half]) -> Vec<f32> {
        halves.iter().map(|half| widened(*half)).collect()
    }

    #[test]
    fn rounded_in_one_pass_is_what_several_passes_over_rounded_numbers_give_k4() {
        const N: usize = 147;
        let (gate, up, dh) = (numbers(N, 9.0, 1), numbers(N, 3.0, 10), numbers(N, 2.0, 52));
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            for act in [Activation::Silu, Activation::GeluTanh] {
                let [mut h, mut kept_gate, mut kept_up] = [[Half::default(); N]; 3];
                forward_rounded(isa, &mut h, [&mut kept_gate, &mut kept_up], [&gate, &up], act);
                assert!(kept_gate.iter().zip(&gate).all(|(kept, x)| *kept == rounded(*x)), "{isa:?}");
                assert!(kept_up.iter().zip(&up).all(|(kept, x)| *kept == rounded(*x)), "{isa:?}");
                let (gate, up) = (wide(&kept_gate), wide(&kept_up));
                let mut want = [0.0; N];
                forward_row(isa, &mut want, &gate, &up, act);
                assert_eq!(h, want.map(rounded), "{isa:?}");

                let [mut dgate, mut dup, mut again] = [[Half::default(); N]; 3];
                backward_rounded(isa, [&mut dgate, &mut dup], &mut again, &dh, [&kept_gate, &kept_up], act);
                let [mut want_dgate, mut want_dup, mut want] = [[0.0; N]; 3];
                let gradients = [&mut want_dgate[..], &mut want_dup];
                backward_row(isa, gradients, Some(&mut want), &dh, [&gate, &up], act);
                assert_eq!(dgate, want_dgate.map(rounded), "{isa:?}");
                assert_eq!(dup, want_dup.map(rounded), "{isa:?}");
                assert_eq!((again, again), (want.map(rounded), h), "{isa:?}");
            }
        }
    }
}
