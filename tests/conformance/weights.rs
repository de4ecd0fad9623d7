//! Frozen weights in every storage format.

use crate::harness::noise;
use half::{bf16, f16};
use peft_kernels::{Absmax, Bytes, DType, FourBit, FourBitKind, FrozenWeight};
use std::sync::Arc;

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// A trainable tensor.
    Trainable,
    /// Numbers of a type.
    Dense(DType),
    /// 4-bit codes, plain or nested scales, and what decoded values are rounded to.
    FourBit(FourBitKind, bool, DType),
}

/// Every storage format once.
pub(crate) const ALL: [Storage; 10] = [
    Storage::Trainable,
    Storage::Dense(DType::F32),
    Storage::Dense(DType::F16),
    Storage::Dense(DType::BF16),
    Storage::FourBit(FourBitKind::Nf4, false, DType::BF16),
    Storage::FourBit(FourBitKind::Nf4, true, DType::BF16),
    Storage::FourBit(FourBitKind::Nf4, true, DType::F32),
    Storage::FourBit(FourBitKind::Fp4, false, DType::F16),
    Storage::FourBit(FourBitKind::Fp4, true, DType::F32),
    Storage::FourBit(FourBitKind::Mxfp4, true, DType::F32),
];

/// Bytes that begin at an odd address of their owner, as in a memory-mapped file.
fn unaligned(bytes: &[u8]) -> Bytes {
    let padded = [&[0xA5], bytes].concat();
    Bytes::from_vec(padded).slice(1..bytes.len() + 1).expect("one byte of padding")
}

/// A `[rows, cols]` matrix of noise stored that way.
pub(crate) fn frozen(storage: Storage, seed: u64, rows: usize, cols: usize) -> FrozenWeight {
    let n = rows * cols;
    let data = noise(seed, n);
    let (kind, nested, rounding) = match storage {
        Storage::FourBit(kind, nested, rounding) => (kind, nested, rounding),
        Storage::Trainable => return frozen(Storage::Dense(DType::F32), seed, rows, cols),
        Storage::Dense(dtype) => {
            let bytes: Vec<u8> = match dtype {
                DType::F32 => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
                DType::F16 => data.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
                DType::BF16 => data.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            };
            return FrozenWeight::Dense { bytes: unaligned(&bytes), dtype, rows, cols };
        }
    };
    let random_bytes = |seed: u64, n: usize| -> Vec<u8> { noise(seed, n).iter().map(|x| x.to_bits() as u8).collect() };
    let blocks = n.div_ceil(64);
    let absmax = if nested {
        Absmax::Nested {
            codes: unaligned(&random_bytes(seed + 1, blocks)),
            map: Arc::new((0..256).map(|i| (i as f32 - 127.0) / 128.0).collect()),
            scales: Arc::new(noise(seed + 2, blocks.div_ceil(16)).iter().map(|x| x.abs() + 0.01).collect()),
            offset: 0.75,
            group: 16,
        }
    } else {
        Absmax::Plain(Arc::new(noise(seed + 3, blocks).iter().map(|x| x.abs()).collect()))
    };
    let codes = unaligned(&random_bytes(seed + 4, n.div_ceil(2)));
    FrozenWeight::FourBit(FourBit { kind, codes, absmax, block: 64, rows, cols, rounding })
}

/// A weight on a device: frozen, or a tensor.
pub(crate) enum Held<B: peft_kernels::Backend> {
    Frozen(B::Weight),
    Tensor(peft_kernels::Tensor<B>),
}

impl<B: peft_kernels::Backend> Held<B> {
    pub(crate) fn new(be: &B, storage: Storage, seed: u64, rows: usize, cols: usize) -> Self {
        if storage == Storage::Trainable {
            return Self::Tensor(crate::harness::tensor(be, seed, rows, cols));
        }
        let weight = be.packed_weight(frozen(storage, seed, rows, cols)).expect("a weight whose parts fit");
        assert_eq!(B::weight_shape(&weight), (rows, cols));
        Self::Frozen(weight)
    }

    pub(crate) fn matrix(&self) -> peft_kernels::Matrix<'_, B> {
        match self {
            Self::Frozen(w) => peft_kernels::Matrix::Frozen(w),
            Self::Tensor(t) => peft_kernels::Matrix::Dense(t),
        }
    }
}
