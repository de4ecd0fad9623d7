//! Products of pairs of bf16 by a unit that multiplies whole tiles: the panels it reads, and a model of it.
//!
//! A tile is 16 rows of 16 words. The left operand lies in panels of two tiles one below the other, tile after tile
//! along the depth, each row of a tile a row of the operand. Panels of the right operand are those of every other path:
//! a step of the depth is a row of 32 words, so that two tiles lie side by side. The depth is filled up with zeros
//! to whole tiles.

use super::panels::Pair;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::simd_amx::Amx;
use crate::backend::Write;

/// Rows of a tile, and words of each.
pub(super) const SIDE: usize = 16;
/// Rows and columns of the block of sums that is computed at a time.
pub(super) const BLOCK: usize = 2 * SIDE;
/// Words of one tile.
const TILE: usize = SIDE * SIDE;

/// The sums of a block.
#[repr(align(64))]
pub(super) struct BlockSums(pub(super) [[f32; BLOCK]; BLOCK]);

/// What multiplies tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TileUnit {
    /// The processor's.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(Amx),
    /// A model of it, so that everything around it is tried on processors that have none.
    Model,
}

impl TileUnit {
    /// `task` with the unit set up on this thread.
    pub(super) fn with(self, task: impl FnOnce(&mut dyn Multiplier)) {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx(amx) => task(&mut amx.set_up()),
            Self::Model => task(&mut Model),
        }
    }
}

/// A unit that is ready.
pub(super) trait Multiplier {
    /// `sums[r][c] (=|+=) Σ_d a[r, d]·b[d, c]`, both halves of every word, for at least the first `rows` rows. The panels
    /// have the same number of whole tiles; what is added is added tile after tile.
    fn multiply(&mut self, a: &[f32], b: &[f32], rows: usize, sums: &mut BlockSums, write: Write);

    /// The same sums of all pairs, set in rows that lie anywhere. False where they cannot be, and nothing is done.
    fn multiply_to(&mut self, _: &[Pair], _: &mut [&mut [f32; BLOCK]; BLOCK]) -> bool {
        false
    }
}

/// Tiles along the depth of two panels that belong together.
pub(super) fn tiles_deep(a: &[f32], b: &[f32]) -> usize {
    assert!(a.len() == b.len() && a.len().is_multiple_of(2 * TILE), "panels of whole tiles, equally deep");
    a.len() / (2 * TILE)
}

/// `tdpbf16ps` as its manual has it: subnormal numbers count as zero, sums of the even and of the odd elements are kept
/// apart within a tile, every sum is rounded to nearest.
struct Model;

impl Multiplier for Model {
    fn multiply(&mut self, a: &[f32], b: &[f32], rows: usize, sums: &mut BlockSums, write: Write) {
        let deep = tiles_deep(a, b);
        let below = if rows > SIDE { 2 } else { 1 };
        for (row, column) in (0..below).flat_map(|row| [(row, 0), (row, 1)]) {
            let mut tile = [[0.0; SIDE]; SIDE];
            if write == Write::Add {
                for (tile, sums) in tile.iter_mut().zip(&sums.0[row * SIDE..]) {
                    *tile = words(&sums[column * SIDE..]);
                }
            }
            for d in 0..deep {
                let left: [[f32; SIDE]; SIDE] = std::array::from_fn(|r| words(&a[(2 * d + row) * TILE + r * SIDE..]));
                let right: [[f32; SIDE]; SIDE] =
                    std::array::from_fn(|r| words(&b[(d * SIDE + r) * BLOCK + column * SIDE..]));
                add_products(&mut tile, &left, &right);
            }
            for (sums, tile) in sums.0[row * SIDE..].iter_mut().zip(tile) {
                sums[column * SIDE..][..SIDE].copy_from_slice(&tile);
            }
        }
    }

    fn multiply_to(&mut self, pairs: &[Pair], rows: &mut [&mut [f32; BLOCK]; BLOCK]) -> bool {
        let mut sums = BlockSums([[0.0; BLOCK]; BLOCK]);
        for (i, (a, b)) in pairs.iter().enumerate() {
            self.multiply(a, b, BLOCK, &mut sums, if i == 0 { Write::Set } else { Write::Add });
        }
        rows.iter_mut().zip(sums.0).for_each(|(row, sums)| **row = sums);
        true
    }
}

/// The row of a tile at the start of `panel`, or of sums.
fn words(panel: &[f32]) -> [f32; SIDE] {
    *panel.first_chunk().expect("whole tiles")
}

/// `sums += left·right`
fn add_products(sums: &mut [[f32; SIDE]; SIDE], left: &[[f32; SIDE]; SIDE], right: &[[f32; SIDE]; SIDE]) {
    for (sums, left) in sums.iter_mut().zip(left) {
        let mut parts = [[0.0_f32; 2]; SIDE];
        for (a, right) in left.iter().map(|word| halves(*word)).zip(right) {
            for (parts, b) in parts.iter_mut().zip(right.iter().map(|word| halves(*word))) {
                parts[0] = normal(a[0].mul_add(b[0], parts[0]));
                parts[1] = normal(a[1].mul_add(b[1], parts[1]));
            }
        }
        for (sum, [even, odd]) in sums.iter_mut().zip(parts) {
            *sum = normal(*sum + normal(even + odd));
        }
    }
}

/// The two numbers of a word.
fn halves(word: f32) -> [f32; 2] {
    [normal(f32::from_bits(word.to_bits() << 16)), normal(f32::from_bits(word.to_bits() & 0xFFFF_0000))]
}

/// Zero of the same sign instead of a subnormal number.
fn normal(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

/// Whether a unit computes what it should: sums of whole numbers exactly, and any others nearly. Sums hold nonsense
/// before, so that nothing passes that was never written.
pub(super) fn works(unit: TileUnit) -> bool {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let mut good = true;
    for (deep, rows, whole) in [(1, 32, true), (3, 32, true), (2, 16, true), (5, 32, false), (4, 7, false)] {
        // The upper halves of f32: whole numbers to 15, or anything about one.
        let mut number =
            |_| if whole { ((next() % 31) as f32 - 15.0).to_bits() >> 16 } else { 0x3F00 | (next() & 0x80FF) };
        let mut panel =
            || -> Vec<f32> { (0..2 * TILE * deep).map(|i| f32::from_bits(number(i) | (number(i) << 16))).collect() };
        let (a, b) = (panel(), panel());
        let mut sums = BlockSums([[f32::NAN; BLOCK]; BLOCK]);
        // The first tiles of the depth, and what the others add to them.
        let ((a0, a1), (b0, b1)) = (a.split_at(2 * TILE * (deep / 2)), b.split_at(2 * TILE * (deep / 2)));
        unit.with(|unit| {
            unit.multiply(a0, b0, rows, &mut sums, Write::Set);
            unit.multiply(a1, b1, rows, &mut sums, Write::Add);
            good &= rows < BLOCK || sets_places(unit, &[(a0, b0), (a1, b1)], &sums);
        });
        for (r, c) in (0..rows).flat_map(|r| (0..BLOCK).map(move |c| (r, c))) {
            let (mut want, mut size) = (0.0_f64, 0.0_f64);
            for word in 0..deep * SIDE {
                let left = a[(word / SIDE * 2 + r / SIDE) * TILE + r % SIDE * SIDE + word % SIDE];
                for (x, y) in halves(left).into_iter().zip(halves(b[word * BLOCK + c])) {
                    want += f64::from(x) * f64::from(y);
                    size += (f64::from(x) * f64::from(y)).abs();
                }
            }
            let tolerance = if whole { 0.0 } else { size * 4e-6 };
            // Not `>`: a sum that is no number must fail.
            good &= (f64::from(sums.0[r][c]) - want).abs() <= tolerance;
        }
    }
    good
}

/// Whether sums that are set in rows of something wider are these, and nothing else there changes.
fn sets_places(unit: &mut dyn Multiplier, pairs: &[Pair], sums: &BlockSums) -> bool {
    const WIDTH: usize = BLOCK + 11;
    const FIRST: usize = 5;
    let mut place = [[f32::NAN; WIDTH]; BLOCK];
    let mut rows = place.each_mut().map(|row| row[FIRST..].first_chunk_mut().expect("rows are wider"));
    unit.multiply_to(pairs, &mut rows)
        && place.iter().zip(&sums.0).all(|(row, sums)| {
            let (before, row) = row.split_at(FIRST);
            let (row, behind) = row.split_at(BLOCK);
            let is_same = row.iter().zip(sums).all(|(x, sum)| x.to_bits() == sum.to_bits());
            is_same && before.iter().chain(behind).all(|x| x.is_nan())
        })
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, BlockSums, Multiplier, SIDE, TILE, TileUnit, add_products, works};
    use crate::backend::Write;

    #[test]
    fn the_model_is_a_unit_that_works() {
        assert!(works(TileUnit::Model));
    }

    #[test]
    fn the_model_rounds_and_flushes_as_the_manual_says() {
        let word = |low: f32, high: f32| f32::from_bits((low.to_bits() >> 16) | (high.to_bits() & 0xFFFF_0000));
        let mut left = [[0.0; SIDE]; SIDE];
        let mut right = [[0.0; SIDE]; SIDE];
        let mut sums = [[0.0; SIDE]; SIDE];
        // Even elements cancel among themselves before the odd ones are added: one by one, 1 would be lost.
        left[0][0] = word(16_777_216.0, 1.0);
        left[0][1] = word(-16_777_216.0, 0.0);
        right[0][0] = word(1.0, 1.0);
        right[1][0] = word(1.0, 1.0);
        // A subnormal factor is nothing, and so is a subnormal product.
        left[1][0] = word(f32::from_bits(0x0040_0000), 1e-30);
        right[0][1] = word(1e30, 1e-10);
        sums[2][2] = 7.0;
        add_products(&mut sums, &left, &right);
        assert_eq!((sums[0][0], sums[1][1], sums[2][2]), (1.0, 0.0, 7.0));
    }

    #[test]
    fn rows_of_the_lower_tile_are_left_alone_where_nobody_asks_for_them() {
        let panel = vec![f32::from_bits(0x3F80_3F80); 2 * TILE];
        let mut sums = BlockSums([[f32::NAN; BLOCK]; BLOCK]);
        TileUnit::Model.with(|unit: &mut dyn Multiplier| unit.multiply(&panel, &panel, 16, &mut sums, Write::Set));
        assert!(sums.0[15].iter().all(|x| *x == 32.0) && sums.0[16].iter().all(|x| x.is_nan()));
    }
}
