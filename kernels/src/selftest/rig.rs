//! What a case works with: inputs from a seed, outputs in hostile places, and the measure of two results.
//!
//! An output that is set holds NaN before, one that is added to holds noise, and around every window lie
//! sentinels that must survive.

use crate::backend::{Backend, Write};
use crate::error::Result;
use crate::tensor::{In, Out, Tensor, Window};

/// What no operation may overwrite; a number that bfloat16 has.
const SENTINEL: f32 = -549_755_813_888.0;

/// Rows above, columns left, rows below and columns right of a window: odd places, whole rows, even places.
const FRAMES: [[usize; 4]; 3] = [[1, 3, 2, 2], [1, 0, 2, 0], [2, 8, 1, 16]];

/// Named results of one call, and how many elements beside the outputs it wrote.
pub(super) struct Record {
    pub(super) outputs: Vec<(&'static str, Vec<f32>)>,
    pub(super) strayed: usize,
}

impl Record {
    /// The results of another call behind these.
    pub(super) fn append(&mut self, more: Self) {
        for ((_, all), (_, more)) in self.outputs.iter_mut().zip(more.outputs) {
            all.extend(more);
        }
        self.strayed += more.strayed;
    }
}

/// One call of one operation on one backend: the same seed draws the same inputs on every backend.
pub(super) struct Rig<'a, B: Backend> {
    pub(super) be: &'a B,
    /// Of `SplitMix64`.
    state: u64,
    /// Windows are of activations, of numbers that bfloat16 has.
    pub(super) is_narrow: bool,
    record: Record,
}

impl<'a, B: Backend> Rig<'a, B> {
    pub(super) fn new(be: &'a B, seed: u64) -> Self {
        Self { be, state: seed, is_narrow: false, record: Record { outputs: Vec::new(), strayed: 0 } }
    }

    pub(super) fn into_record(self) -> Record {
        self.record
    }

    /// 64 random bits (`SplitMix64`): not Philox, which is itself examined.
    pub(super) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A whole number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// `n` random bytes.
    pub(super) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.bits() >> 56) as u8).collect()
    }

    /// `n` numbers around zero, roughly normal with variance one.
    pub(super) fn noise(&mut self, n: usize) -> Vec<f32> {
        let uniform = |bits: u64| (bits & 0xFFFFF) as f32 / (1 << 20) as f32 - 0.5;
        let normal = |bits: u64| 2.0 * (uniform(bits) + uniform(bits >> 20) + uniform(bits >> 40));
        (0..n).map(|_| normal(self.bits())).collect()
    }

    /// `n` numbers from `least` upwards.
    pub(super) fn at_least(&mut self, least: f32, n: usize) -> Vec<f32> {
        self.noise(n).iter().map(|x| least + x.abs()).collect()
    }

    /// A tensor of noise.
    pub(super) fn tensor(&mut self, rows: usize, cols: usize) -> Result<Tensor<B>> {
        let data = self.noise(rows * cols);
        self.be.tensor(rows, cols, &data)
    }

    /// A tensor of NaN: every element must be set.
    pub(super) fn unset(&mut self, rows: usize, cols: usize) -> Result<Tensor<B>> {
        self.be.tensor(rows, cols, &vec![f32::NAN; rows * cols])
    }

    /// A window of these numbers.
    pub(super) fn field(&mut self, rows: usize, cols: usize, data: &[f32]) -> Result<Field<B>> {
        let [above, left, below, right] = FRAMES[self.below(FRAMES.len())];
        let at = Window { row: above, rows, col: left, cols };
        let (all_rows, all_cols) = (above + rows + below, left + cols + right);
        let mut all = vec![SENTINEL; all_rows * all_cols];
        for (i, row) in data.chunks_exact(cols.max(1)).enumerate() {
            all[(above + i) * all_cols + left..][..cols].copy_from_slice(row);
        }
        if !self.is_narrow {
            return Ok(Field { tensor: self.be.tensor(all_rows, all_cols, &all)?, at });
        }
        for x in &mut all {
            *x = half::bf16::from_f32(*x).to_f32();
        }
        let mut tensor = self.be.activation()?;
        self.be.reshape(&mut tensor, all_rows, all_cols)?;
        self.be.upload(&mut tensor, &all)?;
        Ok(Field { tensor, at })
    }

    /// A window of noise.
    pub(super) fn input(&mut self, rows: usize, cols: usize) -> Result<Field<B>> {
        let data = self.noise(rows * cols);
        self.field(rows, cols, &data)
    }

    /// A window for an output.
    pub(super) fn output(&mut self, rows: usize, cols: usize, write: Write) -> Result<Field<B>> {
        match write {
            Write::Set => self.field(rows, cols, &vec![f32::NAN; rows * cols]),
            Write::Add => self.input(rows, cols),
        }
    }

    /// Hand over what a window holds.
    pub(super) fn take(&mut self, name: &'static str, field: &Field<B>) -> Result<()> {
        let Field { tensor, at } = field;
        let all = self.be.download(tensor)?;
        let mut inside = Vec::with_capacity(at.rows * at.cols);
        for (i, row) in all.chunks_exact(tensor.cols().max(1)).enumerate() {
            for (j, &x) in row.iter().enumerate() {
                if (at.row..at.row + at.rows).contains(&i) && (at.col..at.col + at.cols).contains(&j) {
                    inside.push(x);
                } else {
                    self.record.strayed += usize::from(x.to_bits() != SENTINEL.to_bits());
                }
            }
        }
        self.record.outputs.push((name, inside));
        Ok(())
    }

    /// Hand over what a tensor holds.
    pub(super) fn take_tensor(&mut self, name: &'static str, tensor: &Tensor<B>) -> Result<()> {
        let numbers = self.be.download(tensor)?;
        self.put(name, numbers);
        Ok(())
    }

    /// Hand over numbers.
    pub(super) fn put(&mut self, name: &'static str, numbers: Vec<f32>) {
        self.record.outputs.push((name, numbers));
    }
}

/// A window in a matrix of sentinels.
pub(super) struct Field<B: Backend> {
    tensor: Tensor<B>,
    at: Window,
}

impl<B: Backend> Field<B> {
    pub(super) fn view(&self) -> In<'_, B> {
        In { tensor: &self.tensor, at: self.at }
    }

    pub(super) fn view_mut(&mut self) -> Out<'_, B> {
        Out { tensor: &mut self.tensor, at: self.at }
    }
}

/// `Σ(got - want)² / Σwant²`; infinite where the reference is zero and the other is not, or where a number is not
/// finite (the reference's always are), or where some are missing.
pub(super) fn nmse(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() || got.iter().chain(want).any(|x| !x.is_finite()) {
        return f64::INFINITY;
    }
    let square = |x: f64| x * x;
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| square(f64::from(g) - f64::from(w))).sum();
    let power: f64 = want.iter().map(|&w| square(f64::from(w))).sum();
    if error == 0.0 { 0.0 } else { error / power }
}

/// Elements whose bits are not the same.
pub(super) fn different(a: &[f32], b: &[f32]) -> usize {
    a.len().abs_diff(b.len()) + a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count()
}

/// How an output is written, in a case's name.
pub(super) fn verb(write: Write) -> &'static str {
    match write {
        Write::Set => "set",
        Write::Add => "add",
    }
}
