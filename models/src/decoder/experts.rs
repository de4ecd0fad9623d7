//! A mixture of experts: every token is answered by a few of many small MLPs, frozen, and the answers are weighed.
//!
//! The rows of a pass are copied into the order of their experts, so that each expert is one product; the weighed
//! answers are added back. Neither router nor experts are trained, but the gradient goes through both into the rows.

use super::router::Routes;
use peft_kernels::{Activation, Backend, ClampedGate, In, Matrix, Operand, Out, Result, Tensor, Write};
use std::ops::Range;

/// A frozen matrix of an expert.
pub struct Placed<B: Backend> {
    /// `[out, in]`, or `[in, out]`.
    pub weight: B::Weight,
    /// It is `[in, out]`.
    pub transposed: bool,
    /// The columns it makes.
    pub columns: Range<usize>,
}

impl<B: Backend> Placed<B> {
    /// `y = x·wᵀ`
    fn forward(&self, be: &B, y: Out<B>, x: In<B>) -> Result<()> {
        let w = Matrix::Frozen(&self.weight);
        let y = y.cols(self.columns.clone());
        if self.transposed { be.linear_bwd_input(y, x, w, Write::Set) } else { be.linear(y, x, w, None, Write::Set) }
    }

    /// `dx (=|+=) dy·w`
    fn backward(&self, be: &B, dx: Out<B>, dy: In<B>, write: Write) -> Result<()> {
        let w = Matrix::Frozen(&self.weight);
        let dy = dy.cols(self.columns.clone());
        if self.transposed { be.linear(dx, dy, w, None, write) } else { be.linear_bwd_input(dx, dy, w, write) }
    }
}

/// One expert.
pub struct Expert<B: Backend> {
    /// Gate and other half, one matrix or two.
    pub gate_up: Vec<Placed<B>>,
    /// `[1, 2·d_ff]`
    pub gate_up_bias: Option<Tensor<B>>,
    /// Its output.
    pub down: Placed<B>,
    /// `[1, hidden]`
    pub down_bias: Option<Tensor<B>>,
}

/// What the halves of an expert become.
#[derive(Clone, Copy, Debug)]
pub enum Gate {
    /// Gate first, then the other half.
    Halves(Activation),
    /// Side by side, and clamped.
    Clamped(ClampedGate),
}

/// Router and experts of a layer.
pub struct Experts<B: Backend> {
    /// `[experts, hidden]`
    pub router: B::Weight,
    /// `[1, experts]`
    pub router_bias: Option<Tensor<B>>,
    /// All of them.
    pub experts: Vec<Expert<B>>,
    /// How many answer a token.
    pub top_k: usize,
    /// Their weights add up to one.
    pub normalised: bool,
    /// The nonlinearity.
    pub gate: Gate,
    /// Width of an expert.
    pub d_ff: usize,
}

/// What the backward pass needs. Rows are answers.
pub struct ExpertsActs<B: Backend> {
    routes: Routes,
    gate_up: Tensor<B>,
    /// Before their weights.
    answers: Tensor<B>,
}

impl<B: Backend> ExpertsActs<B> {
    /// Empty; grows with its first use.
    pub fn new(be: &B) -> Result<Self> {
        Ok(Self { routes: Routes::default(), gate_up: be.zeros(0, 0)?, answers: be.zeros(0, 0)? })
    }

    /// Every buffer by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> [(&'static str, &mut Tensor<B>); 2] {
        [("experts.gate_up", &mut self.gate_up), ("experts.answers", &mut self.answers)]
    }
}

/// Buffers that no result stays in.
pub struct ExpertsScratch<B: Backend> {
    logits: Tensor<B>,
    rows: Tensor<B>,
    scaled: Tensor<B>,
    gated: Tensor<B>,
    weights: Tensor<B>,
    dgate_up: Tensor<B>,
    ones: Tensor<B>,
}

impl<B: Backend> ExpertsScratch<B> {
    /// Empty; grows with its first use.
    pub fn new(be: &B) -> Result<Self> {
        let e = || be.zeros(0, 0);
        Ok(Self { logits: e()?, rows: e()?, scaled: e()?, gated: e()?, weights: e()?, dgate_up: e()?, ones: e()? })
    }

    /// Every buffer with a number of rows for each token, by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> [(&'static str, &mut Tensor<B>); 6] {
        [
            ("experts.logits", &mut self.logits),
            ("experts.rows", &mut self.rows),
            ("experts.scaled", &mut self.scaled),
            ("experts.gated", &mut self.gated),
            ("experts.weights", &mut self.weights),
            ("experts.dgate_up", &mut self.dgate_up),
        ]
    }
}

impl<B: Backend> Experts<B> {
    /// y, x: `[tokens, hidden]`; `y` is set.
    pub fn forward(
        &self,
        be: &B,
        y: &mut Tensor<B>,
        x: &Tensor<B>,
        acts: &mut ExpertsActs<B>,
        scratch: &mut ExpertsScratch<B>,
    ) -> Result<()> {
        let (tokens, hidden, count) = (x.rows(), x.cols(), self.experts.len());
        let ExpertsScratch { logits, rows, gated, weights, ones, .. } = scratch;
        be.reshape(logits, tokens, count)?;
        let bias = self.router_bias.as_ref();
        be.linear(logits.view_mut(), x.view(), Matrix::Frozen(&self.router), bias, Write::Set)?;
        acts.routes = Routes::choose(&be.download(logits)?, count, self.top_k, self.normalised);
        let routes = &acts.routes;
        let n = routes.tokens.len();
        be.reshape(rows, n, hidden)?;
        be.embed(rows.view_mut(), &routes.tokens, Matrix::Dense(x), 1.0)?;
        be.reshape(&mut acts.gate_up, n, 2 * self.d_ff)?;
        for (expert, run) in &routes.runs {
            let (expert, x) = (&self.experts[*expert], rows.view().rows(run.clone()));
            for part in &expert.gate_up {
                part.forward(be, acts.gate_up.view_mut().rows(run.clone()), x)?;
            }
            add_bias(be, acts.gate_up.view_mut().rows(run.clone()), expert.gate_up_bias.as_ref(), ones)?;
        }
        be.reshape(gated, n, self.d_ff)?;
        match &self.gate {
            Gate::Halves(activation) => be.gated(gated.view_mut(), acts.gate_up.view(), *activation)?,
            Gate::Clamped(params) => be.gated_clamped(gated.view_mut(), acts.gate_up.view(), params)?,
        }
        be.reshape(&mut acts.answers, n, hidden)?;
        for (expert, run) in &routes.runs {
            let expert = &self.experts[*expert];
            expert.down.forward(be, acts.answers.view_mut().rows(run.clone()), gated.view().rows(run.clone()))?;
            add_bias(be, acts.answers.view_mut().rows(run.clone()), expert.down_bias.as_ref(), ones)?;
        }
        be.reshape(weights, n, 1)?;
        be.upload(weights, &routes.weights)?;
        be.scale_rows(rows.view_mut(), acts.answers.view(), weights, Write::Set)?;
        be.reshape(y, tokens, hidden)?;
        be.fill(y.view_mut(), 0.0)?;
        be.embed_bwd(y, rows.view(), &routes.tokens, 1.0)
    }

    /// The same lines, upside down: sets `dx`.
    pub fn backward(
        &self,
        be: &B,
        dx: &mut Tensor<B>,
        dy: &Tensor<B>,
        acts: &ExpertsActs<B>,
        scratch: &mut ExpertsScratch<B>,
    ) -> Result<()> {
        let (tokens, hidden, count) = (dy.rows(), dy.cols(), self.experts.len());
        let ExpertsScratch { logits, rows, scaled, gated, weights, dgate_up, .. } = scratch;
        let ExpertsActs { routes, gate_up, answers } = acts;
        let n = routes.tokens.len();
        be.reshape(rows, n, hidden)?;
        be.embed(rows.view_mut(), &routes.tokens, Matrix::Dense(dy), 1.0)?;
        be.reshape(weights, n, 1)?;
        be.row_dots(weights, rows.view(), answers.view())?;
        let dlogits = routes.backward(&be.download(weights)?, tokens);
        be.upload(weights, &routes.weights)?;
        be.reshape(scaled, n, hidden)?;
        be.scale_rows(scaled.view_mut(), rows.view(), weights, Write::Set)?;
        be.reshape(gated, n, self.d_ff)?;
        for (expert, run) in &routes.runs {
            let dy = scaled.view().rows(run.clone());
            self.experts[*expert].down.backward(be, gated.view_mut().rows(run.clone()), dy, Write::Set)?;
        }
        be.reshape(dgate_up, n, 2 * self.d_ff)?;
        match &self.gate {
            Gate::Halves(activation) => {
                be.gated_bwd(dgate_up.view_mut(), gated.view(), gate_up.view(), *activation)?;
            }
            Gate::Clamped(params) => {
                be.gated_clamped_bwd(dgate_up.view_mut(), gated.view(), gate_up.view(), params)?;
            }
        }
        for (expert, run) in &routes.runs {
            for (i, part) in self.experts[*expert].gate_up.iter().enumerate() {
                let write = if i == 0 { Write::Set } else { Write::Add };
                part.backward(be, rows.view_mut().rows(run.clone()), dgate_up.view().rows(run.clone()), write)?;
            }
        }
        be.reshape(dx, tokens, hidden)?;
        be.reshape(logits, tokens, count)?;
        be.upload(logits, &dlogits)?;
        be.linear_bwd_input(dx.view_mut(), logits.view(), Matrix::Frozen(&self.router), Write::Set)?;
        be.embed_bwd(dx, rows.view(), &routes.tokens, 1.0)
    }
}

/// `y += 1·b`
fn add_bias<B: Backend>(be: &B, y: Out<B>, bias: Option<&Tensor<B>>, ones: &mut Tensor<B>) -> Result<()> {
    let Some(bias) = bias else { return Ok(()) };
    be.reshape(ones, y.at.rows, 1)?;
    be.fill(ones.view_mut(), 1.0)?;
    be.gemm(y, Operand::plain(ones.view()), Operand::plain(bias.view()), 1.0, Write::Add)
}
