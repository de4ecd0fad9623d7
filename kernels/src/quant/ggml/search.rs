//! The scale under which integers come closest to the elements of a block.
//!
//! For given integers `l` the best scale is a weighted least squares fit; for a given scale the best
//! integers are the nearest. So: start from a range of scales around the one that just reaches the largest
//! element, fit each, and keep the one with the smallest error. What the error is without the constant
//! `Σ w·x²` follows from the fit, so that no second pass over the elements is needed.

use super::lanes::{Columns, Lanes};

/// The step from one start to the next, in units of the largest integer.
const STEP: f32 = 0.1;

/// What a search found, a block a lane.
#[derive(Clone, Copy)]
pub(super) struct Fit {
    /// What an integer is multiplied by.
    pub(super) scale: Lanes,
    /// `Σ w·l²`: how much an error of the scale costs.
    pub(super) energy: Lanes,
}

/// The element of largest magnitude, the first of several, with its sign.
#[inline(always)]
pub(super) fn peak<const N: usize>(x: &Columns<N>) -> Lanes {
    x.iter().fold(Lanes::ZERO, |peak, &x| Lanes::where_less(peak.abs(), x.abs(), x, peak))
}

/// `Σ w·l·x` and `Σ w·l²` of the integers `round(x·inverse)` within `-top ..= top - 1`.
#[inline(always)]
pub(super) fn symmetric_moments<const N: usize>(
    x: &Columns<N>,
    w: &Columns<N>,
    inverse: Lanes,
    top: f32,
) -> (Lanes, Lanes) {
    let (mut lx, mut l2) = (Lanes::ZERO, Lanes::ZERO);
    for (&x, &w) in x.iter().zip(w) {
        let l = (x * inverse).clamp(-top, top - 1.0).round();
        let wl = w * l;
        lx = lx + wl * x;
        l2 = l2 + wl * l;
    }
    (lx, l2)
}

/// The scale for integers in `-top ..= top - 1`; negative where that lets the longer side serve the largest element.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(x: &Columns<N>, w: &Columns<N>, top: f32, tries: i32) -> Fit {
    let outward = Lanes::ZERO - peak(x).inverse();
    let mut fit = Fit { scale: Lanes::ZERO, energy: Lanes::ZERO };
    let mut gain = Lanes::ZERO;
    let mut take = |inverse: Lanes, fit: &mut Fit| {
        let (lx, l2) = symmetric_moments(x, w, inverse, top);
        // Σ w·(x - s·l)² = Σ w·x² - s·Σ w·l·x for the fitted s.
        let scale = lx * l2.inverse();
        let new = scale * lx;
        fit.scale = Lanes::where_less(gain, new, scale, fit.scale);
        fit.energy = Lanes::where_less(gain, new, l2, fit.energy);
        gain = gain.max(new);
    };
    for t in -tries..=tries {
        take(outward * Lanes::all(top + STEP * t as f32), &mut fit);
    }
    take(fit.scale.inverse(), &mut fit);
    fit
}
