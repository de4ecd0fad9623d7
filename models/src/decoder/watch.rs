//! What the linear modules are multiplied with, in mean squares by column: how much each column of a weight matters.

use super::Decoder;
use super::linear::Linear;
use peft_kernels::{Backend, In, Result, Tensor};
use std::sync::{Mutex, PoisonError};

/// Sums of the squares of the inputs of a module, by column.
pub struct Seen<B: Backend> {
    /// `[1, in]`.
    squares: Tensor<B>,
    rows: u64,
}

/// A module's columns since the last look: path, sums of squares, rows.
pub type SeenColumns = (String, Vec<f32>, u64);

impl<B: Backend> Linear<B> {
    /// Count `x`, if anybody wants to know.
    pub(super) fn look_at(&self, be: &B, x: In<B>) -> Result<()> {
        let Some(seen) = &self.seen else { return Ok(()) };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.rows += x.at.rows as u64;
        be.column_dots(&mut seen.squares, x, x)
    }
}

impl<B: Backend> Decoder<B> {
    /// From here on every pass is watched, or none.
    pub fn watch(&mut self, is_watched: bool) -> Result<()> {
        for linear in self.layers.iter_mut().flat_map(|layer| &mut layer.linears) {
            let seen = || Ok(Mutex::new(Seen { squares: self.be.zeros(1, linear.in_features)?, rows: 0 }));
            linear.seen = is_watched.then(seen).transpose()?;
        }
        Ok(())
    }

    /// What was seen since the last look.
    pub fn take_seen(&mut self) -> Result<Vec<SeenColumns>> {
        let mut taken = Vec::new();
        for linear in self.layers.iter().flat_map(|layer| &layer.linears) {
            let Some(seen) = &linear.seen else { continue };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push((format!("{}.weight", linear.path), self.be.download(&seen.squares)?, seen.rows));
            *seen = Seen { squares: self.be.zeros(1, linear.in_features)?, rows: 0 };
        }
        Ok(taken)
    }
}
