//! The nearest of many vectors, in memory that holds a quarter of them.
//!
//! Each vector is kept as the signs of its numbers and as bytes, both of what is left when the mean of all is taken
//! away. A search scores all signs against a question of four bits a number, looks at the bytes of the best few
//! percent, and asks its caller for the vectors of the last dozens, whose cosines are exact. Of independent normal
//! numbers, the hardest case, signs correlate with the products at 0.8; what that leaves out of two percent of a
//! million is less than one in a hundred of the ten nearest.

mod codes;
mod kept;
mod rows;

pub use kept::VectorWriter;

use codes::{Codes, encode_bytes, unit};
use peft_kernels::codes::{Planes, sums_at_signs};
use peft_plan::{Fault, Result};
use rows::Rows;
use std::path::Path;

/// Of all vectors, one in this many is looked at more closely,
const CLOSER: usize = 64;

/// but never fewer than these.
const FEWEST: usize = 4_096;

/// How many more than what was asked for are compared exactly: bytes mistake only neighbours for one another.
const EXACT: usize = 64;

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
#[derive(Debug)]
pub struct VectorIndex {
    codes: Codes,
    rows: Rows,
}

impl VectorIndex {
    /// No vectors yet. The mean is that of `sample`, whose length is the length of all; it makes the search better and
    /// never wrong.
    pub fn new(sample: &[Vec<f32>]) -> Result<Self> {
        Ok(Self { codes: Codes::new(sample)?, rows: Rows::Here(Vec::new()) })
    }

    /// Of which chunk each vector is, in the order in which they came.
    pub fn ids(&self) -> &[i64] {
        &self.codes.ids
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.codes.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.codes.ids.is_empty()
    }

    /// Numbers of each vector.
    pub fn length(&self) -> usize {
        self.codes.length()
    }

    /// Bytes of memory that its vectors take.
    pub fn memory(&self) -> usize {
        self.codes.memory() + self.rows.memory()
    }

    /// Adds a vector. An index that is kept in a file is only read.
    pub fn add(&mut self, id: i64, vector: &[f32]) -> Result<()> {
        let Rows::Here(bytes) = &mut self.rows else {
            return Err(Fault::new("PS-DISK-004", "An index in a file takes no more vectors"));
        };
        let start = bytes.len();
        bytes.resize(start + self.codes.length(), 0);
        let added = self.codes.add(id, vector, &mut bytes[start..]);
        if added.is_err() {
            bytes.truncate(start);
        }
        added
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
        let close = self.by_signs(&question, (self.len() / CLOSER).max(FEWEST).max(count + EXACT));
        let last = self.by_bytes(&question, close, count + EXACT)?;
        let mut hits = Vec::with_capacity(last.len());
        for place in last {
            let id = self.codes.ids[place as usize];
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
        sums_at_signs(&mut sums, &self.codes.signs, &Planes::new(&levels));
        // The product with signs is what is under the set ones, less what is under the others.
        let all: f32 = question.iter().sum();
        let score = |place: usize| {
            let under_set = lowest * self.codes.set[place] as f32 + step * sums[place] as f32;
            self.codes.factors[place] * (2.0 * under_set - all)
        };
        let scored = (0..self.len()).map(|place| (score(place), place as u32)).collect();
        let mut best = highest_of(scored, count);
        // In this order memory is read forwards.
        best.sort_unstable();
        best
    }

    /// Of these places the `count` best by bytes.
    fn by_bytes(&self, question: &[f32], places: Vec<u32>, count: usize) -> Result<Vec<u32>> {
        let mut code = vec![0; question.len()];
        encode_bytes(&mut code, question);
        let mut products = vec![0; places.len()];
        self.rows
            .products(&mut products, &places, &code)
            .map_err(|error| Fault::io("read", Path::new("the index of vectors"), error))?;
        let score = |(product, place): (&i32, u32)| (*product as f32 * self.codes.steps[place as usize], place);
        Ok(highest_of(products.iter().zip(places).map(score).collect(), count))
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

#[cfg(test)]
mod tests;
