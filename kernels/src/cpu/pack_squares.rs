//! The left operand rearranged into squares of pairs: some rows of the operand, sixteen words of each, one square after
//! the other along the depth. Nothing is turned that lies in rows already.
//!
//! A tile of the sums reads such a square as a whole (`tiles.rs`), or word by word for all its rows (`simd_avx512bf16.rs`).

use super::factors::Factors;
use super::pack::{Along, DECODE, step};
use super::simd_dispatch::Isa;
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
    for (i, lane) in lanes.enumerate() {
        for from in depth.clone().step_by(DECODE) {
            let run = from..depth.end.min(from + DECODE);
            let mut squares = panel.chunks_exact_mut(height * SIDE).skip((from - depth.start) / (2 * SIDE));
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

/// A row of the source is a step of the depth: eight pairs of rows are turned together.
fn columns(isa: Isa, source: Source, lanes: Range<usize>, depth: Range<usize>, height: usize, panel: &mut [f32]) {
    let mut buffers = [[0.0; DECODE]; 3];
    let mut eight = [[0.0; BLOCK]; 8];
    let firsts: Vec<usize> = depth.clone().step_by(2).collect();
    for (i, firsts) in firsts.chunks(8).enumerate() {
        for (row, first) in eight.iter_mut().zip(firsts) {
            let words = step(Factors::Bf16, isa, source, *first..depth.end, lanes.clone(), &mut buffers);
            row[..words.len()].copy_from_slice(words);
        }
        eight[firsts.len()..].fill([0.0; BLOCK]);
        let square = &mut panel[i / 2 * height * SIDE..][..height * SIDE];
        isa.transpose(&eight.each_ref().map(|row| &row[..lanes.len()]), SIDE, i % 2 * 8, square);
    }
}

#[cfg(test)]
mod tests {
    use super::{Along, SIDE, pack_squares};
    use crate::cpu::factors::pair_up;
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::source::Source;
    use crate::host::View;

    #[test]
    fn both_ways_of_packing_squares_put_every_pair_where_it_belongs() {
        let sizes = [(1, 1), (32, 32), (33, 64), (16, 31), (50, 700), (7, 1100), (17, 33), (64, 15)];
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            for ((lanes, depth), height) in sizes.into_iter().flat_map(|size| [(size, 32), (size, 14)]) {
                let value = |lane: usize, d: usize| (lane * 1000 + d) as f32;
                let by_lane: Vec<f32> = (0..lanes).flat_map(|l| (0..depth).map(move |d| value(l, d))).collect();
                let by_depth: Vec<f32> = (0..depth).flat_map(|d| (0..lanes).map(move |l| value(l, d))).collect();
                let sources = [
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
