//! Optimizer states in 8 bits: blocks of 256 numbers, a largest magnitude each, codes of the dynamic map
//! (Dettmers et al. 2022).
//!
//! Codes, magnitudes and numbers are those of bitsandbytes' `quantize_blockwise` on a processor, bit for bit: it
//! cuts `[-1, 1]` into 65536 cells and takes the code nearest to the middle of the cell. What is below half a cell
//! of the block's largest therefore counts as half a cell: a second moment never becomes zero beside a large one.
//!
//! Rounding to the nearest code holds a second moment back that changes by less than half a code a step, as it does
//! from a few hundred steps on: measured on the starter, 300 steps end 0.9 % off those in f32, and drift further. With
//! [`Rounding::Dithered`] they end 0.01 % off.

use super::double::{dynamic_map, nearest_codes, unsigned_dynamic_map};
use crate::backend::Backend;
use crate::error::Result;
use crate::tensor::Tensor;
use std::sync::OnceLock;

/// Numbers that share a largest magnitude.
pub const BLOCK: usize = 256;

/// Cells into which the encoder cuts `[-1, 1]`.
const CELLS: f32 = 65535.0;

/// How second moments become codes again. First moments, which change fast, always take the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The nearest code, as bitsandbytes does it.
    Nearest,
    /// One of the two neighbours by a threshold that goes evenly through all values from step to step, so that the
    /// error of many steps is none. It is a function of element and step alone.
    Dithered,
}

/// Smallest share of a block's largest that a dithered number is taken for, half a cell: as in the nearest code's way.
const FLOOR: f32 = 1.0 / CELLS;

/// Fractions of a turn from element to element and from step to step (the golden and the plastic ratio, in 2⁻³²).
const TURNS: [u32; 2] = [0x9E37_79B9, 0xC13F_A9A9];

/// A map of 256 values and its inverse.
#[derive(Debug)]
pub struct DynamicMap {
    /// The values, ascending.
    pub values: [f32; 256],
    /// The code of every cell.
    nearest: Vec<u8>,
}

#[expect(clippy::inline_always, reason = "kernels compile these loops for their instruction set")]
impl DynamicMap {
    /// Values from -1 to 1: first moments.
    pub fn signed() -> &'static Self {
        static MAP: OnceLock<DynamicMap> = OnceLock::new();
        MAP.get_or_init(|| Self::of(&dynamic_map()))
    }

    /// Values from 0 to 1: second moments.
    pub fn unsigned() -> &'static Self {
        static MAP: OnceLock<DynamicMap> = OnceLock::new();
        MAP.get_or_init(|| Self::of(&unsigned_dynamic_map()))
    }

    fn of(map: &[f32]) -> Self {
        Self { values: std::array::from_fn(|code| map[code]), nearest: nearest_codes(map) }
    }

    /// The numbers of one block.
    #[inline(always)]
    pub fn decode(&self, numbers: &mut [f32], codes: &[u8], absmax: f32) {
        for (x, &code) in numbers.iter_mut().zip(codes) {
            *x = self.values[usize::from(code)] * absmax;
        }
    }

    /// The codes of one block; returns its largest magnitude.
    #[inline(always)]
    pub fn encode(&self, codes: &mut [u8], numbers: &[f32]) -> f32 {
        // As `std::max`: a number that is none is passed over.
        let absmax = numbers.iter().fold(0.0_f32, |largest, x| if x.abs() > largest { x.abs() } else { largest });
        if absmax == 0.0 {
            codes.fill(0);
            return absmax;
        }
        let inverse = 1.0 / absmax;
        for (code, x) in codes.iter_mut().zip(numbers) {
            let unit = ((x * inverse).clamp(-1.0, 1.0) + 1.0) * 0.5;
            // The cast truncates, and is 0 for a number that is none.
            *code = self.nearest[usize::from(unit.mul_add(CELLS, 0.5) as u16)];
        }
        absmax
    }

    /// [`DynamicMap::encode`] to a neighbour above or below, for the elements from `first` on at `step`.
    #[inline(always)]
    pub fn encode_dithered(&self, codes: &mut [u8], numbers: &[f32], first: usize, step: u32) -> f32 {
        let absmax = numbers.iter().fold(0.0_f32, |largest, x| if x.abs() > largest { x.abs() } else { largest });
        if absmax == 0.0 {
            codes.fill(0);
            return absmax;
        }
        let inverse = 1.0 / absmax;
        let mut turn = (first as u32).wrapping_mul(TURNS[0]).wrapping_add(step.wrapping_mul(TURNS[1]));
        for (code, x) in codes.iter_mut().zip(numbers) {
            let threshold = (turn >> 8) as f32 * (1.0 / 16_777_216.0);
            turn = turn.wrapping_add(TURNS[0]);
            let unit = (x * inverse).clamp(FLOOR, 1.0);
            let upper = self.values.partition_point(|value| *value < unit).clamp(1, 255);
            let (low, high) = (self.values[upper - 1], self.values[upper]);
            let is_above = unit - low > threshold * (high - low);
            *code = if is_above { upper } else { upper - 1 } as u8;
        }
        absmax
    }
}

/// A tensor of optimizer states in 8 bits on device `B`.
pub struct EightBit<B: Backend> {
    /// A byte an element.
    pub codes: B::Codes,
    /// The largest magnitude of every block, `[1, blocks]`.
    pub absmax: Tensor<B>,
    /// Elements.
    pub len: usize,
}

impl<B: Backend> EightBit<B> {
    /// Zeros for `len` elements.
    pub fn zeros(be: &B, len: usize) -> Result<Self> {
        Ok(Self { codes: be.codes(&vec![0; len])?, absmax: be.zeros(1, len.div_ceil(BLOCK))?, len })
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, DynamicMap};

    #[test]
    fn maps_are_sorted_and_end_at_one() {
        let (signed, unsigned) = (DynamicMap::signed(), DynamicMap::unsigned());
        for map in [signed, unsigned] {
            assert!(map.values.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(map.values[255], 1.0);
        }
        assert_eq!((signed.values[0], signed.values[127], unsigned.values[0]), (-0.992_968_74, 0.0, 0.0));
        // `create_dynamic_map(signed=False)` of bitsandbytes.
        assert_eq!(unsigned.values[1..4], [3.250_000_3e-7, 7.75e-7, 2.124_999_8e-6]);
    }

    #[test]
    fn a_block_keeps_its_largest_and_is_near_everywhere() {
        let numbers: Vec<f32> = (0..BLOCK).map(|i| ((i * 7919) % 1000) as f32 * 1e-5 - 0.004).collect();
        let (mut codes, mut again) = (vec![0; BLOCK], vec![0.0; BLOCK]);
        let absmax = DynamicMap::signed().encode(&mut codes, &numbers);
        DynamicMap::signed().decode(&mut again, &codes, absmax);
        assert_eq!(absmax, numbers.iter().fold(0.0, |a: f32, x| a.max(x.abs())));
        for (x, y) in numbers.iter().zip(&again) {
            assert!((x - y).abs() <= 0.008 * absmax, "{x} became {y}");
        }
    }

    #[test]
    fn zeros_stay_zeros_and_a_bad_number_does_not_spread() {
        let (mut codes, mut again) = ([9; 3], [1.0; 3]);
        let map = DynamicMap::signed();
        assert_eq!(map.encode(&mut codes, &[0.0; 3]), 0.0);
        map.decode(&mut again, &codes, 0.0);
        assert!(again.iter().all(|x| *x == 0.0));
        assert_eq!(map.encode(&mut codes, &[f32::NAN, 0.5, -0.5]), 0.5);
        assert_eq!(codes[1], 255);
    }

    /// What rounding to the nearest cannot do: a number that lies between two codes comes out right on average.
    #[test]
    fn dithered_codes_are_right_on_average_and_never_zero_beside_others() {
        let map = DynamicMap::unsigned();
        let numbers = [1.0, 0.123_45, 0.003_21, 0.000_047, 0.0];
        let mut sums = [0.0_f64; 5];
        let (mut codes, mut again) = ([0; 5], [0.0; 5]);
        for step in 1..=1000 {
            let absmax = map.encode_dithered(&mut codes, &numbers, 77, step);
            map.decode(&mut again, &codes, absmax);
            assert!(again[4] > 0.0, "{again:?}");
            sums.iter_mut().zip(again).for_each(|(sum, x)| *sum += f64::from(x));
        }
        for (sum, x) in sums.iter().zip(numbers).take(4) {
            let mean = sum / 1000.0;
            assert!((mean / f64::from(x) - 1.0).abs() < 1e-3, "{x} became {mean} on average");
        }
        assert_eq!(again[0], 1.0, "the largest stays");
        assert_eq!((map.encode_dithered(&mut codes, &[0.0; 5], 0, 1), codes), (0.0, [0; 5]));
    }
}
