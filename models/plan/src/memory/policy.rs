//! What keeping, computing again and offloading cost a step on a card, so that the fastest of them that fits can be chosen.
//!
//! A layer that is computed again costs its forward pass. One whose input goes to the computer's memory costs what its copy
//! takes longer than a layer is computed meanwhile, which is nothing for all but the narrowest models: a copy grows with
//! the width of a layer and the products with its square.

use super::{most_away, sharing};
use crate::spec::ModelSpec;

/// Bytes of a copy a second, between a card and pinned memory. Predicted: `PCIe` 4.0 with 16 lanes.
const COPIED: f64 = 20e9;
/// Operations a second of the products of a card on such a bus. Predicted; cards that compute faster have faster buses.
const COMPUTED: f64 = 240e12;
/// Of the memory that is free in a computer, what may hold the inputs of layers: it cannot be used for anything else.
const SHARE: f64 = 0.5;

/// How many layers are computed once, and how many have their input in the computer's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The highest: what they computed is kept.
    pub kept: usize,
    /// The lowest.
    pub offloaded: usize,
}

/// Bytes of a computer's memory that the inputs of layers may take, where so much of it is free.
pub fn lent(host_bytes: u64) -> u64 {
    (host_bytes as f64 * SHARE) as u64
}

/// Most layers whose input may be in the computer's memory: by the model, and by slabs of `slab` bytes where `host_bytes`
/// are free.
pub fn most_offloaded(blocks: usize, slab: u64, host_bytes: u64) -> usize {
    most_away(blocks).min(usize::try_from(lent(host_bytes) / slab.max(1)).unwrap_or(usize::MAX))
}

/// Seconds of a step's blocks for each of its tokens.
pub fn seconds(spec: &ModelSpec, policy: Policy) -> f64 {
    let blocks = spec.layers.len();
    let numbers: usize = (0..blocks).flat_map(|i| spec.layer_modules(i)).map(|m| m.in_features * m.out_features).sum();
    let forward = 2.0 * numbers as f64 / blocks.max(1) as f64 / COMPUTED;
    let copy = 4.0 * spec.hidden_size as f64 / COPIED;
    let again = sharing(blocks, policy.kept + 1).saturating_sub(1);
    // On the way back a layer takes twice as long, and those that are computed again a third time.
    let exposed = (copy - forward).max(0.0) + (copy - 2.0 * forward).max(0.0);
    (3 * blocks + again) as f64 * forward + policy.offloaded as f64 * exposed
}

/// The fastest policy of those that fit: `kept` says how many layers can be kept where so many are offloaded, if any. Of
/// those that are as fast the one that offloads least.
pub fn fastest(spec: &ModelSpec, most: usize, mut kept: impl FnMut(usize) -> Option<usize>) -> Option<Policy> {
    let fitting = (0..=most).filter_map(|offloaded| Some(Policy { kept: kept(offloaded)?, offloaded }));
    fitting
        .map(|policy| (seconds(spec, policy), policy))
        .reduce(|a, b| if b.0 < a.0 { b } else { a })
        .map(|best| best.1)
}
