//! A model of a given shape with nothing in it: for measuring how long a shape takes before its weights are here.

use super::{Checkpoint, WeightFile, files};
use crate::merge_writer::{OutTensor, write_tensors};
use peft_kernels::Bytes;
use peft_plan::{Fault, Result};
use safetensors::Dtype;
use serde_json::Value;

/// Largest model that is made: what is measured is a block or two.
const MOST_BYTES: u64 = 1 << 30;

impl Checkpoint {
    /// A model as `config` describes it, every weight a zero in bfloat16.
    pub fn blank(config: Value) -> Result<Self> {
        let spec = Self::spec_of(&config)?;
        if spec.parameters() > MOST_BYTES / 2 || spec.experts.is_some() || spec.sinks {
            return Err(Fault::new("PS-MODEL-002", "A model of this size or kind is not made only to measure it"));
        }
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
