//! The block types of GGUF files: their numbers, names and sizes.
//!
//! A row is whole blocks; a block is `block_len` elements in `block_bytes` bytes. The types that are
//! only known by name here can be told apart in a file, and are not read.
//!
//! | file | what |
//! | --- | --- |
//! | `blocks32.rs`, `blocks256.rs` | where the bits of a block lie, in both directions |
//! | `decode.rs` | blocks to f32, as llama.cpp does, bit for bit |
//! | `encode.rs` | f32 to blocks; over all threads: `Cpu::encode_blocks` |
//! | `lanes.rs`, `search*.rs`, `table.rs`, `grid.rs` | the search for scales, sixteen blocks side by side |

// Bodies that are compiled for an instruction set must be inlined into it: see `cpu/mod.rs`.
#![allow(clippy::inline_always)]

pub(crate) mod blocks256;
pub(crate) mod blocks32;
pub(crate) mod decode;
pub(crate) mod encode;
mod grid;
mod lanes;
mod search;
mod search_affine;
mod table;

pub use decode::{decode, dequantize};

use std::fmt;

/// A type of tensor data that this crate reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GgmlType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 32 elements of 8 bits and a scale.
    Q8_0,
    /// 256 elements of 6 bits, 16 scales of 8 bits.
    Q6K,
    /// 256 elements of 5 bits, 8 scales and minima of 6 bits.
    Q5K,
    /// 256 elements of 4 bits, 8 scales and minima of 6 bits.
    Q4K,
    /// 256 elements of 3 bits, 16 scales of 6 bits.
    Q3K,
    /// 256 elements of 2 bits, 16 scales and minima of 4 bits.
    Q2K,
    /// 32 elements of 5 bits and a scale.
    Q5_0,
    /// 32 elements of 5 bits, a scale and a minimum.
    Q5_1,
    /// 32 elements of 4 bits and a scale.
    Q4_0,
    /// 32 elements of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 elements of 4 bits that look values up in a table, and a scale.
    Iq4Nl,
}

/// Elements of the longest block.
pub const LONGEST_BLOCK: usize = 256;

/// Type, number in a file, name, elements and bytes of a block.
type Row = (GgmlType, u32, &'static str, usize, usize);

const ROWS: [Row; 14] = [
    (GgmlType::F32, 0, "F32", 1, 4),
    (GgmlType::F16, 1, "F16", 1, 2),
    (GgmlType::BF16, 30, "BF16", 1, 2),
    (GgmlType::Q8_0, 8, "Q8_0", 32, 34),
    (GgmlType::Q6K, 14, "Q6_K", 256, 210),
    (GgmlType::Q5K, 13, "Q5_K", 256, 176),
    (GgmlType::Q4K, 12, "Q4_K", 256, 144),
    (GgmlType::Q3K, 11, "Q3_K", 256, 110),
    (GgmlType::Q2K, 10, "Q2_K", 256, 84),
    (GgmlType::Q5_0, 6, "Q5_0", 32, 22),
    (GgmlType::Q5_1, 7, "Q5_1", 32, 24),
    (GgmlType::Q4_0, 2, "Q4_0", 32, 18),
    (GgmlType::Q4_1, 3, "Q4_1", 32, 20),
    (GgmlType::Iq4Nl, 20, "IQ4_NL", 32, 18),
];

/// Types that files may hold and that are not read: number, name.
const FOREIGN: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

impl GgmlType {
    /// All of them, most exact first.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.0)
    }

    /// The type with this number in a file.
    pub fn from_id(id: u32) -> Option<Self> {
        ROWS.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    /// The type of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// What a type of this number is called, even if it is not one of these.
    pub fn name_of(id: u32) -> Option<&'static str> {
        Self::from_id(id).map(Self::name).or_else(|| FOREIGN.iter().find(|row| row.0 == id).map(|row| row.1))
    }

    /// Its number in a file.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// Its name, as llama.cpp spells it.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Elements of a block; 1 for plain numbers.
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Whether its numbers are blocks with scales of their own.
    pub fn quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of a row of `cols` elements; `None` when that is no whole number of blocks, or beyond any memory.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let whole = cols.is_multiple_of(self.block_len());
        (cols / self.block_len()).checked_mul(self.block_bytes()).filter(|_| whole)
    }

    /// Bits that an element takes.
    pub fn bits(self) -> f64 {
        8.0 * self.block_bytes() as f64 / self.block_len() as f64
    }

    fn row(self) -> &'static Row {
        // The rows are in the order of the variants; a test holds them to it.
        &ROWS[self as usize]
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{FOREIGN, GgmlType, LONGEST_BLOCK, ROWS};

    #[test]
    fn every_type_is_found_by_its_number_and_name() {
        for (place, (kind, id, name, len, bytes)) in ROWS.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{name} is where its variant says");
            assert_eq!((GgmlType::from_id(id), GgmlType::name_of(id)), (Some(kind), Some(name)));
            assert_eq!(GgmlType::from_name(&name.to_lowercase()), Some(kind));
            assert_eq!((kind.id(), kind.block_len(), kind.block_bytes()), (id, len, bytes));
            assert!(len <= LONGEST_BLOCK && LONGEST_BLOCK.is_multiple_of(len));
            assert!(FOREIGN.iter().all(|row| row.0 != id));
        }
        assert_eq!((GgmlType::from_id(23), GgmlType::name_of(23), GgmlType::name_of(4)), (None, Some("IQ4_XS"), None));
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(GgmlType::Q4K.row_bytes(512), Some(288));
        assert_eq!(GgmlType::Q4K.row_bytes(288), None);
        assert_eq!(GgmlType::Q5_0.row_bytes(288), Some(198));
        assert_eq!(GgmlType::F32.row_bytes(usize::MAX), None);
        assert_eq!(GgmlType::Q4K.bits(), 4.5);
    }
}
