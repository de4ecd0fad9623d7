//! The buffers of a pass, allocated once from the memory plan's own table.

use super::{Activations, Decoder, LayerActs, LayerScratch};
use peft_kernels::{Backend, Result, Tensor};
use peft_plan::memory::{Adapters, Column, Layout, Rows};

/// Buffers with the names that the plan knows them by.
type Named<'a, B> = Vec<(String, &'a mut Tensor<B>)>;

/// All buffers of a pass: once for the model, the residual stream, of each block, lent to the blocks.
type Parts<'a, B> = (Named<'a, B>, &'a mut [Tensor<B>], &'a mut [LayerActs<B>], &'a mut LayerScratch<B>);

impl<B: Backend> Decoder<B> {
    /// What of its adapters decides the width of the buffers.
    pub fn adapters(&self) -> Adapters {
        let mut found = Adapters { modules: vec![false; self.spec.modules.len()], ..Adapters::none() };
        for layer in &self.layers {
            for (linear, on) in layer.linears.iter().zip(&mut found.modules) {
                let Some(lora) = &linear.lora else { continue };
                *on = true;
                found.rank = found.rank.max(lora.a.value.rows());
                found.dora |= lora.magnitude.is_some();
                found.dropout |= lora.dropout > 0.0;
            }
        }
        found
    }
}

impl<B: Backend> Activations<B> {
    fn parts(&mut self) -> Parts<'_, B> {
        let Self { inputs, layers, normed, rstd, scratch, dx, dnormed, loss, correct, .. } = self;
        let once = [
            ("normed", normed),
            ("rstd", rstd),
            ("dnormed", dnormed),
            ("loss", loss),
            ("correct", correct),
            ("dx", dx),
        ];
        (once.map(|(name, tensor)| (name.to_owned(), tensor)).into(), inputs, layers, scratch)
    }

    /// Allocate what `layout` lists for at most these rows. Later passes only use less of it.
    pub fn reserve(&mut self, be: &B, layout: &Layout, rows: Rows) -> Result<()> {
        let (away, scored) = (self.away(), [self.place(0), self.place(1)]);
        let (once, inputs, layers, scratch) = self.parts();
        for (i, input) in inputs.iter_mut().enumerate().skip(away) {
            // Scoring uses the first two in turn.
            let tokens = if scored.contains(&i) { rows.train.max(rows.score) } else { rows.train };
            be.reshape(input, tokens, layout.stream)?;
        }
        let sets = layers.len();
        for (slot, layer) in layers.iter_mut().enumerate() {
            let columns: Vec<&Column> = layout.kept(slot, sets).collect();
            reserve(be, layer.named(), &columns, |column| layout.rows(slot, column, rows, sets))?;
        }
        let (lent, pass): (Vec<_>, Vec<_>) = (layout.lent.iter().collect(), layout.pass.iter().collect());
        let is_joined = be.fuses_products(rows.train);
        let lent_rows = |column: &Column| if is_joined { rows.joined(column) } else { rows.of(column) };
        reserve(be, scratch.named(), &lent, lent_rows)?;
        reserve(be, once, &pass, |column| rows.of(column))
    }

    /// Give back the memory of all buffers that is the device's; nothing is asked of it for that.
    pub fn release(&mut self, be: &B) {
        // No copy is under way after this.
        self.away = None;
        let (once, inputs, layers, scratch) = self.parts();
        let named = once.into_iter().chain(layers.iter_mut().flat_map(LayerActs::named)).chain(scratch.named());
        named.map(|(_, tensor)| tensor).chain(inputs).for_each(|tensor| be.release(tensor));
    }

    /// Every buffer there is, for comparing it with the plan.
    pub fn tensors(&mut self) -> Vec<&Tensor<B>> {
        let (once, inputs, layers, scratch) = self.parts();
        let named = once.into_iter().chain(layers.iter_mut().flat_map(LayerActs::named)).chain(scratch.named());
        named.map(|(_, tensor)| &*tensor).chain(inputs.iter()).collect()
    }
}

fn reserve<B: Backend>(be: &B, buffers: Named<B>, columns: &[&Column], rows: impl Fn(&Column) -> usize) -> Result<()> {
    for (name, tensor) in buffers {
        if let Some(column) = columns.iter().find(|c| c.name == name) {
            // A width that counts several rows a token has those as rows.
            be.reshape(tensor, rows(column), column.width)?;
        }
    }
    Ok(())
}
