//! Dropout and noise: the same random numbers everywhere.

use crate::harness::{Case, Field, Outputs, nmse, noise};
use peft_kernels::{Backend, Dropout, Result, Write, philox};

#[derive(Debug)]
pub(crate) struct Masked {
    rows: usize,
    cols: usize,
    p: f32,
    write: Write,
}

impl Case for Masked {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, cols, p, write } = self;
        let x = Field::noise(be, 1, rows, cols);
        let mut y = Field::output(be, rows, cols, write);
        let params = Dropout { p, seed: 0x1234_5678_9ABC_DEF0, stream: (7 << 32) + 5 };
        be.dropout(y.view_mut(), x.view(), &params, write)?;
        Ok(vec![("y", y.take(be))])
    }
}

pub(crate) fn dropout() -> Vec<Masked> {
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (1, 33), (5, 7), (33, 129), (129, 258)] {
        for (p, write) in [(0.0, Write::Set), (0.1, Write::Add), (0.5, Write::Set), (0.95, Write::Add)] {
            cases.push(Masked { rows, cols, p, write });
        }
    }
    cases
}

#[derive(Debug)]
pub(crate) struct Noise {
    rows: usize,
    cols: usize,
}

impl Case for Noise {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, cols } = self;
        let mut y = Field::output(be, rows, cols, Write::Add);
        let amplitudes: Vec<f32> = (0..rows).map(|i| 0.1 * i as f32).collect();
        be.noise(y.view_mut(), &amplitudes, 0x1234_5678_9ABC_DEF0, (7 << 32) + 5)?;
        Ok(vec![("y", y.take(be))])
    }
}

pub(crate) fn noise_cases() -> Vec<Noise> {
    [(2, 1), (1, 33), (5, 7), (33, 129), (129, 258)].map(|(rows, cols)| Noise { rows, cols }).into()
}

/// Every element gets its own uniform, spread over twice its row's amplitude: mean, variance and bounds are those of
/// the uniform distribution.
pub(crate) fn noise_is_uniform<B: Backend>(be: &B) {
    let (rows, cols) = (64, 500);
    let amplitudes: Vec<f32> = (0..rows).map(|i| if i % 2 == 0 { 0.5 } else { 2.0 }).collect();
    let mut y = Field::holding(be, rows, cols, &vec![0.0; rows * cols]);
    be.noise(y.view_mut(), &amplitudes, 42, 3).expect("shapes fit");
    let got = y.take(be);
    for (parity, amplitude) in [(0, 0.5), (1, 2.0)] {
        let of_rows: Vec<f64> =
            got.chunks(cols).skip(parity).step_by(2).flatten().map(|x| f64::from(*x) / amplitude).collect();
        let n = of_rows.len() as f64;
        let mean = of_rows.iter().sum::<f64>() / n;
        let variance = of_rows.iter().map(|x| x * x).sum::<f64>() / n;
        assert!(of_rows.iter().all(|x| x.abs() <= 1.0));
        assert!(mean.abs() < 4.0 * (1.0 / 3.0 / n).sqrt(), "mean {mean}");
        assert!((variance - 1.0 / 3.0).abs() < 4.0 * (4.0 / 45.0 / n).sqrt(), "variance {variance}");
    }
    let want = 0.5 * (2.0 * philox::uniform(42, 3, 7) - 1.0);
    assert!((got[7] - want).abs() < 1e-6, "element 7 follows the counter");
}

/// Element `i` of the window is kept iff uniform `i` of the stream is at least `p`.
pub(crate) fn mask_follows_the_counter<B: Backend>(be: &B) {
    let (rows, cols, params) = (9, 11, Dropout { p: 0.3, seed: 42, stream: 3 });
    let data = noise(1, rows * cols);
    let x = Field::holding(be, rows, cols, &data);
    let mut y = Field::output(be, rows, cols, Write::Set);
    be.dropout(y.view_mut(), x.view(), &params, Write::Set).expect("shapes fit");
    let want: Vec<f32> =
        (data.iter().zip(0..)).map(|(x, i)| if philox::uniform(42, 3, i) >= 0.3 { x / 0.7 } else { 0.0 }).collect();
    let got = y.take(be);
    assert!(got.iter().zip(&want).all(|(a, b)| (*a == 0.0) == (*b == 0.0)), "another mask");
    assert!(nmse(&got, &want) < 1e-12);
}
