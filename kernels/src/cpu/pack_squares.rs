//! The left operand rearranged into squares of pairs: some rows of the operand, sixteen words of each, one square after
//! the other along the depth. Nothing is turned that lies in rows already.
//!
//! A tile of the sums reads such a square as a whole (`tiles.rs`), or word by word for all its rows (`simd_avx512bf16.rs`).

use super::factors::Factors;
use super::pack::{Along, DECODE, step};
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;
use super::tiles::{BLOCK, SIDE};
use std::ops::Range;

/// Pack `lanes` x `depth` of `source` into consecutive rows of squares of `height` rows, `words` deep. What the source
/// does not fill is zero.
pub(super) fn pack_squares(
    isa: Isa,
    source: Source,
    along: Along,
    lanes: Range<usize>,
    depth: Range<usize>,
    (height, words): (usize, usize),
    out: &mut [f32],
) {
    assert!(height <= BLOCK && words.is_multiple_of(SIDE), "whole squares, none higher than a block");
    for (panel, first) in out.chunks_exact_mut(height * words).zip(lanes.clone().step_by(height)) {
        let lanes = first..lanes.end.min(first + height);
        // Only the last rows of squares, and the last square of each, are not written whole.
        if lanes.len() < height {
            panel.fill(0.0);
        } else if !depth.len().is_multiple_of(2 * SIDE) {
            panel[height * (words - SIDE)..].fill(0.0);
        }
        match along {
            Along::Lanes => rows(isa, source, lanes, depth.clone(), height, panel),
            Along::Depth => columns(isa, source, lanes, depth.clone(), height, panel),
        }
    }
}

/// A row of the source is a row of squares.
fn rows(isa: Isa, source: Source, lanes: Range<usize>, depth: Range<usize>, height: usize, panel: &mut [f32]) {
    let (mut numbers, mut buffer) = ([0.0; DECODE], [0.0; DECODE]);
    // A part of all rows after the other, so that the squares of one part stay in the first cache.
    for from in depth.clone().step_by(DECODE) {
        let run = from..depth.end.min(from + DECODE);
        let panel = &mut panel[(from - depth.start) / 2 * height..];
        for (i, lane) in lanes.clone().enumerate() {
            if run.len().is_multiple_of(2 * SIDE)
                && whole_row(isa, source, lane, &run, (height, i), panel, &mut numbers)
            {
                continue;
            }
            let run = run.clone();
            let mut squares = panel.chunks_exact_mut(height * SIDE);
            let (whole, rest) = source.read_pairs(isa, lane, run, &mut numbers, &mut buffer).as_chunks::<SIDE>();
            for (pairs, square) in whole.iter().zip(&mut squares) {
                square.as_chunks_mut().0[i] = *pairs;
            }
            if let (Some(square), false) = (squares.next(), rest.is_empty()) {
                square[i * SIDE..][..rest.len()].copy_from_slice(rest);
            }
        }
    }
}

/// Part of a row, of whole rows of squares, without a copy in between where there is a loop for that.
fn whole_row(
    isa: Isa,
    source: Source,
    lane: usize,
    run: &Range<usize>,
    (height, row): (usize, usize),
    squares: &mut [f32],
    numbers: &mut [f32],
) -> bool {
    if let Some(bytes) = source.stored_bf16(lane, run) {
        stored_row(isa, squares, bytes, height, row);
        return true;
    }
    #[cfg(target_arch = "x86_64")]
    if let (Some(unit), Source::Dense(_) | Source::Normed(_)) = (isa.pairs(), source) {
        unit.square_row(squares, height, row, source.read(isa, lane, run.clone(), numbers));
        return true;
    }
    false
}

vectorized! {
    /// Stored pairs are row `row` of as many squares.
    fn stored_row(squares: &mut [f32], bytes: &[u8], height: usize, row: usize) {
        for (square, bytes) in squares.chunks_exact_mut(height * SIDE).zip(bytes.as_chunks::<{ 4 * SIDE }>().0) {
            if let Some(to) = square.as_chunks_mut::<SIDE>().0.get_mut(row) {
                *to = std::array::from_fn(|i| f32::from_bits(u32::from_le_bytes(bytes.as_chunks().0[i])));
            }
        }
    }
}

/// A row of the source is a step of the depth: eight pairs of rows are turned together.
fn columns(isa: Isa, source: Source, lanes: Range<usize>, depth: Range<usize>, height: usize, panel: &mut [f32]) {
    let mut buffers = [[0.0; DECODE]; 3];
    let mut eight = [[0.0; BLOCK]; 8];
    let firsts: Vec<usize> = depth.clone().step_by(2).collect();
    for (i, firsts) in firsts.chunks(8).enumerate() {
        if !pair_steps(isa, source, firsts[0]..depth.end, &lanes, &mut eight) {
            for (row, first) in eight.iter_mut().zip(firsts) {
                let words = step(Factors::Bf16, isa, source, *first..depth.end, lanes.clone(), &mut buffers);
                row[..words.len()].copy_from_slice(words);
            }
            eight[firsts.len()..].fill([0.0; BLOCK]);
        }
        let square = &mut panel[i / 2 * height * SIDE..][..height * SIDE];
        isa.transpose(&eight.each_ref().map(|row| &row[..lanes.len()]), SIDE, i % 2 * 8, square);
    }
}

/// Eight pairs of rows of numbers, of which there are so many, where the processor has a loop for that.
fn pair_steps(
    isa: Isa,
    source: Source,
    rows: Range<usize>,
    lanes: &Range<usize>,
    eight: &mut [[f32; BLOCK]; 8],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(unit) = isa.pairs().filter(|_| rows.len() >= 2 * eight.len()) {
        match source {
            Source::Dense(x) => {
                let (numbers, stride) = x.rest(rows.start);
                unit.pair_steps(&numbers[lanes.start..], stride, lanes.len(), eight);
                return true;
            }
            Source::Narrow(x) => {
                let (numbers, stride) = x.rest(rows.start);
                unit.join_steps(&numbers[lanes.start..], stride, lanes.len(), eight);
                return true;
            }
            _ => {}
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (isa, source, rows, lanes, eight);
    false
}

#[cfg(test)]
mod tests {
    use super::{Along, SIDE, pack_squares};
    use crate::cpu::factors::pair_up;
    use crate::cpu::numbers::Half;
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::source::Source;
    use crate::host::View;

    #[test]
    fn both_ways_of_packing_squares_put_every_pair_where_it_belongs() {
        let sizes = [(1, 1), (32, 32), (33, 64), (16, 31), (50, 700), (7, 1100), (17, 33), (64, 15)];
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            for ((lanes, depth), height) in sizes.into_iter().flat_map(|size| [(size, 32), (size, 14)]) {
                // Whole numbers that a bf16 holds.
                let value = |lane: usize, d: usize| ((lane * 37 + d * 11) % 256) as f32;
                let by_lane: Vec<f32> = (0..lanes).flat_map(|l| (0..depth).map(move |d| value(l, d))).collect();
                let by_depth: Vec<f32> = (0..depth).flat_map(|d| (0..lanes).map(move |l| value(l, d))).collect();
                let halves =
                    |x: &[f32]| -> Vec<Half> { x.iter().map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect() };
                let (lane_halves, depth_halves) = (halves(&by_lane), halves(&by_depth));
                let sources = [
                    (Source::Narrow(View::dense(&lane_halves, lanes, depth)), Along::Lanes),
                    (Source::Narrow(View::dense(&depth_halves, depth, lanes)), Along::Depth),
                    (Source::Dense(View::dense(&by_lane, lanes, depth)), Along::Lanes),
                    (Source::Dense(View::dense(&by_depth, depth, lanes)), Along::Depth),
                ];
                let words = depth.div_ceil(2).next_multiple_of(SIDE);
                for (source, along) in sources {
                    let mut out = vec![f32::NAN; lanes.next_multiple_of(height) * words];
                    pack_squares(isa, source, along, 0..lanes, 0..depth, (height, words), &mut out);
                    for (i, got) in out.iter().enumerate() {
                        let lane = i / (height * words) * height + i / SIDE % height;
                        let d = 2 * (i % (height * words) / (height * SIDE) * SIDE + i % SIDE);
                        let at = |d: usize| if lane < lanes && d < depth { value(lane, d) } else { 0.0 };
                        let mut want = [f32::NAN];
                        pair_up(isa, &mut want, &[at(d), at(d + 1)]);
                        assert_eq!(got.to_bits(), want[0].to_bits(), "{isa:?} {along:?} {lanes}x{depth} {lane} {d}");
                    }
                }
            }
        }
    }
}
