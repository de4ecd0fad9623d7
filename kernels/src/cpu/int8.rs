//! Products of few rows in whole numbers: activations rounded to eight bits, codes of weights as they are stored.
//!
//! A group is 64 neighbours of a row. Its activations share one scale; sums of four products are whole numbers, and
//! sixteen of those, each times its scales, are added to sixteen lanes. Nothing is fused and the lanes are added in
//! pairs, so every instruction set gives the same bits. For writing answers alone: the activations lose digits, about
//! as many as a weight of eight bits has lost.

use super::dots::in_pairs;
use super::exp::nearest;
use super::gemm::Epilogue;
use super::int8_groups::{Codes, Group, Stored};
use super::simd_dispatch::{Isa, vectorized};
use crate::host::{Tile, View};

/// Most rows.
pub(super) const MOST_ROWS: usize = 16;
/// Elements of a group.
pub(super) const GROUP: usize = 64;
/// Sums of a group.
pub(super) const LANES: usize = 16;
/// Rows that are multiplied with a row of weights while its codes are in registers.
const TOGETHER: usize = 4;
/// Halves of groups in a block of 256: those have minima.
const PARTS: usize = 8;
/// The largest code.
const LARGEST: f32 = 127.0;

/// A group of a row of activations.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Rounded {
    /// -127 to 127.
    pub(super) codes: [i8; GROUP],
    /// Minus the sum of each four of them: what the zero of unsigned codes of weights is multiplied with.
    pub(super) fours: [i32; LANES],
}

impl Rounded {
    pub(super) const NOTHING: Self = Self { codes: [0; GROUP], fours: [0; LANES] };
}

/// A row of activations.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) groups: &'a [Rounded],
    /// One a group.
    pub(super) scales: &'a [f32],
    /// The sum of each half of a group: what the minima of weights are multiplied with.
    pub(super) halves: &'a [f32],
}

/// All rows, one after the other.
pub(super) struct Rows {
    groups: Vec<Rounded>,
    scales: Vec<f32>,
    halves: Vec<f32>,
    /// Groups of a row.
    len: usize,
}

impl Rows {
    /// `x`, of whole groups.
    pub(super) fn of(isa: Isa, x: View) -> Self {
        let len = x.cols() / GROUP;
        let count = len * x.rows();
        let mut rows =
            Self { groups: vec![Rounded::NOTHING; count], scales: vec![0.0; count], halves: vec![0.0; 2 * count], len };
        for r in 0..x.rows() {
            let at = r * len..(r + 1) * len;
            let halves = &mut rows.halves[2 * at.start..2 * at.end];
            let (groups, scales) = (&mut rows.groups[at.clone()], &mut rows.scales[at]);
            round_row(isa, x.row(r).as_chunks().0, groups, scales, halves);
        }
        rows
    }

    /// Every row.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let groups = self.groups.chunks_exact(self.len.max(1)).zip(self.scales.chunks_exact(self.len.max(1)));
        let halves = self.halves.chunks_exact(2 * self.len.max(1));
        groups.zip(halves).map(|((groups, scales), halves)| Row { groups, scales, halves }).collect()
    }
}

vectorized! {
    fn round_row(x: &[[f32; GROUP]], groups: &mut [Rounded], scales: &mut [f32], halves: &mut [f32]) {
        for (((x, group), scale), halves) in x.iter().zip(groups).zip(scales).zip(halves.as_chunks_mut::<2>().0) {
            *scale = round_group(x, group);
            let (first, second) = group.fours.split_at(LANES / 2);
            *halves = [first, second].map(|fours| -fours.iter().sum::<i32>() as f32 * *scale);
        }
    }
}

/// To the nearest code. A group with a number that is none, or is beyond all, has a scale like it.
#[inline(always)]
pub(super) fn round_group(x: &[f32; GROUP], to: &mut Rounded) -> f32 {
    // The bits of magnitudes ascend with them, and those of no numbers are above all.
    let largest = f32::from_bits(x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7FFF_FFFF)));
    let per_number = LARGEST / largest;
    if !largest.is_finite() || !per_number.is_finite() {
        (to.codes, to.fours) = ([0; GROUP], [0; LANES]);
        return if largest.is_finite() { 0.0 } else { f32::NAN };
    }
    for (code, x) in to.codes.iter_mut().zip(x) {
        *code = nearest(x * per_number) as i8;
    }
    for (sum, four) in to.fours.iter_mut().zip(to.codes.as_chunks::<4>().0) {
        *sum = -four.iter().map(|code| i32::from(*code)).sum::<i32>();
    }
    largest / LARGEST
}

/// One task of `y (=|+=) alpha·x·wᵀ + bias`.
pub(super) fn fill(isa: Isa, mut tile: Tile, x: &[Row], w: &Stored, epilogue: Epilogue) {
    for (i, x) in x.chunks(TOGETHER).enumerate() {
        let rows = &mut tile.rows[i * TOGETHER..][..x.len()];
        match *x {
            [a] => fill_rows::<1, 4, 4>(isa, tile.col, rows, &[a], w, epilogue),
            [a, b] => fill_rows::<2, 4, 2>(isa, tile.col, rows, &[a, b], w, epilogue),
            [a, b, c] => fill_rows::<3, 2, 1>(isa, tile.col, rows, &[a, b, c], w, epilogue),
            [a, b, c, d] => fill_rows::<TOGETHER, 2, 1>(isa, tile.col, rows, &[a, b, c, d], w, epilogue),
            _ => {}
        }
    }
}

/// Some rows of weights at a time, and the last ones alone: `WIDE` where there are 32 vector registers, `NARROW` where
/// there are 16 of half their length.
fn fill_rows<const R: usize, const WIDE: usize, const NARROW: usize>(
    isa: Isa,
    first: usize,
    rows: &mut [&mut [f32]],
    x: &[Row; R],
    w: &Stored,
    epilogue: Epilogue,
) {
    let width = rows.first().map_or(0, |row| row.len());
    #[cfg(target_arch = "x86_64")]
    if let Isa::Avx512(isa) = isa
        && let Some(isa) = isa.vnni()
    {
        let mut take = |j: usize, sums: &[[f32; R]]| store(first, j, rows, sums, epilogue);
        return isa.each_row::<R, WIDE>(w, first..first + width, x, &mut take);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(isa) = isa.bytes() {
        let mut take = |j: usize, sums: &[[f32; R]]| store(first, j, rows, sums, epilogue);
        return isa.each_row::<R, NARROW>(w, first..first + width, x, &mut take);
    }
    let mut buffer = w.buffer();
    for j in 0..width {
        let mut sums = [0.0; R];
        plain(isa, &w.row(first + j, &mut buffer), x, &mut sums);
        store(first, j, rows, &[sums], epilogue);
    }
}

/// What columns from `j` of the tile that begins at `first` become.
#[inline(always)]
fn store<const R: usize>(first: usize, j: usize, rows: &mut [&mut [f32]], sums: &[[f32; R]], epilogue: Epilogue) {
    for (r, row) in rows.iter_mut().enumerate() {
        for (i, (y, sums)) in row[j..j + sums.len()].iter_mut().zip(sums).enumerate() {
            epilogue.store(y, first + j + i, sums[r]);
        }
    }
}

vectorized! {
    /// The same on every processor, and what the others are held against.
    fn plain(w: &Codes, x: &[Row], sums: &mut [f32]) {
        let (mut lanes, mut minima) = ([[0.0; LANES]; TOGETHER], [[0.0; PARTS]; TOGETHER]);
        let mut group = Group::default();
        for g in 0..w.groups() {
            w.group(g, &mut group);
            for ((lanes, minima), x) in lanes.iter_mut().zip(&mut minima).zip(x) {
                let (rounded, scale) = (&x.groups[g], x.scales[g]);
                // Two by two first: there are instructions for that.
                let mut twos = [0; GROUP / 2];
                let pairs = group.codes.as_chunks::<2>().0.iter().zip(rounded.codes.as_chunks::<2>().0);
                for (sum, (w, x)) in twos.iter_mut().zip(pairs) {
                    *sum = i32::from(w[0]) * i32::from(x[0]) + i32::from(w[1]) * i32::from(x[1]);
                }
                for i in 0..LANES {
                    let sum = twos[2 * i] + twos[2 * i + 1];
                    lanes[i] += sum as f32 * (group.scales[i] * scale);
                }
                let part = 2 * g % PARTS;
                for (half, min) in group.mins.iter().enumerate() {
                    minima[part + half] += min * x.halves[2 * g + half];
                }
            }
        }
        for ((sum, lanes), minima) in sums.iter_mut().zip(&mut lanes).zip(&mut minima) {
            *sum = in_pairs(lanes) - in_pairs(minima);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::int8_groups::Stored;
    use super::{GROUP, MOST_ROWS, Rounded, Rows, fill, plain, round_group};
    use crate::backend::Write;
    use crate::cpu::few::{self, Few, Part};
    use crate::cpu::gemm::Epilogue;
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::pool::Pool;
    use crate::cpu::simd_dispatch::Isa;
    use crate::cpu::source::Source;
    use crate::host::{View, ViewMut};
    use crate::quant::{GgmlType, decode, quantize};
    use crate::weight::{Bytes, DType, FourBitKind, FrozenWeight};

    const FEW: Few = Few { eight_bits: Some(MOST_ROWS), exact: 0 };

    fn noise(n: usize, mut state: u32) -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next() + next() + next()).collect()
    }

    /// A matrix in every storage that has such a product.
    fn stored(rows: usize, cols: usize) -> Vec<FrozenWeight> {
        let data = noise(rows * cols, 3);
        let mut all = Vec::new();
        for (kind, block) in [(FourBitKind::Nf4, 64), (FourBitKind::Nf4, 128), (FourBitKind::Fp4, 64)] {
            for double in [true, false].into_iter().filter(|_| cols.is_multiple_of(block)) {
                all.push(FrozenWeight::FourBit(quantize(&data, rows, cols, kind, block, double, DType::BF16)));
            }
        }
        let cpu = crate::cpu::Cpu::new(1).expect("a processor");
        for kind in GgmlType::all() {
            let Some(row) = kind.row_bytes(cols) else { continue };
            let mut bytes = vec![0; row * rows];
            cpu.encode_blocks(kind, &mut bytes, &data, cols, None).expect("plain numbers");
            let w = FrozenWeight::Blocks { bytes: Bytes::from_vec(bytes), kind, rows, cols };
            if Stored::of(Source::Stored(&w, 0, rows)).is_some() {
                all.push(w);
            }
        }
        all
    }

    fn name(w: &FrozenWeight) -> String {
        match w {
            FrozenWeight::Blocks { kind, .. } => kind.to_string(),
            FrozenWeight::FourBit(w) => format!("{:?} of {}", w.kind, w.block),
            FrozenWeight::Dense { .. } => "dense".to_owned(),
        }
    }

    #[test]
    fn every_path_gives_the_bits_of_the_plain_loop_s4_5() {
        for cols in [64, 256, 896, 1536] {
            let all = stored(7, cols);
            assert!(all.len() >= 6, "{cols}: {}", all.len());
            let x = noise(4 * cols, 7);
            for w in &all {
                let stored = Stored::of(Source::Stored(w, 1, 6)).expect("a product");
                for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
                    for rows in 1..=4 {
                        let rounded = Rows::of(isa, View::dense(&x[..rows * cols], rows, cols));
                        let mut y = vec![0.0; rows * 6];
                        for tile in ViewMut::dense(&mut y, rows, 6).tiles(std::iter::once(0..rows), 6) {
                            fill(isa, tile, &rounded.rows(), &stored, Epilogue::plain(Write::Set));
                        }
                        let mut scales = stored.buffer();
                        for j in 0..6 {
                            let row = stored.row(j, &mut scales);
                            let mut want = [0.0; 4];
                            plain(Isa::Portable, &row, &rounded.rows(), &mut want[..rows]);
                            for (r, want) in want[..rows].iter().enumerate() {
                                let got = y[r * 6 + j];
                                let name = name(w);
                                assert_eq!(got.to_bits(), want.to_bits(), "{name} {isa:?} {cols}, {r} of {rows}, {j}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn whole_numbers_stay_near_the_exact_product_and_few_rows_are_those_of_one_s4_5() {
        let (outputs, cols) = (70, 512);
        let pool = Pool::new(2).expect("threads");
        let isa = Isa::best();
        let x = noise(MOST_ROWS * cols, 11);
        for w in stored(outputs, cols) {
            let mut exact = vec![0.0; outputs * cols];
            decode(&w, 0, &mut exact);
            let product = |rows: std::ops::Range<usize>| {
                let x = View::dense(&x[rows.start * cols..rows.end * cols], rows.len(), cols);
                let mut y = vec![0.5; rows.len() * outputs];
                let bias: Vec<f32> = (0..outputs).map(|j| j as f32).collect();
                let epilogue = Epilogue { alpha: 2.0, bias: Some(&bias), write: Write::Add };
                let view = ViewMut::dense(&mut y, rows.len(), outputs);
                let part = Part { columns: 0..outputs, w: Source::Stored(&w, 0, outputs), epilogue };
                assert!(few::products(&pool, isa, FEW, view, x, &[part]).is_none());
                y
            };
            let all = product(0..MOST_ROWS);
            for r in 0..MOST_ROWS {
                let alone = product(r..r + 1);
                let row = &all[r * outputs..(r + 1) * outputs];
                assert!(alone.iter().zip(row).all(|(a, b)| a.to_bits() == b.to_bits()), "{} row {r}", name(&w));
                let x = &x[r * cols..(r + 1) * cols];
                for (j, (y, w_row)) in row.iter().zip(exact.chunks_exact(cols)).enumerate() {
                    let terms = || x.iter().zip(w_row).map(|(x, w)| f64::from(x * w));
                    let want = 0.5 + 2.0 * terms().sum::<f64>() + j as f64;
                    // Independent errors of half a step of 1/127 each, and those of the rounding to bf16.
                    let size = terms().map(|term| term * term).sum::<f64>().sqrt();
                    let off = (f64::from(*y) - want).abs();
                    assert!(off < 2.0 * 0.03 * size + 1e-4, "{} ({r}, {j}): {y}, not {want}", name(&w));
                }
            }
        }
    }

    #[test]
    fn too_many_rows_and_other_storage_are_left_alone() {
        let pool = Pool::new(1).expect("a thread");
        let w = &stored(3, 64)[0];
        let dense = FrozenWeight::Dense { bytes: Bytes::from_vec(vec![0; 384]), dtype: DType::BF16, rows: 3, cols: 64 };
        let x = noise((MOST_ROWS + 1) * 64, 5);
        for (w, rows) in [(w, MOST_ROWS + 1), (&dense, MOST_ROWS)] {
            let mut y = vec![0.25; rows * 3];
            let (view, x) = (ViewMut::dense(&mut y, rows, 3), View::dense(&x[..rows * 64], rows, 64));
            let part = Part { columns: 0..3, w: Source::Stored(w, 0, 3), epilogue: Epilogue::plain(Write::Set) };
            assert!(few::products(&pool, Isa::best(), FEW, view, x, &[part]).is_some());
            assert!(y.iter().all(|y| y.to_bits() == 0.25f32.to_bits()));
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_code_and_no_number_stays_none() {
        let mut to = Rounded { codes: [1; GROUP], fours: [1; 16] };
        let mut x = [0.0; GROUP];
        assert_eq!((round_group(&x, &mut to).to_bits(), to.codes, to.fours), (0, [0; GROUP], [0; 16]));
        (x[3], x[4], x[5]) = (-2.0, 1.0, 0.5);
        assert_eq!(round_group(&x, &mut to).to_bits(), (2.0f32 / 127.0).to_bits());
        // 63.5 and 31.75: ties go to even.
        assert_eq!((to.codes[3], to.codes[4], to.codes[5], to.codes[6]), (-127, 64, 32, 0));
        assert_eq!(to.fours[..3], [127, -96, 0]);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[9] = odd;
            assert!(round_group(&x, &mut to).is_nan());
        }
        // So small that the step between codes is no number of its own.
        x.fill(1e-44);
        assert_eq!(round_group(&x, &mut to).to_bits(), 0);
    }
}
