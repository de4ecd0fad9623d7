//! Rows of a table by token, from every storage.

use crate::harness::{Case, Field, Outputs, tensor};
use crate::weights::{ALL, Held, Storage};
use peft_kernels::{Backend, Result, Write};

#[derive(Debug)]
pub(crate) struct Embed {
    vocab: usize,
    d: usize,
    tokens: &'static [u32],
    storage: Storage,
    scale: f32,
}

impl Case for Embed {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { vocab, d, tokens, storage, scale } = self;
        let table = Held::new(be, storage, 1, vocab, d);
        let mut y = Field::output(be, tokens.len(), d, Write::Set);
        be.embed(y.view_mut(), tokens, table.matrix(), scale)?;
        let dy = Field::noise(be, 2, tokens.len(), d);
        let mut dtable = tensor(be, 3, vocab, d);
        be.embed_bwd(&mut dtable, dy.view(), tokens, scale)?;
        Ok(vec![("y", y.take(be)), ("dtable", be.download(&dtable)?)])
    }
}

pub(crate) fn embed() -> Vec<Embed> {
    let mut cases = Vec::new();
    for storage in ALL {
        for (vocab, d, tokens) in [(1, 1, &[0][..]), (5, 33, &[4, 4, 0, 3, 4]), (129, 7, &[128, 1, 64, 1, 128, 0, 77])]
        {
            cases.push(Embed { vocab, d, tokens, storage, scale: 1.5 });
        }
    }
    cases
}
