//! How much of a card's memory graphs of launches may take, and whether they keep to it.
//!
//! What a driver keeps for a kernel of a graph is an assumption ([`kernel_bytes`]), on which a plan counts. So what the
//! driver says is free is read before and after a graph is made: where it falls by more than what was set aside, or where
//! there is little left, no more graphs are made than there are, and other launches are made one by one.

/// Bytes that graphs may take together where no plan says how many.
const UNPLANNED: usize = 64 << 20;
/// From this version of CUDA on a driver is taken to keep little.
const SMALL_FROM: i32 = 12_040;

/// Bytes of the card that a driver of this version of CUDA, as in 12040, is taken to keep for a kernel of a graph. An
/// assumption, not measured on a card: 64 KiB up to 12.3, as is told of the graphs of other programs, and since then room
/// for what describes a launch and its arguments.
pub(super) fn kernel_bytes(version: i32) -> usize {
    if version < SMALL_FROM { 64 << 10 } else { 1 << 10 }
}

/// What graphs may take, and what they took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes that a kernel is taken to need.
    kernel_bytes: usize,
    /// Bytes that are set aside.
    bytes: usize,
    /// Kernels that graphs may have at a time.
    most: usize,
    /// The most that they had at a time. A driver that keeps what a graph had gives it to the next one, and one that does
    /// not has it again: with no more kernels than that, no more is taken.
    peak: usize,
    /// Bytes that what is free fell by until there were so many.
    taken: usize,
}

impl Room {
    pub(super) fn new(kernel_bytes: usize, bytes: Option<usize>) -> Self {
        let bytes = bytes.unwrap_or(UNPLANNED);
        Self { kernel_bytes, bytes, most: bytes / kernel_bytes.max(1), peak: 0, taken: 0 }
    }

    /// The same for other work, where there is no graph any more.
    pub(super) fn anew(&self, bytes: Option<usize>) -> Self {
        Self::new(self.kernel_bytes, bytes)
    }

    /// Whether graphs of so many kernels in all are not too many.
    pub(super) fn holds(&self, kernels: usize) -> bool {
        kernels <= self.most
    }

    /// Whether a graph of `kernels` fits into what is free beside what is left to the driver, by what is assumed. Where it
    /// does not, there will be no more graphs than there were.
    pub(super) fn fits(&mut self, kernels: usize, free: usize, reserve: usize) -> bool {
        let fits = free.saturating_sub(reserve) >= kernels * self.kernel_bytes;
        if !fits {
            self.most = self.peak;
        }
        fits
    }

    /// With a graph that was made there are so many kernels, and what was free before is `after` now. Whether it may stay;
    /// if not, there will be no more graphs than there were.
    pub(super) fn keeps(&mut self, kernels: usize, before: usize, after: usize) -> bool {
        if kernels <= self.peak {
            return true;
        }
        self.taken += before.saturating_sub(after);
        if self.taken > self.bytes {
            self.most = self.peak;
            return false;
        }
        self.peak = kernels;
        true
    }

    /// The driver had no memory for one more.
    pub(super) fn close(&mut self) {
        self.most = self.peak;
    }

    /// Bytes that are taken, of those that are set aside.
    pub(super) fn taken(&self) -> usize {
        self.taken.min(self.bytes)
    }

    /// Why not all launches that come again are graphs; `None`: nothing is in their way but what was set aside.
    pub(super) fn shortage(&self) -> Option<String> {
        (self.most < self.bytes / self.kernel_bytes.max(1)).then(|| {
            let why = if self.taken > self.bytes {
                format!("they took {} bytes of the card, and {} were set aside", self.taken, self.bytes)
            } else {
                "the card has no memory for more".to_owned()
            };
            format!("no more than {} kernels are kept in graphs: {why}", self.most)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_of_a_graph_takes_less_where_the_driver_is_newer() {
        assert_eq!([12_000, 12_030, 12_040, 13_000].map(kernel_bytes), [64 << 10, 64 << 10, 1 << 10, 1 << 10]);
    }

    #[test]
    fn no_more_kernels_are_held_than_were_set_aside_for() {
        let room = Room::new(1000, Some(10_500));
        assert!(room.holds(10) && !room.holds(11));
        assert!(Room::new(64 << 10, None).holds(1024) && !Room::new(64 << 10, None).holds(1025));
        assert!(!Room::new(1000, Some(0)).holds(1) && Room::new(0, Some(5)).holds(5));
    }

    /// A driver that takes memory in large pieces, and four times what was assumed.
    #[test]
    fn graphs_end_where_they_take_more_than_was_set_aside() {
        let mut room = Room::new(1000, Some(10_000));
        assert!(room.keeps(2, 1_000_000, 992_000), "the first piece");
        assert!(room.keeps(4, 992_000, 992_000) && room.taken() == 8000 && room.shortage().is_none());
        assert!(!room.keeps(5, 992_000, 984_000), "a second piece is too many");
        assert!(room.holds(4) && !room.holds(5) && room.taken() == 10_000);
        let told = room.shortage().expect("there is one");
        assert!(
            told.contains("than 4 kernels") && told.contains("16000 bytes") && told.contains("10000 were"),
            "{told}"
        );
        // One that goes, and another one in its place, take nothing new.
        assert!(room.holds(4) && room.keeps(4, 984_000, 980_000) && room.taken() == 10_000);
        let again = room.anew(Some(20_000));
        assert!(again.holds(20) && again.taken() == 0 && again.shortage().is_none());
    }

    #[test]
    fn graphs_are_made_as_long_as_there_is_memory_beside_what_is_left_to_the_driver() {
        let mut room = Room::new(1000, Some(100_000));
        assert!(room.fits(5, 8000, 3000) && room.keeps(5, 8000, 3000));
        assert!(!room.fits(5, 7999, 3000));
        assert!(room.holds(5) && !room.holds(6));
        assert!(room.shortage().is_some_and(|told| told.contains("no memory for more")));
        let mut room = Room::new(1000, Some(100_000));
        room.close();
        assert!(!room.holds(1) && room.shortage().is_some());
    }
}
