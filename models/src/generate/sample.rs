//! From logits to a token, in the order of operations of transformers: penalties, temperature, top-k, top-p, min-p.

use peft_kernels::largest::{LARGEST, Penalties};
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

    /// Whether the largest logits may decide what is chosen.
    pub(super) fn is_narrow(&self) -> bool {
        let by_likelihood = self.top_k == 0 && self.top_p >= 1.0 && self.min_p > 0.0;
        self.temperature <= 0.0 || (1..LARGEST).contains(&self.top_k) || by_likelihood
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

/// How logits of a vocabulary of so many are lowered for what was said before.
pub(super) fn penalties(sampling: &Sampling, history: &History, vocabulary: usize) -> Penalties {
    if !sampling.has_penalties() {
        return Penalties::default();
    }
    let also_read = history.read.iter().filter(|token| !history.written.contains_key(token)).map(|&token| (token, 0));
    let written = history.written.iter().map(|(&token, &count)| (token, count));
    let (tokens, written) = also_read.chain(written).filter(|&(token, _)| (token as usize) < vocabulary).unzip();
    Penalties {
        tokens,
        written,
        repetition: sampling.repetition_penalty,
        presence: sampling.presence_penalty,
        frequency: sampling.frequency_penalty,
    }
}

/// Lower the logits of what was said before.
pub fn penalize(logits: &mut [f32], sampling: &Sampling, history: &History) {
    penalties(sampling, history, logits.len()).lower(logits);
}

/// The tokens that may still be drawn, with weights that need not add up to 1. Empty where nothing is finite.
pub fn candidates(logits: &[f32], sampling: &Sampling) -> Vec<(f64, u32)> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !top.is_finite() {
        return Vec::new();
    }
    narrowed(weights((0..).zip(logits.iter().copied()), top, sampling), sampling)
}

/// Weights of the tokens whose logits are numbers; that of `top` is 1.
fn weights(logits: impl Iterator<Item = (u32, f32)>, top: f32, sampling: &Sampling) -> Vec<(f64, u32)> {
    let temperature = f64::from(sampling.temperature);
    let weight = |z: f32| (f64::from(z - top) / temperature).exp();
    let weighed = logits.filter(|(_, z)| z.is_finite()).map(|(token, z)| (weight(z), token));
    weighed.filter(|&(w, _)| w > 0.0).collect()
}

/// The more likely first, of equals the one that comes first.
fn descending(a: &(f64, u32), b: &(f64, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Those that may be drawn of `kept`, which are in the order of the vocabulary.
fn narrowed(mut kept: Vec<(f64, u32)>, sampling: &Sampling) -> Vec<(f64, u32)> {
    if (1..kept.len()).contains(&sampling.top_k) {
        let (_, last, _) = kept.select_nth_unstable_by(sampling.top_k - 1, descending);
        // Whatever is as likely as the last one stays too.
        let floor = last.0;
        kept.retain(|&(w, _)| w >= floor);
        // In an order that does not depend on those that are gone: sums are made of them.
        kept.sort_unstable_by(descending);
    }
    if sampling.top_p < 1.0 {
        let total: f64 = kept.iter().map(|c| c.0).sum();
        nucleus(&mut kept, total * f64::from(sampling.top_p));
    }
    // The largest weight is 1.
    kept.retain(|&(w, _)| w >= f64::from(sampling.min_p));
    kept
}

/// Keep the most likely tokens until they weigh `enough`. Sorting a whole vocabulary is rarely needed.
fn nucleus(kept: &mut Vec<(f64, u32)>, enough: f64) {
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
    draw(candidates(logits, sampling), sampling, index).unwrap_or_else(|| greedy(logits))
}

/// The same from the largest logits of a row ([`largest`](peft_kernels::largest::largest)); `None`: they do not decide
/// it, and the others must be looked at too.
pub(super) fn choose_among(largest: &[(u32, f32)], sampling: &Sampling, index: usize) -> Option<u32> {
    let &(first, top) = largest.first()?;
    if sampling.temperature <= 0.0 {
        return Some(first);
    }
    if !top.is_finite() {
        return None;
    }
    let mut kept = weights(largest.iter().copied(), top, sampling);
    // Whatever is not here weighs at most as much as the last one.
    let is_all = largest.len() < LARGEST || kept.len() < largest.len();
    let floor = if (1..kept.len()).contains(&sampling.top_k) {
        Some(kept[sampling.top_k - 1].0)
    } else {
        (sampling.top_k == 0 && sampling.top_p >= 1.0).then_some(f64::from(sampling.min_p))
    };
    if !is_all && !floor.is_some_and(|floor| kept.last().is_some_and(|last| last.0 < floor)) {
        return None;
    }
    kept.sort_unstable_by_key(|c| c.1);
    draw(narrowed(kept, sampling), sampling, index)
}

/// One of `candidates` by its weight; `None` where there is none.
fn draw(mut candidates: Vec<(f64, u32)>, sampling: &Sampling, index: usize) -> Option<u32> {
    candidates.sort_unstable_by_key(|c| c.1);
    let total: f64 = candidates.iter().map(|c| c.0).sum();
    let mut left = SplitMix::new(sampling.seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)).unit() * total;
    for &(w, token) in &candidates {
        left -= w;
        if left < 0.0 {
            return Some(token);
        }
    }
    candidates.last().map(|c| c.1)
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

    /// Where the largest logits decide, they decide what all of them do; they must, wherever that is possible.
    #[test]
    fn the_largest_logits_choose_what_all_of_them_choose() {
        let mut random = SplitMix::new(11);
        let plain = Sampling { temperature: 0.7, seed: 5, ..Sampling::default() };
        let narrow = [
            Sampling::default(),
            Sampling { top_k: 1, ..plain },
            Sampling { top_k: 40, top_p: 0.9, ..plain },
            Sampling { top_k: 50, min_p: 0.02, ..plain },
            Sampling { min_p: 0.9, ..plain },
        ];
        for (sampling, size) in narrow.into_iter().flat_map(|s| [5, 64, 3000].map(|size| (s, size))) {
            assert!(sampling.is_narrow());
            let mut decided = 0;
            for index in 0..40 {
                // Some are equal, some no numbers.
                let number = |_| ((random.unit() * 4000.0).floor() as f32 / 400.0, random.unit());
                let logits: Vec<f32> =
                    (0..size).map(number).map(|(z, u)| if u < 0.01 { f32::NAN } else { z }).collect();
                let among = choose_among(&peft_kernels::largest::largest(&logits), &sampling, index);
                assert!(among.is_none_or(|token| token == choose(&logits, &sampling, index)), "{sampling:?} {index}");
                decided += usize::from(among.is_some());
            }
            assert!(decided > 30, "{sampling:?}, {size}: {decided}");
        }
        // Among more than are known, neither equals of the last nor a whole nucleus can be judged.
        let flat = peft_kernels::largest::largest(&[1.0; 200]);
        for sampling in [Sampling { top_k: 40, ..plain }, Sampling { top_p: 0.9, ..plain }, plain] {
            assert_eq!(choose_among(&flat, &sampling, 0), None, "{sampling:?}");
        }
        assert_eq!(choose_among(&[], &plain, 0), None);
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
