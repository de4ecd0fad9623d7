//! How much of an adapter is in a file: the share of the difference between base and tuned weights.
//!
//! Errors of quantisation point anywhere, so that over the elements of a matrix they have next to no part in the
//! direction of the adapter: the share is close to one whatever the type, and it is not where the adapter is an
//! old one, or has another scale.

/// Sums over the elements of all matrices that an adapter changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strength {
    along: f64,
    change: f64,
    error: f64,
    elements: u64,
}

impl Strength {
    /// Take in elements of the base, of the tuned model and of the file.
    pub(super) fn add(&mut self, base: &[f32], tuned: &[f32], file: &[f32]) {
        for ((base, tuned), file) in base.iter().zip(tuned).zip(file) {
            let change = f64::from(tuned - base);
            let found = f64::from(file - base);
            self.along += change * found;
            self.change += change * change;
            self.error += (found - change) * (found - change);
        }
        self.elements += base.len() as u64;
    }

    /// The share, and how far chance alone may take it from one; `None` where the adapter changes nothing.
    pub(super) fn share(&self) -> Option<(f64, f64)> {
        if self.change <= 0.0 {
            return None;
        }
        let noise = (self.error / self.elements.max(1) as f64).sqrt() / self.change.sqrt();
        Some((self.along / self.change, 0.02 + 6.0 * noise))
    }
}
