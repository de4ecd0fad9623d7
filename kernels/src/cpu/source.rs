//! Where a product reads its operands: dense tensors, or frozen weights decoded on the way.

use super::Cpu;
use super::factors::{join_rows, join_stored, pair_rows, pair_up, stored_pairs};
use super::interleaved::Interleaved;
use super::norm::{self, NormedRows};
use super::numbers::{Half, widen_half};
use super::packed::{Held, Packed};
use super::simd_dispatch::{Isa, vectorized};
use crate::host::View;
use crate::quant::decode::code_table;
use crate::quant::ggml::decode::decode_on;
use crate::weight::{DType, FourBit, FrozenWeight, Matrix};
use std::ops::Range;

/// A matrix that can be read row by row.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// f32 in memory.
    Dense(View<'a>),
    /// bf16 in memory.
    Narrow(View<'a, Half>),
    /// The norm of rows, computed where they are read.
    Normed(NormedRows<'a>),
    /// These rows of a weight in storage.
    Stored(&'a FrozenWeight, usize, usize),
    /// These rows of one that is packed.
    Packed(&'a Packed, usize, usize),
    /// These rows of one that lies eight rows side by side.
    Interleaved(&'a Interleaved, usize, usize),
}

impl<'a> Source<'a> {
    pub(super) fn of(w: Matrix<'a, Cpu>) -> Self {
        match w {
            Matrix::Dense(t) => Self::window(t.view()),
            Matrix::Frozen(w) => match &**w {
                Held::Stored(w) => Self::Stored(w, 0, w.shape().0),
                Held::Packed(packed) => Self::Packed(packed, 0, w.shape().0),
                Held::Interleaved(strips) => Self::Interleaved(strips, 0, w.shape().0),
            },
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Dense(x) => x.rows(),
            Self::Narrow(x) => x.rows(),
            Self::Normed(of) => of.x.rows(),
            Self::Stored(_, _, rows) | Self::Packed(_, _, rows) | Self::Interleaved(_, _, rows) => *rows,
        }
    }

    pub(super) fn cols(&self) -> usize {
        match self {
            Self::Dense(x) => x.cols(),
            Self::Narrow(x) => x.cols(),
            Self::Normed(of) => of.x.cols(),
            Self::Stored(w, ..) => w.shape().1,
            Self::Packed(w, ..) => w.cols(),
            Self::Interleaved(w, ..) => w.shape().1,
        }
    }

    pub(super) fn dims(&self) -> (usize, usize) {
        (self.rows(), self.cols())
    }

    /// Rows `row..row + rows` of it.
    pub(super) fn rows_from(self, row: usize, rows: usize) -> Self {
        match self {
            Self::Dense(x) => Self::Dense(x.rows_from(row, rows)),
            Self::Narrow(x) => Self::Narrow(x.rows_from(row, rows)),
            Self::Normed(of) => Self::Normed(of.rows_from(row, rows)),
            Self::Stored(w, first, all) => {
                assert!(row + rows <= all, "rows {row}+{rows} of {all}");
                Self::Stored(w, first + row, rows)
            }
            Self::Packed(w, first, all) => {
                assert!(row + rows <= all, "rows {row}+{rows} of {all}");
                Self::Packed(w, first + row, rows)
            }
            Self::Interleaved(w, first, all) => {
                assert!(row + rows <= all, "rows {row}+{rows} of {all}");
                Self::Interleaved(w, first + row, rows)
            }
        }
    }

    /// Columns `col..col + cols` of every row, of a window.
    pub(super) fn columns(self, col: usize, cols: usize) -> Self {
        match self {
            Self::Dense(x) => Self::Dense(x.columns(col, cols)),
            Self::Narrow(x) => Self::Narrow(x.columns(col, cols)),
            Self::Normed(_) | Self::Stored(..) | Self::Packed(..) | Self::Interleaved(..) => {
                unreachable!("only windows are cut")
            }
        }
    }

    /// Floats that reading a row of it takes.
    pub(super) fn room(&self) -> usize {
        if matches!(self, Self::Dense(_)) { 0 } else { self.cols() }
    }

    /// Row `row`: where it lies, or decoded into `buffer`, which has its room.
    pub(super) fn row<'b>(&self, isa: Isa, row: usize, buffer: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        self.read(isa, row, 0..self.cols(), buffer)
    }

    /// Part of row `row`, to `out`.
    pub(super) fn copy_to(&self, isa: Isa, row: usize, cols: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Dense(x) => out.copy_from_slice(&x.row(row)[cols]),
            _ => {
                self.read(isa, row, cols, out);
            }
        }
    }

    /// Part of row `row`: where it lies, or decoded into `buffer`.
    pub(super) fn read<'b>(&self, isa: Isa, row: usize, cols: Range<usize>, buffer: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match *self {
            Self::Dense(x) => &x.row(row)[cols],
            Self::Narrow(x) => {
                let buffer = &mut buffer[..cols.len()];
                widen_half(isa, buffer, &x.row(row)[cols]);
                buffer
            }
            Self::Normed(of) => {
                let buffer = &mut buffer[..cols.len()];
                norm::read(isa, buffer, &of, row, cols);
                buffer
            }
            Self::Stored(w, first, _) => {
                let buffer = &mut buffer[..cols.len()];
                decode(isa, w, (first + row) * w.shape().1 + cols.start, buffer);
                buffer
            }
            Self::Packed(w, first, _) => {
                let buffer = &mut buffer[..cols.len()];
                w.read(first + row, cols, buffer);
                buffer
            }
            Self::Interleaved(w, first, _) => {
                let buffer = &mut buffer[..cols.len()];
                w.read(isa, first + row, cols, buffer);
                buffer
            }
        }
    }
}

impl<'a> Source<'a> {
    /// Part of row `row` as pairs of bf16, in `buffer`. Where the processor rounds numbers, subnormal ones become zero,
    /// which is what its products take them for.
    pub(super) fn read_pairs<'b>(
        &self,
        isa: Isa,
        row: usize,
        cols: Range<usize>,
        numbers: &mut [f32],
        buffer: &'b mut [f32],
    ) -> &'b [f32] {
        let buffer = &mut buffer[..cols.len().div_ceil(2)];
        if let Some(bytes) = self.stored_bf16(row, &cols) {
            stored_pairs(isa, buffer, bytes);
        } else if let Some((w, first)) = self.whole_blocks(row, &cols) {
            four_bit_pairs(isa, w, first, buffer);
        } else {
            let numbers = self.read(isa, row, cols, numbers);
            #[cfg(target_arch = "x86_64")]
            if let Some(unit) = isa.pairs() {
                unit.pair_up(buffer, numbers);
                return buffer;
            }
            pair_up(isa, buffer, numbers);
        }
        buffer
    }

    /// Whether every number of it is a bf16.
    pub(super) fn is_bf16(&self) -> bool {
        match self {
            Self::Stored(FrozenWeight::Dense { dtype, .. }, ..) => *dtype == DType::BF16,
            Self::Stored(FrozenWeight::FourBit(w), ..) => w.rounding == DType::BF16,
            Self::Narrow(_) | Self::Packed(..) => true,
            _ => false,
        }
    }

    /// Rows of it, element by element, as pairs of bf16 in `out`.
    pub(super) fn pair(&self, isa: Isa, out: &mut [f32], low: &[f32], high: &[f32]) {
        if self.is_bf16() {
            return join_rows(isa, out, low, high);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = isa.pairs() {
            return unit.pair_rows(out, low, high);
        }
        pair_rows(isa, out, low, high);
    }

    /// Row `row` and the one behind it as pairs in `out`, where they are stored as bf16.
    pub(super) fn join_stored(&self, isa: Isa, out: &mut [f32], row: usize, cols: &Range<usize>) -> bool {
        let rows = (self.stored_bf16(row, cols), self.stored_bf16(row + 1, cols));
        let (Some(low), Some(high)) = rows else { return false };
        join_stored(isa, out, low, high);
        true
    }

    /// The weight and the first block of a run of whole 4-bit blocks whose even elements are in the high halves.
    fn whole_blocks(&self, row: usize, cols: &Range<usize>) -> Option<(&'a FourBit, usize)> {
        let Self::Stored(FrozenWeight::FourBit(w), first, _) = *self else { return None };
        let start = (first + row) * w.cols + cols.start;
        let whole = w.block.is_multiple_of(2) && start.is_multiple_of(w.block) && cols.len().is_multiple_of(w.block);
        (whole && !w.kind.low_half_first()).then_some((w, start / w.block))
    }

    /// What is stored as bf16: everything from column `col` of row `row` on, and the bytes of a row.
    pub(super) fn stored_from(&self, row: usize, col: usize) -> Option<(&'a [u8], usize)> {
        if let Self::Narrow(x) = *self {
            let (rows, stride) = x.rest(row);
            return Some((rows[col..].as_flattened(), 2 * stride));
        }
        let Self::Stored(FrozenWeight::Dense { bytes, dtype: DType::BF16, cols, .. }, first, _) = *self else {
            return None;
        };
        Some((&bytes.as_slice()[2 * ((first + row) * cols + col)..], 2 * cols))
    }

    /// Part of a row that is stored as bf16.
    pub(super) fn stored_bf16(&self, row: usize, cols: &Range<usize>) -> Option<&'a [u8]> {
        if let Self::Narrow(x) = *self {
            return Some(x.row(row)[cols.clone()].as_flattened());
        }
        let Self::Stored(FrozenWeight::Dense { bytes, dtype: DType::BF16, cols: all, .. }, first, _) = *self else {
            return None;
        };
        let start = (first + row) * all + cols.start;
        Some(&bytes.as_slice()[2 * start..2 * (start + cols.len())])
    }
}

/// Elements `start .. start + out.len()` of `w`; the same numbers as [`crate::quant::decode`].
pub(super) fn decode(isa: Isa, w: &FrozenWeight, start: usize, out: &mut [f32]) {
    match w {
        FrozenWeight::Dense { bytes, dtype, .. } => {
            let size = dtype.size();
            dense(isa, &bytes.as_slice()[start * size..(start + out.len()) * size], *dtype, out);
        }
        FrozenWeight::FourBit(w) => four_bit(isa, w, start, out),
        FrozenWeight::Blocks { bytes, kind, .. } => decode_on(isa, *kind, bytes.as_slice(), start, out),
    }
}

/// An f16 without tables or branches: the exponent moves by a product, which also makes subnormals right.
#[inline(always)]
pub(super) fn widen_f16(bits: u16) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = u32::from(bits & 0x7FFF);
    let finite = (f32::from_bits(magnitude << 13) * TWO_TO_112).to_bits();
    let special = 0x7F80_0000 | (magnitude << 13);
    let magnitude = if magnitude >= 0x7C00 { special } else { finite };
    f32::from_bits(magnitude | (u32::from(bits & 0x8000) << 16))
}

vectorized! {
    fn dense(bytes: &[u8], dtype: DType, out: &mut [f32]) {
        match dtype {
            DType::F32 => {
                for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *y = f32::from_le_bytes(*b);
                }
            }
            DType::F16 => {
                for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *y = widen_f16(u16::from_le_bytes(*b));
                }
            }
            DType::BF16 => {
                for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
        }
    }
}

/// `x` rounded to the nearest bf16, ties to even.
#[inline(always)]
fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = f32::from_bits(bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000);
    if x.is_nan() { x } else { rounded }
}

/// `x` rounded to the nearest f16, ties to even.
#[inline(always)]
fn round_to_f16(x: f32) -> f32 {
    let (bits, magnitude) = (x.to_bits(), x.abs());
    let normal = f32::from_bits(bits.wrapping_add(0x0FFF + ((bits >> 13) & 1)) & 0xFFFF_E000);
    // Next to 0.75 an f32 has the spacing of the subnormals of f16.
    let subnormal = ((magnitude + 0.75) - 0.75).copysign(x);
    let finite = if magnitude < 6.103_515_6e-5 { subnormal } else { normal };
    let bounded = if magnitude >= 65_520.0 { f32::INFINITY.copysign(x) } else { finite };
    if x.is_nan() { x } else { bounded }
}

vectorized! {
    /// The 16 values a code can have under `scale`, rounded: see [`crate::quant::decode::block_table`].
    pub(super) fn scaled_table(out: &mut [f32; 16], values: &[f32; 16], scale: f32, rounding: DType) {
        match rounding {
            DType::F32 => *out = values.map(|x| x * scale),
            DType::F16 => *out = values.map(|x| round_to_f16(x * scale)),
            DType::BF16 => *out = values.map(|x| round_to_bf16(x * scale)),
        }
    }
}

/// Blocks whose scales are looked up together.
const BLOCKS: usize = 32;
/// Bytes of codes whose halves are exchanged together.
const TURNED: usize = BLOCKS * 16;

/// Codes with the even element in the high half, which the kernels read.
fn turned<'a>(codes: &'a [u8], low_first: bool, buffer: &'a mut [u8; TURNED]) -> &'a [u8] {
    if !low_first {
        return codes;
    }
    let buffer = &mut buffer[..codes.len()];
    buffer.iter_mut().zip(codes).for_each(|(to, from)| *to = from.rotate_left(4));
    buffer
}

/// Whole blocks go to the processor's own kernel, several at a time; what is left is decoded code by code.
fn four_bit(isa: Isa, w: &FourBit, mut at: usize, mut out: &mut [f32]) {
    let codes = w.codes.as_slice();
    let values = code_table(w.kind);
    let low_first = w.kind.low_half_first();
    let mut buffer = [0; TURNED];
    while !out.is_empty() {
        let block = at / w.block;
        let whole = if at.is_multiple_of(w.block) && w.block.is_multiple_of(2) { out.len() / w.block } else { 0 };
        let count = whole.min(if low_first { TURNED / (w.block / 2).max(1) } else { BLOCKS }).min(BLOCKS);
        if count > 0 {
            let (head, tail) = std::mem::take(&mut out).split_at_mut(count * w.block);
            let mut scales = [0.0; BLOCKS];
            w.absmax.run(block, &mut scales[..count]);
            let codes = turned(&codes[at / 2..][..head.len() / 2], low_first, &mut buffer);
            isa.decode_blocks(codes, &scales[..count], values, w.rounding, w.block, head);
            at += head.len();
            out = tail;
            continue;
        }
        let run = out.len().min((block + 1) * w.block - at).min(if low_first { TURNED } else { usize::MAX });
        let (mut head, tail) = std::mem::take(&mut out).split_at_mut(run);
        let mut table = [0.0; 16];
        scaled_table(isa, &mut table, values, w.absmax.get(block), w.rounding);
        let mut from = at;
        if from % 2 == 1 {
            let byte = codes[from / 2];
            head[0] = table[usize::from(if low_first { byte >> 4 } else { byte & 15 })];
            head = &mut head[1..];
            from += 1;
        }
        let codes = turned(&codes[from / 2..][..head.len().div_ceil(2)], low_first, &mut buffer);
        isa.look_up(codes, &table, head);
        at += run;
        out = tail;
    }
}

/// Whole blocks from `first` as pairs, a word for each byte of codes.
fn four_bit_pairs(isa: Isa, w: &FourBit, first: usize, out: &mut [f32]) {
    let (values, bytes) = (code_table(w.kind), w.block / 2);
    let codes = w.codes.as_slice()[first * bytes..][..out.len()].chunks(BLOCKS * bytes);
    for ((codes, out), first) in codes.zip(out.chunks_mut(BLOCKS * bytes)).zip((first..).step_by(BLOCKS)) {
        let mut scales = [0.0; BLOCKS];
        let scales = &mut scales[..codes.len() / bytes];
        w.absmax.run(first, scales);
        isa.decode_pairs(codes, scales, values, w.rounding, w.block, out);
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, decode, round_to_bf16, round_to_f16, widen_f16};
    use crate::cpu::factors::pair_up;
    use crate::cpu::path::{PATHS, Path};
    use crate::quant;
    use crate::quant::decode::round_to;
    use crate::weight::{Bytes, DType, FourBitKind, FrozenWeight};
    use half::f16;

    #[test]
    fn rounding_without_branches_is_rounding() {
        // Every exponent with fractions around the ties of both types, and the special numbers.
        let fractions = (0..1 << 11).flat_map(|i| [0, 1, 0x0FFF, 0x1000, 0x1001].map(|low| (i << 12) | low));
        let fractions: Vec<u32> = fractions.filter(|f| f < &(1 << 23)).collect();
        for sign_and_exponent in 0..1 << 9 {
            for fraction in &fractions {
                let x = f32::from_bits((sign_and_exponent << 23) | fraction);
                for (dtype, rounded) in [(DType::F16, round_to_f16(x)), (DType::BF16, round_to_bf16(x))] {
                    let want = round_to(x, dtype);
                    let same = rounded.to_bits() == want.to_bits() || (rounded.is_nan() && want.is_nan());
                    assert!(same, "{dtype:?} of {x:e}: {rounded:e}, not {want:e}");
                }
            }
        }
    }

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let want = f16::from_bits(bits).to_f32();
            let got = widen_f16(bits);
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{bits:#06x}: {got} {want}");
        }
    }

    #[test]
    fn every_path_decodes_any_run_to_the_same_bits() {
        let (rows, cols) = (5, 333);
        let data: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect();
        for isa in [Path::Avx512, Path::Avx2, Path::Portable].into_iter().filter_map(Path::isa) {
            for (i, block) in [64, 32, 10, 7, 4096].into_iter().enumerate() {
                let rounding = [DType::BF16, DType::F16, DType::F32][i % 3];
                let kind = [FourBitKind::Nf4, FourBitKind::Mxfp4, FourBitKind::Fp4][(i + i / 3) % 3];
                let w = quant::quantize(&data, rows, cols, kind, block, i % 2 == 0, rounding);
                let w = FrozenWeight::FourBit(w);
                for (start, len) in [(0, rows * cols), (1, 1000), (63, 66), (64, 640), (333, 333), (1664, 1), (9, 0)] {
                    let (mut got, mut want) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                    decode(isa, &w, start, &mut got);
                    quant::decode(&w, start, &mut want);
                    assert!(
                        got.iter().map(|x| x.to_bits()).eq(want.iter().map(|x| x.to_bits())),
                        "{isa:?} block {block} {rounding:?} {start}+{len}"
                    );
                }
            }
        }
    }

    #[test]
    fn pairs_are_those_of_the_decoded_numbers_in_every_storage() {
        let (rows, cols) = (3, 640);
        let data: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect();
        let quantize = |kind, block, rounding| {
            FrozenWeight::FourBit(quant::quantize(&data, rows, cols, kind, block, true, rounding))
        };
        let bytes = data.iter().flat_map(|x| x.to_le_bytes().into_iter().skip(2)).collect();
        let weights = [
            FrozenWeight::Dense { bytes: Bytes::from_vec(bytes), dtype: DType::BF16, rows, cols },
            quantize(FourBitKind::Nf4, 64, DType::BF16),
            quantize(FourBitKind::Nf4, 2, DType::F32),
            quantize(FourBitKind::Fp4, 32, DType::F16),
            quantize(FourBitKind::Mxfp4, 32, DType::F32),
            quantize(FourBitKind::Nf4, 7, DType::BF16),
        ];
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            for (at, w) in weights.iter().enumerate() {
                let source = Source::Stored(w, 1, 2);
                for run in [0..512, 512..640, 64..67, 1..64, 0..1] {
                    let (mut numbers, mut buffer, mut want) = ([0.0; 512], [0.0; 512], [0.0; 512]);
                    let got = source.read_pairs(isa, 1, run.clone(), &mut numbers, &mut buffer);
                    let n = run.len();
                    let plain = source.read(isa, 1, run.clone(), &mut numbers);
                    pair_up(isa, &mut want[..n.div_ceil(2)], plain);
                    let same = got.iter().map(|w| w.to_bits()).eq(want[..n.div_ceil(2)].iter().map(|w| w.to_bits()));
                    assert!(same, "{isa:?}, weight {at}, {run:?}");
                    let (mut across, mut rounded) = ([0.0; 512], [0.0; 512]);
                    source.pair(isa, &mut across[..n], plain, plain);
                    super::pair_rows(isa, &mut rounded[..n], plain, plain);
                    assert!(across.map(f32::to_bits) == rounded.map(f32::to_bits), "{isa:?}, weight {at}, {run:?}");
                }
            }
        }
    }
}
