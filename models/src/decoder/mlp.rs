//! The half of a block behind attention: one MLP for all tokens, or a mixture of experts.

use super::experts::{Experts, ExpertsActs, ExpertsScratch};
use super::linear::{Linear, LinearActs, LinearScratch, Pass};
use peft_kernels::{Activation, Backend, Input, Normed, Result, Tensor};
use std::ops::Range;

/// `down(act(gate(x))·up(x))`
#[derive(Clone, Debug)]
pub struct Gated {
    /// Modules that make `gate_up`, with their columns there.
    pub columns: Vec<Range<usize>>,
    /// The gate's nonlinearity.
    pub activation: Activation,
    /// Width.
    pub d_ff: usize,
}

/// What a block has behind attention.
pub enum Mlp<B: Backend> {
    /// The same for all tokens; its matrices are linear modules of the block.
    Gated(Gated),
    /// Some of many for each.
    Experts(Experts<B>),
}

/// What the backward pass needs of the forward pass.
pub struct MlpActs<B: Backend> {
    gate_up: Tensor<B>,
    experts: ExpertsActs<B>,
}

impl<B: Backend> MlpActs<B> {
    /// Empty; grows with its first use. `keeps`: see [`super::LayerActs::new`].
    pub fn new(be: &B, keeps: bool) -> Result<Self> {
        Ok(Self { gate_up: if keeps { be.activation()? } else { be.lent()? }, experts: ExpertsActs::new(be)? })
    }

    /// Every buffer by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> impl Iterator<Item = (&'static str, &mut Tensor<B>)> {
        std::iter::once(("gate_up", &mut self.gate_up)).chain(self.experts.named())
    }
}

/// Buffers that no result stays in.
pub struct MlpScratch<B: Backend> {
    /// Not kept, since it is quickly computed again.
    gated: Tensor<B>,
    dgated: Tensor<B>,
    dgate_up: Tensor<B>,
    experts: ExpertsScratch<B>,
}

impl<B: Backend> MlpScratch<B> {
    /// Empty; grows with its first use. `keeps`: see [`super::LayerActs::new`].
    pub fn new(be: &B, keeps: bool) -> Result<Self> {
        // Products round these two where a backward pass may follow, if they round anything.
        let factor = || if keeps { be.activation() } else { be.lent() };
        Ok(Self { gated: factor()?, dgated: be.lent()?, dgate_up: factor()?, experts: ExpertsScratch::new(be)? })
    }

    /// Every buffer by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> impl Iterator<Item = (&'static str, &mut Tensor<B>)> {
        let own = [("gated", &mut self.gated), ("dgated", &mut self.dgated), ("dgate_up", &mut self.dgate_up)];
        own.into_iter().chain(self.experts.named())
    }
}

impl<B: Backend> Mlp<B> {
    /// Whether its first product computes the norm of its input on the way: see [`Linear::take_norm`].
    pub fn takes_norm(&self, be: &B, linears: &[Linear<B>], rows: usize, pass: &Pass) -> bool {
        matches!(self, Self::Gated(gated) if Linear::take_norm(&linears[..gated.columns.len()], be, rows, pass))
    }

    /// And that of its gradients.
    pub fn takes_norm_back(&self, be: &B, linears: &[Linear<B>], rows: usize, pass: &Pass) -> bool {
        matches!(self, Self::Gated(gated) if Linear::take_norm_back(&linears[..gated.columns.len()], be, rows, pass))
    }

    /// y, x: `[rows, hidden]`; `y` is set. `linears` are this MLP's, `acts` theirs. With `norm` the first product takes
    /// that in place of `x`: only where [`Self::takes_norm`] says so. With `last` false the last product
    /// is left out where no backward pass needs it; says whether `y` was set. `kept`: see [`super::Layer::forward`].
    pub fn forward(
        &self,
        be: &B,
        y: &mut Tensor<B>,
        x: &Tensor<B>,
        norm: Option<(Normed<B>, &mut Tensor<B>)>,
        linears: &[Linear<B>],
        (acts, linear_acts): (&mut MlpActs<B>, &mut [LinearActs<B>]),
        (scratch, linear): (&mut MlpScratch<B>, &mut LinearScratch<B>),
        pass: &Pass,
        (last, kept): (bool, bool),
    ) -> Result<bool> {
        let Gated { columns, activation, d_ff } = match self {
            Self::Gated(gated) => gated,
            // The router's gradient needs the answers, so nothing can be left out.
            Self::Experts(experts) => {
                experts.forward(be, y, x, &mut acts.experts, &mut scratch.experts)?;
                return Ok(true);
            }
        };
        // Where the product computes the norm, nobody filled `x`.
        let (rows, hidden) = norm.as_ref().map_or((x.rows(), x.cols()), |(norm, _)| (norm.x.at.rows, norm.x.at.cols));
        let input = norm.map_or_else(|| Input::Rows(x.view()), |(norm, rstd)| Input::Norm(norm, rstd));
        let (gate_up, down) = (&mut acts.gate_up, columns.len());
        if !last && linears[down].lora.is_none() {
            be.reshape(gate_up, rows, 2 * d_ff)?;
            Linear::forward_all(linears, be, gate_up.view_mut(), columns, input, linear_acts, linear, pass)?;
            return Ok(false);
        }
        be.reshape(&mut scratch.gated, rows, *d_ff)?;
        let (h, gate_up) = (scratch.gated.view_mut(), (gate_up, kept));
        Linear::forward_gated(linears, be, h, gate_up, columns, input, linear_acts, linear, pass, *activation)?;
        be.reshape(y, rows, hidden)?;
        linears[down].forward(be, y.view_mut(), scratch.gated.view(), &mut linear_acts[down], linear, pass)?;
        Ok(true)
    }

    /// The same lines, upside down: sets `dx`.
    pub fn backward(
        &self,
        be: &B,
        dx: &mut Tensor<B>,
        dy: &Tensor<B>,
        x: &Tensor<B>,
        norm: Option<(Normed<B>, &Tensor<B>)>,
        linears: &mut [Linear<B>],
        (acts, linear_acts): (&MlpActs<B>, &[LinearActs<B>]),
        (scratch, linear): (&mut MlpScratch<B>, &mut LinearScratch<B>),
        pass: &Pass,
    ) -> Result<()> {
        let Gated { columns, activation, d_ff } = match self {
            Self::Gated(gated) => gated,
            Self::Experts(experts) => return experts.backward(be, dx, dy, &acts.experts, &mut scratch.experts),
        };
        let (rows, hidden, down) = (dy.rows(), dy.cols(), columns.len());
        let MlpScratch { gated, dgated, dgate_up, .. } = scratch;
        be.reshape(dgate_up, rows, 2 * d_ff)?;
        let (out, given) = (dgate_up.view_mut(), (dy.view(), acts.gate_up.view()));
        let (module, of_module) = (&mut linears[down], &linear_acts[down]);
        module.backward_gated(be, out, (gated, dgated), given, of_module, linear, pass, *activation)?;
        be.reshape(dx, rows, hidden)?;
        let (out, dy) = (Some(dx.view_mut()), dgate_up.view());
        let input = norm.map_or_else(|| Input::Rows(x.view()), |(norm, rstd)| Input::Norm(norm, rstd));
        Linear::backward_all(linears, be, out, dy, columns, input, linear_acts, linear, pass)
    }
}
