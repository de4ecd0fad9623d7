//! Frozen weights of few bits, eight or sixteen rows side by side: once and for all in the form in which products in
//! whole numbers read them.
//!
//! A strip is as many rows as a vector has lanes: eight, or sixteen where vectors of 512 bits multiply bytes. Four
//! neighbouring codes of each of them lie in one vector, so that four numbers of an activation, broadcast, are multiplied
//! with all of the rows, and a lane of the sums is a row: nothing is added across lanes, and scales are applied to all
//! rows at once. Nothing is lost: every number can be had back, bit by bit. With sixteen rows everything is twice as long.
//!
//! | type | elements of a unit | bytes of eight units | in them |
//! | --- | --- | --- | --- |
//! | `Q4_K` | 256 | 1184 | 8 f16 scales, 8 f16 of minima; of each group 16 scales, 16 minima, 256 of codes |
//! | `Q5_K` | 256 | 1440 | the same, and of each group 64 of high bits |
//! | `Q6_K` | 256 | 1696 | 8 f32 scales; of each group 32 scales, 256 of low halves, 128 of high bits |
//! | `Q5_0` | 64 | 352 | 8 f16 scales of one half, 8 of the other; 256 of low halves, 64 of high bits |
//! | `Q4_0` | 64 | 288 | the same without high bits |
//! | NF4, FP4 | 64 | 288 | 8 f32 scales; 256 of codes |
//!
//! Values of 4-bit codes are taken as whole numbers of ten bits, as near as 1/1022 of a block's scale.
//!
//! A product of a row of activations rounded to eight bits, group by group of 64 elements:
//! `y += whole·(scale·scale of x)`, `y -= whole·(scale of minima·scale of x)`, where everything a group has in whole
//! numbers, its own scales among it, is summed exactly. So all instruction sets give the same bits. They are not those of
//! `int8.rs`, which adds what is whole in another order.

use super::factors::Factors;
use super::gemm::Epilogue;
use super::int8::GROUP;
use super::interleaved_rows::{Group, Rows};
use super::interleaved_units::{Lane, put, put_four_bit, scale_of_four_bit, take};
use super::pool::Pool;
use super::simd_dispatch::Isa;
use super::source::{scaled_table, widen_f16};
use crate::error::{Error, Result};
use crate::host::{self, Tile};
use crate::quant::GgmlType;
use crate::quant::decode::code_table;
use crate::quant::ggml::decode::decode_on;
use crate::weight::{DType, FourBitKind, FrozenWeight};
use std::ops::Range;

/// Rows of a strip: of vectors of 256 bits.
pub(super) const STRIP: usize = 8;
/// The same of vectors of 512 bits.
pub(super) const WIDE_STRIP: usize = 16;
/// Rows of activations that are multiplied while a strip's codes are in registers.
const TOGETHER: usize = 4;

/// Of each row the sums of a strip.
type Sums = [[f32; WIDE_STRIP]; TOGETHER];

/// The smallest whole of a type that is interleaved.
#[derive(Clone, Copy)]
struct Unit {
    /// Elements.
    len: usize,
    /// Bytes as it is stored.
    stored: usize,
    /// Bytes of eight of them.
    bytes: usize,
}

impl Unit {
    /// Of a weight that can be laid out in strips.
    fn of(w: &FrozenWeight) -> Option<Self> {
        let (rows, cols) = w.shape();
        let unit = match w {
            FrozenWeight::Blocks { kind: GgmlType::Q4K, .. } => Self { len: 256, stored: 144, bytes: 1184 },
            FrozenWeight::Blocks { kind: GgmlType::Q5K, .. } => Self { len: 256, stored: 176, bytes: 1440 },
            FrozenWeight::Blocks { kind: GgmlType::Q6K, .. } => Self { len: 256, stored: 210, bytes: 1696 },
            FrozenWeight::Blocks { kind: GgmlType::Q5_0, .. } => Self { len: GROUP, stored: 44, bytes: 352 },
            FrozenWeight::Blocks { kind: GgmlType::Q4_0, .. } => Self { len: GROUP, stored: 36, bytes: 288 },
            FrozenWeight::FourBit(w)
                if w.block.is_multiple_of(GROUP) && cols.is_multiple_of(w.block) && !w.kind.low_half_first() =>
            {
                Self { len: GROUP, stored: GROUP / 2, bytes: 288 }
            }
            _ => return None,
        };
        (rows > 0 && cols > 0 && cols.is_multiple_of(unit.len)).then_some(unit)
    }
}

/// What the codes of a strip mean.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Blocks of a GGUF file.
    Blocks(GgmlType),
    /// Places in a table, and what decoded values are rounded to where they are not multiplied in whole numbers.
    FourBit(FourBitKind, DType, Table),
}

/// Values of 4-bit codes in steps of 1/511 around a zero of 512.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Their last four bits.
    pub(super) low: [u8; 16],
    /// Those above.
    pub(super) high: [u8; 16],
}

impl Table {
    /// Of values between -1 and 1.
    fn of(values: &[f32; 16]) -> Self {
        let steps = values.map(|value| ((value / STEP_OF_VALUES).round_ties_even() + 512.0) as u16);
        Self { low: steps.map(|step| (step & 15) as u8), high: steps.map(|step| (step >> 4) as u8) }
    }
}

/// What one of these steps is.
pub(super) const STEP_OF_VALUES: f32 = 1.0 / 511.0;

/// Bytes of a line of the cache, where strips begin.
const LINE: usize = 64;

/// A weight in strips.
pub struct Interleaved {
    kind: Kind,
    unit: Unit,
    /// Rows of a strip.
    strip: usize,
    /// Strip after strip, from `start`.
    bytes: Vec<u8>,
    start: usize,
    rows: usize,
    cols: usize,
}

impl std::fmt::Debug for Interleaved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interleaved({:?} [{}, {}])", self.kind, self.rows, self.cols)
    }
}

/// Whether products in whole numbers read such strips of `w` faster than what is stored. A unit that multiplies tiles takes
/// many rows faster than these products do, and decodes what is stored faster than strips.
pub(super) fn is_interleaved_for(isa: Isa, w: &FrozenWeight) -> bool {
    Unit::of(w).is_some() && isa.byte_products().is_some() && isa.tiles(Factors::Bf16).is_none()
}

impl Interleaved {
    /// `w` in strips of so many rows as `isa` multiplies at once: for which [`is_interleaved_for`] holds on some processor.
    pub(super) fn new(pool: &Pool, isa: Isa, w: &FrozenWeight) -> Result<Self> {
        let is_wide = isa.byte_products() == Some("avx512vnni");
        Self::of_strips(pool, if is_wide { WIDE_STRIP } else { STRIP }, w)
    }

    fn of_strips(pool: &Pool, strip_rows: usize, w: &FrozenWeight) -> Result<Self> {
        let refused = || Error::Weight { what: "weights of this type are not laid out in strips".into() };
        let unit = Unit::of(w).ok_or_else(refused)?;
        let wide = strip_rows / STRIP;
        let unit = Unit { bytes: unit.bytes * wide, ..unit };
        let (rows, cols) = w.shape();
        let (row, strip) = (cols / unit.len * unit.stored, cols / unit.len * unit.bytes);
        let len = rows.div_ceil(strip_rows) * strip;
        let mut all: Vec<u8> = host::zeros("packed_weight", 1, len + LINE)?;
        let start = all.as_ptr().align_offset(LINE).min(LINE);
        let tasks = all[start..start + len].chunks_exact_mut(strip).enumerate().collect();
        pool.each(tasks, |(i, strip): (usize, &mut [u8])| {
            for (row_of, at) in (i * strip_rows..rows.min((i + 1) * strip_rows)).enumerate() {
                let lane = Lane { row: row_of, wide };
                let units = strip.chunks_exact_mut(unit.bytes);
                match w {
                    FrozenWeight::Blocks { bytes, kind, .. } => {
                        let stored = bytes.as_slice()[at * row..(at + 1) * row].chunks_exact(unit.stored);
                        units.zip(stored).for_each(|(to, from)| put(*kind, to, lane, from));
                    }
                    FrozenWeight::FourBit(w) => {
                        let stored = w.codes.as_slice()[at * row..(at + 1) * row].chunks_exact(unit.stored);
                        let mut scales = vec![0.0; cols / w.block];
                        w.absmax.run(at * scales.len(), &mut scales);
                        for (i, (to, from)) in units.zip(stored).enumerate() {
                            put_four_bit(to, lane, from, scales[i * GROUP / w.block]);
                        }
                    }
                    FrozenWeight::Dense { .. } => {}
                }
            }
        });
        let kind = match w {
            FrozenWeight::Blocks { kind, .. } => Kind::Blocks(*kind),
            FrozenWeight::FourBit(w) => Kind::FourBit(w.kind, w.rounding, Table::of(code_table(w.kind))),
            FrozenWeight::Dense { .. } => return Err(refused()),
        };
        Ok(Self { kind, unit, strip: strip_rows, bytes: all, start, rows, cols })
    }

    /// `(rows, cols)`.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Rows of a strip.
    pub(super) fn strip(&self) -> usize {
        self.strip
    }

    /// Bytes of a strip.
    pub(super) fn strip_bytes(&self) -> usize {
        self.cols / self.unit.len * self.unit.bytes
    }

    /// A row within its strip.
    fn lane(&self, row: usize) -> Lane {
        Lane { row: row % self.strip, wide: self.strip / STRIP }
    }

    /// One of the strips.
    fn strip_of(&self, strip: usize) -> &[u8] {
        let size = self.strip_bytes();
        &self.bytes[self.start..][strip * size..(strip + 1) * size]
    }

    /// Part of a row, as the stored blocks are decoded.
    pub(super) fn read(&self, isa: Isa, row: usize, cols: Range<usize>, out: &mut [f32]) {
        assert!(row < self.rows && cols.end <= self.cols, "row {row} of {}", self.rows);
        let Unit { len, stored, bytes } = self.unit;
        let units = cols.start / len..cols.end.div_ceil(len);
        let strip = self.strip_of(row / self.strip);
        let from = strip[units.start * bytes..units.end * bytes].chunks_exact(bytes);
        let kind = match &self.kind {
            Kind::Blocks(kind) => *kind,
            Kind::FourBit(kind, rounding, _) => {
                let mut table = [0.0; 16];
                for (unit, from) in units.zip(from) {
                    let scale = scale_of_four_bit(from, self.lane(row));
                    scaled_table(isa, &mut table, code_table(*kind), scale, *rounding);
                    let codes = codes(&self.kind, from, self.lane(row), 0);
                    let inside = cols.start.max(unit * len)..cols.end.min((unit + 1) * len);
                    for at in inside {
                        out[at - cols.start] = table[usize::from(codes[at - unit * len])];
                    }
                }
                return;
            }
        };
        let mut blocks = vec![0; units.len() * stored];
        for (to, from) in blocks.chunks_exact_mut(stored).zip(from) {
            take(kind, to, self.lane(row), from);
        }
        decode_on(isa, kind, &blocks, cols.start - units.start * len, out);
    }

    /// One task of `y (=|+=) alpha·x·wᵀ + bias`; column 0 of the whole is row `first` of the weight.
    pub(super) fn fill(&self, isa: Isa, tile: Tile, x: &Rows, first: usize, epilogue: Epilogue) {
        let Tile { col, mut rows, .. } = tile;
        let width = rows.first().map_or(0, |row| row.len());
        // Rows of the weight, and how many of them are before the tile.
        let (lanes, skip) = (first + col..first + col + width, first + col);
        let strips = lanes.start / self.strip..lanes.end.div_ceil(self.strip);
        for (i, rows) in rows.chunks_mut(TOGETHER).enumerate() {
            let of_x = i * TOGETHER..i * TOGETHER + rows.len();
            for strip in strips.clone() {
                let start = strip * self.strip;
                let inside = lanes.start.max(start)..lanes.end.min(start + self.strip);
                let mut sums = [[0.0; WIDE_STRIP]; TOGETHER];
                self.products(isa, self.strip_of(strip), x, of_x.clone(), &mut sums);
                for (row, sums) in rows.iter_mut().zip(&sums) {
                    for lane in inside.clone() {
                        epilogue.store(&mut row[lane - skip], lane - first, sums[lane - start]);
                    }
                }
            }
        }
    }

    /// `x·wᵀ` of one strip and up to four rows.
    fn products(&self, isa: Isa, strip: &[u8], x: &Rows, rows: Range<usize>, sums: &mut Sums) {
        let at = |row| x.row(rows.start + row);
        match rows.len() {
            1 => self.products_of(isa, strip, &[at(0)], sums),
            2 => self.products_of(isa, strip, &[at(0), at(1)], sums),
            3 => self.products_of(isa, strip, &[at(0), at(1), at(2)], sums),
            _ => self.products_of(isa, strip, &[at(0), at(1), at(2), at(3)], sums),
        }
    }

    /// The same of `R` rows, in vectors where they are as long as the strip is wide.
    fn products_of<const R: usize>(&self, isa: Isa, strip: &[u8], x: &[&[Group]; R], sums: &mut Sums) {
        #[cfg(target_arch = "x86_64")]
        {
            use super::{simd_avx2_strips, simd_avx512_strips};
            if let (WIDE_STRIP, Isa::Avx512(isa)) = (self.strip, isa)
                && let Some(isa) = isa.vnni()
            {
                sums[..R].copy_from_slice(&simd_avx512_strips::strip(isa, &self.kind, strip, x));
                return;
            }
            if let (STRIP, Some(isa)) = (self.strip, isa.bytes()) {
                for (sums, got) in sums.iter_mut().zip(simd_avx2_strips::strip(isa, &self.kind, strip, x)) {
                    sums[..STRIP].copy_from_slice(&got);
                }
                return;
            }
        }
        let _ = isa;
        for (sums, x) in sums.iter_mut().zip(x) {
            plain(&self.kind, self.unit, strip, x, &mut sums[..self.strip]);
        }
    }
}

/// What every instruction set gives, and is held against.
fn plain(kind: &Kind, unit: Unit, strip: &[u8], x: &[Group], sums: &mut [f32]) {
    sums.fill(0.0);
    let wide = sums.len() / STRIP;
    let groups = unit.len / GROUP;
    for (unit_of, x) in strip.chunks_exact(unit.bytes).zip(x.chunks_exact(groups)) {
        let half = |at: usize| widen_f16(u16::from_le_bytes([unit_of[at], unit_of[at + 1]]));
        for (row, sum) in sums.iter_mut().enumerate() {
            let lane = Lane { row, wide };
            for (g, x) in x.iter().enumerate() {
                let codes = codes(kind, unit_of, lane, g);
                let whole = |elements: Range<usize>, zero: i32| -> i32 {
                    elements.map(|i| (i32::from(codes[i]) - zero) * i32::from(x.codes[i])).sum()
                };
                match kind {
                    Kind::Blocks(kind @ (GgmlType::Q4K | GgmlType::Q5K)) => {
                        let at = 32 + group_of_minima(*kind) * g;
                        let (scales, mins) = (lane.two(at), lane.two(at + 16));
                        let of = |half: usize| i32::from(unit_of[scales + half]) * whole(32 * half..32 * half + 32, 0);
                        let least = |half: usize| i32::from(unit_of[mins + half]) * i32::from(x.halves[half]);
                        *sum += (of(0) + of(1)) as f32 * (half(lane.two(0)) * x.scale);
                        *sum -= (least(0) + least(1)) as f32 * (half(lane.two(16)) * x.scale);
                    }
                    Kind::Blocks(GgmlType::Q6K) => {
                        let scale = |part: usize| {
                            let at = lane.two(32 + 416 * g + 16 * (part / 2)) + part % 2;
                            i32::from(unit_of[at].cast_signed())
                        };
                        let all: i32 = (0..4).map(|part| scale(part) * whole(16 * part..16 * part + 16, 32)).sum();
                        let d = f32::from_le_bytes(std::array::from_fn(|i| unit_of[lane.four(0) + i]));
                        *sum += all as f32 * (d * x.scale);
                    }
                    Kind::Blocks(kind) => {
                        let zero = if *kind == GgmlType::Q4_0 { 8 } else { 16 };
                        for part in 0..2 {
                            let whole = whole(32 * part..32 * part + 32, zero);
                            *sum += whole as f32 * (half(lane.two(16 * part)) * x.scale);
                        }
                    }
                    Kind::FourBit(_, _, Table { low, high }) => {
                        let value =
                            |code: u8| i32::from(low[usize::from(code)]) + 16 * i32::from(high[usize::from(code)]);
                        let products = codes.iter().zip(&x.codes).map(|(w, x)| (value(*w) - 512) * i32::from(*x));
                        let scale = scale_of_four_bit(unit_of, lane) * (x.scale * STEP_OF_VALUES);
                        *sum += products.sum::<i32>() as f32 * scale;
                    }
                }
            }
        }
    }
}

/// Bytes of a group of eight blocks with minima.
pub(super) fn group_of_minima(kind: GgmlType) -> usize {
    if kind == GgmlType::Q5K { 352 } else { 288 }
}

/// The codes of group `g` of one lane of a unit, as they are: unsigned.
fn codes(kind: &Kind, unit: &[u8], lane: Lane, g: usize) -> [u8; GROUP] {
    let (low, high) = match kind {
        Kind::Blocks(GgmlType::Q4K) => (64 + 288 * g, None),
        Kind::Blocks(GgmlType::Q5K) => (64 + 352 * g, Some(1)),
        Kind::Blocks(GgmlType::Q6K) => (64 + 416 * g, Some(2)),
        Kind::Blocks(GgmlType::Q4_0) | Kind::FourBit(..) => (32, None),
        Kind::Blocks(_) => (32, Some(1)),
    };
    std::array::from_fn(|i| {
        let word = i / 4;
        let at = |place: usize| unit[lane.four(place) + i % 4];
        let nibble = at(low + 32 * (word % 8)) >> (4 * (word / 8)) & 15;
        nibble
            | match high {
                Some(2) => (at(low + 256 + 32 * (word % 4)) >> (2 * (word / 4)) & 3) << 4,
                Some(_) => (at(low + 256 + 32 * (word / 8)) >> (word % 8) & 1) << 4,
                None => 0,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::super::interleaved_rows::Rows;
    use super::super::path::{PATHS, Path};
    use super::{Epilogue, Interleaved, Isa, Pool, STRIP, WIDE_STRIP, plain};
    use crate::backend::Write;
    use crate::cpu::source::Source;
    use crate::host::{View, ViewMut};
    use crate::quant::{GgmlType, decode, quantize};
    use crate::weight::{Bytes, DType, FourBitKind, FrozenWeight};

    /// Types, and elements of a row: several units, and one.
    fn weights() -> Vec<(FrozenWeight, usize)> {
        let mut all = Vec::new();
        for (kind, some) in [
            (GgmlType::Q4K, [1024, 256]),
            (GgmlType::Q5K, [768, 256]),
            (GgmlType::Q6K, [1024, 256]),
            (GgmlType::Q5_0, [896, 64]),
            (GgmlType::Q4_0, [896, 64]),
        ] {
            all.extend(some.map(|cols| (weight(kind, cols), cols)));
        }
        for (kind, block, cols) in
            [(FourBitKind::Nf4, 64, 896), (FourBitKind::Nf4, 128, 256), (FourBitKind::Fp4, 64, 64)]
        {
            let data: Vec<f32> = noise(OUTPUTS * cols, 3).map(|x| (x >> 8) as f32 / (1 << 22) as f32 - 2.0).collect();
            for rounding in [DType::BF16, DType::F32] {
                let w = quantize(&data, OUTPUTS, cols, kind, block, rounding == DType::BF16, rounding);
                all.push((FrozenWeight::FourBit(w), cols));
            }
        }
        all
    }

    /// All of them in strips of eight rows and of sixteen, whatever this processor prefers.
    fn strips(pool: &Pool) -> Vec<(Interleaved, FrozenWeight, usize)> {
        let mut all = Vec::new();
        for strip in [STRIP, WIDE_STRIP] {
            for (stored, cols) in weights() {
                let w = Interleaved::of_strips(pool, strip, &stored).expect("a type in strips");
                all.push((w, stored, cols));
            }
        }
        all
    }

    /// More than two strips of eight rows, and more than one of sixteen.
    const OUTPUTS: usize = 19;

    fn noise(n: usize, mut state: u32) -> impl Iterator<Item = u32> {
        (0..n).map(move |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state ^ state >> 15
        })
    }

    /// Blocks of any bytes, whose scales are ordinary numbers: all codes, scales and signs there are.
    fn weight(kind: GgmlType, cols: usize) -> FrozenWeight {
        let size = kind.row_bytes(cols).expect("whole blocks") * OUTPUTS;
        let mut bytes: Vec<u8> = noise(size, 5).map(|x| (x >> 8) as u8).collect();
        let places: &[usize] = match kind {
            GgmlType::Q4K | GgmlType::Q5K => &[0, 2],
            GgmlType::Q6K => &[208],
            _ => &[0],
        };
        for (i, block) in bytes.chunks_exact_mut(kind.block_bytes()).enumerate() {
            for (j, place) in places.iter().enumerate() {
                let sign = if i % 3 == 0 { -1.0 } else { 1.0 };
                let scale = half::f16::from_f32(sign * (1.0 + (i % 7) as f32 + j as f32) / 640.0);
                block[*place..place + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        FrozenWeight::Blocks { bytes: Bytes::from_vec(bytes), kind, rows: OUTPUTS, cols }
    }

    /// Rows of ordinary numbers, of the largest codes alone, and of nothing.
    fn rows(count: usize, cols: usize) -> Vec<f32> {
        let mut all: Vec<f32> = noise(count * cols, 9).map(|x| (x >> 8) as f32 / (1 << 23) as f32 - 1.0).collect();
        for (r, row) in all.chunks_exact_mut(cols).enumerate() {
            match r % 4 {
                1 => row.iter_mut().for_each(|x| *x = x.signum()),
                2 => row.fill(-3.0),
                3 => row[cols / 2..].fill(0.0),
                _ => {}
            }
        }
        all
    }

    fn product(isa: Isa, w: &Interleaved, x: &Rows, rows: usize, columns: std::ops::Range<usize>) -> Vec<f32> {
        let mut y = vec![0.5; rows * columns.len()];
        let bias: Vec<f32> = columns.clone().map(|j| j as f32).collect();
        let epilogue = Epilogue { alpha: 2.0, bias: Some(&bias), write: Write::Add };
        for tile in ViewMut::dense(&mut y, rows, columns.len()).tiles(std::iter::once(0..rows), columns.len()) {
            w.fill(isa, tile, x, columns.start, epilogue);
        }
        y
    }

    #[test]
    fn every_path_gives_the_bits_of_the_plain_loop_and_rows_those_they_give_alone_s4_5() {
        let pool = Pool::new(2).expect("threads");
        for (w, _, cols) in strips(&pool) {
            let numbers = rows(70, cols);
            for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
                for (count, columns) in [(1, 0..OUTPUTS), (2, 8..16), (3, 3..OUTPUTS), (4, 9..10), (70, 1..18)] {
                    let x = Rows::of(&pool, isa, Source::Dense(View::dense(&numbers[..count * cols], count, cols)));
                    let got = product(isa, &w, &x, count, columns.clone());
                    for (i, got) in got.iter().enumerate() {
                        let (r, lane) = (i / columns.len(), columns.start + i % columns.len());
                        let mut sums = vec![1.0; w.strip];
                        plain(&w.kind, w.unit, w.strip_of(lane / w.strip), x.row(r), &mut sums);
                        let want = 0.5 + 2.0 * sums[lane % w.strip] + lane as f32;
                        assert_eq!(got.to_bits(), want.to_bits(), "{w:?} {isa:?}: {r} of {count}, {lane}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_plain_loop_is_the_product_of_what_is_decoded_with_what_is_rounded() {
        let pool = Pool::new(1).expect("a thread");
        for (w, stored, cols) in strips(&pool) {
            let numbers = rows(8, cols);
            let x = Rows::of(&pool, Isa::best(), Source::Dense(View::dense(&numbers, 8, cols)));
            let got = product(Isa::Portable, &w, &x, 8, 0..OUTPUTS);
            let mut exact = vec![0.0; OUTPUTS * cols];
            decode(&stored, 0, &mut exact);
            // Values of codes are no more than half of a step off, and may be rounded to eight bits on their own.
            let most = if matches!(stored, FrozenWeight::FourBit(_)) { 3e-3 } else { 2e-6 };
            for (i, got) in got.iter().enumerate() {
                let (r, j) = (i / OUTPUTS, i % OUTPUTS);
                let of_x = x.row(r).iter().flat_map(|x| x.codes.map(|code| f64::from(code) * f64::from(x.scale)));
                let terms = exact[j * cols..(j + 1) * cols].iter().zip(of_x).map(|(w, x)| f64::from(*w) * x);
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let want = 0.5 + 2.0 * sum + j as f64;
                assert!((f64::from(*got) - want).abs() < most * (size + 20.0), "{w:?} ({r}, {j}): {got}, {want}");
            }
        }
    }

    #[test]
    fn rows_are_decoded_to_the_bits_of_the_stored_blocks() {
        let pool = Pool::new(2).expect("threads");
        for (w, stored, cols) in strips(&pool) {
            for part in [0..cols, 3..cols, cols / 2 - 1..cols / 2 + 2, cols - 1..cols] {
                for row in 0..OUTPUTS {
                    let (mut want, mut got) = (vec![0.0; part.len()], vec![1.0; part.len()]);
                    decode(&stored, row * cols + part.start, &mut want);
                    w.read(Isa::best(), row, part.clone(), &mut got);
                    let same = want.iter().map(|x| x.to_bits()).eq(got.iter().map(|x| x.to_bits()));
                    assert!(same, "{w:?}: row {row}, {part:?}");
                }
            }
        }
    }

    #[test]
    fn numbers_that_are_none_stay_visible() {
        let pool = Pool::new(1).expect("a thread");
        let w = Interleaved::new(&pool, Isa::best(), &weight(GgmlType::Q4K, 256)).expect("a type in strips");
        for bad in [f32::NAN, f32::INFINITY] {
            let mut numbers = rows(1, 256);
            numbers[77] = bad;
            let x = Rows::of(&pool, Isa::best(), Source::Dense(View::dense(&numbers, 1, 256)));
            assert!(product(Isa::best(), &w, &x, 1, 0..OUTPUTS).iter().all(|y| y.is_nan()));
        }
    }
}
