//! The products of compute capability 9.0: used where this card computes with them what its other kernels compute.
//!
//! The two differ in how the tensor cores are fed and in nothing else, so that on random numbers their results are as
//! near to each other as sums in f32 allow. A card that does not pass keeps the others.

use super::call::Place;
use super::device::Device;
use super::library::Choice;
use super::memory::{self, Memory};
use super::product::Side;
use super::{Cuda, Precision};
use crate::backend::Write;
use crate::error::Result;
use crate::philox;

/// Rows, columns and steps: one tile and several, whole ones and torn ones, a sum of one piece and of more.
const SHAPES: [[usize; 3]; 3] = [[128, 128, 64], [200, 330, 96], [70, 65, 1056]];

/// Where the numbers come from.
const SEED: u64 = 0x90A;

/// What a fingerprint says where they are used.
pub(super) const MARK: &str = ", wgmma";

/// The largest normalised mean square error between the two.
const TOLERANCE: f64 = 1e-9;

/// The kernel that does what `kernel` does, where there is one.
pub(super) fn instead_of(kernel: &'static str) -> &'static str {
    match kernel {
        "gemm_bf16_large" => "gemm_wgmma",
        "gemm_bf16_large_steps" => "gemm_wgmma_steps",
        other => other,
    }
}

impl<D: Device> Cuda<D> {
    /// The same with the kernels of compute capability 9.0, if this card has them and computes correctly with them.
    pub(super) fn with_wgmma(self) -> Self {
        if !self.device.has_wgmma() {
            return self;
        }
        let plain = Self { library: Choice::default(), ..self.clone().with_precision(Precision::Bf16) };
        let wgmma = Self { wgmma: true, ..plain.clone() };
        // A card that stopped says so at the next call.
        let is_right = SHAPES.iter().all(|&shape| {
            [false, true]
                .into_iter()
                .all(|by_step| differs(&plain, &wgmma, shape, by_step).is_ok_and(|e| e <= TOLERANCE))
        });
        Self { wgmma: is_right, ..self }
    }

    /// Whether the kernels of compute capability 9.0 are used: this card has them and computes correctly with them.
    pub fn uses_wgmma(&self) -> bool {
        self.wgmma
    }
}

/// Numbers between plus and minus a half.
pub(super) fn numbers(stream: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| philox::uniform(SEED, stream, i) - 0.5).collect()
}

/// The normalised mean square error between products of the two.
fn differs<D: Device>(plain: &Cuda<D>, wgmma: &Cuda<D>, shape: [usize; 3], by_step: bool) -> Result<f64> {
    let [m, n, k] = shape;
    let noise = |stream, count| memory::to_bytes(&numbers(stream, count));
    let a = Memory::holding(&plain.device, "selftest", &noise(1, m * k))?;
    let b = Memory::holding(&plain.device, "selftest", &noise(2, n * k))?;
    let left = Side::rows(Place::single(a.address(), k));
    let right =
        if by_step { Side::columns(Place::single(b.address(), n)) } else { Side::rows(Place::single(b.address(), k)) };
    let product = |be: &Cuda<D>| -> Result<Vec<f32>> {
        let y = Memory::of(&be.device, "selftest", &vec![f32::NAN; m * n])?;
        let at = Place::single(y.address(), n);
        be.product(at, (left, right), None, shape, 1.0, Write::Set)?;
        Ok(memory::to_f32(&y.read()?))
    };
    let (want, got) = (product(plain)?, product(wgmma)?);
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = want.iter().zip(&got).map(|(&want, &got)| square(want - got)).sum();
    // What is no number is no small error, either.
    Ok(error / want.iter().map(|&x| square(x)).sum::<f64>())
}
