//! Products of few rows in whole numbers: activations rounded to eight bits, codes of weights as they are stored.
//!
//! A group is 64 neighbours of a row. Its activations share one scale; sums of four products are whole numbers, and
//! sixteen of those, each times its scales, are added to sixteen lanes. Nothing is fused and the lanes are added in
//! pairs, so every instruction set gives the same bits. For writing answers alone: the activations lose digits, about
//! as many as a weight of eight bits has lost.

use super::dots::in_pairs;
use super::gemm::Epilogue;
use super::int8_groups::{Group, Stored};
use super::pool::Pool;
#[cfg(target_arch = "x86_64")]
use super::simd_avx512_vnni::Avx512Vnni;
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;
use crate::backend::Write;
use crate::host::{Tile, View, ViewMut};

/// Most rows.
pub(super) const MOST_ROWS: usize = 16;
/// Elements of a group.
pub(super) const GROUP: usize = 64;
/// Sums of a group.
pub(super) const LANES: usize = 16;
/// Rows that are multiplied with a row of weights while its codes are in registers.
const TOGETHER: usize = 4;
/// Weight rows of one task.
const ROWS_PER_TASK: usize = 64;
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

/// A row of activations.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) groups: &'a [Rounded],
    /// One a group.
    pub(super) scales: &'a [f32],
}

/// All rows, one after the other.
struct Rows {
    groups: Vec<Rounded>,
    scales: Vec<f32>,
    /// Groups of a row.
    len: usize,
}

impl Rows {
    /// `x`, of whole groups.
    fn of(isa: Isa, x: View) -> Self {
        let len = x.cols() / GROUP;
        let nothing = Rounded { codes: [0; GROUP], fours: [0; LANES] };
        let mut rows = Self { groups: vec![nothing; len * x.rows()], scales: vec![0.0; len * x.rows()], len };
        for r in 0..x.rows() {
            let at = r * len..(r + 1) * len;
            round_row(isa, x.row(r).as_chunks().0, &mut rows.groups[at.clone()], &mut rows.scales[at]);
        }
        rows
    }

    fn row(&self, r: usize) -> Row<'_> {
        let at = r * self.len..(r + 1) * self.len;
        Row { groups: &self.groups[at.clone()], scales: &self.scales[at] }
    }
}

vectorized! {
    fn round_row(x: &[[f32; GROUP]], groups: &mut [Rounded], scales: &mut [f32]) {
        for ((x, group), scale) in x.iter().zip(groups).zip(scales) {
            *scale = round_group(x, group);
        }
    }
}

/// To the nearest code. A group with a number that is none, or is beyond all, has a scale like it.
#[inline(always)]
fn round_group(x: &[f32; GROUP], to: &mut Rounded) -> f32 {
    // The bits of magnitudes ascend with them, and those of no numbers are above all.
    let largest = f32::from_bits(x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7FFF_FFFF)));
    let per_number = LARGEST / largest;
    if !largest.is_finite() || !per_number.is_finite() {
        (to.codes, to.fours) = ([0; GROUP], [0; LANES]);
        return if largest.is_finite() { 0.0 } else { f32::NAN };
    }
    for (code, x) in to.codes.iter_mut().zip(x) {
        *code = (x * per_number).round_ties_even() as i8;
    }
    for (sum, four) in to.fours.iter_mut().zip(to.codes.as_chunks::<4>().0) {
        *sum = -four.iter().map(|code| i32::from(*code)).sum::<i32>();
    }
    largest / LARGEST
}

/// `y (=|+=) alpha·x·wᵀ + bias`. Nothing is done where there is no such product for this storage, or too many rows:
/// then `y` comes back.
pub(super) fn linear<'a>(
    pool: &Pool,
    isa: Isa,
    y: ViewMut<'a>,
    x: View,
    w: Source,
    epilogue: Epilogue,
) -> Option<ViewMut<'a>> {
    let Some(stored) = Stored::of(w).filter(|_| y.rows() <= MOST_ROWS) else { return Some(y) };
    let (rows, rounded) = (y.rows(), Rows::of(isa, x));
    let rounded: Vec<Row> = (0..rows).map(|r| rounded.row(r)).collect();
    pool.each(y.tiles(std::iter::once(0..rows), ROWS_PER_TASK), |tile| fill(isa, tile, &rounded, &stored, epilogue));
    None
}

/// One task.
fn fill(isa: Isa, mut tile: Tile, x: &[Row], w: &Stored, epilogue: Epilogue) {
    let Epilogue { alpha, bias, write } = epilogue;
    let width = tile.rows.first().map_or(0, |row| row.len());
    let mut scales = w.buffer();
    for j in 0..width {
        let row = w.row(tile.col + j, &mut scales);
        let bias = bias.map_or(0.0, |bias| bias[tile.col + j]);
        for (x, rows) in x.chunks(TOGETHER).zip(tile.rows.chunks_mut(TOGETHER)) {
            let mut sums = [0.0; TOGETHER];
            products(isa, &row, x, &mut sums);
            for (y, sum) in rows.iter_mut().zip(sums) {
                let old = if write == Write::Set { 0.0 } else { y[j] };
                y[j] = old + alpha * sum + bias;
            }
        }
    }
}

/// `sums[r] = x[r]·w`
fn products(isa: Isa, w: &super::int8_groups::Codes, x: &[Row], sums: &mut [f32; TOGETHER]) {
    #[cfg(target_arch = "x86_64")]
    if let Isa::Avx512(isa) = isa
        && let Some(isa) = isa.vnni()
    {
        return products_in_registers(isa, w, x, sums);
    }
    plain(isa, w, x, sums);
}

#[cfg(target_arch = "x86_64")]
fn products_in_registers(isa: Avx512Vnni, w: &super::int8_groups::Codes, x: &[Row], sums: &mut [f32; TOGETHER]) {
    match *x {
        [a] => sums[..1].copy_from_slice(&isa.dots(w, &[a])),
        [a, b] => sums[..2].copy_from_slice(&isa.dots(w, &[a, b])),
        [a, b, c] => sums[..3].copy_from_slice(&isa.dots(w, &[a, b, c])),
        [a, b, c, d] => *sums = isa.dots(w, &[a, b, c, d]),
        _ => {}
    }
}

vectorized! {
    /// The same on every processor, and what the others are held against.
    fn plain(w: &super::int8_groups::Codes, x: &[Row], sums: &mut [f32; TOGETHER]) {
        let mut lanes = [[0.0; LANES]; TOGETHER];
        let mut group = Group::default();
        for g in 0..w.groups() {
            w.group(g, &mut group);
            for (lanes, x) in lanes.iter_mut().zip(x) {
                let (rounded, scale) = (&x.groups[g], x.scales[g]);
                // Two by two first: there are instructions for that.
                let mut twos = [0; GROUP / 2];
                let pairs = group.codes.as_chunks::<2>().0.iter().zip(rounded.codes.as_chunks::<2>().0);
                for (sum, (w, x)) in twos.iter_mut().zip(pairs) {
                    *sum = i32::from(w[0]) * i32::from(x[0]) + i32::from(w[1]) * i32::from(x[1]);
                }
                for i in 0..LANES {
                    let sum = twos[2 * i] + twos[2 * i + 1];
                    let weighed = sum as f32 * group.scales[i] + rounded.fours[i] as f32 * group.mins[i];
                    lanes[i] += weighed * scale;
                }
            }
        }
        for (sum, lanes) in sums.iter_mut().zip(&mut lanes) {
            *sum = in_pairs(lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::int8_groups::Stored;
    use super::{GROUP, MOST_ROWS, Rounded, Rows, linear, plain, products, round_group};
    use crate::backend::Write;
    use crate::cpu::gemm::Epilogue;
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::pool::Pool;
    use crate::cpu::simd_dispatch::Isa;
    use crate::cpu::source::Source;
    use crate::host::{View, ViewMut};
    use crate::quant::{GgmlType, decode, quantize};
    use crate::weight::{Bytes, DType, FourBitKind, FrozenWeight};

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
            let all = stored(5, cols);
            assert!(all.len() >= 6, "{cols}: {}", all.len());
            let x = noise(4 * cols, 7);
            for w in &all {
                let codes = Stored::of(Source::Stored(w, 1, 4)).expect("a product");
                let mut scales = codes.buffer();
                for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
                    for (rows, j) in (1..=4).flat_map(|rows| (0..4).map(move |j| (rows, j))) {
                        let rounded = Rows::of(isa, View::dense(&x[..rows * cols], rows, cols));
                        let rounded: Vec<_> = (0..rows).map(|r| rounded.row(r)).collect();
                        let row = codes.row(j, &mut scales);
                        let (mut got, mut want) = ([0.0; 4], [0.0; 4]);
                        products(isa, &row, &rounded, &mut got);
                        plain(Isa::Portable, &row, &rounded, &mut want);
                        let same = got[..rows].iter().zip(&want[..rows]).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{} {isa:?} {cols}, {rows} rows, {j}: {got:?} {want:?}", name(w));
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
                assert!(linear(&pool, isa, view, x, Source::Stored(&w, 0, outputs), epilogue).is_none());
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
        for (w, rows) in [(w, MOST_ROWS + 1), (&dense, 1)] {
            let mut y = vec![0.25; rows * 3];
            let (view, x) = (ViewMut::dense(&mut y, rows, 3), View::dense(&x[..rows * 64], rows, 64));
            let back = linear(&pool, Isa::best(), view, x, Source::Stored(w, 0, 3), Epilogue::plain(Write::Set));
            assert!(back.is_some());
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
