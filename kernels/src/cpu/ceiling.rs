//! What the register tile reaches when nothing has to be fetched: the yardstick of the products around it.
//!
//! For benchmarks alone. Which kernels run is never decided by a timing.

use super::Cpu;
use super::kernel::Sums;
use std::hint::black_box;
use std::time::Instant;

/// Words of depth of the panels: both stay in the nearest cache.
const DEPTH: usize = 128;
/// Tiles that one thread computes in one round, about a hundredth of a second.
const TILES: usize = 4000;
/// Rounds of which the best counts.
const ROUNDS: usize = 5;

impl Cpu {
    /// Floating-point operations a second of all threads, with the factors in use.
    pub fn ceiling(&self) -> f64 {
        let (mr, nr) = (self.isa.mr(), self.isa.nr());
        // As words of pairs: 1.0 and 0.0. What is multiplied does not matter, as long as it is no subnormal.
        let (a, b) = (vec![1.0; mr * DEPTH], vec![1.0; nr * DEPTH]);
        let flops = 2 * self.pool.count() * TILES * mr * nr * DEPTH * self.factors.steps();
        let round = || {
            let start = Instant::now();
            self.pool.each(vec![(); self.pool.count()], |()| {
                let mut sums: Sums = [0.0; 448];
                for _ in 0..TILES {
                    self.isa.tile_of(self.factors, black_box(&a), black_box(&b), mr, nr, &mut sums);
                }
                black_box(sums);
            });
            flops as f64 / start.elapsed().as_secs_f64()
        };
        (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
    }
}
