//! The residual stream of the lowest blocks in the computer's memory: it is copied there while the blocks above are
//! computed, and back while the way back is above.
//!
//! Of the streams before `away` blocks none has a buffer of its own: they take turns in the buffers of the [`RING`] streams
//! above them, stream `i` in that of `i + RING`, `i + 2·RING`, and so on. On the way forward a buffer is written again once
//! its copy has left; on the way back it is filled again as soon as the block above has used it, so that a stream is on its
//! way while two blocks are computed. What is computed is the same, with the same numbers: no bit depends on it.

use super::Activations;
use peft_kernels::{Aside, Backend, Result};
use peft_plan::memory::RING;

/// Streams that are in the computer's memory.
pub(super) struct Away<B: Backend> {
    slabs: Box<dyn Aside<B>>,
    count: usize,
}

impl<B: Backend> Activations<B> {
    /// How many streams, the lowest, are in the computer's memory.
    pub fn away(&self) -> usize {
        self.away.as_ref().map_or(0, |away| away.count)
    }

    /// Keep the lowest `count` streams of at most `bytes` in the computer's memory from the next pass on: before anything is
    /// allocated. As many as a ring leaves.
    pub fn put_away(&mut self, be: &B, count: usize, bytes: usize) -> Result<()> {
        let count = count.min(peft_plan::memory::most_away(self.inputs.len() - 1));
        self.away = match count {
            0 => None,
            count => Some(Away { slabs: be.aside(count, bytes)?, count }),
        };
        Ok(())
    }

    /// Which buffer holds stream `i`.
    pub(super) fn place(&self, i: usize) -> usize {
        let away = self.away();
        if i >= away { i } else { away + (i as isize - away as isize).rem_euclid(RING as isize) as usize }
    }

    /// Stream `i` is complete: it may leave.
    pub(super) fn leave(&self, i: usize) -> Result<()> {
        match &self.away {
            Some(away) if i < away.count => away.slabs.put(i, &self.inputs[self.place(i)]),
            _ => Ok(()),
        }
    }

    /// Stream `i` is written next, over one that has left.
    pub(super) fn make_way(&self, i: usize) -> Result<()> {
        match (&self.away, i.checked_sub(RING)) {
            (Some(away), Some(left)) if left < away.count => away.slabs.reuse(left),
            _ => Ok(()),
        }
    }

    /// Stream `i` is not used any more: the one that shares its buffer may come back, if it is not below `lowest`.
    pub(super) fn bring_back(&mut self, i: usize, lowest: usize) -> Result<()> {
        let Some(back) = i.checked_sub(RING).filter(|&back| back >= lowest) else { return Ok(()) };
        let place = self.place(back);
        match &self.away {
            Some(away) if back < away.count => away.slabs.fetch(back, &mut self.inputs[place]),
            _ => Ok(()),
        }
    }

    /// Stream `i` is read next.
    pub(super) fn arrive(&self, i: usize) -> Result<()> {
        match &self.away {
            Some(away) if i < away.count => away.slabs.arrive(i),
            _ => Ok(()),
        }
    }

    /// Nothing is under way any more for what comes next.
    pub(super) fn join(&self) -> Result<()> {
        self.away.as_ref().map_or(Ok(()), |away| away.slabs.join())
    }

    /// Stream `i` of the last pass with a way back; `None`: it was not kept.
    pub(super) fn stream(&self, be: &B, i: usize) -> Result<Option<Vec<f32>>> {
        let place = self.place(i);
        match &self.away {
            Some(away) if i < away.count => away.slabs.read(i, self.inputs[place].len()).map(Some),
            Some(away) if i < away.count + RING => Ok(None),
            _ => be.download(&self.inputs[place]).map(Some),
        }
    }
}
