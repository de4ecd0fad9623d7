//! One decoder block, forward and backward, for every family.

use super::linear::{Linear, LinearActs, LinearScratch, Pass, Vector};
use super::param::Param;
use peft_kernels::{
    Activation, AttentionParams, Backend, CachedSegment, In, NormParams, Out, Result, RopeParams, Tensor, Turn, Write,
};
use std::ops::Range;

/// What a block keeps of its forward pass for its backward pass. Rows are the tokens of a micro-batch.
pub struct LayerActs<B: Backend> {
    normed: Tensor<B>,
    rstd: Tensor<B>,
    /// Projections before the per-head norm; empty where there is none.
    raw: Tensor<B>,
    q_rstd: Tensor<B>,
    k_rstd: Tensor<B>,
    qkv: Tensor<B>,
    attended: Tensor<B>,
    lse: Tensor<B>,
    /// Attention output before its norm; only with norms on both sides.
    projected: Tensor<B>,
    projected_rstd: Tensor<B>,
    /// Residual stream between attention and MLP.
    middle: Tensor<B>,
    middle_normed: Tensor<B>,
    middle_rstd: Tensor<B>,
    gate_up: Tensor<B>,
    gated: Tensor<B>,
    /// MLP output before its norm; only with norms on both sides.
    down: Tensor<B>,
    down_rstd: Tensor<B>,
    linears: Vec<LinearActs<B>>,
}

impl<B: Backend> LayerActs<B> {
    /// Empty; grows with its first use. `modules`: linear modules of a block.
    pub fn new(be: &B, modules: usize) -> Result<Self> {
        let e = || be.zeros(0, 0);
        Ok(Self {
            normed: e()?,
            rstd: e()?,
            raw: e()?,
            q_rstd: e()?,
            k_rstd: e()?,
            qkv: e()?,
            attended: e()?,
            lse: e()?,
            projected: e()?,
            projected_rstd: e()?,
            middle: e()?,
            middle_normed: e()?,
            middle_rstd: e()?,
            gate_up: e()?,
            gated: e()?,
            down: e()?,
            down_rstd: e()?,
            linears: (0..modules).map(|_| LinearActs::new(be)).collect::<Result<_>>()?,
        })
    }

    /// Every buffer by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> Vec<(String, &mut Tensor<B>)> {
        let own = [
            ("normed", &mut self.normed),
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
            ("middle_normed", &mut self.middle_normed),
            ("middle_rstd", &mut self.middle_rstd),
            ("gate_up", &mut self.gate_up),
            ("gated", &mut self.gated),
            ("down", &mut self.down),
            ("down_rstd", &mut self.down_rstd),
        ];
        let linears = self.linears.iter_mut().enumerate();
        own.into_iter()
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .chain(linears.flat_map(|(i, l)| [(format!("xa.{i}"), &mut l.xa), (format!("pre.{i}"), &mut l.pre)]))
            .collect()
    }
}

/// Gradients of one block; every block uses the same buffers in turn.
pub struct LayerScratch<B: Backend> {
    wide: Tensor<B>,
    dnormed: Tensor<B>,
    dqkv: Tensor<B>,
    draw: Tensor<B>,
    dattended: Tensor<B>,
    dgated: Tensor<B>,
    dgate_up: Tensor<B>,
    linear: LinearScratch<B>,
}

impl<B: Backend> LayerScratch<B> {
    /// Empty; grows with its first use.
    pub fn new(be: &B) -> Result<Self> {
        let e = || be.zeros(0, 0);
        Ok(Self {
            wide: e()?,
            dnormed: e()?,
            dqkv: e()?,
            draw: e()?,
            dattended: e()?,
            dgated: e()?,
            dgate_up: e()?,
            linear: LinearScratch::new(be)?,
        })
    }

    /// Every buffer by the name it has in the memory plan.
    pub(super) fn named(&mut self) -> Vec<(String, &mut Tensor<B>)> {
        let own = [
            ("wide", &mut self.wide),
            ("dnormed", &mut self.dnormed),
            ("dqkv", &mut self.dqkv),
            ("draw", &mut self.draw),
            ("dattended", &mut self.dattended),
            ("dgated", &mut self.dgated),
            ("dgate_up", &mut self.dgate_up),
        ];
        own.into_iter().chain(self.linear.named()).map(|(name, tensor)| (name.to_owned(), tensor)).collect()
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

/// Gains of the per-head norm of queries and keys.
pub struct QkNorm<B: Backend> {
    /// `[1, head_dim]`
    pub q: Vector<B>,
    /// `[1, head_dim]`
    pub k: Vector<B>,
}

/// A decoder block.
pub struct Layer<B: Backend> {
    /// Gain before attention.
    pub input_norm: Vector<B>,
    /// Gain before the MLP.
    pub mlp_norm: Vector<B>,
    /// Gains after attention and after the MLP (Gemma 2 and 3).
    pub post_norms: Option<(Vector<B>, Vector<B>)>,
    /// Per-head norm of queries and keys.
    pub qk_norm: Option<QkNorm<B>>,
    /// The linear modules, in the order of the forward pass.
    pub linears: Vec<Linear<B>>,
    /// Modules `0..attention` make `qkv`; each with its columns there.
    pub qkv_columns: Vec<Range<usize>>,
    /// Modules that make `gate_up`, with their columns there.
    pub gate_up_columns: Vec<Range<usize>>,
    /// Attention of this layer; `segments` is set per batch.
    pub attention: AttentionParams,
    /// Rotary geometry.
    pub rope: RopeParams,
    /// Norm parameters.
    pub norm: NormParams,
    /// The gate's nonlinearity.
    pub activation: Activation,
    /// Width of the MLP.
    pub d_ff: usize,
}

impl<B: Backend> Layer<B> {
    fn o_index(&self) -> usize {
        self.qkv_columns.len()
    }

    fn gate_up_index(&self) -> usize {
        self.o_index() + 1
    }

    fn down_index(&self) -> usize {
        self.gate_up_index() + self.gate_up_columns.len()
    }

    /// `y = x + attention(norm(x)) + mlp(norm(·))`. x, y: `[rows, hidden]`. Without `y` everything but the MLP's
    /// last product is computed: enough for a backward pass.
    pub fn forward(
        &self,
        be: &B,
        y: Option<&mut Tensor<B>>,
        x: In<B>,
        acts: &mut LayerActs<B>,
        scratch: &mut LayerScratch<B>,
        positions: &Positions<B>,
        attend: Attend<B>,
        pass: &Pass,
    ) -> Result<()> {
        let rows = x.at.rows;
        let hidden = x.at.cols;
        let heads = self.attention.heads;
        let (q, k) = (0..heads.q_dim(), heads.q_dim()..heads.q_dim() + heads.kv_dim());
        let sandwich = self.post_norms.is_some();

        be.reshape(&mut acts.normed, rows, hidden)?;
        be.reshape(&mut acts.rstd, rows, 1)?;
        be.rms_norm(acts.normed.view_mut(), &mut acts.rstd, x, &self.input_norm.value, &self.norm)?;

        be.reshape(&mut acts.qkv, rows, heads.qkv_dim())?;
        let projections = if self.qk_norm.is_some() {
            be.reshape(&mut acts.raw, rows, heads.qkv_dim())?;
            &mut acts.raw
        } else {
            &mut acts.qkv
        };
        for (i, columns) in self.qkv_columns.iter().enumerate() {
            let out = projections.view_mut().cols(columns.clone());
            self.linears[i].forward(be, out, acts.normed.view(), &mut acts.linears[i], &mut scratch.linear, pass)?;
        }
        if let Some(norms) = &self.qk_norm {
            be.reshape(&mut acts.q_rstd, rows, heads.n_heads)?;
            be.reshape(&mut acts.k_rstd, rows, heads.n_kv_heads)?;
            let raw = acts.raw.view();
            be.rms_norm(
                acts.qkv.view_mut().cols(q.clone()),
                &mut acts.q_rstd,
                raw.cols(q.clone()),
                &norms.q.value,
                &self.norm,
            )?;
            be.rms_norm(
                acts.qkv.view_mut().cols(k.clone()),
                &mut acts.k_rstd,
                raw.cols(k.clone()),
                &norms.k.value,
                &self.norm,
            )?;
            let v = k.end..heads.qkv_dim();
            be.copy(acts.qkv.view_mut().cols(v.clone()), raw.cols(v), Write::Set)?;
        }
        be.rope(acts.qkv.view_mut().cols(0..k.end), positions.table, positions.rows, &self.rope, Turn::Forward)?;

        be.reshape(&mut acts.attended, rows, heads.q_dim())?;
        match attend {
            Attend::Batch => {
                be.reshape(&mut acts.lse, rows, heads.n_heads)?;
                be.attention(acts.attended.view_mut(), &mut acts.lse, acts.qkv.view(), &self.attention)?;
            }
            Attend::Cached { cache, segments } => {
                be.attention_cached(acts.attended.view_mut(), cache, acts.qkv.view(), segments, &self.attention)?;
            }
        }

        let o = self.o_index();
        let target = if sandwich { &mut acts.projected } else { &mut scratch.wide };
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
        be.copy(acts.middle.view_mut(), x, Write::Set)?;
        be.copy(acts.middle.view_mut(), scratch.wide.view(), Write::Add)?;

        be.reshape(&mut acts.middle_normed, rows, hidden)?;
        be.reshape(&mut acts.middle_rstd, rows, 1)?;
        be.rms_norm(
            acts.middle_normed.view_mut(),
            &mut acts.middle_rstd,
            acts.middle.view(),
            &self.mlp_norm.value,
            &self.norm,
        )?;
        be.reshape(&mut acts.gate_up, rows, 2 * self.d_ff)?;
        let first = self.gate_up_index();
        for (i, columns) in self.gate_up_columns.iter().enumerate() {
            let out = acts.gate_up.view_mut().cols(columns.clone());
            let at = first + i;
            self.linears[at].forward(
                be,
                out,
                acts.middle_normed.view(),
                &mut acts.linears[at],
                &mut scratch.linear,
                pass,
            )?;
        }
        be.reshape(&mut acts.gated, rows, self.d_ff)?;
        be.gated(acts.gated.view_mut(), acts.gate_up.view(), self.activation)?;

        let down = self.down_index();
        if y.is_none() && !sandwich && self.linears[down].lora.is_none() {
            return Ok(());
        }
        let target = if sandwich { &mut acts.down } else { &mut scratch.wide };
        be.reshape(target, rows, hidden)?;
        self.linears[down].forward(
            be,
            target.view_mut(),
            acts.gated.view(),
            &mut acts.linears[down],
            &mut scratch.linear,
            pass,
        )?;
        if let Some((_, after_mlp)) = &self.post_norms {
            be.reshape(&mut acts.down_rstd, rows, 1)?;
            let gain = &after_mlp.value;
            be.rms_norm(scratch.wide.view_mut(), &mut acts.down_rstd, acts.down.view(), gain, &self.norm)?;
        }
        let Some(y) = y else { return Ok(()) };
        be.reshape(y, rows, hidden)?;
        be.copy(y.view_mut(), acts.middle.view(), Write::Set)?;
        be.copy(y.view_mut(), scratch.wide.view(), Write::Add)
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
        let rows = x.at.rows;
        let hidden = x.at.cols;
        let heads = self.attention.heads;
        let (q, k) = (0..heads.q_dim(), heads.q_dim()..heads.q_dim() + heads.kv_dim());
        let (o, first, down) = (self.o_index(), self.gate_up_index(), self.down_index());
        let LayerScratch { wide, dnormed, dqkv, draw, dattended, dgated, dgate_up, linear } = scratch;

        // MLP
        be.reshape(dgated, rows, self.d_ff)?;
        if let Some((_, gain)) = &mut self.post_norms {
            be.reshape(wide, rows, hidden)?;
            norm_bwd(be, wide.view_mut(), gain, dx.view(), acts.down.view(), &acts.down_rstd, &self.norm, Write::Set)?;
        }
        let dy = if self.post_norms.is_some() { wide.view() } else { dx.view() };
        let out = Some((dgated.view_mut(), Write::Set));
        self.linears[down].backward(be, out, dy, acts.gated.view(), &acts.linears[down], linear, pass)?;
        be.reshape(dgate_up, rows, 2 * self.d_ff)?;
        be.gated_bwd(dgate_up.view_mut(), dgated.view(), acts.gate_up.view(), self.activation)?;
        be.reshape(dnormed, rows, hidden)?;
        for (i, columns) in self.gate_up_columns.iter().enumerate() {
            let out = Some((dnormed.view_mut(), if i == 0 { Write::Set } else { Write::Add }));
            let dy = dgate_up.view().cols(columns.clone());
            self.linears[first + i].backward(
                be,
                out,
                dy,
                acts.middle_normed.view(),
                &acts.linears[first + i],
                linear,
                pass,
            )?;
        }
        norm_bwd(
            be,
            dx.view_mut(),
            &mut self.mlp_norm,
            dnormed.view(),
            acts.middle.view(),
            &acts.middle_rstd,
            &self.norm,
            Write::Add,
        )?;

        // attention
        if let Some((gain, _)) = &mut self.post_norms {
            be.reshape(wide, rows, hidden)?;
            norm_bwd(
                be,
                wide.view_mut(),
                gain,
                dx.view(),
                acts.projected.view(),
                &acts.projected_rstd,
                &self.norm,
                Write::Set,
            )?;
        }
        let dy = if self.post_norms.is_some() { wide.view() } else { dx.view() };
        be.reshape(dattended, rows, heads.q_dim())?;
        let out = Some((dattended.view_mut(), Write::Set));
        self.linears[o].backward(be, out, dy, acts.attended.view(), &acts.linears[o], linear, pass)?;
        be.reshape(dqkv, rows, heads.qkv_dim())?;
        let qkv = acts.qkv.view();
        be.attention_bwd(dqkv.view_mut(), dattended.view(), acts.attended.view(), &acts.lse, qkv, &self.attention)?;
        be.rope(dqkv.view_mut().cols(0..k.end), positions.table, positions.rows, &self.rope, Turn::Back)?;
        let gradient = match &mut self.qk_norm {
            Some(norms) => {
                be.reshape(draw, rows, heads.qkv_dim())?;
                let raw = acts.raw.view();
                let dq = dqkv.view().cols(q.clone());
                norm_bwd(
                    be,
                    draw.view_mut().cols(q.clone()),
                    &mut norms.q,
                    dq,
                    raw.cols(q),
                    &acts.q_rstd,
                    &self.norm,
                    Write::Set,
                )?;
                let dk = dqkv.view().cols(k.clone());
                norm_bwd(
                    be,
                    draw.view_mut().cols(k.clone()),
                    &mut norms.k,
                    dk,
                    raw.cols(k.clone()),
                    &acts.k_rstd,
                    &self.norm,
                    Write::Set,
                )?;
                let v = k.end..heads.qkv_dim();
                be.copy(draw.view_mut().cols(v.clone()), dqkv.view().cols(v), Write::Set)?;
                draw.view()
            }
            None => dqkv.view(),
        };
        for (i, columns) in self.qkv_columns.iter().enumerate() {
            let write = if i == 0 { Write::Set } else { Write::Add };
            let out = (!lowest).then(|| (dnormed.view_mut(), write));
            let dy = gradient.cols(columns.clone());
            self.linears[i].backward(be, out, dy, acts.normed.view(), &acts.linears[i], linear, pass)?;
        }
        if lowest {
            return Ok(());
        }
        norm_bwd(be, dx.view_mut(), &mut self.input_norm, dnormed.view(), x, &acts.rstd, &self.norm, Write::Add)
    }

    /// Set the sequences of the next pass.
    pub fn set_segments(&mut self, segments: &[peft_kernels::Segment]) {
        self.attention.segments.clear();
        self.attention.segments.extend_from_slice(segments);
    }

    /// Everything trained in this block, in a fixed order.
    pub fn params_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Param<B>>) {
        let mut vectors: Vec<&'a mut Param<B>> = vec![&mut self.input_norm, &mut self.mlp_norm];
        if let Some((a, b)) = &mut self.post_norms {
            vectors.extend([a, b]);
        }
        if let Some(QkNorm { q, k }) = &mut self.qk_norm {
            vectors.extend([q, k]);
        }
        into.extend(vectors.into_iter().filter(|p| p.moments.is_some()));
        for linear in &mut self.linears {
            linear.params_mut(into);
        }
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
