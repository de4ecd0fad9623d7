//! The largest numbers of a row, where a device finds them.

use crate::harness::{Case, Outputs, noise};
use peft_kernels::largest::{LARGEST, Penalties, largest};
use peft_kernels::{Backend, Result};

#[derive(Debug)]
pub(crate) struct Largest {
    cols: usize,
    lowered: usize,
}

impl Case for Largest {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { cols, lowered } = self;
        let mut numbers = noise(3, 3 * cols);
        let row = &mut numbers[cols..2 * cols];
        // Many equals, zeros of both signs, no numbers, and what is beyond all numbers.
        for (i, z) in row.iter_mut().enumerate() {
            *z = match i % 97 {
                5 => f32::NAN,
                6 => -0.0,
                7 => 0.0,
                8 => f32::NEG_INFINITY,
                9 if i > 500 => f32::INFINITY,
                _ => (*z * 50.0).round() / 50.0,
            };
        }
        let penalties = Penalties {
            tokens: (0..lowered as u32).map(|i| cols as u32 - 1 - i).collect(),
            written: (0..lowered as u32).map(|i| i % 4).collect(),
            repetition: 1.7,
            presence: 0.3,
            frequency: 0.01,
        };
        let mut x = be.tensor(3, cols, &numbers)?;
        let found = be.largest(&mut x, 1, &penalties)?.unwrap_or_else(|| {
            let row = &mut numbers[cols..2 * cols];
            penalties.lower(row);
            largest(row)
        });
        // As many as there may be, and what is beyond all numbers as one: what is compared has a size and is finite.
        let (mut places, mut values): (Vec<f32>, Vec<f32>) =
            found.into_iter().map(|(place, z)| (place as f32, z.clamp(-1e30, 1e30))).unzip();
        places.resize(LARGEST, -1.0);
        values.resize(LARGEST, -1.0);
        Ok(vec![("places", places), ("values", values)])
    }

    /// Not a bit.
    fn tolerance(&self) -> f64 {
        0.0
    }
}

pub(crate) fn cases() -> Vec<Largest> {
    let sizes = [(1, 1), (63, 0), (64, 10), (65, 65), (2048, 300), (2049, 0), (10_000, 1), (70_000, 40)];
    sizes.map(|(cols, lowered)| Largest { cols, lowered }).into()
}
