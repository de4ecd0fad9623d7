//! Blocks of GGUF files over all threads: encoding and decoding whole matrices.

use super::Cpu;
use super::pool::rows_per_task;
use crate::error::{Error, Result};
use crate::quant::GgmlType;
use crate::quant::ggml::{decode::dequantize_on, encode::encode_row};
use crate::weight::{Bytes, FrozenWeight};

/// No element may be larger: a scale or a minimum would not fit the f16 it is stored in.
const LARGEST: f32 = (1 << 15) as f32;

/// Tasks of rows that are decoded before they are encoded together.
const SHARED: usize = 32;

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

    /// A dense weight as blocks of eight bits, some rows at a time. `None` where it is none, or they cannot hold it.
    pub(super) fn in_eight_bits(&self, w: &FrozenWeight) -> Result<Option<FrozenWeight>> {
        let (rows, cols) = w.shape();
        let kind = GgmlType::Q8_0;
        let (FrozenWeight::Dense { .. }, Some(size)) = (w, kind.row_bytes(cols).filter(|&bytes| bytes > 0)) else {
            return Ok(None);
        };
        let some = rows_per_task(cols) * SHARED;
        let mut bytes = vec![0; rows * size];
        let mut numbers = vec![0.0; some.min(rows) * cols];
        for (i, out) in bytes.chunks_mut(some * size).enumerate() {
            let numbers = &mut numbers[..out.len() / size * cols];
            crate::quant::decode(w, i * some * cols, numbers);
            match self.encode_blocks(kind, out, numbers, cols, None) {
                Ok(()) => {}
                Err(Error::Weight { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(FrozenWeight::Blocks { bytes: Bytes::from_vec(bytes), kind, rows, cols }))
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

#[cfg(test)]
mod tests {
    use super::Cpu;
    use crate::cpu::Path;
    use crate::error::Error;
    use crate::quant::{GgmlType, ggml};

    const COLS: usize = 1280;

    fn noise(n: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next() * next() * 0.1).collect()
    }

    fn encoded(cpu: &Cpu, kind: GgmlType, x: &[f32], cols: usize, importance: Option<&[f32]>) -> Vec<u8> {
        let mut out = vec![0xAA; kind.row_bytes(cols).expect("whole blocks") * (x.len() / cols)];
        cpu.encode_blocks(kind, &mut out, x, cols, importance).expect("plain numbers");
        out
    }

    fn decoded(kind: GgmlType, blocks: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; blocks.len() / kind.block_bytes() * kind.block_len()];
        ggml::dequantize(kind, blocks, &mut out);
        out
    }

    #[test]
    fn threads_instructions_and_neighbours_do_not_change_a_bit() {
        let x = noise(37 * COLS);
        let importance = noise(COLS).into_iter().map(f32::abs).collect::<Vec<_>>();
        let one = Cpu::with_path(1, Path::Portable).expect("any processor");
        for kind in GgmlType::all() {
            for importance in [None, Some(&importance[..])] {
                let want = encoded(&one, kind, &x, COLS, importance);
                for path in [Path::Avx512, Path::Avx2, Path::Portable].into_iter().filter(|path| path.available()) {
                    let cpu = Cpu::with_path(3, path).expect("an available path");
                    assert_eq!(encoded(&cpu, kind, &x, COLS, importance), want, "{kind} with {path:?}");
                }
                let row = encoded(&one, kind, &x[5 * COLS..6 * COLS], COLS, importance);
                assert_eq!(row, want[5 * row.len()..6 * row.len()], "{kind}: a row alone");
            }
        }
    }

    #[test]
    fn numbers_that_a_type_can_hold_come_back() {
        let cpu = Cpu::new(1).expect("a processor");
        for kind in GgmlType::all() {
            let cols = kind.block_len();
            for value in [0.0, -0.0, 1.0, -1.0, 0.125, -3.0] {
                let x = vec![value; 3 * cols];
                let back = decoded(kind, &encoded(&cpu, kind, &x, cols, None));
                // A scale that is an f16 times a small integer is not every number.
                assert!(
                    back.iter().all(|y| (y - value).abs() <= value.abs() * 0.002),
                    "{kind}: {value} is {}",
                    back[0]
                );
            }
        }
    }

    #[test]
    fn a_column_without_importance_spoils_nothing() {
        let cpu = Cpu::new(1).expect("a processor");
        let x = noise(4 * 512);
        let mut importance = vec![0.0; 512];
        importance[300] = 1e30;
        for kind in GgmlType::all() {
            let back = decoded(kind, &encoded(&cpu, kind, &x, 512, Some(&importance)));
            let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            assert!(back.iter().all(|y| y.abs() <= 1.5 * largest), "{kind}");
            let none = decoded(kind, &encoded(&cpu, kind, &x, 512, Some(&vec![0.0; 512])));
            assert!(none.iter().any(|y| *y != 0.0), "{kind}: nothing matters, so all matters alike");
        }
    }

    #[test]
    fn extremes_stay_finite() {
        let cpu = Cpu::new(1).expect("a processor");
        for kind in GgmlType::all().filter(|kind| kind.quantized()) {
            for size in [1e-40, 1e-20, 1e-8, 1e-4, 1e4, 6e4] {
                let x: Vec<f32> = noise(2 * 512).into_iter().map(|x| 20.0 * x * size).collect();
                let back = decoded(kind, &encoded(&cpu, kind, &x, 512, None));
                let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                assert!(back.iter().all(|y| y.abs() <= 1.5 * largest + 1e-5), "{kind} of {size}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_place() {
        let cpu = Cpu::new(2).expect("a processor");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
            let mut x = noise(300 * 256);
            x[256 * 200 + 17] = bad;
            x[256 * 299] = bad;
            let mut out = vec![0; 144 * 300];
            let error = cpu.encode_blocks(GgmlType::Q4K, &mut out, &x, 256, None).expect_err("not a number");
            assert!(
                matches!(&error, Error::Weight { what } if what.contains("row 200 ") && what.contains("column 17,")),
                "{error}"
            );
        }
        let (x, mut out) = (noise(256), vec![0; 144]);
        for bad in [f32::NAN, -1.0, f32::INFINITY] {
            let mut importance = vec![1.0; 256];
            importance[9] = bad;
            let error =
                cpu.encode_blocks(GgmlType::Q4K, &mut out, &x, 256, Some(&importance)).expect_err("bad importance");
            assert!(matches!(&error, Error::Weight { what } if what.contains("column 9 ")), "{error}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let cpu = Cpu::new(1).expect("a processor");
        let x = vec![0.5; 512];
        let mut out = vec![0; 288];
        for (cols, len) in [(0, 288), (128, 288), (512, 144), (384, 288), (257, 288)] {
            assert!(cpu.encode_blocks(GgmlType::Q4K, &mut out[..len], &x, cols, None).is_err(), "{cols} {len}");
        }
        assert!(cpu.encode_blocks(GgmlType::Q4K, &mut out, &x, 256, Some(&x)).is_err());
        assert!(cpu.decode_blocks(&mut [0.0; 256], GgmlType::Q4K, &out).is_err());
        assert!(cpu.decode_blocks(&mut [0.0; 100], GgmlType::Q4K, &out).is_err());
    }
}
