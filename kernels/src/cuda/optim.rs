//! Optimizer steps and the norm for clipping.

use super::call::Call;
use super::device::Device;
use super::memory::Memory;
use super::{Cuda, THREADS};
use crate::backend::AdamW;
use crate::error::Result;
use crate::quant::double::nearest_codes;
use crate::quant::eight_bit::{BLOCK, DynamicMap, EightBit, Rounding};
use crate::tensor::Tensor;
use std::sync::Arc;

/// Blocks whose sums the processor adds up.
const PARTIAL: usize = 1024;

/// The most of them, over several tensors, that one copy brings: a small piece of memory.
const TOGETHER: usize = 6 * PARTIAL;

/// The maps of 8-bit moments on the device.
pub(super) struct Maps<D: Device> {
    signed: Map<D>,
    unsigned: Map<D>,
}

struct Map<D: Device> {
    values: Memory<D>,
    cells: Memory<D>,
}

impl<D: Device> Maps<D> {
    pub(super) fn new(device: &Arc<D>) -> Result<Self> {
        let map = |map: &DynamicMap| -> Result<Map<D>> {
            let cells = nearest_codes(&map.values);
            Ok(Map {
                values: Memory::of(device, "maps", &map.values)?,
                cells: Memory::holding(device, "maps", &cells)?,
            })
        };
        Ok(Self { signed: map(DynamicMap::signed())?, unsigned: map(DynamicMap::unsigned())? })
    }
}

/// What a step has in common for all parameters, in the order of `optim.cu`.
fn common(params: &AdamW) -> [f32; 8] {
    let f = |x: f32| f64::from(x);
    let (beta1, beta2) = (f(params.beta1), f(params.beta2));
    let step = f64::from(params.step);
    let decay = 1.0 - f(params.learning_rate) * f(params.weight_decay);
    let rate = f(params.learning_rate) / (1.0 - beta1.powf(step));
    let spread = 1.0 / (1.0 - beta2.powf(step)).sqrt();
    let grow1 = 1.0 - beta1;
    let grow2 = 1.0 - beta2;
    let single = [decay, rate, spread, grow1, beta2, grow2].map(|x| x as f32);
    let [decay, rate, spread, grow1, beta2, grow2] = single;
    [decay, rate, spread, grow1, beta2, grow2, params.eps, params.gradient_scale]
}

impl<D: Device> Cuda<D> {
    pub(super) fn step(
        &self,
        p: &Tensor<Self>,
        m: &Tensor<Self>,
        v: &Tensor<Self>,
        g: &Tensor<Self>,
        params: &AdamW,
    ) -> Result<()> {
        let common = self.small("adamw", &common(params))?;
        let call = Call::new(&*self.device, "adamw").whole(p).whole(m).whole(v).whole(g).size(p.len());
        call.memory(&common).elements(p.len())
    }

    pub(super) fn step_8bit(
        &self,
        p: &Tensor<Self>,
        m: &EightBit<Self>,
        v: &EightBit<Self>,
        g: &Tensor<Self>,
        params: &AdamW,
        rounding: Rounding,
    ) -> Result<()> {
        const { assert!(BLOCK == THREADS as usize, "a thread has an element of a block") }
        let (signed, unsigned) = (&self.maps.signed, &self.maps.unsigned);
        let common = self.small("adamw", &common(params))?;
        let call = Call::new(&*self.device, "adamw_8bit").whole(p);
        let call = call.memory(&m.codes).whole(&m.absmax).memory(&v.codes).whole(&v.absmax).whole(g);
        let call = call.memory(&signed.values).memory(&unsigned.values).memory(&signed.cells).memory(&unsigned.cells);
        let call = call.size(p.len()).word(params.step).flag(rounding == Rounding::Dithered);
        call.memory(&common).elements(p.len())
    }

    /// The sum over all of `tensors`, of each for itself first; few copies from the device for all of them.
    pub(super) fn squares(&self, tensors: &[&Tensor<Self>]) -> Result<f64> {
        let mut sum = 0.0;
        let mut rest = tensors;
        while !rest.is_empty() {
            let mut blocks = 0;
            let fits = |x: &&&Tensor<Self>| {
                blocks += blocks_of(x);
                blocks <= TOGETHER
            };
            let (some, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            sum = self.some_squares(some)?.into_iter().fold(sum, |sum, of_one| sum + of_one);
            rest = others;
        }
        Ok(sum)
    }

    /// The sum of each.
    fn some_squares(&self, tensors: &[&Tensor<Self>]) -> Result<Vec<f64>> {
        let all = tensors.iter().map(|x| blocks_of(x)).sum();
        let partial = Memory::uninit(&self.device, "sum_squares", all, size_of::<f64>())?;
        let mut first = 0;
        for x in tensors {
            let at = partial.address() + (first * size_of::<f64>()) as u64;
            Call::new(&*self.device, "sum_squares").address(at).whole(*x).size(x.len()).blocks(blocks_of(x))?;
            first += blocks_of(x);
        }
        let bytes = partial.read()?;
        let mut numbers = bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
        Ok(tensors.iter().map(|x| numbers.by_ref().take(blocks_of(x)).sum()).collect())
    }
}

/// Blocks that sum up the squares of `x`.
fn blocks_of<D: Device>(x: &Tensor<Cuda<D>>) -> usize {
    x.len().div_ceil(THREADS as usize).min(PARTIAL)
}
