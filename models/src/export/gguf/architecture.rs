//! Which models a GGUF file can hold, under which name, and what its tensors are called there.
//!
//! One list of tensors serves both directions: writing takes them from a checkpoint, reading puts them back.

use peft_plan::spec::{ModuleSpec, NormPlacement, Part};
use peft_plan::{Fault, ModelSpec, Result};

/// A kind of model that llama.cpp computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Its name in `general.architecture`.
    pub name: &'static str,
    /// Rows of the family here.
    families: &'static [&'static str],
    /// Class name in a `config.json`.
    pub class: &'static str,
    /// Queries and keys rotate neighbouring columns, not halves: their rows are in another order.
    pub interleaved: bool,
}

/// Those that are read and written.
pub const ARCHITECTURES: [Architecture; 6] = [
    Architecture { name: "llama", families: &["llama", "mistral"], class: "LlamaForCausalLM", interleaved: true },
    Architecture { name: "qwen2", families: &["qwen2"], class: "Qwen2ForCausalLM", interleaved: false },
    Architecture { name: "qwen3", families: &["qwen3"], class: "Qwen3ForCausalLM", interleaved: false },
    Architecture { name: "phi3", families: &["phi3"], class: "Phi3ForCausalLM", interleaved: false },
    Architecture { name: "gemma2", families: &["gemma2"], class: "Gemma2ForCausalLM", interleaved: false },
    Architecture { name: "gemma3", families: &["gemma3"], class: "Gemma3ForCausalLM", interleaved: false },
];

/// What is done to the numbers of a tensor on its way into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The rows of each of so many heads go from halves to neighbours.
    Interleave {
        /// Heads.
        heads: usize,
    },
    /// One is added: the file holds the gain itself.
    AddOne,
}

/// A tensor under both names.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// In a GGUF file.
    pub name: String,
    /// In a checkpoint.
    pub canonical: String,
    /// Dimensions, the slowest first.
    pub shape: Vec<usize>,
    /// What is done on the way.
    pub change: Change,
}

impl Architecture {
    /// The one that computes what `spec` describes.
    pub fn of(spec: &ModelSpec) -> Result<&'static Self> {
        let found = ARCHITECTURES.iter().find(|a| a.families.contains(&spec.family.as_str()));
        let Some(found) = found else {
            let names: Vec<&str> = ARCHITECTURES.iter().flat_map(|a| a.families).copied().collect();
            let detail = format!(
                "Models of the kind `{}` are not written as GGUF; those of {} are",
                spec.family,
                names.join(", ")
            );
            return Err(Fault::new("PS-GGUF-001", detail));
        };
        check(spec, found)?;
        Ok(found)
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|a| a.name == name)
    }

    /// The tensors of a model, in the order of its computation. `own_head`: the head is a matrix of its own.
    pub fn tensors(&self, spec: &ModelSpec, own_head: bool) -> Vec<Named> {
        let gain = if spec.norm_offset == 0.0 { Change::None } else { Change::AddOne };
        let matrix = vec![spec.vocab_size, spec.hidden_size];
        let named = |name: &str, canonical: &str, shape: Vec<usize>, change: Change| Named {
            name: name.to_owned(),
            canonical: canonical.to_owned(),
            shape,
            change,
        };
        let mut all = vec![named("token_embd.weight", "model.embed_tokens.weight", matrix.clone(), Change::None)];
        for i in 0..spec.layers.len() {
            let mut push = |name: &str, canonical: &str, shape: Vec<usize>, change: Change| {
                all.push(named(&format!("blk.{i}.{name}"), &format!("model.layers.{i}.{canonical}"), shape, change));
            };
            for norm in spec.block_norms() {
                let name = norm_name(spec, norm);
                push(&format!("{name}.weight"), &format!("{norm}.weight"), vec![spec.hidden_size], gain);
            }
            if let Some((q, k)) = spec.qk_norm_widths() {
                push("attn_q_norm.weight", "self_attn.q_norm.weight", vec![q], gain);
                push("attn_k_norm.weight", "self_attn.k_norm.weight", vec![k], gain);
            }
            for module in spec.layer_modules(i) {
                let (name, change) = (module_name(module), self.change(spec, module));
                let shape = vec![module.out_features, module.in_features];
                push(&format!("{name}.weight"), &format!("{}.weight", module.name), shape, change);
                if module.bias {
                    let shape = vec![module.out_features];
                    push(&format!("{name}.bias"), &format!("{}.bias", module.name), shape, change);
                }
            }
        }
        all.push(named("output_norm.weight", "model.norm.weight", vec![spec.hidden_size], gain));
        if own_head {
            all.push(named("output.weight", "lm_head.weight", matrix, Change::None));
        }
        all
    }

    /// What happens to the rows of a module, of its bias, and of the second half of its adapter.
    pub fn change(&self, spec: &ModelSpec, module: &ModuleSpec) -> Change {
        match module.parts.as_slice() {
            [Part::Q] if self.interleaved => Change::Interleave { heads: spec.n_heads },
            [Part::K] if self.interleaved => Change::Interleave { heads: spec.n_kv_heads },
            _ => Change::None,
        }
    }
}

/// What cannot be said in a file of this architecture.
fn check(spec: &ModelSpec, architecture: &Architecture) -> Result<()> {
    let cannot = |what: String| Err(Fault::new("PS-GGUF-001", format!("GGUF cannot hold this model: {what}")));
    if (spec.embedding_scale - 1.0).abs() > f64::EPSILON && !architecture.name.starts_with("gemma") {
        return cannot("its embeddings are multiplied".to_owned());
    }
    let usual = usual_scale(spec, architecture.name);
    if (spec.attention_scale - usual).abs() > 1e-6 * usual {
        let found = spec.attention_scale;
        return cannot(format!("its attention is scaled by {found}, and llama.cpp scales by {usual}"));
    }
    if spec.rotary_dim != spec.head_dim && architecture.name != "phi3" {
        return cannot(format!("{} of the {} columns of a head rotate", spec.rotary_dim, spec.head_dim));
    }
    Ok(())
}

/// The scale of attention that llama.cpp takes for granted.
pub(super) fn usual_scale(spec: &ModelSpec, architecture: &str) -> f64 {
    // The 27B sizes of Gemma are told by their number of layers.
    let by_width = matches!((architecture, spec.layers.len()), ("gemma2", 46) | ("gemma3", 62));
    let width = if by_width { spec.hidden_size as f64 / spec.n_heads as f64 } else { spec.head_dim as f64 };
    1.0 / width.sqrt()
}

fn norm_name(spec: &ModelSpec, norm: &str) -> &'static str {
    match (norm, spec.placement) {
        ("input_layernorm", _) => "attn_norm",
        ("post_attention_layernorm", NormPlacement::Pre) | ("pre_feedforward_layernorm", _) => "ffn_norm",
        ("post_attention_layernorm", _) => "post_attention_norm",
        _ => "post_ffw_norm",
    }
}

fn module_name(module: &ModuleSpec) -> &'static str {
    match module.parts.as_slice() {
        [Part::Q] => "attn_q",
        [Part::K] => "attn_k",
        [Part::V] => "attn_v",
        [Part::Q, ..] => "attn_qkv",
        [Part::O, ..] => "attn_output",
        [Part::Gate] => "ffn_gate",
        // Both halves in one matrix have the name of the second.
        [Part::Gate | Part::Up, ..] => "ffn_up",
        _ => "ffn_down",
    }
}

/// The row of a checkpoint that row `row` of the file is.
pub fn source_row(change: Change, rows: usize, row: usize) -> usize {
    let Change::Interleave { heads } = change else { return row };
    let head = rows / heads.max(1);
    let (first, at) = (row / head * head, row % head);
    first + at % 2 * (head / 2) + at / 2
}

/// The row of the file that row `row` of a checkpoint is: the inverse of [`source_row`].
pub fn file_row(change: Change, rows: usize, row: usize) -> usize {
    let Change::Interleave { heads } = change else { return row };
    let head = rows / heads.max(1);
    let (first, at) = (row / head * head, row % head);
    first + at % (head / 2) * 2 + at / (head / 2)
}

#[cfg(test)]
mod tests {
    use super::{Change, file_row, source_row};

    #[test]
    fn rows_of_a_head_go_from_halves_to_neighbours_and_back() {
        let change = Change::Interleave { heads: 2 };
        let order: Vec<usize> = (0..16).map(|row| source_row(change, 16, row)).collect();
        assert_eq!(order, [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
        assert!((0..16).all(|row| file_row(change, 16, source_row(change, 16, row)) == row));
        assert!((0..16).all(|row| source_row(Change::None, 16, row) == row));
    }
}
