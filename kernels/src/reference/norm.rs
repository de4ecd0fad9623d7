//! RMS norm of groups of columns.

use crate::backend::{NormParams, Write};
use crate::host::{View, ViewMut};

/// `rstd = 1/√(mean(x²) + eps)`, `y = x·rstd·(offset + w)`
pub(super) fn rms_norm(mut y: ViewMut, mut rstd: ViewMut, x: View, w: &[f32], params: NormParams) {
    let n = w.len();
    for i in 0..x.rows() {
        let groups = y.row(i).chunks_exact_mut(n).zip(x.row(i).chunks_exact(n));
        for ((y, x), rstd) in groups.zip(rstd.row(i)) {
            let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
            let r = 1.0 / (mean + f64::from(params.eps)).sqrt();
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                *y = (f64::from(x) * r * (f64::from(params.offset) + f64::from(w))) as f32;
            }
            *rstd = r as f32;
        }
    }
}

/// With `x̂ = x·rstd` and `g = dy·(offset + w)`: `dx = rstd·(g - x̂·mean(g·x̂))`, `dw += Σ_rows dy·x̂`.
pub(super) fn rms_norm_bwd(
    mut dx: ViewMut,
    dw: Option<&mut [f32]>,
    dy: View,
    x: View,
    w: &[f32],
    rstd: View,
    params: NormParams,
    write: Write,
) {
    let n = w.len();
    let mut sums = vec![0.0; n];
    for i in 0..x.rows() {
        let groups = dy.row(i).chunks_exact(n).zip(x.row(i).chunks_exact(n)).zip(rstd.row(i));
        for (dx, ((dy, x), &rstd)) in dx.row(i).chunks_exact_mut(n).zip(groups) {
            let r = f64::from(rstd);
            let xhat = |j: usize| f64::from(x[j]) * r;
            let g = |j: usize| f64::from(dy[j]) * (f64::from(params.offset) + f64::from(w[j]));
            let mean = (0..n).map(|j| g(j) * xhat(j)).sum::<f64>() / n as f64;
            for j in 0..n {
                dx[j] = (write.start(dx[j]) + r * (g(j) - xhat(j) * mean)) as f32;
                sums[j] += f64::from(dy[j]) * xhat(j);
            }
        }
    }
    for (dw, sum) in dw.into_iter().flatten().zip(sums) {
        *dw = (f64::from(*dw) + sum) as f32;
    }
}
