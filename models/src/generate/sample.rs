//! From logits to a token.

use peft_plan::order::SplitMix;

/// How a token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0: always the most likely token.
    pub temperature: f32,
    /// Only the most likely tokens that together have this probability (Holtzman et al. 2020); 1: all.
    pub top_p: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, seed: 0 }
    }
}

/// Choose token number `index` of an answer. The draw depends on seed and index alone, so an answer does not
/// depend on what is decoded beside it.
pub fn choose(logits: &[f32], sampling: &Sampling, index: usize) -> u32 {
    let greedy = || {
        let mut best = 0;
        for (i, &z) in logits.iter().enumerate() {
            if z > logits[best] || logits[best].is_nan() {
                best = i;
            }
        }
        best as u32
    };
    if sampling.temperature <= 0.0 {
        return greedy();
    }
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |z: f32| (f64::from(z - top) / f64::from(sampling.temperature)).exp();
    let mut candidates: Vec<(f64, u32)> = logits
        .iter()
        .enumerate()
        .map(|(i, &z)| (weight(z), i as u32))
        // Anything below e⁻²⁰ of the best cannot matter to a nucleus and only costs sorting.
        .filter(|&(w, _)| w > 2e-9)
        .collect();
    if candidates.is_empty() {
        return greedy();
    }
    candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let total: f64 = candidates.iter().map(|c| c.0).sum();
    let mut kept = 0.0;
    let mut n = 0;
    for (w, _) in &candidates {
        kept += w;
        n += 1;
        if kept >= total * f64::from(sampling.top_p) {
            break;
        }
    }
    let mut left = SplitMix::new(sampling.seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)).unit() * kept;
    for &(w, token) in &candidates[..n] {
        left -= w;
        if left < 0.0 {
            return token;
        }
    }
    candidates[n - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_temperature_takes_the_largest() {
        assert_eq!(choose(&[0.0, 3.0, 1.0], &Sampling::default(), 0), 1);
    }

    #[test]
    fn a_small_nucleus_is_greedy() {
        let s = Sampling { temperature: 1.0, top_p: 0.01, seed: 3 };
        assert!((0..50).all(|i| choose(&[0.0, 3.0, 1.0], &s, i) == 1));
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0_f32, (2.0_f32).ln(), (5.0_f32).ln()];
        let s = Sampling { temperature: 1.0, top_p: 1.0, seed: 9 };
        let mut counts = [0; 3];
        for i in 0..8000 {
            counts[choose(&logits, &s, i) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([1000, 2000, 5000]) {
            assert!((*count as i64 - expected as i64).abs() < 200, "{counts:?}");
        }
    }
}
