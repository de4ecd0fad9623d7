//! Sixteen blocks side by side: a search takes the same steps for all of them, each lane with numbers of its own.
//!
//! Plain loops of a fixed length, which the compiler turns into vectors of whatever width the processor
//! has. Sums run over the elements of a block, never across lanes, so the width cannot change a bit.

use std::ops::{Add, Div, Mul, Sub};

/// Blocks side by side.
pub(super) const LANES: usize = 16;

/// `1.5·2^23`: adding it to a small f32 rounds to an integer, kept in the low bits.
const ROUND: f32 = 12_582_912.0;

/// One number of each of sixteen blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(super) struct Lanes(pub(super) [f32; LANES]);

/// Element by element of sixteen blocks.
pub(super) type Columns<const N: usize> = [Lanes; N];

macro_rules! operator {
    ($trait:ident, $name:ident, $op:tt) => {
        impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $name(mut self, other: Self) -> Self {
                for (a, b) in self.0.iter_mut().zip(other.0) {
                    *a $op b;
                }
                self
            }
        }
    };
}
operator!(Add, add, +=);
operator!(Sub, sub, -=);
operator!(Mul, mul, *=);
operator!(Div, div, /=);

impl Lanes {
    pub(super) const ZERO: Self = Self([0.0; LANES]);

    /// The same number in all lanes.
    #[inline(always)]
    pub(super) fn all(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    fn each(mut self, f: impl Fn(f32) -> f32) -> Self {
        for a in &mut self.0 {
            *a = f(*a);
        }
        self
    }

    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        self.each(f32::abs)
    }

    #[inline(always)]
    pub(super) fn sqrt(self) -> Self {
        self.each(f32::sqrt)
    }

    /// To the nearest integer, of two to the even one; for numbers below 2^22.
    #[inline(always)]
    pub(super) fn round(self) -> Self {
        self.each(|x| (x + ROUND) - ROUND)
    }

    #[inline(always)]
    pub(super) fn clamp(self, low: f32, high: f32) -> Self {
        self.each(|x| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        })
    }

    #[inline(always)]
    pub(super) fn min(self, other: Self) -> Self {
        Self::where_less(self, other, self, other)
    }

    #[inline(always)]
    pub(super) fn max(self, other: Self) -> Self {
        Self::where_less(other, self, self, other)
    }

    /// Where `a < b`, `yes`, elsewhere `no`. A NaN is not less.
    #[inline(always)]
    pub(super) fn where_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let mut out = no;
        for lane in 0..LANES {
            out.0[lane] = if a.0[lane] < b.0[lane] { yes.0[lane] } else { no.0[lane] };
        }
        out
    }

    /// `1/x`, and 0 where `x` is next to nothing.
    #[inline(always)]
    pub(super) fn inverse(self) -> Self {
        Self::where_less(Self::all(1e-30), self.abs(), Self::all(1.0) / self, Self::ZERO)
    }

    /// The sum of `lanes`, in their order.
    #[inline(always)]
    pub(super) fn sum(self, lanes: std::ops::Range<usize>) -> f32 {
        self.0[lanes].iter().sum()
    }
}

/// `x`, up to sixteen blocks of `N` elements one after the other, side by side; lanes that are left are 0.
#[inline(always)]
pub(super) fn side_by_side<const N: usize>(x: &[f32]) -> Columns<N> {
    let mut out = [Lanes::ZERO; N];
    for (lane, block) in x.as_chunks::<N>().0.iter().enumerate().take(LANES) {
        for (column, &x) in out.iter_mut().zip(block) {
            column.0[lane] = x;
        }
    }
    out
}

/// `q = round((x + min)/scale)` within `0..=top`, as integers of eight bits shifted by `zero`; 0 where the scale is 0.
#[inline(always)]
pub(super) fn codes(x: &[f32], scale: f32, min: f32, low: f32, top: f32, zero: f32, out: &mut [u8]) {
    let inverse = if scale.abs() > 1e-30 { 1.0 / scale } else { 0.0 };
    for (code, &x) in out.iter_mut().zip(x) {
        let q = (x + min) * inverse;
        let q = if q < low { low } else { q };
        let q = if q > top { top } else { q };
        // The integer is in the low bits of the mantissa, two's complement for a negative one.
        *code = (q + zero + ROUND).to_bits() as u8;
    }
}
