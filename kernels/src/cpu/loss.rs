//! The head: projection, soft cap, softmax, cross entropy and their gradient, a block of the vocabulary at a time.
//!
//! One pass gives the loss and `dx`: as in blockwise attention, what was summed is rescaled when a
//! larger logit turns up, so the logits of a row are never together in memory and each block of the
//! head is decoded once for both of its products. `dw` needs the finished softmax: a second pass.

use super::attention::{largest, total};
use super::exp::{exp, tanh};
use super::factors::Factors;
use super::gemm::{Epilogue, Side, gemm, steps};
use super::pool::Pool;
use super::simd_dispatch::{Isa, vectorized};
use super::sink::Sink;
use super::source::Source;
use super::tiles::BLOCK;
use crate::backend::{LossParams, Write};
use crate::host::{View, ViewMut};
use std::ops::Range;

/// Trained rows taken together.
const ROWS: usize = 1024;
/// Most logits in memory: 4 MiB.
const LOGITS: usize = 1 << 20;
/// Widest block of the vocabulary.
const WIDEST: usize = 8192;

/// Rows with a target, a chunk of them.
struct Chunk<'a> {
    pool: &'a Pool,
    isa: Isa,
    factors: Factors,
    /// Their inputs: where they lie, or gathered.
    x: View<'a>,
    w: Source<'a>,
    targets: Vec<usize>,
    softcap: Option<f32>,
    /// Rows of the head in one block.
    width: usize,
}

/// What is known of one row's softmax.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f32,
    /// Largest logit before the cap, and where it is: the cap can make different logits equal.
    best: (f32, usize),
    /// The target's logit, and the slope of the cap there.
    target: (f32, f32),
}

/// Sets `loss`, `correct`, `dx`; adds to `dw`.
pub(super) fn head_loss(
    pool: &Pool,
    isa: Isa,
    factors: Factors,
    loss: &mut [f32],
    correct: &mut [f32],
    dx: Option<ViewMut>,
    dw: Option<ViewMut>,
    x: View,
    w: Source,
    targets: &[i32],
    params: &LossParams,
) {
    loss.fill(0.0);
    correct.fill(0.0);
    let (mut dx, mut dw) = (dx, dw);
    if let Some(dx) = &mut dx {
        dx.reborrow().into_rows().for_each(|row| row.fill(0.0));
    }
    let d = x.cols();
    let trained: Vec<(usize, usize)> =
        (targets.iter().enumerate()).filter_map(|(i, &t)| Some((i, usize::try_from(t).ok()?))).collect();
    for rows in trained.chunks(ROWS) {
        let (first, last) = (rows[0].0, rows[rows.len() - 1].0);
        // Rows that follow each other are read and written where they lie.
        let is_run = last - first + 1 == rows.len();
        let len = if is_run { 0 } else { rows.len() * d };
        let (mut gathered, mut gradient) = (pool.scratch(len), pool.scratch(if dx.is_some() { len } else { 0 }));
        for (out, (row, _)) in gathered.chunks_exact_mut(d.max(1)).zip(rows) {
            out.copy_from_slice(x.row(*row));
        }
        let chunk = Chunk {
            pool,
            isa,
            factors,
            x: if is_run { x.rows_from(first, rows.len()) } else { View::dense(&gathered, rows.len(), d) },
            w,
            targets: rows.iter().map(|row| row.1).collect(),
            softcap: params.softcap,
            // Where panels of a packed head begin.
            width: (LOGITS / rows.len()).min(WIDEST) / BLOCK * BLOCK,
        };
        let of_rows = match &mut dx {
            Some(dx) if is_run => Some(dx.reborrow().rows_from(first, rows.len())),
            Some(_) => {
                gradient.fill(0.0);
                Some(ViewMut::dense(&mut gradient, rows.len(), d))
            }
            None => None,
        };
        let softmax = chunk.gradients(of_rows, dw.as_mut().map(ViewMut::reborrow), params.gradient_scale);
        for (i, (row, target)) in rows.iter().enumerate() {
            let Softmax { max, sum, best, target: (z, _) } = softmax[i];
            loss[*row] = max + sum.ln() - z;
            correct[*row] = f32::from(u8::from(best.1 == *target));
            if let (Some(dx), false) = (&mut dx, is_run) {
                dx.row(*row).copy_from_slice(&gradient[i * d..][..d]);
            }
        }
    }
}

impl Chunk<'_> {
    fn rows(&self) -> usize {
        self.x.rows()
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        steps(0..self.w.rows(), self.width)
    }

    /// The softmax of every row, and what is asked for of its gradients; `dx` is zero before.
    fn gradients(&self, mut dx: Option<ViewMut>, dw: Option<ViewMut>, scale: f32) -> Vec<Softmax> {
        let Some(dw) = dw else {
            let softmax = self.forward(dx.as_mut().map(ViewMut::reborrow));
            if let Some(dx) = dx {
                self.finish(&softmax, dx, scale);
            }
            return softmax;
        };
        let softmax = self.forward(None);
        self.backward(&softmax, dw, dx, scale);
        softmax
    }

    /// `x·wᵀ` for one block of the vocabulary.
    fn logits(&self, block: &Range<usize>, out: &mut [f32]) {
        let w = self.w.rows_from(block.start, block.len());
        let (a, b) = (Side { source: Source::Dense(self.x), transposed: false }, Side { source: w, transposed: true });
        let out = Sink::F32(ViewMut::dense(out, self.rows(), block.len()));
        gemm(self.pool, self.isa, self.factors, out, a, b, self.x.cols(), Epilogue::plain(Write::Set));
    }

    /// `dx += dz·w` for one block of the vocabulary.
    fn input_gradient(&self, block: &Range<usize>, dz: &[f32], dx: ViewMut) {
        let w = self.w.rows_from(block.start, block.len());
        let dz = Source::Dense(View::dense(dz, self.rows(), block.len()));
        let (a, b) = (Side { source: dz, transposed: false }, Side { source: w, transposed: false });
        gemm(self.pool, self.isa, self.factors, Sink::F32(dx), a, b, block.len(), Epilogue::plain(Write::Add));
    }

    /// The softmax of every row; `dx` becomes `Σ exp(z - max)·slope·w`.
    fn forward(&self, mut dx: Option<ViewMut>) -> Vec<Softmax> {
        let rows = self.rows();
        let start = Softmax {
            max: f32::NEG_INFINITY,
            sum: 0.0,
            best: (f32::NEG_INFINITY, usize::MAX),
            target: (f32::NAN, 0.0),
        };
        let mut softmax = vec![start; rows];
        let mut logits = self.pool.scratch(rows * self.width.min(self.w.rows()));
        for block in self.blocks() {
            let logits = &mut logits[..rows * block.len()];
            self.logits(&block, logits);
            let sums: Vec<&mut [f32]> = if let Some(dx) = &mut dx {
                dx.reborrow().into_rows().collect()
            } else {
                std::iter::repeat_with(Default::default).take(rows).collect()
            };
            let tasks =
                (logits.chunks_exact_mut(block.len()).zip(&mut softmax)).zip(sums.into_iter().zip(&self.targets));
            self.pool.each(tasks.collect(), |((logits, softmax), (sums, &target))| {
                let target = target.checked_sub(block.start).filter(|t| *t < block.len());
                soften(self.isa, logits, softmax, sums, block.start, target, self.softcap);
            });
            if let Some(dx) = &mut dx {
                self.input_gradient(&block, logits, dx.reborrow());
            }
        }
        softmax
    }

    /// From `Σ exp·slope·w` to the gradient: divide by the sum, subtract the target's row.
    fn finish(&self, softmax: &[Softmax], dx: ViewMut, scale: f32) {
        let d = self.x.cols();
        let tasks = dx.into_rows().zip(softmax).zip(&self.targets).collect();
        self.pool.each(tasks, |((dx, softmax), &target)| {
            let mut buffer = self.pool.scratch(d);
            let w = self.w.read(self.isa, target, 0..d, &mut buffer);
            let share = 1.0 / softmax.sum;
            // The target's row as the products saw it, or the two would not cancel where the model is sure.
            let row = |w: f32| softmax.target.1 * self.factors.rounded(w);
            dx.iter_mut().zip(w).for_each(|(dx, w)| *dx = scale * (*dx * share - row(*w)));
        });
    }

    /// With the softmax known: `dz = scale·(p - onehot)·slope`, `dw += dzᵀ·x`, `dx += dz·w`.
    fn backward(&self, softmax: &[Softmax], mut dw: ViewMut, mut dx: Option<ViewMut>, scale: f32) {
        let rows = self.rows();
        let mut logits = self.pool.scratch(rows * self.width.min(self.w.rows()));
        for block in self.blocks() {
            let dz = &mut logits[..rows * block.len()];
            self.logits(&block, dz);
            let tasks = dz.chunks_exact_mut(block.len()).zip(softmax).zip(&self.targets).collect();
            self.pool.each(tasks, |((dz, softmax), &target)| {
                differentiate(self.isa, dz, softmax.max, scale / softmax.sum, self.softcap);
                if let Some(dz) = target.checked_sub(block.start).and_then(|t| dz.get_mut(t)) {
                    *dz -= scale * softmax.target.1;
                }
            });
            let dz = &*dz;
            let turned = Source::Dense(View::dense(dz, rows, block.len()));
            let (a, b) =
                (Side { source: turned, transposed: true }, Side { source: Source::Dense(self.x), transposed: false });
            let dw = dw.reborrow().rows_from(block.start, block.len());
            gemm(self.pool, self.isa, self.factors, Sink::F32(dw), a, b, rows, Epilogue::plain(Write::Add));
            if let Some(dx) = &mut dx {
                self.input_gradient(&block, dz, dx.reborrow());
            }
        }
    }
}

/// The logit after the cap, and the slope of the cap.
#[inline(always)]
fn capped(z: f32, cap: f32) -> (f32, f32) {
    let t = tanh(z / cap);
    (cap * t, 1.0 - t * t)
}

vectorized! {
    /// Logits of one row and block become `exp(z - max)·slope`; the row's softmax takes them in.
    fn soften(
        logits: &mut [f32],
        softmax: &mut Softmax,
        sums: &mut [f32],
        first: usize,
        target: Option<usize>,
        softcap: Option<f32>,
    ) {
        let top = largest(logits);
        if top > softmax.best.0 {
            let at = logits.iter().position(|&z| z == top).unwrap_or(0);
            softmax.best = (top, first + at);
        }
        if let Some(target) = target {
            let z = logits[target];
            softmax.target = softcap.map_or((z, 1.0), |cap| capped(z, cap));
        }
        let top = softcap.map_or(top, |cap| capped(top, cap).0);
        if top > softmax.max {
            let shrink = exp(softmax.max - top);
            softmax.max = top;
            softmax.sum *= shrink;
            for sum in sums {
                *sum *= shrink;
            }
        }
        let max = softmax.max;
        match softcap {
            None => {
                for z in &mut *logits {
                    *z = exp(*z - max);
                }
                softmax.sum += total(logits);
            }
            Some(cap) => {
                let mut sum = 0.0;
                let mut weights = [0.0; 256];
                for logits in logits.chunks_mut(256) {
                    let weights = &mut weights[..logits.len()];
                    for (z, weight) in logits.iter_mut().zip(&mut *weights) {
                        let (value, slope) = capped(*z, cap);
                        *weight = exp(value - max);
                        *z = *weight * slope;
                    }
                    sum += total(weights);
                }
                softmax.sum += sum;
            }
        }
    }
}

vectorized! {
    /// `dz = share·exp(z - max)·slope`
    fn differentiate(logits: &mut [f32], max: f32, share: f32, softcap: Option<f32>) {
        match softcap {
            None => logits.iter_mut().for_each(|z| *z = share * exp(*z - max)),
            Some(cap) => {
                for z in logits {
                    let (value, slope) = capped(*z, cap);
                    *z = share * exp(value - max) * slope;
                }
            }
        }
    }
}
