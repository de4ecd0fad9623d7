//! What the register tile reaches when nothing has to be fetched, and how fast memory is read: the yardsticks of the
//! products around them.
//!
//! For benchmarks alone. Which kernels run is never decided by a timing.

use super::kernel::Sums;
use super::panels::Kernel;
use super::tiles::{BLOCK, BlockSums};
use super::{Cpu, dots};
use crate::backend::Write;
use crate::error::Result;
use crate::host;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Words of depth of the panels: both stay in the nearest cache.
const DEPTH: usize = 128;
/// Tiles that one thread computes in one round, about a hundredth of a second.
const TILES: usize = 4000;
/// What is read to measure memory, 256 MiB in pieces of 64 KiB.
const READ_ROWS: usize = 4096;
const READ_COLS: usize = 16 << 10;
/// Rounds of which the best counts: at least so many, and for so long. Threads that are new begin milliseconds late.
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_millis(100);

impl Cpu {
    /// Floating-point operations a second of all threads, with the factors in use.
    pub fn ceiling(&self) -> f64 {
        let tiles = self.isa.tiles(self.factors);
        let kernel @ Kernel { mr, nr, .. } = self.kernel();
        // As words of pairs: 1.0 and 0.0. What is multiplied does not matter, as long as it is no subnormal.
        let (a, b) = (vec![1.0; mr * DEPTH], vec![1.0; nr * DEPTH]);
        let flops = 2 * self.pool.count() * TILES * mr * nr * DEPTH * kernel.factors.steps();
        let round = || {
            let start = Instant::now();
            self.pool.each(vec![(); self.pool.count()], |()| {
                if let Some(unit) = tiles {
                    let mut sums = BlockSums([[0.0; BLOCK]; BLOCK]);
                    unit.with(|unit| {
                        (0..TILES)
                            .for_each(|_| unit.multiply(black_box(&a), black_box(&b), BLOCK, &mut sums, Write::Set));
                    });
                    black_box(sums.0);
                    return;
                }
                let mut sums: Sums = [0.0; 448];
                for _ in 0..TILES {
                    self.isa.tile_of(kernel.factors, &[(black_box(&a), black_box(&b))], mr, nr, &mut sums);
                }
                black_box(sums);
            });
            flops as f64 / start.elapsed().as_secs_f64()
        };
        best(round)
    }

    /// Bytes a second that all threads read together from memory that no cache holds.
    pub fn read_ceiling(&self) -> Result<f64> {
        let memory = host::zeros("read_ceiling", READ_ROWS, READ_COLS)?;
        let round = || {
            let start = Instant::now();
            self.pool.each(memory.chunks(READ_COLS).collect(), |x: &[f32]| {
                black_box(dots::dot(self.isa, black_box(x), x));
            });
            (memory.len() * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
        };
        Ok(best(round))
    }
}

/// The most that a round gives.
fn best(round: impl Fn() -> f64) -> f64 {
    let (mut most, mut rounds, begun) = (0.0_f64, 0, Instant::now());
    while rounds < ROUNDS || begun.elapsed() < PATIENCE {
        most = most.max(round());
        rounds += 1;
    }
    most
}
