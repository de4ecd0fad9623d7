//! Optimizer states in 8 bits: blocks of 256 numbers, a largest magnitude each, codes of the dynamic map
//! (Dettmers et al. 2022).
//!
//! Codes, magnitudes and numbers are those of bitsandbytes' `quantize_blockwise` on a processor, bit for bit: it
//! cuts `[-1, 1]` into 65536 cells and takes the code nearest to the middle of the cell. What is below half a cell
//! of the block's largest therefore counts as half a cell: a second moment never becomes zero beside a large one.

use super::double::{dynamic_map, nearest_codes, unsigned_dynamic_map};
use crate::backend::Backend;
use crate::error::Result;
use crate::tensor::Tensor;
use std::sync::OnceLock;

/// Numbers that share a largest magnitude.
pub const BLOCK: usize = 256;

/// Cells into which the encoder cuts `[-1, 1]`.
const CELLS: f32 = 65535.0;

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
        assert_eq!(unsigned.values[1..4], [3.250_000_3e-7, 7.749_999_9e-7, 2.124_999_8e-6]);
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
}
