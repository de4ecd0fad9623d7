//! Operands rearranged into panels that the register tile reads from front to back.
//!
//! A panel is `width` lanes wide (rows of the left operand, columns of the right one) and `depth`
//! long: element `(d, lane)` lies at `d·width + lane`. Lanes beyond the operand are zero. A panel of bf16 holds a
//! pair of steps in each word and is half as long: see `factors.rs`.

use super::factors::{Factors, join};
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
            let mut sixteen = None::<Runs<16, { DECODE / 2 }>>;
            let mut eight = None::<Runs<8, DECODE>>;
            for (panel, first) in panels.zip(lanes.clone().step_by(width)) {
                let lanes = first..lanes.end.min(first + width);
                if turn_stored(factors, isa, source, &lanes, &depth, width, panel) {
                    continue;
                }
                if width.is_multiple_of(16) {
                    let turn = Isa::transpose_sixteen;
                    lane_by_lane(&mut sixteen, factors, isa, source, lanes, depth.clone(), width, panel, turn);
                } else {
                    let turn = Isa::transpose;
                    lane_by_lane(&mut eight, factors, isa, source, lanes, depth.clone(), width, panel, turn);
                }
            }
        }
        Along::Depth => {
            let mut panels: Vec<&mut [f32]> = panels.collect();
            if spread_whole(factors, isa, source, &lanes, &depth, width, &mut panels) {
                return;
            }
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

/// A whole panel of a weight that is stored in bf16, where the processor has a loop for that.
fn turn_stored(
    factors: Factors,
    isa: Isa,
    source: Source,
    lanes: &Range<usize>,
    depth: &Range<usize>,
    width: usize,
    panel: &mut [f32],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    match (isa, factors, width) {
        (Isa::Avx2(isa), Factors::F32, WIDE) => {
            if let Some(rows) = stored_lanes(source, lanes, depth) {
                isa.turn_stored(&rows, panel);
                return true;
            }
        }
        (Isa::Avx512(isa), Factors::Bf16, WIDEST) if depth.len().is_multiple_of(2) => {
            if let Some(rows) = stored_lanes(source, lanes, depth) {
                isa.turn_stored(&rows, panel);
                return true;
            }
        }
        _ => {}
    }
    false
}

/// These lanes as they are stored in bf16, where they are and there are so many.
#[cfg(target_arch = "x86_64")]
fn stored_lanes<'a, const N: usize>(
    source: Source<'a>,
    lanes: &Range<usize>,
    depth: &Range<usize>,
) -> Option<[&'a [u8]; N]> {
    let mut rows: [&[u8]; N] = [&[]; N];
    for (row, lane) in rows.iter_mut().zip(lanes.clone()) {
        *row = source.stored_bf16(lane, depth)?;
    }
    (lanes.len() == N).then_some(rows)
}

/// All steps of whole panels, panel after panel, of what lies in memory as it is or has a loop of the processor's.
fn spread_whole(
    factors: Factors,
    isa: Isa,
    source: Source,
    lanes: &Range<usize>,
    depth: &Range<usize>,
    width: usize,
    panels: &mut [&mut [f32]],
) -> bool {
    if (factors, width) == (Factors::Bf16, WIDEST)
        && lanes.len().is_multiple_of(WIDEST)
        && depth.len().is_multiple_of(2)
        && let Some((rows, stride)) = source.stored_from(depth.start, lanes.start)
    {
        #[cfg(target_arch = "x86_64")]
        if let Isa::Avx512(isa) = isa {
            isa.spread_stored(rows, stride, panels);
            return true;
        }
        spread_pairs(isa, panels, rows, stride, depth.len() / 2);
        return true;
    }
    #[cfg(target_arch = "x86_64")]
    if (factors, width) == (Factors::Bf16, WIDEST)
        && lanes.len().is_multiple_of(WIDEST)
        && depth.len().is_multiple_of(2)
        && let (Source::Dense(x), Some(unit)) = (source, isa.pairs())
    {
        let (rows, stride) = x.rest(depth.start);
        unit.spread_numbers(&rows[lanes.start..], stride, panels);
        return true;
    }
    if factors != Factors::F32 || width != WIDE || !lanes.len().is_multiple_of(WIDE) {
        return false;
    }
    if let Source::Dense(x) = source {
        let (rows, stride) = x.rest(depth.start);
        spread_rows(isa, panels, &rows[lanes.start..], stride);
        return true;
    }
    #[cfg(target_arch = "x86_64")]
    if let Isa::Avx2(isa) = isa
        && let Some((rows, stride)) = source.stored_from(depth.start, lanes.start)
    {
        isa.spread_stored(rows, stride, panels);
        return true;
    }
    false
}

vectorized! {
    /// `panels[p][d·16 + i] = rows[d·stride + 16·p + i]`
    fn spread_rows(panels: &mut [&mut [f32]], rows: &[f32], stride: usize) {
        for (p, panel) in panels.iter_mut().enumerate() {
            for (d, step) in panel.as_chunks_mut::<WIDE>().0.iter_mut().enumerate() {
                if let Some(row) = rows[d * stride + p * WIDE..].first_chunk() {
                    *step = *row;
                }
            }
        }
    }
}

vectorized! {
    /// Pairs of so many times two rows, each of `stride` bytes of stored bf16, as steps of whole panels.
    fn spread_pairs(panels: &mut [&mut [f32]], rows: &[u8], stride: usize, pairs: usize) {
        const BYTES: usize = 2 * WIDEST;
        let bytes = BYTES * panels.len();
        for d in 0..pairs {
            let (low, high) = (&rows[2 * d * stride..][..bytes], &rows[(2 * d + 1) * stride..][..bytes]);
            for ((panel, low), high) in panels.iter_mut().zip(low.chunks(BYTES)).zip(high.chunks(BYTES)) {
                join(&mut panel[d * WIDEST..][..WIDEST], low, high);
            }
        }
    }
}

/// Runs of lanes that are decoded before they are turned.
struct Runs<const N: usize, const RUN: usize> {
    lanes: [[f32; RUN]; N],
    numbers: [f32; RUN],
}

/// `N` lanes at a time, `RUN` steps long, through a small square, so that neither side is read or written with gaps for
/// long. `runs` are made where they are needed: what lies in memory is turned from there.
fn lane_by_lane<const N: usize, const RUN: usize>(
    runs: &mut Option<Runs<N, RUN>>,
    factors: Factors,
    isa: Isa,
    source: Source,
    lanes: Range<usize>,
    depth: Range<usize>,
    width: usize,
    panel: &mut [f32],
    turn: impl Fn(Isa, &[&[f32]; N], usize, usize, &mut [f32]),
) {
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
            if let (Source::Dense(x), Factors::F32) = (source, factors) {
                for (row, lane) in rows.iter_mut().zip(first..first + count) {
                    *row = &x.row(lane)[run.clone()];
                }
            } else {
                let Runs { lanes: buffers, numbers } =
                    runs.get_or_insert_with(|| Runs { lanes: [[0.0; RUN]; N], numbers: [0.0; RUN] });
                for ((row, buffer), lane) in rows.iter_mut().zip(buffers).zip(first..first + count) {
                    *row = match factors {
                        Factors::F32 => source.read(isa, lane, run.clone(), buffer),
                        Factors::Bf16 => source.read_pairs(isa, lane, run.clone(), numbers, buffer),
                    };
                }
            }
            if count == N {
                turn(isa, &rows, width, first - lanes.start, panel);
            } else if !turn_narrow(isa, &rows[..count], width, panel) {
                for (i, row) in rows[..count].iter().enumerate() {
                    for (step, &x) in panel.chunks_exact_mut(width).zip(*row) {
                        step[first - lanes.start + i] = x;
                    }
                }
            }
        }
    }
}

/// All lanes of the narrowest panels, which are fewer than are turned otherwise.
fn turn_narrow(isa: Isa, rows: &[&[f32]], width: usize, panel: &mut [f32]) -> bool {
    rows.as_array().is_some_and(|rows| width == NARROW && isa.transpose_six(rows, panel))
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
    use crate::cpu::numbers::Half;
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::simd_dispatch::Isa;
    use crate::cpu::source::Source;
    use crate::host::View;
    use crate::weight::{Bytes, DType, FrozenWeight};

    #[test]
    fn both_ways_of_packing_put_every_element_where_it_belongs() {
        for (lanes, depth, width) in
            [(1, 1, 4), (14, 5, 14), (33, 700, 16), (70, 9, 32), (600, 3, 32), (29, 33, 14), (600, 5, 16), (45, 8, 6)]
                .into_iter()
                .chain([
                    (64, 10, 32),
                    (32, 33, 32),
                    (48, 29, 16),
                    (16, 8, 16),
                    (32, 16, 16),
                    (12, 17, 6),
                    (6, 8, 6),
                    (6, 9, 6),
                    (6, 1, 6),
                ])
        {
            // Whole numbers that a bf16 holds.
            let value = |lane: usize, d: usize| ((lane * 37 + d * 11) % 256) as f32;
            let by_lane: Vec<f32> = (0..lanes).flat_map(|l| (0..depth).map(move |d| value(l, d))).collect();
            let by_depth: Vec<f32> = (0..depth).flat_map(|d| (0..lanes).map(move |l| value(l, d))).collect();
            let halves = |x: &[f32]| -> Vec<Half> {
                let upper = |x: &f32| *x.to_le_bytes().last_chunk().expect("four bytes");
                x.iter().map(upper).collect()
            };
            let (lane_halves, depth_halves) = (halves(&by_lane), halves(&by_depth));
            let stored = |x: &[Half], rows: usize, cols: usize| {
                let bytes = Bytes::from_vec(x.as_flattened().to_vec());
                FrozenWeight::Dense { bytes, dtype: DType::BF16, rows, cols }
            };
            let (lane_stored, depth_stored) = (stored(&lane_halves, lanes, depth), stored(&depth_halves, depth, lanes));
            let sources = [
                (Source::Dense(View::dense(&by_lane, lanes, depth)), Along::Lanes),
                (Source::Dense(View::dense(&by_depth, depth, lanes)), Along::Depth),
                (Source::Narrow(View::dense(&lane_halves, lanes, depth)), Along::Lanes),
                (Source::Narrow(View::dense(&depth_halves, depth, lanes)), Along::Depth),
                (Source::Stored(&lane_stored, 0, lanes), Along::Lanes),
                (Source::Stored(&depth_stored, 0, depth), Along::Depth),
            ];
            for ((source, along), isa) in
                sources.into_iter().flat_map(|of| PATHS.iter().filter_map(move |row| Some((of, Path::isa(row.0)?))))
            {
                let mut out = vec![f32::NAN; packed_len(lanes, width, depth)];
                let form = Form { factors: Factors::F32, width, words: depth };
                pack_as(isa, form, source, along, 0..lanes, 0..depth, &mut out);
                for (i, &x) in out.iter().enumerate() {
                    let (panel, d, lane) = (i / (width * depth), i / width % depth, i % width);
                    let lane = panel * width + lane;
                    let want = if lane < lanes { value(lane, d) } else { 0.0 };
                    assert_eq!(x, want, "{isa:?} {along:?} {lanes}x{depth} width {width}: lane {lane}, step {d}");
                }
                pairs_are_the_same_numbers(isa, &out, source, along, (lanes, depth, width));
            }
        }
    }

    #[test]
    fn a_part_of_a_matrix_is_packed_from_its_place() {
        let (rows, cols) = (70, 90);
        let data: Vec<f32> = (0..rows * cols).map(|i| (i * 29 % 256) as f32).collect();
        let bytes = data.iter().flat_map(|x| x.to_le_bytes().into_iter().skip(2)).collect();
        let stored = FrozenWeight::Dense { bytes: Bytes::from_vec(bytes), dtype: DType::BF16, rows, cols };
        let (across, along) = (7..55, 3..36);
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            for source in [Source::Dense(View::dense(&data, rows, cols)), Source::Stored(&stored, 0, rows)] {
                for width in [6, 16] {
                    let form = Form { factors: Factors::F32, width, words: along.len() };
                    let mut out = vec![f32::NAN; packed_len(across.len(), width, along.len())];
                    for turned in [false, true] {
                        let way = if turned { Along::Depth } else { Along::Lanes };
                        pack_as(isa, form, source, way, across.clone(), along.clone(), &mut out);
                        for (i, x) in out.iter().enumerate() {
                            let (panel, d, lane) = (i / (width * along.len()), i / width % along.len(), i % width);
                            let (lane, d) = (across.start + panel * width + lane, along.start + d);
                            let at = if turned { d * cols + lane } else { lane * cols + d };
                            assert_eq!(*x, data[at], "{isa:?} {way:?} width {width}: lane {lane}, step {d}");
                        }
                    }
                }
            }
        }
    }

    /// Panels of pairs hold what panels of numbers hold, two steps a word.
    fn pairs_are_the_same_numbers(
        isa: Isa,
        panels: &[f32],
        source: Source,
        along: Along,
        (lanes, depth, width): (usize, usize, usize),
    ) {
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
            assert_eq!(word.to_bits(), want[0].to_bits(), "{isa:?} {along:?} {lanes}x{depth} lane {lane}, pair {d}");
        }
    }
}
