//! One decoder block, forward and backward, for every family.

use super::linear::{Linear, LinearActs, LinearScratch, Pass, Vector};
use super::mlp::{Mlp, MlpActs, MlpScratch};
use super::param::Param;
use peft_kernels::{
    AttentionParams, Backend, CachedSegment, In, Input, NormParams, Normed, Out, Result, RopeParams, Tensor, Turn,
    Write,
};
use std::ops::Range;

/// What a block keeps of its forward pass for its backward pass. Rows are the tokens of a micro-batch.
pub struct LayerActs<B: Backend> {
    /// What is kept here is rounded, and what is lent is not.
    is_rounded: bool,
    rstd: Tensor<B>,
    /// Projections before the norm of queries and keys; empty where there is none.
    raw: Tensor<B>,
    q_rstd: Tensor<B>,
    k_rstd: Tensor<B>,
    qkv: Tensor<B>,
    attended: Tensor<B>,
    lse: Tensor<B>,
    /// Attention output before its norm; only where a norm comes behind.
    projected: Tensor<B>,
    projected_rstd: Tensor<B>,
    /// Residual stream between attention and MLP.
    middle: Tensor<B>,
    middle_rstd: Tensor<B>,
    mlp: MlpActs<B>,
    /// MLP output before its norm; only where a norm comes behind.
    down: Tensor<B>,
    down_rstd: Tensor<B>,
    linears: Vec<LinearActs<B>>,
}

impl<B: Backend> LayerActs<B> {
    /// Empty; grows with its first use. `modules`: linear modules of a block. `keeps`: a backward pass may follow, and
    /// the device holds this as it holds what is kept.
    pub fn new(be: &B, modules: usize, keeps: bool) -> Result<Self> {
        let (e, a) = (|| be.zeros(0, 0), || if keeps { be.activation() } else { be.lent() });
        Ok(Self {
            is_rounded: keeps && be.rounds_what_is_kept(),
            rstd: e()?,
            raw: a()?,
            q_rstd: e()?,
            k_rstd: e()?,
            qkv: a()?,
            attended: a()?,
            lse: e()?,
            projected: a()?,
            projected_rstd: e()?,
            middle: e()?,
            middle_rstd: e()?,
            mlp: MlpActs::new(be, keeps)?,
            down: a()?,
            down_rstd: e()?,
            linears: (0..modules).map(|_| LinearActs::new(be, keeps)).collect::<Result<_>>()?,
        })
    }

    /// Every buffer by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> Vec<(String, &mut Tensor<B>)> {
        let own = [
            ("rstd", &mut self.rstd),
            ("raw", &mut self.raw),
            ("q_rstd", &mut self.q_rstd),
            ("k_rstd", &mut self.k_rstd),
            ("qkv", &mut self.qkv),
            ("attended", &mut self.attended),
            ("lse", &mut self.lse),
            ("projected", &mut self.projected),
            ("projected_rstd", &mut self.projected_rstd),
            ("middle", &mut self.middle),
            ("middle_rstd", &mut self.middle_rstd),
            ("down", &mut self.down),
            ("down_rstd", &mut self.down_rstd),
        ];
        let linears = self.linears.iter_mut().enumerate();
        own.into_iter()
            .chain(self.mlp.named())
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .chain(linears.flat_map(|(i, l)| [(format!("xa.{i}"), &mut l.xa), (format!("pre.{i}"), &mut l.pre)]))
            .collect()
    }
}

/// Gradients of one block; every block uses the same buffers in turn.
pub struct LayerScratch<B: Backend> {
    /// What a norm gives to attention or the MLP: not kept, since it is quickly computed again.
    normed: Tensor<B>,
    /// The root of that norm the second time.
    again: Tensor<B>,
    wide: Tensor<B>,
    /// Gradient of the residual stream as a branch sees it; only with a residual scale.
    scaled: Tensor<B>,
    dnormed: Tensor<B>,
    dqkv: Tensor<B>,
    draw: Tensor<B>,
    dattended: Tensor<B>,
    mlp: MlpScratch<B>,
    linear: LinearScratch<B>,
}

impl<B: Backend> LayerScratch<B> {
    /// Empty; grows with its first use. `keeps`: see [`LayerActs::new`].
    pub fn new(be: &B, keeps: bool) -> Result<Self> {
        let e = || be.lent();
        Ok(Self {
            normed: e()?,
            again: be.zeros(0, 0)?,
            wide: e()?,
            scaled: e()?,
            dnormed: e()?,
            dqkv: e()?,
            draw: e()?,
            dattended: e()?,
            mlp: MlpScratch::new(be, keeps)?,
            linear: LinearScratch::new(be)?,
        })
    }

    /// Every buffer by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> Vec<(String, &mut Tensor<B>)> {
        let own = [
            ("normed", &mut self.normed),
            ("again", &mut self.again),
            ("wide", &mut self.wide),
            ("scaled", &mut self.scaled),
            ("dnormed", &mut self.dnormed),
            ("dqkv", &mut self.dqkv),
            ("draw", &mut self.draw),
            ("dattended", &mut self.dattended),
        ];
        own.into_iter()
            .chain(self.mlp.named())
            .chain(self.linear.named())
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect()
    }
}

/// Where the attention of a pass looks.
pub enum Attend<'a, B: Backend> {
    /// Inside the segments of this batch (training, scoring).
    Batch,
    /// Also at what a cache holds (generation).
    Cached {
        /// `[slots, 2·kv_dim]` of this layer.
        cache: &'a mut Tensor<B>,
        /// Which rows go where.
        segments: &'a [CachedSegment],
    },
}

/// Positions of a pass.
pub struct Positions<'a, B: Backend> {
    /// Rows of the rotary table for each token.
    pub rows: &'a [u32],
    /// The rotary table of this layer.
    pub table: &'a Tensor<B>,
}

/// Gains of the norm of queries and keys: as long as a head, or as all heads together.
pub struct QkNorm<B: Backend> {
    /// Of queries.
    pub q: Vector<B>,
    /// Of keys.
    pub k: Vector<B>,
}

/// A decoder block.
pub struct Layer<B: Backend> {
    /// Gain before attention, where there is one (all but `OLMo` 2).
    pub input_norm: Option<Vector<B>>,
    /// Gain before the MLP, where there is one.
    pub mlp_norm: Option<Vector<B>>,
    /// Gains after attention and after the MLP (Gemma 2 and 3, `OLMo` 2).
    pub post_norms: Option<(Vector<B>, Vector<B>)>,
    /// Norm of queries and keys.
    pub qk_norm: Option<QkNorm<B>>,
    /// The linear modules, in the order of the forward pass.
    pub linears: Vec<Linear<B>>,
    /// Modules `0..attention` make `qkv`; each with its columns there.
    pub qkv_columns: Vec<Range<usize>>,
    /// What comes behind attention; its linear modules are the last ones.
    pub mlp: Mlp<B>,
    /// Attention of this layer; `segments` is set per batch.
    pub attention: AttentionParams,
    /// Rotary geometry, where the layer rotates.
    pub rope: Option<RopeParams>,
    /// Norm parameters.
    pub norm: NormParams,
    /// Multiplies what attention and MLP add to the residual stream.
    pub residual_scale: Option<f32>,
}

impl<B: Backend> Layer<B> {
    fn o_index(&self) -> usize {
        self.qkv_columns.len()
    }

    /// `y = x + attention(norm(x)) + mlp(norm(·))`. x, y: `[rows, hidden]`. Without `y` everything but the MLP's
    /// last product is computed: enough for a backward pass. Where none finds in `acts` what this leaves there they are
    /// not `kept`, and may hold less.
    pub fn forward(
        &self,
        be: &B,
        y: Option<&mut Tensor<B>>,
        x: In<B>,
        (acts, kept): (&mut LayerActs<B>, bool),
        scratch: &mut LayerScratch<B>,
        positions: &Positions<B>,
        attend: Attend<B>,
        pass: &Pass,
    ) -> Result<()> {
        let rows = x.at.rows;
        let hidden = x.at.cols;

        self.project(be, x, acts, scratch, positions, pass)?;
        self.attend(be, acts, attend)?;

        let o = self.o_index();
        let target = if self.post_norms.is_some() { &mut acts.projected } else { &mut scratch.wide };
        be.reshape(target, rows, hidden)?;
        self.linears[o].forward(
            be,
            target.view_mut(),
            acts.attended.view(),
            &mut acts.linears[o],
            &mut scratch.linear,
            pass,
        )?;
        if let Some((after_attention, _)) = &self.post_norms {
            be.reshape(&mut scratch.wide, rows, hidden)?;
            be.reshape(&mut acts.projected_rstd, rows, 1)?;
            let gain = &after_attention.value;
            be.rms_norm(scratch.wide.view_mut(), &mut acts.projected_rstd, acts.projected.view(), gain, &self.norm)?;
        }
        be.reshape(&mut acts.middle, rows, hidden)?;
        let norm_of_mlp = self.mlp_norm.as_ref().map(|gain| &gain.value);
        let in_product = norm_of_mlp.filter(|_| self.mlp.takes_norm(be, &self.linears[o + 1..], rows, pass));
        if norm_of_mlp.is_some() {
            be.reshape(&mut acts.middle_rstd, rows, 1)?;
        }
        if let (Some(gain), None) = (norm_of_mlp, in_product) {
            be.reshape(&mut scratch.normed, rows, hidden)?;
            self.scale_branch(be, &mut scratch.wide)?;
            let (out, parts) = (scratch.normed.view_mut(), (x, scratch.wide.view()));
            be.add_rms_norm(&mut acts.middle, out, &mut acts.middle_rstd, parts, gain, &self.norm)?;
        } else {
            self.add(be, &mut acts.middle, x, &mut scratch.wide)?;
        }
        let input = if norm_of_mlp.is_some() { &scratch.normed } else { &acts.middle };
        let norm = in_product.map(|gain| (self.normed(acts.middle.view(), gain), &mut acts.middle_rstd));
        let target = if self.post_norms.is_some() { &mut acts.down } else { &mut scratch.wide };
        let last = y.is_some() || self.post_norms.is_some();
        let acts_of_mlp = (&mut acts.mlp, &mut acts.linears[o + 1..]);
        let scratch_of_mlp = (&mut scratch.mlp, &mut scratch.linear);
        let set = self.mlp.forward(
            be,
            target,
            input,
            norm,
            &self.linears[o + 1..],
            acts_of_mlp,
            scratch_of_mlp,
            pass,
            (last, kept),
        )?;
        if let (true, Some((_, after_mlp))) = (set, &self.post_norms) {
            be.reshape(&mut scratch.wide, rows, hidden)?;
            be.reshape(&mut acts.down_rstd, rows, 1)?;
            let gain = &after_mlp.value;
            be.rms_norm(scratch.wide.view_mut(), &mut acts.down_rstd, acts.down.view(), gain, &self.norm)?;
        }
        let Some(y) = y else { return Ok(()) };
        be.reshape(y, rows, hidden)?;
        self.add(be, y, acts.middle.view(), &mut scratch.wide)
    }

    /// `y = x + scale·branch`; the branch may be scaled in place.
    fn add(&self, be: &B, y: &mut Tensor<B>, x: In<B>, branch: &mut Tensor<B>) -> Result<()> {
        self.scale_branch(be, branch)?;
        be.copy(y.view_mut(), x, Write::Set)?;
        be.copy(y.view_mut(), branch.view(), Write::Add)
    }

    fn normed<'a>(&self, x: In<'a, B>, gain: &'a Tensor<B>) -> Normed<'a, B> {
        Normed { x, gain, params: self.norm }
    }

    fn scale_branch(&self, be: &B, branch: &mut Tensor<B>) -> Result<()> {
        self.residual_scale.map_or(Ok(()), |scale| be.scale(branch.view_mut(), scale))
    }

    /// Queries, keys and values: projected, normalised, rotated.
    fn project(
        &self,
        be: &B,
        x: In<B>,
        acts: &mut LayerActs<B>,
        scratch: &mut LayerScratch<B>,
        positions: &Positions<B>,
        pass: &Pass,
    ) -> Result<()> {
        let (rows, heads) = (x.at.rows, self.attention.heads);
        let (q, k) = (0..heads.q_dim(), heads.q_dim()..heads.q_dim() + heads.kv_dim());
        let LayerActs { is_rounded, rstd, raw, qkv, q_rstd, k_rstd, linears, .. } = acts;
        let input = match &self.input_norm {
            None => Input::Rows(x),
            Some(gain) => {
                be.reshape(rstd, rows, 1)?;
                if Linear::take_norm(&self.linears[..self.o_index()], be, rows, pass) {
                    Input::Norm(self.normed(x, &gain.value), rstd)
                } else {
                    be.reshape(&mut scratch.normed, rows, x.at.cols)?;
                    be.rms_norm(scratch.normed.view_mut(), rstd, x, &gain.value, &self.norm)?;
                    Input::Rows(scratch.normed.view())
                }
            }
        };
        be.reshape(qkv, rows, heads.qkv_dim())?;
        // What is turned is rounded behind that, and once.
        let (kept, qkv) = if *is_rounded && self.rope.is_some() {
            be.reshape(&mut scratch.dqkv, rows, heads.qkv_dim())?;
            (Some(qkv), &mut scratch.dqkv)
        } else {
            (None, qkv)
        };
        let projections = if self.qk_norm.is_some() {
            be.reshape(raw, rows, heads.qkv_dim())?;
            &mut *raw
        } else {
            &mut *qkv
        };
        let (out, columns) = (projections.view_mut(), &self.qkv_columns);
        Linear::forward_all(&self.linears, be, out, columns, input, linears, &mut scratch.linear, pass)?;
        if let Some(norms) = &self.qk_norm {
            for (gain, rstd, columns) in [(&norms.q.value, q_rstd, q), (&norms.k.value, k_rstd, k.clone())] {
                be.reshape(rstd, rows, columns.len() / gain.cols().max(1))?;
                be.rms_norm(qkv.view_mut().cols(columns.clone()), rstd, raw.view().cols(columns), gain, &self.norm)?;
            }
            let v = k.end..heads.qkv_dim();
            be.copy(qkv.view_mut().cols(v.clone()), raw.view().cols(v), Write::Set)?;
        }
        if let Some(rope) = &self.rope {
            be.rope(qkv.view_mut().cols(0..k.end), positions.table, positions.rows, rope, Turn::Forward)?;
        }
        kept.map_or(Ok(()), |kept| be.copy(kept.view_mut(), qkv.view(), Write::Set))
    }

    fn attend(&self, be: &B, acts: &mut LayerActs<B>, attend: Attend<B>) -> Result<()> {
        let (rows, heads) = (acts.qkv.rows(), self.attention.heads);
        be.reshape(&mut acts.attended, rows, heads.q_dim())?;
        match attend {
            Attend::Batch => {
                be.reshape(&mut acts.lse, rows, heads.n_heads)?;
                be.attention(acts.attended.view_mut(), &mut acts.lse, acts.qkv.view(), &self.attention)
            }
            Attend::Cached { cache, segments } => {
                be.attention_cached(acts.attended.view_mut(), cache, acts.qkv.view(), segments, &self.attention)
            }
        }
    }

    /// The same lines, upside down. `dx` holds the gradient of `y` and becomes that of `x`; with `lowest` only the
    /// parameters' gradients are wanted and `dx` is left undefined.
    pub fn backward(
        &mut self,
        be: &B,
        dx: &mut Tensor<B>,
        x: In<B>,
        acts: &LayerActs<B>,
        scratch: &mut LayerScratch<B>,
        positions: &Positions<B>,
        lowest: bool,
        pass: &Pass,
    ) -> Result<()> {
        let (o, scale, norm) = (self.o_index(), self.residual_scale, self.norm);
        let LayerScratch { normed, again, wide, scaled, dnormed, mlp, linear, .. } = scratch;

        // MLP
        let gain = self.post_norms.as_mut().map(|(_, gain)| gain);
        let dy = branch(be, dx, (wide, scaled), scale, gain.map(|gain| (gain, &acts.down, &acts.down_rstd)), &norm)?;
        let (rows, gain) = (x.at.rows, self.mlp_norm.as_ref().map(|gain| &gain.value));
        let in_product = gain.filter(|_| self.mlp.takes_norm_back(be, &self.linears[o + 1..], rows, pass));
        norm_again(be, gain.filter(|_| in_product.is_none()), (normed, again), acts.middle.view(), &norm)?;
        let input = if gain.is_some() { &*normed } else { &acts.middle };
        let of_norm = in_product.map(|gain| (Normed { x: acts.middle.view(), gain, params: norm }, &acts.middle_rstd));
        let acts_of_mlp = (&acts.mlp, &acts.linears[o + 1..]);
        self.mlp.backward(
            be,
            dnormed,
            dy,
            input,
            of_norm,
            &mut self.linears[o + 1..],
            acts_of_mlp,
            (mlp, linear),
            pass,
        )?;
        let (middle, rstd) = (acts.middle.view(), &acts.middle_rstd);
        into_residual(be, dx, self.mlp_norm.as_mut(), dnormed, middle, rstd, &norm)?;

        // attention
        let gain = self.post_norms.as_mut().map(|(gain, _)| gain);
        let gain = gain.map(|gain| (gain, &acts.projected, &acts.projected_rstd));
        let dy = branch(be, dx, (wide, scaled), scale, gain, &norm)?;
        let dattended = &mut scratch.dattended;
        be.reshape(dattended, x.at.rows, self.attention.heads.q_dim())?;
        let (out, whole) = (Some(dattended.view_mut()), 0..x.at.cols);
        let whole = std::slice::from_ref(&whole);
        let (module, of_module) = (&mut self.linears[o..=o], &acts.linears[o..=o]);
        let attended = Input::Rows(acts.attended.view());
        Linear::backward_all(module, be, out, dy.view(), whole, attended, of_module, linear, pass)?;
        self.project_bwd(be, x, acts, scratch, positions, lowest, pass)?;
        if lowest {
            return Ok(());
        }
        into_residual(be, dx, self.input_norm.as_mut(), &scratch.dnormed, x, &acts.rstd, &norm)
    }

    /// From the gradient of what attention gave to that of its input, in `scratch.dnormed`.
    fn project_bwd(
        &mut self,
        be: &B,
        x: In<B>,
        acts: &LayerActs<B>,
        scratch: &mut LayerScratch<B>,
        positions: &Positions<B>,
        lowest: bool,
        pass: &Pass,
    ) -> Result<()> {
        let (rows, heads) = (x.at.rows, self.attention.heads);
        let (q, k) = (0..heads.q_dim(), heads.q_dim()..heads.q_dim() + heads.kv_dim());
        let LayerScratch { normed, again, dnormed, dqkv, draw, dattended, linear, .. } = scratch;
        be.reshape(dqkv, rows, heads.qkv_dim())?;
        let qkv = acts.qkv.view();
        be.attention_bwd(dqkv.view_mut(), dattended.view(), acts.attended.view(), &acts.lse, qkv, &self.attention)?;
        if let Some(rope) = &self.rope {
            be.rope(dqkv.view_mut().cols(0..k.end), positions.table, positions.rows, rope, Turn::Back)?;
        }
        let gradient = match &mut self.qk_norm {
            Some(norms) => {
                be.reshape(draw, rows, heads.qkv_dim())?;
                let v = k.end..heads.qkv_dim();
                for (gain, rstd, columns) in [(&mut norms.q, &acts.q_rstd, q), (&mut norms.k, &acts.k_rstd, k)] {
                    let (out, dy) = (draw.view_mut().cols(columns.clone()), dqkv.view().cols(columns.clone()));
                    norm_bwd(be, out, gain, dy, acts.raw.view().cols(columns), rstd, &self.norm, Write::Set)?;
                }
                be.copy(draw.view_mut().cols(v.clone()), dqkv.view().cols(v), Write::Set)?;
                draw.view()
            }
            None => dqkv.view(),
        };
        let gain = self.input_norm.as_ref().map(|gain| &gain.value);
        let in_product = Linear::take_norm_back(&self.linears[..self.qkv_columns.len()], be, rows, pass);
        let input = match gain {
            None => Input::Rows(x),
            Some(gain) if in_product => Input::Norm(Normed { x, gain, params: self.norm }, &acts.rstd),
            gain => {
                norm_again(be, gain, (normed, again), x, &self.norm)?;
                Input::Rows(normed.view())
            }
        };
        be.reshape(dnormed, rows, x.at.cols)?;
        let out = (!lowest).then(|| dnormed.view_mut());
        let (linears, columns) = (&mut self.linears, &self.qkv_columns);
        Linear::backward_all(linears, be, out, gradient, columns, input, &acts.linears, linear, pass)
    }

    /// Set the sequences of the next pass.
    pub fn set_segments(&mut self, segments: &[peft_kernels::Segment]) {
        self.attention.segments.clear();
        self.attention.segments.extend_from_slice(segments);
    }

    /// The gains of all norms of this block, in a fixed order.
    pub fn vectors_mut(&mut self) -> Vec<&mut Vector<B>> {
        Self::vectors(&mut self.input_norm, &mut self.mlp_norm, &mut self.post_norms, &mut self.qk_norm)
    }

    fn vectors<'a>(
        input: &'a mut Option<Vector<B>>,
        mlp: &'a mut Option<Vector<B>>,
        post: &'a mut Option<(Vector<B>, Vector<B>)>,
        per_head: &'a mut Option<QkNorm<B>>,
    ) -> Vec<&'a mut Vector<B>> {
        let mut vectors: Vec<_> = [input, mlp].into_iter().flatten().collect();
        if let Some((a, b)) = post {
            vectors.extend([a, b]);
        }
        if let Some(QkNorm { q, k }) = per_head {
            vectors.extend([q, k]);
        }
        vectors
    }

    /// Everything used or trained in this block that an adapter's file holds, in a fixed order.
    pub fn params_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Param<B>>) {
        let vectors = Self::vectors(&mut self.input_norm, &mut self.mlp_norm, &mut self.post_norms, &mut self.qk_norm);
        into.extend(vectors.into_iter().filter(|p| p.moments.is_some() || p.base.is_some()));
        for linear in &mut self.linears {
            linear.params_mut(into);
        }
    }
}

/// Gradient of what a branch gave, from that of the sum it was added to: scaled, and through the norm behind the branch.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the backend's operation takes them")]
fn branch<'a, B: Backend>(
    be: &B,
    dy: &'a Tensor<B>,
    (wide, scaled): (&'a mut Tensor<B>, &'a mut Tensor<B>),
    scale: Option<f32>,
    norm_behind: Option<(&mut Vector<B>, &Tensor<B>, &Tensor<B>)>,
    norm: &NormParams,
) -> Result<&'a Tensor<B>> {
    let mut dy = dy;
    if let Some(scale) = scale {
        be.reshape(scaled, dy.rows(), dy.cols())?;
        be.copy(scaled.view_mut(), dy.view(), Write::Set)?;
        be.scale(scaled.view_mut(), scale)?;
        dy = scaled;
    }
    let Some((gain, x, rstd)) = norm_behind else { return Ok(dy) };
    be.reshape(wide, dy.rows(), dy.cols())?;
    norm_bwd(be, wide.view_mut(), gain, dy.view(), x.view(), rstd, norm, Write::Set)?;
    Ok(wide)
}

/// What a norm before a branch gave in the forward pass: the same bits.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the backend's operation takes them")]
fn norm_again<B: Backend>(
    be: &B,
    gain: Option<&Tensor<B>>,
    (normed, rstd): (&mut Tensor<B>, &mut Tensor<B>),
    x: In<B>,
    norm: &NormParams,
) -> Result<()> {
    let Some(gain) = gain else { return Ok(()) };
    be.reshape(normed, x.at.rows, x.at.cols)?;
    be.reshape(rstd, x.at.rows, 1)?;
    be.rms_norm(normed.view_mut(), rstd, x, gain, norm)
}

/// `dx += ` the gradient of a branch's input, through the norm before the branch.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the backend's operation takes them")]
fn into_residual<B: Backend>(
    be: &B,
    dx: &mut Tensor<B>,
    gain: Option<&mut Vector<B>>,
    dinput: &Tensor<B>,
    x: In<B>,
    rstd: &Tensor<B>,
    norm: &NormParams,
) -> Result<()> {
    match gain {
        Some(gain) => norm_bwd(be, dx.view_mut(), gain, dinput.view(), x, rstd, norm, Write::Add),
        None => be.copy(dx.view_mut(), dinput.view(), Write::Add),
    }
}

/// Backward of a norm, its gain's gradient included where it is trained.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the backend's operation takes them")]
pub(super) fn norm_bwd<B: Backend>(
    be: &B,
    dx: Out<B>,
    gain: &mut Vector<B>,
    dy: In<B>,
    x: In<B>,
    rstd: &Tensor<B>,
    params: &NormParams,
    write: Write,
) -> Result<()> {
    let Param { value, moments, .. } = gain;
    be.rms_norm_bwd(dx, moments.as_mut().map(|m| &mut m.grad), dy, x, value, rstd, params, write)
}
