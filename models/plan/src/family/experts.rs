//! The mixture of experts of a configuration.

use super::keys::{self, Keys};
use super::{Experts, refusal};
use crate::fault::Result;
use crate::spec::{Clamp, ExpertsSpec};

/// Most experts of a layer.
const EXPERTS: usize = 1 << 12;

/// What a sparse layer has, and which layers are sparse.
pub(super) fn read(row: &Experts, keys: &Keys, layers: usize, architecture: &str) -> Result<(ExpertsSpec, Vec<bool>)> {
    // Both keys are in use for one class, by the age of the writer.
    let count_key = if keys.get("num_experts").is_some() { "num_experts" } else { "num_local_experts" };
    let count = keys.count(count_key, EXPERTS, Some(row.count))?;
    let top_k = keys.count("num_experts_per_tok", EXPERTS, Some(row.top_k))?;
    if top_k > count {
        return Err(keys::impossible(format!("{top_k} of {count} experts answer every token")));
    }
    if keys.get("clip_qkv").is_some() {
        return Err(refusal::operation(architecture, "queries, keys and values that are clipped (`clip_qkv`)"));
    }
    if keys.get("router_jitter_noise").and_then(serde_json::Value::as_f64).is_some_and(|noise| noise > 0.0) {
        return Err(refusal::operation(architecture, "a router with noise (`router_jitter_noise`)"));
    }
    let clamp = if row.clamped {
        Some(Clamp { alpha: keys.positive("swiglu_alpha", 1.702)?, limit: keys.positive("swiglu_limit", 7.0)? })
    } else {
        None
    };
    let spec = ExpertsSpec {
        count,
        top_k,
        intermediate_size: keys.count(row.width_key, keys::WIDTH, Some(row.width))?,
        normalised: match row.normalised {
            Some(normalised) => normalised,
            None => keys.flag("norm_topk_prob", false)?,
        },
        bias: row.clamped,
        clamp,
        router: row.router.to_owned(),
        path: row.path.to_owned(),
        parts: row.parts.map(str::to_owned),
        transposed: row.clamped,
    };
    let mut sparse = vec![true; layers];
    if row.some_layers {
        let step = keys.count("decoder_sparse_step", keys::LAYERS, Some(1))?;
        for (i, sparse) in sparse.iter_mut().enumerate() {
            *sparse = (i + 1).is_multiple_of(step);
        }
        for layer in keys.list("mlp_only_layers")?.into_iter().flatten() {
            // One beyond the last layer changes nothing, as in the reference.
            if let Some(sparse) = sparse.get_mut(keys::whole("mlp_only_layers", layer, 0, keys::LAYERS)?) {
                *sparse = false;
            }
        }
    }
    Ok((spec, sparse))
}
