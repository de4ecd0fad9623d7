//! The scale, or the scale and minimum, under which integers come closest to the elements of a block.
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

/// [`Fit`] with a minimum: `x ≈ scale·l + min`.
#[derive(Clone, Copy)]
pub(super) struct AffineFit {
    /// What an integer is multiplied by.
    pub(super) scale: Lanes,
    /// What is added.
    pub(super) min: Lanes,
    /// `Σ w·l²`
    pub(super) energy: Lanes,
    /// `Σ w`: how much an error of the minimum costs.
    pub(super) weight: Lanes,
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

/// Where a search for scale and minimum starts: `top + from + step·t` for `t` in `0..=tries`.
#[derive(Clone, Copy)]
pub(super) struct Starts {
    pub(super) from: f32,
    pub(super) step: f32,
    pub(super) tries: i32,
}

/// Sums over a block under the integers `round((x - min)·inverse)` within `0..=top`: `Σ w·l`, `Σ w·l²`, `Σ w·l·x`.
#[inline(always)]
pub(super) fn affine_moments<const N: usize>(
    x: &Columns<N>,
    w: &Columns<N>,
    inverse: Lanes,
    min: Lanes,
    top: f32,
) -> [Lanes; 3] {
    let (mut l1, mut l2, mut lx) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
    for (&x, &w) in x.iter().zip(w) {
        let l = ((x - min) * inverse).clamp(0.0, top).round();
        let wl = w * l;
        l1 = l1 + wl;
        l2 = l2 + wl * l;
        lx = lx + wl * x;
    }
    [l1, l2, lx]
}

/// Scale and minimum for integers in `0..=top`; `positive` allows a minimum above 0.
#[inline(always)]
pub(super) fn affine<const N: usize>(
    x: &Columns<N>,
    w: &Columns<N>,
    top: f32,
    starts: Starts,
    positive: bool,
) -> AffineFit {
    let (mut low, mut high, mut weight, mut wx) = (x[0], x[0], Lanes::ZERO, Lanes::ZERO);
    for (&x, &w) in x.iter().zip(w) {
        low = low.min(x);
        high = high.max(x);
        weight = weight + w;
        wx = wx + w * x;
    }
    if !positive {
        low = low.min(Lanes::ZERO);
    }
    let range = high - low;
    let inverse = range.inverse();
    let mut fit = AffineFit { scale: range * Lanes::all(1.0 / top), min: low, energy: Lanes::ZERO, weight };
    let mut best = Lanes::all(f32::MAX);
    let mut take = |inverse: Lanes, from: Lanes, fit: &mut AffineFit| {
        let [l1, l2, lx] = affine_moments(x, w, inverse, from, top);
        // The normal equations [l2 l1; l1 w]·[s m] = [lx wx].
        let determinant = weight * l2 - l1 * l1;
        let by = determinant.inverse();
        let (mut scale, mut min) = ((weight * lx - wx * l1) * by, (l2 * wx - l1 * lx) * by);
        if !positive {
            scale = Lanes::where_less(Lanes::ZERO, min, lx * l2.inverse(), scale);
            min = min.min(Lanes::ZERO);
        }
        // Σ w·(x - s·l - m)² without Σ w·x². Where all integers are equal there is nothing to solve.
        let error = Lanes::ZERO - scale * lx - min * wx;
        let error = Lanes::where_less(weight * l2 * Lanes::all(1e-5), determinant, error, Lanes::all(f32::MAX));
        fit.scale = Lanes::where_less(error, best, scale, fit.scale);
        fit.min = Lanes::where_less(error, best, min, fit.min);
        fit.energy = Lanes::where_less(error, best, l2, fit.energy);
        best = best.min(error);
    };
    for t in 0..=starts.tries {
        take(inverse * Lanes::all(top + starts.from + starts.step * t as f32), low, &mut fit);
    }
    for _ in 0..2 {
        take(fit.scale.inverse(), fit.min, &mut fit);
    }
    fit
}
