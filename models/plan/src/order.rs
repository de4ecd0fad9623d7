//! Which examples make up which step: a pure function of lengths, seed and epoch.
//!
//! Nothing about the order is ever stored or drawn at run time, so a resumed run sees the same
//! batches as an uninterrupted one (B2) and there is no random state to lose.

/// What the order depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderParams {
    /// Examples (packed rows with `packing`) computed together.
    pub micro_batch_size: usize,
    /// Micro-batches a step.
    pub gradient_accumulation: usize,
    /// Tokens of a packed row.
    pub max_sequence_length: usize,
    /// Fill rows with several examples.
    pub packing: bool,
    /// Seed of the shuffles.
    pub seed: u64,
}

/// The micro-batches of one optimizer step; each is a list of example indices.
pub type StepBatches = Vec<Vec<usize>>;

/// SplitMix64 (Steele et al. 2014): small, seedable, the same everywhere.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// A stream of its own for every seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform below `n` (multiply-shift; the bias is below 2⁻³² for the sizes used here).
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A shuffled 0..n, different for every epoch (Fisher–Yates).
pub fn permutation(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut random = SplitMix::new(
        SplitMix::new(seed ^ 0x6570_6F63_6800_0000).next_u64() ^ epoch.wrapping_mul(0xD134_2543_DE82_EF95),
    );
    for i in (1..n).rev() {
        order.swap(i, random.below(i + 1));
    }
    order
}

/// The examples of an epoch, before they are shuffled: each of `count` once where `weights` is empty, otherwise
/// example `i` about `weights[i]` times.
///
/// A whole weight is drawn exactly so often in every epoch. What is left of a fraction is spread evenly: after `k`
/// epochs example `i` was drawn `k · weights[i]` times, rounded up or down, and in each epoch the examples of one weight
/// are drawn as often as their weight says, to within one draw. Which ones come first depends on the seed.
pub fn drawn(count: usize, weights: &[f64], seed: u64, epoch: u64) -> Vec<usize> {
    if weights.is_empty() {
        return (0..count).collect();
    }
    let mut drawn = Vec::with_capacity(count);
    // Each example of a weight has a phase of its own; phases are evenly spaced and dealt out by the seed.
    let phases = permutation(count, seed ^ 0x7765_6967_6874_0000, 0);
    let mut places = vec![0.0; count];
    let mut sizes: Vec<(f64, usize)> = Vec::new();
    for &weight in weights {
        match sizes.iter_mut().find(|(known, _)| known.total_cmp(&weight).is_eq()) {
            Some((_, size)) => *size += 1,
            None => sizes.push((weight, 1)),
        }
    }
    let mut next = vec![0_usize; sizes.len()];
    for &i in &phases {
        let Some(group) =
            weights.get(i).and_then(|weight| sizes.iter().position(|(known, _)| known.total_cmp(weight).is_eq()))
        else {
            continue;
        };
        places[i] = (next[group] as f64 + 0.5) / sizes[group].1 as f64;
        next[group] += 1;
    }
    for (i, (&weight, phase)) in weights.iter().zip(places).enumerate().take(count) {
        let until = |epochs: u64| (weight * epochs as f64 + phase).floor();
        let times = (until(epoch + 1) - until(epoch)) as usize;
        drawn.extend(std::iter::repeat_n(i, times));
    }
    drawn
}

/// The steps of one pass over examples of these lengths (tokens). The last step may be smaller.
pub fn epoch_steps(lengths: &[usize], params: &OrderParams, epoch: u64) -> Vec<StepBatches> {
    weighted_steps(lengths, &[], params, epoch)
}

/// The same where example `i` is drawn about `weights[i]` times; see [`drawn`].
pub fn weighted_steps(lengths: &[usize], weights: &[f64], params: &OrderParams, epoch: u64) -> Vec<StepBatches> {
    let examples = drawn(lengths.len(), weights, params.seed, epoch);
    let order = permutation(examples.len(), params.seed, epoch).into_iter().map(|at| examples[at]);
    let rows: Vec<Vec<usize>> = if params.packing {
        // Next fit in shuffled order: the fill is a few per cent below the best, the order stays random.
        let mut rows: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for i in order {
            let len = lengths[i];
            match rows.last_mut() {
                Some(row) if len <= room => {
                    row.push(i);
                    room -= len;
                }
                _ => {
                    rows.push(vec![i]);
                    room = params.max_sequence_length.saturating_sub(len);
                }
            }
        }
        rows
    } else {
        order.map(|i| vec![i]).collect()
    };
    rows.chunks((params.micro_batch_size * params.gradient_accumulation).max(1))
        .map(|step| step.chunks(params.micro_batch_size.max(1)).map(<[Vec<usize>]>::concat).collect())
        .collect()
}

/// Held-out tokens that are scored together.
pub const SCORE_TOKENS: usize = 1024;

/// Examples that are ordered to find the largest micro-batch; beyond, its upper bound is taken.
const ORDERED: usize = 400_000;

/// Most tokens of a micro-batch in the first `steps` steps over examples of these lengths.
///
/// `counted`: the tokens of each that count; the order depends on `lengths`. `weights`: how often each is drawn, as in
/// [`weighted_steps`].
pub fn widest(lengths: &[usize], counted: &[usize], weights: &[f64], params: &OrderParams, steps: u64) -> usize {
    let mut most = 0;
    let mut done = 0;
    let mut ordered = 0;
    for epoch in 0.. {
        if done >= steps || lengths.is_empty() {
            break;
        }
        ordered += lengths.len();
        if ordered > ORDERED {
            return most.max(bound(counted, params));
        }
        let all = weighted_steps(lengths, weights, params, epoch);
        let left = usize::try_from(steps - done).unwrap_or(usize::MAX);
        let of = |micro: &Vec<usize>| micro.iter().map(|&i| counted[i]).sum::<usize>();
        most = all.iter().take(left).flatten().map(of).max().unwrap_or(0).max(most);
        done += all.len() as u64;
    }
    most
}

/// What no micro-batch can be larger than.
fn bound(lengths: &[usize], params: &OrderParams) -> usize {
    if params.packing {
        return params.micro_batch_size * params.max_sequence_length.max(lengths.iter().copied().max().unwrap_or(0));
    }
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.iter().take(params.micro_batch_size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(packing: bool) -> OrderParams {
        OrderParams { micro_batch_size: 3, gradient_accumulation: 2, max_sequence_length: 50, packing, seed: 7 }
    }

    #[test]
    fn every_example_occurs_once_an_epoch() {
        let lengths: Vec<usize> = (0..97).map(|i| 1 + i % 50).collect();
        for packing in [false, true] {
            let mut seen: Vec<usize> =
                epoch_steps(&lengths, &params(packing), 3).into_iter().flatten().flatten().collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..97).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_packed_row_fits_the_sequence_length() {
        let lengths: Vec<usize> = (0..97).map(|i| 1 + i % 50).collect();
        for micro in
            epoch_steps(&lengths, &OrderParams { micro_batch_size: 1, ..params(true) }, 0).into_iter().flatten()
        {
            assert!(micro.iter().map(|&i| lengths[i]).sum::<usize>() <= 50);
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        assert_ne!(permutation(20, 1, 0), permutation(20, 1, 1));
        assert_ne!(permutation(20, 1, 0), permutation(20, 2, 0));
        assert_eq!(permutation(20, 1, 5), permutation(20, 1, 5));
    }

    #[test]
    fn the_widest_micro_batch_is_found_and_bounded_b3() {
        let lengths: Vec<usize> = (0..97).map(|i| 1 + i % 50).collect();
        for packing in [false, true] {
            let params = params(packing);
            let found = widest(&lengths, &lengths, &[], &params, 40);
            let all = (0..3).flat_map(|e| epoch_steps(&lengths, &params, e)).take(40).flatten();
            assert_eq!(all.map(|m| m.iter().map(|&i| lengths[i]).sum::<usize>()).max(), Some(found));
            assert!(found <= bound(&lengths, &params));
        }
        assert_eq!(widest(&[], &[], &[], &params(false), 5), 0);
        assert_eq!(widest(&[7, 9], &[7, 9], &[], &OrderParams { micro_batch_size: 2, ..params(false) }, 1), 16);
    }

    #[test]
    fn rows_are_drawn_as_often_as_their_weight_says_s3_8() {
        let weights: Vec<f64> = (0..300).map(|i| [1.0, 2.0, 0.3][i / 100]).collect();
        let mut totals = vec![0_usize; 300];
        for epoch in 0..10 {
            let drawn = drawn(300, &weights, 7, epoch);
            let count = |range: std::ops::Range<usize>| drawn.iter().filter(|i| range.contains(i)).count();
            assert_eq!((count(0..100), count(100..200)), (100, 200), "whole weights are exact in every epoch");
            assert!(count(200..300).abs_diff(30) <= 1, "epoch {epoch}: {}", count(200..300));
            for i in drawn {
                totals[i] += 1;
            }
        }
        assert!(totals[..100].iter().all(|n| *n == 10) && totals[100..200].iter().all(|n| *n == 20));
        assert!(totals[200..].iter().all(|n| *n == 3), "{:?}", &totals[200..]);
        // It is a pure function, and the seed decides which rows of a fraction come first.
        assert_eq!(drawn(300, &weights, 7, 3), drawn(300, &weights, 7, 3));
        assert_ne!(drawn(300, &weights, 7, 3), drawn(300, &weights, 8, 3));
        let lengths = vec![5; 300];
        let seen = weighted_steps(&lengths, &weights, &params(true), 2).into_iter().flatten().flatten().count();
        assert_eq!(seen, drawn(300, &weights, 7, 2).len());
    }
}
