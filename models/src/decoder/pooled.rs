//! A text as one vector: the mean of what the last norm gives at its positions.

use super::{Activations, Batch, Decoder, Pass};
use peft_kernels::{Backend, Result};

impl<B: Backend> Decoder<B> {
    /// The mean over the positions of `tokens`, which is not empty, with or without the adapter: `[hidden]`. Summed in
    /// f64 and in order, so that the number of threads changes nothing.
    pub fn pooled(&mut self, acts: &mut Activations<B>, tokens: &[u32], adapters: bool) -> Result<Vec<f32>> {
        let rows = tokens.len();
        let mut batch = Batch::default();
        batch.push(tokens, &vec![false; rows]);
        let positions = self.batch_positions(&batch)?;
        let pass = Pass { adapters: 0..if adapters { rows } else { 0 }, dropout: None };
        self.run_layers(acts, &batch, &positions, &pass, false)?;
        let states = self.be.download(&acts.normed)?;
        let mut sums = vec![0.0_f64; self.spec.hidden_size];
        for row in states.chunks_exact(self.spec.hidden_size) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        Ok(sums.iter().map(|sum| (sum / rows as f64) as f32).collect())
    }
}
