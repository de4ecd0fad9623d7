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
    /// After attention and after the MLP only (`OLMo` 2).
    Post,
}

/// What a norm of queries and keys goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QkNorm {
    /// Each head by itself, all with one gain.
    Head,
    /// All heads together.
    Whole,
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
    /// Index into [`ModelSpec::ropes`]; `None`: nothing rotates (`SmolLM3`).
    pub rope: Option<usize>,
    /// The MLP is a mixture of experts.
    pub sparse: bool,
}

/// The clamped gate of gpt-oss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clamp {
    /// Multiplies the gate inside the sigmoid.
    pub alpha: f64,
    /// The gate is at most this, the other half within plus and minus this.
    pub limit: f64,
}

/// A mixture of experts in place of an MLP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpertsSpec {
    /// How many there are.
    pub count: usize,
    /// How many answer a token.
    pub top_k: usize,
    /// Width of one.
    pub intermediate_size: usize,
    /// The weights of those that answer add up to one.
    pub normalised: bool,
    /// Router and experts have bias vectors.
    pub bias: bool,
    /// Gate and other half alternate, and both are clamped (gpt-oss).
    pub clamp: Option<Clamp>,
    /// Path of the router below `model.layers.N.`
    pub router: String,
    /// Path of the experts below `model.layers.N.`
    pub path: String,
    /// Names of gate, other half and output of an expert that is stored by itself.
    pub parts: [String; 3],
    /// Experts stored as one tensor are `[in, out]`, not `[out, in]`.
    pub transposed: bool,
}

impl ExpertsSpec {
    /// Parameters of router and experts of one layer.
    fn parameters(&self, hidden: usize) -> u64 {
        let (count, inner, hidden) = (self.count as u64, self.intermediate_size as u64, hidden as u64);
        let biases = if self.bias { 1 + 2 * inner + hidden } else { 0 };
        count * (3 * hidden * inner + hidden + biases)
    }
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
    /// How queries and keys are normalised before rotation.
    pub qk_norm: Option<QkNorm>,
    /// Every query head has a score that takes part in the softmax and has no value (gpt-oss).
    pub sinks: bool,
    /// The gate's nonlinearity.
    pub activation: GateActivation,
    /// What a sparse layer has in place of its MLP.
    pub experts: Option<ExpertsSpec>,
    /// Multiplies embeddings (Gemma: √hidden rounded to the checkpoint's type).
    pub embedding_scale: f64,
    /// Multiplies what attention and MLP add to the residual stream (Granite).
    pub residual_scale: Option<f64>,
    /// Multiplies logits (Granite).
    pub logit_scale: Option<f64>,
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
    /// The linear modules of a block, in the order of the forward pass. A sparse layer lacks those of the MLP:
    /// ask [`ModelSpec::layer_modules`].
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
            NormPlacement::Post => &["post_attention_layernorm", "post_feedforward_layernorm"],
            NormPlacement::Sandwich => &[
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ],
        }
    }

    /// The linear modules of layer `i`, in the order of the forward pass.
    pub fn layer_modules(&self, i: usize) -> impl Iterator<Item = &ModuleSpec> {
        let sparse = self.layers[i].sparse;
        self.modules.iter().filter(move |m| !sparse || !matches!(m.parts[0], Part::Gate | Part::Up | Part::Down))
    }

    /// The modules of layer `i` that may have adapters.
    ///
    /// In a model with experts those of an ordinary MLP may not: PEFT takes their names for the experts'.
    pub fn target_modules(&self, i: usize) -> impl Iterator<Item = &ModuleSpec> {
        self.layer_modules(i).filter(|m| self.adaptable(m))
    }

    /// Whether `module` may have an adapter.
    pub fn adaptable(&self, module: &ModuleSpec) -> bool {
        self.experts.is_none() || !matches!(module.parts[0], Part::Gate | Part::Up | Part::Down)
    }

    /// Names of the modules that may have adapters, without their path.
    pub fn target_names(&self) -> Vec<&str> {
        let modules = self.modules.iter().filter(|m| self.adaptable(m));
        modules.map(|m| m.name.rsplit('.').next().unwrap_or(&m.name)).collect()
    }

    /// Lengths of the norm gains of queries and keys, if there are any.
    pub fn qk_norm_widths(&self) -> Option<(usize, usize)> {
        match self.qk_norm? {
            QkNorm::Head => Some((self.head_dim, self.head_dim)),
            QkNorm::Whole => Some((self.q_dim(), self.kv_dim())),
        }
    }

    /// Parameters of routers and experts, which are never trained.
    pub fn expert_parameters(&self) -> u64 {
        let sparse = self.layers.iter().filter(|layer| layer.sparse).count() as u64;
        self.experts.as_ref().map_or(0, |experts| experts.parameters(self.hidden_size)) * sparse
    }

    /// Number of parameters, tied matrices counted once.
    pub fn parameters(&self) -> u64 {
        let (q_norm, k_norm) = self.qk_norm_widths().unwrap_or_default();
        let vectors =
            self.block_norms().len() * self.hidden_size + q_norm + k_norm + if self.sinks { self.n_heads } else { 0 };
        let layer = |i: usize| -> u64 {
            let linear: u64 = self
                .layer_modules(i)
                .map(|m| (m.in_features * m.out_features + if m.bias { m.out_features } else { 0 }) as u64)
                .sum();
            let experts = self.experts.as_ref().filter(|_| self.layers[i].sparse);
            linear + vectors as u64 + experts.map_or(0, |experts| experts.parameters(self.hidden_size))
        };
        let embedding = (self.vocab_size * self.hidden_size) as u64;
        let heads = if self.tied { 1 } else { 2 };
        (0..self.layers.len()).map(layer).sum::<u64>() + embedding * heads + self.hidden_size as u64
    }
}
