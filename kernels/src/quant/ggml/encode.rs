//! f32 to the blocks of GGUF files, row by row, sixteen blocks or sub-blocks at a time.
//!
//! What is made small is `Σ w·(x - decoded)²`. Without an importance matrix `w` says that large elements
//! matter more, in types whose blocks have scales of scales; with one it is the importance of the column times a
//! size that keeps small elements from being forgotten, as llama.cpp has it.

use super::blocks32;
use super::blocks256;
use super::grid::{rounded, settle, settle_affine, step};
use super::lanes::{Columns, LANES, Lanes, codes, side_by_side};
use super::search::symmetric;
use super::search_affine::{Centred, Starts, affine};
use super::{GgmlType, table};
use crate::cpu::simd_dispatch::vectorized;
use half::f16;

/// In place of the length of a block: the whole row.
const ROW: usize = 0;

/// What makes an element matter more than another.
#[derive(Clone, Copy)]
enum Weighing {
    /// All the same.
    Even,
    /// `|x|` and the root mean square of the sub-block.
    SizeAndMean,
    /// `x²`
    Square,
}

/// How the importance of a column becomes a weight.
#[derive(Clone, Copy)]
enum Importance {
    /// As it is.
    Alone,
    /// `importance·√(σ² + x²)`, with σ² so many times the mean of x² over the block, or the row.
    Sized(f32),
}

/// A part of a row with its importance, up to sixteen sub-blocks.
#[derive(Clone, Copy)]
struct Part<'a> {
    x: &'a [f32],
    importance: Option<&'a [f32]>,
    /// Mean of x² over the row, where there is importance.
    mean_square: f32,
}

impl Part<'_> {
    /// The elements and their weights side by side; the weights of a lane have the mean 1, and what it was comes third.
    #[inline(always)]
    fn weighed<const N: usize>(
        self,
        plain: Weighing,
        given: Importance,
        block: usize,
    ) -> (Columns<N>, Columns<N>, Lanes) {
        let x: Columns<N> = side_by_side(self.x);
        let mut w = match self.importance {
            None => {
                let mut w = x;
                match plain {
                    Weighing::Even => w.fill(Lanes::all(1.0)),
                    Weighing::Square => w = w.map(|w| w * w),
                    Weighing::SizeAndMean => {
                        let mean = (squares(&x) * Lanes::all(1.0 / N as f32)).sqrt();
                        for w in &mut w {
                            *w = w.abs() + mean;
                        }
                    }
                }
                w
            }
            Some(importance) => {
                let mut w: Columns<N> = side_by_side(importance);
                if let Importance::Sized(times) = given {
                    let mean = if block == ROW { Lanes::all(self.mean_square) } else { means::<N>(&x, block) };
                    let mean = mean * Lanes::all(times);
                    w.iter_mut().zip(&x).for_each(|(w, &x)| *w = *w * (mean + x * x).sqrt());
                }
                w
            }
        };
        let sum = w.iter().fold(Lanes::ZERO, |sum, &w| sum + w);
        let mean = sum * Lanes::all(1.0 / N as f32);
        let scale = mean.inverse();
        for w in &mut w {
            // A block that nothing speaks for is weighed evenly.
            *w = Lanes::where_less(Lanes::ZERO, scale, *w * scale, Lanes::all(1.0));
        }
        (x, w, mean)
    }
}

#[inline(always)]
fn squares<const N: usize>(x: &Columns<N>) -> Lanes {
    x.iter().fold(Lanes::ZERO, |sum, &x| sum + x * x)
}

/// Each lane: the mean of x² over the block of `block` elements that the lane is a part of.
#[inline(always)]
fn means<const N: usize>(x: &Columns<N>, block: usize) -> Lanes {
    let (sums, mut out) = (squares(x), Lanes::ZERO);
    for first in (0..LANES).step_by(block / N) {
        let lanes = first..first + block / N;
        let mean = sums.sum(lanes.clone()) / block as f32;
        out.0[lanes].fill(mean);
    }
    out
}

/// `make` for every part of `len` elements of a row and the bytes of its blocks.
#[inline(always)]
fn parts(
    x: &[f32],
    importance: Option<&[f32]>,
    len: usize,
    bytes: usize,
    out: &mut [u8],
    make: impl Fn(Part, &mut [u8]),
) {
    let mean_square = if importance.is_some() {
        let sums = x.as_chunks().0.iter().fold(Lanes::ZERO, |sums, &x| sums + Lanes(x) * Lanes(x));
        sums.sum(0..LANES) / x.len() as f32
    } else {
        0.0
    };
    for (i, (x, out)) in x.chunks(len).zip(out.chunks_mut(bytes)).enumerate() {
        let importance = importance.map(|all| &all[i * len..i * len + x.len()]);
        make(Part { x, importance, mean_square }, out);
    }
}

/// What distinguishes the types of 256 elements whose sub-blocks have a scale and a minimum.
struct AffineGrid {
    /// The largest code.
    top: f32,
    /// The largest integer of scales and minima.
    high: f32,
    plain: Weighing,
    starts: Starts,
}

/// `S` sub-blocks of `N` elements with scale and minimum: `pack(block, d, dmin, scales, mins, codes)`.
#[inline(always)]
fn affine_blocks<const N: usize, const S: usize>(
    part: Part,
    grid: &AffineGrid,
    mut pack: impl FnMut(usize, f16, f16, &[u8; S], &[u8; S], &[u8; 256]),
) {
    let &AffineGrid { top, high, plain, starts } = grid;
    let (x, w, mean) = part.weighed::<N>(plain, Importance::Sized(2.0), 256);
    let sub_blocks = Centred::new(&x, w);
    let fit = affine(&x, &sub_blocks, top, starts, false);
    let (scale_cost, min_cost) = (fit.energy * mean, sub_blocks.weight * mean);
    let depth = Lanes::ZERO - fit.min;
    let blocks = part.x.len() / 256;
    let (mut d, mut dmin) = ([f16::ZERO; LANES], [f16::ZERO; LANES]);
    for block in 0..blocks {
        let lanes = block * S..(block + 1) * S;
        d[lanes.clone()].fill(step(fit.scale, scale_cost, lanes.clone(), 0.0, high, high));
        dmin[lanes.clone()].fill(step(depth, min_cost, lanes, 0.0, high, high));
    }
    let (by, by_min) = (Lanes(d.map(f16::to_f32)), Lanes(dmin.map(f16::to_f32)));
    let (scales, mins) = settle_affine(&sub_blocks, &fit, by, by_min, top, high);
    let (steps, offs) = (by * scales, by_min * mins);
    for (block, x) in part.x.as_chunks::<256>().0.iter().enumerate() {
        let first = block * S;
        let mut q = [0; 256];
        for (i, (x, q)) in x.as_chunks::<N>().0.iter().zip(q.as_chunks_mut::<N>().0).enumerate() {
            codes(x, steps.0[first + i], offs.0[first + i], 0.0, top, 0.0, q);
        }
        let small = |v: &Lanes| std::array::from_fn(|i| v.0[first + i] as u8);
        pack(block, d[first], dmin[first], &small(&scales), &small(&mins), &q);
    }
}

/// What distinguishes the types of 256 elements whose sixteen sub-blocks have a scale alone.
struct ScaleGrid {
    /// Codes are in `-top ..= top - 1`.
    top: f32,
    /// Integers of scales are in `-reach ..= reach - 1`.
    reach: f32,
    plain: Weighing,
    given: Importance,
}

/// One block of sixteen sub-blocks with a scale each: f16, scales, codes, both as they are without an offset.
#[inline(always)]
fn scaled_block(part: Part, grid: &ScaleGrid) -> (f16, [i8; 16], [u8; 256]) {
    let &ScaleGrid { top, reach, plain, given } = grid;
    let (x, w, mean) = part.weighed::<16>(plain, given, 256);
    let fit = symmetric(&x, &w, top, 9);
    let d = step(fit.scale, fit.energy * mean, 0..LANES, -reach, reach - 1.0, -reach);
    let by = Lanes::all(d.to_f32());
    let scales = settle(&x, &w, &fit, by, top, -reach, reach - 1.0);
    let steps = by * scales;
    let mut q = [0; 256];
    for ((x, q), step) in part.x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).zip(steps.0) {
        codes(x, step, 0.0, -top, top - 1.0, top, q);
    }
    (d, scales.0.map(|scale| scale as i8), q)
}

/// Blocks of 32 with a scale: `pack(block, d, codes)`.
#[inline(always)]
fn symmetric_blocks(part: Part, top: f32, mut pack: impl FnMut(usize, f16, &[u8; 32])) {
    let (x, w, _) = part.weighed::<32>(Weighing::Even, Importance::Sized(1.0), ROW);
    let fit = symmetric(&x, &w, top, 9);
    for (block, x) in part.x.as_chunks::<32>().0.iter().enumerate() {
        let d = f16::from_f32(fit.scale.0[block]);
        let mut q = [0; 32];
        codes(x, d.to_f32(), 0.0, -top, top - 1.0, top, &mut q);
        pack(block, d, &q);
    }
}

/// Blocks of 32 with a scale and a minimum: `pack(block, d, m, codes)`.
#[inline(always)]
fn offset_blocks(part: Part, top: f32, mut pack: impl FnMut(usize, f16, f16, &[u8; 32])) {
    let (x, w, _) = part.weighed::<32>(Weighing::Even, Importance::Sized(1.0), ROW);
    let blocks = Centred::new(&x, w);
    let fit = affine(&x, &blocks, top, STARTS, true);
    let (d, m) = rounded(&blocks, &fit, top);
    for (block, x) in part.x.as_chunks::<32>().0.iter().enumerate() {
        let (d, m) = (d[block], m[block]);
        let mut q = [0; 32];
        codes(x, d.to_f32(), -m.to_f32(), 0.0, top, 0.0, &mut q);
        pack(block, d, m, &q);
    }
}

/// Blocks of 32 that look values up.
#[inline(always)]
fn table_blocks(part: Part, mut pack: impl FnMut(usize, f16, &[u8; 32])) {
    let (x, w, _) = part.weighed::<32>(Weighing::SizeAndMean, Importance::Sized(2.0), 32);
    let scale = table::scale(&x, &w);
    for (block, x) in part.x.as_chunks::<32>().0.iter().enumerate() {
        let d = f16::from_f32(scale.0[block]);
        let mut q = [0; 32];
        table::codes(x, d.to_f32(), &mut q);
        pack(block, d, &q);
    }
}

/// Blocks of 32 with eight bits and a scale.
#[inline(always)]
fn eight_bits(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut().0) {
        let largest = x.iter().fold(0.0, |a: f32, x| if x.abs() > a { x.abs() } else { a });
        let d = f16::from_f32(largest / 127.0);
        let mut q = [0; 32];
        codes(x, d.to_f32(), 0.0, -127.0, 127.0, 0.0, &mut q);
        blocks32::pack_q8_0(out, d, &q);
    }
}

#[inline(always)]
fn halves(x: &[f32], out: &mut [u8], convert: impl Fn(f32) -> [u8; 2]) {
    out.as_chunks_mut().0.iter_mut().zip(x).for_each(|(out, &x)| *out = convert(x));
}

/// The upper half of `x`, rounded to nearest, of two to the even one; without a branch. A NaN stays one.
#[inline(always)]
fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    // No carry can leave the 32 bits: what is above infinity is a NaN, and takes the other way.
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

/// Block `i` of `B` bytes.
#[inline(always)]
fn nth<const B: usize>(out: &mut [u8], i: usize) -> &mut [u8; B] {
    &mut out.as_chunks_mut::<B>().0[i]
}

/// Where searches for codes of four bits and more start.
const STARTS: Starts = Starts { from: -1.0, step: 0.1, tries: 20 };
const FIVE_BITS: AffineGrid = AffineGrid { top: 31.0, high: 63.0, plain: Weighing::SizeAndMean, starts: STARTS };
const FOUR_BITS: AffineGrid = AffineGrid { top: 15.0, high: 63.0, plain: Weighing::SizeAndMean, starts: STARTS };
const TWO_BITS: AffineGrid = AffineGrid {
    top: 3.0,
    high: 15.0,
    plain: Weighing::SizeAndMean,
    starts: Starts { from: -0.9, step: 0.05, tries: 36 },
};
const SIX_BITS: ScaleGrid = ScaleGrid { plain: Weighing::Square, top: 32.0, reach: 128.0, given: Importance::Alone };
const THREE_BITS: ScaleGrid =
    ScaleGrid { plain: Weighing::SizeAndMean, top: 4.0, reach: 32.0, given: Importance::Sized(2.0) };

vectorized! {
    /// One row, whole blocks, as `kind`.
    pub(crate) fn encode_row(kind: GgmlType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match kind {
            GgmlType::F32 => out.as_chunks_mut().0.iter_mut().zip(x).for_each(|(out, x)| *out = x.to_le_bytes()),
            GgmlType::F16 => halves(x, out, |x| f16::from_f32(x).to_le_bytes()),
            GgmlType::BF16 => halves(x, out, |x| bf16_bits(x).to_le_bytes()),
            GgmlType::Q8_0 => eight_bits(x, out),
            GgmlType::Q6K => parts(x, importance, 256, 210, out, |part, out| {
                let (d, scales, codes) = scaled_block(part, &SIX_BITS);
                blocks256::pack_q6_k(nth(out, 0), d, &scales.map(|scale| scale as u8), &codes);
            }),
            GgmlType::Q5K => parts(x, importance, 512, 2 * 176, out, |part, out| {
                affine_blocks::<32, 8>(part, &FIVE_BITS, |i, d, dmin, scales, mins, codes| {
                    blocks256::pack_q5_k(nth(out, i), d, dmin, scales, mins, codes);
                });
            }),
            GgmlType::Q4K => parts(x, importance, 512, 2 * 144, out, |part, out| {
                affine_blocks::<32, 8>(part, &FOUR_BITS, |i, d, dmin, scales, mins, codes| {
                    blocks256::pack_q4_k(nth(out, i), d, dmin, scales, mins, codes);
                });
            }),
            GgmlType::Q3K => parts(x, importance, 256, 110, out, |part, out| {
                let (d, scales, codes) = scaled_block(part, &THREE_BITS);
                blocks256::pack_q3_k(nth(out, 0), d, &scales.map(|scale| (scale + 32) as u8), &codes);
            }),
            GgmlType::Q2K => parts(x, importance, 256, 84, out, |part, out| {
                affine_blocks::<16, 16>(part, &TWO_BITS, |i, d, dmin, scales, mins, codes| {
                    blocks256::pack_q2_k(nth(out, i), d, dmin, scales, mins, codes);
                });
            }),
            GgmlType::Q5_0 => parts(x, importance, 512, 16 * 22, out, |part, out| {
                symmetric_blocks(part, 16.0, |i, d, codes| blocks32::pack_q5_0(nth(out, i), d, codes));
            }),
            GgmlType::Q5_1 => parts(x, importance, 512, 16 * 24, out, |part, out| {
                offset_blocks(part, 31.0, |i, d, m, codes| blocks32::pack_q5_1(nth(out, i), d, m, codes));
            }),
            GgmlType::Q4_0 => parts(x, importance, 512, 16 * 18, out, |part, out| {
                symmetric_blocks(part, 8.0, |i, d, codes| blocks32::pack_four(nth(out, i), d, codes));
            }),
            GgmlType::Q4_1 => parts(x, importance, 512, 16 * 20, out, |part, out| {
                offset_blocks(part, 15.0, |i, d, m, codes| blocks32::pack_q4_1(nth(out, i), d, m, codes));
            }),
            GgmlType::Iq4Nl => parts(x, importance, 512, 16 * 18, out, |part, out| {
                table_blocks(part, |i, d, codes| blocks32::pack_four(nth(out, i), d, codes));
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bf16_bits;
    use half::bf16;

    #[test]
    fn the_upper_half_is_rounded_as_everywhere() {
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let x = f32::from_bits(u32::from(high) << 16 | low);
                assert_eq!(bf16_bits(x), bf16::from_f32(x).to_bits(), "{:08x}", x.to_bits());
            }
        }
    }
}
