//! A small random generator whose numbers are the same on every machine and in every release.
//!
//! The corpus is part of the recipe of the starter model: the same seed has to give the same
//! documents for ever, so the generator is written out here (`SplitMix64`) and not taken from a
//! library that may change its stream.

/// `SplitMix64`, seeded by any number.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A generator for one purpose: `stream` separates the uses of one seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xA076_1D64_78BD_642F));
        // Two rounds part neighbouring seeds before the first number is used.
        let first = rng.next();
        rng.0 ^= first;
        rng
    }

    /// The next 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // The high word of the product: for the small `n` used here its bias is far below 1e-15.
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// One of `words`, which must not be empty.
    pub(crate) fn word<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// An index drawn in proportion to `weights`.
    pub(crate) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, &weight) in weights.iter().enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        weights.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_is_fixed_for_ever() {
        let mut rng = Rng::new(7, 3);
        let drawn: Vec<usize> = (0..8).map(|_| rng.below(1000)).collect();
        let mut again = Rng::new(7, 3);
        assert_eq!(drawn, (0..8).map(|_| again.below(1000)).collect::<Vec<_>>());
        let mut other = Rng::new(8, 3);
        assert_ne!(drawn, (0..8).map(|_| other.below(1000)).collect::<Vec<_>>());
    }

    #[test]
    fn weighted_follows_the_weights_and_never_draws_zero() {
        let mut rng = Rng::new(1, 1);
        let mut count = [0_usize; 3];
        for _ in 0..4000 {
            count[rng.weighted(&[3, 0, 1])] += 1;
        }
        assert_eq!(count[1], 0);
        assert!((2800..3200).contains(&count[0]), "{count:?}");
    }
}
