//! Products of few rows, some at a time: every weight is read once, and the threads are called once for all of them.

use super::dots::{DOTS_PER_TASK, FEW_ROWS, dots};
use super::gemm::Epilogue;
use super::int8::{self, MOST_ROWS};
use super::int8_groups::Stored;
use super::pool::Pool;
use super::simd_dispatch::Isa;
use super::source::Source;
use crate::host::{Tile, View, ViewMut};
use std::ops::Range;

/// Bytes of weights that one task reads, about: long enough to be worth the hand-over, short enough that nobody waits
/// long for the last one.
const BYTES_PER_TASK: usize = 96 << 10;
/// Columns of a task begin at multiples of this.
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
    Exact(Source<'a>),
}

/// `y[·, columns] (=|+=) alpha·x·wᵀ + bias` of every part; their columns ascend without overlap. Where there are too
/// many rows nothing is done and `y` comes back.
pub(super) fn products<'a>(
    pool: &Pool,
    isa: Isa,
    eight_bits: bool,
    y: ViewMut<'a>,
    x: View,
    parts: &[Part],
) -> Option<ViewMut<'a>> {
    let rows = y.rows();
    let mut ways = Vec::with_capacity(parts.len());
    for part in parts {
        let stored = if eight_bits && rows <= MOST_ROWS { Stored::of(part.w) } else { None };
        ways.push(match stored {
            Some(stored) => Way::Eight(stored),
            None if rows <= FEW_ROWS => Way::Exact(part.w),
            None => return Some(y),
        });
    }
    let is_rounded = ways.iter().any(|way| matches!(way, Way::Eight(_)));
    let rounded = is_rounded.then(|| int8::Rows::of(isa, x));
    let rounded = rounded.as_ref().map_or_else(Vec::new, int8::Rows::rows);
    let columns = parts.iter().zip(&ways).map(|(part, way)| (part.columns.clone(), way.columns_per_task()));
    let tasks = tiles(y, columns).into_iter().map(|(i, tile)| (&ways[i], parts[i].epilogue, tile)).collect();
    pool.each(tasks, |(way, epilogue, tile)| match way {
        Way::Eight(w) => int8::fill(isa, tile, &rounded, w, epilogue),
        Way::Exact(w) => dots(isa, tile, x, *w, epilogue),
    });
    None
}

impl Way<'_> {
    fn columns_per_task(&self) -> usize {
        match self {
            Self::Eight(w) => (BYTES_PER_TASK / w.row_bytes()).max(1).next_multiple_of(STEP),
            Self::Exact(_) => DOTS_PER_TASK,
        }
    }
}

/// Tiles of at most so many columns, each with the number of its part; the column of a tile counts from its part's first.
fn tiles(y: ViewMut, parts: impl Iterator<Item = (Range<usize>, usize)>) -> Vec<(usize, Tile)> {
    let mut rows: Vec<&mut [f32]> = y.into_rows().collect();
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
