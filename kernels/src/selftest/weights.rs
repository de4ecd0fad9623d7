//! Frozen weights in every storage format.

use super::rig::Rig;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::weight::{Absmax, Bytes, DType, FourBit, FourBitKind, FrozenWeight, Matrix};
use half::{bf16, f16};
use std::sync::Arc;

/// Elements that share a scale.
const BLOCK: usize = 64;
/// Blocks that share a scale of their scales: few, so that small matrices have several.
const GROUP: usize = 16;

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// A trainable tensor.
    Trainable,
    /// Numbers of a type.
    Dense(DType),
    /// 4-bit codes; with scales that are quantised themselves; rounded to a type.
    FourBit(FourBitKind, bool, DType),
}

/// Every storage format.
pub(super) const ALL: [Storage; 10] = [
    Storage::Trainable,
    Storage::Dense(DType::F32),
    Storage::Dense(DType::F16),
    Storage::Dense(DType::BF16),
    Storage::FourBit(FourBitKind::Nf4, false, DType::F32),
    Storage::FourBit(FourBitKind::Nf4, true, DType::BF16),
    Storage::FourBit(FourBitKind::Nf4, true, DType::F16),
    Storage::FourBit(FourBitKind::Fp4, false, DType::BF16),
    Storage::FourBit(FourBitKind::Fp4, true, DType::F32),
    Storage::FourBit(FourBitKind::Mxfp4, true, DType::F32),
];

impl Storage {
    /// As a person would say it.
    pub(super) fn label(self) -> String {
        let dtype = |dtype| match dtype {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
        };
        match self {
            Self::Trainable => "trainable".to_owned(),
            Self::Dense(d) => dtype(d).to_owned(),
            Self::FourBit(kind, nested, rounding) => {
                let kind = match kind {
                    FourBitKind::Nf4 => "nf4",
                    FourBitKind::Fp4 => "fp4",
                    FourBitKind::Mxfp4 => "mxfp4",
                };
                format!("{kind}{} to {}", if nested { " double-quantised" } else { "" }, dtype(rounding))
            }
        }
    }
}

/// A weight on a device.
pub(super) enum Held<B: Backend> {
    Frozen(B::Weight),
    Tensor(Tensor<B>),
}

impl<B: Backend> Held<B> {
    /// A random `[rows, cols]` matrix stored that way.
    pub(super) fn draw(rig: &mut Rig<B>, storage: Storage, rows: usize, cols: usize) -> Result<Self> {
        let frozen = match storage {
            Storage::Trainable => return Ok(Self::Tensor(rig.tensor(rows, cols)?)),
            Storage::Dense(dtype) => dense(&rig.noise(rows * cols), dtype, rows, cols),
            Storage::FourBit(kind, nested, rounding) => four_bit(rig, (kind, nested, rounding), rows, cols),
        };
        let weight = rig.be.packed_weight(frozen)?;
        if B::weight_shape(&weight) == (rows, cols) {
            Ok(Self::Frozen(weight))
        } else {
            Err(Error::shape("weight_shape", format!("{:?}, not [{rows}, {cols}]", B::weight_shape(&weight))))
        }
    }

    pub(super) fn matrix(&self) -> Matrix<'_, B> {
        match self {
            Self::Frozen(w) => Matrix::Frozen(w),
            Self::Tensor(t) => Matrix::Dense(t),
        }
    }
}

/// Bytes that begin at an odd address of their owner, as in a memory-mapped file.
fn unaligned(bytes: &[u8]) -> Bytes {
    let padded = [&[0xA5], bytes].concat();
    Bytes::from_vec(padded).slice(1..bytes.len() + 1).expect("one byte of padding was put before them")
}

fn dense(data: &[f32], dtype: DType, rows: usize, cols: usize) -> FrozenWeight {
    let bytes: Vec<u8> = match dtype {
        DType::F32 => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => data.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        DType::BF16 => data.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    };
    FrozenWeight::Dense { bytes: unaligned(&bytes), dtype, rows, cols }
}

fn four_bit<B: Backend>(
    rig: &mut Rig<B>,
    (kind, nested, rounding): (FourBitKind, bool, DType),
    rows: usize,
    cols: usize,
) -> FrozenWeight {
    let n = rows * cols;
    let blocks = n.div_ceil(BLOCK);
    let absmax = if nested {
        Absmax::Nested {
            codes: unaligned(&rig.bytes(blocks)),
            map: Arc::new((0..256_u16).map(|i| (f32::from(i) - 127.0) / 128.0).collect()),
            scales: Arc::new(rig.at_least(0.01, blocks.div_ceil(GROUP))),
            offset: 0.75,
            group: GROUP,
        }
    } else {
        Absmax::Plain(Arc::new(rig.at_least(0.5, blocks)))
    };
    let codes = unaligned(&rig.bytes(n.div_ceil(2)));
    FrozenWeight::FourBit(FourBit { kind, codes, absmax, block: BLOCK, rows, cols, rounding })
}
