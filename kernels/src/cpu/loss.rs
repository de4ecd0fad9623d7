//! The head: projection, soft cap, softmax, cross entropy and their gradient, a block of the vocabulary at a time.
//!
//! One pass gives the loss and `dx`: exponentials are of the distance to a reference (`loss_tiles.rs`), so the logits of a
//! row are never together in memory and each block of the head is gone through once for both of its products. `dw` needs
//! the finished softmax: a second pass.

use super::exp::exp;
use super::factors::Factors;
use super::gemm::{Epilogue, Side, gemm, steps};
use super::loss_tiles::{Softmax, capped, softmax};
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
const _: () = assert!(ROWS <= super::gemm::ROWS, "the rows of a chunk are gone through together");
/// Most logits in memory: 4 MiB.
const LOGITS: usize = 1 << 20;
/// Widest block of the vocabulary.
const WIDEST: usize = 8192;

/// Rows with a target, a chunk of them.
pub(super) struct Chunk<'a> {
    pub(super) pool: &'a Pool,
    pub(super) isa: Isa,
    pub(super) factors: Factors,
    /// Their inputs: where they lie, or gathered.
    pub(super) x: View<'a>,
    pub(super) w: Source<'a>,
    pub(super) targets: Vec<usize>,
    pub(super) softcap: Option<f32>,
    /// Rows of the head in one block.
    pub(super) width: usize,
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
            let Softmax { reference, sum, best, target: (z, _) } = softmax[i];
            loss[*row] = reference + sum.ln() - z;
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
            let softmax = softmax(self, dx.as_mut().map(ViewMut::reborrow));
            if let Some(dx) = dx {
                self.finish(&softmax, dx, scale);
            }
            return softmax;
        };
        let softmax = softmax(self, None);
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
    pub(super) fn input_gradient(&self, block: &Range<usize>, dz: Source, dx: ViewMut) {
        let w = self.w.rows_from(block.start, block.len());
        let (a, b) = (Side { source: dz, transposed: false }, Side { source: w, transposed: false });
        gemm(self.pool, self.isa, self.factors, Sink::F32(dx), a, b, block.len(), Epilogue::plain(Write::Add));
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
                differentiate(self.isa, dz, softmax.reference, scale / softmax.sum, self.softcap);
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
                let dz = Source::Dense(View::dense(dz, rows, block.len()));
                self.input_gradient(&block, dz, dx.reborrow());
            }
        }
    }
}

vectorized! {
    /// `dz = share·exp(z - reference)·slope`
    fn differentiate(logits: &mut [f32], reference: f32, share: f32, softcap: Option<f32>) {
        match softcap {
            None => logits.iter_mut().for_each(|z| *z = share * exp(*z - reference)),
            Some(cap) => {
                for z in logits {
                    let (value, slope) = capped(*z, cap);
                    *z = share * exp(value - reference) * slope;
                }
            }
        }
    }
}
