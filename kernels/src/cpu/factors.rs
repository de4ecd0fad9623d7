//! What the two factors of a large product are rounded to, and pairs of bf16.
//!
//! A pair is two neighbouring steps of the inner dimension, the earlier one in the low half of a word; that is
//! how processors with an instruction for it read bf16. The words travel as the bits of an `f32`, so that panels
//! of pairs lie in the same buffers, and turn in the same squares, as panels of numbers. Nothing ever computes
//! with such a word: it is made and read through its bits alone. Processors without that instruction multiply panels of
//! rounded numbers, as quickly as any.

use super::simd_dispatch::vectorized;

/// What the factors of large products are rounded to. Sums and everything else are f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Factors {
    /// Not rounded.
    F32,
    /// The upper half of an f32, to nearest: half the memory traffic, and twice the speed where the processor has
    /// an instruction for pairs of them.
    Bf16,
}

impl Factors {
    /// Its name in fingerprints and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Words of a packed panel that `steps` of the inner dimension take.
    pub(super) fn words(self, steps: usize) -> usize {
        match self {
            Self::F32 => steps,
            Self::Bf16 => steps.div_ceil(2),
        }
    }

    /// Steps of the inner dimension in one word.
    pub(super) fn steps(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
        }
    }

    /// `x` as a product would see it.
    pub(super) fn rounded(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::Bf16 => f32::from_bits(nearest(x) << 16),
        }
    }
}

/// The bf16 nearest to `x`, ties to even.
#[inline(always)]
pub(super) fn nearest(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    // What says that a number is none may all lie in the half that is dropped.
    let quiet = (bits >> 16) | 0x40;
    if x.is_nan() { quiet } else { rounded }
}

/// Two numbers as one word.
#[inline(always)]
fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(nearest(low) | (nearest(high) << 16))
}

vectorized! {
    /// Neighbours along a row become pairs; one that is left over is paired with zero.
    pub(super) fn pair_up(out: &mut [f32], x: &[f32]) {
        let (pairs, odd) = x.as_chunks::<2>();
        for (word, [low, high]) in out.iter_mut().zip(pairs) {
            *word = pair(*low, *high);
        }
        if let [last] = odd {
            out[pairs.len()] = pair(*last, 0.0);
        }
    }
}

vectorized! {
    /// Two rows become pairs, element by element.
    pub(super) fn pair_rows(out: &mut [f32], low: &[f32], high: &[f32]) {
        for ((word, low), high) in out.iter_mut().zip(low).zip(high) {
            *word = pair(*low, *high);
        }
    }
}

vectorized! {
    /// The same of numbers that are bf16 already: nothing is rounded.
    pub(super) fn join_rows(out: &mut [f32], low: &[f32], high: &[f32]) {
        for ((word, low), high) in out.iter_mut().zip(low).zip(high) {
            *word = f32::from_bits((low.to_bits() >> 16) | (high.to_bits() & 0xFFFF_0000));
        }
    }
}

/// Two rows of stored bf16 become pairs, element by element.
#[inline(always)]
pub(super) fn join(out: &mut [f32], low: &[u8], high: &[u8]) {
    for ((word, low), high) in out.iter_mut().zip(low.as_chunks().0).zip(high.as_chunks().0) {
        *word = f32::from_bits(u32::from(u16::from_le_bytes(*low)) | (u32::from(u16::from_le_bytes(*high)) << 16));
    }
}

vectorized! {
    /// [`join`] of whole rows.
    pub(super) fn join_stored(out: &mut [f32], low: &[u8], high: &[u8]) {
        join(out, low, high);
    }
}

vectorized! {
    /// The values of 16 codes as the lower and as the upper half of a word.
    pub(super) fn halves(low: &mut [f32; 16], high: &mut [f32; 16], table: &[f32; 16]) {
        *low = table.map(|x| f32::from_bits(nearest(x)));
        *high = table.map(|x| f32::from_bits(nearest(x) << 16));
    }
}

vectorized! {
    /// Stored bf16, two neighbours a word; one that is left over is paired with zero.
    pub(super) fn stored_pairs(out: &mut [f32], bytes: &[u8]) {
        let (pairs, odd) = bytes.as_chunks::<4>();
        for (word, bytes) in out.iter_mut().zip(pairs) {
            *word = f32::from_bits(u32::from_le_bytes(*bytes));
        }
        if let [a, b] = odd {
            out[pairs.len()] = f32::from_bits(u32::from(u16::from_le_bytes([*a, *b])));
        }
    }
}

vectorized! {
    /// Numbers as a product of bf16 sees them, which remain f32.
    pub(super) fn round_numbers(x: &mut [f32]) {
        for x in x {
            *x = f32::from_bits(nearest(*x) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Factors, join_rows, nearest, pair_rows, pair_up, round_numbers, stored_pairs};
    use crate::cpu::path::{PATHS, Path};
    use crate::quant::decode::round_to;
    use crate::weight::DType;

    /// Every exponent, fractions around the ties, and the special numbers.
    fn numbers() -> Vec<f32> {
        let fractions: Vec<u32> =
            (0..1 << 7).flat_map(|i| [0, 1, 0x7FFF, 0x8000, 0x8001].map(|low| (i << 16) | low)).collect();
        (0..1 << 9_u32).flat_map(|top| fractions.iter().map(move |f| f32::from_bits((top << 23) | f))).collect()
    }

    #[test]
    fn rounding_is_to_the_nearest_and_a_nan_stays_one() {
        for x in numbers() {
            let (got, want) = (f32::from_bits(nearest(x) << 16), round_to(x, DType::BF16));
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{x:e}: {got:e}, not {want:e}");
            let same = Factors::Bf16.rounded(x);
            assert!(same.to_bits() == got.to_bits() && Factors::F32.rounded(x).to_bits() == x.to_bits());
        }
    }

    #[test]
    fn pairs_hold_what_was_paired_on_every_path() {
        let x = numbers();
        let halves: Vec<u32> = x.iter().map(|x| nearest(*x)).collect();
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            for n in [0, 1, 2, 33, 500, x.len() - 1] {
                let mut along = vec![f32::NAN; n.div_ceil(2)];
                pair_up(isa, &mut along, &x[..n]);
                for (i, word) in along.iter().enumerate() {
                    let high = if 2 * i + 1 < n { halves[2 * i + 1] } else { 0 };
                    assert_eq!(word.to_bits(), halves[2 * i] | (high << 16), "{isa:?} word {i} of {n}");
                }
                let bytes: Vec<u8> = halves[..n].iter().flat_map(|h| (*h as u16).to_le_bytes()).collect();
                let mut stored = vec![f32::NAN; n.div_ceil(2)];
                stored_pairs(isa, &mut stored, &bytes);
                assert!(stored.iter().map(|w| w.to_bits()).eq(along.iter().map(|w| w.to_bits())), "{isa:?} {n}");
                let mut across = vec![f32::NAN; n];
                pair_rows(isa, &mut across, &x[..n], &x[1..=n]);
                for (i, word) in across.iter().enumerate() {
                    assert_eq!(word.to_bits(), halves[i] | (halves[i + 1] << 16), "{isa:?} word {i} of {n}");
                }
            }
            let whole: Vec<f32> = halves.iter().map(|h| f32::from_bits(h << 16)).collect();
            let (mut joined, mut paired) = (vec![0.0; 777], vec![0.0; 777]);
            join_rows(isa, &mut joined, &whole[..777], &whole[5000..5777]);
            pair_rows(isa, &mut paired, &whole[..777], &whole[5000..5777]);
            assert!(joined.iter().map(|w| w.to_bits()).eq(paired.iter().map(|w| w.to_bits())), "{isa:?}");
            let mut rounded = x.clone();
            round_numbers(isa, &mut rounded);
            assert!(rounded.iter().map(|x| x.to_bits()).eq(whole.iter().map(|x| x.to_bits())), "{isa:?}");
        }
    }
}
