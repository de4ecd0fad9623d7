//! A linear module: frozen or trained weight, and at most one adapter on it.
//!
//! `y = W·x + b + s·B·A·dropout(x)`, with DoRA `y = (m/n)∘(W·x + s·B·A·x) + b` where
//! `n = ‖W + s·B·A‖` by row takes no gradient (Liu et al. 2024, section 4.3; PEFT agrees).

use super::param::Param;
use super::watch::Seen;
use peft_kernels::{
    Activation, Adapted, AdaptedGradient, Adapter, AdapterGradient, Backend, Dropout, In, Input, Matrix, Operand, Out,
    Part, Result, Tensor, Write,
};
use std::ops::Range;
use std::sync::Mutex;

/// The matrix of a module.
pub enum Weights<B: Backend> {
    /// As the checkpoint stores it.
    Frozen(B::Weight),
    /// Dense and trained (`full`).
    Trained(Param<B>),
}

impl<B: Backend> Weights<B> {
    /// To multiply with.
    pub fn matrix(&self) -> Matrix<'_, B> {
        match self {
            Self::Frozen(w) => Matrix::Frozen(w),
            Self::Trained(p) => Matrix::Dense(&p.value),
        }
    }
}

/// A vector of a module: bias or norm gain, `[1, n]`.
pub type Vector<B> = Param<B>;

/// DoRA's part of an adapter.
pub struct Magnitude<B: Backend> {
    /// `m`, `[1, out]`.
    pub m: Param<B>,
    /// `‖W‖²` by row, `[1, out]`.
    pub squares: Tensor<B>,
    /// `n`, `[1, out]`, of the current A and B.
    pub norm: Tensor<B>,
    /// `m / n`.
    pub ratio: Tensor<B>,
}

/// A low-rank adapter (Hu et al. 2021).
pub struct Lora<B: Backend> {
    /// `[rank, in]`.
    pub a: Param<B>,
    /// `[out, rank]`.
    pub b: Param<B>,
    /// With DoRA.
    pub magnitude: Option<Magnitude<B>>,
    /// Multiplies `B·A`.
    pub scaling: f32,
    /// Probability of dropping an input of A while training.
    pub dropout: f32,
    /// Index among the model's adapters: a dropout stream of its own.
    pub index: u64,
}

/// What the backward pass needs of one module's forward pass.
pub struct LinearActs<B: Backend> {
    /// `A·dropout(x)`, `[rows, rank]`.
    pub xa: Tensor<B>,
    /// DoRA: `W·x + s·B·A·x` before the magnitude, `[rows, out]`.
    pub pre: Tensor<B>,
}

impl<B: Backend> LinearActs<B> {
    /// Empty; grows with its first use. `keeps`: see [`super::LayerActs::new`].
    pub fn new(be: &B, keeps: bool) -> Result<Self> {
        Ok(Self { xa: be.zeros(0, 0)?, pre: if keeps { be.activation()? } else { be.lent()? } })
    }
}

/// Buffers that no result stays in.
pub struct LinearScratch<B: Backend> {
    dropped: Tensor<B>,
    difference: Tensor<B>,
    gradient: Tensor<B>,
    dxa: Tensor<B>,
    row: Tensor<B>,
    ones: Tensor<B>,
}

impl<B: Backend> LinearScratch<B> {
    /// Empty; grows with its first use.
    pub fn new(be: &B) -> Result<Self> {
        let empty = || be.zeros(0, 0);
        Ok(Self {
            dropped: be.lent()?,
            difference: be.lent()?,
            gradient: be.lent()?,
            dxa: empty()?,
            row: empty()?,
            ones: empty()?,
        })
    }

    /// Every buffer with a row a token, by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> [(&'static str, &mut Tensor<B>); 5] {
        [
            ("dropped", &mut self.dropped),
            ("difference", &mut self.difference),
            ("gradient", &mut self.gradient),
            ("dxa", &mut self.dxa),
            ("ones", &mut self.ones),
        ]
    }
}

/// What one pass over the model has in common.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Rows on which adapters act; the others see the base alone.
    pub adapters: Range<usize>,
    /// While training: seed and the stream of this micro-step.
    pub dropout: Option<(u64, u64)>,
}

impl Pass {
    /// Whether the rows see the tuned model. Rows of both may only be mixed where nothing but adapters differs.
    pub fn is_tuned(&self) -> bool {
        !self.adapters.is_empty()
    }

    fn dropout_of<B: Backend>(&self, lora: &Lora<B>) -> Option<Dropout> {
        let (seed, stream) = self.dropout?;
        (lora.dropout > 0.0).then_some(Dropout { p: lora.dropout, seed, stream: (stream << 16) | lora.index })
    }
}

/// A linear module of a block.
pub struct Linear<B: Backend> {
    /// Full path, e.g. `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// Output features.
    pub out_features: usize,
    /// Input features.
    pub in_features: usize,
    /// `[out, in]`.
    pub weight: Weights<B>,
    /// `[1, out]`.
    pub bias: Option<Vector<B>>,
    /// The adapter, if this module is a target.
    pub lora: Option<Lora<B>>,
    /// What it was given, where that is watched.
    pub seen: Option<Mutex<Seen<B>>>,
}

impl<B: Backend> Linear<B> {
    /// Refresh what depends on the adapter's values and not on the input. Once before the first pass of a step.
    pub fn prepare(&mut self, be: &B) -> Result<()> {
        let Some(lora) = &mut self.lora else { return Ok(()) };
        let Some(magnitude) = &mut lora.magnitude else { return Ok(()) };
        let rank = lora.a.value.rows();
        let mut projected = be.zeros(rank, self.out_features)?;
        be.linear(projected.view_mut(), lora.a.value.view(), self.weight.matrix(), None, Write::Set)?;
        let mut gram = be.zeros(rank, rank)?;
        let a = lora.a.value.view();
        be.gemm(gram.view_mut(), Operand::plain(a), Operand::transposed(a), 1.0, Write::Set)?;
        let Magnitude { m, squares, norm, ratio } = magnitude;
        be.dora_norm(norm, squares, &projected, &gram, &lora.b.value, lora.scaling)?;
        be.divide(ratio, &m.value, norm)
    }

    /// y: `[rows, out]`, x: `[rows, in]`.
    pub fn forward(
        &self,
        be: &B,
        mut y: Out<B>,
        x: In<B>,
        acts: &mut LinearActs<B>,
        scratch: &mut LinearScratch<B>,
        pass: &Pass,
    ) -> Result<()> {
        if self.is_joined(x.at.rows, pass) {
            let (this, columns, acts) = (std::slice::from_ref(self), 0..self.out_features, std::slice::from_mut(acts));
            return Self::join(this, be, y, std::slice::from_ref(&columns), Input::Rows(x), acts, pass);
        }
        self.look_at(be, x)?;
        let w = self.weight.matrix();
        let bias = self.bias.as_ref().map(|b| &b.value);
        let rows = pass.adapters.clone();
        let Some((lora, magnitude)) = self.decomposed(pass) else {
            be.linear(y.by_ref(), x, w, bias, Write::Set)?;
            return self.adapt(be, y, x, acts, scratch, pass);
        };
        let dropout = pass.dropout_of(lora);
        let x_adapter = x.rows(rows.clone());
        project_down(be, lora, x_adapter, acts, scratch, dropout.as_ref())?;
        let b = lora.b.value.view();
        be.reshape(&mut acts.pre, rows.len(), self.out_features)?;
        if dropout.is_some() {
            // PEFT drops the input of the whole decomposed product, and adds W·x − W·xd undecomposed.
            be.reshape(&mut scratch.difference, rows.len(), self.in_features)?;
            be.copy(scratch.difference.view_mut(), scratch.dropped.view(), Write::Set)?;
            be.scale(scratch.difference.view_mut(), -1.0)?;
            be.copy(scratch.difference.view_mut(), x_adapter, Write::Add)?;
            be.linear(y.by_ref(), scratch.difference.view(), w, None, Write::Set)?;
            be.linear(acts.pre.view_mut(), scratch.dropped.view(), w, None, Write::Set)?;
        } else {
            be.linear(y.by_ref(), x, w, None, Write::Set)?;
            let mine = y.by_ref().rows(rows.clone());
            be.copy(acts.pre.view_mut(), In { tensor: mine.tensor, at: mine.at }, Write::Set)?;
        }
        be.gemm(acts.pre.view_mut(), Operand::plain(acts.xa.view()), Operand::transposed(b), lora.scaling, Write::Add)?;
        let write = if dropout.is_some() { Write::Add } else { Write::Set };
        be.scale_columns(y.by_ref().rows(rows), acts.pre.view(), &magnitude.ratio, write)?;
        if let Some(bias) = bias {
            // y += 1·b
            be.reshape(&mut scratch.ones, x.at.rows, 1)?;
            be.fill(scratch.ones.view_mut(), 1.0)?;
            be.gemm(y, Operand::plain(scratch.ones.view()), Operand::plain(bias.view()), 1.0, Write::Add)?;
        }
        Ok(())
    }

    /// The adapter, where it acts and is decomposed into magnitude and direction.
    fn decomposed(&self, pass: &Pass) -> Option<(&Lora<B>, &Magnitude<B>)> {
        let lora = self.lora.as_ref().filter(|_| pass.is_tuned())?;
        Some((lora, lora.magnitude.as_ref()?))
    }

    /// Add what an adapter without magnitude adds, where it acts.
    fn adapt(
        &self,
        be: &B,
        y: Out<B>,
        x: In<B>,
        acts: &mut LinearActs<B>,
        scratch: &mut LinearScratch<B>,
        pass: &Pass,
    ) -> Result<()> {
        let Some(lora) = self.lora.as_ref().filter(|_| pass.is_tuned()) else { return Ok(()) };
        let rows = pass.adapters.clone();
        let dropout = pass.dropout_of(lora);
        project_down(be, lora, x.rows(rows.clone()), acts, scratch, dropout.as_ref())?;
        // y += s·xa·Bᵀ
        let (xa, b) = (Operand::plain(acts.xa.view()), Operand::transposed(lora.b.value.view()));
        be.gemm(y.rows(rows), xa, b, lora.scaling, Write::Add)
    }

    /// Modules with the same input, each into its columns of `y`, which ascend: in one call where nothing comes between.
    pub fn forward_all(
        linears: &[Self],
        be: &B,
        mut y: Out<B>,
        columns: &[Range<usize>],
        x: Input<B, &mut Tensor<B>>,
        acts: &mut [LinearActs<B>],
        scratch: &mut LinearScratch<B>,
        pass: &Pass,
    ) -> Result<()> {
        let linears = &linears[..columns.len()];
        let x = match x {
            Input::Rows(x) if !linears.iter().all(|linear| linear.is_joined(x.at.rows, pass)) => x,
            x => return Self::join(linears, be, y, columns, x, acts, pass),
        };
        if linears.iter().any(|linear| linear.decomposed(pass).is_some()) {
            for ((linear, columns), acts) in linears.iter().zip(columns).zip(acts) {
                linear.forward(be, y.by_ref().cols(columns.clone()), x, acts, scratch, pass)?;
            }
            return Ok(());
        }
        let mut parts = Vec::with_capacity(columns.len());
        for (linear, columns) in linears.iter().zip(columns) {
            linear.look_at(be, x)?;
            let bias = linear.bias.as_ref().map(|bias| &bias.value);
            parts.push(Part { columns: columns.clone(), w: linear.weight.matrix(), bias });
        }
        be.linears(y.by_ref(), x, &parts)?;
        for ((linear, columns), acts) in linears.iter().zip(columns).zip(acts) {
            linear.adapt(be, y.by_ref().cols(columns.clone()), x, acts, scratch, pass)?;
        }
        Ok(())
    }

    /// Whether this is one product with what an adapter adds to it, if there is one, in all rows.
    fn is_joined(&self, rows: usize, pass: &Pass) -> bool {
        self.lora.as_ref().is_none_or(|lora| {
            let is_plain = lora.magnitude.is_none() && pass.dropout_of(lora).is_none();
            is_plain && (!pass.is_tuned() || pass.adapters == (0..rows))
        })
    }

    /// Whether the product of these modules computes the norm of their input, of so many rows, on the way.
    pub fn take_norm(linears: &[Self], be: &B, rows: usize, pass: &Pass) -> bool {
        be.fuses_products(rows) && linears.iter().all(|linear| linear.seen.is_none() && linear.is_joined(rows, pass))
    }

    /// And that of their gradients.
    pub fn take_norm_back(linears: &[Self], be: &B, rows: usize, pass: &Pass) -> bool {
        let is_frozen = |linear: &Self| matches!(linear.weight, Weights::Frozen(_));
        be.fuses_products(rows) && linears.iter().all(|linear| is_frozen(linear) && linear.is_joined(rows, pass))
    }

    /// [`Self::forward_all`] of gate and up into `gate_up`, which is `kept` or not, and what the activation makes of that
    /// into `h`: in one call where nothing comes between.
    pub fn forward_gated(
        linears: &[Self],
        be: &B,
        h: Out<B>,
        (gate_up, kept): (&mut Tensor<B>, bool),
        columns: &[Range<usize>],
        x: Input<B, &mut Tensor<B>>,
        acts: &mut [LinearActs<B>],
        scratch: &mut LinearScratch<B>,
        pass: &Pass,
        activation: Activation,
    ) -> Result<()> {
        let linears = &linears[..columns.len()];
        if linears.iter().all(|linear| linear.is_joined(h.at.rows, pass)) {
            let mut parts = Self::parts(linears, be, columns, &x, acts, pass)?;
            return be.adapted_gated(h, gate_up, kept, x, &mut parts, activation);
        }
        be.reshape(gate_up, h.at.rows, 2 * h.at.cols)?;
        Self::forward_all(linears, be, gate_up.view_mut(), columns, x, acts, scratch, pass)?;
        be.gated(h, gate_up.view(), activation)
    }

    /// Weights and adapters in one call.
    fn join(
        linears: &[Self],
        be: &B,
        y: Out<B>,
        columns: &[Range<usize>],
        x: Input<B, &mut Tensor<B>>,
        acts: &mut [LinearActs<B>],
        pass: &Pass,
    ) -> Result<()> {
        let mut parts = Self::parts(linears, be, columns, &x, acts, pass)?;
        match x {
            Input::Rows(x) => be.adapted(y, x, &mut parts),
            Input::Norm(x, rstd) => be.adapted_of_norm(y, rstd, &x, &mut parts),
        }
    }

    /// Weights and adapters as one call takes them.
    fn parts<'a>(
        linears: &'a [Self],
        be: &B,
        columns: &[Range<usize>],
        x: &Input<B, &mut Tensor<B>>,
        acts: &'a mut [LinearActs<B>],
        pass: &Pass,
    ) -> Result<Vec<Adapted<'a, B>>> {
        let mut parts = Vec::with_capacity(columns.len());
        for ((linear, columns), acts) in linears.iter().zip(columns).zip(acts) {
            if let Input::Rows(x) = x {
                linear.look_at(be, *x)?;
            }
            let bias = linear.bias.as_ref().map(|bias| &bias.value);
            let lora = linear.lora.as_ref().filter(|_| pass.is_tuned());
            parts.push(Adapted {
                part: Part { columns: columns.clone(), w: linear.weight.matrix(), bias },
                adapter: lora.map(|lora| Adapter {
                    a: &lora.a.value,
                    b: &lora.b.value,
                    scaling: lora.scaling,
                    xa: &mut acts.xa,
                }),
            });
        }
        Ok(parts)
    }

    /// The backward pass of [`Self::forward_all`]: sets `dx`.
    pub fn backward_all(
        linears: &mut [Self],
        be: &B,
        mut dx: Option<Out<B>>,
        dy: In<B>,
        columns: &[Range<usize>],
        x: Input<B, &Tensor<B>>,
        acts: &[LinearActs<B>],
        scratch: &mut LinearScratch<B>,
        pass: &Pass,
    ) -> Result<()> {
        let linears = &mut linears[..columns.len()];
        let is_frozen = |linear: &Self| matches!(linear.weight, Weights::Frozen(_));
        if let Input::Rows(x) = x
            && !linears.iter().all(|linear| is_frozen(linear) && linear.is_joined(dy.at.rows, pass))
        {
            for (i, ((linear, columns), acts)) in linears.iter_mut().zip(columns).zip(acts).enumerate() {
                let out = dx.as_mut().map(|dx| (dx.by_ref(), if i == 0 { Write::Set } else { Write::Add }));
                linear.backward(be, out, dy.cols(columns.clone()), x, acts, scratch, pass)?;
            }
            return Ok(());
        }
        let mut parts = Vec::with_capacity(columns.len());
        for ((linear, columns), acts) in linears.iter_mut().zip(columns).zip(acts) {
            parts.push(linear.gradient(be, columns.clone(), dy, acts)?);
        }
        match x {
            Input::Rows(x) => be.adapted_bwd(dx, dy, x, &mut parts, &mut scratch.dxa),
            Input::Norm(x, rstd) => be.adapted_of_norm_bwd(dx, dy, &x, rstd, &mut parts, &mut scratch.dxa),
        }
    }

    /// The way back through this module and the gate before it, which made its input `h` of `gate_up`: sets `dgate_up`.
    pub fn backward_gated(
        &mut self,
        be: &B,
        mut dgate_up: Out<B>,
        (h, dh): (&mut Tensor<B>, &mut Tensor<B>),
        (dy, gate_up): (In<B>, In<B>),
        acts: &LinearActs<B>,
        scratch: &mut LinearScratch<B>,
        pass: &Pass,
        activation: Activation,
    ) -> Result<()> {
        let (rows, d_ff) = (dy.at.rows, self.in_features);
        if matches!(self.weight, Weights::Frozen(_)) && self.is_joined(rows, pass) {
            let part = self.gradient(be, 0..dy.at.cols, dy, acts)?;
            let buffers = (h, dh, &mut scratch.dxa);
            return be.adapted_gated_bwd(dgate_up, buffers, (dy, gate_up), part, activation);
        }
        be.reshape(h, rows, d_ff)?;
        be.gated(h.view_mut(), gate_up, activation)?;
        be.reshape(dh, rows, d_ff)?;
        self.backward(be, Some((dh.view_mut(), Write::Set)), dy, h.view(), acts, scratch, pass)?;
        be.gated_bwd(dgate_up.by_ref(), dh.view(), gate_up, activation)
    }

    /// What a call for the gradients of several modules takes of this one; its bias's is added here.
    fn gradient<'a>(
        &'a mut self,
        be: &B,
        columns: Range<usize>,
        dy: In<B>,
        acts: &'a LinearActs<B>,
    ) -> Result<AdaptedGradient<'a, B>> {
        if let Some(grad) = self.bias.as_mut().and_then(Param::grad) {
            be.sum_rows(grad, dy.cols(columns.clone()))?;
        }
        let adapter = self.lora.as_mut().map(|lora| {
            let (a, da) = lora.a.value_and_grad();
            let (b, db) = lora.b.value_and_grad();
            AdapterGradient { a, b, scaling: lora.scaling, xa: &acts.xa, da, db }
        });
        Ok(AdaptedGradient { columns, w: self.weight.matrix(), adapter })
    }

    /// The same lines, upside down. `dx` is left out where nothing below is trained.
    pub fn backward(
        &mut self,
        be: &B,
        dx: Option<(Out<B>, Write)>,
        dy: In<B>,
        x: In<B>,
        acts: &LinearActs<B>,
        scratch: &mut LinearScratch<B>,
        pass: &Pass,
    ) -> Result<()> {
        let Self { weight, bias, lora, out_features, in_features, .. } = self;
        if let Some(grad) = bias.as_mut().and_then(Param::grad) {
            be.sum_rows(grad, dy)?;
        }
        if let Weights::Trained(w) = weight
            && let Some(grad) = w.grad()
        {
            // dW += dyᵀ·x
            be.gemm(grad.view_mut(), Operand::transposed(dy), Operand::plain(x), 1.0, Write::Add)?;
        }
        let w = weight.matrix();
        let Some(lora) = lora else {
            return match dx {
                Some((dx, write)) => be.linear_bwd_input(dx, dy, w, write),
                None => Ok(()),
            };
        };
        let rows = dy.at.rows;
        let dropout = pass.dropout_of(lora);
        if let Some(dropout) = &dropout {
            be.reshape(&mut scratch.dropped, rows, *in_features)?;
            be.dropout(scratch.dropped.view_mut(), x, dropout, Write::Set)?;
        }
        // g = dy, with DoRA (m/n)∘dy
        if let Some(magnitude) = &mut lora.magnitude {
            let Magnitude { m, norm, ratio, .. } = magnitude;
            if let Some(grad) = m.grad() {
                // dm += Σ dy∘pre / n
                be.reshape(&mut scratch.row, 1, *out_features)?;
                be.fill(scratch.row.view_mut(), 0.0)?;
                be.column_dots(&mut scratch.row, dy, acts.pre.view())?;
                let mut quotient = be.zeros(1, *out_features)?;
                be.divide(&mut quotient, &scratch.row, norm)?;
                be.copy(grad.view_mut(), quotient.view(), Write::Add)?;
            }
            be.reshape(&mut scratch.gradient, rows, *out_features)?;
            be.scale_columns(scratch.gradient.view_mut(), dy, ratio, Write::Set)?;
        }
        let decomposed = lora.magnitude.is_some();
        let xd = if dropout.is_some() { scratch.dropped.view() } else { x };
        let s = lora.scaling;
        {
            let g = if decomposed { scratch.gradient.view() } else { dy };
            // dB += s·gᵀ·xa
            if let Some(grad) = lora.b.grad() {
                be.gemm(grad.view_mut(), Operand::transposed(g), Operand::plain(acts.xa.view()), s, Write::Add)?;
            }
            // dxa = s·g·B
            be.reshape(&mut scratch.dxa, rows, lora.b.value.cols())?;
            be.gemm(scratch.dxa.view_mut(), Operand::plain(g), Operand::plain(lora.b.value.view()), s, Write::Set)?;
        }
        // dA += dxaᵀ·xd
        if let Some(grad) = lora.a.grad() {
            be.gemm(grad.view_mut(), Operand::transposed(scratch.dxa.view()), Operand::plain(xd), 1.0, Write::Add)?;
        }
        let Some((mut dx, write)) = dx else { return Ok(()) };
        let a = Operand::plain(lora.a.value.view());
        let Some(dropout) = &dropout else {
            // dx = g·W + dxa·A
            let g = if decomposed { scratch.gradient.view() } else { dy };
            be.linear_bwd_input(dx.by_ref(), g, w, write)?;
            return be.gemm(dx, Operand::plain(scratch.dxa.view()), a, 1.0, Write::Add);
        };
        // dx = dy·W + mask∘(dxa·A [+ (g − dy)·W])
        be.linear_bwd_input(dx.by_ref(), dy, w, write)?;
        be.reshape(&mut scratch.difference, rows, *in_features)?;
        be.gemm(scratch.difference.view_mut(), Operand::plain(scratch.dxa.view()), a, 1.0, Write::Set)?;
        if decomposed {
            be.scale(scratch.gradient.view_mut(), -1.0)?;
            be.copy(scratch.gradient.view_mut(), dy, Write::Add)?;
            be.scale(scratch.gradient.view_mut(), -1.0)?;
            be.linear_bwd_input(scratch.difference.view_mut(), scratch.gradient.view(), w, Write::Add)?;
        }
        be.dropout(dx, scratch.difference.view(), dropout, Write::Add)
    }

    /// Everything trained in this module, in a fixed order.
    pub fn params_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Param<B>>) {
        if let Weights::Trained(w) = &mut self.weight {
            into.push(w);
        }
        if let Some(bias) = &mut self.bias
            && bias.moments.is_some()
        {
            into.push(bias);
        }
        if let Some(lora) = &mut self.lora {
            into.push(&mut lora.a);
            into.push(&mut lora.b);
            if let Some(magnitude) = &mut lora.magnitude {
                into.push(&mut magnitude.m);
            }
        }
    }
}

/// `xa = dropout(x)·Aᵀ`
fn project_down<B: Backend>(
    be: &B,
    lora: &Lora<B>,
    x: In<B>,
    acts: &mut LinearActs<B>,
    scratch: &mut LinearScratch<B>,
    dropout: Option<&Dropout>,
) -> Result<()> {
    if let Some(dropout) = dropout {
        be.reshape(&mut scratch.dropped, x.at.rows, x.at.cols)?;
        be.dropout(scratch.dropped.view_mut(), x, dropout, Write::Set)?;
    }
    let xd = if dropout.is_some() { scratch.dropped.view() } else { x };
    be.reshape(&mut acts.xa, x.at.rows, lora.a.value.rows())?;
    be.gemm(acts.xa.view_mut(), Operand::plain(xd), Operand::transposed(lora.a.value.view()), 1.0, Write::Set)
}
