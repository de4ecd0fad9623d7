//! Frozen weights as checkpoints store them, so that a device can take them without a dense copy.
//!
//! The host side only describes bytes (usually of a memory-mapped file); [`Backend::weight`] turns
//! the description into whatever the device multiplies with.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::quant::GgmlType;
use crate::tensor::Tensor;
use std::sync::Arc;

/// Shared bytes: a slice of something that stays alive, such as a memory-mapped file.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    start: usize,
    len: usize,
}

impl Bytes {
    /// All of `owner`.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let len = owner.as_ref().as_ref().len();
        Self { owner, start: 0, len }
    }

    /// Bytes of its own.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self::new(Arc::new(bytes))
    }

    /// A part of it, or `None` when the range is not inside.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        Some(Self { owner: Arc::clone(&self.owner), start: self.start + range.start, len: range.len() })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.start..self.start + self.len]
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.len)
    }
}

/// Element types of dense weights. Little-endian in storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an f32.
    BF16,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// The 4-bit codes: the two of bitsandbytes, and that of gpt-oss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FourBitKind {
    /// `NormalFloat4` (Dettmers et al. 2023, appendix E).
    Nf4,
    /// A 4-bit float with 2 exponent bits.
    Fp4,
    /// The 4-bit float of the Open Compute `MX` formats; the even element of a byte lies in its low half.
    Mxfp4,
}

impl FourBitKind {
    /// The even element of a byte is its low half, not its high one.
    pub fn low_half_first(self) -> bool {
        self == Self::Mxfp4
    }
}

/// One scale per block, plain or itself quantised (double quantisation).
#[derive(Clone, Debug)]
pub enum Absmax {
    /// f32 per block.
    Plain(Arc<Vec<f32>>),
    /// 8-bit code per block: `map[code] * scales[block / group] + offset`.
    Nested {
        /// One code per block.
        codes: Bytes,
        /// The 256 values of the codes.
        map: Arc<Vec<f32>>,
        /// One scale per `group` blocks.
        scales: Arc<Vec<f32>>,
        /// Added to every decoded value.
        offset: f32,
        /// Blocks per scale, 256 in bitsandbytes.
        group: usize,
    },
}

/// A matrix in bitsandbytes' 4-bit layout: flattened row-major, cut into blocks, two codes a byte
/// (which half is the even element: [`FourBitKind::low_half_first`]).
#[derive(Clone, Debug)]
pub struct FourBit {
    /// Which code table.
    pub kind: FourBitKind,
    /// `ceil(rows * cols / 2)` bytes.
    pub codes: Bytes,
    /// One scale per block.
    pub absmax: Absmax,
    /// Elements per block, 64 in practice.
    pub block: usize,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// A decoded value is rounded to this type, as bitsandbytes does.
    pub rounding: DType,
}

/// A frozen matrix `[rows = output features, cols = input features]` in storage.
#[derive(Clone, Debug)]
pub enum FrozenWeight {
    /// Plain numbers.
    Dense {
        /// `rows * cols * dtype.size()` bytes, little-endian, no alignment promised.
        bytes: Bytes,
        /// Element type.
        dtype: DType,
        /// Output features.
        rows: usize,
        /// Input features.
        cols: usize,
    },
    /// 4-bit codes with block scales.
    FourBit(FourBit),
    /// Blocks of a GGUF file.
    Blocks {
        /// Whole blocks, row after row.
        bytes: Bytes,
        /// Their type.
        kind: GgmlType,
        /// Output features.
        rows: usize,
        /// Input features.
        cols: usize,
    },
}

impl FrozenWeight {
    /// `(rows, cols)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Dense { rows, cols, .. } | Self::Blocks { rows, cols, .. } => (*rows, *cols),
            Self::FourBit(w) => (w.rows, w.cols),
        }
    }

    /// Bytes it occupies in storage.
    pub fn stored_bytes(&self) -> usize {
        match self {
            Self::Dense { bytes, .. } | Self::Blocks { bytes, .. } => bytes.len(),
            Self::FourBit(w) => {
                let scales = match &w.absmax {
                    Absmax::Plain(v) => v.len() * 4,
                    Absmax::Nested { codes, map, scales, .. } => codes.len() + (map.len() + scales.len()) * 4,
                };
                w.codes.len() + scales
            }
        }
    }

    /// Whether the parts have the sizes that the shape asks for.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::Weight { what });
        let (rows, cols) = self.shape();
        let Some(n) = rows.checked_mul(cols) else { return bad(format!("shape [{rows}, {cols}] overflows")) };
        match self {
            Self::Dense { bytes, dtype, .. } => {
                if n.checked_mul(dtype.size()) != Some(bytes.len()) {
                    return bad(format!("{} bytes for shape [{rows}, {cols}]", bytes.len()));
                }
            }
            Self::Blocks { bytes, kind, .. } => {
                let needed = kind.row_bytes(cols).and_then(|row| row.checked_mul(rows));
                if needed != Some(bytes.len()) {
                    return bad(format!("{} bytes of {kind} for shape [{rows}, {cols}]", bytes.len()));
                }
            }
            Self::FourBit(w) => {
                if w.block == 0 || w.codes.len() != n.div_ceil(2) {
                    return bad(format!("{} code bytes for shape [{rows}, {cols}]", w.codes.len()));
                }
                let blocks = n.div_ceil(w.block);
                match &w.absmax {
                    Absmax::Plain(v) if v.len() != blocks => {
                        return bad(format!("{} scales for {blocks} blocks", v.len()));
                    }
                    Absmax::Nested { codes, map, scales, group, .. }
                        if codes.len() != blocks
                            || map.len() != 256
                            || *group == 0
                            || scales.len() != blocks.div_ceil(*group) =>
                    {
                        return bad(format!("double-quantised scales do not fit {blocks} blocks"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The matrix of a product: frozen in storage, or dense and trainable.
pub enum Matrix<'a, B: Backend> {
    /// A frozen weight on the device.
    Frozen(&'a B::Weight),
    /// A dense f32 tensor `[rows, cols]`.
    Dense(&'a Tensor<B>),
}

#[expect(clippy::expl_impl_clone_on_copy, reason = "a derive would ask for `B: Copy`")]
impl<B: Backend> Clone for Matrix<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Matrix<'_, B> {}
