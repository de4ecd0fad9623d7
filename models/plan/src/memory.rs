//! The memory plan: one table of named tensors, in the order a run allocates them.
//!
//! The sum is the estimate that is shown. Widths are those of the f32 processor backend.

use crate::config::Method;
use crate::spec::{ModelSpec, NormPlacement, Part};
use serde::{Deserialize, Serialize};

/// A named share of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryItem {
    /// What it is.
    pub name: String,
    /// How much of it.
    pub bytes: u64,
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// The sum.
    pub total_bytes: u64,
    /// Its parts.
    pub items: Vec<MemoryItem>,
}

/// What the plan depends on, besides the model.
#[derive(Clone, Copy, Debug)]
pub struct MemoryFacts {
    /// Bytes of the frozen weights as they are held.
    pub weight_bytes: u64,
    /// Parameters that are trained.
    pub trainable: u64,
    /// Bytes of the optimizer's moments.
    pub moment_bytes: u64,
    /// Rank of the adapters.
    pub rank: usize,
    /// Method.
    pub method: Method,
    /// Adapter dropout is on.
    pub dropout: bool,
    /// Most tokens of a micro-batch.
    pub tokens: usize,
    /// Recompute activations in the backward pass.
    pub recompute: bool,
}

/// What the program itself takes: code, tokenizer, store, allocator.
const PROGRAM_BYTES: u64 = 48 << 20;

/// The table for `spec` under `facts`.
pub fn plan(spec: &ModelSpec, facts: &MemoryFacts) -> MemoryPlan {
    let f32s = |n: usize| n as u64 * 4;
    let t = facts.tokens;
    let layers = spec.layers.len();
    let qkv = spec.q_dim() + 2 * spec.kv_dim();
    let hidden = spec.hidden_size;
    // Kept of one layer, columns for each token.
    let columns = |i: usize| {
        let mut columns = 2 * hidden + qkv + spec.q_dim() + spec.n_heads + 2;
        columns += if spec.placement == NormPlacement::Post { 0 } else { hidden };
        columns += if spec.placement == NormPlacement::Pre { 0 } else { 2 * hidden };
        columns += if spec.qk_norm.is_some() { qkv } else { 0 };
        columns += match &spec.experts {
            Some(e) if spec.layers[i].sparse => e.count + e.top_k * (2 * e.intermediate_size + hidden),
            _ => 3 * spec.intermediate_size,
        };
        if facts.method != Method::Full {
            columns += facts.rank * spec.layer_modules(i).count();
        }
        if facts.method.is_dora() {
            columns += spec.layer_modules(i).map(|m| m.out_features).sum::<usize>();
        }
        columns
    };
    let all = (0..layers).map(columns);
    let kept = if facts.recompute { all.max().unwrap_or(0) + layers * hidden } else { all.sum() };
    let widest = spec.modules.iter().map(|m| m.out_features.max(m.in_features)).max().unwrap_or(0);
    let dense = spec.modules.iter().any(|m| m.parts[0] == Part::Down);
    let mlp = if dense { 3 * spec.intermediate_size } else { 0 };
    let experts = spec.experts.as_ref().map_or(0, |e| e.top_k * (4 * e.intermediate_size + 2 * hidden));
    let mut scratch = 3 * hidden + qkv * 2 + spec.q_dim() + mlp.max(experts) + facts.rank;
    if facts.dropout || facts.method.is_dora() {
        scratch += 3 * widest;
    }
    let items: Vec<MemoryItem> = [
        ("program", PROGRAM_BYTES),
        ("weights", facts.weight_bytes),
        ("trained parameters", facts.trainable * 4),
        ("gradients", facts.trainable * 4),
        ("optimizer moments", facts.moment_bytes),
        ("activations", f32s(kept) * t as u64),
        ("working space", f32s(scratch) * t as u64),
        ("logits, a block of rows", 8 << 20),
    ]
    .into_iter()
    .map(|(name, bytes)| MemoryItem { name: name.to_owned(), bytes })
    .collect();
    MemoryPlan { total_bytes: items.iter().map(|i| i.bytes).sum(), items }
}
