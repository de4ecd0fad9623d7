//! Any run of elements of a frozen weight as f32.

use crate::quant::{fp4, mxfp4, nf4};
use crate::weight::{Absmax, DType, FourBit, FourBitKind, FrozenWeight};
use half::{bf16, f16};

/// The values of a kind's 16 codes.
pub fn code_table(kind: FourBitKind) -> &'static [f32; 16] {
    match kind {
        FourBitKind::Nf4 => &nf4::TABLE,
        FourBitKind::Fp4 => &fp4::TABLE,
        FourBitKind::Mxfp4 => &mxfp4::TABLE,
    }
}

/// `x` rounded to `dtype` and back.
#[inline]
pub fn round_to(x: f32, dtype: DType) -> f32 {
    match dtype {
        DType::F32 => x,
        DType::F16 => f16::from_f32(x).to_f32(),
        DType::BF16 => bf16::from_f32(x).to_f32(),
    }
}

impl Absmax {
    /// The scale of block `block`.
    #[inline]
    pub fn get(&self, block: usize) -> f32 {
        match self {
            Self::Plain(scales) => scales[block],
            Self::Nested { codes, map, scales, offset, group } => {
                map[usize::from(codes.as_slice()[block])] * scales[block / group] + offset
            }
        }
    }
}

impl Absmax {
    /// The scales of consecutive blocks from `first`; the same numbers as [`Absmax::get`].
    pub(crate) fn run(&self, first: usize, out: &mut [f32]) {
        match self {
            Self::Plain(scales) => out.copy_from_slice(&scales[first..first + out.len()]),
            Self::Nested { codes, map, scales, offset, group } => {
                let codes = &codes.as_slice()[first..first + out.len()];
                let (mut left, mut scales) = (group - first % group, scales[first / group..].iter());
                let mut scale = scales.next().copied().unwrap_or_default();
                for (out, &code) in out.iter_mut().zip(codes) {
                    if left == 0 {
                        (left, scale) = (*group, scales.next().copied().unwrap_or_default());
                    }
                    *out = map[usize::from(code)] * scale + offset;
                    left -= 1;
                }
            }
        }
    }
}

/// The 16 values a code can have in block `block`.
#[inline]
pub(crate) fn block_table(w: &FourBit, block: usize) -> [f32; 16] {
    let scale = w.absmax.get(block);
    code_table(w.kind).map(|value| round_to(value * scale, w.rounding))
}

/// Elements `start .. start + out.len()` of `w`, counted row-major.
///
/// # Panics
/// When the run leaves the weight, or `w` does not pass [`FrozenWeight::check`].
pub fn decode(w: &FrozenWeight, start: usize, out: &mut [f32]) {
    match w {
        FrozenWeight::Dense { bytes, dtype, .. } => {
            let size = dtype.size();
            let bytes = &bytes.as_slice()[start * size..(start + out.len()) * size];
            decode_dense(bytes, *dtype, out);
        }
        FrozenWeight::FourBit(w) => decode_four_bit(w, start, out),
        FrozenWeight::Blocks { bytes, kind, .. } => super::ggml::decode(*kind, bytes.as_slice(), start, out),
    }
}

/// Little-endian `bytes` as f32.
#[inline]
pub(crate) fn decode_dense(bytes: &[u8], dtype: DType, out: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *y = f32::from_le_bytes(*b);
            }
        }
        DType::F16 => {
            for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *y = f16::from_le_bytes(*b).to_f32();
            }
        }
        DType::BF16 => {
            for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
    }
}

fn decode_four_bit(w: &FourBit, mut at: usize, mut out: &mut [f32]) {
    let codes = w.codes.as_slice();
    let odd_is_high = usize::from(w.kind.low_half_first());
    while !out.is_empty() {
        let block = at / w.block;
        let run = out.len().min((block + 1) * w.block - at);
        let (head, tail) = out.split_at_mut(run);
        let table = block_table(w, block);
        for (element, y) in (at..).zip(head) {
            let byte = codes[element / 2];
            let code = if element % 2 == odd_is_high { byte >> 4 } else { byte & 15 };
            *y = table[usize::from(code)];
        }
        at += run;
        out = tail;
    }
}

/// All of `w`, row-major.
pub fn dequantize(w: &FourBit) -> Vec<f32> {
    let mut out = vec![0.0; w.rows * w.cols];
    decode_four_bit(w, 0, &mut out);
    out
}

/// Row `row` of `w`.
///
/// # Panics
/// When there is no such row, or `out` is not as long as one.
pub fn dequantize_row(w: &FourBit, row: usize, out: &mut [f32]) {
    assert!(row < w.rows && out.len() == w.cols, "row {row} of [{}, {}] into {}", w.rows, w.cols, out.len());
    decode_four_bit(w, row * w.cols, out);
}
