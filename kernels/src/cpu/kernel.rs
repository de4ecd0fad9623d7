//! The register tile and the table look-up of each instruction set, behind one face.

use super::factors::{Factors, halves};
use super::packed::SQUARE;
use super::panels::Pair;
#[cfg(target_arch = "x86_64")]
use super::simd_avx512bf16::Avx512Bf16;
use super::simd_dispatch::Isa;
#[cfg(target_arch = "aarch64")]
use super::simd_neon;
use super::simd_portable;
use super::source::scaled_table;
use super::tiles::BLOCK;
#[cfg(target_arch = "x86_64")]
use super::{simd_avx2, simd_avx512};
use crate::weight::DType;

/// Room for the sums of any register tile: the largest is 14 x 32.
pub(super) type Sums = [f32; 448];

impl Isa {
    /// Rows of the register tile; the width of a packed panel of the left operand.
    pub(super) fn mr(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => simd_avx512::MR,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => simd_avx2::MR,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => simd_neon::MR,
            Self::Portable | Self::PortableTiles => simd_portable::MR,
        }
    }

    /// Columns of the register tile; the width of a packed panel of the right operand.
    pub(super) fn nr(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => simd_avx512::NR,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => simd_avx2::NR,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => simd_neon::NR,
            Self::Portable | Self::PortableTiles => simd_portable::NR,
        }
    }

    /// `sums[r·nr + c] = Σ_d a[d·mr + r]·b[d·nr + c]` for at least the first `rows` and `cols`.
    pub(super) fn tile(self, a: &[f32], b: &[f32], rows: usize, cols: usize, sums: &mut Sums) {
        debug_assert!(rows <= self.mr() && cols <= self.nr(), "a tile holds its rows and columns");
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.tile(&[(a, b)], rows, cols, rectangle(sums)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(isa) => isa.tile(&[(a, b)], rows, cols, rectangle(sums)),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(isa) => isa.tile(a.as_chunks().0, b.as_chunks().0, rows, cols, rectangle(sums)),
            Self::Portable | Self::PortableTiles => {
                simd_portable::tile(a.as_chunks().0, b.as_chunks().0, rectangle(sums));
            }
        }
    }

    /// What rounds numbers to pairs of bf16 and multiplies them.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn pairs(self) -> Option<Avx512Bf16> {
        if let Self::Avx512(isa) = self { isa.bf16() } else { None }
    }

    /// Rows of the squares in which the left operand of such factors lies, where it does not lie in panels.
    pub(super) fn squares(self, factors: Factors) -> Option<usize> {
        #[cfg(target_arch = "x86_64")]
        if self.pairs().is_some() && factors == Factors::Bf16 {
            return Some(self.tiles(factors).map_or(simd_avx512::MR, |_| BLOCK));
        }
        self.tiles(factors).map(|_| BLOCK)
    }

    /// The tile of panels whose words are what `factors` packs, or of squares and a panel: the sum over all pairs of
    /// them. Panels of pairs are for processors that have an instruction for those.
    pub(super) fn tile_of(self, factors: Factors, pairs: &[Pair], rows: usize, cols: usize, sums: &mut Sums) {
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = self.pairs()
            && factors == Factors::Bf16
        {
            return isa.tile(pairs, rows, cols, rectangle(sums));
        }
        debug_assert!(factors == Factors::F32, "what has no instruction for pairs multiplies numbers");
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512(isa) => return isa.tile(pairs, rows, cols, rectangle(sums)),
            Self::Avx2(isa) => return isa.tile(pairs, rows, cols, rectangle(sums)),
            _ => {}
        }
        let Some(((a, b), rest)) = pairs.split_first() else { return sums.fill(0.0) };
        self.tile(a, b, rows, cols, sums);
        for (a, b) in rest {
            let mut part: Sums = [0.0; 448];
            self.tile(a, b, rows, cols, &mut part);
            sums.iter_mut().zip(&part).for_each(|(sum, part)| *sum += part);
        }
    }

    /// `panel[d·width + at + i] = rows[i][d]` for rows of equal length.
    pub(super) fn transpose(self, rows: &[&[f32]; 8], width: usize, at: usize, panel: &mut [f32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.avx2().transpose(rows, width, at, panel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(isa) => isa.transpose(rows, width, at, panel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => simd_portable::transpose(rows, width, at, panel),
            Self::Portable | Self::PortableTiles => simd_portable::transpose(rows, width, at, panel),
        }
    }

    /// Pairs of two columns of 32 rows become pairs of two rows of 32 columns, where there are vectors for it. False
    /// elsewhere, and nothing is done.
    pub(super) fn turn_pairs(self, square: &[f32; SQUARE], out: &mut [f32; SQUARE]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let Self::Avx512(isa) = self {
            isa.turn_pairs(square, out);
            return true;
        }
        let _ = (square, out);
        false
    }

    /// `panel[d·6 + i] = rows[i][d]` of panels that wide, where it is quicker than one number after the other. False
    /// elsewhere, and nothing is done.
    pub(super) fn transpose_six(self, rows: &[&[f32]; 6], panel: &mut [f32]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let Self::Avx2(isa) = self {
            isa.turn_six(rows, panel);
            return true;
        }
        let _ = (rows, panel);
        false
    }

    /// The same of twice as many rows.
    pub(super) fn transpose_sixteen(self, rows: &[&[f32]; 16], width: usize, at: usize, panel: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if let Self::Avx512(isa) = self {
            return isa.transpose(rows, width, at, panel);
        }
        let (rows, _) = rows.as_chunks();
        self.transpose(&rows[0], width, at, panel);
        self.transpose(&rows[1], width, at + 8, panel);
    }

    /// Whole blocks of 4-bit codes, each under its scale: `out[i] = round(values[code i]·scale)`.
    pub(super) fn decode_blocks(
        self,
        codes: &[u8],
        scales: &[f32],
        values: &[f32; 16],
        rounding: DType,
        block: usize,
        out: &mut [f32],
    ) {
        assert!(block.is_multiple_of(2) && out.len() == scales.len() * block && codes.len() * 2 == out.len());
        #[cfg(target_arch = "x86_64")]
        if let Self::Avx512(isa) = self {
            return isa.decode_blocks(codes, scales, values, rounding, block, out);
        }
        let mut table = [0.0; 16];
        for ((codes, out), &scale) in codes.chunks_exact(block / 2).zip(out.chunks_exact_mut(block)).zip(scales) {
            scaled_table(self, &mut table, values, scale, rounding);
            self.look_up(codes, &table, out);
        }
    }

    /// The same as pairs of bf16: a byte of two codes becomes a word.
    pub(super) fn decode_pairs(
        self,
        codes: &[u8],
        scales: &[f32],
        values: &[f32; 16],
        rounding: DType,
        block: usize,
        out: &mut [f32],
    ) {
        assert!(block.is_multiple_of(2) && codes.len() == scales.len() * block / 2 && codes.len() == out.len());
        #[cfg(target_arch = "x86_64")]
        if let Self::Avx512(isa) = self {
            return isa.decode_pairs(codes, scales, values, rounding, block, out);
        }
        let (mut table, mut low, mut high) = ([0.0; 16], [0.0; 16], [0.0; 16]);
        for ((codes, out), &scale) in codes.chunks_exact(block / 2).zip(out.chunks_exact_mut(block / 2)).zip(scales) {
            scaled_table(self, &mut table, values, scale, rounding);
            halves(self, &mut low, &mut high, &table);
            simd_portable::look_up_pairs(codes, &low, &high, out);
        }
    }

    /// `out[i] = table[code i]`, two codes a byte, the first in the high nibble.
    pub(super) fn look_up(self, codes: &[u8], table: &[f32; 16], out: &mut [f32]) {
        assert_eq!(codes.len(), out.len().div_ceil(2), "two codes a byte");
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.look_up(codes, table, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(isa) => isa.look_up(codes, table, out),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => simd_portable::look_up(codes, table, out),
            Self::Portable | Self::PortableTiles => simd_portable::look_up(codes, table, out),
        }
    }
}

/// The first `M·N` sums as `[M, N]`.
fn rectangle<const M: usize, const N: usize>(sums: &mut Sums) -> &mut [[f32; N]; M] {
    let rows = sums.as_chunks_mut::<N>().0;
    rows.first_chunk_mut().expect("no tile is larger than `Sums`")
}

#[cfg(test)]
mod tests {
    use super::{Factors, Isa, Sums};
    use crate::cpu::factors::pair_rows;
    use crate::cpu::path::{PATHS, Path};

    #[test]
    fn every_tile_of_pairs_agrees_with_a_loop() {
        // What multiplies tiles has tests of its own, and what has no instruction for pairs multiplies none.
        let pairs = |isa: &Isa| isa.squares(Factors::Bf16).is_some() && isa.tiles(Factors::Bf16).is_none();
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)).filter(pairs) {
            // Words of the depth: more than are widened together.
            let (mr, nr, words) = (isa.mr(), isa.nr(), 37);
            // Small whole numbers: bf16 holds them, and their sums are exact in any order.
            let a: Vec<f32> = (0..2 * words * mr).map(|i| ((i * 7) % 11) as f32 - 5.0).collect();
            let b: Vec<f32> = (0..2 * words * nr).map(|i| ((i * 5) % 13) as f32 - 6.0).collect();
            let packed = |x: &[f32], width: usize| -> Vec<f32> {
                let mut out = vec![f32::NAN; words * width];
                for (out, steps) in out.chunks_exact_mut(width).zip(x.chunks_exact(2 * width)) {
                    pair_rows(isa, out, &steps[..width], &steps[width..]);
                }
                out
            };
            let (a_panel, b_pairs) = (packed(&a, mr), packed(&b, nr));
            let at = |i: usize| (i / (16 * mr) * 16 + i % 16, i / 16 % mr);
            let word = |(d, row): (usize, usize)| if d < words { a_panel[d * mr + row] } else { 0.0 };
            let a_pairs: Vec<f32> = (0..words.next_multiple_of(16) * mr).map(|i| word(at(i))).collect();
            for (rows, cols) in (1..=mr).flat_map(|rows| (1..=nr).map(move |cols| (rows, cols))) {
                let mut sums: Sums = [f32::NAN; 448];
                isa.tile_of(Factors::Bf16, &[(&a_pairs, &b_pairs)], rows, cols, &mut sums);
                for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                    let want: f32 = (0..2 * words).map(|d| a[d * mr + r] * b[d * nr + c]).sum();
                    assert_eq!(sums[r * nr + c], want, "{isa:?} {rows}x{cols} at ({r}, {c})");
                }
            }
        }
    }

    #[test]
    fn every_tile_and_look_up_agrees_with_a_loop() {
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            let (mr, nr, depth) = (isa.mr(), isa.nr(), 37);
            let a: Vec<f32> = (0..depth * mr).map(|i| ((i * 7) % 11) as f32 - 5.0).collect();
            let b: Vec<f32> = (0..depth * nr).map(|i| ((i * 5) % 13) as f32 - 6.0).collect();
            for (rows, cols) in (1..=mr).flat_map(|rows| (1..=nr).map(move |cols| (rows, cols))) {
                let mut sums: Sums = [f32::NAN; 448];
                isa.tile(&a, &b, rows, cols, &mut sums);
                for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                    let want: f32 = (0..depth).map(|d| a[d * mr + r] * b[d * nr + c]).sum();
                    assert_eq!(sums[r * nr + c], want, "{isa:?} {rows}x{cols} at ({r}, {c})");
                }
            }
            let table: [f32; 16] = std::array::from_fn(|i| i as f32 * 1.5);
            for n in 0..130_usize {
                let codes: Vec<u8> = (0..n).map(|i| (i * 37 + 5) as u8).take(n.div_ceil(2)).collect();
                let mut out = vec![f32::NAN; n];
                isa.look_up(&codes, &table, &mut out);
                for (i, &x) in out.iter().enumerate() {
                    let code = if i % 2 == 0 { codes[i / 2] >> 4 } else { codes[i / 2] & 15 };
                    assert_eq!(x, table[usize::from(code)], "{isa:?} element {i} of {n}");
                }
            }
        }
    }
}
