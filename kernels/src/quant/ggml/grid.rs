//! Scales of sub-blocks on the grid of their block: a small integer each, and one f16 for all.

use super::lanes::{Columns, LANES, Lanes};
use super::search::{Fit, symmetric_moments};
use super::search_affine::{AffineFit, Centred};
use half::f16;
use std::ops::Range;

/// From one step tried to the next, in parts of what the largest integer makes of it.
const SPREAD: f32 = 0.2;

/// The f16 step `d` for which `Σ cost·(v - d·l)²` over `lanes` of `v` is smallest, with integers `l` in `low ..= high`.
///
/// `reach` is the integer that the largest value is to take. Sixteen steps around that are tried, one a lane.
#[inline(always)]
pub(super) fn step(v: Lanes, cost: Lanes, lanes: Range<usize>, low: f32, high: f32, reach: f32) -> f16 {
    let mut peak = 0.0f32;
    for &v in &v.0[lanes.clone()] {
        peak = if v.abs() > peak.abs() { v } else { peak };
    }
    let spread = SPREAD / reach.abs();
    let steps: [f16; LANES] =
        std::array::from_fn(|lane| f16::from_f32(peak / (reach * (1.0 + spread * (lane as f32 - 8.0)))));
    let by = Lanes(steps.map(f16::to_f32));
    let inverse = by.inverse();
    let mut error = Lanes::ZERO;
    for lane in lanes {
        let v = Lanes::all(v.0[lane]);
        let miss = v - by * (v * inverse).clamp(low, high).round();
        error = error + Lanes::all(cost.0[lane]) * miss * miss;
    }
    // The one that just reaches the largest wins a draw, and when nothing can be compared.
    let best = (0..LANES).fold(LANES / 2, |best, lane| if error.0[lane] < error.0[best] { lane } else { best });
    steps[best]
}

/// The integers of sub-blocks in `low ..= high`, under `d` of their blocks.
#[inline(always)]
pub(super) fn integers(v: Lanes, d: Lanes, low: f32, high: f32) -> Lanes {
    (v * d.inverse()).clamp(low, high).round()
}

/// Moves the integers of scales to what fits the codes they lead to; the error never grows.
#[inline(always)]
pub(super) fn settle<const N: usize>(
    x: &Columns<N>,
    w: &Columns<N>,
    fit: &Fit,
    d: Lanes,
    top: f32,
    low: f32,
    high: f32,
) -> Lanes {
    let mut scales = integers(fit.scale, d, low, high);
    for _ in 0..2 {
        let (lx, l2) = symmetric_moments(x, w, (d * scales).inverse(), top);
        let fitted = integers(lx * l2.inverse(), d, low, high);
        // Codes that are all zero say nothing about their scale.
        scales = Lanes::where_less(Lanes::ZERO, l2, fitted, scales);
    }
    scales
}

/// [`settle`] for scales and minima in `0 ..= high`; a minimum is what is taken off.
#[inline(always)]
pub(super) fn settle_affine<const N: usize>(
    block: &Centred<N>,
    fit: &AffineFit,
    d: Lanes,
    dmin: Lanes,
    top: f32,
    high: f32,
) -> (Lanes, Lanes) {
    let mut scales = integers(fit.scale, d, 0.0, high);
    let mut mins = integers(Lanes::ZERO - fit.min, dmin, 0.0, high);
    let (half, one) = (Lanes::all(0.5), Lanes::all(1.0));
    for _ in 0..2 {
        let at = block.moments((d * scales).inverse(), Lanes::ZERO - dmin * mins, top);
        let ideal = block.best_scale(&at) * d.inverse();
        let (mut best, old) = (Lanes::all(f32::MAX), scales);
        for near in [old, old - one, old + one, ideal - half, ideal + half] {
            let near = near.round().clamp(0.0, high);
            let scale = d * near;
            let taken = integers(Lanes::ZERO - block.best_min(&at, scale), dmin, 0.0, high);
            let error = block.error(&at, scale, Lanes::ZERO - dmin * taken);
            scales = Lanes::where_less(error, best, near, scales);
            mins = Lanes::where_less(error, best, taken, mins);
            best = best.min(error);
        }
    }
    (scales, mins)
}

/// Scale and minimum as f16, each rounded so that the other makes up for it.
#[inline(always)]
pub(super) fn rounded<const N: usize>(block: &Centred<N>, fit: &AffineFit, top: f32) -> ([f16; LANES], [f16; LANES]) {
    let at = block.moments(fit.scale.inverse(), fit.min, top);
    let nearest = fit.scale.0.map(f16::from_f32);
    let (mut d, mut m) = (nearest, fit.min.0.map(f16::from_f32));
    let mut best = block.error(&at, Lanes(d.map(f16::to_f32)), Lanes(m.map(f16::to_f32)));
    for step in [-1, 0, 1] {
        let near = nearest.map(|d| f16::from_bits(d.to_bits().saturating_add_signed(step)));
        let scale = Lanes(near.map(f16::to_f32));
        let min = block.best_min(&at, scale).0.map(f16::from_f32);
        let error = block.error(&at, scale, Lanes(min.map(f16::to_f32)));
        for lane in 0..LANES {
            if error.0[lane] < best.0[lane] {
                (d[lane], m[lane], best.0[lane]) = (near[lane], min[lane], error.0[lane]);
            }
        }
    }
    (d, m)
}
