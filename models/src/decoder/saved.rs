//! Modules trained whole beside the adapters (`modules_to_save` of PEFT): the base's and the tuned one, both at hand.
//!
//! A tuned vector takes the place of the base's and keeps that beside it; a pass over the base alone puts it back for
//! its time. A tuned matrix stands beside the base's. Where a head and an embedding are one matrix in the base, each
//! that is trained becomes one of its own, as in PEFT.

use super::{Activations, Decoder, KvCache, Logits, Param, Weights};
use peft_kernels::{Backend, CachedSegment, Matrix, Result, Tensor};
use std::ops::Range;

/// The tuned matrices.
pub struct Saved<B: Backend> {
    /// Of the embedding, `[vocab, hidden]`.
    pub embedding: Option<Param<B>>,
    /// Of the head, `[vocab, hidden]`.
    pub head: Option<Param<B>>,
}

impl<B: Backend> Default for Saved<B> {
    fn default() -> Self {
        Self { embedding: None, head: None }
    }
}

impl<B: Backend> Saved<B> {
    /// The embedding of a pass.
    pub(super) fn embedding_or<'a>(&'a self, base: &'a Weights<B>, tuned: bool) -> Matrix<'a, B> {
        either(self.embedding.as_ref(), base, tuned)
    }

    /// The head of a pass; `base` is the embedding where the base has no other.
    pub(super) fn head_or<'a>(&'a self, base: &'a Weights<B>, tuned: bool) -> Matrix<'a, B> {
        either(self.head.as_ref(), base, tuned)
    }
}

impl<B: Backend> Saved<B> {
    /// The head of a pass and where its gradient is added.
    pub(super) fn head_and_grad<'a>(
        &'a mut self,
        base: &'a mut Weights<B>,
        tuned: bool,
    ) -> (Matrix<'a, B>, Option<&'a mut Tensor<B>>) {
        match (&mut self.head, base) {
            (Some(p), _) if tuned => p.matrix_and_grad(),
            (_, Weights::Frozen(w)) => (Matrix::Frozen(&*w), None),
            (_, Weights::Trained(p)) => p.matrix_and_grad(),
        }
    }
}

fn either<'a, B: Backend>(saved: Option<&'a Param<B>>, base: &'a Weights<B>, tuned: bool) -> Matrix<'a, B> {
    match saved {
        Some(p) if tuned => Matrix::Dense(&p.value),
        _ => base.matrix(),
    }
}

impl<B: Backend> Decoder<B> {
    /// Run `pass` with the norms of the base, or with the tuned ones.
    pub(super) fn with_norms<R>(&mut self, tuned: bool, pass: impl FnOnce(&mut Self) -> R) -> R {
        if tuned {
            return pass(self);
        }
        self.swap_norms();
        let result = pass(self);
        self.swap_norms();
        result
    }

    fn swap_norms(&mut self) {
        let vectors = self.layers.iter_mut().flat_map(super::Layer::vectors_mut).chain([&mut self.norm]);
        for vector in vectors {
            if let Some(base) = &mut vector.base {
                std::mem::swap(base, &mut vector.value);
            }
        }
    }

    /// Whether some module is trained whole, so that rows of base and tuned model cannot share a pass.
    fn replaces_modules(&mut self) -> bool {
        let Saved { embedding, head } = &self.saved;
        embedding.is_some()
            || head.is_some()
            || self.norm.base.is_some()
            || self.layers.iter_mut().flat_map(super::Layer::vectors_mut).any(|vector| vector.base.is_some())
    }

    /// [`Decoder::expect_next`] with the logits at hand, `[segments, vocab]`.
    pub fn continue_cached(
        &mut self,
        acts: &mut Activations<B>,
        cache: &mut KvCache<B>,
        tokens: &[u32],
        segments: &[CachedSegment],
        totals: &[usize],
        adapters: Range<usize>,
    ) -> Result<Vec<f32>> {
        self.expect_next(acts, cache, tokens, segments, totals, adapters)?.into_numbers(&self.be)
    }

    /// Continue sequences by the given tokens and return the logits after the last of each segment, one row each.
    /// `totals`: how long each sequence may become (longrope decides by it).
    /// Adapters act on the rows `adapters`. One pass where base and tuned model differ by adapters alone, else one each.
    pub fn expect_next(
        &mut self,
        acts: &mut Activations<B>,
        cache: &mut KvCache<B>,
        tokens: &[u32],
        segments: &[CachedSegment],
        totals: &[usize],
        adapters: Range<usize>,
    ) -> Result<Logits<B>> {
        let all_or_none = adapters.is_empty() || adapters.len() == tokens.len();
        if all_or_none || !self.replaces_modules() {
            let tuned = !adapters.is_empty();
            let logits =
                self.with_norms(tuned, |d| d.continue_one_side(acts, cache, tokens, segments, totals, adapters));
            return Ok(Logits::on_device(logits?));
        }
        let vocab = self.spec.vocab_size;
        let mut logits = vec![0.0; segments.len() * vocab];
        for tuned in [false, true] {
            let (mut ids, mut own, mut ends, mut places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (place, (s, &total)) in segments.iter().zip(totals).enumerate() {
                if adapters.contains(&s.start) == tuned {
                    own.push(CachedSegment { start: ids.len(), ..*s });
                    ids.extend_from_slice(&tokens[s.start..s.start + s.len]);
                    ends.push(total);
                    places.push(place);
                }
            }
            let rows = 0..if tuned { ids.len() } else { 0 };
            let part = self.with_norms(tuned, |d| d.continue_one_side(acts, cache, &ids, &own, &ends, rows))?;
            let part = self.be.into_numbers(part)?;
            for (place, row) in places.into_iter().zip(part.chunks_exact(vocab)) {
                logits[place * vocab..][..vocab].copy_from_slice(row);
            }
        }
        Ok(Logits::here(logits, vocab))
    }
}
