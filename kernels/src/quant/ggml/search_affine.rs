//! The scale and the minimum under which integers come closest to the elements of a block: as `search.rs`, with two unknowns.
//!
//! Sums run over distances from the weighted mean, and from the integer that is nearest to it: the errors that
//! are compared are small, and differences of large sums would lose them.

use super::lanes::{Columns, Lanes};

/// What a search found, a block a lane: `x ≈ scale·l + min`.
#[derive(Clone, Copy)]
pub(super) struct AffineFit {
    /// What an integer is multiplied by.
    pub(super) scale: Lanes,
    /// What is added.
    pub(super) min: Lanes,
    /// `Σ w·l²`: how much an error of the scale costs.
    pub(super) energy: Lanes,
}

/// Where a search starts: `top + from + step·t` for `t` in `0..=tries`.
#[derive(Clone, Copy)]
pub(super) struct Starts {
    pub(super) from: f32,
    pub(super) step: f32,
    pub(super) tries: i32,
}

/// Elements as distances from their weighted mean, so that `Σ w·y = 0`.
pub(super) struct Centred<const N: usize> {
    y: Columns<N>,
    w: Columns<N>,
    mean: Lanes,
    /// `Σ w`: how much an error of the minimum costs.
    pub(super) weight: Lanes,
}

/// Sums over a block under integers `centre + l`: `Σ w·l`, `Σ w·l²`, `Σ w·l·y`.
pub(super) struct Moments {
    centre: Lanes,
    l1: Lanes,
    l2: Lanes,
    ly: Lanes,
}

impl<const N: usize> Centred<N> {
    #[inline(always)]
    pub(super) fn new(x: &Columns<N>, w: Columns<N>) -> Self {
        let (mut weight, mut wx) = (Lanes::ZERO, Lanes::ZERO);
        for (&x, &w) in x.iter().zip(&w) {
            weight = weight + w;
            wx = wx + w * x;
        }
        let mean = wx * weight.inverse();
        Self { y: x.map(|x| x - mean), w, mean, weight }
    }

    /// Under the integers `round((x - min)·inverse)` within `0..=top`.
    #[inline(always)]
    pub(super) fn moments(&self, inverse: Lanes, min: Lanes, top: f32) -> Moments {
        let shift = (self.mean - min) * inverse;
        let centre = shift.clamp(0.0, top).round();
        let (mut l1, mut l2, mut ly) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
        for (&y, &w) in self.y.iter().zip(&self.w) {
            let l = (y * inverse + shift).clamp(0.0, top).round() - centre;
            let wl = w * l;
            l1 = l1 + wl;
            l2 = l2 + wl * l;
            ly = ly + wl * y;
        }
        Moments { centre, l1, l2, ly }
    }

    /// `Σ w·(x - scale·l - min)²` without `Σ w·y²`, which is the same for all.
    #[inline(always)]
    pub(super) fn error(&self, at: &Moments, scale: Lanes, min: Lanes) -> Lanes {
        let off = scale * at.centre + min - self.mean;
        scale * (scale * at.l2 - at.ly - at.ly) + off * (off * self.weight + (scale + scale) * at.l1)
    }

    /// The best scale when the minimum is free; 0 where all integers are equal.
    #[inline(always)]
    pub(super) fn best_scale(&self, at: &Moments) -> Lanes {
        let spread = self.weight * at.l2 - at.l1 * at.l1;
        let nothing = self.weight * at.l2 * Lanes::all(1e-5);
        Lanes::where_less(nothing, spread, self.weight * at.ly * spread.inverse(), Lanes::ZERO)
    }

    /// The best minimum for this scale.
    #[inline(always)]
    pub(super) fn best_min(&self, at: &Moments, scale: Lanes) -> Lanes {
        self.mean - scale * (at.centre + at.l1 * self.weight.inverse())
    }

    /// The best pair, the minimum not above 0 unless `positive`; and `Σ w·l²`.
    #[inline(always)]
    fn best(&self, at: &Moments, positive: bool) -> AffineFit {
        let energy = at.l2 + at.centre * (at.l1 + at.l1 + at.centre * self.weight);
        let scale = self.best_scale(at);
        let min = self.best_min(at, scale);
        if positive {
            return AffineFit { scale, min, energy };
        }
        // With a minimum of 0 it is a fit through the origin.
        let alone = (at.ly + self.mean * (at.l1 + at.centre * self.weight)) * energy.inverse();
        AffineFit { scale: Lanes::where_less(Lanes::ZERO, min, alone, scale), min: min.min(Lanes::ZERO), energy }
    }
}

/// Scale and minimum for integers in `0..=top`; `positive` allows a minimum above 0.
#[inline(always)]
pub(super) fn affine<const N: usize>(
    x: &Columns<N>,
    block: &Centred<N>,
    top: f32,
    starts: Starts,
    positive: bool,
) -> AffineFit {
    let (mut low, mut high) = (x[0], x[0]);
    for &x in x {
        low = low.min(x);
        high = high.max(x);
    }
    if !positive {
        low = low.min(Lanes::ZERO);
    }
    let range = high - low;
    let inverse = range.inverse();
    let mut fit = AffineFit { scale: range * Lanes::all(1.0 / top), min: low, energy: Lanes::ZERO };
    let mut best = Lanes::all(f32::MAX);
    let mut take = |inverse: Lanes, from: Lanes, fit: &mut AffineFit| {
        let at = block.moments(inverse, from, top);
        let new = block.best(&at, positive);
        let error = block.error(&at, new.scale, new.min);
        fit.scale = Lanes::where_less(error, best, new.scale, fit.scale);
        fit.min = Lanes::where_less(error, best, new.min, fit.min);
        fit.energy = Lanes::where_less(error, best, new.energy, fit.energy);
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
