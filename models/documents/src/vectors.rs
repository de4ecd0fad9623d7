//! The nearest of many vectors, in memory that holds a quarter of them.
//!
//! Each vector is kept as the signs of its numbers and as bytes, both of what is left when the mean of all is taken
//! away. A search scores all signs against a question of four bits a number, looks at the bytes of the best few
//! percent, and asks its caller for the vectors of the last dozens, whose cosines are exact. Of independent normal
//! numbers, the hardest case, signs correlate with the products at 0.8; what that leaves out of three percent of a
//! million is less than one in a hundred of the ten nearest.

use peft_kernels::codes::{Planes, encode_signs, products_at, sums_at_signs, words};
use peft_plan::{Fault, Result};

/// Of all vectors, one in this many is looked at more closely,
const CLOSER: usize = 32;

/// but never fewer than these.
const FEWEST: usize = 4_096;

/// How many times what was asked for is compared exactly, and at least.
const EXACT: usize = 8;
const FEWEST_EXACT: usize = 64;

/// The highest level of a number of a question.
const TOP_LEVEL: f32 = 15.0;

/// A chunk that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// As it was put in.
    pub id: i64,
    /// The cosine of the angle to the question.
    pub score: f32,
}

/// Vectors of one length, found by their direction.
pub struct VectorIndex {
    mean: Vec<f32>,
    ids: Vec<i64>,
    signs: Vec<u64>,
    /// How many signs of each are set.
    set: Vec<u32>,
    /// What a product with signs is multiplied with to be one with the vector.
    factors: Vec<f32>,
    bytes: Vec<i8>,
    /// What a byte counts in each.
    steps: Vec<f32>,
}

impl VectorIndex {
    /// Room for `count` vectors. The mean is that of `sample`, whose length is the length of all; it makes the search
    /// better and never wrong.
    pub fn new(sample: &[Vec<f32>], count: usize) -> Result<Self> {
        let length = sample.first().map_or(0, Vec::len);
        if length == 0 {
            return Err(unusable("there is no vector to begin with"));
        }
        let mut mean = vec![0.0; length];
        for vector in sample {
            let vector = unit(vector, length)?;
            for (mean, number) in mean.iter_mut().zip(&vector) {
                *mean += number / sample.len() as f32;
            }
        }
        Ok(Self {
            mean,
            ids: Vec::with_capacity(count),
            signs: Vec::with_capacity(count * words(length)),
            set: Vec::with_capacity(count),
            factors: Vec::with_capacity(count),
            bytes: Vec::with_capacity(count * length),
            steps: Vec::with_capacity(count),
        })
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Numbers of each vector.
    pub fn length(&self) -> usize {
        self.mean.len()
    }

    /// Bytes of memory that its vectors take.
    pub fn memory(&self) -> usize {
        self.ids.capacity() * 8
            + self.signs.capacity() * 8
            + (self.set.capacity() + self.factors.capacity() + self.steps.capacity()) * 4
            + self.bytes.capacity()
    }

    /// Adds a vector.
    pub fn add(&mut self, id: i64, vector: &[f32]) -> Result<()> {
        let mut rest = unit(vector, self.length())?;
        for (number, mean) in rest.iter_mut().zip(&self.mean) {
            *number -= mean;
        }
        let at = self.signs.len();
        self.signs.resize(at + words(rest.len()), 0);
        encode_signs(&mut self.signs[at..], &rest);
        self.set.push(self.signs[at..].iter().map(|word| word.count_ones()).sum());
        let squares: f32 = rest.iter().map(|number| number * number).sum();
        let sizes: f32 = rest.iter().map(|number| number.abs()).sum();
        self.factors.push(if sizes > 0.0 { squares / sizes } else { 0.0 });
        let start = self.bytes.len();
        self.bytes.resize(start + rest.len(), 0);
        self.steps.push(encode_bytes(&mut self.bytes[start..], &rest));
        self.ids.push(id);
        Ok(())
    }

    /// The `count` vectors nearest to `question`, nearest first. `exact` gives the vector of an id; one it does not
    /// have any more is left out.
    pub fn search(
        &self,
        question: &[f32],
        count: usize,
        exact: &mut dyn FnMut(i64) -> Result<Option<Vec<f32>>>,
    ) -> Result<Vec<Hit>> {
        let question = unit(question, self.length())?;
        let close = self.by_signs(&question, (self.len() / CLOSER).max(FEWEST).max(count * EXACT));
        let last = self.by_bytes(&question, close, (count * EXACT).max(FEWEST_EXACT));
        let mut hits = Vec::with_capacity(last.len());
        for place in last {
            let id = self.ids[place as usize];
            if let Some(vector) = exact(id)? {
                let vector = unit(&vector, self.length())?;
                let score = vector.iter().zip(&question).map(|(a, b)| a * b).sum();
                hits.push(Hit { id, score });
            }
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        hits.truncate(count);
        Ok(hits)
    }

    /// The places of the `count` best by signs, in order of place.
    fn by_signs(&self, question: &[f32], count: usize) -> Vec<u32> {
        if count >= self.len() {
            return (0..self.len() as u32).collect();
        }
        let (lowest, highest) =
            question.iter().fold((f32::MAX, f32::MIN), |(low, high), number| (low.min(*number), high.max(*number)));
        let step = ((highest - lowest) / TOP_LEVEL).max(f32::MIN_POSITIVE);
        let levels: Vec<u8> = question.iter().map(|number| ((number - lowest) / step).round() as u8).collect();
        let mut sums = vec![0; self.len()];
        sums_at_signs(&mut sums, &self.signs, &Planes::new(&levels));
        // The product with signs is what is under the set ones, less what is under the others.
        let all: f32 = question.iter().sum();
        let score = |place: usize| {
            let under_set = lowest * self.set[place] as f32 + step * sums[place] as f32;
            self.factors[place] * (2.0 * under_set - all)
        };
        let scored = (0..self.len()).map(|place| (score(place), place as u32)).collect();
        let mut best = highest_of(scored, count);
        // In this order memory is read forwards.
        best.sort_unstable();
        best
    }

    /// Of these places the `count` best by bytes.
    fn by_bytes(&self, question: &[f32], places: Vec<u32>, count: usize) -> Vec<u32> {
        let mut code = vec![0; question.len()];
        encode_bytes(&mut code, question);
        let mut products = vec![0; places.len()];
        products_at(&mut products, &self.bytes, &places, &code);
        let score = |(product, place): (&i32, u32)| (*product as f32 * self.steps[place as usize], place);
        highest_of(products.iter().zip(places).map(score).collect(), count)
    }
}

/// The places with the `count` highest scores, in no order.
fn highest_of(mut scored: Vec<(f32, u32)>, count: usize) -> Vec<u32> {
    if count < scored.len() {
        scored.select_nth_unstable_by(count, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.truncate(count);
    }
    scored.into_iter().map(|(_, place)| place).collect()
}

/// Numbers as bytes; returns what a byte counts.
fn encode_bytes(code: &mut [i8], vector: &[f32]) -> f32 {
    let largest = vector.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
    let step = largest / 127.0;
    if step > 0.0 {
        for (code, number) in code.iter_mut().zip(vector) {
            *code = (number / step).round() as i8;
        }
    }
    step
}

/// A vector of length 1 in the same direction; one without a direction stays zero.
fn unit(vector: &[f32], length: usize) -> Result<Vec<f32>> {
    if vector.len() != length {
        return Err(unusable(&format!("it has {} numbers where others have {length}", vector.len())));
    }
    let squares: f64 = vector.iter().map(|number| f64::from(*number) * f64::from(*number)).sum();
    if !squares.is_finite() {
        return Err(unusable("it holds something that is no number"));
    }
    let scale = if squares > 0.0 { 1.0 / squares.sqrt() } else { 0.0 };
    Ok(vector.iter().map(|number| (f64::from(*number) * scale) as f32).collect())
}

fn unusable(what: &str) -> Fault {
    Fault::new("PS-CFG-001", format!("A vector cannot be used: {what}; make all of them with one model"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearly normal numbers from a counter.
    fn vector(seed: u64, length: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
        let mut next = || -> f32 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Four uniform numbers add up to something like a bell.
            (0..4).map(|part| (state >> (16 * part) & 0xFFFF) as f32 / 65_536.0 - 0.5).sum()
        };
        (0..length).map(|_| next()).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        product(a, b) / (product(a, a) * product(b, b)).sqrt()
    }

    /// Of the true ten nearest, the share that is found, over some questions.
    fn recall(count: u64, length: usize, questions: u64) -> f64 {
        let all: Vec<Vec<f32>> = (0..count).map(|seed| vector(seed, length)).collect();
        let mut index = VectorIndex::new(&all[..100], all.len()).expect("vectors");
        for (id, vector) in (0..).zip(&all) {
            index.add(id, vector).expect("of one length");
        }
        let mut found = 0;
        for seed in 0..questions {
            let question = vector(1_000_000_000 + seed, length);
            let mut truth: Vec<(f32, i64)> = (0..).zip(&all).map(|(id, v)| (cosine(v, &question), id)).collect();
            truth.sort_by(|a, b| b.0.total_cmp(&a.0));
            let hits = index.search(&question, 10, &mut |id| Ok(Some(all[id as usize].clone()))).expect("found");
            assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
            found += truth[..10].iter().filter(|(_, id)| hits.iter().any(|hit| hit.id == *id)).count();
        }
        found as f64 / (10 * questions) as f64
    }

    #[test]
    fn nearly_all_of_the_nearest_are_found_among_independent_vectors() {
        // Enough that the signs decide: three times as many as are looked at more closely.
        let recall = recall(3 * FEWEST as u64, 256, 10);
        assert!(recall >= 0.98, "recall {recall}");
    }

    #[test]
    fn a_vector_is_the_nearest_to_itself_whatever_its_length() {
        let all: Vec<Vec<f32>> = (0..300).map(|seed| vector(seed, 100)).collect();
        let mut index = VectorIndex::new(&all, 300).expect("vectors");
        for (id, vector) in (0..).zip(&all) {
            let long: Vec<f32> = vector.iter().map(|number| number * 1e6).collect();
            index.add(id, &long).expect("of one length");
        }
        for id in [0, 150, 299] {
            let hits = index.search(&all[id], 3, &mut |id| Ok(Some(all[id as usize].clone()))).expect("found");
            assert_eq!(hits[0].id, id as i64);
            assert!((hits[0].score - 1.0).abs() < 1e-5);
        }
        let hits = index.search(&all[0], 5, &mut |id| Ok((id > 0).then(|| all[id as usize].clone()))).expect("found");
        assert!(hits.len() == 5 && hits.iter().all(|hit| hit.id > 0), "what is gone is left out");
    }

    #[test]
    fn vectors_that_make_no_sense_are_refused_or_harmless() {
        let mut index = VectorIndex::new(&[vec![1.0, 0.0]], 2).expect("a vector");
        for wrong in [vec![1.0], vec![f32::NAN, 0.0], vec![f32::INFINITY, 1.0]] {
            assert_eq!(index.add(1, &wrong).expect_err("refused").code, "PS-CFG-001");
        }
        index.add(7, &[0.0, 0.0]).expect("no direction");
        let hits = index.search(&[0.0, 0.0], 1, &mut |_| Ok(Some(vec![0.0, 0.0]))).expect("found");
        assert_eq!(hits, [Hit { id: 7, score: 0.0 }]);
        assert!(VectorIndex::new(&[], 1).is_err());
    }

    /// Run by hand: `cargo test --release -p peft_documents a_million -- --ignored --nocapture`.
    #[test]
    #[ignore = "takes minutes and 1.2 GB"]
    fn a_million_vectors_are_searched_within_the_limits() {
        const COUNT: u64 = 1_000_000;
        const LENGTH: usize = 768;
        let sample: Vec<Vec<f32>> = (0..100).map(|seed| vector(seed, LENGTH)).collect();
        let mut index = VectorIndex::new(&sample, COUNT as usize).expect("vectors");
        let questions: Vec<Vec<f32>> = (0..10).map(|seed| vector(9_000_000_000 + seed, LENGTH)).collect();
        let mut truth: Vec<Vec<(f32, i64)>> = vec![Vec::new(); questions.len()];
        for seed in 0..COUNT {
            let one = vector(seed, LENGTH);
            index.add(seed as i64, &one).expect("of one length");
            for (truth, question) in truth.iter_mut().zip(&questions) {
                truth.push((cosine(&one, question), seed as i64));
                if truth.len() >= 1_000 {
                    truth.sort_by(|a, b| b.0.total_cmp(&a.0));
                    truth.truncate(10);
                }
            }
        }
        assert!(index.memory() < 1_200_000_000, "{} bytes", index.memory());
        let (mut found, mut slowest) = (0, 0.0_f64);
        for (truth, question) in truth.iter_mut().zip(&questions) {
            truth.sort_by(|a, b| b.0.total_cmp(&a.0));
            let start = std::time::Instant::now();
            let hits = index.search(question, 10, &mut |id| Ok(Some(vector(id as u64, LENGTH)))).expect("found");
            slowest = slowest.max(start.elapsed().as_secs_f64());
            found += truth[..10].iter().filter(|(_, id)| hits.iter().any(|hit| hit.id == *id)).count();
        }
        let recall = f64::from(found as u32) / (10 * questions.len()) as f64;
        assert!(recall >= 0.98 && slowest < 0.080, "recall {recall}, slowest {slowest} s");
    }
}
