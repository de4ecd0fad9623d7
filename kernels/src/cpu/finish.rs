//! What becomes of the sums of a register tile: scaled, with a bias, added to what was there, rounded where that is asked.

use super::gemm::Epilogue;
use super::numbers::{Half, round_half, widen_half};
use super::simd_dispatch::{Isa, vectorized};
use super::tiles::BLOCK;
use crate::backend::Write;
use std::ops::Range;

/// Numbers that a product writes.
pub(super) trait Written: Send + Sized {
    /// Bring the sums of one register tile, `nr` a row, to these columns of its rows.
    fn finish(isa: Isa, rows: &mut [&mut [Self]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue);
}

impl Written for f32 {
    fn finish(isa: Isa, rows: &mut [&mut [f32]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue) {
        finish(isa, rows, cols, sums, nr, epilogue);
    }
}

impl Written for Half {
    fn finish(isa: Isa, rows: &mut [&mut [Half]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue) {
        let mut numbers = [0.0; BLOCK];
        let numbers = &mut numbers[..cols.len()];
        for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(nr)) {
            let row = &mut row[cols.clone()];
            if epilogue.write == Write::Add {
                widen_half(isa, numbers, row);
            }
            finish(isa, &mut [&mut *numbers], 0..row.len(), sums, nr, epilogue);
            round_half(isa, row, numbers);
        }
    }
}

vectorized! {
    /// Bring the sums of one register tile to their place.
    fn finish(rows: &mut [&mut [f32]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue) {
        let Epilogue { alpha, bias, write } = epilogue;
        for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(nr)) {
            let row = &mut row[cols.clone()];
            if write == Write::Set {
                for (y, &sum) in row.iter_mut().zip(sums) {
                    *y = alpha * sum;
                }
            } else {
                for (y, &sum) in row.iter_mut().zip(sums) {
                    *y += alpha * sum;
                }
            }
            if let Some(bias) = bias {
                for (y, &bias) in row.iter_mut().zip(bias) {
                    *y += bias;
                }
            }
        }
    }
}
