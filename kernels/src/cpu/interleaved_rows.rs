//! Rows of activations in eight bits, with the sums that products with interleaved weights begin with.

use super::int8::{GROUP, Rounded, round_group};
use super::pool::Pool;
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;

/// Rows that one task rounds.
const ROWS: usize = 8;

/// 64 neighbours of a row, all that a product needs of them in one place.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Group {
    /// -127 to 127.
    pub(super) codes: [i8; GROUP],
    /// Of each quarter the sum of the codes at places 0 and 1 of every four, and that of places 2 and 3.
    pub(super) quarters: [[i16; 2]; 4],
    /// The same of each half.
    pub(super) pairs: [[i16; 2]; 2],
    /// The sum of each half.
    pub(super) halves: [i16; 2],
    /// What the codes are multiplied with; no number where there is none.
    pub(super) scale: f32,
}

/// Two numbers in a word.
#[inline(always)]
pub(super) fn both([a, b]: [i16; 2]) -> i32 {
    i32::from(b) << 16 | i32::from(a.cast_unsigned())
}

impl Group {
    /// Four codes in a word. No closure: what is called here is inlined into functions for an instruction set.
    #[inline(always)]
    pub(super) fn four(&self, word: usize) -> i32 {
        let [a, b, c, d] = self.codes.as_chunks().0[word];
        i32::from_le_bytes([a.cast_unsigned(), b.cast_unsigned(), c.cast_unsigned(), d.cast_unsigned()])
    }

    const NOTHING: Self =
        Self { codes: [0; GROUP], quarters: [[0; 2]; 4], pairs: [[0; 2]; 2], halves: [0; 2], scale: 0.0 };

    #[inline(always)]
    fn of(x: &[f32; GROUP]) -> Self {
        let mut rounded = Rounded::NOTHING;
        let scale = round_group(x, &mut rounded);
        let mut group = Self { codes: rounded.codes, scale, ..Self::NOTHING };
        for (sums, codes) in group.quarters.iter_mut().zip(rounded.codes.as_chunks::<16>().0) {
            for four in codes.as_chunks::<4>().0 {
                let [a, b, c, d] = four.map(i16::from);
                sums[0] += a + b;
                sums[1] += c + d;
            }
        }
        let [a, b, c, d] = group.quarters;
        group.pairs = [[a[0] + b[0], a[1] + b[1]], [c[0] + d[0], c[1] + d[1]]];
        group.halves = group.pairs.map(|[first, second]| first + second);
        group
    }
}

/// All rows, one after the other.
pub(super) struct Rows {
    groups: Vec<Group>,
    /// Groups of a row.
    len: usize,
}

impl Rows {
    /// `x`, of whole groups.
    pub(super) fn of(pool: &Pool, isa: Isa, x: Source) -> Self {
        let (rows, cols) = x.dims();
        let len = cols / GROUP;
        let mut groups = vec![Group::NOTHING; rows * len];
        let tasks = groups.chunks_mut((ROWS * len).max(1)).enumerate().collect();
        pool.each(tasks, |(i, groups): (usize, &mut [Group])| {
            let mut buffer = vec![0.0; x.room()];
            for (j, groups) in groups.chunks_mut(len.max(1)).enumerate() {
                round_row(isa, groups, x.row(isa, i * ROWS + j, &mut buffer).as_chunks().0);
            }
        });
        Self { groups, len }
    }

    pub(super) fn row(&self, row: usize) -> &[Group] {
        &self.groups[row * self.len..(row + 1) * self.len]
    }
}

vectorized! {
    fn round_row(groups: &mut [Group], x: &[[f32; GROUP]]) {
        for (group, x) in groups.iter_mut().zip(x) {
            *group = Group::of(x);
        }
    }
}
