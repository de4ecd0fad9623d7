//! Dropout with a mask that is recomputed, and noise from the same counter.

use super::pool::{Pool, rows_per_task};
use super::simd_dispatch::{Isa, vectorized};
use super::sink::Sink;
use super::source::Source;
use crate::backend::{Dropout, Write};
use crate::host::ViewMut;
use crate::philox;

/// Uniforms drawn at a time: 64 blocks of four.
const DRAWS: usize = 256;

/// `y (=|+=) mask∘x / (1 - p)`
pub(super) fn dropout(pool: &Pool, isa: Isa, y: Sink, x: Source, params: &Dropout, write: Write) {
    let cols = x.cols();
    pool.each(y.blocks(rows_per_task(cols)), |(first, y)| {
        let (mut to, mut from) = (pool.scratch(y.room()), pool.scratch(x.room()));
        for (i, y) in y.into_rows().into_iter().enumerate() {
            let x = x.row(isa, first + i, &mut from);
            y.write(isa, write, &mut to, |y| mask_row(isa, y, x, (first + i) * cols, params, write));
        }
    });
}

vectorized! {
    /// `first` is the number of the row's first element in the stream.
    fn mask_row(y: &mut [f32], x: &[f32], first: usize, params: &Dropout, write: Write) {
        let keep = 1.0 / (1.0 - params.p);
        let mut draws = [0.0; DRAWS];
        let mut at = 0;
        while at < x.len() {
            let element = first + at;
            let run = (x.len() - at).min(DRAWS - element % 4);
            let blocks = (element % 4 + run).div_ceil(4);
            for (block, four) in (element as u64 / 4..).zip(&mut draws.as_chunks_mut::<4>().0[..blocks]) {
                *four = philox::uniforms(params.seed, params.stream, block);
            }
            let draws = &draws[element % 4..];
            for ((y, &x), &u) in y[at..][..run].iter_mut().zip(&x[at..][..run]).zip(draws) {
                let x = if u >= params.p { x * keep } else { 0.0 };
                *y = if write == Write::Set { x } else { *y + x };
            }
            at += run;
        }
    }
}

/// `y[i, j] += amplitudes[i]·(2u - 1)`
pub(super) fn noise(pool: &Pool, isa: Isa, y: ViewMut, amplitudes: &[f32], seed: u64, stream: u64) {
    let cols = y.cols();
    pool.each(y.blocks(rows_per_task(cols)), |(first, y)| {
        for (i, y) in y.into_rows().enumerate() {
            let row = first + i;
            noise_row(isa, y, row * cols, amplitudes[row], seed, stream);
        }
    });
}

vectorized! {
    /// `first` is the number of the row's first element in the stream.
    fn noise_row(y: &mut [f32], first: usize, amplitude: f32, seed: u64, stream: u64) {
        let mut draws = [0.0; DRAWS];
        let mut at = 0;
        while at < y.len() {
            let element = first + at;
            let run = (y.len() - at).min(DRAWS - element % 4);
            let blocks = (element % 4 + run).div_ceil(4);
            for (block, four) in (element as u64 / 4..).zip(&mut draws.as_chunks_mut::<4>().0[..blocks]) {
                *four = philox::uniforms(seed, stream, block);
            }
            let draws = &draws[element % 4..];
            for (y, &u) in y[at..][..run].iter_mut().zip(draws) {
                *y += amplitude * (2.0 * u - 1.0);
            }
            at += run;
        }
    }
}
