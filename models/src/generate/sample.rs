//! From logits to a token, in the order of operations of transformers: penalties, temperature, top-k, top-p, min-p.

use peft_plan::order::SplitMix;
use peft_plan::{Fault, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How a token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0: always the most likely token.
    pub temperature: f32,
    /// Only so many of the most likely tokens; 0: all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability (Holtzman et al. 2020); 1: all.
    pub top_p: f32,
    /// Only tokens at least this likely relative to the most likely one (Nguyen et al. 2024); 0: all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of every token that was read or written (Keskar et al. 2019);
    /// 1: none.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of every token that was written.
    pub presence_penalty: f32,
    /// Subtracted once for each time that a token was written.
    pub frequency_penalty: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// PS-CFG-001 for a value that means nothing.
    pub fn check(&self) -> Result<()> {
        let allowed = [
            ("temperature", self.temperature, 0.0..=100.0, "0 (always the likeliest word) to 100"),
            ("top_p", self.top_p, f32::MIN_POSITIVE..=1.0, "above 0 and at most 1"),
            ("min_p", self.min_p, 0.0..=1.0, "0 to 1"),
            ("repetition_penalty", self.repetition_penalty, 1e-3..=1000.0, "0.001 to 1000; 1 changes nothing"),
            ("presence_penalty", self.presence_penalty, -100.0..=100.0, "-100 to 100"),
            ("frequency_penalty", self.frequency_penalty, -100.0..=100.0, "-100 to 100"),
        ];
        for (name, value, range, words) in allowed {
            if !range.contains(&value) {
                return Err(Fault::new("PS-CFG-001", format!("`{name}` is {value}; it can be {words}")));
            }
        }
        Ok(())
    }

    #[expect(clippy::float_cmp, reason = "exactly the values that change nothing")]
    fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// What penalties look at: the tokens that were read, and how often each was written.
#[derive(Clone, Debug, Default)]
pub struct History {
    read: BTreeSet<u32>,
    written: BTreeMap<u32, u32>,
}

impl History {
    /// At the beginning of an answer to `prompt`.
    pub fn new(prompt: &[u32]) -> Self {
        Self { read: prompt.iter().copied().collect(), written: BTreeMap::new() }
    }

    /// `token` was written.
    pub fn push(&mut self, token: u32) {
        *self.written.entry(token).or_default() += 1;
    }
}

/// Lower the logits of what was said before.
pub fn penalize(logits: &mut [f32], sampling: &Sampling, history: &History) {
    if !sampling.has_penalties() {
        return;
    }
    let also_read = history.read.iter().filter(|token| !history.written.contains_key(token));
    for &token in also_read.chain(history.written.keys()) {
        if let Some(z) = logits.get_mut(token as usize) {
            *z = if *z < 0.0 { *z * sampling.repetition_penalty } else { *z / sampling.repetition_penalty };
        }
    }
    for (&token, &count) in &history.written {
        if let Some(z) = logits.get_mut(token as usize) {
            *z -= sampling.frequency_penalty * count as f32 + sampling.presence_penalty;
        }
    }
}

/// The tokens that may still be drawn, with weights that need not add up to 1. Empty where nothing is finite.
pub fn candidates(logits: &[f32], sampling: &Sampling) -> Vec<(f64, u32)> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !top.is_finite() {
        return Vec::new();
    }
    let temperature = f64::from(sampling.temperature);
    let weight = |z: f32| (f64::from(z - top) / temperature).exp();
    let mut kept: Vec<(f64, u32)> = logits
        .iter()
        .enumerate()
        .filter(|(_, z)| z.is_finite())
        .map(|(i, &z)| (weight(z), i as u32))
        .filter(|&(w, _)| w > 0.0)
        .collect();
    let descending = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if (1..kept.len()).contains(&sampling.top_k) {
        let (_, last, _) = kept.select_nth_unstable_by(sampling.top_k - 1, descending);
        // Whatever is as likely as the last one stays too.
        let floor = last.0;
        kept.retain(|&(w, _)| w >= floor);
    }
    if sampling.top_p < 1.0 {
        let total: f64 = kept.iter().map(|c| c.0).sum();
        nucleus(&mut kept, total * f64::from(sampling.top_p), descending);
    }
    // The largest weight is 1.
    kept.retain(|&(w, _)| w >= f64::from(sampling.min_p));
    kept
}

/// Keep the most likely tokens until they weigh `enough`. Sorting a whole vocabulary is rarely needed.
fn nucleus(
    kept: &mut Vec<(f64, u32)>,
    enough: f64,
    descending: impl Fn(&(f64, u32), &(f64, u32)) -> std::cmp::Ordering + Copy,
) {
    let mut sorted = 0;
    let mut mass = 0.0;
    let mut some = 64;
    while sorted < kept.len() {
        let rest = &mut kept[sorted..];
        let n = some.min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable_by(n, descending);
        }
        rest[..n].sort_unstable_by(descending);
        for (i, (w, _)) in rest[..n].iter().enumerate() {
            mass += w;
            if mass >= enough {
                kept.truncate(sorted + i + 1);
                return;
            }
        }
        sorted += n;
        some *= 8;
    }
}

/// Choose token number `index` of an answer from logits that were penalised already. The draw depends on seed and
/// index alone, so an answer does not depend on what is decoded beside it.
pub fn choose(logits: &[f32], sampling: &Sampling, index: usize) -> u32 {
    if sampling.temperature <= 0.0 {
        return greedy(logits);
    }
    let mut candidates = candidates(logits, sampling);
    let Some(&(_, any)) = candidates.first() else { return greedy(logits) };
    candidates.sort_unstable_by_key(|c| c.1);
    let total: f64 = candidates.iter().map(|c| c.0).sum();
    let mut left = SplitMix::new(sampling.seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)).unit() * total;
    for &(w, token) in &candidates {
        left -= w;
        if left < 0.0 {
            return token;
        }
    }
    candidates.last().map_or(any, |c| c.1)
}

/// The first of the largest logits, whatever else is no number. By lanes: vocabularies are long.
fn greedy(logits: &[f32]) -> u32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (runs, rest) = logits.as_chunks::<16>();
    for run in runs {
        for (lane, &z) in lanes.iter_mut().zip(run) {
            *lane = if z > *lane { z } else { *lane };
        }
    }
    let top = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |top, &z| if z > top { z } else { top });
    logits.iter().position(|&z| z >= top).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_temperature_takes_the_largest() {
        assert_eq!(choose(&[0.0, 3.0, 1.0], &Sampling::default(), 0), 1);
        // Of equals the first, wherever it is among the lanes.
        for at in 0..40 {
            let mut logits = vec![-5.0; 41];
            (logits[at], logits[40]) = (2.0, 2.0);
            assert_eq!(choose(&logits, &Sampling::default(), 0), at as u32);
        }
    }

    #[test]
    fn a_small_nucleus_is_greedy() {
        let s = Sampling { temperature: 1.0, top_p: 0.01, seed: 3, ..Sampling::default() };
        assert!((0..50).all(|i| choose(&[0.0, 3.0, 1.0], &s, i) == 1));
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0_f32, (2.0_f32).ln(), (5.0_f32).ln()];
        let s = Sampling { temperature: 1.0, seed: 9, ..Sampling::default() };
        let mut counts = [0; 3];
        for i in 0..8000 {
            counts[choose(&logits, &s, i) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([1000, 2000, 5000]) {
            assert!((*count as i64 - expected as i64).abs() < 200, "{counts:?}");
        }
    }

    #[test]
    fn a_wide_nucleus_equals_that_of_a_whole_sort() {
        let mut random = SplitMix::new(5);
        let logits: Vec<f32> = (0..5000).map(|_| random.unit() as f32 * 3.0).collect();
        for top_p in [0.05, 0.3, 0.77, 0.999_9] {
            let s = Sampling { temperature: 0.8, top_p, ..Sampling::default() };
            let mut some: Vec<u32> = candidates(&logits, &s).iter().map(|c| c.1).collect();
            let mut all = candidates(&logits, &Sampling { top_p: 1.0, ..s });
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let total: f64 = all.iter().map(|c| c.0).sum();
            let mut mass = 0.0;
            let before = all.iter().take_while(|c| {
                let is_in = mass < total * f64::from(top_p);
                mass += c.0;
                is_in
            });
            let mut expected: Vec<u32> = before.map(|c| c.1).collect();
            some.sort_unstable();
            expected.sort_unstable();
            // Sums in another order may differ in the last digit, and with it the last token.
            assert!(some.len().abs_diff(expected.len()) <= 1, "{} {}", some.len(), expected.len());
        }
    }

    #[test]
    fn logits_that_are_not_numbers_never_panic() {
        let s = Sampling { temperature: 1.0, top_k: 2, top_p: 0.5, min_p: 0.1, ..Sampling::default() };
        for logits in [vec![f32::NAN; 4], vec![f32::NEG_INFINITY; 4], vec![f32::NAN, 1.0, f32::INFINITY, 0.0]] {
            assert!((choose(&logits, &s, 0) as usize) < logits.len());
        }
        assert_eq!(choose(&[f32::NAN, 1.0, 2.0], &s, 0), 2);
    }

    #[test]
    fn impossible_settings_are_named() {
        let good = Sampling::default();
        good.check().expect("possible");
        let bad = [
            ("temperature", Sampling { temperature: f32::NAN, ..good }),
            ("temperature", Sampling { temperature: -1.0, ..good }),
            ("top_p", Sampling { top_p: 0.0, ..good }),
            ("top_p", Sampling { top_p: f32::NAN, ..good }),
            ("min_p", Sampling { min_p: 1.5, ..good }),
            ("repetition_penalty", Sampling { repetition_penalty: 0.0, ..good }),
            ("presence_penalty", Sampling { presence_penalty: f32::INFINITY, ..good }),
        ];
        for (name, sampling) in bad {
            let fault = sampling.check().expect_err(name);
            assert!(fault.code == "PS-CFG-001" && fault.detail.contains(name), "{}", fault.detail);
        }
    }
}
