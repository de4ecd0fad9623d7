//! f32 to 4-bit codes, as bitsandbytes does it on a processor.

use crate::quant::decode::code_table;
use crate::quant::double;
use crate::weight::{Absmax, Bytes, DType, FourBit, FourBitKind};
use std::sync::Arc;

/// What an all-zero block at the end is said to have as its largest magnitude.
const SMALLEST: f32 = 1e-38;

/// `data`, `[rows, cols]` row-major, in blocks of `block` elements; `double` quantises the scales too.
///
/// # Panics
/// When `data` is not `rows * cols` long, or `block` is 0.
pub fn quantize(
    data: &[f32],
    rows: usize,
    cols: usize,
    kind: FourBitKind,
    block: usize,
    double: bool,
    rounding: DType,
) -> FourBit {
    assert!(data.len() == rows * cols && block > 0, "{} numbers for [{rows}, {cols}] in blocks of {block}", data.len());
    let encoder = Encoder::new(kind);
    let mut absmax = Vec::with_capacity(data.len().div_ceil(block));
    let mut codes = Vec::with_capacity(data.len().next_multiple_of(2));
    for values in data.chunks(block) {
        // A NaN stays: a broken weight must not look whole.
        let larger = |a: f32, x: &f32| if a.is_nan() || x.abs() <= a { a } else { x.abs() };
        let largest = values.iter().fold(0.0, larger);
        if values.len() == block {
            let inverse = 1.0 / largest.max(SMALLEST);
            codes.extend(values.iter().map(|x| encoder.code(x * inverse)));
            absmax.push(largest);
        } else {
            let largest = if largest < SMALLEST { SMALLEST } else { largest };
            codes.extend(values.iter().map(|x| encoder.code(x / largest)));
            absmax.push(largest);
        }
    }
    if codes.len() % 2 == 1 {
        codes.push(encoder.code(0.0));
    }
    let low_first = kind.low_half_first();
    let pair = |[even, odd]: &[u8; 2]| if low_first { odd << 4 | even } else { even << 4 | odd };
    let bytes = codes.as_chunks::<2>().0.iter().map(pair).collect();
    let absmax = if double { double::encode(&absmax) } else { Absmax::Plain(Arc::new(absmax)) };
    FourBit { kind, codes: Bytes::from_vec(bytes), absmax, block, rows, cols, rounding }
}

/// Codes in the order of their values, and the bounds between them.
struct Encoder {
    ascending: [u8; 16],
    bounds: [f32; 15],
}

impl Encoder {
    fn new(kind: FourBitKind) -> Self {
        let table = code_table(kind);
        let mut ascending: [u8; 16] = std::array::from_fn(|code| code as u8);
        // Stable, and both zeros of FP4 are equal: the positive one comes first, as in `torch.argsort`.
        ascending.sort_by(|&a, &b| (table[usize::from(a)] + 0.0).total_cmp(&(table[usize::from(b)] + 0.0)));
        let value = |i: usize| table[usize::from(ascending[i])];
        Self { ascending, bounds: std::array::from_fn(|i| f32::midpoint(value(i), value(i + 1))) }
    }

    /// The code of `x` in `[-1, 1]`: an upper neighbour only when strictly beyond the bound.
    fn code(&self, x: f32) -> u8 {
        let x = x.clamp(-1.0, 1.0);
        self.ascending[self.bounds.iter().filter(|&&bound| x > bound).count()]
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoder, quantize};
    use crate::quant::dequantize;
    use crate::weight::{Absmax, DType, FourBitKind};

    #[test]
    fn bounds_are_those_of_bitsandbytes() {
        let nf4 = Encoder::new(FourBitKind::Nf4);
        assert_eq!((nf4.bounds[0], nf4.bounds[7], nf4.bounds[14]), (-0.848_096_4, 0.039_790_15, 0.861_478_45));
        let fp4 = Encoder::new(FourBitKind::Fp4);
        assert_eq!(fp4.ascending, [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3]);
        assert_eq!((fp4.bounds[7], fp4.bounds[8], fp4.bounds[14]), (0.0, 0.002_604_166_7, 0.833_333_4));
    }

    #[test]
    fn even_elements_lie_in_the_high_half() {
        let w = quantize(&[1.0, -1.0, 0.0], 1, 3, FourBitKind::Nf4, 64, false, DType::F32);
        assert_eq!(w.codes.as_slice(), [0xF0, 0x77]);
        assert_eq!(dequantize(&w), [1.0, -1.0, 0.0]);
    }

    #[test]
    fn blocks_of_zeros_stay_zeros() {
        for kind in [FourBitKind::Nf4, FourBitKind::Fp4] {
            for double in [false, true] {
                let w = quantize(&[0.0; 100], 4, 25, kind, 64, double, DType::BF16);
                assert!(dequantize(&w).iter().all(|x| x.abs() < 1e-37), "{kind:?} {double}");
            }
        }
    }

    #[test]
    fn a_bad_number_is_not_hidden() {
        let mut data = [0.5; 128];
        data[3] = f32::NAN;
        let w = quantize(&data, 2, 64, FourBitKind::Nf4, 64, false, DType::F32);
        assert!(matches!(&w.absmax, Absmax::Plain(scales) if scales[0].is_nan() && scales[1] == 0.5));
        assert!(dequantize(&w)[..64].iter().all(|x| x.is_nan()));
    }
}
