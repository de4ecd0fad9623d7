//! One name for a tensor, whatever its file calls it.
//!
//! Canonical names are those of a plain causal language model: `model.embed_tokens.weight`,
//! `model.layers.0.…`, `model.norm.weight`, `lm_head.weight`. A model that also sees images keeps
//! its text half one level deeper (at a place that changed between library versions), a bare
//! decoder one level higher, and a model saved from inside an adapter below the adapter's prefix.

/// Prefixes and what stands in their place; the first that fits counts.
const PREFIXES: &[(&str, &str)] = &[
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("layers.", "model.layers."),
    ("embed_tokens.", "model.embed_tokens."),
    ("norm.", "model.norm."),
];

/// What adapters put before every name, at times more than once.
pub(crate) const ADAPTER_PREFIX: &str = "base_model.model.";

/// The canonical name of a tensor that a file calls `stored`.
pub(crate) fn canonical(stored: &str) -> String {
    let mut name = stored;
    while let Some(rest) = name.strip_prefix(ADAPTER_PREFIX) {
        name = rest;
    }
    for (prefix, instead) in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            return format!("{instead}{rest}");
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn every_spelling_of_a_layer_is_one_name() {
        for stored in [
            "model.layers.3.mlp.up_proj.weight",
            "layers.3.mlp.up_proj.weight",
            "model.language_model.layers.3.mlp.up_proj.weight",
            "language_model.model.layers.3.mlp.up_proj.weight",
            "base_model.model.model.layers.3.mlp.up_proj.weight",
            "base_model.model.base_model.model.model.layers.3.mlp.up_proj.weight",
        ] {
            assert_eq!(canonical(stored), "model.layers.3.mlp.up_proj.weight", "{stored}");
        }
        assert_eq!(canonical("language_model.lm_head.weight"), "lm_head.weight");
        assert_eq!(canonical("norm.weight"), "model.norm.weight");
        assert_eq!(canonical("vision_tower.layers.0.norm.weight"), "vision_tower.layers.0.norm.weight");
    }
}
