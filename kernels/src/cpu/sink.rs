//! Where an operation writes: f32 in memory, or bfloat16 that is rounded on the way.

use super::Cpu;
use super::numbers::{Half, Numbers, round_half, widen_half};
use super::simd_dispatch::Isa;
use crate::backend::Write;
use crate::host::ViewMut;
use crate::tensor::Out;
use std::ops::Range;

/// A window to write, of either kind.
pub(super) enum Sink<'a> {
    F32(ViewMut<'a>),
    Bf16(ViewMut<'a, Half>),
}

/// A row of one.
pub(super) enum Row<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [Half]),
}

/// A rectangle of one that a task writes.
pub(super) struct SinkTile<'a> {
    /// Its first row.
    pub(super) row: usize,
    /// What it covers of each row.
    pub(super) rows: Vec<Row<'a>>,
}

impl<'a> Sink<'a> {
    #[expect(clippy::needless_pass_by_value, reason = "it is the exclusive borrow that moves")]
    pub(super) fn of(y: Out<'a, Cpu>) -> Self {
        let stride = y.tensor.cols();
        match &mut y.tensor.buf {
            Numbers::F32(data) => Self::F32(ViewMut::window(data, stride, &y.at)),
            Numbers::Bf16(data) => Self::Bf16(ViewMut::window(data, stride, &y.at)),
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::F32(y) => y.rows(),
            Self::Bf16(y) => y.rows(),
        }
    }

    pub(super) fn cols(&self) -> usize {
        match self {
            Self::F32(y) => y.cols(),
            Self::Bf16(y) => y.cols(),
        }
    }

    /// Floats that a task needs to compute a row of it.
    pub(super) fn room(&self) -> usize {
        match self {
            Self::F32(_) => 0,
            Self::Bf16(y) => y.cols(),
        }
    }

    /// The same window for a shorter time.
    pub(super) fn reborrow(&mut self) -> Sink<'_> {
        match self {
            Self::F32(y) => Sink::F32(y.reborrow()),
            Self::Bf16(y) => Sink::Bf16(y.reborrow()),
        }
    }

    /// Rows `row..row + rows`.
    pub(super) fn rows_from(self, row: usize, rows: usize) -> Self {
        match self {
            Self::F32(y) => Self::F32(y.rows_from(row, rows)),
            Self::Bf16(y) => Self::Bf16(y.rows_from(row, rows)),
        }
    }

    /// Columns `col..col + cols` of every row.
    pub(super) fn columns(self, col: usize, cols: usize) -> Self {
        match self {
            Self::F32(y) => Self::F32(y.columns(col, cols)),
            Self::Bf16(y) => Self::Bf16(y.columns(col, cols)),
        }
    }

    /// Blocks of at most `step` rows, each with the number of its first row.
    pub(super) fn blocks(self, step: usize) -> Vec<(usize, Sink<'a>)> {
        match self {
            Self::F32(y) => y.blocks(step).into_iter().map(|(at, y)| (at, Self::F32(y))).collect(),
            Self::Bf16(y) => y.blocks(step).into_iter().map(|(at, y)| (at, Self::Bf16(y))).collect(),
        }
    }

    /// Every row in turn.
    pub(super) fn into_rows(self) -> Vec<Row<'a>> {
        match self {
            Self::F32(y) => y.into_rows().map(Row::F32).collect(),
            Self::Bf16(y) => y.into_rows().map(Row::Bf16).collect(),
        }
    }

    /// Tiles of at most `step` columns for each of the row ranges, which ascend without overlap.
    pub(super) fn tiles(self, ranges: impl IntoIterator<Item = Range<usize>>, step: usize) -> Vec<SinkTile<'a>> {
        let tiles = match self {
            Self::F32(y) => y.tiles_of(ranges, step, Row::F32),
            Self::Bf16(y) => y.tiles_of(ranges, step, Row::Bf16),
        };
        tiles.into_iter().map(|(row, _, rows)| SinkTile { row, rows }).collect()
    }
}

impl<'a> Row<'a> {
    /// What comes before element `at`, and the rest.
    pub(super) fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::F32(y) => {
                let (before, behind) = y.split_at_mut(at);
                (Self::F32(before), Self::F32(behind))
            }
            Self::Bf16(y) => {
                let (before, behind) = y.split_at_mut(at);
                (Self::Bf16(before), Self::Bf16(behind))
            }
        }
    }

    /// Runs of at most `step` elements.
    pub(super) fn chunks(self, step: usize) -> impl Iterator<Item = Row<'a>> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let row = rest.take()?;
            let len = match &row {
                Self::F32(y) => y.len(),
                Self::Bf16(y) => y.len(),
            };
            let (run, behind) = row.split_at(step.min(len));
            rest = (len > step).then_some(behind);
            (len > 0).then_some(run)
        })
    }

    /// `task` computes the row. It finds there what the row held where `write` adds to that; `buffer` has the sink's
    /// room.
    pub(super) fn write(self, isa: Isa, write: Write, buffer: &mut [f32], task: impl FnOnce(&mut [f32])) {
        match self {
            Self::F32(y) => task(y),
            Self::Bf16(y) => {
                let numbers = &mut buffer[..y.len()];
                if write == Write::Add {
                    widen_half(isa, numbers, y);
                }
                task(numbers);
                round_half(isa, y, numbers);
            }
        }
    }

    /// Every element is zero.
    pub(super) fn clear(&mut self) {
        match self {
            Self::F32(y) => y.fill(0.0),
            Self::Bf16(y) => y.fill([0; 2]),
        }
    }
}
