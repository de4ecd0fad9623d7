//! Products of dense matrices on tensor cores that are short on one side, as an adapter's are: the factors are read once,
//! as they lie, and rounded on their way (`gemm_skinny.cu`).

use super::call::{Call, Place};
use super::device::Device;
use super::product::Side;
use super::product_bf16::Sum;
use super::{Cuda, Precision};
use crate::backend::Write;
use crate::error::Result;

/// Rows, and columns, that a block makes; its threads.
const SIDE: usize = 64;
const THREADS: u32 = 128;

/// Whether a product of this shape (rows, columns, steps) takes as long as its factors need to come in.
fn is_skinny([m, n, k]: [usize; 3]) -> bool {
    m.min(n).min(k) <= SIDE
}

impl<D: Device> Cuda<D> {
    /// `y (=|+=) alpha·a·b + bias` where it is such a product; otherwise `None`, and nothing is done.
    pub(super) fn product_skinny(
        &self,
        y: Place,
        (a, b): (Side, Side),
        bias: Option<u64>,
        shape: [usize; 3],
        alpha: f32,
        write: Write,
    ) -> Option<Result<()>> {
        if self.precision != Precision::Bf16 || shape.contains(&0) || !is_skinny(shape) {
            return None;
        }
        let kernel = match (a.inner == 1, b.inner == 1) {
            (true, true) => "gemm_skinny",
            (true, false) => "gemm_skinny_steps",
            (false, true) => "gemm_skinny_turned",
            (false, false) => "gemm_skinny_turned_steps",
        };
        let [m, n, k] = shape;
        let tiles = m.div_ceil(SIDE) * n.div_ceil(SIDE);
        Some(self.in_parts(&Sum { y, bias, shape, tiles, alpha, write }, |sum, parts| {
            let call = Call::new(&*self.device, kernel).either(&sum.y);
            let call = [a, b].into_iter().fold(call, |call, side| call.either(&side.lines()));
            let call = call.address(sum.bias.unwrap_or(0)).sizes([m, n, k, parts]).number(sum.alpha);
            call.flag(sum.bias.is_some()).write(sum.write).run(tiles * parts, THREADS)
        }))
    }
}
