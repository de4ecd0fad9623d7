//! The decoder, written once: embedding, blocks, final norm, head; forward, backward, cached.
//!
//! A family is a [`ModelSpec`]; nothing here asks for its name. A batch is a flat list of tokens cut into
//! segments, so there is no padding anywhere.

mod build;
mod cache;
mod experts;
mod held;
mod layer;
mod linear;
mod logits;
mod mlp;
mod offload;
mod param;
mod pooled;
mod reserve;
mod router;
mod saved;
mod watch;
mod weighted;

pub use build::{BuildOptions, attach, build, build_first, build_mapped, initial_a, stays_mapped};
pub use cache::{KeptRows, KvCache};
pub use experts::{Expert, Experts, ExpertsActs, ExpertsScratch, Gate, Placed};
pub use layer::{Attend, Layer, LayerActs, LayerScratch, Positions, QkNorm};
pub use linear::{Linear, LinearActs, LinearScratch, Lora, Magnitude, Pass, Vector, Weights};
pub use logits::Logits;
pub use mlp::{Gated, Mlp, MlpActs, MlpScratch};
pub use param::{Moments, OptimizerState, Param};
pub use router::Routes;
pub use saved::Saved;
pub use watch::{Seen, SeenColumns};

use peft_kernels::{Backend, CachedSegment, In, LossParams, Matrix, NormParams, Result, Segment, Tensor, Write};
use peft_plan::{ModelSpec, RopeScaling};

/// A flat batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token ids of all segments, one after the other.
    pub tokens: Vec<u32>,
    /// The token each position predicts, or [`peft_kernels::IGNORE_INDEX`].
    pub targets: Vec<i32>,
    /// The sequences.
    pub segments: Vec<Segment>,
    /// Treat every sequence as at least this long where the rotary embedding depends on the length (longrope), as
    /// other frameworks do with a padded batch. 0: each sequence by its own length.
    pub context: usize,
}

impl Batch {
    /// Append one sequence. `trained[i]` says whether token `i` is learnt; it is predicted from position `i - 1`.
    pub fn push(&mut self, ids: &[u32], trained: &[bool]) {
        self.segments.push(Segment { start: self.tokens.len(), len: ids.len() });
        self.tokens.extend_from_slice(ids);
        for i in 1..=ids.len() {
            let learn = i < ids.len() && trained[i];
            self.targets.push(if learn { ids[i] as i32 } else { peft_kernels::IGNORE_INDEX });
        }
    }

    /// Positions that have a target.
    pub fn trained_tokens(&self) -> u64 {
        self.targets.iter().filter(|&&t| t >= 0).count() as u64
    }
}

/// The stream of a micro-step that no adapter's dropout has: they are numbered from 0.
const NOISE_STREAM: u64 = 0xFFFF;

/// What a pass keeps for its backward pass.
pub struct Activations<B: Backend> {
    /// The lowest of `inputs` are there instead; given back first, so that no copy is under way when the others are.
    away: Option<offload::Away<B>>,
    /// Residual stream before each block, and after the last.
    inputs: Vec<Tensor<B>>,
    /// One per block, or fewer where some are recomputed: the lowest blocks share the first.
    layers: Vec<LayerActs<B>>,
    normed: Tensor<B>,
    rstd: Tensor<B>,
    scratch: LayerScratch<B>,
    dx: Tensor<B>,
    dnormed: Tensor<B>,
    loss: Tensor<B>,
    correct: Tensor<B>,
}

/// Scores of a batch: per row, zero where there is no target.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Cross entropy, nats.
    pub loss: Vec<f32>,
    /// 1 where the largest logit is the target.
    pub correct: Vec<f32>,
}

impl<B: Backend> Activations<B> {
    /// The set that block `i` keeps what it computes in.
    fn slot(&self, i: usize) -> usize {
        let blocks = self.inputs.len() - 1;
        (i + 1).saturating_sub(peft_plan::memory::sharing(blocks, self.layers.len()))
    }
}

impl Scores {
    /// Sum of the losses, in f64 and in row order.
    pub fn total_loss(&self) -> f64 {
        self.loss.iter().map(|&l| f64::from(l)).sum()
    }

    /// Number of right predictions.
    pub fn total_correct(&self) -> f64 {
        self.correct.iter().map(|&c| f64::from(c)).sum()
    }
}

/// Hears the number of a block that a pass is through with.
pub(crate) type Used = Box<dyn Fn(usize) + Send + Sync>;

/// The decoder on one device.
pub struct Decoder<B: Backend> {
    /// The device.
    pub be: B,
    /// The architecture.
    pub spec: ModelSpec,
    /// `[vocab, hidden]`
    pub embedding: Weights<B>,
    /// The blocks.
    pub layers: Vec<Layer<B>>,
    /// Gain of the last norm.
    pub norm: Vector<B>,
    /// `[vocab, hidden]`; absent where the head is the embedding.
    pub head: Option<Weights<B>>,
    /// The head in eight bits, for answers.
    pub(crate) answering_head: Option<B::Weight>,
    /// Modules trained whole beside the adapters.
    pub saved: Saved<B>,
    /// Noise on the embeddings of training passes (`NEFTune`); 0: none.
    pub neftune_alpha: f64,
    /// What is told of each block once a pass is through with it.
    pub(crate) used: Option<Used>,
    /// Rotary tables, one per rope of the spec.
    tables: Vec<Tensor<B>>,
    /// Positions the tables hold.
    positions: usize,
}

impl<B: Backend> Decoder<B> {
    fn norm_params(&self) -> NormParams {
        NormParams { eps: self.spec.norm_eps as f32, offset: self.spec.norm_offset as f32 }
    }

    /// Empty activations. `recompute`: keep only the residual stream between blocks.
    pub fn activations(&self, recompute: bool) -> Result<Activations<B>> {
        self.activations_in(if recompute { 1 } else { self.layers.len() })
    }

    /// Empty activations in so many sets: the highest blocks have one each, the others share the first.
    pub fn activations_in(&self, sets: usize) -> Result<Activations<B>> {
        self.buffers(sets, true)
    }

    /// Empty activations for answers: no backward pass follows, so that one set serves all blocks and nothing is rounded
    /// for being kept.
    pub fn answering_activations(&self) -> Result<Activations<B>> {
        self.buffers(1, false)
    }

    fn buffers(&self, sets: usize, keeps: bool) -> Result<Activations<B>> {
        let be = &self.be;
        let kept = sets.clamp(1, self.layers.len().max(1));
        let modules = self.spec.modules.len();
        Ok(Activations {
            away: None,
            inputs: (0..=self.layers.len()).map(|_| be.zeros(0, 0)).collect::<Result<_>>()?,
            layers: (0..kept).map(|_| LayerActs::new(be, modules, keeps)).collect::<Result<_>>()?,
            normed: be.zeros(0, 0)?,
            rstd: be.zeros(0, 0)?,
            scratch: LayerScratch::new(be, keeps)?,
            dx: be.zeros(0, 0)?,
            dnormed: be.zeros(0, 0)?,
            loss: be.zeros(0, 0)?,
            correct: be.zeros(0, 0)?,
        })
    }

    /// Refresh what depends on adapters alone. Once after they change.
    pub fn prepare(&mut self) -> Result<()> {
        for layer in &mut self.layers {
            for linear in &mut layer.linears {
                linear.prepare(&self.be)?;
            }
        }
        Ok(())
    }

    /// Make sure the rotary tables reach `positions`.
    ///
    /// With longrope a table holds the short frequencies and, behind them, the long ones: a sequence longer than
    /// the original context uses the second half for all of its tokens, whatever else is in the batch.
    pub fn reserve_positions(&mut self, positions: usize) -> Result<()> {
        if positions <= self.positions {
            return Ok(());
        }
        let positions = positions.next_multiple_of(64).min(self.spec.max_positions.max(positions));
        let rotary = self.spec.rotary_dim;
        self.tables = self
            .spec
            .ropes
            .iter()
            .map(|rope| {
                let mut rows = peft_plan::rope::table(rope, rotary, positions, 1);
                if let RopeScaling::LongRope { .. } = rope.scaling {
                    rows.extend(peft_plan::rope::table(rope, rotary, positions, usize::MAX));
                }
                self.be.tensor(rows.len() / rotary.max(1), rotary, &rows)
            })
            .collect::<Result<_>>()?;
        self.positions = positions;
        Ok(())
    }

    /// Rows of the rotary table for `len` tokens from `past` of a sequence that will have `total` tokens.
    fn position_rows(&self, rope: usize, past: usize, len: usize, total: usize, into: &mut Vec<u32>) {
        let long = match &self.spec.ropes[rope].scaling {
            RopeScaling::LongRope { original, .. } if total > *original => self.positions,
            _ => 0,
        };
        into.extend((past + long..past + long + len).map(|p| p as u32));
    }

    fn batch_positions(&mut self, batch: &Batch) -> Result<Vec<Vec<u32>>> {
        let segments = &batch.segments;
        let longest = segments.iter().map(|s| s.len).max().unwrap_or(0);
        self.reserve_positions(longest)?;
        Ok((0..self.spec.ropes.len())
            .map(|rope| {
                let mut rows = Vec::new();
                for s in segments {
                    self.position_rows(rope, 0, s.len, s.len.max(batch.context), &mut rows);
                }
                rows
            })
            .collect())
    }

    /// `keep`: for a backward pass. Without it two buffers of the residual stream serve in turn, and one set of
    /// activations.
    fn run_layers(
        &mut self,
        acts: &mut Activations<B>,
        batch: &Batch,
        positions: &[Vec<u32>],
        pass: &Pass,
        keep: bool,
    ) -> Result<()> {
        self.with_norms(pass.is_tuned(), |decoder| decoder.run_one_side(acts, batch, positions, pass, keep))
    }

    fn run_one_side(
        &mut self,
        acts: &mut Activations<B>,
        batch: &Batch,
        positions: &[Vec<u32>],
        pass: &Pass,
        keep: bool,
    ) -> Result<()> {
        let amplitudes = self.noise_of(batch);
        let Self { be, spec, embedding, saved, layers, tables, used, .. } = self;
        let table = saved.embedding_or(embedding, pass.is_tuned());
        acts.join()?;
        let first = acts.place(0);
        let x = &mut acts.inputs[first];
        be.reshape(x, batch.tokens.len(), spec.hidden_size)?;
        be.embed(x.view_mut(), &batch.tokens, table, spec.embedding_scale as f32)?;
        if let (Some(amplitudes), Some((seed, stream))) = (&amplitudes, pass.dropout) {
            be.noise(x.view_mut(), amplitudes, seed, (stream << 16) | NOISE_STREAM)?;
        }
        if keep {
            acts.leave(0)?;
        }
        // Those below are computed again.
        let sharing = peft_plan::memory::sharing(layers.len(), acts.layers.len());
        for (i, layer) in layers.iter_mut().enumerate() {
            layer.set_segments(&batch.segments);
            let rope = spec.layers[i].rope.unwrap_or(0);
            let at = Positions { rows: &positions[rope], table: &tables[rope] };
            let slot = if keep { acts.slot(i) } else { 0 };
            if keep {
                acts.make_way(i + 1)?;
            }
            let (from, to) = if keep { (i, i + 1) } else { (i % 2, (i + 1) % 2) };
            let places = [acts.place(from), acts.place(to)];
            let [x, y] = acts.inputs.get_disjoint_mut(places).expect("two buffers");
            layer.forward(
                be,
                Some(y),
                x.view(),
                (&mut acts.layers[slot], keep && i + 1 >= sharing),
                &mut acts.scratch,
                &at,
                Attend::Batch,
                pass,
            )?;
            if keep {
                acts.leave(i + 1)?;
            }
            if let Some(used) = used {
                used(i);
            }
        }
        let last = acts.place(if keep { layers.len() } else { layers.len() % 2 });
        let norm = NormParams { eps: spec.norm_eps as f32, offset: spec.norm_offset as f32 };
        be.reshape(&mut acts.normed, batch.tokens.len(), spec.hidden_size)?;
        be.reshape(&mut acts.rstd, batch.tokens.len(), 1)?;
        be.rms_norm(acts.normed.view_mut(), &mut acts.rstd, acts.inputs[last].view(), &self.norm.value, &norm)?;
        scale_logits(be, spec, &mut acts.normed)
    }

    /// How much noise each row of a training pass gets: up to `alpha / √(tokens of its sequence · width)`.
    fn noise_of(&self, batch: &Batch) -> Option<Vec<f32>> {
        if self.neftune_alpha <= 0.0 {
            return None;
        }
        let mut amplitudes = vec![0.0; batch.tokens.len()];
        for s in &batch.segments {
            let amplitude = self.neftune_alpha / ((s.len * self.spec.hidden_size) as f64).sqrt();
            amplitudes[s.start..s.start + s.len].fill(amplitude as f32);
        }
        Some(amplitudes)
    }

    /// Loss of every position; no gradients.
    pub fn score(&mut self, acts: &mut Activations<B>, batch: &Batch, adapters: bool) -> Result<Scores> {
        let rows = batch.tokens.len();
        let positions = self.batch_positions(batch)?;
        let pass = Pass { adapters: 0..if adapters { rows } else { 0 }, dropout: None };
        self.run_layers(acts, batch, &positions, &pass, false)?;
        self.head_pass(acts, batch, None, adapters)?;
        self.scores(acts)
    }

    fn scores(&self, acts: &Activations<B>) -> Result<Scores> {
        Ok(Scores { loss: self.be.download(&acts.loss)?, correct: self.be.download(&acts.correct)? })
    }

    /// Loss of every position to `acts`, and with a scale the gradient of the head's input.
    fn head_pass(
        &mut self,
        acts: &mut Activations<B>,
        batch: &Batch,
        gradient_scale: Option<f32>,
        tuned: bool,
    ) -> Result<()> {
        let Self { be, spec, embedding, head, saved, .. } = self;
        let rows = batch.tokens.len();
        let params =
            LossParams { softcap: spec.logit_softcap.map(|c| c as f32), gradient_scale: gradient_scale.unwrap_or(0.0) };
        be.reshape(&mut acts.loss, rows, 1)?;
        be.reshape(&mut acts.correct, rows, 1)?;
        be.reshape(&mut acts.dnormed, rows, spec.hidden_size)?;
        let (matrix, dw) = saved.head_and_grad(head.as_mut().unwrap_or(embedding), tuned);
        let (dx, dw) = if gradient_scale.is_some() { (Some(acts.dnormed.view_mut()), dw) } else { (None, None) };
        be.head_loss(&mut acts.loss, &mut acts.correct, dx, dw, acts.normed.view(), matrix, &batch.targets, &params)
    }

    /// Forward and backward: gradients are added, times `gradient_scale`.
    pub fn train_pass(
        &mut self,
        acts: &mut Activations<B>,
        batch: &Batch,
        gradient_scale: f32,
        dropout: (u64, u64),
    ) -> Result<Scores> {
        self.learn(acts, batch, dropout, |decoder, acts| decoder.head_pass(acts, batch, Some(gradient_scale), true))?;
        // Only now: a device computes the way back meanwhile.
        self.be.submit()?;
        self.scores(acts)
    }

    /// Forward, the head's gradient by `head`, and the way back.
    fn learn<R>(
        &mut self,
        acts: &mut Activations<B>,
        batch: &Batch,
        dropout: (u64, u64),
        head: impl FnOnce(&mut Self, &mut Activations<B>) -> Result<R>,
    ) -> Result<R> {
        let rows = batch.tokens.len();
        let positions = self.batch_positions(batch)?;
        let pass = Pass { adapters: 0..rows, dropout: Some(dropout) };
        self.run_layers(acts, batch, &positions, &pass, true)?;
        let scores = head(self, acts)?;

        let norm = self.norm_params();
        let Self { be, spec, embedding, saved, layers, tables, norm: gain, .. } = self;
        scale_logits(be, spec, &mut acts.dnormed)?;
        let sharing = peft_plan::memory::sharing(layers.len(), acts.layers.len());
        let embedding_trained = match (&mut saved.embedding, embedding) {
            (Some(p), _) | (None, Weights::Trained(p)) => p.grad(),
            (None, Weights::Frozen(_)) => None,
        };
        be.reshape(&mut acts.dx, rows, spec.hidden_size)?;
        let top = acts.inputs[layers.len()].view();
        layer::norm_bwd(be, acts.dx.view_mut(), gain, acts.dnormed.view(), top, &acts.rstd, &norm, Write::Set)?;
        // Below the lowest block that trains anything no gradient is needed.
        let lowest = if embedding_trained.is_some() { None } else { layers.iter_mut().position(has_params) };
        let end = lowest.unwrap_or(0);
        for i in (end..layers.len()).rev() {
            let rope = spec.layers[i].rope.unwrap_or(0);
            let at = Positions { rows: &positions[rope], table: &tables[rope] };
            // The block above has done with its stream.
            acts.bring_back(i + 1, end)?;
            acts.arrive(i)?;
            let x = acts.inputs[acts.place(i)].view();
            let slot = acts.slot(i);
            // The highest of those that share a set finds in it what it left there.
            if i + 1 < sharing {
                let kept = (&mut acts.layers[0], true);
                layers[i].forward(be, None, x, kept, &mut acts.scratch, &at, Attend::Batch, &pass)?;
            }
            // The gain of the lowest norm needs the gradient behind it.
            let gain_is_trained = layers[i].input_norm.as_ref().is_some_and(|gain| gain.moments.is_some());
            let is_lowest = lowest == Some(i) && !gain_is_trained;
            layers[i].backward(be, &mut acts.dx, x, &acts.layers[slot], &mut acts.scratch, &at, is_lowest, &pass)?;
        }
        acts.join()?;
        if let Some(grad) = embedding_trained {
            be.embed_bwd(grad, acts.dx.view(), &batch.tokens, spec.embedding_scale as f32)?;
        }
        Ok(scores)
    }

    /// Where the last pass was no longer finite first, looking from the bottom up.
    pub fn first_broken_output(&self, acts: &Activations<B>) -> Result<Option<String>> {
        let is_broken = |numbers: Vec<f32>| numbers.iter().any(|v| !v.is_finite());
        let mut unseen = 0;
        for i in 0..acts.inputs.len() {
            let Some(numbers) = acts.stream(&self.be, i)? else {
                unseen += 1;
                continue;
            };
            if is_broken(numbers) {
                return Ok(Some(match i {
                    0 => "the output of the embedding".to_owned(),
                    i if unseen > 0 => format!("the output of one of the layers {} to {}", i - 1 - unseen, i - 1),
                    i => format!("the output of layer {}", i - 1),
                }));
            }
            unseen = 0;
        }
        let is_broken = is_broken(self.be.download(&acts.normed)?);
        Ok(is_broken.then(|| "the output of the last norm".to_owned()))
    }

    /// Logits of every position, for checks on small models: `[rows, vocab]`.
    pub fn logits(&mut self, acts: &mut Activations<B>, batch: &Batch, adapters: bool) -> Result<Vec<f32>> {
        let rows = batch.tokens.len();
        let positions = self.batch_positions(batch)?;
        let pass = Pass { adapters: 0..if adapters { rows } else { 0 }, dropout: None };
        self.run_layers(acts, batch, &positions, &pass, false)?;
        self.be.into_numbers(self.project(acts.normed.view(), &pass, false)?)
    }

    fn project(&self, x: In<B>, pass: &Pass, is_answer: bool) -> Result<Tensor<B>> {
        let mut logits = self.be.zeros(x.at.rows, self.spec.vocab_size)?;
        let head = match &self.answering_head {
            Some(head) if is_answer && self.saved.head.is_none() => Matrix::Frozen(head),
            _ => {
                let head = self.head.as_ref().unwrap_or(&self.embedding);
                self.saved.head_or(head, pass.is_tuned())
            }
        };
        self.be.linear(logits.view_mut(), x, head, None, Write::Set)?;
        if let Some(cap) = self.spec.logit_softcap {
            self.be.softcap(&mut logits, cap as f32)?;
        }
        Ok(logits)
    }

    /// [`Decoder::expect_next`] where all rows have the same embedding, norms and head.
    fn continue_one_side(
        &mut self,
        acts: &mut Activations<B>,
        cache: &mut KvCache<B>,
        tokens: &[u32],
        segments: &[CachedSegment],
        totals: &[usize],
        adapters: std::ops::Range<usize>,
    ) -> Result<Tensor<B>> {
        let longest = segments.iter().zip(totals).map(|(s, &t)| (s.past + s.len).max(t)).max().unwrap_or(0);
        self.reserve_positions(longest)?;
        let positions: Vec<Vec<u32>> = (0..self.spec.ropes.len())
            .map(|rope| {
                let mut rows = Vec::new();
                for (s, &total) in segments.iter().zip(totals) {
                    self.position_rows(rope, s.past, s.len, total, &mut rows);
                }
                rows
            })
            .collect();
        let pass = Pass { adapters, dropout: None };
        let Self { be, spec, embedding, saved, layers, tables, used, .. } = self;
        let table = saved.embedding_or(embedding, pass.is_tuned());
        be.reshape(&mut acts.inputs[0], tokens.len(), spec.hidden_size)?;
        be.embed(acts.inputs[0].view_mut(), tokens, table, spec.embedding_scale as f32)?;
        for (i, layer) in layers.iter_mut().enumerate() {
            let rope = spec.layers[i].rope.unwrap_or(0);
            let at = Positions { rows: &positions[rope], table: &tables[rope] };
            // Two buffers in turn: nothing is kept for a backward pass.
            let (first, second) = acts.inputs.split_at_mut(1);
            let (x, y) = if i % 2 == 0 { (&mut first[0], &mut second[0]) } else { (&mut second[0], &mut first[0]) };
            let attend = Attend::Cached { cache: &mut cache.layers[i], segments };
            let acts_of_layer = (&mut acts.layers[0], false);
            layer.forward(be, Some(y), x.view(), acts_of_layer, &mut acts.scratch, &at, attend, &pass)?;
            if let Some(used) = used {
                used(i);
            }
        }
        let last = &acts.inputs[layers.len() % 2];
        let n = segments.len();
        be.reshape(&mut acts.dx, n, spec.hidden_size)?;
        for (i, s) in segments.iter().enumerate() {
            let row = s.start + s.len - 1;
            be.copy(acts.dx.view_mut().rows(i..i + 1), last.view().rows(row..row + 1), Write::Set)?;
        }
        be.reshape(&mut acts.normed, n, spec.hidden_size)?;
        be.reshape(&mut acts.rstd, n, 1)?;
        let norm = self.norm_params();
        self.be.rms_norm(acts.normed.view_mut(), &mut acts.rstd, acts.dx.view(), &self.norm.value, &norm)?;
        scale_logits(&self.be, &self.spec, &mut acts.normed)?;
        self.project(acts.normed.view(), &pass, true)
    }

    /// Everything trained, in a fixed order.
    pub fn params_mut(&mut self) -> Vec<&mut Param<B>> {
        let mut params = Vec::new();
        if let Weights::Trained(p) = &mut self.embedding {
            params.push(p);
        }
        params.extend(&mut self.saved.embedding);
        for layer in &mut self.layers {
            layer.params_mut(&mut params);
        }
        if self.norm.moments.is_some() || self.norm.base.is_some() {
            params.push(&mut self.norm);
        }
        if let Some(Weights::Trained(p)) = &mut self.head {
            params.push(p);
        }
        params.extend(&mut self.saved.head);
        params
    }
}

/// Scale the head's input (or its gradient) so that the logits come out scaled: a head is linear.
fn scale_logits<B: Backend>(be: &B, spec: &ModelSpec, x: &mut Tensor<B>) -> Result<()> {
    spec.logit_scale.map_or(Ok(()), |scale| be.scale(x.view_mut(), scale as f32))
}

fn has_params<B: Backend>(layer: &mut Layer<B>) -> bool {
    let mut params = Vec::new();
    layer.params_mut(&mut params);
    !params.is_empty()
}
