//! The later families as their makers publish them, and what of their kind is refused.
//!
//! The counts are `num_parameters()` of transformers 5.23 for the same numbers.

#![allow(clippy::float_cmp, reason = "values are read, not computed, or exact by construction")]

use super::*;
use crate::spec::{GateActivation, RopeScaling};
use serde_json::json;

/// A configuration of `class` with these sizes: vocabulary, width, MLP, layers, heads, key heads.
fn config(class: &str, [vocabulary, width, mlp, layers, heads, kv]: [usize; 6], more: &Value) -> Value {
    let mut config = json!({
        "architectures": [class], "torch_dtype": "bfloat16", "vocab_size": vocabulary, "hidden_size": width,
        "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "hidden_act": "silu"
    });
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn spec(config: &Value) -> ModelSpec {
    spec_from_config(config).unwrap_or_else(|f| panic!("{f}"))
}

fn refused(config: &Value, word: &str) {
    let fault = spec_from_config(config).expect_err("refused");
    assert_eq!(fault.code, "PS-MODEL-002", "{}", fault.detail);
    assert!(fault.detail.contains(word), "{}", fault.detail);
}

fn impossible(config: &Value, word: &str) {
    let fault = spec_from_config(config).expect_err("impossible");
    assert_eq!(fault.code, "PS-MODEL-005", "{}", fault.detail);
    assert!(fault.detail.contains(word), "{}", fault.detail);
}

fn gpt_oss() -> Value {
    let scaling = json!({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
        "original_max_position_embeddings": 4096});
    let more = json!({"head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128,
        "attention_bias": true, "rope_theta": 150_000, "rope_scaling": scaling, "swiglu_limit": 7.0,
        "initial_context_length": 4096, "max_position_embeddings": 131_072,
        "quantization_config": {"quant_method": "mxfp4"}});
    config("GptOssForCausalLM", [201_088, 2880, 2880, 24, 64, 8], &more)
}

fn qwen3_moe() -> Value {
    let more = json!({"head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
        "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [], "rope_theta": 1_000_000.0,
        "sliding_window": null, "use_sliding_window": false, "max_window_layers": 48});
    config("Qwen3MoeForCausalLM", [151_936, 2048, 6144, 48, 32, 4], &more)
}

#[test]
fn dense_families_have_the_parameters_that_transformers_counts() {
    let gemma = json!({"head_dim": 256, "hidden_act": "gelu", "tie_word_embeddings": true});
    let gemma = spec(&config("GemmaForCausalLM", [256_000, 2048, 16_384, 18, 8, 1], &gemma));
    assert_eq!(gemma.parameters(), 2_506_172_416);
    assert_eq!((gemma.activation, gemma.norm_offset), (GateActivation::GeluTanh, 1.0));
    assert_eq!(gemma.attention_scale, 1.0 / 16.0);

    let olmo = json!({"rms_norm_eps": 1e-6, "rope_theta": 500_000});
    let olmo = spec(&config("Olmo2ForCausalLM", [100_352, 4096, 11_008, 32, 32, 32], &olmo));
    assert_eq!(olmo.parameters(), 7_298_617_344);
    assert_eq!(olmo.block_norms(), ["post_attention_layernorm", "post_feedforward_layernorm"]);
    assert_eq!(olmo.qk_norm_widths(), Some((4096, 4096)));

    let nemo = json!({"head_dim": 128, "rope_theta": 1_000_000.0, "sliding_window": null});
    let nemo = spec(&config("MistralForCausalLM", [131_072, 5120, 14_336, 40, 32, 8], &nemo));
    assert_eq!((nemo.parameters(), nemo.q_dim(), nemo.hidden_size), (12_247_782_400, 4096, 5120));

    let phi4 = json!({"tie_word_embeddings": true, "partial_rotary_factor": 0.75, "sliding_window": 262_144});
    let phi4 = spec(&config("Phi3ForCausalLM", [200_064, 3072, 8192, 32, 24, 8], &phi4));
    assert_eq!((phi4.parameters(), phi4.rotary_dim), (3_836_021_760, 96));
}

#[test]
fn granite_has_four_multipliers() {
    let more = json!({"tie_word_embeddings": true, "attention_multiplier": 0.015_625, "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22, "logits_scaling": 8.0});
    let mut granite = config("GraniteForCausalLM", [49_155, 2048, 8192, 40, 32, 8], &more);
    let s = spec(&granite);
    assert_eq!(s.parameters(), 2_533_531_648);
    assert_eq!((s.attention_scale, s.embedding_scale, s.residual_scale), (0.015_625, 12.0, Some(0.22)));
    assert_eq!(s.logit_scale, Some(0.125));
    granite["logits_scaling"] = json!(0.0);
    impossible(&granite, "logits_scaling");
    let plain = spec(&config("GraniteForCausalLM", [100, 64, 64, 1, 4, 4], &json!({})));
    assert_eq!((plain.attention_scale, plain.residual_scale, plain.logit_scale), (1.0, None, None));
}

#[test]
fn every_fourth_layer_of_smollm3_does_not_rotate() {
    let smollm = |more: Value| config("SmolLM3ForCausalLM", [128_256, 2048, 11_008, 36, 16, 4], &more);
    let s = spec(&smollm(json!({"tie_word_embeddings": true})));
    assert_eq!(s.parameters(), 3_075_098_624);
    let still = |s: &ModelSpec| (0..36).filter(|i| s.layers[*i].rope.is_none()).collect::<Vec<_>>();
    assert_eq!(still(&s), [3, 7, 11, 15, 19, 23, 27, 31, 35]);
    assert_eq!(s.ropes[0].theta, 2_000_000.0);
    let mut flags = vec![1; 36];
    flags[5] = 0;
    let mut listed = smollm(json!({"no_rope_layers": flags, "use_sliding_window": true, "sliding_window": 64}));
    let s = spec(&listed);
    assert_eq!(still(&s), [5]);
    assert!((0..36).all(|i| s.layers[i].window == (i == 5).then_some(64)), "windows are where nothing rotates");
    listed["no_rope_layers"] = json!([1, 0]);
    impossible(&listed, "no_rope_layers");
    listed["no_rope_layers"] = json!(vec![2; 36]);
    impossible(&listed, "no_rope_layers");
}

#[test]
fn olmo_3_stretches_the_layers_that_see_everything() {
    let scaling = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192});
    let more = json!({"rope_scaling": scaling, "rope_theta": 500_000, "max_position_embeddings": 65_536});
    let s = spec(&config("Olmo3ForCausalLM", [100_278, 4096, 11_008, 8, 32, 32], &more));
    let seen: Vec<_> = s.layers.iter().map(|l| (l.window, l.rope)).collect();
    let (window, all) = ((Some(4096), Some(1)), (None, Some(0)));
    assert_eq!(seen, [window, window, window, all, window, window, window, all]);
    assert!(matches!(s.ropes[0].scaling, RopeScaling::Yarn { .. }));
    assert_eq!(s.ropes[1].scaling, RopeScaling::None);
}

#[test]
fn mixtures_count_all_their_experts() {
    let s = spec(&qwen3_moe());
    assert_eq!(s.parameters(), 30_532_122_624);
    assert_eq!(s.modules.len(), 4, "only attention has linear modules");
    let experts = s.experts.as_ref().expect("experts");
    assert_eq!((experts.count, experts.top_k, experts.intermediate_size, experts.normalised), (128, 8, 768, true));

    let mixtral = json!({"rope_theta": 1_000_000.0, "num_local_experts": 8, "num_experts_per_tok": 2});
    let mixtral = spec(&config("MixtralForCausalLM", [32_000, 4096, 14_336, 32, 32, 8], &mixtral));
    assert_eq!(mixtral.parameters(), 46_702_792_704);
    assert!(mixtral.layers.iter().all(|l| l.window.is_none()));
    let olmoe = json!({"num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": false});
    let olmoe = spec(&config("OlmoeForCausalLM", [50_304, 2048, 2048, 16, 16, 16], &olmoe));
    assert_eq!(olmoe.parameters(), 13_361_612_800);

    let s = spec(&gpt_oss());
    assert_eq!(s.parameters(), 20_914_757_184);
    assert!(s.sinks && s.modules.iter().all(|m| m.bias));
    assert_eq!(s.layers.iter().filter(|l| l.window == Some(128)).count(), 12);
    assert!(matches!(s.ropes[0].scaling, RopeScaling::Yarn { truncate: false, .. }));
}

/// Layers may have an ordinary MLP, and then its modules are there in those layers alone.
#[test]
fn some_layers_of_a_mixture_may_be_dense() {
    let mut mixed = qwen3_moe();
    mixed["mlp_only_layers"] = json!([0, 47, 60]);
    mixed["decoder_sparse_step"] = json!(2);
    let s = spec(&mixed);
    let sparse = |i: usize| s.layers[i].sparse;
    assert!(!sparse(0) && sparse(1) && !sparse(2) && sparse(45) && !sparse(47));
    assert_eq!((s.layer_modules(0).count(), s.layer_modules(1).count(), s.modules.len()), (7, 4, 7));
    assert_eq!((s.target_modules(0).count(), s.target_names().len()), (4, 4), "adapters go to attention alone");
    // The key that newer writers use.
    mixed["num_local_experts"] = mixed["num_experts"].take();
    assert_eq!(spec(&mixed).experts, s.experts);
}

#[test]
fn mixtures_that_cannot_be_are_named() {
    for (key, value, word) in [
        ("num_experts", json!(0), "num_experts"),
        ("num_experts", json!(1 << 20), "num_experts"),
        ("num_experts_per_tok", json!(129), "129 of 128"),
        ("moe_intermediate_size", json!(-4), "moe_intermediate_size"),
        ("norm_topk_prob", json!(3), "norm_topk_prob"),
        ("decoder_sparse_step", json!(0), "decoder_sparse_step"),
        ("mlp_only_layers", json!("all"), "mlp_only_layers"),
        ("mlp_only_layers", json!([-1]), "mlp_only_layers"),
    ] {
        let mut broken = qwen3_moe();
        broken[key] = value;
        impossible(&broken, word);
    }
    let mut unscaled = gpt_oss();
    unscaled["rope_scaling"] = Value::Null;
    assert_eq!(spec_from_config(&unscaled).expect_err("no usual value").code, "PS-MODEL-003");
}

#[test]
fn what_a_family_lacks_is_said() {
    let small = |class: &str, more: Value| config(class, [100, 64, 64, 2, 4, 2], &more);
    refused(&small("OlmoeForCausalLM", json!({"clip_qkv": 8.0})), "clip_qkv");
    refused(&small("MixtralForCausalLM", json!({"router_jitter_noise": 0.1})), "router_jitter_noise");
    refused(&small("Qwen2MoeForCausalLM", json!({})), "an expert that all tokens share");
    refused(&small("DeepseekV3ForCausalLM", json!({})), "compressed keys");
    refused(&small("Llama4ForCausalLM", json!({})), "interleaved");
    refused(&small("Gemma3nForCausalLM", json!({})), "embeddings by layer");
    refused(&small("FalconH1ForCausalLM", json!({})), "state-space");
    let packed = json!({"quantization_config": {"quant_method": "mxfp4"}});
    refused(&small("MixtralForCausalLM", packed), "gpt-oss alone");
}

#[test]
fn mistral_small_is_the_text_half_of_its_image_model() {
    let mut text = config("x", [131_072, 5120, 32_768, 40, 32, 8], &json!({"head_dim": 128, "model_type": "mistral"}));
    text.as_object_mut().expect("an object").remove("architectures");
    text["sliding_window"] = Value::Null;
    let whole = json!({"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3",
        "vision_config": {"hidden_size": 1024}, "text_config": text});
    let s = spec(&whole);
    assert_eq!((s.parameters(), s.family.as_str()), (23_572_403_200, "mistral"));
    // The next generation has the same outer class around another text model.
    let mut next = whole.clone();
    next["text_config"]["model_type"] = json!("ministral3");
    refused(&next, "scaled by their position");
    let mut scaled = whole;
    scaled["text_config"]["rope_parameters"] = json!({"rope_type": "default", "llama_4_scaling_beta": 0.1});
    refused(&scaled, "llama_4_scaling_beta");
}
