//! The rows: every family as its difference from Llama, or from the one it grew out of.

use super::{Bias, Defaults, Experts, Family, Module, Window};
use crate::spec::{NormPlacement, Part, QkNorm};

/// Every family, in the order in which messages list them.
pub(super) const ALL: &[Family] = &[
    LLAMA, MISTRAL, QWEN2, QWEN3, PHI3, GEMMA, GEMMA2, GEMMA3, SMOLLM3, OLMO2, OLMO3, GRANITE, QWEN3_MOE, MIXTRAL,
    OLMOE, GPT_OSS,
];

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
    gelu_means_tanh: false,
    qkv_bias: Bias::Key("attention_bias"),
    o_bias: Bias::Key("attention_bias"),
    mlp_bias: Bias::Key("mlp_bias"),
    qk_norm: None,
    sinks: false,
    embedding_scaled: false,
    multipliers: false,
    query_scalar: None,
    soft_caps: false,
    window: Window::Never,
    pattern_key: false,
    partial_rotary: false,
    unrotated: false,
    scaling_needed: false,
    theta: 10_000.0,
    local_theta: None,
    scaling_aliases: &[("su", "longrope")],
    experts: None,
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
    // The second is Mistral Small 3.1 and later, whose text half is the first.
    architectures: &["MistralForCausalLM", "Mistral3ForConditionalGeneration"],
    model_types: &["mistral", "mistral3"],
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
    qk_norm: Some(QkNorm::Head),
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

const GEMMA: Family = Family {
    name: "gemma",
    title: "Gemma",
    architectures: &["GemmaForCausalLM"],
    model_types: &["gemma"],
    norm_offset: 1.0,
    gelu_means_tanh: true,
    mlp_bias: Bias::Never,
    embedding_scaled: true,
    defaults: Defaults {
        vocab_size: Some(256_000),
        hidden_size: Some(3072),
        intermediate_size: Some(24_576),
        layers: Some(28),
        heads: Some(16),
        kv_heads: Some(16),
        head_dim: Some(256),
        max_positions: 8192,
        activation: "gelu_pytorch_tanh",
        tied: true,
        ..LLAMA.defaults
    },
    ..LLAMA
};

const GEMMA2: Family = Family {
    name: "gemma2",
    title: "Gemma 2",
    architectures: &["Gemma2ForCausalLM"],
    model_types: &["gemma2"],
    placement: NormPlacement::Sandwich,
    // `hidden_act` is there as well and is wrong in the published files.
    activation_key: "hidden_activation",
    query_scalar: Some(256.0),
    soft_caps: true,
    window: Window::AllButEvery(2),
    defaults: Defaults {
        hidden_size: Some(2304),
        intermediate_size: Some(9216),
        layers: Some(26),
        heads: Some(8),
        kv_heads: Some(4),
        sliding_window: Some(4096),
        attention_softcap: Some(50.0),
        logit_softcap: Some(30.0),
        ..GEMMA.defaults
    },
    ..GEMMA
};

const GEMMA3: Family = Family {
    name: "gemma3",
    title: "Gemma 3 (text)",
    architectures: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    model_types: &["gemma3_text", "gemma3"],
    qk_norm: Some(QkNorm::Head),
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

const SMOLLM3: Family = Family {
    name: "smollm3",
    title: "SmolLM3",
    architectures: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    window: Window::Unrotated,
    unrotated: true,
    theta: 2_000_000.0,
    defaults: Defaults {
        vocab_size: Some(128_256),
        hidden_size: Some(2048),
        intermediate_size: Some(11_008),
        layers: Some(36),
        heads: Some(16),
        kv_heads: Some(4),
        max_positions: 32_768,
        tied: true,
        ..LLAMA.defaults
    },
    ..LLAMA
};

const OLMO2: Family = Family {
    name: "olmo2",
    title: "OLMo 2",
    architectures: &["Olmo2ForCausalLM"],
    model_types: &["olmo2"],
    placement: NormPlacement::Post,
    mlp_bias: Bias::Never,
    qk_norm: Some(QkNorm::Whole),
    defaults: Defaults { norm_eps: 1e-5, ..LLAMA.defaults },
    ..LLAMA
};

const OLMO3: Family = Family {
    name: "olmo3",
    title: "OLMo 3",
    architectures: &["Olmo3ForCausalLM"],
    model_types: &["olmo3"],
    window: Window::AllButEvery(4),
    theta: 500_000.0,
    // Only layers that see everything are stretched.
    local_theta: Some(500_000.0),
    defaults: Defaults { sliding_window: Some(4096), ..OLMO2.defaults },
    ..OLMO2
};

const GRANITE: Family = Family {
    name: "granite",
    title: "Granite 3",
    architectures: &["GraniteForCausalLM"],
    model_types: &["granite"],
    multipliers: true,
    ..LLAMA
};

const QWEN3_MOE: Family = Family {
    name: "qwen3_moe",
    title: "Qwen 3 with experts",
    architectures: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    window: Window::Flagged,
    experts: Some(Experts {
        router: "mlp.gate",
        path: "mlp.experts",
        parts: ["gate_proj", "up_proj", "down_proj"],
        width_key: "moe_intermediate_size",
        width: 768,
        count: 128,
        top_k: 8,
        normalised: None,
        clamped: false,
        some_layers: true,
    }),
    // The class has no width of a head of its own: it is the usual quotient.
    defaults: Defaults { head_dim: None, intermediate_size: Some(6144), kv_heads: Some(4), ..QWEN3.defaults },
    ..QWEN3
};

const MIXTRAL: Family = Family {
    name: "mixtral",
    title: "Mixtral",
    architectures: &["MixtralForCausalLM"],
    model_types: &["mixtral"],
    experts: Some(Experts {
        router: "block_sparse_moe.gate",
        path: "block_sparse_moe.experts",
        parts: ["w1", "w3", "w2"],
        width_key: "intermediate_size",
        width: 14_336,
        count: 8,
        top_k: 2,
        normalised: Some(true),
        clamped: false,
        some_layers: false,
    }),
    theta: 1_000_000.0,
    defaults: Defaults { norm_eps: 1e-5, intermediate_size: Some(14_336), sliding_window: None, ..MISTRAL.defaults },
    ..MISTRAL
};

const OLMOE: Family = Family {
    name: "olmoe",
    title: "OLMoE",
    architectures: &["OlmoeForCausalLM"],
    model_types: &["olmoe"],
    placement: NormPlacement::Pre,
    experts: Some(Experts {
        router: "mlp.gate",
        path: "mlp.experts",
        parts: ["gate_proj", "up_proj", "down_proj"],
        width_key: "intermediate_size",
        width: 2048,
        count: 64,
        top_k: 8,
        normalised: None,
        clamped: false,
        some_layers: false,
    }),
    defaults: Defaults { max_positions: 4096, intermediate_size: Some(2048), ..OLMO2.defaults },
    ..OLMO2
};

const GPT_OSS: Family = Family {
    name: "gpt_oss",
    title: "gpt-oss",
    architectures: &["GptOssForCausalLM"],
    model_types: &["gpt_oss"],
    qkv_bias: Bias::Unless("attention_bias"),
    o_bias: Bias::Unless("attention_bias"),
    mlp_bias: Bias::Never,
    sinks: true,
    window: Window::AllButEvery(2),
    theta: 150_000.0,
    scaling_needed: true,
    experts: Some(Experts {
        router: "mlp.router",
        path: "mlp.experts",
        parts: ["gate_proj", "up_proj", "down_proj"],
        width_key: "intermediate_size",
        width: 2880,
        count: 128,
        top_k: 4,
        normalised: Some(true),
        clamped: true,
        some_layers: false,
    }),
    defaults: Defaults {
        vocab_size: Some(201_088),
        hidden_size: Some(2880),
        intermediate_size: Some(2880),
        layers: Some(36),
        heads: Some(64),
        kv_heads: Some(8),
        head_dim: Some(64),
        max_positions: 131_072,
        norm_eps: 1e-5,
        sliding_window: Some(128),
        ..LLAMA.defaults
    },
    ..LLAMA
};
