//! The 4-bit float of the Open Compute microscaling formats (OCP MX 1.0, E2M1): sign, two exponent bits, one of fraction.
//!
//! 32 elements share a scale that is a power of two, stored as its exponent in a byte (E8M0). That is a
//! doubly quantised scale whose table holds the powers: [`scales`].

use crate::weight::{Absmax, Bytes};
use std::sync::Arc;

/// Elements that share a scale.
pub const BLOCK: usize = 32;

/// Code to value; bit 3 is the sign.
pub const TABLE: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The scales `2^(byte - 127)` of blocks whose exponents are `exponents`. 255 is not a number.
pub fn scales(exponents: Bytes) -> Absmax {
    Absmax::Nested {
        codes: exponents,
        map: Arc::new((0..=u8::MAX).map(power).collect()),
        scales: Arc::new(vec![1.0]),
        offset: 0.0,
        group: usize::MAX,
    }
}

/// `2^(byte - 127)`.
fn power(byte: u8) -> f32 {
    match byte {
        u8::MAX => f32::NAN,
        // The smallest one is below the normal range: half of its smallest number.
        0 => f32::MIN_POSITIVE / 2.0,
        byte => f32::from_bits(u32::from(byte) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, power, scales};
    use crate::quant::dequantize;
    use crate::weight::{Bytes, DType, FourBit, FourBitKind};

    #[test]
    fn exponents_are_powers_of_two() {
        for byte in 0..u8::MAX {
            assert_eq!(f64::from(power(byte)), 2f64.powi(i32::from(byte) - 127), "{byte}");
        }
        assert!(power(255).is_nan());
    }

    #[test]
    fn the_even_element_is_the_low_half() {
        let codes = [&[0x92_u8, 0xF7][..], &[0; 14], &[0x21], &[0; 15]].concat();
        let w = FourBit {
            kind: FourBitKind::Mxfp4,
            codes: Bytes::from_vec(codes),
            absmax: scales(Bytes::from_vec(vec![128, 126])),
            block: BLOCK,
            rows: 2,
            cols: BLOCK,
            rounding: DType::F32,
        };
        crate::weight::FrozenWeight::FourBit(w.clone()).check().expect("parts that fit");
        let got = dequantize(&w);
        assert_eq!(got[..4], [2.0, -1.0, 12.0, -12.0]);
        assert_eq!(got[BLOCK..BLOCK + 2], [0.25, 0.5]);
    }
}
