//! Pieces of a few large blocks of memory: asking a driver takes longer than most kernels run.
//!
//! A training run asks for its blocks once, before its first step, and finds every piece of every step in them. Pieces
//! come from the smallest gap that holds them; small ones from its end and large ones from its beginning, so that a list
//! of numbers that stays does not lie in the way of the next large piece.
//!
//! Everything runs in the order it was launched, so that a piece may be handed on while kernels that use it are still
//! under way.

use std::collections::{BTreeMap, HashMap};

/// Every piece begins at a multiple of this.
const STEP: usize = 512;
/// Pieces below this size lie at the end of a gap.
const SMALL: usize = 64 << 10;
/// What is asked of a driver where a small piece finds no gap.
const BLOCK: usize = 2 << 20;

/// A block that the driver gave.
struct Block {
    bytes: usize,
    /// Gaps: where each begins, counted from the beginning of the block, and its size. No two touch.
    gaps: BTreeMap<usize, usize>,
}

/// All blocks, and who has what of them.
#[derive(Default)]
pub(super) struct Arena {
    blocks: BTreeMap<u64, Block>,
    /// Of each piece in use: its block and its size.
    pieces: HashMap<u64, (u64, usize)>,
    used: usize,
    peak: usize,
}

/// The size of a piece for `bytes`.
pub(super) fn rounded(bytes: usize) -> usize {
    bytes.max(1).checked_next_multiple_of(STEP).unwrap_or(usize::MAX)
}

/// What to ask of the driver where `bytes` find no gap.
pub(super) fn block_for(bytes: usize) -> usize {
    let size = rounded(bytes);
    if size < SMALL { BLOCK } else { size }
}

impl Arena {
    /// A piece for `bytes` from a gap; `None`: there is no gap that is large enough.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u64> {
        let size = rounded(bytes);
        let gaps =
            self.blocks.iter().flat_map(|(&base, block)| block.gaps.iter().map(move |(&at, &len)| (len, base, at)));
        let (len, base, at) = gaps.filter(|&(len, ..)| len >= size).min()?;
        let block = self.blocks.get_mut(&base)?;
        let left = len - size;
        block.gaps.remove(&at);
        let piece = if size < SMALL { at + left } else { at };
        if left > 0 {
            block.gaps.insert(if size < SMALL { at } else { at + size }, left);
        }
        let address = base + piece as u64;
        self.pieces.insert(address, (base, size));
        self.used += size;
        self.peak = self.peak.max(self.used);
        Some(address)
    }

    /// A block of `bytes` that the driver gave, all of it a gap.
    pub(super) fn add(&mut self, base: u64, bytes: usize) {
        self.blocks.insert(base, Block { bytes, gaps: BTreeMap::from([(0, bytes)]) });
    }

    /// The user of this piece has done with it. `false`: it is no piece of this.
    pub(super) fn put(&mut self, address: u64) -> bool {
        let Some((base, mut size)) = self.pieces.remove(&address) else { return false };
        self.used -= size;
        let Some(block) = self.blocks.get_mut(&base) else { return false };
        let mut at = (address - base) as usize;
        if let Some(after) = block.gaps.remove(&(at + size)) {
            size += after;
        }
        if let Some((&before, &len)) = block.gaps.range(..at).next_back()
            && before + len == at
        {
            (at, size) = (before, size + len);
        }
        block.gaps.insert(at, size);
        true
    }

    /// All blocks that nobody uses anything of; this no longer has them.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        let is_unused = |block: &Block| block.gaps.get(&0) == Some(&block.bytes);
        let unused: Vec<u64> =
            self.blocks.iter().filter(|(_, block)| is_unused(block)).map(|(&base, _)| base).collect();
        for base in &unused {
            self.blocks.remove(base);
        }
        unused
    }

    /// Bytes that the driver gave.
    pub(super) fn held(&self) -> usize {
        self.blocks.values().map(|block| block.bytes).sum()
    }

    /// Bytes of pieces in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The most that was in use at a time.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 1 << 40;

    fn arena(bytes: usize) -> Arena {
        let mut arena = Arena::default();
        arena.add(BASE, bytes);
        arena
    }

    #[test]
    fn small_pieces_lie_at_the_end_and_large_ones_at_the_beginning() {
        let mut arena = arena(1 << 20);
        assert_eq!(arena.take(SMALL), Some(BASE));
        assert_eq!(arena.take(100), Some(BASE + (1 << 20) - 512));
        assert_eq!(arena.take(1 << 19), Some(BASE + SMALL as u64));
        assert!(arena.put(BASE));
        assert_eq!(arena.take(513), Some(BASE + SMALL as u64 - 1024), "the smallest gap that holds it");
        assert_eq!((arena.used(), arena.peak()), ((1 << 19) + 512 + 1024, (1 << 19) + 512 + SMALL));
    }

    #[test]
    fn what_was_not_given_is_not_taken_back_and_what_is_drained_is_gone() {
        let mut arena = arena(4096);
        assert!(!arena.put(512));
        let piece = arena.take(4096).expect("all of it");
        assert_eq!((arena.take(1), arena.drain().len(), arena.held()), (None, 0, 4096));
        assert!(arena.put(piece) && !arena.put(piece));
        assert_eq!(arena.drain(), [BASE]);
        assert_eq!((arena.take(1), arena.held(), arena.used()), (None, 0, 0));
    }

    #[test]
    fn a_size_beyond_all_memory_stays_one() {
        assert_eq!((rounded(usize::MAX), rounded(0)), (usize::MAX, STEP));
        assert_eq!((block_for(1), block_for(SMALL), block_for(3 << 20)), (BLOCK, SMALL, 3 << 20));
        assert_eq!(arena(1 << 20).take(usize::MAX), None);
    }

    /// Whatever is taken and given back in whatever order: pieces lie within blocks, no two share a byte, and in the
    /// end every block is one gap again.
    #[test]
    fn pieces_never_overlap_and_gaps_close_again() {
        let mut numbers = 0x5EED_u64;
        let mut draw = |below: usize| {
            numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (numbers >> 33) as usize % below
        };
        for _ in 0..40 {
            let mut arena = arena(1 << 20);
            arena.add(BASE + (1 << 20), 1 << 18);
            let mut taken: Vec<(u64, usize)> = Vec::new();
            for _ in 0..300 {
                if draw(5) < 2 && !taken.is_empty() {
                    let (address, _) = taken.swap_remove(draw(taken.len()));
                    assert!(arena.put(address));
                    continue;
                }
                let most = if draw(2) == 0 { 3000 } else { 200_000 };
                let bytes = 1 + draw(most);
                let Some(address) = arena.take(bytes) else { continue };
                let end = address + rounded(bytes) as u64;
                let border = BASE + (1 << 20);
                assert!(address >= BASE && end <= border + (1 << 18) && (end <= border || address >= border));
                assert!(address.is_multiple_of(STEP as u64));
                assert!(taken.iter().all(|&(other, size)| end <= other || address >= other + size as u64));
                taken.push((address, rounded(bytes)));
            }
            assert_eq!(arena.used(), taken.iter().map(|(_, size)| size).sum::<usize>());
            assert!(taken.iter().all(|&(address, _)| arena.put(address)));
            assert_eq!((arena.used(), arena.drain().len(), arena.held()), (0, 2, 0));
        }
    }
}
