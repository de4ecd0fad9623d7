//! The largest numbers of a row, and numbers lowered for what was said before.

use super::Case;
use super::rig::Rig;
use crate::backend::Backend;
use crate::error::Result;
use crate::largest::{LARGEST, Penalties, largest};

pub(super) struct Largest {
    cols: usize,
    lowered: usize,
}

impl Case for Largest {
    fn name(&self) -> String {
        format!("largest [{}], {} lowered", self.cols, self.lowered)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { cols, lowered } = self;
        let mut numbers = rig.noise(2 * cols);
        // Equals, and what is no number.
        let (a, b, c) = (rig.below(cols), rig.below(cols), rig.below(cols));
        numbers[cols + a] = f32::NAN;
        numbers[cols + b] = numbers[cols + c];
        let penalties = Penalties {
            tokens: (0..lowered as u32).map(|i| (cols as u32 - 1) - i).collect(),
            written: (0..lowered as u32).map(|i| i % 3).collect(),
            repetition: 1.3,
            presence: 0.7,
            frequency: 0.11,
        };
        let mut x = rig.be.tensor(2, cols, &numbers)?;
        let found = rig.be.largest(&mut x, 1, &penalties)?.unwrap_or_else(|| {
            penalties.lower(&mut numbers[cols..]);
            largest(&numbers[cols..])
        });
        let (mut places, mut values): (Vec<f32>, Vec<f32>) = found.into_iter().map(|(at, z)| (at as f32, z)).unzip();
        // One too few, and one too many, is wrong, too.
        places.resize(LARGEST, -1.0);
        values.resize(LARGEST, -1.0);
        rig.put("places", places);
        rig.put("values", values);
        Ok(())
    }
}

pub(super) fn cases() -> Vec<Largest> {
    [(1, 0), (63, 5), (2048, 100), (5000, 1)].map(|(cols, lowered)| Largest { cols, lowered }).into()
}
