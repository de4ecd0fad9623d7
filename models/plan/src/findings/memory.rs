//! The memory is nearly used up (S4.6.3, S4.2.4).
//!
//! Of the memory that the run could have, what it holds and what is still free, at most the share
//! `guards.memory_limit_fraction` may be in use (0.9 in the requirement). What other programs take counts, because it
//! is no longer free; a small run on a busy machine is not disturbed, because shrinking it would free nothing.

use super::{Finding, FindingKind};
use serde::{Deserialize, Serialize};

/// The memory at one moment, bytes; zeros where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReading {
    /// What this process holds.
    pub resident: u64,
    /// What could still be had.
    pub available: u64,
}

/// Watches the memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryPressure {
    quiet_until: u64,
}

/// Steps between two reductions: the first must show what it freed.
const PATIENCE: u64 = 10;

impl MemoryPressure {
    /// A reading at `step`; `fraction` may be used.
    pub fn observe(&mut self, step: u64, reading: MemoryReading, fraction: f64) -> Option<Finding> {
        let MemoryReading { resident, available } = reading;
        let limit = (resident.saturating_add(available)) as f64 * fraction;
        if resident == 0 || step < self.quiet_until || resident as f64 <= limit {
            return None;
        }
        self.quiet_until = step + PATIENCE;
        let mebibytes = |bytes: u64| bytes >> 20;
        let message = format!(
            "The memory is nearly full: the run holds {} MiB and only {} MiB are free, more than {:.0} % of what it could have",
            mebibytes(resident),
            mebibytes(available),
            100.0 * fraction
        );
        Some(
            Finding::new(FindingKind::MemoryPressure, "PS-MEM-003", step, message)
                .since(step)
                .with("resident_bytes", resident as f64)
                .with("available_bytes", available as f64)
                .with("memory_limit_fraction", fraction),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_counts_is_of_what_the_run_could_have_s4_6_3() {
        let mut watch = MemoryPressure::default();
        let reading = |resident, available| MemoryReading { resident, available };
        assert_eq!(watch.observe(1, reading(100, 900), 0.9), None, "a tenth");
        assert_eq!(watch.observe(2, reading(899, 101), 0.9), None, "just below");
        let found = watch.observe(3, reading(901, 99), 0.9).expect("just above");
        assert_eq!((found.code, found.step), ("PS-MEM-003", 3));
        assert_eq!(watch.observe(4, reading(990, 1), 0.9), None, "what was done must show first");
        assert!(watch.observe(13, reading(990, 1), 0.9).is_some());
        assert_eq!(watch.observe(40, reading(0, 0), 0.9), None, "the system does not say");
    }
}
