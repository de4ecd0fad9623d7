//! What is known of every vector without looking at its bytes: its signs, and what scales them.

use peft_kernels::codes::{encode_signs, words};
use peft_plan::{Fault, Result};

/// The part of an index that every search reads, in memory.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// Of all vectors, or many: what every code leaves out.
    pub mean: Vec<f32>,
    pub ids: Vec<i64>,
    /// `words(length)` for each.
    pub signs: Vec<u64>,
    /// How many signs of each are set.
    pub set: Vec<u32>,
    /// What a product with signs is multiplied with to be one with the vector.
    pub factors: Vec<f32>,
    /// What a byte counts in each.
    pub steps: Vec<f32>,
}

impl Codes {
    /// Nothing yet; the mean is that of `sample`, whose length is the length of all.
    pub(super) fn new(sample: &[Vec<f32>]) -> Result<Self> {
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
        Ok(Self { mean, ..Self::default() })
    }

    /// Numbers of each vector.
    pub(super) fn length(&self) -> usize {
        self.mean.len()
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.ids.capacity() * 8
            + self.signs.capacity() * 8
            + (self.set.capacity() + self.factors.capacity() + self.steps.capacity()) * 4
    }

    /// Adds a vector; its bytes go to `row`.
    pub(super) fn add(&mut self, id: i64, vector: &[f32], row: &mut [i8]) -> Result<()> {
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
        self.steps.push(encode_bytes(row, &rest));
        self.ids.push(id);
        Ok(())
    }

    /// Adds what another index with the same mean knows of its vector at `place`.
    pub(super) fn add_known(&mut self, other: &Self, place: usize) {
        let words = words(self.length());
        self.signs.extend_from_slice(&other.signs[place * words..][..words]);
        self.set.push(other.set[place]);
        self.factors.push(other.factors[place]);
        self.steps.push(other.steps[place]);
        self.ids.push(other.ids[place]);
    }
}

/// Numbers as bytes; returns what a byte counts.
pub(super) fn encode_bytes(code: &mut [i8], vector: &[f32]) -> f32 {
    let largest = vector.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
    let step = largest / 127.0;
    if step > 0.0 {
        for (code, number) in code.iter_mut().zip(vector) {
            *code = (number / step).round() as i8;
        }
    } else {
        code.fill(0);
    }
    step
}

/// A vector of length 1 in the same direction; one without a direction stays zero.
pub(super) fn unit(vector: &[f32], length: usize) -> Result<Vec<f32>> {
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
