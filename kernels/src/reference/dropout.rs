//! Dropout with a mask that is recomputed, and noise from the same counter.

use crate::backend::{Dropout, Write};
use crate::host::{View, ViewMut};
use crate::philox;

/// `y (=|+=) mask∘x / (1 - p)`
pub(super) fn dropout(mut y: ViewMut, x: View, params: &Dropout, write: Write) {
    let keep = 1.0 / (1.0 - f64::from(params.p));
    for i in 0..x.rows() {
        let first = i * x.cols();
        for (j, (y, &x)) in y.row(i).iter_mut().zip(x.row(i)).enumerate() {
            let kept = philox::uniform(params.seed, params.stream, (first + j) as u64) >= params.p;
            let x = if kept { f64::from(x) * keep } else { 0.0 };
            *y = (write.start(*y) + x) as f32;
        }
    }
}

/// `y[i, j] += amplitudes[i]·(2u - 1)`
pub(super) fn noise(mut y: ViewMut, amplitudes: &[f32], seed: u64, stream: u64) {
    for (i, &amplitude) in amplitudes.iter().enumerate() {
        let first = i * y.cols();
        for (j, y) in y.row(i).iter_mut().enumerate() {
            let u = f64::from(philox::uniform(seed, stream, (first + j) as u64));
            *y = (f64::from(*y) + f64::from(amplitude) * (2.0 * u - 1.0)) as f32;
        }
    }
}
