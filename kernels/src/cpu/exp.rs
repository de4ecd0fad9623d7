//! Exponentials without branches, so that loops over them become vector code.
//!
//! Products are not fused and nothing depends on the instruction set: every path gives the same bits.

/// `1.5·2^23`: adding it to a small f32 rounds to an integer, kept in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;
/// Beyond these the result is 0 or infinite whatever the rest does.
pub(super) const ENDS: [f32; 2] = [-104.0, 89.0];
/// `ln 2` in two parts, of which a small whole number times the first is exact (Cody & Waite).
pub(super) const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `(e^r - 1 - r) / r²` for `r` up to half of `ln 2`, the highest power first.
pub(super) const POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// `e^x` within 2 units in the last place; 0 and infinity beyond the range of f32.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // A NaN passes through.
    let [least, most] = ENDS;
    let x = if x < least { least } else { x };
    let x = if x > most { most } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let [p, rest @ ..] = POLYNOMIAL;
    let p = rest.into_iter().fold(p, |p, term| p * r + term);
    let y = p * (r * r) + r + 1.0;
    // 2^n as two factors, since n alone may lie outside of what an exponent holds.
    let n = low_bits(shifted);
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// The nearest whole number, of two the even one, of what is smaller than 2^22. A conversion that heeds numbers beyond
/// the range of what it makes is carried out one number after the other.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    low_bits(x + ROUND)
}

/// The whole number that was added to [`ROUND`].
#[inline(always)]
fn low_bits(sum: f32) -> i32 {
    (sum.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// `tanh x`: a polynomial near zero, where the quotient would lose digits.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let z = x * x;
    let p = -5.704_988_7e-3;
    let p = p * z + 2.063_909e-2;
    let p = p * z - 5.373_971_6e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let near = p * z * x + x;
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    let far = f32::from_bits(far.to_bits() | (x.to_bits() & 0x8000_0000));
    if x.abs() < 0.625 { near } else { far }
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::{exp, nearest, sigmoid, tanh};

    #[test]
    fn the_nearest_whole_number_is_even_where_there_are_two() {
        let halves = (-70_000..70_000).map(|i| i as f32 / 2.0);
        for x in halves.flat_map(|x| [x, x.next_up(), x.next_down()]).chain([-0.0, 4_194_303.0, -4_194_303.0]) {
            assert_eq!(nearest(x), x.round_ties_even() as i32, "{x}");
        }
    }

    /// Distance in units in the last place of the exact result.
    fn ulps(got: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        let unit = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
        (f64::from(got) - exact).abs() / unit
    }

    fn worst(from: f32, to: f32, f: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        const N: u32 = 400_000;
        let xs = (0..=N).map(|i| from + (to - from) * (i as f32 / N as f32));
        xs.map(|x| ulps(f(x), exact(f64::from(x)))).fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        assert!(worst(-87.0, 88.7, exp, f64::exp) <= 2.0);
        assert!(worst(-1.0, 1.0, exp, f64::exp) <= 2.0);
        // Subnormal results keep an absolute error of one unit.
        assert!(worst(-103.0, -87.0, exp, f64::exp) <= 2.0);
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!((exp(-1e30), exp(f32::NEG_INFINITY)), (0.0, 0.0));
        assert_eq!((exp(100.0), exp(f32::INFINITY)), (f32::INFINITY, f32::INFINITY));
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert_eq!((tanh(50.0), tanh(-50.0), tanh(f32::NEG_INFINITY)), (1.0, -1.0, -1.0));
        assert_eq!((sigmoid(200.0), sigmoid(-200.0)), (1.0, 0.0));
    }

    #[test]
    fn tanh_and_sigmoid_are_within_three_units_in_the_last_place() {
        assert!(worst(-10.0, 10.0, tanh, f64::tanh) <= 3.0);
        assert!(worst(-0.7, 0.7, tanh, f64::tanh) <= 3.0);
        assert!(worst(-80.0, 20.0, sigmoid, |x| 1.0 / (1.0 + (-x).exp())) <= 3.0);
    }
}
