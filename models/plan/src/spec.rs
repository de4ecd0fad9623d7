//! One concrete architecture: the numbers of a `config.json` seen through its family's row.
//!
//! Past this type nothing asks which family a model belongs to.

use serde::{Deserialize, Serialize};

/// The gate's nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GateActivation {
    /// `x·sigmoid(x)`
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
}

/// Where a block normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NormPlacement {
    /// Before attention and before the MLP (Llama).
    Pre,
    /// Before and after both (Gemma 2 and 3).
    Sandwich,
}

/// How rotary frequencies are stretched beyond the trained context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are low.
        low_freq_factor: f64,
        /// Wavelengths below `original / high` are high.
        high_freq_factor: f64,
        /// Context of the original training.
        original: usize,
    },
    /// `YaRN` (Peng et al. 2023).
    Yarn {
        /// Divisor of the interpolated frequencies.
        factor: f64,
        /// Context of the original training.
        original: usize,
        /// Rotations at which extrapolation begins.
        beta_fast: f64,
        /// Rotations at which interpolation is complete.
        beta_slow: f64,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Round the ramp's bounds.
        truncate: bool,
    },
    /// `LongRoPE` (Ding et al. 2024): one divisor per frequency, one set for short and one for long sequences.
    LongRope {
        /// Divisors up to `original` positions.
        short: Vec<f64>,
        /// Divisors beyond.
        long: Vec<f64>,
        /// Context of the original training.
        original: usize,
        /// Multiplies cosines and sines.
        attention_factor: f64,
    },
}

/// One rotary embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
}

impl RopeSpec {
    /// Rows of its table for each position: longrope has a short and a long one.
    pub fn tables(&self) -> usize {
        if matches!(self.scaling, RopeScaling::LongRope { .. }) { 2 } else { 1 }
    }
}

/// What one decoder layer does differently from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpec {
    /// Attention sees this many positions, itself included; `None`: all.
    pub window: Option<usize>,
    /// Index into [`ModelSpec::ropes`].
    pub rope: usize,
}

/// The part of a block that a projection produces or consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// Gate of the MLP.
    Gate,
    /// Other half of the MLP.
    Up,
    /// MLP output.
    Down,
}

impl Part {
    /// It belongs to what attention reads.
    pub fn is_qkv(self) -> bool {
        matches!(self, Self::Q | Self::K | Self::V)
    }
}

/// One linear module of a block, split or fused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSpec {
    /// Path below `model.layers.N.`, e.g. `self_attn.q_proj` or `self_attn.qkv_proj`.
    pub name: String,
    /// The parts it holds, in row order.
    pub parts: Vec<Part>,
    /// It has a bias vector.
    pub bias: bool,
    /// Output features.
    pub out_features: usize,
    /// Input features.
    pub in_features: usize,
}

/// A concrete architecture. Every number has been checked against sane limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Name of the family's row, e.g. `qwen3`.
    pub family: String,
    /// Class name of the checkpoint, e.g. `Qwen3ForCausalLM`.
    pub architecture: String,
    /// Rows of the embedding matrix.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Columns of a head that rotate, from the first.
    pub rotary_dim: usize,
    /// Longest context the model was made for, tokens.
    pub max_positions: usize,
    /// Epsilon of every norm.
    pub norm_eps: f64,
    /// The gain is `norm_offset + w`.
    pub norm_offset: f64,
    /// Where a block normalises.
    pub placement: NormPlacement,
    /// Queries and keys are normalised per head before rotation.
    pub qk_norm: bool,
    /// The gate's nonlinearity.
    pub activation: GateActivation,
    /// Multiplies embeddings (Gemma: √hidden rounded to the checkpoint's type).
    pub embedding_scale: f64,
    /// Multiplies `q·k`.
    pub attention_scale: f64,
    /// Soft cap of attention scores.
    pub attention_softcap: Option<f64>,
    /// Soft cap of logits.
    pub logit_softcap: Option<f64>,
    /// The head is the embedding matrix.
    pub tied: bool,
    /// The rotary embeddings that layers refer to.
    pub ropes: Vec<RopeSpec>,
    /// One entry a layer.
    pub layers: Vec<LayerSpec>,
    /// The linear modules of a block, in the order of the forward pass.
    pub modules: Vec<ModuleSpec>,
}

impl ModelSpec {
    /// Columns of all query heads.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Columns of all key heads.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Names of the norm vectors of a block below `model.layers.N.`, without `.weight`.
    pub fn block_norms(&self) -> &'static [&'static str] {
        match self.placement {
            NormPlacement::Pre => &["input_layernorm", "post_attention_layernorm"],
            NormPlacement::Sandwich => &[
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ],
        }
    }

    /// Number of parameters, tied matrices counted once.
    pub fn parameters(&self) -> u64 {
        let linear: u64 = self
            .modules
            .iter()
            .map(|m| (m.in_features * m.out_features + if m.bias { m.out_features } else { 0 }) as u64)
            .sum();
        let norms =
            (self.block_norms().len() * self.hidden_size + if self.qk_norm { 2 * self.head_dim } else { 0 }) as u64;
        let embedding = (self.vocab_size * self.hidden_size) as u64;
        let heads = if self.tied { 1 } else { 2 };
        (linear + norms) * self.layers.len() as u64 + embedding * heads + self.hidden_size as u64
    }
}
