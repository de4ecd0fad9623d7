//! Products of few rows: every weight is read once, and decoded in registers where there is a kernel for its storage.

use super::gemm::{Epilogue, steps};
use super::pack::DECODE;
#[cfg(target_arch = "x86_64")]
use super::simd_avx512_dots::{Codes, GROUP};
use super::simd_dispatch::{Isa, ask_for, vectorized};
use super::source::Source;
use crate::host::{Tile, View};
#[cfg(target_arch = "x86_64")]
use crate::quant::decode::code_table;
#[cfg(target_arch = "x86_64")]
use crate::weight::{DType, FrozenWeight};
use std::ops::Range;

/// Most rows.
pub(super) const MOST_ROWS: usize = 16;
/// Rows that are multiplied with a row of weights while it is decoded in registers; more of them read it decoded.
pub(super) const FEW_ROWS: usize = 4;
/// Independent sums of one dot product.
const LANES: usize = 64;
/// Up to so many rows, numbers of sixteen bits are widened in registers, for each row again.
const WIDENED_EACH: usize = 2;
/// Most elements of rows that are gone through without [`dot`], whose other lanes would have nothing to add: those of
/// adapters.
const SHORT: usize = 16;
/// Fewest elements of a block that has a scale of its own in a kernel.
#[cfg(target_arch = "x86_64")]
const SMALLEST_BLOCK: usize = GROUP;

/// `tile (=|+=) alpha·x·wᵀ + bias`, one dot product after the other.
pub(super) fn dots(isa: Isa, tile: Tile, x: View, w: Source, epilogue: Epilogue) {
    if let Source::Dense(w) = w
        && x.cols() <= SHORT
    {
        return short(isa, tile, x, w, epilogue);
    }
    if let Source::Packed(w, first, _) = w {
        return w.dots(isa, tile, x, first, epilogue);
    }
    match x.rows() {
        1 => dots_of::<1>(isa, tile, x, w, epilogue),
        2 => dots_of::<2>(isa, tile, x, w, epilogue),
        3 => dots_of::<3>(isa, tile, x, w, epilogue),
        FEW_ROWS => dots_of::<FEW_ROWS>(isa, tile, x, w, epilogue),
        _ => dots_of_more(isa, tile, x, w, epilogue),
    }
}

/// The same for more rows: part of a row of weights is decoded once for all of them. What they have at those columns
/// stays in the cache next to the processor while the weights of the task go by.
fn dots_of_more(isa: Isa, mut tile: Tile, x: View, w: Source, epilogue: Epilogue) {
    let width = tile.rows.first().map_or(0, |row| row.len());
    let mut buffer = [0.0; DECODE];
    let mut sums = vec![[0.0; MOST_ROWS]; width];
    for cols in steps(0..x.cols(), DECODE) {
        let x: Vec<&[f32]> = (0..x.rows()).map(|r| &x.row(r)[cols.clone()]).collect();
        for (j, sums) in sums.iter_mut().enumerate() {
            let row = tile.col + j;
            if j + 1 < width {
                ask_for_row(w, row + 1, &cols);
            }
            let w = w.read(isa, row, cols.clone(), &mut buffer);
            for (x, sums) in x.chunks(FEW_ROWS).zip(sums.as_chunks_mut::<FEW_ROWS>().0) {
                add_dots(isa, w, x, sums);
            }
        }
    }
    for (r, row) in tile.rows.iter_mut().enumerate() {
        for (j, (y, sums)) in row.iter_mut().zip(&sums).enumerate() {
            epilogue.store(y, tile.col + j, sums[r]);
        }
    }
}

/// Asks for part of a row that is stored as numbers: many small rows are no stream that a processor sees coming.
fn ask_for_row(w: Source, row: usize, cols: &Range<usize>) {
    if let Some(next) = w.stored_bf16(row, cols) {
        ask_for(next);
    }
}

/// `sums[r] += x[r]·w`
fn add_dots(isa: Isa, w: &[f32], x: &[&[f32]], sums: &mut [f32; FEW_ROWS]) {
    #[cfg(target_arch = "x86_64")]
    if let (Isa::Avx512(isa), Ok(x)) = (isa, <&[&[f32]; FEW_ROWS]>::try_from(x))
        && w.len().is_multiple_of(GROUP)
    {
        return isa.add_floats(w, x, sums);
    }
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += dot(isa, x, w);
    }
}

vectorized! {
    /// Rows of at most [`SHORT`] elements: the bits of [`dot`].
    fn short(tile: Tile, x: View, w: View, epilogue: Epilogue) {
        let (row, col) = (tile.row, tile.col);
        for (r, y) in tile.rows.into_iter().enumerate() {
            let mut of_x = [0.0; SHORT];
            of_x[..x.cols()].copy_from_slice(x.row(row + r));
            for (j, y) in y.iter_mut().enumerate() {
                let mut lanes = [0.0; SHORT];
                let of_w = w.row(col + j);
                if let Some(of_w) = of_w.first_chunk::<SHORT>() {
                    add_products(&mut lanes, &of_x, of_w);
                } else {
                    add_products(&mut lanes, &of_x, of_w);
                }
                epilogue.store(y, col + j, in_pairs(&mut lanes));
            }
        }
    }
}

/// `lanes += a∘b`
#[inline(always)]
fn add_products(lanes: &mut [f32; SHORT], a: &[f32; SHORT], b: &[f32]) {
    for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
        *lane += a * b;
    }
}

fn dots_of<const R: usize>(isa: Isa, mut tile: Tile, x: View, w: Source, epilogue: Epilogue) {
    let width = tile.rows.first().map_or(0, |row| row.len());
    let mut buffer = [0.0; DECODE];
    for j in 0..width {
        let mut sums = [0.0; R];
        for cols in steps(0..x.cols(), DECODE) {
            if j + 1 < width {
                ask_for_row(w, tile.col + j + 1, &cols);
            }
            let x: [&[f32]; R] = std::array::from_fn(|r| &x.row(r)[cols.clone()]);
            if !add_decoded(isa, w, tile.col + j, cols.clone(), &x, &mut sums) {
                if R <= WIDENED_EACH
                    && let Some(w) = w.stored_bf16(tile.col + j, &cols)
                {
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += dot_stored(isa, x, w));
                    continue;
                }
                let w = w.read(isa, tile.col + j, cols, &mut buffer);
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum += dot(isa, x, w);
                }
            }
        }
        for (row, sum) in tile.rows.iter_mut().zip(sums) {
            epilogue.store(&mut row[j], tile.col + j, sum);
        }
    }
}

/// `sums[r] += Σ x[r]·w` for part of a row of `w`, without decoding it into memory. False where there is no kernel
/// for that.
#[cfg(target_arch = "x86_64")]
fn add_decoded<const R: usize>(
    isa: Isa,
    w: Source,
    row: usize,
    cols: Range<usize>,
    x: &[&[f32]; R],
    sums: &mut [f32; R],
) -> bool {
    let (Isa::Avx512(isa), Source::Stored(w, first, _)) = (isa, w) else { return false };
    let start = (first + row) * w.shape().1 + cols.start;
    let is_whole = |block: usize| start.is_multiple_of(block) && cols.len().is_multiple_of(block);
    if !cols.len().is_multiple_of(GROUP) {
        return false;
    }
    match w {
        FrozenWeight::Dense { bytes, dtype: dtype @ (DType::F16 | DType::BF16), .. } => {
            let bytes = &bytes.as_slice()[2 * start..2 * (start + cols.len())];
            isa.add_dense(bytes, *dtype == DType::F16, x, sums);
            true
        }
        FrozenWeight::FourBit(w) if w.block.is_multiple_of(GROUP) && is_whole(w.block) && !w.kind.low_half_first() => {
            let mut scales = [0.0; DECODE / SMALLEST_BLOCK];
            let scales = &mut scales[..cols.len() / w.block];
            w.absmax.run(start / w.block, scales);
            let bytes = &w.codes.as_slice()[start / 2..][..cols.len() / 2];
            let values = code_table(w.kind);
            isa.add_four_bit(&Codes { bytes, scales, values, rounding: w.rounding, block: w.block }, x, sums);
            true
        }
        FrozenWeight::Blocks { bytes, kind, .. } if is_whole(kind.block_len()) => {
            let (len, size) = (kind.block_len(), kind.block_bytes());
            let bytes = &bytes.as_slice()[start / len * size..(start + cols.len()) / len * size];
            isa.add_blocks(*kind, bytes, x, sums)
        }
        _ => false,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn add_decoded<const R: usize>(
    _: Isa,
    _: Source,
    _: usize,
    _: Range<usize>,
    _: &[&[f32]; R],
    _: &mut [f32; R],
) -> bool {
    false
}

/// The sum of all lanes, which is in the first one then: halves onto halves.
#[inline]
pub(super) fn in_pairs<const N: usize>(lanes: &mut [f32; N]) -> f32 {
    let mut width = N / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

vectorized! {
    /// `Σ a·b` in a fixed order: lanes first, then the lanes in pairs.
    pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
        let mut lanes = [0.0; LANES];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
                *lane += a * b;
            }
        }
        for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
            *lane += a * b;
        }
        in_pairs(&mut lanes)
    }
}

vectorized! {
    /// [`dot`] with numbers that are stored as bf16.
    fn dot_stored(a: &[f32], b: &[u8]) -> f32 {
        let mut lanes = [0.0; LANES];
        let (a, a_rest) = a.as_chunks::<LANES>();
        let (b, b_rest) = b.as_chunks::<{ 2 * LANES }>();
        for (a, b) in a.iter().zip(b) {
            for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b.as_chunks().0) {
                *lane += a * f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
            }
        }
        for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest.as_chunks().0) {
            *lane += a * f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
        }
        in_pairs(&mut lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::{DECODE, MOST_ROWS, dot, dots};
    use crate::backend::Write;
    use crate::cpu::gemm::{Epilogue, steps};
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::source::Source;
    use crate::host::{View, ViewMut};
    use crate::quant::{GgmlType, quantize};
    use crate::weight::{Bytes, DType, FourBitKind, FrozenWeight};

    fn noise(n: usize, mut state: u32) -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next()).collect()
    }

    /// The same matrix in every storage; rows of `cols` numbers.
    fn stored(rows: usize, cols: usize) -> Vec<FrozenWeight> {
        let data = noise(rows * cols, 3);
        let bytes = |dtype: DType| -> Vec<u8> {
            let narrow = |x: &f32| match dtype {
                DType::F32 => x.to_le_bytes().to_vec(),
                DType::F16 => half::f16::from_f32(*x).to_le_bytes().to_vec(),
                DType::BF16 => half::bf16::from_f32(*x).to_le_bytes().to_vec(),
            };
            data.iter().flat_map(narrow).collect()
        };
        let dense = |dtype| FrozenWeight::Dense { bytes: Bytes::from_vec(bytes(dtype)), dtype, rows, cols };
        let mut all: Vec<FrozenWeight> = [DType::F32, DType::F16, DType::BF16].map(dense).into();
        for (kind, block, rounding) in [
            (FourBitKind::Nf4, 64, DType::BF16),
            (FourBitKind::Nf4, 128, DType::F16),
            (FourBitKind::Fp4, 64, DType::F32),
            (FourBitKind::Nf4, 32, DType::BF16),
            (FourBitKind::Mxfp4, 64, DType::BF16),
        ] {
            all.push(FrozenWeight::FourBit(quantize(&data, rows, cols, kind, block, true, rounding)));
        }
        let cpu = crate::cpu::Cpu::new(1).expect("a processor");
        for kind in GgmlType::all() {
            let Some(row) = kind.row_bytes(cols) else { continue };
            let mut bytes = vec![0; row * rows];
            cpu.encode_blocks(kind, &mut bytes, &data, cols, None).expect("plain numbers");
            all.push(FrozenWeight::Blocks { bytes: Bytes::from_vec(bytes), kind, rows, cols });
        }
        all
    }

    #[test]
    fn short_rows_give_the_bits_of_long_ones_s4_5() {
        for cols in [1, 5, 8, 15, 16, 17] {
            let (x, w) = (noise(3 * cols, 3), noise(7 * cols, 5));
            let (x, w) = (View::dense(&x, 3, cols), View::dense(&w, 7, cols));
            for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
                let bias = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
                let mut y = vec![0.5; 21];
                let epilogue = Epilogue { alpha: 1.5, bias: Some(&bias), write: Write::Add };
                for tile in ViewMut::dense(&mut y, 3, 7).tiles(std::iter::once(0..3), 4) {
                    dots(isa, tile, x, Source::Dense(w), epilogue);
                }
                for (i, y) in y.iter().enumerate() {
                    let (r, j) = (i / 7, i % 7);
                    let want = 0.5 + 1.5 * dot(isa, x.row(r), w.row(j)) + bias[j];
                    assert_eq!(y.to_bits(), want.to_bits(), "{isa:?}, {cols}, {r}, {j}");
                }
            }
        }
    }

    #[test]
    fn weights_decoded_in_registers_give_the_bits_of_weights_decoded_in_memory() {
        for cols in [64, 512, 768, 1344, 100, 1] {
            let all = stored(5, cols);
            let x = noise(MOST_ROWS * cols, 7);
            for (at, w) in all.iter().enumerate() {
                for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
                    for rows in [1, 2, 3, 4, 5, 7, MOST_ROWS] {
                        let (x, source) = (View::dense(&x[..rows * cols], rows, cols), Source::Stored(w, 1, 4));
                        let mut y = vec![0.5; rows * 4];
                        let epilogue = Epilogue { alpha: 1.5, bias: Some(&[1.0, 2.0, 3.0, 4.0]), write: Write::Add };
                        for tile in ViewMut::dense(&mut y, rows, 4).tiles(std::iter::once(0..rows), 3) {
                            dots(isa, tile, x, source, epilogue);
                        }
                        for (i, y) in y.iter().enumerate() {
                            let (r, j) = (i / 4, i % 4);
                            let mut buffer = [0.0; DECODE];
                            let mut sum = 0.0;
                            for run in steps(0..cols, DECODE) {
                                let w = source.read(isa, j, run.clone(), &mut buffer);
                                sum += dot(isa, &x.row(r)[run], w);
                            }
                            let want = 0.5 + 1.5 * sum + (j + 1) as f32;
                            assert_eq!(
                                y.to_bits(),
                                want.to_bits(),
                                "{isa:?}, weight {at}, {cols}, row {r} of {rows}, {j}"
                            );
                        }
                    }
                }
            }
        }
    }
}
