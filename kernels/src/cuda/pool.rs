//! Memory that was given back and waits for its next use: asking a driver takes longer than most kernels run.
//!
//! Everything runs in the order it was launched, so that a piece may be handed on while kernels that use it are still
//! under way.

use std::collections::{BTreeMap, HashMap};

/// Sizes are multiples of this, up to [`LARGE`].
const SMALL_STEP: usize = 512;
/// From this size on they are multiples of [`LARGE_STEP`].
const LARGE: usize = 1 << 20;
const LARGE_STEP: usize = 2 << 20;

/// Pieces by address, used and free.
#[derive(Default)]
pub(super) struct Pool {
    /// Size of every piece, used or free.
    sizes: HashMap<u64, usize>,
    free: BTreeMap<usize, Vec<u64>>,
}

/// What is asked of the driver for `bytes`.
pub(super) fn rounded(bytes: usize) -> usize {
    let step = if bytes <= LARGE { SMALL_STEP } else { LARGE_STEP };
    bytes.max(1).checked_next_multiple_of(step).unwrap_or(usize::MAX)
}

impl Pool {
    /// A free piece for `bytes` that is at most a quarter larger.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u64> {
        let size = rounded(bytes);
        let (&found, pieces) = self.free.range_mut(size..=size.saturating_add(size / 4)).next()?;
        let address = pieces.pop();
        if pieces.is_empty() {
            self.free.remove(&found);
        }
        address
    }

    /// A piece of `size` that the driver gave, in use.
    pub(super) fn add(&mut self, address: u64, size: usize) {
        self.sizes.insert(address, size);
    }

    /// Its user has done with it. `false`: it is no piece of this.
    pub(super) fn put(&mut self, address: u64) -> bool {
        let Some(&size) = self.sizes.get(&address) else { return false };
        self.free.entry(size).or_default().push(address);
        true
    }

    /// All free pieces, which this no longer has.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        let all: Vec<u64> = std::mem::take(&mut self.free).into_values().flatten().collect();
        for address in &all {
            self.sizes.remove(address);
        }
        all
    }

    /// Bytes that the driver gave, used and free.
    pub(super) fn held(&self) -> usize {
        self.sizes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_used_again_where_it_fits_and_wastes_little() {
        let mut pool = Pool::default();
        pool.add(4096, rounded(1000));
        assert!(pool.take(1000).is_none(), "it is in use");
        assert!(pool.put(4096));
        assert_eq!(pool.take(400), None, "half of it would be wasted");
        assert_eq!(pool.take(1024), Some(4096));
        assert!(pool.put(4096));
        assert_eq!(pool.take(513), Some(4096), "what is not given to two users at once");
        assert_eq!(pool.take(513), None);
    }

    #[test]
    fn what_was_not_given_is_not_taken_back_and_what_is_drained_is_gone() {
        let mut pool = Pool::default();
        assert!(!pool.put(512));
        pool.add(512, rounded(3 << 20));
        pool.add(8 << 20, rounded(1));
        assert_eq!(pool.held(), (4 << 20) + 512);
        assert!(pool.put(512));
        assert_eq!(pool.drain(), [512]);
        assert_eq!((pool.take(3 << 20), pool.held()), (None, 512));
        assert!(!pool.put(512), "its address may belong to somebody else by now");
    }

    #[test]
    fn a_size_beyond_all_memory_stays_one() {
        assert_eq!(rounded(usize::MAX), usize::MAX);
        assert_eq!(rounded(0), SMALL_STEP);
    }
}
