//! Ids of runs: twelve characters that sort by time and survive being read aloud.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's base 32: no i, l, o, u.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: u32 = 12;
/// 45 bits of milliseconds last until the year 3084; 15 bits are random.
const RANDOM_BITS: u32 = 15;

/// The id of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// An id that sorts after every earlier one of this process.
    pub(crate) fn generate() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64);
        let last =
            LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1))).unwrap_or(now);
        let milliseconds = now.max(last + 1);
        // The standard library's hash keys are its only source of randomness, and enough here.
        let random = RandomState::new().hash_one(milliseconds) & ((1 << RANDOM_BITS) - 1);
        Self::encode((milliseconds << RANDOM_BITS) | random)
    }

    fn encode(number: u64) -> Self {
        let digit = |place: u32| DIGITS[(number >> (5 * place)) as usize & 31] as char;
        Self((0..LENGTH).rev().map(digit).collect())
    }

    pub(crate) fn from_stored(id: String) -> Self {
        Self(id)
    }

    /// The twelve characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for RunId {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_never_repeat_within_a_process() {
        let ids: Vec<RunId> = (0..10_000).map(|_| RunId::generate()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| id.len() == 12));
        assert!(ids.iter().all(|id| id.bytes().all(|byte| DIGITS.contains(&byte))));
    }

    #[test]
    fn the_order_of_ids_is_the_order_of_numbers() {
        let numbers = [0, 1, 31, 32, 1 << 30, (1 << 60) - 1];
        let ids = numbers.map(RunId::encode);
        assert!(ids.is_sorted());
        assert_eq!(ids[5].as_str(), "zzzzzzzzzzzz");
    }
}
