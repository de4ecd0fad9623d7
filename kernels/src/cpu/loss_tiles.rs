//! Logits to exponentials, tile after tile, while the sums of a product are in the cache.
//!
//! Exponentials are of the distance to a reference of the row that stays the same while a block of the vocabulary is gone
//! through, so tiles need not wait for each other. Where a logit lies so far above it that sums could leave the range of
//! f32, that logit becomes the reference and the block is gone through once more: in practice after the first block, which
//! is narrow for that.

use super::attention::{largest, total};
use super::exp::{exp, tanh};
use super::gemm::{Piece, Side, Wide, steps};
use super::loss::Chunk;
use super::numbers::{Numbers, round_half};
use super::panels::Kernel;
use super::simd_dispatch::{Isa, vectorized};
use super::sink::{Row, Sink};
use super::source::Source;
use super::whole::{Strip, Taker, columns_together, products};
use crate::host::{View, ViewMut};
use std::ops::Range;

/// How far a logit may lie above the reference: e^60 times any vocabulary is far from what f32 cannot hold.
const FAR: f32 = 60.0;
/// Columns of a tile at most: of one register tile of any kernel, as often as a task takes it.
const WIDEST: usize = 256;

/// What is known of one row's softmax.
#[derive(Clone, Copy)]
pub(super) struct Softmax {
    /// What exponentials are of the distance to.
    pub(super) reference: f32,
    pub(super) sum: f32,
    /// Largest logit before the cap, and where it is: the cap can make different logits equal.
    pub(super) best: (f32, usize),
    /// The target's logit, and the slope of the cap there.
    pub(super) target: (f32, f32),
}

/// What one row of a tile adds to that.
#[derive(Clone, Copy)]
struct Share {
    top: f32,
    /// Where that is, if it is the largest so far.
    at: usize,
    sum: f32,
    /// The target's logit, if it is there.
    target: Option<f32>,
}

const NOTHING: Share = Share { top: f32::NEG_INFINITY, at: usize::MAX, sum: 0.0, target: None };

/// The softmax of every row of a chunk; `dx`, zero before, becomes `Σ exp(z - reference)·slope·w`.
pub(super) fn softmax(chunk: &Chunk, dx: Option<ViewMut>) -> Vec<Softmax> {
    let (rows, vocabulary) = (chunk.x.rows(), chunk.w.rows());
    let start = Softmax {
        reference: f32::NEG_INFINITY,
        sum: 0.0,
        best: (f32::NEG_INFINITY, usize::MAX),
        target: (f32::NAN, 0.0),
    };
    let kernel = Kernel::of(chunk.isa, chunk.factors);
    let of = 0..chunk.x.cols();
    let wides = [Wide { of, w: Side::of(chunk.w, true), columns: 0..vocabulary, bias: None, narrow: 0..0 }];
    let strip = |lanes: Range<usize>| Strip { at: lanes.start, width: lanes.len(), of: vec![Piece { wide: 0, lanes }] };
    let together = columns_together(kernel, &wides).min(chunk.width);
    let first = together.min(WIDEST).min(vocabulary);
    let strips: Vec<Strip> = std::iter::once(0..first).chain(steps(first..vocabulary, together)).map(strip).collect();
    let mut taker = Softening {
        chunk,
        softmax: vec![start; rows],
        exponentials: Numbers::kept(chunk.factors),
        dx,
        shares: Vec::new(),
        block: 0..0,
        step: (1, 1),
    };
    if taker.dx.is_some() {
        let count = rows * together.min(vocabulary);
        match &mut taker.exponentials {
            Numbers::F32(x) => x.resize(count, 0.0),
            Numbers::Bf16(x) => x.resize(count, [0; 2]),
        }
    }
    let left = Side::of(Source::Dense(chunk.x), false);
    products(chunk.pool, kernel, left, &wides, &mut [], 1.0, &strips, &mut taker);
    taker.softmax
}

/// Takes tiles of logits.
struct Softening<'a> {
    chunk: &'a Chunk<'a>,
    softmax: Vec<Softmax>,
    /// Of the block that is gone through, rounded as products read them; none without `dx`.
    exponentials: Numbers,
    dx: Option<ViewMut<'a>>,
    /// Of all tiles of the block: those of the same rows follow each other, each has a share for each of its rows.
    shares: Vec<Share>,
    block: Range<usize>,
    /// Rows and columns of a tile.
    step: (usize, usize),
}

/// Rows of one tile.
struct Place<'t> {
    isa: Isa,
    softcap: Option<f32>,
    softmax: &'t [Softmax],
    targets: &'t [usize],
    /// Its first column.
    first: usize,
    shares: &'t mut [Share],
    /// None, or as many as rows.
    out: Vec<Row<'t>>,
}

impl Taker for Softening<'_> {
    type Place<'t>
        = Place<'t>
    where
        Self: 't;

    fn places(&mut self, rows: Range<usize>, columns: Range<usize>, step: (usize, usize)) -> Vec<Place<'_>> {
        let Self { chunk, softmax, exponentials, dx, shares, .. } = self;
        (self.block, self.step) = (columns.clone(), step);
        shares.clear();
        shares.resize(rows.len() * columns.len().div_ceil(step.1), NOTHING);
        let (height, width) = (rows.len(), columns.len());
        let out = dx.is_some().then(|| match exponentials {
            Numbers::F32(x) => Sink::F32(ViewMut::dense(&mut x[..height * width], height, width)),
            Numbers::Bf16(x) => Sink::Bf16(ViewMut::dense(&mut x[..height * width], height, width)),
        });
        let mut out = out.map(|out| out.tiles(steps(0..height, step.0), step.1)).into_iter().flatten();
        let (mut places, mut rest) = (Vec::new(), &mut shares[..]);
        for rows in steps(rows, step.0) {
            for columns in steps(columns.clone(), step.1) {
                let (shares, behind) = std::mem::take(&mut rest).split_at_mut(rows.len());
                rest = behind;
                places.push(Place {
                    isa: chunk.isa,
                    softcap: chunk.softcap,
                    softmax: &softmax[rows.clone()],
                    targets: &chunk.targets[rows.clone()],
                    first: columns.start,
                    shares,
                    out: out.next().map_or_else(Vec::new, |tile| tile.rows),
                });
            }
        }
        places
    }

    fn take(place: Place<'_>, sums: &mut [&mut [f32]]) {
        let Place { isa, softcap, softmax, targets, first, shares, out } = place;
        let [logits] = sums else { unreachable!("a strip is of one product") };
        let width = logits.len() / shares.len().max(1);
        let mut out = out.into_iter();
        let rows = softmax.iter().zip(targets).zip(shares).zip(logits.chunks_exact_mut(width));
        for (((softmax, target), share), logits) in rows {
            share.target = target.checked_sub(first).and_then(|target| logits.get(target)).copied();
            let at;
            (share.top, at, share.sum) = exponentials(isa, logits, softmax.reference, softcap, softmax.best.0);
            share.at = at.map_or(usize::MAX, |at| first + at);
            match out.next() {
                Some(Row::Bf16(out)) => round_half(isa, out, logits),
                Some(Row::F32(out)) => out.copy_from_slice(logits),
                None => {}
            }
        }
    }

    fn is_done(&mut self) -> bool {
        let cap = |z: f32| self.chunk.softcap.map_or((z, 1.0), |cap| capped(z, cap));
        let mut is_done = true;
        for row in 0..self.softmax.len() {
            let top =
                self.shares_of(row).fold(f32::NEG_INFINITY, |top, share| if share.top > top { share.top } else { top });
            let (top, softmax) = (cap(top).0, &mut self.softmax[row]);
            if top - softmax.reference > FAR {
                let shrink = exp(softmax.reference - top);
                softmax.reference = top;
                softmax.sum *= shrink;
                if let Some(dx) = &mut self.dx {
                    dx.row(row).iter_mut().for_each(|dx| *dx *= shrink);
                }
                is_done = false;
            }
        }
        if !is_done {
            return false;
        }
        for row in 0..self.softmax.len() {
            let mut softmax = self.softmax[row];
            for share in self.shares_of(row) {
                softmax.sum += share.sum;
                if share.top > softmax.best.0 {
                    softmax.best = (share.top, share.at);
                }
                if let Some(z) = share.target {
                    softmax.target = cap(z);
                }
            }
            self.softmax[row] = softmax;
        }
        if let Some(dx) = &mut self.dx {
            let (rows, columns) = (self.softmax.len(), self.block.len());
            let all = match &self.exponentials {
                Numbers::F32(x) => Source::Dense(View::dense(&x[..rows * columns], rows, columns)),
                Numbers::Bf16(x) => Source::Narrow(View::dense(&x[..rows * columns], rows, columns)),
            };
            self.chunk.input_gradient(&self.block, all, dx.reborrow());
        }
        true
    }
}

impl Softening<'_> {
    /// Of one row those of all tiles of the block, from the first column on.
    fn shares_of(&self, row: usize) -> impl Iterator<Item = &Share> {
        let first = row / self.step.0 * self.step.0;
        let (rows, tiles) = ((self.softmax.len() - first).min(self.step.0), self.block.len().div_ceil(self.step.1));
        self.shares[first * tiles..][..rows * tiles].iter().skip(row - first).step_by(rows)
    }
}

/// The logit after the cap, and the slope of the cap.
#[inline(always)]
pub(super) fn capped(z: f32, cap: f32) -> (f32, f32) {
    let t = tanh(z / cap);
    (cap * t, 1.0 - t * t)
}

/// Where the largest logit is, if it is above `best`.
#[inline(always)]
fn place_of(logits: &[f32], top: f32, best: f32) -> Option<usize> {
    if top > best { logits.iter().position(|&z| z == top) } else { None }
}

/// Logits of one row become `exp(z - reference)·slope`; the largest of them, where it is if it is above `best`, and the
/// sum of the exponentials.
fn exponentials(
    isa: Isa,
    logits: &mut [f32],
    reference: f32,
    softcap: Option<f32>,
    best: f32,
) -> (f32, Option<usize>, f32) {
    #[cfg(target_arch = "x86_64")]
    if let (Isa::Avx512(isa), None) = (isa, softcap) {
        let top = isa.largest(logits);
        let at = place_of(logits, top, best);
        return (top, at, isa.exponentials(logits, reference));
    }
    soften(isa, logits, reference, softcap, best)
}

vectorized! {
    fn soften(logits: &mut [f32], reference: f32, softcap: Option<f32>, best: f32) -> (f32, Option<usize>, f32) {
        let top = largest(logits);
        let at = place_of(logits, top, best);
        let Some(cap) = softcap else {
            for z in &mut *logits {
                *z = exp(*z - reference);
            }
            return (top, at, total(logits));
        };
        let mut weights = [0.0; WIDEST];
        let weights = &mut weights[..logits.len()];
        for (z, weight) in logits.iter_mut().zip(&mut *weights) {
            let (value, slope) = capped(*z, cap);
            *weight = exp(value - reference);
            *z = *weight * slope;
        }
        (top, at, total(weights))
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::LossParams;
    use crate::cpu::Path;
    use crate::cpu::factors::Factors;
    use crate::cpu::loss::head_loss;
    use crate::cpu::pool::Pool;
    use crate::cpu::source::Source;
    use crate::host::{View, ViewMut};

    const D: usize = 32;
    const VOCABULARY: usize = 2777;
    const SCALE: f32 = 0.5;

    /// Numbers that a bf16 holds. The first column lifts some logits far above all before them, once more and again.
    fn head() -> Vec<f32> {
        let lift = |j: usize| match j {
            700 => 96.0,
            1500 => 192.0,
            2600 => 320.0,
            _ => 0.0,
        };
        let element =
            |j: usize, k: usize| if k == 0 { lift(j) } else { ((j * 31 + k * 17) % 23) as f32 / 16.0 - 0.6875 };
        (0..VOCABULARY).flat_map(|j| (0..D).map(move |k| element(j, k))).collect()
    }

    /// Rows of which every third meets such logits, every third with half the force, and the others never.
    fn inputs(rows: usize) -> Vec<f32> {
        let element =
            |r: usize, k: usize| if k == 0 { [1.0, 0.5, 0.0][r % 3] } else { ((r * 7 + k * 5) % 9) as f32 / 8.0 - 0.5 };
        (0..rows).flat_map(|r| (0..D).map(move |k| element(r, k))).collect()
    }

    #[test]
    fn logits_far_above_those_before_them_leave_every_number_finite_and_right() {
        let (w, pool) = (head(), Pool::new(2).expect("threads"));
        let rows = 75;
        let x = inputs(rows);
        let targets: Vec<i32> = (0..rows).map(|r| [2600, 1500, 13, 255, 256, 2776, 700][r % 7]).collect();
        let dot =
            |r: usize, j: usize| -> f64 { (0..D).map(|k| f64::from(x[r * D + k]) * f64::from(w[j * D + k])).sum() };
        for (path, factors) in
            Path::all().chain([Path::ModelledTiles]).flat_map(|path| [(path, Factors::F32), (path, Factors::Bf16)])
        {
            let Some(isa) = path.isa() else { continue };
            let (mut loss, mut correct, mut dx) =
                (vec![f32::NAN; rows], vec![f32::NAN; rows], vec![f32::NAN; rows * D]);
            let params = LossParams { softcap: None, gradient_scale: SCALE };
            let (of_x, of_w) = (View::dense(&x, rows, D), Source::Dense(View::dense(&w, VOCABULARY, D)));
            let to = Some(ViewMut::dense(&mut dx, rows, D));
            head_loss(&pool, isa, factors, &mut loss, &mut correct, to, None, of_x, of_w, &targets, &params);
            for r in 0..rows {
                let z: Vec<f64> = (0..VOCABULARY).map(|j| dot(r, j)).collect();
                let (target, top) = (targets[r] as usize, z.iter().copied().fold(f64::MIN, f64::max));
                let sum: f64 = z.iter().map(|z| (z - top).exp()).sum();
                let want = top + sum.ln() - z[target];
                let near = |got: f32, want: f64, tolerance: f64| (f64::from(got) - want).abs() <= tolerance;
                assert!(
                    near(loss[r], want, 1e-4 + want * 1e-6),
                    "{path:?} {factors:?} row {r}: {} not {want}",
                    loss[r]
                );
                let is_best = z[target] >= top && z.iter().position(|z| *z >= top) == Some(target);
                assert!(near(correct[r], f64::from(u8::from(is_best)), 0.0), "{path:?} {factors:?} row {r}");
                for k in 0..D {
                    let mean =
                        z.iter().enumerate().map(|(j, z)| (z - top).exp() / sum * f64::from(w[j * D + k])).sum::<f64>();
                    let want = f64::from(SCALE) * (mean - f64::from(w[target * D + k]));
                    // Exponentials are rounded to bf16, each by itself.
                    let tolerance = if factors == Factors::F32 { 2e-5 } else { 4e-3 } * (1.0 + want.abs());
                    let got = dx[r * D + k];
                    assert!(near(got, want, tolerance), "{path:?} {factors:?} dx of row {r}, {k}: {got} not {want}");
                }
            }
        }
    }
}
