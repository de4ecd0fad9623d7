//! Blocks of GGUF files over all threads: encoding and decoding whole matrices.

use super::Cpu;
use super::pool::rows_per_task;
use crate::error::{Error, Result};
use crate::quant::GgmlType;
use crate::quant::ggml::{decode::dequantize_on, encode::encode_row};

/// No element may be larger: beyond it a scale does not fit the f16 it is stored in.
const LARGEST: f32 = (1 << 20) as f32;

impl Cpu {
    /// `x`, rows of `cols` elements, as blocks of `kind`; the same bytes whatever the number of threads.
    ///
    /// `importance` says how much each column matters (mean squares of what the matrix is multiplied with);
    /// only ratios count. Numbers that no block can hold are [`Error::Weight`].
    pub fn encode_blocks(
        &self,
        kind: GgmlType,
        out: &mut [u8],
        x: &[f32],
        cols: usize,
        importance: Option<&[f32]>,
    ) -> Result<()> {
        const OP: &str = "encode_blocks";
        let bytes = kind.row_bytes(cols).filter(|&bytes| bytes > 0).ok_or_else(|| {
            Error::shape(OP, format!("rows of {cols} elements are no whole blocks of {kind} ({})", kind.block_len()))
        })?;
        if !x.len().is_multiple_of(cols) || out.len() != x.len() / cols * bytes {
            return Err(Error::shape(OP, format!("{} elements in rows of {cols} into {} bytes", x.len(), out.len())));
        }
        let importance = importance.map(|all| scaled_importance(all, cols)).transpose()?;
        if kind.quantized() {
            self.check(kind, x, cols)?;
        }
        let rows = rows_per_task(cols);
        let tasks = x.chunks(rows * cols).zip(out.chunks_mut(rows * bytes)).collect();
        self.pool.each(tasks, |(x, out): (&[f32], &mut [u8])| {
            for (x, out) in x.chunks(cols).zip(out.chunks_mut(bytes)) {
                encode_row(self.isa, kind, x, importance.as_deref(), out);
            }
        });
        Ok(())
    }

    /// All of `bytes`, whole blocks of `kind`, as f32.
    pub fn decode_blocks(&self, out: &mut [f32], kind: GgmlType, bytes: &[u8]) -> Result<()> {
        if kind.row_bytes(out.len()) != Some(bytes.len()) {
            let what = format!("{} bytes of {kind} into {} elements", bytes.len(), out.len());
            return Err(Error::shape("decode_blocks", what));
        }
        let blocks = rows_per_task(kind.block_len());
        let tasks = bytes.chunks(blocks * kind.block_bytes()).zip(out.chunks_mut(blocks * kind.block_len())).collect();
        self.pool.each(tasks, |(bytes, out): (&[u8], &mut [f32])| dequantize_on(self.isa, kind, bytes, out));
        Ok(())
    }

    /// The first number that blocks cannot hold is an error that says where it is.
    fn check(&self, kind: GgmlType, x: &[f32], cols: usize) -> Result<()> {
        // A NaN is not below the limit either.
        let fits = |x: &f32| x.abs() < LARGEST;
        let step = rows_per_task(1);
        let bad = std::sync::atomic::AtomicUsize::new(usize::MAX);
        self.pool.each(x.chunks(step).enumerate().collect(), |(i, x): (usize, &[f32])| {
            // All of them first: a loop without a way out becomes vector code.
            if !x.iter().fold(true, |all, x| all & fits(x)) {
                let at = i * step + x.iter().position(|x| !fits(x)).unwrap_or_default();
                bad.fetch_min(at, std::sync::atomic::Ordering::Relaxed);
            }
        });
        match bad.into_inner() {
            usize::MAX => Ok(()),
            at => {
                let (row, col) = (at / cols, at % cols);
                Err(Error::Weight { what: format!("row {row} holds {} at column {col}, which {kind} cannot", x[at]) })
            }
        }
    }
}

/// Importance with a largest value of 1, so that no product with it leaves the range of f32.
fn scaled_importance(all: &[f32], cols: usize) -> Result<Vec<f32>> {
    if all.len() != cols {
        return Err(Error::shape("encode_blocks", format!("importance of {} columns for {cols}", all.len())));
    }
    if let Some(at) = all.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
        return Err(Error::Weight { what: format!("column {at} has the importance {}", all[at]) });
    }
    let largest = all.iter().fold(f32::MIN_POSITIVE, |a, &x| a.max(x));
    Ok(all.iter().map(|x| x / largest).collect())
}
