//! Which modules are trained whole beside the adapters: PEFT's rule for `modules_to_save`.
//!
//! A name means every module whose path ends with it, as a string: `norm` is the last norm and every layer norm too,
//! `model.norm` the last one alone. Whoever loads the adapter with PEFT gets the same modules from the same names, so
//! a name that would also take something that cannot be trained whole here is refused, not narrowed.

use crate::fault::{Fault, Result};
use crate::spec::ModelSpec;

/// The embedding's path.
pub const EMBEDDING: &str = "model.embed_tokens";
/// The output head's path.
pub const HEAD: &str = "lm_head";
/// The last norm's path.
pub const LAST_NORM: &str = "model.norm";

/// Paths of everything that can be trained whole.
fn trainable(spec: &ModelSpec) -> Vec<String> {
    let mut paths = vec![EMBEDDING.to_owned()];
    let per_head: &[&str] = if spec.qk_norm.is_some() { &["self_attn.q_norm", "self_attn.k_norm"] } else { &[] };
    for i in 0..spec.layers.len() {
        paths.extend(spec.block_norms().iter().chain(per_head).map(|norm| format!("model.layers.{i}.{norm}")));
    }
    paths.extend([LAST_NORM.to_owned(), HEAD.to_owned()]);
    paths
}

/// Paths of the other modules that PEFT sees in the model.
fn others(spec: &ModelSpec) -> Vec<String> {
    let mut paths: Vec<String> =
        ["model", "model.layers", "model.rotary_emb", "model.rotary_emb_local"].map(str::to_owned).into();
    for i in 0..spec.layers.len() {
        let fixed = ["", ".self_attn", ".mlp", ".mlp.act_fn", ".mlp.activation_fn"].map(str::to_owned);
        let experts =
            spec.experts.iter().flat_map(|experts| [format!(".{}", experts.router), format!(".{}", experts.path)]);
        let linear = spec.modules.iter().map(|m| format!(".{}", m.name));
        paths.extend(fixed.into_iter().chain(linear).chain(experts).map(|end| format!("model.layers.{i}{end}")));
    }
    paths
}

/// The paths that `names` mean in `spec`, in the order of the model.
pub fn paths(spec: &ModelSpec, names: &[String]) -> Result<Vec<String>> {
    let trainable = trainable(spec);
    let others = others(spec);
    for name in names {
        let is_meant = |path: &String| path.ends_with(name.as_str());
        let also = others.iter().find(|path| is_meant(path));
        if trainable.iter().any(is_meant) && also.is_none() {
            continue;
        }
        let what = match also {
            Some(path) => format!("`adapter.modules_to_save` names `{name}`, which would take `{path}` too"),
            None => format!("This model has no module `{name}` that can be trained whole"),
        };
        let known = known(spec).join(", ");
        return Err(Fault::new("PS-CFG-003", format!("{what}; those that can be are {known}")).action(
            "Train the embeddings and the head",
            Some("--set adapter.modules_to_save='[\"embed_tokens\",\"lm_head\"]'".to_owned()),
        ));
    }
    Ok(trainable.into_iter().filter(|path| names.iter().any(|name| path.ends_with(name.as_str()))).collect())
}

/// The short names of what can be trained whole.
fn known(spec: &ModelSpec) -> Vec<String> {
    let mut names = Vec::new();
    for path in trainable(spec) {
        let short = if path == LAST_NORM { path } else { path.rsplit('.').next().unwrap_or(&path).to_owned() };
        if !names.contains(&short) {
            names.push(short);
        }
    }
    names
}

/// Numbers in the module at `path`.
pub fn size(spec: &ModelSpec, path: &str) -> u64 {
    let size = if path == EMBEDDING || path == HEAD {
        spec.vocab_size * spec.hidden_size
    } else if path.ends_with("q_norm") {
        spec.qk_norm_widths().unwrap_or_default().0
    } else if path.ends_with("k_norm") {
        spec.qk_norm_widths().unwrap_or_default().1
    } else {
        spec.hidden_size
    };
    size as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::spec_from_config;
    use serde_json::json;

    fn spec(tied: bool) -> ModelSpec {
        let config = json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 64,
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": tied});
        spec_from_config(&config).expect("a valid configuration")
    }

    fn of(names: &[&str]) -> Result<Vec<String>> {
        paths(&spec(false), &names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_means_every_path_that_ends_with_it_as_in_peft() {
        assert_eq!(of(&[]).expect("nothing"), [""; 0]);
        assert_eq!(of(&["lm_head", "embed_tokens"]).expect("both"), [EMBEDDING, HEAD]);
        assert_eq!(of(&["model.norm"]).expect("one"), [LAST_NORM]);
        assert_eq!(of(&["input_layernorm"]).expect("two").len(), 2);
        // Two layers of four norms, and the last.
        assert_eq!(of(&["norm"]).expect("all").len(), 9);
        assert_eq!(of(&["layers.1.self_attn.q_norm"]).expect("one"), ["model.layers.1.self_attn.q_norm"]);
    }

    #[test]
    fn what_cannot_be_trained_whole_is_refused_and_what_can_is_named() {
        for name in ["q_proj", "mlp", "model", "lm_heads", "", "layers.2.input_layernorm", "embed_token"] {
            let fault = of(&["lm_head", name]).expect_err(name);
            assert_eq!(fault.code, "PS-CFG-003", "{name}");
            for known in ["embed_tokens", "model.norm", "input_layernorm", "q_norm", "lm_head"] {
                assert!(fault.detail.contains(known), "{name}: {}", fault.detail);
            }
        }
    }

    #[test]
    fn sizes_add_up() {
        let spec = spec(false);
        let names = ["embed_tokens", "lm_head", "norm"].map(str::to_owned);
        let total: u64 = paths(&spec, &names).expect("there").iter().map(|path| size(&spec, path)).sum();
        assert_eq!(total, 2 * 64 * 32 + 5 * 32 + 4 * 8);
    }
}
