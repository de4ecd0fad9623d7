//! What answers take of the memory: the weights, and keys and values of every token within reach.

use super::floats;
use crate::spec::ModelSpec;
use serde::{Deserialize, Serialize};

/// Codes of eight bits in a word of a cache; a head has one word more, for their scale
/// (`kernels/src/cpu/attention_cached.rs`).
const CODES: usize = 4;

/// The memory that answers take for as long as they go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerMemory {
    /// Bytes of the weights as they are held.
    pub weights_bytes: u64,
    /// Tokens of questions and answers together.
    pub context_tokens: usize,
    /// Bytes of keys and values of so many tokens.
    pub cache_bytes: u64,
    /// What those are in f32.
    pub exact_cache_bytes: u64,
}

impl AnswerMemory {
    /// That of a model with weights of so many bytes; `eight_bits`: keys and values are kept in those.
    pub fn of(spec: &ModelSpec, weights_bytes: u64, tokens: usize, eight_bits: bool) -> Self {
        let [cache_bytes, exact_cache_bytes] = [eight_bits, false].map(|narrow| cache_bytes(spec, tokens, narrow));
        Self { weights_bytes, context_tokens: tokens, cache_bytes, exact_cache_bytes }
    }
}

/// Bytes of keys and values of so many tokens, in f32 or in codes of eight bits, of all blocks.
pub fn cache_bytes(spec: &ModelSpec, tokens: usize, eight_bits: bool) -> u64 {
    let is_narrow = eight_bits && spec.head_dim > 0 && spec.head_dim.is_multiple_of(CODES);
    let head = if is_narrow { spec.head_dim / CODES + 1 } else { spec.head_dim };
    floats(2 * spec.n_kv_heads * head * spec.layers.len()) * tokens as u64
}
