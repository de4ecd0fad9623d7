//! What a GGUF file says about the model itself, and a model from what a file says.

use super::architecture::Architecture;
use super::mix::FileType;
use super::reader::File;
use super::value::Metadata;
use peft_plan::spec::{RopeScaling, RopeSpec};
use peft_plan::{Fault, ModelSpec, Result};
use serde_json::{Value as Json, json};

/// Version of the block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// The keys of the architecture. `config` is the model's `config.json`.
pub fn describe(metadata: &mut Metadata, spec: &ModelSpec, architecture: &Architecture, config: &Json) -> Result<()> {
    let name = architecture.name;
    let mut number = |key: &str, value: usize| {
        let value = u32::try_from(value).map_err(|_| cannot(&format!("`{key}` is {value}")))?;
        metadata.set(format!("{name}.{key}"), value);
        Ok::<(), Fault>(())
    };
    number("block_count", spec.layers.len())?;
    number("context_length", spec.max_positions)?;
    number("embedding_length", spec.hidden_size)?;
    number("feed_forward_length", spec.intermediate_size)?;
    number("attention.head_count", spec.n_heads)?;
    number("attention.head_count_kv", spec.n_kv_heads)?;
    let says_head =
        config.get("head_dim").or_else(|| config.get("text_config")?.get("head_dim")).is_some_and(|d| !d.is_null());
    let other_head = spec.head_dim * spec.n_heads != spec.hidden_size;
    if says_head || other_head || name.starts_with("gemma") {
        number("attention.key_length", spec.head_dim)?;
        number("attention.value_length", spec.head_dim)?;
    }
    match name {
        "llama" => {
            number("vocab_size", spec.vocab_size)?;
            number("rope.dimension_count", spec.head_dim)?;
        }
        "phi3" => {
            number("rope.dimension_count", spec.rotary_dim)?;
            number("attention.sliding_window", spec.layers.first().and_then(|l| l.window).unwrap_or(0))?;
            let original = match &spec.ropes[0].scaling {
                RopeScaling::LongRope { original, .. } => *original,
                _ => spec.max_positions,
            };
            number("rope.scaling.original_context_length", original)?;
        }
        "gemma2" | "gemma3" => {
            number("attention.sliding_window", spec.layers.iter().find_map(|l| l.window).unwrap_or(0))?;
        }
        _ => {}
    }
    metadata.set(format!("{name}.attention.layer_norm_rms_epsilon"), spec.norm_eps as f32);
    if let Some(cap) = spec.attention_softcap {
        metadata.set(format!("{name}.attn_logit_softcapping"), cap as f32);
    }
    if let Some(cap) = spec.logit_softcap {
        metadata.set(format!("{name}.final_logit_softcapping"), cap as f32);
    }
    rotary(metadata, spec, name)
}

/// The keys of a file of this type.
pub fn describe_file(metadata: &mut Metadata, file_type: FileType) {
    metadata.set("general.file_type", file_type.id());
    metadata.set("general.quantization_version", QUANTIZATION_VERSION);
}

fn rotary(metadata: &mut Metadata, spec: &ModelSpec, name: &str) -> Result<()> {
    let global = global_rope(spec);
    // The converter of llama.cpp leaves Gemma 2's out, which is what its loader assumes.
    if name != "gemma2" {
        metadata.set(format!("{name}.rope.freq_base"), global.theta as f32);
    }
    if name == "gemma3" {
        metadata.set(format!("{name}.rope.freq_base_swa"), local_rope(spec).theta as f32);
    }
    let mut scaling = |key: &str, value: super::value::Value| metadata.set(format!("{name}.rope.scaling.{key}"), value);
    match &global.scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } => {}
        RopeScaling::Linear { factor } => {
            scaling("type", "linear".into());
            scaling("factor", (*factor as f32).into());
        }
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attention_factor, truncate } => {
            if (attention_factor - (0.1 * factor.ln() + 1.0)).abs() > 1e-6 || !truncate {
                return Err(cannot("its YaRN has an attention factor or bounds of its own"));
            }
            scaling("type", "yarn".into());
            scaling("factor", (*factor as f32).into());
            scaling("original_context_length", (*original as u32).into());
            if (*beta_fast, *beta_slow) != (32.0, 1.0) {
                scaling("yarn_beta_fast", (*beta_fast as f32).into());
                scaling("yarn_beta_slow", (*beta_slow as f32).into());
            }
        }
        RopeScaling::LongRope { attention_factor, .. } if name == "phi3" => {
            scaling("attn_factor", (*attention_factor as f32).into());
        }
        RopeScaling::LongRope { short, long, attention_factor, .. } => {
            if name != "llama" || short != long || (*attention_factor - 1.0).abs() > 1e-6 {
                return Err(cannot("its rotary embedding has divisors for long and short sequences"));
            }
        }
    }
    Ok(())
}

/// The rotary embedding of layers that see everything.
pub fn global_rope(spec: &ModelSpec) -> &RopeSpec {
    let layer = spec.layers.iter().find(|l| l.window.is_none()).or(spec.layers.first());
    &spec.ropes[layer.and_then(|l| l.rope).unwrap_or(0)]
}

fn local_rope(spec: &ModelSpec) -> &RopeSpec {
    let layer = spec.layers.iter().find(|l| l.window.is_some()).or(spec.layers.first());
    &spec.ropes[layer.and_then(|l| l.rope).unwrap_or(0)]
}

/// Tensors that say how frequencies are divided: name, values.
pub fn rope_tensors(spec: &ModelSpec, architecture: &Architecture) -> Vec<(&'static str, Vec<f32>)> {
    let rope = global_rope(spec);
    let narrow = |list: &[f64]| list.iter().map(|x| *x as f32).collect();
    match &rope.scaling {
        RopeScaling::Llama3 { .. } => {
            let plain = RopeSpec { theta: rope.theta, scaling: RopeScaling::None };
            let frequencies = |rope: &RopeSpec| peft_plan::rope::inverse_frequencies(rope, spec.rotary_dim, 1);
            let (plain, scaled) = (frequencies(&plain), frequencies(rope));
            vec![("rope_freqs.weight", plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect())]
        }
        RopeScaling::LongRope { short, long, .. } if architecture.name == "phi3" => {
            vec![("rope_factors_long.weight", narrow(long)), ("rope_factors_short.weight", narrow(short))]
        }
        RopeScaling::LongRope { short, .. } => vec![("rope_freqs.weight", narrow(short))],
        _ => Vec::new(),
    }
}

/// A number of parameters as names of models have it: `1.2B`.
pub fn size_label(parameters: u64) -> String {
    let (scale, suffix) = match parameters {
        1_000_000_000_000.. => (1e12, "T"),
        1_000_000_000.. => (1e9, "B"),
        1_000_000.. => (1e6, "M"),
        _ => (1e3, "K"),
    };
    let scaled = parameters as f64 / scale;
    let places = usize::from(scaled.round() < 10.0);
    format!("{scaled:.places$}{suffix}")
}

fn cannot(what: &str) -> Fault {
    Fault::new("PS-GGUF-001", format!("GGUF cannot hold this model: {what}"))
}

/// The `config.json` that says what `file` says.
pub fn config_of(file: &File) -> Result<Json> {
    let metadata = file.metadata();
    let wrong = |how: String| Fault::new("PS-MODEL-005", format!("`{}` is damaged: {how}.", file.name()));
    let Some(name) = metadata.text("general.architecture") else {
        return Err(wrong("it does not say `general.architecture`".to_owned()));
    };
    if metadata.text("general.type").is_some_and(|kind| kind != "model") {
        return Err(Fault::new(
            "PS-MODEL-002",
            format!("`{}` is not a model but an adapter or a part of one.", file.name()),
        ));
    }
    let Some(architecture) = Architecture::named(name) else {
        let known: Vec<&str> = super::architecture::ARCHITECTURES.iter().map(|a| a.name).collect();
        let detail = format!(
            "`{}` holds a model of the kind `{name}`; of GGUF files those of {} are read",
            file.name(),
            known.join(", ")
        );
        return Err(Fault::new("PS-MODEL-002", detail));
    };
    if metadata.number(&format!("{name}.expert_count")).is_some_and(|n| n > 0) {
        return Err(Fault::new(
            "PS-MODEL-002",
            format!("`{}` holds a mixture of experts, which is not read from GGUF.", file.name()),
        ));
    }
    let key = |key: &str| format!("{name}.{key}");
    let number = |what: &str| {
        metadata.number(&key(what)).ok_or_else(|| wrong(format!("it does not say `{}` as a number", key(what))))
    };
    let float = |what: &str| metadata.float(&key(what));
    let Some(embeddings) = file.tensor("token_embd.weight").filter(|t| t.shape.len() == 2) else {
        return Err(wrong("it has no matrix `token_embd.weight`".to_owned()));
    };
    let (width, heads, layers) = (number("embedding_length")?, number("attention.head_count")?, number("block_count")?);
    if heads == 0 {
        return Err(wrong("it says that there are no heads".to_owned()));
    }
    let head = metadata.number(&key("attention.key_length")).unwrap_or(width / heads);
    let has = |tensor: &str| file.tensor(tensor).is_some();
    let mut config = json!({
        "architectures": [architecture.class],
        "model_type": if name == "gemma3" { "gemma3_text" } else { name },
        "vocab_size": embeddings.shape[0],
        "hidden_size": width,
        "intermediate_size": number("feed_forward_length")?,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.number(&key("attention.head_count_kv")).unwrap_or(heads),
        "head_dim": head,
        "max_position_embeddings": number("context_length")?,
        "rms_norm_eps": printed(float("attention.layer_norm_rms_epsilon").unwrap_or(1e-6)),
        "rope_theta": float("rope.freq_base").unwrap_or(10_000.0),
        "tie_word_embeddings": !has("output.weight"),
    });
    match name {
        "llama" => {
            config["attention_bias"] = json!(has("blk.0.attn_q.bias"));
            config["mlp_bias"] = json!(has("blk.0.ffn_up.bias"));
        }
        "phi3" => {
            let rotary = metadata.number(&key("rope.dimension_count")).unwrap_or(head);
            config["partial_rotary_factor"] = json!(rotary as f64 / head.max(1) as f64);
            config["sliding_window"] = json!(metadata.number(&key("attention.sliding_window")).filter(|n| *n > 0));
            let original = metadata.number(&key("rope.scaling.original_context_length"));
            config["original_max_position_embeddings"] = json!(original.unwrap_or(number("context_length")?));
        }
        "gemma2" | "gemma3" => {
            let by_width = matches!((name, layers), ("gemma2", 46) | ("gemma3", 62));
            config["query_pre_attn_scalar"] = json!(if by_width { width / heads } else { head });
            config["sliding_window"] = json!(metadata.number(&key("attention.sliding_window")));
            config["attn_logit_softcapping"] = json!(float("attn_logit_softcapping"));
            config["final_logit_softcapping"] = json!(float("final_logit_softcapping"));
            config["hidden_activation"] = json!("gelu_pytorch_tanh");
        }
        _ => {}
    }
    if name == "gemma3" {
        config["rope_local_base_freq"] = json!(float("rope.freq_base_swa").unwrap_or(10_000.0));
    }
    if let Some(scaling) = scaling_of(file, name)? {
        config["rope_scaling"] = scaling;
    }
    let ids = ["eos", "eot", "eom"].iter().filter_map(|k| metadata.number(&format!("tokenizer.ggml.{k}_token_id")));
    config["eos_token_id"] = json!(ids.collect::<Vec<_>>());
    config["bos_token_id"] = json!(metadata.number("tokenizer.ggml.bos_token_id"));
    Ok(config)
}

/// An f32 as the short decimal number it was before it was one.
fn printed(x: f64) -> f64 {
    (x as f32).to_string().parse().unwrap_or(x)
}

fn scaling_of(file: &File, name: &str) -> Result<Option<Json>> {
    let metadata = file.metadata();
    let key = |key: &str| format!("{name}.rope.scaling.{key}");
    let divisors = |tensor: &str| -> Result<Option<Vec<f32>>> {
        let Some(tensor) = file.tensor(tensor) else { return Ok(None) };
        let mut values = vec![0.0; tensor.shape.iter().product()];
        peft_kernels::quant::ggml::dequantize(tensor.kind, tensor.bytes.as_slice(), &mut values);
        Ok(Some(values))
    };
    if let Some(list) = divisors("rope_freqs.weight")? {
        // Divisors of every frequency, whatever rule they came from.
        return Ok(Some(json!({
            "rope_type": "longrope",
            "short_factor": list.clone(),
            "long_factor": list,
            "attention_factor": 1.0,
            "original_max_position_embeddings": metadata.number(&format!("{name}.context_length")),
        })));
    }
    if let (Some(long), Some(short)) = (divisors("rope_factors_long.weight")?, divisors("rope_factors_short.weight")?) {
        let mut scaling = json!({"rope_type": "longrope", "short_factor": short, "long_factor": long});
        if let Some(factor) = metadata.float(&key("attn_factor")) {
            scaling["attention_factor"] = json!(factor);
        }
        return Ok(Some(scaling));
    }
    let factor = metadata.float(&key("factor"));
    Ok(match (metadata.text(&key("type")), factor) {
        (Some("linear"), Some(factor)) => Some(json!({"rope_type": "linear", "factor": factor})),
        (Some("yarn"), Some(factor)) => Some(json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": metadata.number(&key("original_context_length")),
            "beta_fast": metadata.float(&key("yarn_beta_fast")).unwrap_or(32.0),
            "beta_slow": metadata.float(&key("yarn_beta_slow")).unwrap_or(1.0),
        })),
        (None | Some("none"), _) => None,
        (Some(other), _) => {
            return Err(Fault::new(
                "PS-MODEL-002",
                format!("`{}` stretches its rotary embedding by `{other}`, which is not read.", file.name()),
            ));
        }
    })
}
