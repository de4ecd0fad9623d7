//! Frozen weights in blocks of a GGUF file, eight rows side by side: once and for all in the form in which products in
//! whole numbers read them.
//!
//! A strip is eight rows. Four neighbouring codes of each of them lie in one vector of 32 bytes, so that four numbers of
//! an activation, broadcast, are multiplied with all eight rows, and a lane of the sums is a row: nothing is added
//! across lanes, and scales are applied to eight rows at once. Nothing is lost: every block can be had back, byte by byte.
//!
//! | type | elements of a unit | bytes of eight units | in them |
//! | --- | --- | --- | --- |
//! | `Q4_K` | 256 | 1184 | 8 f16 scales, 8 f16 of minima; of each group 16 scales, 16 minima, 256 of codes |
//! | `Q6_K` | 256 | 1696 | 8 f32 scales; of each group 32 scales, 256 of low halves, 128 of high bits |
//! | `Q5_0` | 64 | 352 | 8 f16 scales of one half, 8 of the other; 256 of low halves, 64 of high bits |
//!
//! A product of a row of activations rounded to eight bits, group by group of 64 elements:
//! `y += whole·(scale·scale of x)`, `y -= whole·(scale of minima·scale of x)`, where everything a group has in whole
//! numbers, its own scales among it, is summed exactly. So all instruction sets give the same bits. They are not those of
//! `int8.rs`, which adds what is whole in another order.

use super::gemm::Epilogue;
use super::interleaved_rows::{Group, Rows};
use super::interleaved_units::{put, take};
use super::pool::Pool;
use super::simd_dispatch::Isa;
use super::source::widen_f16;
use crate::backend::Write;
use crate::error::{Error, Result};
use crate::host::Tile;
use crate::quant::GgmlType;
use crate::quant::ggml::decode::decode_on;
use crate::weight::FrozenWeight;
use std::ops::Range;

/// Rows of a strip.
pub(super) const STRIP: usize = 8;
/// Elements of a group.
const GROUP: usize = 64;
/// Rows of activations that are multiplied while a strip's codes are in registers.
const TOGETHER: usize = 4;
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
    fn of(kind: GgmlType) -> Option<Self> {
        match kind {
            GgmlType::Q4K => Some(Self { len: 256, stored: 144, bytes: 1184 }),
            GgmlType::Q6K => Some(Self { len: 256, stored: 210, bytes: 1696 }),
            GgmlType::Q5_0 => Some(Self { len: GROUP, stored: 44, bytes: 352 }),
            _ => None,
        }
    }
}

/// Bytes of a line of the cache, where strips begin.
const LINE: usize = 64;

/// A weight in strips.
pub struct Interleaved {
    kind: GgmlType,
    unit: Unit,
    /// Strip after strip, from `start`.
    bytes: Vec<u8>,
    start: usize,
    rows: usize,
    cols: usize,
}

impl std::fmt::Debug for Interleaved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interleaved({} [{}, {}])", self.kind, self.rows, self.cols)
    }
}

/// Whether products in whole numbers read such strips of `w` faster than what is stored.
pub(super) fn is_interleaved_for(isa: Isa, w: &FrozenWeight) -> bool {
    let FrozenWeight::Blocks { kind, rows, cols, .. } = w else { return false };
    let fits = Unit::of(*kind).is_some_and(|unit| cols.is_multiple_of(unit.len));
    fits && *rows > 0 && *cols > 0 && matches!(isa.byte_products(), Some("avx2" | "avxvnni"))
}

impl Interleaved {
    /// `w` in strips; of a type that has them.
    pub(super) fn new(pool: &Pool, w: &FrozenWeight) -> Result<Self> {
        let refused = || Error::Weight { what: "blocks of this type are not interleaved".into() };
        let FrozenWeight::Blocks { bytes, kind, rows, cols } = w else { return Err(refused()) };
        let (kind, rows, cols) = (*kind, *rows, *cols);
        let unit = Unit::of(kind).filter(|unit| cols.is_multiple_of(unit.len)).ok_or_else(refused)?;
        let (row, strip) = (cols / unit.len * unit.stored, cols / unit.len * unit.bytes);
        let len = rows.div_ceil(STRIP) * strip;
        let mut all = Vec::new();
        if all.try_reserve_exact(len + LINE).is_err() {
            return Err(Error::OutOfMemory { op: "packed_weight", bytes: len });
        }
        all.resize(len + LINE, 0);
        let start = all.as_ptr().align_offset(LINE).min(LINE);
        let from = |strip: usize| &bytes.as_slice()[strip * STRIP * row..rows.min((strip + 1) * STRIP) * row];
        let tasks = all[start..start + len].chunks_exact_mut(strip.max(1)).enumerate().collect();
        pool.each(tasks, |(i, strip): (usize, &mut [u8])| {
            for (lane, stored) in from(i).chunks_exact(row.max(1)).enumerate() {
                for (to, from) in strip.chunks_exact_mut(unit.bytes).zip(stored.chunks_exact(unit.stored)) {
                    put(kind, to, lane, from);
                }
            }
        });
        Ok(Self { kind, unit, bytes: all, start, rows, cols })
    }

    /// `(rows, cols)`.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Bytes of a strip.
    pub(super) fn strip_bytes(&self) -> usize {
        self.cols / self.unit.len * self.unit.bytes
    }

    /// These strips.
    fn strips(&self, strips: Range<usize>) -> &[u8] {
        let size = self.strip_bytes();
        &self.bytes[self.start..][strips.start * size..strips.end * size]
    }

    /// Part of a row, as the stored blocks are decoded.
    pub(super) fn read(&self, isa: Isa, row: usize, cols: Range<usize>, out: &mut [f32]) {
        assert!(row < self.rows && cols.end <= self.cols, "row {row} of {}", self.rows);
        let Unit { len, stored, bytes } = self.unit;
        let units = cols.start / len..cols.end.div_ceil(len);
        let strip = self.strips(row / STRIP..row / STRIP + 1);
        let mut blocks = vec![0; units.len() * stored];
        let from = strip[units.start * bytes..units.end * bytes].chunks_exact(bytes);
        for (to, from) in blocks.chunks_exact_mut(stored).zip(from) {
            take(self.kind, to, row % STRIP, from);
        }
        decode_on(isa, self.kind, &blocks, cols.start - units.start * len, out);
    }

    /// One task of `y (=|+=) alpha·x·wᵀ + bias`; column 0 of the whole is row `first` of the weight.
    pub(super) fn fill(&self, isa: Isa, tile: Tile, x: &Rows, first: usize, epilogue: Epilogue) {
        let Tile { col, mut rows, .. } = tile;
        let width = rows.first().map_or(0, |row| row.len());
        // Rows of the weight, and how many of them are before the tile.
        let (lanes, skip) = (first + col..first + col + width, first + col);
        let Epilogue { alpha, bias, write } = epilogue;
        for (i, rows) in rows.chunks_mut(TOGETHER).enumerate() {
            let of_x = i * TOGETHER..i * TOGETHER + rows.len();
            for strip in lanes.start / STRIP..lanes.end.div_ceil(STRIP) {
                let mut sums = [[0.0; STRIP]; TOGETHER];
                self.products(isa, self.strips(strip..strip + 1), x, of_x.clone(), &mut sums);
                let inside = lanes.start.max(strip * STRIP)..lanes.end.min((strip + 1) * STRIP);
                for (row, sums) in rows.iter_mut().zip(&sums) {
                    for lane in inside.clone() {
                        let y = &mut row[lane - skip];
                        let bias = bias.map_or(0.0, |bias| bias[lane - first]);
                        let old = if write == Write::Set { 0.0 } else { *y };
                        *y = old + alpha * sums[lane % STRIP] + bias;
                    }
                }
            }
        }
    }

    /// `x·wᵀ` of one strip and up to four rows.
    fn products(&self, isa: Isa, strip: &[u8], x: &Rows, rows: Range<usize>, sums: &mut [[f32; STRIP]; TOGETHER]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = isa.bytes() {
            let at = |row| x.row(rows.start + row);
            match rows.len() {
                1 => sums[..1].copy_from_slice(&isa.strip(self.kind, strip, &[at(0)])),
                2 => sums[..2].copy_from_slice(&isa.strip(self.kind, strip, &[at(0), at(1)])),
                3 => sums[..3].copy_from_slice(&isa.strip(self.kind, strip, &[at(0), at(1), at(2)])),
                _ => *sums = isa.strip(self.kind, strip, &[at(0), at(1), at(2), at(3)]),
            }
            return;
        }
        let _ = isa;
        for (sums, row) in sums.iter_mut().zip(rows) {
            *sums = plain(self.kind, self.unit, strip, x.row(row));
        }
    }
}

/// What every instruction set gives, and is held against.
fn plain(kind: GgmlType, unit: Unit, strip: &[u8], x: &[Group]) -> [f32; STRIP] {
    let mut sums = [0.0; STRIP];
    let groups = unit.len / GROUP;
    for (unit_of, x) in strip.chunks_exact(unit.bytes).zip(x.chunks_exact(groups)) {
        let half = |at: usize| widen_f16(u16::from_le_bytes([unit_of[at], unit_of[at + 1]]));
        for (lane, sum) in sums.iter_mut().enumerate() {
            for (g, x) in x.iter().enumerate() {
                let codes = codes(kind, unit_of, lane, g);
                let whole = |elements: Range<usize>, zero: i32| -> i32 {
                    elements.map(|i| (i32::from(codes[i]) - zero) * i32::from(x.codes[i])).sum()
                };
                match kind {
                    GgmlType::Q4K => {
                        let at = 32 + 288 * g + 2 * lane;
                        let of = |half: usize| i32::from(unit_of[at + half]) * whole(32 * half..32 * half + 32, 0);
                        let least = |half: usize| i32::from(unit_of[at + 16 + half]) * i32::from(x.halves[half]);
                        *sum += (of(0) + of(1)) as f32 * (half(2 * lane) * x.scale);
                        *sum -= (least(0) + least(1)) as f32 * (half(16 + 2 * lane) * x.scale);
                    }
                    GgmlType::Q6K => {
                        let scale = |part: usize| {
                            let at = 32 + 416 * g + 16 * (part / 2) + 2 * lane + part % 2;
                            i32::from(unit_of[at].cast_signed())
                        };
                        let all: i32 = (0..4).map(|part| scale(part) * whole(16 * part..16 * part + 16, 32)).sum();
                        let d = f32::from_le_bytes(std::array::from_fn(|i| unit_of[4 * lane + i]));
                        *sum += all as f32 * (d * x.scale);
                    }
                    _ => {
                        for part in 0..2 {
                            let whole = whole(32 * part..32 * part + 32, 16);
                            *sum += whole as f32 * (half(16 * part + 2 * lane) * x.scale);
                        }
                    }
                }
            }
        }
    }
    sums
}

/// The codes of group `g` of one lane of a unit, as they are: unsigned.
fn codes(kind: GgmlType, unit: &[u8], lane: usize, g: usize) -> [u8; GROUP] {
    let (low, high) = match kind {
        GgmlType::Q4K => (64 + 288 * g, None),
        GgmlType::Q6K => (64 + 416 * g, Some(2)),
        _ => (32, Some(1)),
    };
    std::array::from_fn(|i| {
        let (word, byte) = (i / 4, 4 * lane + i % 4);
        let nibble = unit[low + 32 * (word % 8) + byte] >> (4 * (word / 8)) & 15;
        nibble
            | match high {
                Some(2) => (unit[low + 256 + 32 * (word % 4) + byte] >> (2 * (word / 4)) & 3) << 4,
                Some(_) => (unit[low + 256 + 32 * (word / 8) + byte] >> (word % 8) & 1) << 4,
                None => 0,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::super::interleaved_rows::Rows;
    use super::super::path::{PATHS, Path};
    use super::{Epilogue, Interleaved, Isa, Pool, STRIP, plain};
    use crate::backend::Write;
    use crate::cpu::source::Source;
    use crate::host::{View, ViewMut};
    use crate::quant::{GgmlType, decode};
    use crate::weight::{Bytes, FrozenWeight};

    /// Types, and elements of a row: several units, and one.
    const KINDS: [(GgmlType, usize); 6] = [
        (GgmlType::Q4K, 1024),
        (GgmlType::Q4K, 256),
        (GgmlType::Q6K, 1024),
        (GgmlType::Q6K, 256),
        (GgmlType::Q5_0, 896),
        (GgmlType::Q5_0, 64),
    ];
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
            GgmlType::Q4K => &[0, 2],
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
        for (kind, cols) in KINDS {
            let w = Interleaved::new(&pool, &weight(kind, cols)).expect("a type in strips");
            let numbers = rows(70, cols);
            for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
                for (count, columns) in [(1, 0..OUTPUTS), (2, 8..16), (3, 3..OUTPUTS), (4, 9..10), (70, 1..18)] {
                    let x = Rows::of(&pool, isa, Source::Dense(View::dense(&numbers[..count * cols], count, cols)));
                    let got = product(isa, &w, &x, count, columns.clone());
                    for (i, got) in got.iter().enumerate() {
                        let (r, lane) = (i / columns.len(), columns.start + i % columns.len());
                        let strip = w.strips(lane / STRIP..lane / STRIP + 1);
                        let sum = plain(kind, w.unit, strip, x.row(r))[lane % STRIP];
                        let want = 0.5 + 2.0 * sum + lane as f32;
                        assert_eq!(got.to_bits(), want.to_bits(), "{kind} {isa:?} {cols}: {r} of {count}, {lane}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_plain_loop_is_the_product_of_what_is_decoded_with_what_is_rounded() {
        let pool = Pool::new(1).expect("a thread");
        for (kind, cols) in KINDS {
            let stored = weight(kind, cols);
            let w = Interleaved::new(&pool, &stored).expect("a type in strips");
            let numbers = rows(8, cols);
            let x = Rows::of(&pool, Isa::best(), Source::Dense(View::dense(&numbers, 8, cols)));
            let got = product(Isa::Portable, &w, &x, 8, 0..OUTPUTS);
            let mut exact = vec![0.0; OUTPUTS * cols];
            decode(&stored, 0, &mut exact);
            for (i, got) in got.iter().enumerate() {
                let (r, j) = (i / OUTPUTS, i % OUTPUTS);
                let of_x = x.row(r).iter().flat_map(|x| x.codes.map(|code| f64::from(code) * f64::from(x.scale)));
                let terms = exact[j * cols..(j + 1) * cols].iter().zip(of_x).map(|(w, x)| f64::from(*w) * x);
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let want = 0.5 + 2.0 * sum + j as f64;
                assert!(
                    (f64::from(*got) - want).abs() < 2e-6 * (size + 20.0),
                    "{kind} {cols} ({r}, {j}): {got}, {want}"
                );
            }
        }
    }

    #[test]
    fn rows_are_decoded_to_the_bits_of_the_stored_blocks() {
        let pool = Pool::new(2).expect("threads");
        for (kind, cols) in KINDS {
            let stored = weight(kind, cols);
            let w = Interleaved::new(&pool, &stored).expect("a type in strips");
            for part in [0..cols, 3..cols, cols / 2 - 1..cols / 2 + 2, cols - 1..cols] {
                for row in 0..OUTPUTS {
                    let (mut want, mut got) = (vec![0.0; part.len()], vec![1.0; part.len()]);
                    decode(&stored, row * cols + part.start, &mut want);
                    w.read(Isa::best(), row, part.clone(), &mut got);
                    let same = want.iter().map(|x| x.to_bits()).eq(got.iter().map(|x| x.to_bits()));
                    assert!(same, "{kind} {cols}: row {row}, {part:?}");
                }
            }
        }
    }

    #[test]
    fn numbers_that_are_none_stay_visible() {
        let pool = Pool::new(1).expect("a thread");
        let w = Interleaved::new(&pool, &weight(GgmlType::Q4K, 256)).expect("a type in strips");
        for bad in [f32::NAN, f32::INFINITY] {
            let mut numbers = rows(1, 256);
            numbers[77] = bad;
            let x = Rows::of(&pool, Isa::best(), Source::Dense(View::dense(&numbers, 1, 256)));
            assert!(product(Isa::best(), &w, &x, 1, 0..OUTPUTS).iter().all(|y| y.is_nan()));
        }
    }
}
