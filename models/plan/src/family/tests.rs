//! Configurations as they are published, old and late spellings, and ones that cannot be.

#![allow(clippy::float_cmp, reason = "values are read, not computed, or exact by construction")]

use super::*;
use crate::spec::RopeScaling;
use crate::spec::{GateActivation, ModuleSpec};
use serde_json::json;

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "hidden_act": "silu",
        "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        "rope_theta": 500_000.0,
        "rope_scaling": {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"}
    })
}

fn small(class: &str) -> Value {
    json!({
        "architectures": [class], "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 256
    })
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

fn without(mut config: Value, key: &str) -> Value {
    config.as_object_mut().expect("an object").remove(key);
    config
}

fn spec(config: &Value) -> ModelSpec {
    spec_from_config(config).expect("a valid configuration")
}

fn code(config: &Value) -> &'static str {
    spec_from_config(config).expect_err("an invalid configuration").code
}

fn module<'a>(spec: &'a ModelSpec, name: &str) -> &'a ModuleSpec {
    spec.modules.iter().find(|m| m.name == name).expect("a module of the family")
}

#[test]
fn llama_3_2_reads_as_published() {
    let s = spec(&llama());
    assert_eq!((s.family.as_str(), s.hidden_size, s.n_heads, s.n_kv_heads, s.head_dim), ("llama", 2048, 32, 8, 64));
    assert!(s.tied && s.qk_norm.is_none());
    assert_eq!(s.attention_scale, 0.125);
    assert_eq!(s.embedding_scale, 1.0);
    assert_eq!(s.parameters(), 1_235_814_400);
    assert_eq!(
        s.ropes,
        [crate::RopeSpec {
            theta: 500_000.0,
            scaling: RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original: 8192 }
        }]
    );
}

#[test]
fn late_spellings_mean_the_same_as_old_ones() {
    let mut late = without(without(without(llama(), "rope_theta"), "rope_scaling"), "torch_dtype");
    late["dtype"] = json!("bfloat16");
    late["rope_parameters"] = json!({"rope_theta": 500_000.0, "rope_type": "llama3", "factor": 32.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    assert_eq!(spec(&late), spec(&llama()));
    let mut legacy = llama();
    legacy["rope_scaling"]["type"] = legacy["rope_scaling"]["rope_type"].take();
    assert_eq!(spec(&legacy), spec(&llama()));
}

#[test]
fn absent_keys_mean_what_the_classes_mean() {
    let config = without(without(without(llama(), "tie_word_embeddings"), "rms_norm_eps"), "head_dim");
    let s = spec(&without(without(config, "num_key_value_heads"), "hidden_act"));
    assert_eq!((s.tied, s.norm_eps, s.head_dim, s.n_kv_heads), (false, 1e-6, 64, 32));
    assert_eq!(spec(&with(llama(), "head_dim", Value::Null)).head_dim, 64);
    assert_eq!(spec(&small("Phi3ForCausalLM")).norm_eps, 1e-5);
    assert_eq!(spec(&without(small("Qwen3ForCausalLM"), "head_dim")).head_dim, 128);
    assert_eq!(spec(&without(small("Gemma2ForCausalLM"), "head_dim")).head_dim, 256);
    assert!(spec(&small("Gemma2ForCausalLM")).tied && !spec(&small("Qwen2ForCausalLM")).tied);
}

#[test]
fn a_configuration_without_architectures_goes_by_model_type() {
    let config = without(with(small("x"), "model_type", json!("qwen3")), "architectures");
    assert_eq!(spec(&config).architecture, "Qwen3ForCausalLM");
    assert_eq!(code(&without(small("x"), "architectures")), "PS-MODEL-003");
}

#[test]
fn biases_follow_the_family() {
    let bias = |config: &Value| -> Vec<bool> { spec(config).modules.iter().map(|m| m.bias).collect() };
    assert_eq!(bias(&small("Qwen2ForCausalLM")), [true, true, true, false, false, false, false]);
    assert_eq!(bias(&small("LlamaForCausalLM")), [false; 7]);
    let both = with(with(small("LlamaForCausalLM"), "attention_bias", json!(true)), "mlp_bias", json!(true));
    assert_eq!(bias(&both), [true; 7]);
    let qwen3 = with(small("Qwen3ForCausalLM"), "attention_bias", json!(true));
    assert_eq!(bias(&qwen3), [true, true, true, true, false, false, false]);
    assert_eq!(bias(&with(small("MistralForCausalLM"), "attention_bias", json!(true))), [false; 7]);
}

#[test]
fn phi_3_is_fused_in_the_order_of_its_rows() {
    let s = spec(&small("Phi3ForCausalLM"));
    let qkv = module(&s, "self_attn.qkv_proj");
    assert_eq!((qkv.parts.as_slice(), qkv.out_features), (&[Part::Q, Part::K, Part::V][..], (4 + 2 * 2) * 16));
    let gate_up = module(&s, "mlp.gate_up_proj");
    assert_eq!((gate_up.parts.as_slice(), gate_up.out_features), (&[Part::Gate, Part::Up][..], 256));
}

#[test]
fn long_rope_takes_the_outer_original_length() {
    let short: Vec<f64> = vec![1.0; 6];
    let mut config = small("Phi3ForCausalLM");
    config["partial_rotary_factor"] = json!(0.75);
    config["max_position_embeddings"] = json!(131_072);
    config["original_max_position_embeddings"] = json!(4096);
    for name in ["longrope", "su", "yarn"] {
        config["rope_scaling"] = json!({"type": name, "short_factor": short, "long_factor": vec![4.0; 6],
            "original_max_position_embeddings": 77});
        let s = spec(&config);
        assert_eq!(s.rotary_dim, 12);
        let RopeScaling::LongRope { original, attention_factor, long, .. } = &s.ropes[0].scaling else {
            panic!("{:?}", s.ropes);
        };
        assert_eq!((*original, long.as_slice()), (4096, &[4.0; 6][..]));
        // sqrt(1 + ln(32)/ln(4096)), as transformers 5.23 has it.
        assert!((attention_factor - 1.190_238_071_423_808_3).abs() < 1e-15);
    }
    config["rope_scaling"]["short_factor"] = json!([1.0]);
    assert_eq!(code(&config), "PS-MODEL-005");
    config["rope_scaling"].as_object_mut().expect("an object").remove("short_factor");
    assert_eq!(code(&config), "PS-MODEL-003");
}

#[test]
fn yarn_attention_factor_has_three_sources() {
    let factor = |scaling: Value| {
        let config = with(small("Qwen2ForCausalLM"), "rope_scaling", scaling);
        match spec(&config).ropes.remove(0).scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            other => panic!("{other:?}"),
        }
    };
    let usual = factor(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}));
    assert!((usual - 1.138_629_436_111_989).abs() < 1e-15);
    let ratio = factor(json!({"rope_type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 0.8}));
    assert!((ratio - 1.056_966_256_753_127_5).abs() < 1e-15);
    assert_eq!(factor(json!({"rope_type": "yarn", "factor": 40, "attention_factor": 0.5, "mscale": 1.0})), 0.5);
}

#[test]
fn gemma_2_alternates_windows() {
    let mut config = small("Gemma2ForCausalLM");
    config["hidden_size"] = json!(3584);
    config["hidden_act"] = json!("gelu");
    config["torch_dtype"] = json!("bfloat16");
    config["query_pre_attn_scalar"] = json!(144);
    let s = spec(&config);
    assert_eq!(s.layers.iter().map(|l| l.window).collect::<Vec<_>>(), [Some(4096), None, Some(4096), None]);
    assert_eq!(s.embedding_scale, 59.75);
    let f32_scale = spec_with_precision(&config, Precision::F32).expect("valid").embedding_scale;
    assert_eq!(f32_scale, f64::from(3584f32.sqrt()));
    assert_eq!(spec(&with(config.clone(), "dtype", json!("float16"))).embedding_scale, 59.875);
    assert_eq!(s.attention_scale, 1.0 / 12.0);
    assert_eq!((s.attention_softcap, s.logit_softcap), (Some(50.0), Some(30.0)));
    assert_eq!(spec(&with(config.clone(), "attn_logit_softcapping", Value::Null)).attention_softcap, None);
    assert_eq!(code(&with(config, "final_logit_softcapping", json!(0))), "PS-MODEL-005");
    assert_eq!((s.norm_offset, s.placement, s.activation), (1.0, NormPlacement::Sandwich, GateActivation::GeluTanh));
}

#[test]
fn gemma_3_has_two_rotary_bases() {
    let mut old = with(small("Gemma3ForCausalLM"), "num_hidden_layers", json!(7));
    old["sliding_window"] = json!(512);
    let late = with(
        old.clone(),
        "rope_parameters",
        json!({
        "full_attention": {"rope_theta": 1_000_000.0, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 10_000.0, "rope_type": "default"}}),
    );
    old["rope_theta"] = json!(1_000_000.0);
    old["rope_local_base_freq"] = json!(10_000.0);
    old["sliding_window_pattern"] = json!(6);
    old["rope_scaling"] = json!({"factor": 8.0, "rope_type": "linear"});
    let s = spec(&old);
    assert_eq!(s, spec(&late));
    assert_eq!(s.ropes[0].scaling, RopeScaling::Linear { factor: 8.0 });
    assert_eq!((s.ropes[0].theta, s.ropes[1].theta), (1e6, 1e4));
    assert_eq!(s.ropes[1].scaling, RopeScaling::None);
    let full: Vec<usize> = (0..7).filter(|i| s.layers[*i].rope == Some(0)).collect();
    assert_eq!(full, [5]);
    assert_eq!((s.layers[5].window, s.layers[6].window), (None, Some(512)));
    assert!(s.qk_norm.is_some() && s.attention_softcap.is_none());
}

#[test]
fn gemma_3_with_images_is_read_as_its_text_half() {
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
        "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10_240,
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
        "vision_config": {"hidden_size": 1152}
    });
    let s = spec(&config);
    assert_eq!((s.family.as_str(), s.n_heads, s.n_kv_heads, s.head_dim), ("gemma3", 8, 4, 256));
    assert_eq!((s.vocab_size, s.layers.len(), s.layers[0].window), (262_208, 34, Some(1024)));
    // sqrt(2560) = 50.596... between 50.5 and 50.75 in bf16.
    assert_eq!(s.embedding_scale, 50.5);
}

#[test]
fn qwen_windows_only_where_asked() {
    let mut config = small("Qwen2ForCausalLM");
    config["sliding_window"] = json!(32);
    config["max_window_layers"] = json!(3);
    assert!(spec(&config).layers.iter().all(|l| l.window.is_none()));
    config["use_sliding_window"] = json!(true);
    assert_eq!(spec(&config).layers.iter().map(|l| l.window).collect::<Vec<_>>(), [None, None, None, Some(32)]);
    config["layer_types"] = json!(["sliding_attention", "full_attention", "full_attention", "full_attention"]);
    assert_eq!(spec(&config).layers[0].window, Some(32));
    config["layer_types"] = json!(["linear_attention", "full_attention", "full_attention", "full_attention"]);
    assert_eq!(code(&config), "PS-MODEL-002");
    config["layer_types"] = json!(["full_attention"]);
    assert_eq!(code(&config), "PS-MODEL-005");
}

#[test]
fn mistral_windows_every_layer_unless_null() {
    assert!(spec(&small("MistralForCausalLM")).layers.iter().all(|l| l.window == Some(4096)));
    let null = with(small("MistralForCausalLM"), "sliding_window", Value::Null);
    assert!(spec(&null).layers.iter().all(|l| l.window.is_none()));
    let nemo = with(with(small("MistralForCausalLM"), "hidden_size", json!(80)), "head_dim", json!(16));
    assert_eq!(spec(&nemo).q_dim(), 64);
}

#[test]
fn unknown_kinds_are_named_with_what_they_lack() {
    let detail = |class: &str| {
        let fault = spec_from_config(&small(class)).expect_err("unsupported");
        assert_eq!(fault.code, "PS-MODEL-002");
        fault.detail
    };
    assert!(detail("FrobnicateMoeForCausalLM").contains("mixture of experts"));
    assert!(detail("GPT2LMHeadModel").contains("learned positions"));
    assert!(detail("FrobnicateForCausalLM").contains("FrobnicateForCausalLM"));
    let hidden = with(small("OddForCausalLM"), "num_local_experts", json!(8));
    assert!(spec_from_config(&hidden).expect_err("unsupported").detail.contains("mixture of experts"));
    let rope = with(small("LlamaForCausalLM"), "rope_scaling", json!({"rope_type": "mrope"}));
    assert!(spec_from_config(&rope).expect_err("unsupported").detail.contains("mrope"));
    let gelu = with(small("LlamaForCausalLM"), "hidden_act", json!("relu"));
    assert!(spec_from_config(&gelu).expect_err("unsupported").detail.contains("relu"));
}

#[test]
fn packed_weights_are_refused_by_name() {
    let quantised = |q: Value| spec_from_config(&with(llama(), "quantization_config", q));
    for (method, word) in
        [("gptq", "GPTQ"), ("awq", "AWQ"), ("fp8", "fp8"), ("compressed-tensors", "compressed-tensors")]
    {
        let fault = quantised(json!({"quant_method": method, "bits": 4})).expect_err("packed");
        assert_eq!(fault.code, "PS-MODEL-002");
        assert!(fault.detail.contains(word) && fault.detail.contains("4-bit build"), "{}", fault.detail);
    }
    let eight = quantised(json!({"quant_method": "bitsandbytes", "load_in_8bit": true})).expect_err("8-bit");
    assert_eq!(eight.code, "PS-MODEL-002");
    assert!(quantised(json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "unsloth_fixed": true})).is_ok());
}

#[test]
fn impossible_numbers_are_named() {
    for (key, value) in [
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(513)),
        ("hidden_size", json!(u64::MAX)),
        ("hidden_size", json!(-1)),
        ("intermediate_size", json!(1.5)),
        ("vocab_size", json!("many")),
        ("vocab_size", json!(1u64 << 22)),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(15)),
        ("head_dim", json!(1 << 13)),
        ("rms_norm_eps", json!(0)),
        ("rms_norm_eps", json!(1e300)),
        ("rope_theta", json!(-1)),
        ("rope_theta", json!(1.0)),
        ("tie_word_embeddings", json!("yes")),
        ("max_position_embeddings", json!(1u64 << 40)),
    ] {
        let fault = spec_from_config(&with(llama(), key, value.clone())).expect_err("impossible");
        assert_eq!(fault.code, "PS-MODEL-005", "{key} = {value}: {}", fault.detail);
    }
    assert_eq!(code(&without(llama(), "hidden_size")), "PS-MODEL-003");
    assert_eq!(code(&json!([])), "PS-MODEL-005");
    let backwards = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1});
    assert_eq!(code(&with(llama(), "rope_scaling", backwards)), "PS-MODEL-005");
}

#[test]
fn whole_numbers_written_as_floats_are_read() {
    assert_eq!(spec(&with(llama(), "vocab_size", json!(32_000.0))).vocab_size, 32_000);
}

#[test]
fn every_row_names_each_part_once() {
    for family in FAMILIES {
        let mut parts: Vec<Part> = family.modules.iter().flat_map(|m| m.parts.iter().copied()).collect();
        parts.sort_by_key(|p| *p as u8);
        assert_eq!(parts, [Part::Q, Part::K, Part::V, Part::O, Part::Gate, Part::Up, Part::Down], "{}", family.name);
        assert!(!family.architectures.is_empty() && !family.model_types.is_empty());
    }
}
