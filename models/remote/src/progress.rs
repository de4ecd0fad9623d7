//! How far a download is: bytes, a rate that does not jump, and the time that is left.

use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The rate is that of the last so many seconds.
const WINDOW: Duration = Duration::from_secs(15);
/// No rate is told before so long and so many samples: the first ones are those of buffers.
const SETTLED: Duration = Duration::from_secs(3);
const SAMPLES: usize = 3;

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Transfer {
    /// Bytes that are here, those that were here before included.
    pub done_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Rate of the last seconds; `None` until it is stable.
    pub bytes_per_second: Option<f64>,
    /// Time that is left at this rate.
    pub eta_seconds: Option<f64>,
}

/// What a download tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What will be fetched, before anything is.
    Planned {
        /// Files in all.
        files: usize,
        /// Bytes in all.
        total_bytes: u64,
        /// Bytes that are here already.
        present_bytes: u64,
        /// Where they will be.
        directory: String,
    },
    /// Some time passed.
    Progress(Transfer),
    /// Something is waited for.
    Waiting {
        /// For how long at most.
        seconds: f64,
        /// Why.
        reason: String,
    },
    /// A file is complete and its hash is right.
    Verified {
        /// Its path in the repository.
        file: String,
        /// Its length.
        bytes: u64,
        /// It was here already.
        was_here: bool,
    },
}

/// Counts bytes and knows the rate.
pub(crate) struct Meter {
    done: u64,
    total: u64,
    /// Bytes fetched by this process.
    fetched: u64,
    samples: VecDeque<(Instant, u64)>,
    begun: Instant,
}

impl Meter {
    pub(crate) fn new(total: u64) -> Self {
        let now = Instant::now();
        Self { done: 0, total, fetched: 0, samples: VecDeque::from([(now, 0)]), begun: now }
    }

    /// Bytes that did not have to be fetched.
    pub(crate) fn found(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
    }

    /// Bytes that arrived.
    pub(crate) fn fetched(&mut self, bytes: u64) {
        self.found(bytes);
        self.fetched += bytes;
    }

    /// Bytes that turned out to be of no use.
    pub(crate) fn lost(&mut self, bytes: u64) {
        self.done = self.done.saturating_sub(bytes);
    }

    pub(crate) fn fetched_bytes(&self) -> u64 {
        self.fetched
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// How far it is at `now`.
    pub(crate) fn at(&mut self, now: Instant) -> Transfer {
        self.samples.push_back((now, self.fetched));
        while self.samples.len() > 2 && now.duration_since(self.samples[0].0) > WINDOW {
            self.samples.pop_front();
        }
        let (first, before) = self.samples[0];
        let seconds = now.duration_since(first).as_secs_f64();
        let is_settled = now.duration_since(self.begun) >= SETTLED && self.samples.len() > SAMPLES && seconds > 0.0;
        let rate = is_settled.then(|| (self.fetched - before) as f64 / seconds);
        let left = self.total.saturating_sub(self.done) as f64;
        let eta = rate.filter(|rate| *rate > 0.0).map(|rate| left / rate);
        Transfer { done_bytes: self.done, total_bytes: self.total, bytes_per_second: rate, eta_seconds: eta }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_told_once_it_is_stable_and_follows_the_last_seconds() {
        let mut meter = Meter::new(1000);
        meter.found(100);
        let start = Instant::now();
        meter.fetched(50);
        assert_eq!(meter.at(start + Duration::from_secs(1)).bytes_per_second, None);
        let mut last = None;
        for second in 2..=20 {
            meter.fetched(10);
            last = Some(meter.at(start + Duration::from_secs(second)));
        }
        let Transfer { done_bytes, bytes_per_second, eta_seconds, .. } = last.expect("told");
        assert_eq!(done_bytes, 340);
        let rate = bytes_per_second.expect("stable");
        assert!((rate - 10.0).abs() < 1.0, "{rate}");
        assert!((eta_seconds.expect("stable") - 66.0).abs() < 8.0);
        meter.lost(340);
        assert_eq!(meter.at(start + Duration::from_secs(21)).done_bytes, 0);
    }
}
