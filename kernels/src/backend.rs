//! The contract between the decoder and a device.
//!
//! Order of arguments: outputs, inputs, parameters. Activations are `[rows, cols]`, row-major, with
//! rows = tokens. Who sets and who adds is said, not implied: where both occur the caller passes
//! [`Write`]; parameter gradients are always *added to*; every other output is *set*.
//! Statistics and accumulation are at least f32. A call with shapes that do not fit returns
//! [`Error::Shape`] and writes nothing. The same call on the same inputs gives
//! the same bits.

use crate::adapted::{self, Adapted, AdaptedGradient, Input, Normed};
use crate::aside::Aside;
use crate::cuda::device::DeviceMemory;
use crate::error::{Error, Result};
use crate::largest::Penalties;
use crate::quant::eight_bit::{EightBit, Rounding};
use crate::tensor::{In, Out, Tensor};
use crate::weight::{FrozenWeight, Matrix};

/// Overwrite an output, or add to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `y = …`
    Set,
    /// `y += …`
    Add,
}

/// One side of [`Backend::gemm`].
pub struct Operand<'a, B: Backend> {
    /// The matrix.
    pub x: In<'a, B>,
    /// Use it transposed.
    pub transposed: bool,
}

impl<'a, B: Backend> Operand<'a, B> {
    /// As it is.
    pub fn plain(x: In<'a, B>) -> Self {
        Self { x, transposed: false }
    }

    /// Transposed.
    pub fn transposed(x: In<'a, B>) -> Self {
        Self { x, transposed: true }
    }
}

/// One of the products of [`Backend::linears`].
pub struct Part<'a, B: Backend> {
    /// Its columns of the output.
    pub columns: std::ops::Range<usize>,
    /// `[columns, in]`.
    pub w: Matrix<'a, B>,
    /// `[1, columns]`.
    pub bias: Option<&'a Tensor<B>>,
}

/// Parameters of an RMS norm (Zhang & Sennrich 2019).
#[derive(Clone, Copy, Debug)]
pub struct NormParams {
    /// Added to the mean square.
    pub eps: f32,
    /// The gain is `offset + w`: 0 in Llama, 1 in Gemma.
    pub offset: f32,
}

/// Which way a rotation goes. Its backward is the rotation back (the transpose).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Forward pass.
    Forward,
    /// Gradient.
    Back,
}

/// Geometry of a rotary embedding (Su et al. 2021), half-split layout: `(x[i], x[i + rotary/2])`.
#[derive(Clone, Copy, Debug)]
pub struct RopeParams {
    /// Columns of one head.
    pub head_dim: usize,
    /// How many of them turn, from the first; even.
    pub rotary_dim: usize,
}

/// Head geometry: a row of `qkv` is `n_heads` query heads, then `n_kv_heads` keys, then as many values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Columns of one head.
    pub head_dim: usize,
}

impl Heads {
    /// Columns of the queries.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Columns of the keys (and of the values).
    pub fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Columns of queries, keys and values together.
    pub fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }
}

/// A run of rows that is one sequence; attention never crosses its borders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
}

/// Parameters of causal grouped-query attention.
#[derive(Clone, Debug)]
pub struct AttentionParams {
    /// Head geometry.
    pub heads: Heads,
    /// Multiplies `q·k`.
    pub scale: f32,
    /// A query sees itself and the `window - 1` positions before it; `None`: all before it.
    pub window: Option<usize>,
    /// `c·tanh(s/c)` on the scores before the mask (Gemma 2).
    pub softcap: Option<f32>,
    /// A score of every query head that takes part in the softmax and has no value (gpt-oss); empty: none.
    pub sinks: Vec<f32>,
    /// The sequences, ascending and disjoint. Rows outside every segment give zeros.
    pub segments: Vec<Segment>,
}

/// Rows of one sequence that continue what a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedSegment {
    /// First row in `qkv`.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
    /// First row of this sequence's slot in the cache.
    pub slot: usize,
    /// Rows the slot already holds; the new rows are stored behind them.
    pub past: usize,
}

/// The gate's nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x·sigmoid(x)`
    Silu,
    /// GELU in its tanh form (Gemma).
    GeluTanh,
}

/// Parameters of the gate of gpt-oss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClampedGate {
    /// Multiplies the gate inside the sigmoid.
    pub alpha: f32,
    /// The gate is at most this, the other half within plus and minus this.
    pub limit: f32,
}

/// Dropout whose mask is recomputed from a counter, never stored: element `i` of the window (row-major)
/// is kept iff the `i`-th uniform of Philox4x32-10 under `seed` and `stream` is `>= p`.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability of zeroing; survivors are scaled by `1 / (1 - p)`.
    pub p: f32,
    /// The run's seed.
    pub seed: u64,
    /// Distinguishes step, micro-step and module.
    pub stream: u64,
}

/// Parameters of the head's loss.
#[derive(Clone, Copy, Debug)]
pub struct LossParams {
    /// `c·tanh(z/c)` on the logits (Gemma 2).
    pub softcap: Option<f32>,
    /// Multiplies the gradient: 1 / (trained tokens of the whole step).
    pub gradient_scale: f32,
}

/// One step of `AdamW` (Loshchilov & Hutter 2019), `PyTorch`'s order of operations.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the denominator.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Step number, from 1.
    pub step: u32,
    /// Multiplies the gradient first (clipping).
    pub gradient_scale: f32,
}

/// A device that can run a training step.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Device memory of a dense matrix.
    type Buf: Send + Sync;
    /// A frozen weight on the device.
    type Weight: Clone + Send + Sync;
    /// Device memory of 8-bit codes.
    type Codes: Send + Sync;
    /// Its name on the command line.
    const NAME: &'static str;

    /// Everything that could change the bits of a result: kernel path, threads. Written into a run.
    fn fingerprint(&self) -> String;

    // ---- memory ------------------------------------------------------------------------------

    /// A matrix of zeros.
    fn zeros(&self, rows: usize, cols: usize) -> Result<Tensor<Self>>;
    /// A matrix without elements, to be given a shape: for what a pass computes between its products. A device that
    /// rounds the factors of products anyway may hold it in bfloat16.
    fn activation(&self) -> Result<Tensor<Self>> {
        self.zeros(0, 0)
    }
    /// The same for what is not kept for a backward pass, and for gradients: a device may hold it in f32 all the same.
    fn lent(&self) -> Result<Tensor<Self>> {
        self.activation()
    }
    /// Whether numbers of [`Backend::activation`] are rounded and those of [`Backend::lent`] are not.
    fn rounds_what_is_kept(&self) -> bool {
        false
    }
    /// Overwrite `t` with `rows * cols` numbers.
    fn upload(&self, t: &mut Tensor<Self>, data: &[f32]) -> Result<()>;
    /// The numbers of `t`, row-major.
    fn download(&self, t: &Tensor<Self>) -> Result<Vec<f32>>;
    /// What [`Backend::download`] gives, of a tensor that is not needed any more.
    #[expect(clippy::wrong_self_convention, reason = "it is the tensor that goes into numbers")]
    fn into_numbers(&self, t: Tensor<Self>) -> Result<Vec<f32>> {
        self.download(&t)
    }
    /// A matrix with these numbers.
    fn tensor(&self, rows: usize, cols: usize, data: &[f32]) -> Result<Tensor<Self>> {
        let mut t = self.zeros(rows, cols)?;
        self.upload(&mut t, data)?;
        Ok(t)
    }
    /// Give `t` another shape. What it holds afterwards is undefined; memory that is large enough is kept.
    fn reshape(&self, t: &mut Tensor<Self>, rows: usize, cols: usize) -> Result<()> {
        if (t.rows(), t.cols()) != (rows, cols) {
            *t = self.zeros(rows, cols)?;
        }
        Ok(())
    }
    /// Take `bytes` of a device's own memory at once: what is asked for later is given from it.
    fn reserve(&self, _bytes: usize) -> Result<()> {
        Ok(())
    }
    /// Give back memory of the device that is kept and not used.
    fn trim(&self) {}
    /// Launches that come again may take so many bytes of it besides; `None`: as many as without a plan.
    fn set_graph_room(&self, _bytes: Option<usize>) {}
    /// Give back the memory of `t` where that is the device's; `t` is empty then.
    fn release(&self, _t: &mut Tensor<Self>) {}
    /// Begin what was asked for, without waiting for it.
    fn submit(&self) -> Result<()> {
        Ok(())
    }
    /// Memory of the device; `None` where that is the computer's.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }
    /// So many slabs of `bytes` of the computer's memory, which this device copies to and from beside what it computes.
    fn aside(&self, _slabs: usize, _bytes: usize) -> Result<Box<dyn Aside<Self>>> {
        Err(Error::Unavailable { reason: "this device has no memory of its own to make room in".to_owned() })
    }
    /// `y = x` or `y += x`.
    fn copy(&self, y: Out<Self>, x: In<Self>, write: Write) -> Result<()>;
    /// Every element of the window = `value`.
    fn fill(&self, y: Out<Self>, value: f32) -> Result<()>;
    /// `y *= s`.
    fn scale(&self, y: Out<Self>, s: f32) -> Result<()>;
    /// Take a frozen weight to the device. Parts that do not fit are [`Error::Weight`].
    fn weight(&self, w: FrozenWeight) -> Result<Self::Weight>;
    /// Whether [`Backend::packed_weight`] rearranges `w`, so that what it was read from is of no use any more.
    fn packs(&self, _: &FrozenWeight) -> bool {
        false
    }
    /// [`Backend::weight`] of a matrix that is mostly multiplied with many rows: once and for all in the form in which
    /// products read it, where that pays. Every operation takes it, and gives the same bits.
    fn packed_weight(&self, w: FrozenWeight) -> Result<Self::Weight> {
        self.weight(w)
    }
    /// The same in eight bits, where this backend multiplies few rows with those faster and rounds the rows anyway.
    fn eight_bit_weight(&self, _: &FrozenWeight) -> Result<Option<Self::Weight>> {
        Ok(None)
    }
    /// Decode the weights of products of at least so many rows before they are needed, beside what is computed, from now on;
    /// `None`: no longer. Results are the same. Backends that do one thing at a time do nothing.
    fn decode_ahead(&self, _fewest_rows: Option<usize>) -> Result<()> {
        Ok(())
    }
    /// Hold `w` decoded from now on, or no longer, where products of many rows decode what they multiply with: the same
    /// numbers without the work, in more memory.
    fn hold_decoded(&self, _w: &Self::Weight, _hold: bool) -> Result<()> {
        Ok(())
    }
    /// `(rows, cols)` of a frozen weight.
    fn weight_shape(w: &Self::Weight) -> (usize, usize);

    /// Take 8-bit codes to the device.
    fn codes(&self, data: &[u8]) -> Result<Self::Codes>;
    /// The codes.
    fn download_codes(&self, codes: &Self::Codes) -> Result<Vec<u8>>;

    // ---- products ----------------------------------------------------------------------------

    /// `y (=|+=) x·wᵀ + bias`. y: `[rows, out]`, x: `[rows, in]`, w: `[out, in]`, bias: `[1, out]`.
    fn linear(
        &self,
        y: Out<Self>,
        x: In<Self>,
        w: Matrix<Self>,
        bias: Option<&Tensor<Self>>,
        write: Write,
    ) -> Result<()>;
    /// `y[·, columns] = x·wᵀ + bias` of every part, whose columns ascend without overlap: the bits of as many calls of
    /// [`Backend::linear`], which is what it does where a device has nothing better.
    fn linears(&self, mut y: Out<Self>, x: In<Self>, parts: &[Part<Self>]) -> Result<()> {
        for part in parts {
            self.linear(y.by_ref().cols(part.columns.clone()), x, part.w, part.bias, Write::Set)?;
        }
        Ok(())
    }
    /// `dx (=|+=) dy·w`. dx: `[rows, in]`, dy: `[rows, out]`, w: `[out, in]`.
    fn linear_bwd_input(&self, dx: Out<Self>, dy: In<Self>, w: Matrix<Self>, write: Write) -> Result<()>;
    /// `y[·, columns] = x·wᵀ + bias + scaling·(x·aᵀ)·bᵀ` of every part, whose columns ascend without overlap, and each
    /// adapter's `x·aᵀ`. A device may round the factors of an adapter as it rounds those of a weight.
    fn adapted(&self, y: Out<Self>, x: In<Self>, parts: &mut [Adapted<Self>]) -> Result<()> {
        adapted::forward(self, y, x, parts)
    }
    /// The gradients of [`Backend::adapted`]: sets `dx` where it is wanted, adds to those of the adapters. dx, x:
    /// `[rows, in]`; `parts` is not empty. What `dxa` holds afterwards is anything.
    fn adapted_bwd(
        &self,
        dx: Option<Out<Self>>,
        dy: In<Self>,
        x: In<Self>,
        parts: &mut [AdaptedGradient<Self>],
        dxa: &mut Tensor<Self>,
    ) -> Result<()> {
        adapted::backward(self, dx, dy, x, parts, dxa)
    }
    /// Whether products of so many rows take in what is beside them, which is in no memory then: a norm, a gate's gradient.
    fn fuses_products(&self, _rows: usize) -> bool {
        false
    }
    /// [`Backend::rms_norm`] of `x` and [`Backend::adapted`] of that: the bits of both. Sets `rstd`, `[rows, 1]`.
    fn adapted_of_norm(
        &self,
        y: Out<Self>,
        rstd: &mut Tensor<Self>,
        x: &Normed<Self>,
        parts: &mut [Adapted<Self>],
    ) -> Result<()> {
        adapted::forward_of_norm(self, y, rstd, x, parts)
    }
    /// [`Backend::adapted`] or [`Backend::adapted_of_norm`] into `gate_up`, which becomes `[rows, 2·d_ff]`, and
    /// [`Backend::gated`] of that into `h`: the bits of both. Where `gate_up` is not `kept` it may hold anything then.
    fn adapted_gated(
        &self,
        h: Out<Self>,
        gate_up: &mut Tensor<Self>,
        _kept: bool,
        x: Input<Self, &mut Tensor<Self>>,
        parts: &mut [Adapted<Self>],
        act: Activation,
    ) -> Result<()> {
        adapted::gated(self, h, gate_up, x, parts, act)
    }
    /// [`Backend::adapted_bwd`] behind such a norm, whose `rstd` is that of the forward pass: `dx` is the gradient of
    /// what the norm gave.
    fn adapted_of_norm_bwd(
        &self,
        dx: Option<Out<Self>>,
        dy: In<Self>,
        x: &Normed<Self>,
        _rstd: &Tensor<Self>,
        parts: &mut [AdaptedGradient<Self>],
        dxa: &mut Tensor<Self>,
    ) -> Result<()> {
        adapted::backward_of_norm(self, dx, dy, x, parts, dxa)
    }
    /// The way back through a product and the gate before it: sets `h` to [`Backend::gated`] of `gate_up` where an adapter
    /// reads it, and `dgate_up`, by [`Backend::adapted_bwd`] and [`Backend::gated_bwd`]. What `dh` holds then is anything.
    fn adapted_gated_bwd(
        &self,
        dgate_up: Out<Self>,
        (h, dh, dxa): (&mut Tensor<Self>, &mut Tensor<Self>, &mut Tensor<Self>),
        (dy, gate_up): (In<Self>, In<Self>),
        part: AdaptedGradient<Self>,
        act: Activation,
    ) -> Result<()> {
        adapted::gated_backward(self, dgate_up, (h, dh, dxa), (dy, gate_up), part, act)
    }
    /// `y (=|+=) alpha·op(a)·op(b)`: adapters and parameter gradients.
    fn gemm(&self, y: Out<Self>, a: Operand<Self>, b: Operand<Self>, alpha: f32, write: Write) -> Result<()>;

    // ---- block -------------------------------------------------------------------------------

    /// `y[i] = scale·table[tokens[i]]`. A token beyond the table is a shape error.
    fn embed(&self, y: Out<Self>, tokens: &[u32], table: Matrix<Self>, scale: f32) -> Result<()>;
    /// `dtable[tokens[i]] += scale·dy[i]`.
    fn embed_bwd(&self, dtable: &mut Tensor<Self>, dy: In<Self>, tokens: &[u32], scale: f32) -> Result<()>;
    /// RMS norm of each group of `w.cols()` columns. y, x: `[rows, groups·n]`, rstd: `[rows, groups]`, w: `[1, n]`.
    /// `rstd = 1/√(mean(x²) + eps)`, `y = x·rstd·(offset + w)`.
    fn rms_norm(
        &self,
        y: Out<Self>,
        rstd: &mut Tensor<Self>,
        x: In<Self>,
        w: &Tensor<Self>,
        params: &NormParams,
    ) -> Result<()>;
    /// `sum = x + branch`, and [`Backend::rms_norm`] of the sum.
    fn add_rms_norm(
        &self,
        sum: &mut Tensor<Self>,
        y: Out<Self>,
        rstd: &mut Tensor<Self>,
        (x, branch): (In<Self>, In<Self>),
        w: &Tensor<Self>,
        params: &NormParams,
    ) -> Result<()> {
        self.copy(sum.view_mut(), x, Write::Set)?;
        self.copy(sum.view_mut(), branch, Write::Add)?;
        self.rms_norm(y, rstd, sum.view(), w, params)
    }
    /// Backward of [`Backend::rms_norm`]: `dx` by `write`, `dw += …` where asked for.
    fn rms_norm_bwd(
        &self,
        dx: Out<Self>,
        dw: Option<&mut Tensor<Self>>,
        dy: In<Self>,
        x: In<Self>,
        w: &Tensor<Self>,
        rstd: &Tensor<Self>,
        params: &NormParams,
        write: Write,
    ) -> Result<()>;
    /// Turn every head of the window in place. `table`: `[positions, rotary_dim]`, the first half of a row
    /// cosines, the second sines (an attention factor is in both). `positions[row]` picks the row.
    fn rope(
        &self,
        x: Out<Self>,
        table: &Tensor<Self>,
        positions: &[u32],
        params: &RopeParams,
        turn: Turn,
    ) -> Result<()>;
    /// y: `[rows, q_dim]`, lse: `[rows, n_heads]` (log-sum-exp of the scores, for the backward), qkv: `[rows, qkv_dim]`.
    fn attention(&self, y: Out<Self>, lse: &mut Tensor<Self>, qkv: In<Self>, params: &AttentionParams) -> Result<()>;
    /// Backward of [`Backend::attention`]: sets all of `dqkv`.
    fn attention_bwd(
        &self,
        dqkv: Out<Self>,
        dy: In<Self>,
        y: In<Self>,
        lse: &Tensor<Self>,
        qkv: In<Self>,
        params: &AttentionParams,
    ) -> Result<()>;
    /// Columns of a row of a cache for [`Backend::attention_cached`]: the numbers of key and value, unless this device
    /// was told to keep them in fewer bits.
    fn cache_columns(&self, heads: &Heads) -> usize {
        2 * heads.kv_dim()
    }
    /// Store keys and values of the new rows in the cache `[slots, 2·kv_dim]` (key, then value; or as many columns as
    /// [`Backend::cache_columns`] says), then attend over everything the slot holds. `params.segments` is not read.
    fn attention_cached(
        &self,
        y: Out<Self>,
        cache: &mut Tensor<Self>,
        qkv: In<Self>,
        segments: &[CachedSegment],
        params: &AttentionParams,
    ) -> Result<()>;
    /// `h = act(gate)·up`. h: `[rows, d_ff]`, `gate_up`: `[rows, 2·d_ff]`, gate first.
    fn gated(&self, h: Out<Self>, gate_up: In<Self>, act: Activation) -> Result<()>;
    /// Backward of [`Backend::gated`]: sets `dgate_up`.
    fn gated_bwd(&self, dgate_up: Out<Self>, dh: In<Self>, gate_up: In<Self>, act: Activation) -> Result<()>;
    /// `h = (u + 1)·g·sigmoid(alpha·g)`, where `g = min(gate, limit)` and `u` is the other half within `±limit`.
    /// h: `[rows, d_ff]`, `gate_up`: `[rows, 2·d_ff]`, a gate and its other half side by side.
    fn gated_clamped(&self, h: Out<Self>, gate_up: In<Self>, params: &ClampedGate) -> Result<()>;
    /// Backward of [`Backend::gated_clamped`]: sets `dgate_up`; what a limit cut off has no gradient.
    fn gated_clamped_bwd(
        &self,
        dgate_up: Out<Self>,
        dh: In<Self>,
        gate_up: In<Self>,
        params: &ClampedGate,
    ) -> Result<()>;
    /// `y (=|+=) mask∘x / (1 - p)`. Its own backward, with the same parameters.
    fn dropout(&self, y: Out<Self>, x: In<Self>, params: &Dropout, write: Write) -> Result<()>;

    /// `y[i, j] += amplitudes[i]·(2u - 1)`, `u` the uniform of element `(i, j)` as in [`Dropout`]: noise on
    /// embeddings (`NEFTune`, Jain et al. 2023).
    fn noise(&self, y: Out<Self>, amplitudes: &[f32], seed: u64, stream: u64) -> Result<()>;

    // ---- rows and columns (biases, DoRA, experts) --------------------------------------------------------

    /// `out[0, j] += Σ_rows dy[·, j]`. out: `[1, cols]`.
    fn sum_rows(&self, out: &mut Tensor<Self>, dy: In<Self>) -> Result<()>;
    /// `y (=|+=) x∘s`, `s: [1, cols]` multiplying column j.
    fn scale_columns(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()>;
    /// `out[0, j] += Σ_rows a[·, j]·b[·, j]`.
    fn column_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()>;
    /// `y (=|+=) s∘x`, `s: [rows, 1]` multiplying row i.
    fn scale_rows(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()>;
    /// `out[i, 0] = Σ_columns a[i, ·]·b[i, ·]`.
    fn row_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()>;
    /// `out[0, j] = Σ_k w[j, k]²`. out: `[1, rows of w]`.
    fn row_squares(&self, out: &mut Tensor<Self>, w: Matrix<Self>) -> Result<()>;
    /// Row norms of `W + s·B·A` without forming it (`DoRA`, Liu et al. 2024):
    /// `out[j] = √(squares[j] + 2s·Σ_k b[j,k]·projected[k,j] + s²·b[j]·gram·b[j]ᵀ)`.
    /// squares: `[1, out]`, projected = A·Wᵀ: `[r, out]`, gram = A·Aᵀ: `[r, r]`, b: `[out, r]`.
    fn dora_norm(
        &self,
        out: &mut Tensor<Self>,
        squares: &Tensor<Self>,
        projected: &Tensor<Self>,
        gram: &Tensor<Self>,
        b: &Tensor<Self>,
        s: f32,
    ) -> Result<()>;
    /// `y = a / b`, element by element.
    fn divide(&self, y: &mut Tensor<Self>, a: &Tensor<Self>, b: &Tensor<Self>) -> Result<()>;

    // ---- head --------------------------------------------------------------------------------

    /// Projection, soft cap, softmax, cross entropy and their gradient, a block of rows at a time; the logits are
    /// never whole. loss, correct: `[rows, 1]` (0 where ignored; correct is 1 where the largest logit is the target),
    /// x: `[rows, d]`, w: `[vocab, d]`; `dx` is set, `dw` added to, both times `gradient_scale`.
    fn head_loss(
        &self,
        loss: &mut Tensor<Self>,
        correct: &mut Tensor<Self>,
        dx: Option<Out<Self>>,
        dw: Option<&mut Tensor<Self>>,
        x: In<Self>,
        w: Matrix<Self>,
        targets: &[i32],
        params: &LossParams,
    ) -> Result<()>;
    /// `x = cap·tanh(x / cap)` in place.
    fn softcap(&self, x: &mut Tensor<Self>, cap: f32) -> Result<()>;

    // ---- optimizer ---------------------------------------------------------------------------

    /// `Σ x²` in f64; not finite iff some element is not finite (or the sum overflows).
    fn sum_squares(&self, x: &Tensor<Self>) -> Result<f64>;
    /// The largest numbers of row `row` of `x` ([`largest`](crate::largest::largest)) once they are lowered by
    /// `penalties`, where the numbers lie in the memory of a device; `None`, and nothing is lowered, where they are at
    /// hand.
    fn largest(&self, _x: &mut Tensor<Self>, _row: usize, _: &Penalties) -> Result<Option<Vec<(u32, f32)>>> {
        Ok(None)
    }
    /// The sum of squares over several tensors: of each for itself, added in their order.
    fn sum_squares_of(&self, all: &[&Tensor<Self>]) -> Result<f64> {
        all.iter().try_fold(0.0, |sum, x| Ok(sum + self.sum_squares(x)?))
    }
    /// One `AdamW` step on parameters `p` with moments `m`, `v` and gradient `g`.
    fn adamw(
        &self,
        p: &mut Tensor<Self>,
        m: &mut Tensor<Self>,
        v: &mut Tensor<Self>,
        g: &Tensor<Self>,
        params: &AdamW,
    ) -> Result<()>;
    /// The same step with moments in 8 bits: decoded, updated, encoded again, block by block; the second moments by
    /// `rounding`. The parameters see the moments before they are encoded.
    fn adamw_8bit(
        &self,
        p: &mut Tensor<Self>,
        m: &mut EightBit<Self>,
        v: &mut EightBit<Self>,
        g: &Tensor<Self>,
        params: &AdamW,
        rounding: Rounding,
    ) -> Result<()>;
}
