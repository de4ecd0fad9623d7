//! Rows of a table by token, from every storage, and their gradient.

use super::Case;
use super::rig::Rig;
use super::weights::{ALL, Held, Storage};
use crate::backend::{Backend, Write};
use crate::error::Result;

/// Vocabulary, columns, tokens.
const SHAPES: [(usize, usize, usize); 3] = [(5, 33, 9), (129, 7, 20), (300, 64, 33)];

/// The first and the last of the vocabulary, and others, some of them more than once.
fn tokens<B: Backend>(rig: &mut Rig<B>, vocab: usize, n: usize) -> Vec<u32> {
    let ends = [vocab - 1, 0, vocab - 1];
    (0..n).map(|i| ends.get(i).copied().unwrap_or_else(|| rig.below(vocab)) as u32).collect()
}

pub(super) struct Embed {
    vocab: usize,
    d: usize,
    n: usize,
    storage: Storage,
}

impl Case for Embed {
    fn name(&self) -> String {
        let &Self { vocab, d, n, storage } = self;
        format!("embed {n} tokens of [{vocab}, {d}] {}", storage.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { vocab, d, n, storage } = self;
        let table = Held::draw(rig, storage, vocab, d)?;
        let (tokens, mut y) = (tokens(rig, vocab, n), rig.output(n, d, Write::Set)?);
        rig.be.embed(y.view_mut(), &tokens, table.matrix(), 1.5)?;
        rig.take("y", &y)
    }
}

pub(super) fn embed() -> Vec<Embed> {
    let of = |storage| SHAPES.map(move |(vocab, d, n)| Embed { vocab, d, n, storage });
    ALL.into_iter().flat_map(of).collect()
}

pub(super) struct EmbedBackward {
    vocab: usize,
    d: usize,
    n: usize,
}

impl Case for EmbedBackward {
    fn name(&self) -> String {
        format!("embed_bwd {} tokens of [{}, {}]", self.n, self.vocab, self.d)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { vocab, d, n } = self;
        let (tokens, dy, mut dtable) = (tokens(rig, vocab, n), rig.input(n, d)?, rig.tensor(vocab, d)?);
        rig.be.embed_bwd(&mut dtable, dy.view(), &tokens, -0.75)?;
        rig.take_tensor("dtable", &dtable)
    }
}

pub(super) fn backward() -> Vec<EmbedBackward> {
    SHAPES.map(|(vocab, d, n)| EmbedBackward { vocab, d, n }).into()
}
