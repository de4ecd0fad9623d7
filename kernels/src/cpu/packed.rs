//! Frozen weights rearranged once, when they are loaded, into the panels of pairs that products read.
//!
//! Panels are those of a right operand `wᵀ` (`pack.rs`): 32 rows of the weight side by side, a word for two of its
//! columns, all of them deep. `x·wᵀ` multiplies them where they lie. `dy·w` needs pairs of rows instead: two pairs of two
//! lanes are a square of four numbers, which is turned, and so are sixteen times sixteen of those, from one stretch of
//! memory into another. Few rows are multiplied lane by lane (with 512-bit vectors from registers, `simd_avx512_dots.rs`:
//! the compiler makes gathers of the loop), and single rows are gathered. So there is one copy of the
//! weight, of the size it is stored in, and its numbers are those of the file: bf16 is what the words hold.
//!
//! | path | packed | why |
//! | --- | --- | --- |
//! | bf16 with tiles (AMX, its model) or pairs in registers | dense bf16 | products are quick, packing a large share |
//! | the same | dense f32, f16 | no: few rows and embeddings would see rounded numbers |
//! | the same | four and eight bits | no: they are decoded in the product, and are smaller |
//! | all others, and f32 | nothing | f32 panels are twice a bf16 file; products take most of a step |
//!
//! What packing once wins was measured on a Zen 4, without tiles; with them it is predicted (`MEASUREMENTS.md`).

use super::factors::{Factors, stored_pairs};
use super::gemm::{Epilogue, steps};
use super::interleaved::Interleaved;
use super::pack::DECODE;
use super::panels::Kernel;
use super::pool::Pool;
use super::simd_dispatch::{Isa, ask_for, vectorized};
use super::tiles::{BLOCK, SIDE};
use crate::error::{Error, Result};
use crate::host::{self, Tile, View};
use crate::weight::{DType, FrozenWeight};
use std::ops::Range;

/// Words of the square that is turned at a time: 32 rows of the weight, 32 columns.
pub(super) const SQUARE: usize = SIDE * BLOCK;
/// Squares that are asked for ahead of the one that is turned: they lie far from each other.
const SQUARES_AHEAD: usize = 2;
/// Columns and rows of such a square.
const STEP: usize = 2 * SIDE;
/// Independent sums of one product of few rows (`dots.rs`).
const LANES: usize = 64;
/// Floats of a line of the cache, where panels begin.
const LINE: usize = 16;

/// A frozen weight as this backend holds it.
#[derive(Debug)]
pub enum Held {
    /// As it is stored.
    Stored(FrozenWeight),
    /// In panels.
    Packed(Packed),
    /// Eight rows side by side.
    Interleaved(Interleaved),
}

impl Held {
    /// `(rows, cols)`.
    pub(super) fn shape(&self) -> (usize, usize) {
        match self {
            Self::Stored(w) => w.shape(),
            Self::Packed(w) => (w.rows, w.cols),
            Self::Interleaved(w) => w.shape(),
        }
    }
}

/// A weight in panels.
pub struct Packed {
    /// Panel after panel, from `start`.
    words: Vec<f32>,
    start: usize,
    rows: usize,
    cols: usize,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed([{}, {}])", self.rows, self.cols)
    }
}

/// Panels as a product reads them: the first of them from some depth on.
#[derive(Clone, Copy)]
pub(super) struct Lying<'a> {
    pub(super) words: &'a [f32],
    /// From one panel to the next.
    pub(super) stride: usize,
}

/// Whether products of this kernel read such panels.
fn reads(kernel: Kernel) -> bool {
    let Kernel { isa, factors, nr, .. } = kernel;
    factors == Factors::Bf16 && isa.squares(factors).is_some() && nr == BLOCK
}

/// Whether `w` is to be packed for products of this kernel.
pub(super) fn is_packed_for(kernel: Kernel, w: &FrozenWeight) -> bool {
    let FrozenWeight::Dense { dtype: DType::BF16, rows, cols, .. } = w else { return false };
    reads(kernel) && *rows > 0 && *cols > 0 && cols.is_multiple_of(STEP)
}

impl Packed {
    /// `w` in panels: for which [`is_packed_for`] holds.
    pub(super) fn new(pool: &Pool, isa: Isa, w: &FrozenWeight) -> Result<Self> {
        let FrozenWeight::Dense { bytes, dtype: DType::BF16, rows, cols } = w else {
            return Err(Error::Weight { what: "only dense bf16 is packed".into() });
        };
        let (rows, cols) = (*rows, *cols);
        let len = rows.next_multiple_of(BLOCK) * (cols / 2);
        let mut words: Vec<f32> = host::zeros("packed_weight", 1, len + LINE)?;
        let start = words.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let stride = BLOCK * (cols / 2);
        let tasks = words[start..start + len].chunks_exact_mut(stride).enumerate().collect();
        pool.each(tasks, |(i, panel): (usize, &mut [f32])| {
            let lanes = i * BLOCK..rows.min((i + 1) * BLOCK);
            let mut both = [[0.0; SIDE]; BLOCK];
            for (at, square) in panel.as_chunks_mut::<SQUARE>().0.iter_mut().enumerate() {
                for (to, lane) in both.iter_mut().zip(lanes.clone()) {
                    let from = 2 * (lane * cols + at * STEP);
                    stored_pairs(isa, to, &bytes.as_slice()[from..from + 2 * STEP]);
                }
                turn_words(isa, &both, square);
            }
        });
        Ok(Self { words, start, rows, cols })
    }

    /// Columns of the weight.
    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    fn panels(&self) -> &[f32] {
        &self.words[self.start..][..self.rows.next_multiple_of(BLOCK) * (self.cols / 2)]
    }

    /// Words of a panel.
    fn stride(&self) -> usize {
        BLOCK * (self.cols / 2)
    }

    /// Some rows as lanes of a right operand and columns as its depth, where they lie; `None` where they begin
    /// elsewhere than panels and squares do, or for another kernel.
    pub(super) fn lying(&self, kernel: Kernel, rows: &Range<usize>, depth: &Range<usize>) -> Option<Lying<'_>> {
        let fits =
            rows.start.is_multiple_of(BLOCK) && depth.start.is_multiple_of(STEP) && depth.end.is_multiple_of(STEP);
        let first = rows.start / BLOCK * self.stride() + depth.start / 2 * BLOCK;
        (reads(kernel) && fits).then(|| Lying { words: &self.panels()[first..], stride: self.stride() })
    }

    /// Some columns as lanes and rows as depth, in pairs of rows, into panels of `words` each. False where they begin
    /// elsewhere than squares do.
    pub(super) fn turn(
        &self,
        kernel: Kernel,
        cols: &Range<usize>,
        rows: &Range<usize>,
        words: usize,
        out: &mut [f32],
    ) -> bool {
        let isa = kernel.isa;
        // Behind the last row there are zeros.
        let ends = if rows.end == self.rows { rows.start } else { rows.end };
        let fits = [cols.start, cols.end, rows.start, ends].into_iter().all(|at| at.is_multiple_of(STEP));
        if !fits || !words.is_multiple_of(SIDE) || !reads(kernel) {
            return false;
        }
        let mut both = [[0.0; SIDE]; BLOCK];
        for (panel, col) in out.chunks_exact_mut(BLOCK * words).zip(cols.clone().step_by(STEP)) {
            let squares = panel.as_chunks_mut::<SQUARE>().0.iter_mut();
            for (to, row) in squares.zip(rows.clone().step_by(STEP)) {
                let from = row / BLOCK * self.stride() + col / 2 * BLOCK;
                let Some(square) = self.panels()[from..].first_chunk::<SQUARE>() else { continue };
                if let Some(next) = self.panels().get(from + SQUARES_AHEAD * self.stride()..) {
                    ask_for(&next[..next.len().min(SQUARE)]);
                }
                if !isa.turn_pairs(square, to) {
                    part(isa, &mut both, square);
                    turn_words(isa, &both, to);
                }
            }
        }
        true
    }

    /// Part of a row.
    pub(super) fn read(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        assert!(row < self.rows && cols.end <= self.cols, "row {row} of {}", self.rows);
        let lanes = self.panels()[row / BLOCK * self.stride()..].chunks_exact(BLOCK);
        let mut words = lanes.skip(cols.start / 2).map(|words| words[row % BLOCK].to_bits());
        let mut out = out[..cols.len()].iter_mut();
        if !cols.start.is_multiple_of(2)
            && let (Some(y), Some(word)) = (out.next(), words.next())
        {
            *y = f32::from_bits(word & 0xFFFF_0000);
        }
        let (pairs, odd) = out.into_slice().as_chunks_mut::<2>();
        for (pair, word) in pairs.iter_mut().zip(&mut words) {
            *pair = [f32::from_bits(word << 16), f32::from_bits(word & 0xFFFF_0000)];
        }
        if let (Some(y), Some(word)) = (odd.first_mut(), words.next()) {
            *y = f32::from_bits(word << 16);
        }
    }

    /// `tile (=|+=) alpha·x·wᵀ + bias` for few rows of `x`; column `0` of the result is row `first` of the weight. The
    /// bits of `dots.rs`: as many sums of a row, in the same order, but of 32 rows of the weight side by side.
    pub(super) fn dots(&self, isa: Isa, mut tile: Tile, x: View, first: usize, epilogue: Epilogue) {
        let width = tile.rows.first().map_or(0, |row| row.len());
        let all = first + tile.col..first + tile.col + width;
        let mut sums = vec![[0.0; BLOCK]; x.rows()];
        let mut parts = [[0.0; BLOCK]; LANES];
        for panel in all.start / BLOCK..all.end.div_ceil(BLOCK) {
            sums.fill([0.0; BLOCK]);
            for cols in steps(0..self.cols, DECODE) {
                let words = &self.panels()[panel * self.stride() + cols.start / 2 * BLOCK..][..cols.len() / 2 * BLOCK];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = &x.row(r)[cols.clone()];
                    #[cfg(target_arch = "x86_64")]
                    if let Isa::Avx512(isa) = isa {
                        isa.add_panel(words.as_chunks().0, x, sums);
                        continue;
                    }
                    add_lanes(isa, sums, &mut parts, words.as_chunks().0, x);
                }
            }
            let lanes = all.start.max(panel * BLOCK)..all.end.min((panel + 1) * BLOCK);
            for (row, sums) in tile.rows.iter_mut().zip(&sums) {
                for lane in lanes.clone() {
                    let (j, sum) = (lane - all.start, sums[lane % BLOCK]);
                    epilogue.store(&mut row[j], tile.col + j, sum);
                }
            }
        }
    }
}

vectorized! {
    /// `sums += Σ x·w` of every lane of one panel: [`LANES`] sums, which are then added in pairs.
    fn add_lanes(sums: &mut [f32; BLOCK], parts: &mut [[f32; BLOCK]; LANES], words: &[[f32; BLOCK]], x: &[f32]) {
        parts.fill([0.0; BLOCK]);
        for (words, x) in words.chunks(LANES / 2).zip(x.chunks(LANES)) {
            for ((parts, words), x) in parts.as_chunks_mut::<2>().0.iter_mut().zip(words).zip(x.as_chunks::<2>().0) {
                let [even, odd] = parts;
                for ((even, odd), word) in even.iter_mut().zip(odd).zip(words) {
                    *even += x[0] * f32::from_bits(word.to_bits() << 16);
                    *odd += x[1] * f32::from_bits(word.to_bits() & 0xFFFF_0000);
                }
            }
        }
        let mut width = LANES / 2;
        while width > 0 {
            let (left, right) = parts.split_at_mut(width);
            for (left, right) in left.iter_mut().zip(right) {
                left.iter_mut().zip(right).for_each(|(left, right)| *left += *right);
            }
            width /= 2;
        }
        sums.iter_mut().zip(&parts[0]).for_each(|(sum, part)| *sum += part);
    }
}

vectorized! {
    /// Pairs of two columns of 32 rows become pairs of two rows of 32 columns: column by column, sixteen words each.
    fn part(columns: &mut [[f32; SIDE]; BLOCK], square: &[f32; SQUARE]) {
        for (columns, words) in columns.as_chunks_mut::<2>().0.iter_mut().zip(square.as_chunks::<BLOCK>().0) {
            let [even, odd] = columns;
            for ((even, odd), two) in even.iter_mut().zip(odd).zip(words.as_chunks::<2>().0) {
                let [low, high] = two.map(f32::to_bits);
                *even = f32::from_bits((low & 0xFFFF) | (high << 16));
                *odd = f32::from_bits((low >> 16) | (high & 0xFFFF_0000));
            }
        }
    }
}

/// Lanes of sixteen words become a square of a panel: sixteen steps of 32 lanes.
fn turn_words(isa: Isa, lanes: &[[f32; SIDE]; BLOCK], square: &mut [f32; SQUARE]) {
    let rows = lanes.each_ref().map(|lane| &lane[..]);
    for (i, rows) in rows.as_chunks::<SIDE>().0.iter().enumerate() {
        isa.transpose_sixteen(rows, BLOCK, i * SIDE, square);
    }
}

#[cfg(test)]
mod tests {
    use super::{Packed, is_packed_for};
    use crate::backend::Write;
    use crate::cpu::dots::dots;
    use crate::cpu::factors::Factors;
    use crate::cpu::gemm::Epilogue;
    use crate::cpu::panels::{Kernel, Side};
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::pool::Pool;
    use crate::cpu::simd_dispatch::Isa;
    use crate::cpu::source::Source;
    use crate::host::{View, ViewMut};
    use crate::weight::{Bytes, DType, FrozenWeight};

    /// Any bits that are numbers, at an odd address.
    fn stored(rows: usize, cols: usize) -> FrozenWeight {
        let mut state = 5_u32;
        let mut half = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            half::bf16::from_f32((state >> 8) as f32 / (1 << 23) as f32 - 1.0).to_le_bytes()
        };
        let bytes: Vec<u8> = std::iter::once(0).chain((0..rows * cols).flat_map(|_| half())).collect();
        let len = bytes.len();
        let bytes = Bytes::from_vec(bytes).slice(1..len).expect("one byte more");
        FrozenWeight::Dense { bytes, dtype: DType::BF16, rows, cols }
    }

    fn packed(isa: Isa, w: &FrozenWeight) -> Packed {
        Packed::new(&Pool::new(2).expect("threads"), isa, w).expect("bf16")
    }

    fn isas() -> impl Iterator<Item = Isa> {
        PATHS.iter().map(|row| row.0).chain([Path::ModelledTiles]).filter_map(Path::isa)
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn every_run_of_a_row_is_what_is_stored() {
        for (rows, cols) in [(1, 32), (32, 64), (45, 96), (100, 1056)] {
            let w = stored(rows, cols);
            for isa in isas() {
                let held = packed(isa, &w);
                let (stored, packed) = (Source::Stored(&w, 0, rows), Source::Packed(&held, 0, rows));
                for row in 0..rows {
                    for run in [0..cols.min(512), 1..2, 1..cols.min(32), 31..32, cols - 5..cols] {
                        let (mut want, mut got) = ([0.0; 512], [f32::NAN; 512]);
                        let want = stored.read(isa, row, run.clone(), &mut want);
                        let got = packed.read(isa, row, run.clone(), &mut got);
                        assert_eq!(bits(got), bits(want), "{isa:?}, row {row}, {run:?} of [{rows}, {cols}]");
                    }
                }
            }
        }
    }

    #[test]
    fn panels_lie_where_they_would_be_packed() {
        let mut kernels = 0;
        for kernel in isas().map(|isa| Kernel::of(isa, Factors::Bf16)) {
            for (rows, cols) in [(32, 32), (96, 2112), (45, 96)] {
                let w = stored(rows, cols);
                if !is_packed_for(kernel, &w) {
                    continue;
                }
                kernels += 1;
                let held = packed(kernel.isa, &w);
                let sources = [Source::Stored(&w, 0, rows), Source::Packed(&held, 0, rows)];
                // Forward: lanes are rows. Backward: they are columns.
                for (lanes, depth) in [(0..rows, 0..cols), (32..rows, 32..cols), (0..rows, cols - 32..cols)] {
                    if lanes.is_empty() || depth.is_empty() {
                        continue;
                    }
                    let mut out = vec![f32::NAN; kernel.right_len(lanes.len(), depth.len())];
                    let side = Side::of(sources[0], true);
                    let words = kernel.right(side, lanes.clone(), depth.clone(), &mut out).pack().1;
                    let lying = kernel.lying(Side::of(sources[1], true), &lanes, &depth).expect("where panels begin");
                    for (i, panel) in out.chunks_exact(32 * words).enumerate() {
                        assert_eq!(bits(&lying.words[i * lying.stride..][..panel.len()]), bits(panel), "panel {i}");
                    }
                }
                // Where no panel begins they are packed again.
                assert!(kernel.lying(Side::of(sources[1], true), &(1..rows), &(0..cols)).is_none());
                assert!(kernel.lying(Side::of(sources[1], false), &(0..cols), &(0..rows)).is_none());
                for (lanes, depth) in
                    [(0..cols, 0..rows), (32..cols, 0..rows.min(32)), (0..cols, 5..29), (3..30, 0..rows)]
                {
                    let [want, got] = sources.map(|source| {
                        let mut out = vec![f32::NAN; kernel.right_len(lanes.len(), depth.len())];
                        kernel.right(Side::of(source, false), lanes.clone(), depth.clone(), &mut out).pack();
                        bits(&out)
                    });
                    assert_eq!(got, want, "{lanes:?} x {depth:?} of [{rows}, {cols}] back");
                }
            }
        }
        assert!(kernels > 0, "the model of tiles runs everywhere");
    }

    #[test]
    fn few_rows_have_the_bits_of_a_weight_that_is_not_packed() {
        for (rows, cols) in [(70, 64), (33, 1120), (96, 512), (5, 32)] {
            let w = stored(rows + 3, cols);
            let x: Vec<f32> = (0..16 * cols).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect();
            let bias: Vec<f32> = (0..rows).map(|i| i as f32).collect();
            let epilogue = Epilogue { alpha: 1.5, bias: Some(&bias), write: Write::Add };
            for isa in isas() {
                let held = packed(isa, &w);
                for n in [1, 2, 4, 5, 16] {
                    let x = View::dense(&x[..n * cols], n, cols);
                    let [want, got] = [Source::Stored(&w, 3, rows), Source::Packed(&held, 3, rows)].map(|w| {
                        let mut y = vec![0.5; n * rows];
                        for tile in ViewMut::dense(&mut y, n, rows).tiles(std::iter::once(0..n), 24) {
                            dots(isa, tile, x, w, epilogue);
                        }
                        bits(&y)
                    });
                    assert_eq!(got, want, "{isa:?}, {n} rows, [{rows}, {cols}]");
                }
            }
        }
    }
}
