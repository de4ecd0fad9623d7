//! Checkpoints of TensorRT-LLM: `config.json` and one file of weights in its names, for `trtllm-build`.
//!
//! Only versions up to about 1.2 read this form; later ones take a folder of Hugging Face's as it is. Weights go
//! through memory tensor by tensor, merged with the adapter on the way.

use super::made_of::MadeOf;
use crate::base::BaseModel;
use crate::engine::MergeOptions;
use crate::merge::{Merger, dense};
use crate::merge_writer::{OutTensor, narrow, not_written, out_type, write_part};
use crate::peft_format::AdapterFile;
use durable::Manifest;
use peft_kernels::{Backend, DType};
use peft_plan::{Fault, ModelSpec, Part, Result, RopeScaling};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;

/// The file of weights.
pub const WEIGHTS: &str = "rank0.safetensors";

/// A tensor of the checkpoint and the tensors of the model whose rows it holds, one below the other.
struct Made {
    out: OutTensor,
    from: Vec<String>,
}

/// The architectures this form is written for: ours, TensorRT-LLM's, and what Qwen models say beside.
const KNOWN: [(&str, &str, Option<&str>); 4] = [
    ("llama", "LlamaForCausalLM", None),
    ("mistral", "MistralForCausalLM", None),
    ("qwen2", "Qwen2ForCausalLM", Some("qwen2")),
    ("qwen3", "Qwen3ForCausalLM", Some("qwen3")),
];

fn known(spec: &ModelSpec) -> Result<(&'static str, Option<&'static str>)> {
    let found = KNOWN.iter().find(|(family, ..)| *family == spec.family);
    let window = spec.layers.iter().any(|layer| layer.window.is_some_and(|window| window < spec.max_positions));
    match found {
        Some((_, name, kind)) if !window => Ok((name, *kind)),
        _ => {
            let why = if found.is_some() { ", whose attention has a window" } else { "" };
            Err(Fault::new(
                "PS-EXP-004",
                format!(
                    "No TensorRT-LLM checkpoint is written for {} models{why}; those of Llama, Mistral, Qwen 2 and Qwen 3 \
                     are. TensorRT-LLM from 1.0 on reads what `--to merged` writes.",
                    spec.architecture
                ),
            ))
        }
    }
}

/// What `config.json` says.
fn config(spec: &ModelSpec, dtype: DType) -> Result<Value> {
    let (architecture, qwen) = known(spec)?;
    let Some(rope) = spec.ropes.first().filter(|_| spec.ropes.len() == 1) else {
        return Err(Fault::new("PS-EXP-004", "A TensorRT-LLM checkpoint holds one rotary embedding."));
    };
    let scaling = match &rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"type": "linear", "rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => json!({
            "type": "llama3", "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor, "original_max_position_embeddings": original,
        }),
        RopeScaling::Yarn { .. } | RopeScaling::LongRope { .. } => {
            return Err(Fault::new(
                "PS-EXP-004",
                "A TensorRT-LLM checkpoint of this family cannot stretch its rotary embedding this way.",
            ));
        }
    };
    let has_bias = |part: Part| spec.modules.iter().any(|module| module.bias && module.parts.contains(&part));
    let mut config = json!({
        "architecture": architecture,
        "dtype": if dtype == DType::BF16 { "bfloat16" } else { "float16" },
        "logits_dtype": "float32",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.layers.len(),
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "head_size": spec.head_dim,
        "intermediate_size": spec.intermediate_size,
        "hidden_act": "silu",
        "norm_epsilon": spec.norm_eps,
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": spec.max_positions,
        "rotary_base": rope.theta,
        "rotary_scaling": scaling,
        "attn_bias": has_bias(Part::Q),
        "mlp_bias": has_bias(Part::Down),
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "quantization": {"quant_algo": null, "kv_cache_quant_algo": null},
        "use_parallel_embedding": false,
        "embedding_sharding_dim": 0,
    });
    if let Some(qwen) = qwen {
        config["qwen_type"] = json!(qwen);
    }
    Ok(config)
}

/// Every tensor. The names of gate and other half of the MLP are crossed: `fc` is the gate.
fn tensors(base: &BaseModel, dtype: DType, own_head: bool) -> Vec<Made> {
    let spec = base.spec();
    let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
    let mut made = Vec::new();
    let mut add = |name: String, shape: Vec<usize>, from: Vec<String>| {
        let canonical = from[0].clone();
        made.push(Made { out: OutTensor { name, canonical, dtype: out_type(dtype), shape }, from });
    };
    add("transformer.vocab_embedding.weight".to_owned(), vec![spec.vocab_size, hidden], vec![EMBEDDING.to_owned()]);
    let head = if own_head { "lm_head.weight" } else { EMBEDDING };
    add("lm_head.weight".to_owned(), vec![spec.vocab_size, hidden], vec![head.to_owned()]);
    add("transformer.ln_f.weight".to_owned(), vec![hidden], vec!["model.norm.weight".to_owned()]);
    for i in 0..spec.layers.len() {
        let ours = |name: &str| format!("model.layers.{i}.{name}");
        let theirs = |name: &str| format!("transformer.layers.{i}.{name}");
        add(theirs("input_layernorm.weight"), vec![hidden], vec![ours("input_layernorm.weight")]);
        add(theirs("post_layernorm.weight"), vec![hidden], vec![ours("post_attention_layernorm.weight")]);
        if spec.qk_norm.is_some() {
            for (their, our) in [("q_layernorm", "q_norm"), ("k_layernorm", "k_norm")] {
                add(
                    theirs(&format!("attention.{their}.weight")),
                    vec![spec.head_dim],
                    vec![ours(&format!("self_attn.{our}.weight"))],
                );
            }
        }
        let qkv = spec.q_dim() + 2 * spec.kv_dim();
        let modules: [(&str, &[&str], [usize; 2]); 5] = [
            ("attention.qkv", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], [qkv, hidden]),
            ("attention.dense", &["self_attn.o_proj"], [hidden, spec.q_dim()]),
            ("mlp.fc", &["mlp.gate_proj"], [inner, hidden]),
            ("mlp.gate", &["mlp.up_proj"], [inner, hidden]),
            ("mlp.proj", &["mlp.down_proj"], [hidden, inner]),
        ];
        for (their, our, [rows, cols]) in modules {
            let from = |end: &str| our.iter().map(|name| ours(&format!("{name}.{end}"))).collect::<Vec<_>>();
            add(theirs(&format!("{their}.weight")), vec![rows, cols], from("weight"));
            let biases = from("bias");
            if biases.iter().all(|name| base.checkpoint().has(name)) {
                add(theirs(&format!("{their}.bias")), vec![rows], biases);
            }
        }
    }
    made
}

const EMBEDDING: &str = "model.embed_tokens.weight";

/// Write base and adapter to the folder `out`, which must not exist or be empty, with the plain files `extra` beside.
pub(crate) fn write<B: Backend>(
    be: &B,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
    extra: &[(String, Vec<u8>)],
    out: &Path,
) -> Result<Manifest> {
    let dtype = if options.dtype == DType::F16 { DType::F16 } else { DType::BF16 };
    let config = config(base.spec(), dtype)?;
    let merger = Merger::new(be, base.checkpoint(), adapter, options.quantize)?;
    if adapter.is_some() && merger.merged_modules() == 0 && !merger.replaces_any() {
        return Err(Fault::new(
            "PS-CFG-003",
            "The adapter's modules match nothing in this model; is it an adapter of another one?",
        ));
    }
    let made = tensors(base, dtype, !base.spec().tied || merger.unties());
    let produce = |tensor: &OutTensor| -> Result<Vec<u8>> {
        let from = made.iter().find(|made| made.out.name == tensor.name).map_or(&[][..], |made| &made.from);
        let mut bytes = Vec::new();
        for name in from {
            let values = match merger.tensor(name)? {
                Some(merged) => merged,
                None if tensor.shape.len() == 1 => base.checkpoint().vector(name)?,
                None => dense(&base.checkpoint().frozen(name)?),
            };
            if let Some(x) = values.iter().find(|x| !x.is_finite() || dtype == DType::F16 && x.abs() > 65_504.0) {
                return Err(Fault::new("PS-EXP-002", format!("`{name}` holds {x}, more than this type can.")));
            }
            bytes.extend(narrow(dtype, &values));
        }
        Ok(bytes)
    };
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable::create_directories(parent).map_err(|error| Fault::io("create the folder", parent, error))?;
    let mut stopped = None;
    let all: Vec<&OutTensor> = made.iter().map(|made| &made.out).collect();
    let word = MadeOf::new(&be.fingerprint(), base, adapter, options.quantize).word(format!("{all:?}").as_bytes());
    let written = durable::continue_directory(out, |folder| {
        folder.part(WEIGHTS, &word, |part| {
            write_part(part, &all, |tensor| {
                produce(tensor).map_err(|fault| {
                    stopped = Some(fault);
                    io::Error::other("a tensor could not be produced")
                })
            })
        })?;
        folder.file("config.json", |file| file.write_all(format!("{config:#}\n").as_bytes()))?;
        for (name, bytes) in extra {
            folder.file(name, |file: &mut dyn Write| file.write_all(bytes))?;
        }
        Ok(())
    });
    written.map_err(|error| stopped.unwrap_or_else(|| not_written(out, error)))
}
