//! The left operand rearranged into tiles of pairs: see `tiles.rs`.

use super::factors::Factors;
use super::pack::{Along, DECODE, step};
use super::simd_dispatch::Isa;
use super::source::Source;
use super::tiles::{BLOCK, SIDE};
use std::ops::Range;

/// Pack `lanes` x `depth` of `source` into consecutive panels of two tiles, one below the other, `words` deep.
pub(super) fn pack_tiles(
    isa: Isa,
    source: Source,
    along: Along,
    lanes: Range<usize>,
    depth: Range<usize>,
    words: usize,
    out: &mut [f32],
) {
    for (panel, first) in out.chunks_exact_mut(BLOCK * words).zip(lanes.clone().step_by(BLOCK)) {
        let lanes = first..lanes.end.min(first + BLOCK);
        let (tiles, _) = panel.as_chunks_mut::<{ SIDE * SIDE }>();
        // Only the last panel, and the last tiles of each, are not written whole.
        if lanes.len() < BLOCK {
            tiles.as_flattened_mut().fill(0.0);
        } else if !depth.len().is_multiple_of(2 * SIDE) {
            tiles.iter_mut().rev().take(2).for_each(|tile| tile.fill(0.0));
        }
        match along {
            Along::Lanes => rows(isa, source, lanes, depth.clone(), tiles),
            Along::Depth => columns(isa, source, lanes, depth.clone(), tiles),
        }
    }
}

/// A row of the source is a row of tiles.
fn rows(isa: Isa, source: Source, lanes: Range<usize>, depth: Range<usize>, tiles: &mut [[f32; SIDE * SIDE]]) {
    let (mut numbers, mut buffer) = ([0.0; DECODE], [0.0; DECODE]);
    for (i, lane) in lanes.enumerate() {
        for from in depth.clone().step_by(DECODE) {
            let run = from..depth.end.min(from + DECODE);
            let deep = (from - depth.start) / (2 * SIDE);
            let pairs = source.read_pairs(isa, lane, run, &mut numbers, &mut buffer);
            let below = tiles[2 * deep + i / SIDE..].iter_mut().step_by(2);
            for (tile, pairs) in below.zip(pairs.chunks(SIDE)) {
                tile[i % SIDE * SIDE..][..pairs.len()].copy_from_slice(pairs);
            }
        }
    }
}

/// A row of the source is a step of the depth: squares of eight pairs of rows are turned.
fn columns(isa: Isa, source: Source, lanes: Range<usize>, depth: Range<usize>, tiles: &mut [[f32; SIDE * SIDE]]) {
    let mut buffers = [[0.0; DECODE]; 3];
    let mut square = [[0.0; BLOCK]; 8];
    let pairs: Vec<usize> = depth.clone().step_by(2).collect();
    for (eighth, pairs) in pairs.chunks(8).enumerate() {
        for (row, first) in square.iter_mut().zip(pairs) {
            let words = step(Factors::Bf16, isa, source, *first..depth.end, lanes.clone(), &mut buffers);
            row[..words.len()].copy_from_slice(words);
        }
        square[pairs.len()..].fill([0.0; BLOCK]);
        for (half, tile) in tiles[eighth / 2 * 2..].iter_mut().take(lanes.len().div_ceil(SIDE)).enumerate() {
            let count = (lanes.len() - half * SIDE).min(SIDE);
            let part = square.each_ref().map(|row| &row[half * SIDE..][..count]);
            isa.transpose(&part, SIDE, eighth % 2 * 8, tile);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Along, BLOCK, SIDE, pack_tiles};
    use crate::cpu::factors::pair_up;
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::source::Source;
    use crate::host::View;

    #[test]
    fn both_ways_of_packing_tiles_put_every_pair_where_it_belongs() {
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            for (lanes, depth) in [(1, 1), (32, 32), (33, 64), (16, 31), (50, 700), (7, 1100), (17, 33), (64, 15)] {
                let value = |lane: usize, d: usize| (lane * 1000 + d) as f32;
                let by_lane: Vec<f32> = (0..lanes).flat_map(|l| (0..depth).map(move |d| value(l, d))).collect();
                let by_depth: Vec<f32> = (0..depth).flat_map(|d| (0..lanes).map(move |l| value(l, d))).collect();
                let sources = [
                    (Source::Dense(View::dense(&by_lane, lanes, depth)), Along::Lanes),
                    (Source::Dense(View::dense(&by_depth, depth, lanes)), Along::Depth),
                ];
                let words = depth.div_ceil(2).next_multiple_of(SIDE);
                for (source, along) in sources {
                    let mut out = vec![f32::NAN; lanes.next_multiple_of(BLOCK) * words];
                    pack_tiles(isa, source, along, 0..lanes, 0..depth, words, &mut out);
                    for (i, got) in out.iter().enumerate() {
                        let (tile, row, word) = (i / 256, i / SIDE % SIDE, i % SIDE);
                        let deep = words / SIDE;
                        let lane = tile / (2 * deep) * BLOCK + tile % 2 * SIDE + row;
                        let d = 2 * (tile % (2 * deep) / 2 * SIDE + word);
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
