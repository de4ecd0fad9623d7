//! The scale under which a table of values comes closest to the elements of a block (`IQ4_NL`).

use super::blocks32::IQ4_NL;
use super::lanes::{Columns, Lanes};
use super::search::peak;

/// Starts on either side of the one that reaches the largest element.
const TRIES: i32 = 7;

/// Between two entries.
#[inline(always)]
fn bound(k: usize) -> f32 {
    f32::midpoint(IQ4_NL[k], IQ4_NL[k + 1])
}

/// The entries nearest to `y`.
#[inline(always)]
fn nearest(y: Lanes) -> Lanes {
    (0..15).fold(Lanes::all(IQ4_NL[0]), |value, k| {
        Lanes::where_less(Lanes::all(bound(k)), y, Lanes::all(IQ4_NL[k + 1]), value)
    })
}

/// The scale; either end of the table may serve the largest element.
#[inline(always)]
pub(super) fn scale<const N: usize>(x: &Columns<N>, w: &Columns<N>) -> Lanes {
    let outward = peak(x).inverse();
    let (mut scale, mut gain) = (Lanes::ZERO, Lanes::ZERO);
    for end in [IQ4_NL[0], IQ4_NL[15]] {
        for t in -TRIES..=TRIES {
            let inverse = outward * Lanes::all(end + t as f32);
            let (mut vx, mut v2) = (Lanes::ZERO, Lanes::ZERO);
            for (&x, &w) in x.iter().zip(w) {
                let v = nearest(x * inverse);
                let wv = w * v;
                vx = vx + wv * x;
                v2 = v2 + wv * v;
            }
            let fitted = vx * v2.inverse();
            let new = fitted * vx;
            scale = Lanes::where_less(gain, new, fitted, scale);
            gain = gain.max(new);
        }
    }
    scale
}

/// The codes of the entries nearest to `x/scale`.
#[inline(always)]
pub(super) fn codes(x: &[f32], scale: f32, out: &mut [u8]) {
    let inverse = if scale.abs() > 1e-30 { 1.0 / scale } else { 0.0 };
    for (code, &x) in out.iter_mut().zip(x) {
        let y = x * inverse;
        *code = (0..15).map(|k| u8::from(y > bound(k))).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::{IQ4_NL, codes, nearest};
    use crate::quant::ggml::lanes::Lanes;

    #[test]
    fn the_nearest_entry_is_found_from_both_sides() {
        for i in -1300..1300 {
            let y = i as f32 / 10.0;
            let best = IQ4_NL.into_iter().min_by(|a, b| (a - y).abs().total_cmp(&(b - y).abs())).expect("16 entries");
            let found = nearest(Lanes::all(y)).0[3];
            assert_eq!((found - y).abs(), (best - y).abs(), "{y}");
            let mut code = [0];
            codes(&[y], 1.0, &mut code);
            assert_eq!(IQ4_NL[usize::from(code[0])], found, "{y}");
        }
    }
}
