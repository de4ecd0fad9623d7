//! A model of a given shape with nothing in it, or random numbers: for measuring how long a shape takes where its weights
//! are not.

use super::{Checkpoint, WeightFile, files};
use crate::merge_writer::{OutTensor, write_tensors};
use peft_kernels::Bytes;
use peft_plan::order::SplitMix;
use peft_plan::{Fault, ModelSpec, Result};
use safetensors::Dtype;
use serde_json::Value;
use std::io::{self, Write};

/// Largest model that is made: what is measured is a block or two.
const MOST_BYTES: u64 = 1 << 30;

impl Checkpoint {
    /// A model as `config` describes it, every weight a zero in bfloat16.
    pub fn blank(config: Value) -> Result<Self> {
        let spec = Self::spec_of(&config)?;
        if spec.parameters() > MOST_BYTES / 2 || spec.experts.is_some() || spec.sinks {
            return Err(Fault::new("PS-MODEL-002", "A model of this size or kind is not made only to measure it"));
        }
        let tensors = tensors(&spec);
        let mut bytes = Vec::new();
        write_tensors(&mut bytes, &tensors.iter().collect::<Vec<_>>(), |t| {
            Ok(vec![0; t.shape.iter().product::<usize>() * 2])
        })
        .map_err(|e| Fault::new("PS-MODEL-005", "A model without weights could not be made").caused_by(e))?;
        let weights = WeightFile::read(files::SINGLE, Bytes::from_vec(bytes))?;
        let text = config.to_string();
        let made = Self::assemble(None, text.as_bytes(), config, vec![weights], None)?;
        made.check()?;
        Ok(made)
    }
}

/// Every tensor of a dense model of this architecture, in bfloat16.
fn tensors(spec: &ModelSpec) -> Vec<OutTensor> {
    let tensor =
        |name: String, shape: Vec<usize>| OutTensor { canonical: name.clone(), name, dtype: Dtype::BF16, shape };
    let hidden = spec.hidden_size;
    let mut tensors = vec![
        tensor("model.embed_tokens.weight".to_owned(), vec![spec.vocab_size, hidden]),
        tensor("model.norm.weight".to_owned(), vec![hidden]),
    ];
    if !spec.tied {
        tensors.push(tensor("lm_head.weight".to_owned(), vec![spec.vocab_size, hidden]));
    }
    for i in 0..spec.layers.len() {
        let path = format!("model.layers.{i}");
        tensors.extend(spec.block_norms().iter().map(|n| tensor(format!("{path}.{n}.weight"), vec![hidden])));
        if let Some((q, k)) = spec.qk_norm_widths() {
            let norms = [("q_norm", q), ("k_norm", k)];
            tensors.extend(norms.map(|(n, len)| tensor(format!("{path}.self_attn.{n}.weight"), vec![len])));
        }
        for m in spec.layer_modules(i) {
            tensors.push(tensor(format!("{path}.{}.weight", m.name), vec![m.out_features, m.in_features]));
            if m.bias {
                tensors.push(tensor(format!("{path}.{}.bias", m.name), vec![m.out_features]));
            }
        }
    }
    tensors
}

/// Write the weights of a model as `config` describes it to `file`: gains of one, and else numbers around zero with the
/// deviation that models begin with, the same every time.
pub fn write_noise(config: &Value, file: &mut dyn Write) -> io::Result<()> {
    let spec = Checkpoint::spec_of(config).map_err(io::Error::other)?;
    if spec.experts.is_some() || spec.sinks {
        return Err(io::Error::other("a model of this kind is not made only to measure it"));
    }
    let tensors = tensors(&spec);
    let mut random = SplitMix::new(0x5EED);
    write_tensors(file, &tensors.iter().collect::<Vec<_>>(), |tensor| {
        let count = tensor.shape.iter().product::<usize>();
        let gain = f32::to_bits(1.0 - spec.norm_offset as f32);
        let is_gain = tensor.name.ends_with("norm.weight");
        let bits = (0..count).map(|_| if is_gain { gain } else { noise(random.next_u64()).to_bits() });
        Ok(bits.flat_map(|bits| ((bits >> 16) as u16).to_le_bytes()).collect())
    })
}

/// About normal, with a deviation of 0.02: the sum of four even ones.
fn noise(bits: u64) -> f32 {
    /// Deviation of the sum of four numbers below 65536.
    const DEVIATION: f32 = 37_837.2;
    let sum: u32 = (0..4).map(|i| (bits >> (16 * i)) as u16).map(u32::from).sum();
    (sum as f32 - 131_070.0) * (0.02 / DEVIATION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_blank_model_has_every_tensor_of_its_shape_and_no_more() {
        for (family, class) in
            [("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM"), ("llama", "LlamaForCausalLM")]
        {
            let config = json!({
                "architectures": [class], "model_type": family, "vocab_size": 64, "hidden_size": 32,
                "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "head_dim": 8,
                "tie_word_embeddings": family != "llama"
            });
            let blank = Checkpoint::blank(config).expect("made");
            assert_eq!(blank.total_bytes(), blank.spec().parameters() * 2, "{family}");
        }
    }
}
