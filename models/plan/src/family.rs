//! The families of models, as data: what a `config.json` does not say about its architecture.
//!
//! A row is its difference from Llama. A dense family that needs no operation the decoder lacks is
//! one row here and one parity fixture. Nothing else in the program asks for a family by name.

mod build;
mod keys;
mod refusal;
mod rotary;

use crate::fault::{Fault, Result};
use crate::spec::{ModelSpec, NormPlacement, Part};
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
}

/// Which layers see a window of positions only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// None.
    Never,
    /// Every layer, where `sliding_window` is a number.
    Every,
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
    qkv_bias: Bias,
    o_bias: Bias,
    mlp_bias: Bias,
    qk_norm: bool,
    embedding_scaled: bool,
    /// Attention is scaled by `query_pre_attn_scalar`, this when absent, instead of the head's width.
    query_scalar: Option<f64>,
    soft_caps: bool,
    window: Window,
    /// `sliding_window_pattern` says which layers see everything.
    pattern_key: bool,
    partial_rotary: bool,
    /// Base of the rotary frequencies when absent.
    theta: f64,
    /// Windowed layers have a rotary embedding of their own, with this base when absent.
    local_theta: Option<f64>,
    /// Scaling types that are another type under an old name.
    scaling_aliases: &'static [(&'static str, &'static str)],
    defaults: Defaults,
}

const SPLIT: &[Module] = &[
    Module { name: "self_attn.q_proj", parts: &[Part::Q] },
    Module { name: "self_attn.k_proj", parts: &[Part::K] },
    Module { name: "self_attn.v_proj", parts: &[Part::V] },
    Module { name: "self_attn.o_proj", parts: &[Part::O] },
    Module { name: "mlp.gate_proj", parts: &[Part::Gate] },
    Module { name: "mlp.up_proj", parts: &[Part::Up] },
    Module { name: "mlp.down_proj", parts: &[Part::Down] },
];

const FUSED: &[Module] = &[
    Module { name: "self_attn.qkv_proj", parts: &[Part::Q, Part::K, Part::V] },
    Module { name: "self_attn.o_proj", parts: &[Part::O] },
    Module { name: "mlp.gate_up_proj", parts: &[Part::Gate, Part::Up] },
    Module { name: "mlp.down_proj", parts: &[Part::Down] },
];

const LLAMA: Family = Family {
    name: "llama",
    title: "Llama",
    architectures: &["LlamaForCausalLM", "LLaMAForCausalLM"],
    model_types: &["llama"],
    modules: SPLIT,
    norm_offset: 0.0,
    placement: NormPlacement::Pre,
    activation_key: "hidden_act",
    qkv_bias: Bias::Key("attention_bias"),
    o_bias: Bias::Key("attention_bias"),
    mlp_bias: Bias::Key("mlp_bias"),
    qk_norm: false,
    embedding_scaled: false,
    query_scalar: None,
    soft_caps: false,
    window: Window::Never,
    pattern_key: false,
    partial_rotary: false,
    theta: 10_000.0,
    local_theta: None,
    scaling_aliases: &[("su", "longrope")],
    defaults: Defaults {
        vocab_size: None,
        hidden_size: None,
        intermediate_size: None,
        layers: None,
        heads: None,
        kv_heads: None,
        head_dim: None,
        max_positions: 2048,
        original_positions: None,
        norm_eps: 1e-6,
        activation: "silu",
        sliding_window: None,
        attention_softcap: None,
        logit_softcap: None,
        tied: false,
    },
};

const MISTRAL: Family = Family {
    name: "mistral",
    title: "Mistral",
    architectures: &["MistralForCausalLM"],
    model_types: &["mistral"],
    qkv_bias: Bias::Never,
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    window: Window::Every,
    defaults: Defaults { max_positions: 131_072, kv_heads: Some(8), sliding_window: Some(4096), ..LLAMA.defaults },
    ..LLAMA
};

const QWEN2: Family = Family {
    name: "qwen2",
    title: "Qwen 2 and 2.5",
    architectures: &["Qwen2ForCausalLM"],
    model_types: &["qwen2"],
    qkv_bias: Bias::Always,
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    window: Window::UpperLayers,
    defaults: Defaults { max_positions: 32_768, sliding_window: Some(4096), ..LLAMA.defaults },
    ..LLAMA
};

const QWEN3: Family = Family {
    name: "qwen3",
    title: "Qwen 3",
    architectures: &["Qwen3ForCausalLM"],
    model_types: &["qwen3"],
    qkv_bias: Bias::Key("attention_bias"),
    o_bias: Bias::Key("attention_bias"),
    qk_norm: true,
    defaults: Defaults { head_dim: Some(128), ..QWEN2.defaults },
    ..QWEN2
};

const PHI3: Family = Family {
    name: "phi3",
    title: "Phi-3, Phi-3.5 and Phi-4",
    architectures: &["Phi3ForCausalLM"],
    model_types: &["phi3"],
    modules: FUSED,
    qkv_bias: Bias::Never,
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    window: Window::Every,
    partial_rotary: true,
    // Early files called it so before the paper had a name for it.
    scaling_aliases: &[("su", "longrope"), ("yarn", "longrope")],
    defaults: Defaults { max_positions: 4096, original_positions: Some(4096), norm_eps: 1e-5, ..LLAMA.defaults },
    ..LLAMA
};

const GEMMA2: Family = Family {
    name: "gemma2",
    title: "Gemma 2",
    architectures: &["Gemma2ForCausalLM"],
    model_types: &["gemma2"],
    norm_offset: 1.0,
    placement: NormPlacement::Sandwich,
    // `hidden_act` is there as well and is wrong in the published files.
    activation_key: "hidden_activation",
    mlp_bias: Bias::Never,
    embedding_scaled: true,
    query_scalar: Some(256.0),
    soft_caps: true,
    window: Window::AllButEvery(2),
    defaults: Defaults {
        vocab_size: Some(256_000),
        hidden_size: Some(2304),
        intermediate_size: Some(9216),
        layers: Some(26),
        heads: Some(8),
        kv_heads: Some(4),
        head_dim: Some(256),
        max_positions: 8192,
        activation: "gelu_pytorch_tanh",
        sliding_window: Some(4096),
        attention_softcap: Some(50.0),
        logit_softcap: Some(30.0),
        tied: true,
        ..LLAMA.defaults
    },
    ..LLAMA
};

const GEMMA3: Family = Family {
    name: "gemma3",
    title: "Gemma 3 (text)",
    architectures: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    model_types: &["gemma3_text", "gemma3"],
    qk_norm: true,
    window: Window::AllButEvery(6),
    pattern_key: true,
    theta: 1_000_000.0,
    local_theta: Some(10_000.0),
    defaults: Defaults {
        vocab_size: Some(262_208),
        max_positions: 131_072,
        attention_softcap: None,
        logit_softcap: None,
        ..GEMMA2.defaults
    },
    ..GEMMA2
};

/// Every family that can be trained.
pub const FAMILIES: &[Family] = &[LLAMA, MISTRAL, QWEN2, QWEN3, PHI3, GEMMA2, GEMMA3];

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
    build::build(family, architecture, &keys, precision)
}

/// The row of a configuration, and the class name.
fn find(keys: &Keys) -> Result<(&'static Family, String)> {
    if let Some(class) = keys.architecture() {
        return match FAMILIES.iter().find(|f| f.architectures.contains(&class)) {
            Some(family) => Ok((family, class.to_owned())),
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
mod tests;
