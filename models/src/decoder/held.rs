//! Weights that a device holds decoded, besides as they are stored.

use super::{Decoder, Weights};
use peft_kernels::{Backend, Result};

impl<B: Backend> Decoder<B> {
    /// Hold the weights of the lowest `blocks` blocks decoded from now on, and those of the others no longer. What was held
    /// before an error stays.
    pub fn hold_decoded(&self, blocks: usize) -> Result<()> {
        // What is given back first serves what comes.
        let all = self.layers.iter().enumerate();
        let (held, others): (Vec<_>, Vec<_>) = all.partition(|(i, _)| *i < blocks);
        for (i, layer) in others.into_iter().chain(held) {
            for linear in &layer.linears {
                if let Weights::Frozen(w) = &linear.weight {
                    self.be.hold_decoded(w, i < blocks)?;
                }
            }
        }
        Ok(())
    }
}
