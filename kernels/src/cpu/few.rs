//! Products of few rows, some at a time: every weight is read once, and the threads are called once for all of them.

use super::Cpu;
use super::dots::{self, dots};
use super::gemm::Epilogue;
use super::int8;
use super::int8_groups::Stored;
use super::interleaved::Interleaved;
use super::interleaved_rows;
use super::pool::Pool;
use super::simd_dispatch::Isa;
use super::source::Source;
use super::tiles::BLOCK;
use crate::host::{Tile, View, ViewMut};
use std::ops::Range;

/// Bytes of weights that one task reads, about: long enough to be worth the hand-over, short enough that nobody waits
/// long for the last one.
const BYTES_PER_TASK: usize = 96 << 10;
/// Columns of a task begin at multiples of this; of a packed weight, where panels do, and of one in strips, where those do.
const STEP: usize = 8;

/// One of some products with the same rows.
pub(super) struct Part<'a> {
    /// Where it goes.
    pub(super) columns: Range<usize>,
    pub(super) w: Source<'a>,
    pub(super) epilogue: Epilogue<'a>,
}

/// How a part is computed.
enum Way<'a> {
    /// The rows in eight bits.
    Eight(Stored<'a>),
    /// The same with a weight that lies eight rows side by side, from some row on.
    Strips(&'a Interleaved, usize),
    Exact(Source<'a>),
}

/// Up to how many rows that is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Few {
    /// With rows in eight bits, for weights that have such a product.
    pub(super) eight_bits: Option<usize>,
    /// Without.
    pub(super) exact: usize,
}

impl Few {
    /// Whether these products take so many rows.
    pub(super) fn takes(&self, rows: usize, parts: &[Part]) -> bool {
        let is_in_strips = |part: &Part| matches!(part.w, Source::Interleaved(..)) && self.eight_bits.is_some();
        rows <= self.exact.max(self.eight_bits.unwrap_or(0)) || parts.iter().all(is_in_strips)
    }
}

impl Cpu {
    /// How many rows are few. A unit that multiplies tiles is quicker than sums of many rows.
    pub(super) fn few(&self) -> Few {
        let exact = if self.isa.tiles(self.factors).is_some() { dots::FEW_ROWS } else { dots::MOST_ROWS };
        Few { eight_bits: self.eight_bit_rows.then_some(int8::MOST_ROWS), exact }
    }
}

/// `y[·, columns] (=|+=) alpha·x·wᵀ + bias` of every part; their columns ascend without overlap. Where there are too
/// many rows nothing is done and `y` comes back.
pub(super) fn products<'a>(
    pool: &Pool,
    isa: Isa,
    few: Few,
    y: ViewMut<'a>,
    x: View,
    parts: &[Part],
) -> Option<ViewMut<'a>> {
    let rows = y.rows();
    let mut ways = Vec::with_capacity(parts.len());
    for part in parts {
        if let (Source::Interleaved(w, first, _), Some(_)) = (part.w, few.eight_bits) {
            ways.push(Way::Strips(w, first));
            continue;
        }
        let stored = if few.eight_bits.is_some_and(|most| rows <= most) { Stored::of(part.w) } else { None };
        ways.push(match stored {
            Some(stored) => Way::Eight(stored),
            None if rows <= few.exact => Way::Exact(part.w),
            None => return Some(y),
        });
    }
    let is_rounded = ways.iter().any(|way| matches!(way, Way::Eight(_)));
    let rounded = is_rounded.then(|| int8::Rows::of(isa, x));
    let rounded = rounded.as_ref().map_or_else(Vec::new, int8::Rows::rows);
    let is_grouped = ways.iter().any(|way| matches!(way, Way::Strips(..)));
    let grouped = is_grouped.then(|| interleaved_rows::Rows::of(pool, isa, Source::Dense(x)));
    let columns = parts.iter().zip(&ways).map(|(part, way)| (part.columns.clone(), way.columns_per_task()));
    let tasks = tiles(y, columns).into_iter().map(|(i, tile)| (&ways[i], parts[i].epilogue, tile)).collect();
    pool.each(tasks, |(way, epilogue, tile)| match way {
        Way::Eight(w) => int8::fill(isa, tile, &rounded, w, epilogue),
        Way::Strips(w, first) => {
            if let Some(x) = &grouped {
                w.fill(isa, tile, x, *first, epilogue);
            }
        }
        Way::Exact(w) => dots(isa, tile, x, *w, epilogue),
    });
    None
}

impl Way<'_> {
    fn columns_per_task(&self) -> usize {
        let bytes = match self {
            Self::Eight(w) => w.row_bytes(),
            Self::Strips(w, _) => w.strip_bytes() / w.strip(),
            // More work than its bytes are, and they are not asked about.
            Self::Exact(w) => size_of::<u32>() * w.cols(),
        };
        let step = match self {
            Self::Exact(Source::Packed(..)) => BLOCK,
            Self::Strips(w, _) => w.strip(),
            _ => STEP,
        };
        (BYTES_PER_TASK / bytes.max(1)).max(1).next_multiple_of(step)
    }
}

/// Tiles of at most so many columns, each with the number of its part; the column of a tile counts from its part's first.
pub(super) fn tiles<T>(y: ViewMut<T>, parts: impl Iterator<Item = (Range<usize>, usize)>) -> Vec<(usize, Tile<T>)> {
    let mut rows: Vec<&mut [T]> = y.into_rows().collect();
    let (mut tiles, mut done) = (Vec::new(), 0);
    for (part, (columns, step)) in parts.enumerate() {
        for start in columns.clone().step_by(step) {
            let end = columns.end.min(start + step);
            let mut tile = Tile { row: 0, col: start - columns.start, rows: Vec::with_capacity(rows.len()) };
            for row in &mut rows {
                let (before, after) = std::mem::take(row).split_at_mut(end - done);
                tile.rows.push(&mut before[start - done..]);
                *row = after;
            }
            done = end;
            tiles.push((part, tile));
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use crate::backend::{Backend, Part, Write};
    use crate::cpu::Cpu;
    use crate::quant::GgmlType;
    use crate::weight::{Bytes, DType, FrozenWeight, Matrix};

    fn noise(n: usize, mut state: u32) -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next()).collect()
    }

    /// Weights of 256 columns: blocks of eight bits, bf16, blocks of four bits with minima.
    fn weights(cpu: &Cpu, rows: [usize; 3]) -> Vec<<Cpu as Backend>::Weight> {
        let blocks = |kind: GgmlType, rows: usize, seed| {
            let mut bytes = vec![0; kind.row_bytes(256).expect("whole blocks") * rows];
            cpu.encode_blocks(kind, &mut bytes, &noise(rows * 256, seed), 256, None).expect("plain numbers");
            FrozenWeight::Blocks { bytes: Bytes::from_vec(bytes), kind, rows, cols: 256 }
        };
        let words = noise(rows[1] * 256, 5).into_iter().flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect();
        let dense = FrozenWeight::Dense { bytes: Bytes::from_vec(words), dtype: DType::BF16, rows: rows[1], cols: 256 };
        let all = [blocks(GgmlType::Q8_0, rows[0], 3), dense, blocks(GgmlType::Q4K, rows[2], 7)];
        all.map(|w| cpu.weight(w).expect("its shape fits")).into()
    }

    #[test]
    fn products_together_have_the_bits_of_products_alone_s4_5() {
        for (threads, eight_bits) in [(1, false), (2, false), (2, true)] {
            let cpu = Cpu::new(threads).expect("threads").with_eight_bit_rows(eight_bits);
            let sizes = [700, 90, 33];
            let weights = weights(&cpu, sizes);
            let bias = cpu.tensor(1, 90, &noise(90, 11)).expect("memory");
            for rows in [1, 2, 3, 4, 5, 16, 17] {
                let x = cpu.tensor(rows, 256, &noise(rows * 256, 13)).expect("memory");
                // Columns 3, 4 and the last belong to nobody.
                let columns = [0..3, 5..705, 705..795, 795..828];
                let mut together = cpu.tensor(rows, 829, &vec![0.25; rows * 829]).expect("memory");
                let mut alone = cpu.tensor(rows, 829, &vec![0.25; rows * 829]).expect("memory");
                let mut parts = Vec::new();
                for ((columns, w), bias) in columns[1..].iter().zip(&weights).zip([None, Some(&bias), None]) {
                    let w = Matrix::Frozen(w);
                    cpu.linear(alone.view_mut().cols(columns.clone()), x.view(), w, bias, Write::Set).expect("fits");
                    parts.push(Part { columns: columns.clone(), w, bias });
                }
                cpu.linears(together.view_mut(), x.view(), &parts).expect("fits");
                let [together, alone] = [together, alone].map(|y| cpu.into_numbers(y).expect("numbers"));
                let same = together.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{rows} rows, {threads} threads, eight bits {eight_bits}");
                let is_left = |y: &f32| y.to_bits() == 0.25_f32.to_bits();
                assert!(together.chunks(829).all(|row| row[..5].iter().chain(&row[828..]).all(is_left)));
                // In another order, beyond the end, of another width.
                let part = |at: usize, columns| Part { columns, w: parts[at].w, bias: None };
                for wrong in [
                    vec![part(1, 700..790), part(0, 0..700)],
                    vec![part(0, 130..830)],
                    vec![part(0, 0..700), part(1, 699..789)],
                    vec![part(0, 0..699)],
                ] {
                    let mut y = cpu.zeros(rows, 829).expect("memory");
                    assert!(cpu.linears(y.view_mut(), x.view(), &wrong).is_err());
                    assert!(
                        cpu.into_numbers(y).expect("numbers").iter().all(|y| y.to_bits() == 0),
                        "nothing is written"
                    );
                }
            }
        }
    }
}
