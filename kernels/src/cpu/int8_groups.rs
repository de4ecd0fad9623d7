//! Codes of stored weights in groups of 64, for products in whole numbers.
//!
//! A weight is `scale·(code - zero) - min` with an unsigned code; four neighbours always share scale and minimum.

use super::int8::{GROUP, LANES};
use super::source::{Source, widen_f16};
use crate::quant::GgmlType;
use crate::quant::decode::code_table;
use crate::quant::ggml::blocks32::IQ4_NL;
use crate::quant::ggml::blocks256::six_bit_pairs;
use crate::weight::{FourBit, FrozenWeight};

/// Steps of a value of a table of 4-bit codes: sixteen bits and a sign.
const STEPS: f32 = 32767.0;

/// A group as plain numbers.
pub(super) struct Group {
    /// Less the zero.
    pub(super) codes: [i16; GROUP],
    /// One for each four elements.
    pub(super) scales: [f32; LANES],
    /// One for each half.
    pub(super) mins: [f32; 2],
}

impl Default for Group {
    fn default() -> Self {
        Self { codes: [0; GROUP], scales: [0.0; LANES], mins: [0.0; 2] }
    }
}

/// A matrix that there is such a product for.
pub(super) struct Stored<'a> {
    weight: Layout<'a>,
    /// Its first row.
    first: usize,
    cols: usize,
}

enum Layout<'a> {
    /// With the bytes of a row.
    Blocks(GgmlType, &'a [u8], usize),
    FourBit(&'a FourBit, Table),
}

/// The values of 4-bit codes as sixteen bits, and the two bytes of them around a zero in the middle.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the bytes are for the kernels of one processor"))]
pub(super) struct Table {
    pub(super) values: [i16; 16],
    pub(super) low: [u8; 16],
    pub(super) high: [u8; 16],
}

impl Table {
    /// Of values between -1 and 1.
    fn of(values: &[f32; 16]) -> Self {
        let values = values.map(|value| (value * STEPS).round_ties_even() as i16);
        let bytes = values.map(|value| (i32::from(value) + (1 << TABLE_ZERO)).to_le_bytes());
        let [low, high] = [0, 1].map(|byte| bytes.map(|bytes| bytes[byte]));
        Self { values, low, high }
    }
}

/// The zero of a [`Table`] as a power of two.
pub(super) const TABLE_ZERO: u32 = 15;

/// Rows one behind the other, as they are stored.
#[cfg(target_arch = "x86_64")]
pub(super) enum Rows<'a> {
    /// Blocks of a GGUF file, with the bytes of a row.
    Blocks(GgmlType, &'a [u8], usize),
    /// 4-bit codes, whose scales are decoded row by row.
    FourBit(&'a Table),
}

/// One row of it.
pub(super) enum Codes<'a> {
    /// Blocks of a GGUF file.
    Blocks(GgmlType, &'a [u8]),
    /// Two codes a byte, the first in the high half; a scale a group.
    FourBit(&'a [u8], &'a [f32], &'a Table),
}

/// Types of blocks with such a product.
fn has_kernel(kind: GgmlType) -> bool {
    use GgmlType::{Iq4Nl, Q4_0, Q4K, Q5_0, Q5K, Q6K, Q8_0};
    matches!(kind, Q8_0 | Q6K | Q5K | Q4K | Q5_0 | Q4_0 | Iq4Nl)
}

impl<'a> Stored<'a> {
    pub(super) fn of(w: Source<'a>) -> Option<Self> {
        let Source::Stored(w, first, _) = w else { return None };
        let cols = w.shape().1;
        let weight = match w {
            FrozenWeight::Blocks { bytes, kind, .. } if has_kernel(*kind) => {
                Layout::Blocks(*kind, bytes.as_slice(), kind.row_bytes(cols)?)
            }
            FrozenWeight::FourBit(w)
                if w.block.is_multiple_of(GROUP) && cols.is_multiple_of(w.block) && !w.kind.low_half_first() =>
            {
                Layout::FourBit(w, Table::of(code_table(w.kind)))
            }
            _ => return None,
        };
        (cols > 0 && cols.is_multiple_of(GROUP)).then_some(Self { weight, first, cols })
    }

    /// Bytes of the codes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        match self.weight {
            Layout::Blocks(_, _, size) => size,
            Layout::FourBit(..) => self.cols / 2,
        }
    }

    /// Room for the scales of a row.
    pub(super) fn buffer(&self) -> Vec<f32> {
        match self.weight {
            Layout::Blocks(..) => Vec::new(),
            Layout::FourBit(..) => vec![0.0; self.cols / GROUP],
        }
    }

    /// What rows `rows` are stored as.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn rows(&self, rows: std::ops::Range<usize>) -> Rows<'_> {
        match &self.weight {
            Layout::Blocks(kind, bytes, size) => {
                let (start, end) = (self.first + rows.start, self.first + rows.end);
                Rows::Blocks(*kind, &bytes[start * size..end * size], *size)
            }
            Layout::FourBit(_, table) => Rows::FourBit(table),
        }
    }

    /// Row `row`; `buffer` is one of [`Stored::buffer`].
    pub(super) fn row<'b>(&'b self, row: usize, buffer: &'b mut [f32]) -> Codes<'b> {
        let row = self.first + row;
        match &self.weight {
            Layout::Blocks(kind, bytes, size) => Codes::Blocks(*kind, &bytes[row * size..(row + 1) * size]),
            Layout::FourBit(w, table) => {
                let (blocks, groups) = (self.cols / w.block, w.block / GROUP);
                w.absmax.run(row * blocks, &mut buffer[..blocks]);
                // One for each group, from the last to the first: none is read after it was written over.
                for g in (0..blocks * groups).rev() {
                    buffer[g] = buffer[g / groups] / STEPS;
                }
                let bytes = &w.codes.as_slice()[row * self.cols / 2..(row + 1) * self.cols / 2];
                Codes::FourBit(bytes, buffer, table)
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Codes<'_> {
    /// The codes, of blocks with all that is in them.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Blocks(_, bytes) | Self::FourBit(bytes, ..) => bytes,
        }
    }

    /// A scale a group, of 4-bit codes.
    #[inline]
    pub(super) fn scales(&self) -> &[f32] {
        match self {
            Self::Blocks(..) => &[],
            Self::FourBit(_, scales, _) => scales,
        }
    }
}

impl Codes<'_> {
    /// How many.
    #[inline(always)]
    pub(super) fn groups(&self) -> usize {
        match self {
            Self::Blocks(kind, bytes) => bytes.len() / kind.block_bytes() * kind.block_len() / GROUP,
            Self::FourBit(bytes, ..) => 2 * bytes.len() / GROUP,
        }
    }

    /// Group `g` into `out`.
    #[inline(always)]
    pub(super) fn group(&self, g: usize, out: &mut Group) {
        match self {
            Self::Blocks(kind, bytes) => {
                let (len, size) = (kind.block_len(), kind.block_bytes());
                if len < GROUP {
                    for half in 0..2 {
                        thirty_two(*kind, &bytes[(2 * g + half) * size..][..size], half, out);
                    }
                } else {
                    let of_block = len / GROUP;
                    of_256(*kind, &bytes[g / of_block * size..][..size], g % of_block, out);
                }
            }
            Self::FourBit(bytes, scales, table) => {
                (out.mins, out.scales) = ([0.0; 2], [scales[g]; LANES]);
                let bytes = &bytes[g * GROUP / 2..][..GROUP / 2];
                for (codes, byte) in out.codes.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                    *codes = [byte >> 4, byte & 15].map(|code| table.values[usize::from(code)]);
                }
            }
        }
    }
}

/// The f16 at `at`.
#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    widen_f16(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// The values of `IQ4_NL` around a zero of 128.
#[cfg(target_arch = "x86_64")]
pub(super) fn iq4_nl() -> [u8; 16] {
    IQ4_NL.map(|value| (128.0 + value) as u8)
}

/// A block of 32 elements into one half of a group.
#[inline(always)]
fn thirty_two(kind: GgmlType, block: &[u8], half: usize, out: &mut Group) {
    let codes = &mut out.codes[32 * half..][..32];
    for (j, code) in codes.iter_mut().enumerate() {
        let nibble = |at: usize| block[at + j % 16] >> (4 * (j / 16)) & 15;
        *code = match kind {
            GgmlType::Q8_0 => i16::from(block[2 + j] as i8),
            GgmlType::Q5_0 => i16::from(nibble(6) | (block[2 + j / 8] >> (j % 8) & 1) << 4) - 16,
            GgmlType::Iq4Nl => IQ4_NL[usize::from(nibble(2))] as i16,
            _ => i16::from(nibble(2)) - 8,
        };
    }
    out.scales[8 * half..][..8].fill(half_at(block, 0));
    out.mins = [0.0; 2];
}

/// Group `g` of a block of 256 elements.
#[inline(always)]
fn of_256(kind: GgmlType, block: &[u8], g: usize, out: &mut Group) {
    if kind == GgmlType::Q6K {
        let (half, upper) = (g / 2, g % 2);
        for (j, code) in out.codes.iter_mut().enumerate() {
            let low = block[64 * half + j] >> (4 * upper) & 15;
            let high = block[128 + 32 * half + j % 32] >> (4 * upper + 2 * (j / 32)) & 3;
            *code = i16::from(low | high << 4) - 32;
        }
        for (i, scale) in out.scales.iter_mut().enumerate() {
            *scale = half_at(block, 208) * f32::from(block[192 + 4 * g + i / 4] as i8);
        }
        out.mins = [0.0; 2];
        return;
    }
    let (scales, mins) = six_bit_pairs(&block[4..16]);
    let nibbles = if kind == GgmlType::Q5K { 48 } else { 16 };
    for (j, code) in out.codes.iter_mut().enumerate() {
        let low = block[nibbles + 32 * g + j % 32] >> (4 * (j / 32)) & 15;
        let fifth = if kind == GgmlType::Q5K { block[16 + j % 32] >> (2 * g + j / 32) & 1 } else { 0 };
        *code = i16::from(low | fifth << 4);
    }
    for i in 0..LANES {
        let part = 2 * g + i / 8;
        out.scales[i] = half_at(block, 0) * f32::from(scales[part]);
    }
    out.mins = [2 * g, 2 * g + 1].map(|part| half_at(block, 2) * f32::from(mins[part]));
}
