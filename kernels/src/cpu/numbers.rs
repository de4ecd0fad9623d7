//! Memory of a matrix: f32, or bfloat16 for what a forward pass keeps for the backward pass.
//!
//! Whoever reads f32 alone asks for that and is refused the other; what reads both takes a [`Source`] and writes to a
//! `Sink` (`sink.rs`). A number is rounded once, to the nearest, where it is written.

use super::Cpu;
use super::factors::{Factors, nearest};
use super::simd_dispatch::{Isa, vectorized};
use super::source::Source;
use crate::error::{Error, Result};
use crate::host::{self, View, ViewMut};
use crate::tensor::{In, Out, Tensor};

/// The bytes of a bf16.
pub(super) type Half = [u8; 2];

/// Numbers of a matrix of the processor, row-major.
#[derive(Clone, Debug)]
pub enum Numbers {
    /// As they are computed.
    F32(Vec<f32>),
    /// Rounded, little-endian.
    Bf16(Vec<[u8; 2]>),
}

impl Numbers {
    /// Bytes that it has taken of the computer's memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(x) => x.capacity() * size_of::<f32>(),
            Self::Bf16(x) => x.capacity() * size_of::<Half>(),
        }
    }

    /// None yet, of the kind that is kept beside such factors.
    pub(super) fn kept(factors: Factors) -> Self {
        match factors {
            Factors::F32 => Self::F32(Vec::new()),
            Factors::Bf16 => Self::Bf16(Vec::new()),
        }
    }

    /// `rows * cols` elements, of which nothing is known. Memory that is large enough is kept; it is never there twice.
    pub(super) fn resize(&mut self, rows: usize, cols: usize) -> Result<()> {
        fn sized<T: Clone + Default>(x: &mut Vec<T>, rows: usize, cols: usize) -> Result<()> {
            let count = rows.saturating_mul(cols);
            if count > x.capacity() {
                *x = Vec::new();
                *x = host::zeros("reshape", rows, cols)?;
            } else {
                x.resize(count, T::default());
            }
            Ok(())
        }
        match self {
            Self::F32(x) => sized(x, rows, cols),
            Self::Bf16(x) => sized(x, rows, cols),
        }
    }

    /// All of them, in f32.
    pub(super) fn to_f32(&self, cpu: &Cpu) -> Vec<f32> {
        match self {
            Self::F32(x) => x.clone(),
            Self::Bf16(x) => {
                let mut out = vec![0.0; x.len()];
                widen_half(cpu.isa, &mut out, x);
                out
            }
        }
    }

    /// The same of what is not needed any more.
    pub(super) fn into_f32(self, cpu: &Cpu) -> Vec<f32> {
        match self {
            Self::F32(x) => x,
            narrow @ Self::Bf16(_) => narrow.to_f32(cpu),
        }
    }

    /// `data`, which has as many.
    pub(super) fn fill_from(&mut self, cpu: &Cpu, data: &[f32]) {
        match self {
            Self::F32(x) => x.copy_from_slice(data),
            Self::Bf16(x) => round_half(cpu.isa, x, data),
        }
    }
}

/// Another shape for `t`.
pub(super) fn reshape(t: &mut Tensor<Cpu>, rows: usize, cols: usize) -> Result<()> {
    if (t.rows(), t.cols()) != (rows, cols) {
        // Without memory it is empty.
        t.set_shape(0, 0);
        t.buf.resize(rows, cols)?;
        t.set_shape(rows, cols);
    }
    Ok(())
}

fn refusal() -> Error {
    Error::shape("activation", "numbers in bfloat16 where only f32 can be".to_owned())
}

/// The numbers of `t`, all f32.
pub(super) fn slice(t: &Tensor<Cpu>) -> Result<&[f32]> {
    match &t.buf {
        Numbers::F32(x) => Ok(x),
        Numbers::Bf16(_) => Err(refusal()),
    }
}

/// The same to change them.
pub(super) fn slice_mut(t: &mut Tensor<Cpu>) -> Result<&mut [f32]> {
    match &mut t.buf {
        Numbers::F32(x) => Ok(x),
        Numbers::Bf16(_) => Err(refusal()),
    }
}

/// A window of f32 to read.
pub(super) fn view(x: In<'_, Cpu>) -> Result<View<'_>> {
    Ok(View::window(slice(x.tensor)?, x.tensor.cols(), &x.at))
}

/// A window of f32 to write.
#[expect(clippy::needless_pass_by_value, reason = "it is the exclusive borrow that moves")]
pub(super) fn view_mut(y: Out<'_, Cpu>) -> Result<ViewMut<'_>> {
    let stride = y.tensor.cols();
    Ok(ViewMut::window(slice_mut(y.tensor)?, stride, &y.at))
}

/// A whole tensor of f32.
pub(super) fn whole(t: &Tensor<Cpu>) -> Result<View<'_>> {
    view(t.view())
}

/// The same to write.
pub(super) fn whole_mut(t: &mut Tensor<Cpu>) -> Result<ViewMut<'_>> {
    view_mut(t.view_mut())
}

impl<'a> Source<'a> {
    /// A window of either kind.
    pub(super) fn window(x: In<'a, Cpu>) -> Self {
        let stride = x.tensor.cols();
        match &x.tensor.buf {
            Numbers::F32(data) => Self::Dense(View::window(data, stride, &x.at)),
            Numbers::Bf16(data) => Self::Narrow(View::window(data, stride, &x.at)),
        }
    }
}

/// `x` rounded to the nearest, ties to even. Where the processor rounds numbers, subnormal ones become zero.
pub(super) fn round_half(isa: Isa, out: &mut [Half], x: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(isa) = isa.pairs() {
        return isa.round_half(out, x);
    }
    round_all(isa, out, x);
}

vectorized! {
    fn round_all(out: &mut [Half], x: &[f32]) {
        for (y, &x) in out.iter_mut().zip(x) {
            *y = (nearest(x) as u16).to_le_bytes();
        }
    }
}

vectorized! {
    /// The numbers that were rounded.
    pub(super) fn widen_half(out: &mut [f32], x: &[Half]) {
        for (y, x) in out.iter_mut().zip(x) {
            *y = f32::from_bits(u32::from(u16::from_le_bytes(*x)) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Half, round_half, widen_half};
    use crate::backend::Write;
    use crate::cpu::factors::nearest;
    use crate::cpu::finish::Written;
    use crate::cpu::gemm::Epilogue;
    use crate::cpu::path::{PATHS, Path};

    #[test]
    fn numbers_are_rounded_alike_on_every_path_in_any_place_of_a_row() {
        let numbers: Vec<f32> = (0..83).map(|i| (i * 29 % 61) as f32 / 7.0 - 4.1).chain([f32::INFINITY]).collect();
        for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
            for n in 0..numbers.len() {
                let x = &numbers[numbers.len() - n..];
                let mut halves = vec![Half::default(); n];
                round_half(isa, &mut halves, x);
                assert!(
                    halves.iter().zip(x).all(|(half, x)| *half == (nearest(*x) as u16).to_le_bytes()),
                    "{isa:?} {n}"
                );
            }
            // Sums of a tile come to a row of bf16 with one rounding, of the sum with what was there.
            for (write, n) in [(Write::Set, 32), (Write::Add, 32), (Write::Set, 21), (Write::Add, 5)] {
                let (sums, bias) = (&numbers[..32], &numbers[40..40 + n]);
                let mut row = vec![Half::default(); n + 3];
                round_half(isa, &mut row, &numbers[..n + 3]);
                let mut before = vec![0.0; n];
                widen_half(isa, &mut before, &row[2..2 + n]);
                let epilogue = Epilogue { alpha: -0.75, bias: Some(bias), write };
                Half::finish(isa, &mut [&mut row], 2..2 + n, sums, 32, epilogue);
                for i in 0..n {
                    let old = if write == Write::Add { before[i] } else { 0.0 };
                    let want = (nearest(old + -0.75 * sums[i] + bias[i]) as u16).to_le_bytes();
                    assert_eq!(row[2 + i], want, "{isa:?} {write:?} {i} of {n}");
                }
            }
        }
    }
}
