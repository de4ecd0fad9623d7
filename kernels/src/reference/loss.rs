//! The head: projection, soft cap, softmax, cross entropy, and their gradient.

use super::dot;
use crate::backend::LossParams;
use crate::host::{View, ViewMut};

/// With `z = cap·tanh(x·wᵀ/cap)` and `p = softmax(z)`: `loss = -log p[target]`,
/// `dz = gradient_scale·(p - onehot)·(1 - tanh²)`, `dx = dz·w`, `dw += dzᵀ·x`.
pub(super) fn head_loss(
    loss: &mut [f32],
    correct: &mut [f32],
    mut dx: Option<ViewMut>,
    mut dw: Option<ViewMut>,
    x: View,
    w: View,
    targets: &[i32],
    params: &LossParams,
) {
    loss.fill(0.0);
    correct.fill(0.0);
    let mut dw_sums = vec![0.0_f64; if dw.is_some() { w.rows() * w.cols() } else { 0 }];
    for (i, &target) in targets.iter().enumerate() {
        let mut dx_sums = vec![0.0_f64; x.cols()];
        if let Ok(target) = usize::try_from(target) {
            let (z, slope): (Vec<f64>, Vec<f64>) = (0..w.rows())
                .map(|j| match (dot(x.row(i), w.row(j)), params.softcap.map(f64::from)) {
                    (z, None) => (z, 1.0),
                    (z, Some(cap)) => {
                        let t = (z / cap).tanh();
                        (cap * t, 1.0 - t * t)
                    }
                })
                .unzip();
            let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
            loss[i] = (lse - z[target]) as f32;
            let first_largest = z.iter().position(|&z| z == max);
            correct[i] = f32::from(u8::from(first_largest == Some(target)));
            for j in 0..w.rows() {
                let onehot = f64::from(u8::from(j == target));
                let dz = f64::from(params.gradient_scale) * ((z[j] - lse).exp() - onehot) * slope[j];
                for (c, dx) in dx_sums.iter_mut().enumerate() {
                    *dx += dz * f64::from(w.at(j, c));
                }
                for (dw, &x) in dw_sums.iter_mut().skip(j * w.cols()).zip(x.row(i)) {
                    *dw += dz * f64::from(x);
                }
            }
        }
        if let Some(dx) = &mut dx {
            dx.row(i).iter_mut().zip(dx_sums).for_each(|(dx, sum)| *dx = sum as f32);
        }
    }
    for (dw, sum) in dw.take().into_iter().flat_map(ViewMut::into_rows).flatten().zip(dw_sums) {
        *dw = (f64::from(*dw) + sum) as f32;
    }
}
