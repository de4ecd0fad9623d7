//! Keys and values of earlier tokens: room for sequences, and moving them when they need more of it.

use super::Decoder;
use peft_kernels::{Backend, Result, Tensor, Write};
use peft_plan::RopeScaling;

/// Keys and values of every layer for a number of slots (rows).
pub struct KvCache<B: Backend> {
    pub(super) layers: Vec<Tensor<B>>,
}

/// Rows that keep what they hold when a cache is laid out anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptRows {
    /// First row in the old cache.
    pub from: usize,
    /// First row in the new one.
    pub to: usize,
    /// Number of rows.
    pub len: usize,
}

impl<B: Backend> Decoder<B> {
    /// Room for `slots` tokens in every layer.
    pub fn kv_cache(&self, slots: usize) -> Result<KvCache<B>> {
        let layers =
            self.layers.iter().map(|layer| self.be.zeros(slots, self.be.cache_columns(&layer.attention.heads)));
        Ok(KvCache { layers: layers.collect::<Result<_>>()? })
    }

    /// Give `cache` room for `slots` tokens, a layer at a time, keeping the rows `kept`.
    pub fn lay_out_cache(&self, cache: &mut KvCache<B>, slots: usize, kept: &[KeptRows]) -> Result<()> {
        for layer in &mut cache.layers {
            let mut fresh = self.be.zeros(slots, layer.cols())?;
            for &KeptRows { from, to, len } in kept {
                self.be.copy(fresh.view_mut().rows(to..to + len), layer.view().rows(from..from + len), Write::Set)?;
            }
            *layer = fresh;
        }
        Ok(())
    }

    /// Whether a sequence of `total` tokens uses the long frequencies of longrope: what was computed for a shorter
    /// one then no longer counts.
    pub fn is_long(&self, total: usize) -> bool {
        let beyond =
            |scaling: &RopeScaling| matches!(scaling, RopeScaling::LongRope { original, .. } if total > *original);
        self.spec.ropes.iter().any(|rope| beyond(&rope.scaling))
    }
}
