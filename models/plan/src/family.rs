//! The families of models, as data: what a `config.json` does not say about its architecture.
//!
//! A row is its difference from Llama. A dense family that needs no operation the decoder lacks is
//! one row here and one parity fixture. Nothing else in the program asks for a family by name.

mod build;
mod experts;
mod keys;
mod refusal;
mod rotary;
mod rows;

use crate::fault::{Fault, Result};
use crate::spec::{ModelSpec, NormPlacement, Part, QkNorm};
use keys::Keys;
use serde_json::Value;

/// Whether a projection has a bias vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// No family member has one.
    Never,
    /// Every member has one, and the configuration does not say so (Qwen 2).
    Always,
    /// The configuration has a flag, false when absent.
    Key(&'static str),
    /// The configuration has a flag, true when absent (gpt-oss).
    Unless(&'static str),
}

/// Which layers see a window of positions only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// None.
    Never,
    /// Every layer, where `sliding_window` is a number.
    Every,
    /// Every layer, where `use_sliding_window` is set as well (Qwen 3 with experts).
    Flagged,
    /// The layers that do not rotate, where `use_sliding_window` is set (`SmolLM3`).
    Unrotated,
    /// From `max_window_layers` on, where `use_sliding_window` is set (Qwen).
    UpperLayers,
    /// All but every n-th layer, where `layer_types` does not list them (Gemma).
    AllButEvery(usize),
}

/// One linear module of a block: its name and the parts it holds, in row order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Path below `model.layers.N.`.
    pub name: &'static str,
    /// What its rows are.
    pub parts: &'static [Part],
}

/// What a family with a mixture of experts adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    router: &'static str,
    path: &'static str,
    /// Gate, other half, output.
    parts: [&'static str; 3],
    /// Key of an expert's width.
    width_key: &'static str,
    width: usize,
    /// How many there are, and how many answer, when absent.
    count: usize,
    top_k: usize,
    /// `None`: the configuration has a flag, `norm_topk_prob`, false when absent.
    normalised: Option<bool>,
    /// Router and experts have biases, the gate is clamped, and stacked experts are `[in, out]` (gpt-oss).
    clamped: bool,
    /// `mlp_only_layers` and `decoder_sparse_step` say which layers have an ordinary MLP.
    some_layers: bool,
}

/// Values of absent keys, as the reference's configuration classes have them.
///
/// `None`: the configuration must say it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    layers: Option<usize>,
    heads: Option<usize>,
    /// `None`: as many as query heads.
    kv_heads: Option<usize>,
    /// `None`: `hidden_size / heads`.
    head_dim: Option<usize>,
    max_positions: usize,
    original_positions: Option<usize>,
    norm_eps: f64,
    activation: &'static str,
    sliding_window: Option<usize>,
    attention_softcap: Option<f64>,
    logit_softcap: Option<f64>,
    tied: bool,
}

/// What a family adds to the numbers of a `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is an operation that a family has or lacks")]
pub struct Family {
    /// Short name, e.g. `qwen3`.
    pub name: &'static str,
    /// Name as a person writes it.
    pub title: &'static str,
    /// Class names in `architectures`.
    pub architectures: &'static [&'static str],
    /// `model_type`, for configurations without `architectures`.
    pub model_types: &'static [&'static str],
    /// Linear modules of a block, in the order of the forward pass.
    pub modules: &'static [Module],
    norm_offset: f64,
    placement: NormPlacement,
    activation_key: &'static str,
    /// Files say `gelu` and mean its tanh form.
    gelu_means_tanh: bool,
    qkv_bias: Bias,
    o_bias: Bias,
    mlp_bias: Bias,
    qk_norm: Option<QkNorm>,
    sinks: bool,
    embedding_scaled: bool,
    /// Embeddings, attention, residual stream and logits have multipliers of their own (Granite).
    multipliers: bool,
    /// Attention is scaled by `query_pre_attn_scalar`, this when absent, instead of the head's width.
    query_scalar: Option<f64>,
    soft_caps: bool,
    window: Window,
    /// `sliding_window_pattern` says which layers see everything.
    pattern_key: bool,
    partial_rotary: bool,
    /// `no_rope_layers`, and every fourth layer when absent, do not rotate.
    unrotated: bool,
    /// The configuration must say how frequencies are stretched: its absence means something else than not at all.
    scaling_needed: bool,
    /// Base of the rotary frequencies when absent.
    theta: f64,
    /// Windowed layers have a rotary embedding of their own, with this base when absent.
    local_theta: Option<f64>,
    /// Scaling types that are another type under an old name.
    scaling_aliases: &'static [(&'static str, &'static str)],
    experts: Option<Experts>,
    defaults: Defaults,
}

/// Every family that can be trained.
pub const FAMILIES: &[Family] = rows::ALL;

/// Type that numbers of a checkpoint are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an f32.
    BF16,
}

impl Precision {
    /// What `dtype` (or the older `torch_dtype`) of a configuration says.
    pub fn of_config(config: &Value) -> Option<Self> {
        let merged = Keys::new(config).ok()?;
        let name = merged.text("dtype").or_else(|| merged.text("torch_dtype"))?;
        match name.strip_prefix("torch.").unwrap_or(name) {
            "bfloat16" => Some(Self::BF16),
            "float16" | "half" => Some(Self::F16),
            "float32" | "float" => Some(Self::F32),
            _ => None,
        }
    }

    /// `x` as this type holds it, for `x` in the normal range of all three.
    fn round(self, x: f64) -> f64 {
        let dropped = match self {
            Self::F32 => return f64::from(x as f32),
            Self::F16 => 13,
            Self::BF16 => 16,
        };
        let bits = (x as f32).to_bits();
        let half = (1u32 << (dropped - 1)) - 1 + ((bits >> dropped) & 1);
        f64::from(f32::from_bits((bits + half) >> dropped << dropped))
    }
}

/// The architecture that a parsed `config.json` describes.
pub fn spec_from_config(config: &Value) -> Result<ModelSpec> {
    spec_with_precision(config, Precision::of_config(config).unwrap_or(Precision::F32))
}

/// The same for embeddings kept in `precision`, which Gemma's embedding scale is rounded to.
///
/// A model that is computed in f32 although its file says bf16 has another scale: pass
/// [`Precision::F32`] to compare with such a run.
pub fn spec_with_precision(config: &Value, precision: Precision) -> Result<ModelSpec> {
    let keys = Keys::new(config)?;
    refusal::quantisation(config)?;
    let (family, architecture) = find(&keys)?;
    refusal::packing(config, family.experts.is_some_and(|e| e.clamped))?;
    build::build(family, architecture, &keys, precision)
}

/// The row of a configuration, and the class name.
fn find(keys: &Keys) -> Result<(&'static Family, String)> {
    if let Some(class) = keys.architecture() {
        return match FAMILIES.iter().find(|f| f.architectures.contains(&class)) {
            // The class says which images go with the text; the text half has a type of its own.
            Some(family) => match keys.text_model().filter(|kind| !family.model_types.contains(kind)) {
                Some(kind) => Err(refusal::architecture(kind, keys)),
                None => Ok((family, class.to_owned())),
            },
            None => Err(refusal::architecture(class, keys)),
        };
    }
    let Some(model_type) = keys.text("model_type") else {
        return Err(Fault::new(
            "PS-MODEL-003",
            "config.json does not say what kind of model this is: both `architectures` and `model_type` are missing.",
        ));
    };
    match FAMILIES.iter().find(|f| f.model_types.contains(&model_type)) {
        Some(family) => Ok((family, family.architectures[0].to_owned())),
        None => Err(refusal::architecture(model_type, keys)),
    }
}

#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;
