//! A model of a known shape with random weights, for measuring where no checkpoint can be brought.

use super::model::starter_files;
use peft_models::checkpoint::write_noise;
use peft_plan::{Fault, Result};
use serde_json::{Value, json};
use std::path::Path;

/// The shapes, by the names they are asked for with. `tiny` is for trying it out.
pub const SHAPES: [&str; 4] = ["llama-3-8b", "qwen2.5-1.5b", "qwen2.5-0.5b", "tiny"];

/// What a shape is.
struct Shape {
    class: &'static str,
    family: &'static str,
    hidden: u32,
    inner: u32,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    vocabulary: u32,
    positions: u32,
    theta: f64,
    tied: bool,
}

const QWEN: Shape = Shape {
    class: "Qwen2ForCausalLM",
    family: "qwen2",
    hidden: 896,
    inner: 4864,
    layers: 24,
    heads: 14,
    kv_heads: 2,
    vocabulary: 151_936,
    positions: 32_768,
    theta: 1e6,
    tied: true,
};
const LLAMA: Shape = Shape {
    class: "LlamaForCausalLM",
    family: "llama",
    hidden: 4096,
    inner: 14_336,
    layers: 32,
    heads: 32,
    kv_heads: 8,
    vocabulary: 128_256,
    positions: 8192,
    theta: 5e5,
    tied: false,
};

fn shape(name: &str) -> Option<Shape> {
    Some(match name {
        "llama-3-8b" => LLAMA,
        "qwen2.5-0.5b" => QWEN,
        "qwen2.5-1.5b" => Shape { hidden: 1536, inner: 8960, layers: 28, heads: 12, ..QWEN },
        "tiny" => Shape {
            hidden: 64,
            inner: 128,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            vocabulary: 8192,
            positions: 512,
            ..LLAMA
        },
        _ => return None,
    })
}

fn config(shape: &Shape, layers: Option<u32>) -> Value {
    json!({
        "architectures": [shape.class],
        "model_type": shape.family,
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": layers.unwrap_or(shape.layers),
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden / shape.heads,
        "hidden_act": "silu",
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": 1e-6,
        "rope_theta": shape.theta,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "bfloat16",
    })
}

/// Write a model of the shape `name` into the new folder `out`, with so many layers where that is said. Its tokenizer is
/// that of the built-in model.
pub fn make(name: &str, layers: Option<u32>, out: &Path) -> Result<()> {
    let Some(shape) = shape(name) else {
        return Err(Fault::new("PS-CFG-001", format!("There is no shape `{name}`; there are {}", SHAPES.join(", "))));
    };
    if out.exists() {
        return Err(Fault::new("PS-CFG-001", format!("`{}` is there already; name a new folder", out.display())));
    }
    let config = config(&shape, layers.map(|layers| layers.max(1)));
    let made = durable::commit_directory(out, |folder| {
        let starter = starter_files();
        folder.file("config.json", |file| file.write_all(config.to_string().as_bytes()))?;
        folder.file("tokenizer.json", |file| file.write_all(starter.tokenizer))?;
        folder.file("tokenizer_config.json", |file| file.write_all(starter.tokenizer_config))?;
        folder.file("model.safetensors", |file| write_noise(&config, file))
    });
    made.map(|_| ()).map_err(|error| Fault::io("write the model", out, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_models::base::BaseModel;

    /// What is measured on random weights is what a model of the shape takes: each has the parameters it is known for.
    #[test]
    fn shapes_have_the_parameters_that_they_are_known_for() {
        for (name, parameters) in
            [("llama-3-8b", 8_030_261_248_u64), ("qwen2.5-0.5b", 494_032_768), ("qwen2.5-1.5b", 1_543_714_304)]
        {
            let spec = peft_models::checkpoint::Checkpoint::spec_of(&config(&shape(name).expect("known"), None));
            assert_eq!(spec.expect("a family").parameters(), parameters, "{name}");
        }
    }

    #[test]
    fn a_made_model_is_opened_its_weights_are_no_zeros_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("model");
        make("tiny", Some(1), &out).expect("made");
        let base = BaseModel::open("tiny", &out).expect("a model");
        assert_eq!(base.spec().layers.len(), 1);
        let weight = base.checkpoint().tensor("model.layers.0.mlp.down_proj.weight").expect("there");
        let numbers = weight.to_f32().expect("numbers");
        let square = numbers.iter().map(|x| f64::from(x * x)).sum::<f64>() / numbers.len() as f64;
        assert!((square.sqrt() - 0.02).abs() < 0.001, "{square}");
        let gain = base.checkpoint().vector("model.norm.weight").expect("there");
        assert!(gain.iter().all(|&x| (x - 1.0).abs() < f32::EPSILON));
        assert_eq!(make("tiny", None, &out).expect_err("it is there").code, "PS-CFG-001");
        assert_eq!(make("huge", None, &folder.path().join("x")).expect_err("no such shape").code, "PS-CFG-001");
    }
}
