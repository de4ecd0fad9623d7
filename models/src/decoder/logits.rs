//! Logits where they were computed, until somebody needs all of them.

use peft_kernels::largest::Penalties;
use peft_kernels::{Backend, Result, Tensor};

/// The logits of some rows, one row after the other.
pub struct Logits<B: Backend> {
    place: Place<B>,
    vocabulary: usize,
}

enum Place<B: Backend> {
    Device(Tensor<B>),
    Here(Vec<f32>),
}

impl<B: Backend> Logits<B> {
    /// Where the device has them.
    pub(super) fn on_device(logits: Tensor<B>) -> Self {
        Self { vocabulary: logits.cols(), place: Place::Device(logits) }
    }

    /// At hand.
    pub(super) fn here(logits: Vec<f32>, vocabulary: usize) -> Self {
        Self { place: Place::Here(logits), vocabulary }
    }

    /// Tokens that a row is about.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The largest of row `row` once it is lowered by `penalties`; `None`, and nothing is lowered, where the row itself
    /// is at hand.
    pub fn largest(&mut self, be: &B, row: usize, penalties: &Penalties) -> Result<Option<Vec<(u32, f32)>>> {
        match &mut self.place {
            Place::Device(logits) => be.largest(logits, row, penalties),
            Place::Here(_) => Ok(None),
        }
    }

    /// All of row `row`.
    pub fn row(&mut self, be: &B, row: usize) -> Result<&mut [f32]> {
        let vocabulary = self.vocabulary;
        Ok(&mut self.all(be)?[row * vocabulary..(row + 1) * vocabulary])
    }

    /// All of all rows.
    pub fn into_numbers(mut self, be: &B) -> Result<Vec<f32>> {
        self.all(be).map(std::mem::take)
    }

    fn all(&mut self, be: &B) -> Result<&mut Vec<f32>> {
        if let Place::Device(logits) = &mut self.place {
            let logits = std::mem::replace(logits, be.zeros(0, 0)?);
            self.place = Place::Here(be.into_numbers(logits)?);
        }
        match &mut self.place {
            Place::Here(numbers) => Ok(numbers),
            Place::Device(_) => unreachable!("they were brought here"),
        }
    }
}
