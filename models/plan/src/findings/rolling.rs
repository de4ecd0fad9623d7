//! Windows over a stream of numbers: mean, median, robust spread.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The last numbers of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    kept: VecDeque<f64>,
    capacity: usize,
}

impl Window {
    pub(super) fn new(capacity: usize) -> Self {
        Self { kept: VecDeque::new(), capacity: capacity.max(1) }
    }

    pub(super) fn push(&mut self, value: f64) {
        if self.kept.len() == self.capacity {
            self.kept.pop_front();
        }
        self.kept.push_back(value);
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// The last `n`, or all where there are fewer, the oldest first.
    pub(super) fn last(&self, n: usize) -> Vec<f64> {
        self.kept.iter().skip(self.kept.len().saturating_sub(n)).copied().collect()
    }

    /// All but the last `n`.
    pub(super) fn before(&self, n: usize) -> Vec<f64> {
        self.kept.iter().take(self.kept.len().saturating_sub(n)).copied().collect()
    }
}

/// Mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Median; 0 of nothing.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which the share `q` of all lies; 0 of nothing.
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return 0.0;
    }
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Standard deviation as the median distance from the median tells it (Hampel 1974): a few wild values do not count.
pub(super) fn spread(values: &[f64]) -> f64 {
    let middle = median(values);
    1.4826 * median(&values.iter().map(|v| (v - middle).abs()).collect::<Vec<_>>())
}

/// Noise of a series with a trend: from the differences of neighbours, whose variance is twice that of the noise.
pub(super) fn noise(values: &[f64]) -> f64 {
    let steps: Vec<f64> = values.windows(2).map(|w| (w[1] - w[0]).abs()).collect();
    1.4826 * median(&steps) / std::f64::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads_ignore_what_is_wild() {
        let values = [1.0, 2.0, 3.0, 4.0, 1e9];
        assert!((median(&values) - 3.0).abs() < 1e-12);
        assert!((spread(&values) - 1.4826).abs() < 1e-9);
        assert!((quantile(&[0.0, 10.0], 0.25) - 2.5).abs() < 1e-12);
        assert!(median(&[]).abs() < 1e-12 && noise(&[1.0]).abs() < 1e-12);
        let line: Vec<f64> = (0..50).map(f64::from).collect();
        assert!(noise(&line) < 1.1, "a trend is not noise beyond its step");
    }

    #[test]
    fn a_window_forgets_the_oldest() {
        let mut window = Window::new(3);
        for value in 0..5 {
            window.push(f64::from(value));
        }
        assert_eq!(window.last(2), [3.0, 4.0]);
        assert_eq!(window.before(1), [2.0, 3.0]);
        assert_eq!(window.len(), 3);
    }
}
