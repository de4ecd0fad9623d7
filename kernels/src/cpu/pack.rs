//! Operands rearranged into panels that the register tile reads from front to back.
//!
//! A panel is `width` lanes wide (rows of the left operand, columns of the right one) and `depth`
//! long: element `(d, lane)` lies at `d·width + lane`. Lanes beyond the operand are zero. A panel of bf16 holds a
//! pair of steps in each word and is half as long: see `factors.rs`.

use super::factors::Factors;
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;
use std::ops::Range;

/// Longest run of elements that is decoded at once.
pub(super) const DECODE: usize = 512;

/// The widths of panels that have a loop of their own: those of the register tiles of AVX-512, and of AVX2.
const WIDEST: usize = 32;
const ODD: usize = 14;
const WIDE: usize = 16;
const NARROW: usize = 6;

/// What panels are made of.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) factors: Factors,
    /// Lanes of a panel.
    pub(super) width: usize,
    /// Words of the depth that a panel has room for. Those that the source does not fill are zero.
    pub(super) words: usize,
}

/// How the source lies to the panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    /// A row of the source is a lane.
    Lanes,
    /// A row of the source is one step of the depth.
    Depth,
}

/// Length of the panels that cover `lanes` lanes, `depth` words long.
pub(super) fn packed_len(lanes: usize, width: usize, depth: usize) -> usize {
    lanes.next_multiple_of(width) * depth
}

/// Pack `lanes` x `depth` of `source` into consecutive panels of what `form` says.
pub(super) fn pack_as(
    isa: Isa,
    form: Form,
    source: Source,
    along: Along,
    lanes: Range<usize>,
    depth: Range<usize>,
    out: &mut [f32],
) {
    if depth.is_empty() {
        return;
    }
    let Form { factors, width, words } = form;
    let used = factors.words(depth.len()) * width;
    let panels = out[..packed_len(lanes.len(), width, words)].chunks_exact_mut(width * words).map(|panel| {
        let (panel, rest) = panel.split_at_mut(used);
        rest.fill(0.0);
        panel
    });
    match along {
        Along::Lanes => {
            for (panel, first) in panels.zip(lanes.clone().step_by(width)) {
                let lanes = first..lanes.end.min(first + width);
                if width.is_multiple_of(16) {
                    let turn = Isa::transpose_sixteen;
                    lane_by_lane::<16, { DECODE / 2 }>(factors, isa, source, lanes, depth.clone(), width, panel, turn);
                } else {
                    let turn = Isa::transpose;
                    lane_by_lane::<8, DECODE>(factors, isa, source, lanes, depth.clone(), width, panel, turn);
                }
            }
        }
        Along::Depth => {
            let mut panels: Vec<&mut [f32]> = panels.collect();
            // Whole panels, so that a run starts where a panel does.
            let step = DECODE / width * width;
            for from in lanes.clone().step_by(step) {
                let run = from..lanes.end.min(from + step);
                let first = (from - lanes.start) / width;
                step_by_step(factors, isa, source, run, depth.clone(), width, &mut panels[first..]);
            }
        }
    }
}

/// `N` lanes at a time, `RUN` steps long, through a small square, so that neither side is read or written with gaps
/// for long.
fn lane_by_lane<const N: usize, const RUN: usize>(
    factors: Factors,
    isa: Isa,
    source: Source,
    lanes: Range<usize>,
    depth: Range<usize>,
    width: usize,
    panel: &mut [f32],
    turn: impl Fn(Isa, &[&[f32]; N], usize, usize, &mut [f32]),
) {
    let (mut buffers, mut numbers) = ([[0.0; RUN]; N], [0.0; RUN]);
    if lanes.len() < width {
        panel.fill(0.0);
    }
    for from in depth.clone().step_by(RUN) {
        let run = from..depth.end.min(from + RUN);
        // Runs begin at even steps, so no pair is torn.
        let panel = &mut panel[factors.words(from - depth.start) * width..][..factors.words(run.len()) * width];
        for first in lanes.clone().step_by(N) {
            // The last `N` may be some of those before them once more, which is less work than one by one.
            let first = first.min(lanes.end.saturating_sub(N)).max(lanes.start);
            let count = (lanes.end - first).min(N);
            let mut rows: [&[f32]; N] = [&[]; N];
            for ((row, buffer), lane) in rows.iter_mut().zip(&mut buffers).zip(first..first + count) {
                *row = match factors {
                    Factors::F32 => source.read(isa, lane, run.clone(), buffer),
                    Factors::Bf16 => source.read_pairs(isa, lane, run.clone(), &mut numbers, buffer),
                };
            }
            if count == N {
                turn(isa, &rows, width, first - lanes.start, panel);
            } else {
                for (i, row) in rows[..count].iter().enumerate() {
                    for (step, &x) in panel.chunks_exact_mut(width).zip(*row) {
                        step[first - lanes.start + i] = x;
                    }
                }
            }
        }
    }
}

fn step_by_step(
    factors: Factors,
    isa: Isa,
    source: Source,
    lanes: Range<usize>,
    depth: Range<usize>,
    width: usize,
    panels: &mut [&mut [f32]],
) {
    let mut buffers = [[0.0; DECODE]; 3];
    for (d, row) in depth.clone().step_by(factors.steps()).enumerate() {
        let row = step(factors, isa, source, row..depth.end, lanes.clone(), &mut buffers);
        match width {
            WIDEST => spread(isa, panels, row, d),
            ODD => spread_odd(isa, panels, row, d),
            WIDE => spread_wide(isa, panels, row, d),
            NARROW => spread_narrow(isa, panels, row, d),
            _ => spread_any(panels, row, d, width),
        }
    }
}

vectorized! {
    /// `row` is step `d` of the panels.
    fn spread(panels: &mut [&mut [f32]], row: &[f32], d: usize) {
        spread_of::<WIDEST>(panels, row, d);
    }
}

vectorized! {
    /// The same for that width.
    fn spread_odd(panels: &mut [&mut [f32]], row: &[f32], d: usize) {
        spread_of::<ODD>(panels, row, d);
    }
}

vectorized! {
    /// The same for that width.
    fn spread_wide(panels: &mut [&mut [f32]], row: &[f32], d: usize) {
        spread_of::<WIDE>(panels, row, d);
    }
}

vectorized! {
    /// The same for that width.
    fn spread_narrow(panels: &mut [&mut [f32]], row: &[f32], d: usize) {
        spread_of::<NARROW>(panels, row, d);
    }
}

/// The same for a width that the compiler knows: a copy without a call.
#[inline(always)]
fn spread_of<const WIDTH: usize>(panels: &mut [&mut [f32]], row: &[f32], d: usize) {
    let (whole, rest) = row.as_chunks::<WIDTH>();
    for (panel, part) in panels.iter_mut().zip(whole) {
        if let Some(step) = panel.as_chunks_mut::<WIDTH>().0.get_mut(d) {
            *step = *part;
        }
    }
    if !rest.is_empty() {
        spread_any(&mut panels[whole.len()..], rest, d, WIDTH);
    }
}

/// The same for panels of any width.
fn spread_any(panels: &mut [&mut [f32]], row: &[f32], d: usize, width: usize) {
    for (panel, part) in panels.iter_mut().zip(row.chunks(width)) {
        let step = &mut panel[d * width..][..width];
        step[..part.len()].copy_from_slice(part);
        step[part.len()..].fill(0.0);
    }
}

/// The words of one step of the depth, the first of `rows`: with pairs, of the two first.
pub(super) fn step<'b>(
    factors: Factors,
    isa: Isa,
    source: Source<'b>,
    rows: Range<usize>,
    lanes: Range<usize>,
    buffers: &'b mut [[f32; DECODE]; 3],
) -> &'b [f32] {
    let [first, second, pairs] = buffers;
    if factors == Factors::Bf16
        && rows.len() > 1
        && source.join_stored(isa, &mut pairs[..lanes.len()], rows.start, &lanes)
    {
        return &pairs[..lanes.len()];
    }
    let low = source.read(isa, rows.start, lanes.clone(), first);
    if factors == Factors::F32 {
        return low;
    }
    let pairs = &mut pairs[..lanes.len()];
    if rows.len() > 1 {
        source.pair(isa, pairs, low, source.read(isa, rows.start + 1, lanes, second));
    } else {
        second[..lanes.len()].fill(0.0);
        source.pair(isa, pairs, low, &second[..lanes.len()]);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::{Along, Form, pack_as, packed_len};
    use crate::cpu::factors::{Factors, pair_up};
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::source::Source;
    use crate::host::View;

    #[test]
    fn both_ways_of_packing_put_every_element_where_it_belongs() {
        let isa = Path::best().isa().expect("the best path runs");
        for (lanes, depth, width) in
            [(1, 1, 4), (14, 5, 14), (33, 700, 16), (70, 9, 32), (600, 3, 32), (29, 33, 14), (600, 5, 16), (45, 8, 6)]
        {
            let value = |lane: usize, d: usize| (lane * 1000 + d) as f32;
            let by_lane: Vec<f32> = (0..lanes).flat_map(|l| (0..depth).map(move |d| value(l, d))).collect();
            let by_depth: Vec<f32> = (0..depth).flat_map(|d| (0..lanes).map(move |l| value(l, d))).collect();
            let sources = [
                (Source::Dense(View::dense(&by_lane, lanes, depth)), Along::Lanes),
                (Source::Dense(View::dense(&by_depth, depth, lanes)), Along::Depth),
            ];
            for (source, along) in sources {
                let mut out = vec![f32::NAN; packed_len(lanes, width, depth)];
                let form = Form { factors: Factors::F32, width, words: depth };
                pack_as(isa, form, source, along, 0..lanes, 0..depth, &mut out);
                pairs_are_the_same_numbers(&out, source, along, (lanes, depth, width));
                for (i, &x) in out.iter().enumerate() {
                    let (panel, d, lane) = (i / (width * depth), i / width % depth, i % width);
                    let lane = panel * width + lane;
                    let want = if lane < lanes { value(lane, d) } else { 0.0 };
                    assert_eq!(x, want, "{along:?} {lanes}x{depth} width {width}: lane {lane}, step {d}");
                }
            }
        }
    }

    /// Panels of pairs hold what panels of numbers hold, two steps a word.
    fn pairs_are_the_same_numbers(
        panels: &[f32],
        source: Source,
        along: Along,
        (lanes, depth, width): (usize, usize, usize),
    ) {
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            // With room for more than there is.
            let words = depth.div_ceil(2).next_multiple_of(4);
            let mut out = vec![f32::NAN; packed_len(lanes, width, words)];
            let form = Form { factors: Factors::Bf16, width, words };
            pack_as(isa, form, source, along, 0..lanes, 0..depth, &mut out);
            for (i, word) in out.iter().enumerate() {
                let (panel, d, lane) = (i / (width * words), i / width % words, i % width);
                let at = |d: usize| if d < depth { panels[(panel * depth + d) * width + lane] } else { 0.0 };
                let mut want = [f32::NAN];
                pair_up(isa, &mut want, &[at(2 * d), at(2 * d + 1)]);
                assert_eq!(
                    word.to_bits(),
                    want[0].to_bits(),
                    "{isa:?} {along:?} {lanes}x{depth} lane {lane}, pair {d}"
                );
            }
        }
    }
}
