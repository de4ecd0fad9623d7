//! The gate of gpt-oss: clamped, and gate and other half side by side.

use crate::harness::{Case, Field, Outputs, dot, is_gradient, noise};
use peft_kernels::reference::Reference;
use peft_kernels::{Backend, ClampedGate, Result, Write};

#[derive(Debug)]
pub(crate) struct Gated {
    rows: usize,
    d_ff: usize,
    /// Multiplies the inputs: what the limits cut off is as interesting as what they let through.
    spread: f32,
}

const PARAMS: ClampedGate = ClampedGate { alpha: 1.702, limit: 7.0 };

impl Case for Gated {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, d_ff, spread } = self;
        let wide: Vec<f32> = noise(1, rows * 2 * d_ff).iter().map(|x| x * spread).collect();
        let gate_up = Field::holding(be, rows, 2 * d_ff, &wide);
        let mut h = Field::output(be, rows, d_ff, Write::Set);
        be.gated_clamped(h.view_mut(), gate_up.view(), &PARAMS)?;
        let dh = Field::noise(be, 2, rows, d_ff);
        let mut dgate_up = Field::output(be, rows, 2 * d_ff, Write::Set);
        be.gated_clamped_bwd(dgate_up.view_mut(), dh.view(), gate_up.view(), &PARAMS)?;
        Ok(vec![("h", h.take(be)), ("dgate_up", dgate_up.take(be))])
    }
}

pub(crate) fn gated() -> Vec<Gated> {
    [(1, 1, 1.0), (1, 33, 5.0), (5, 7, 3.0), (33, 129, 20.0), (129, 64, 200.0)]
        .map(|(rows, d_ff, spread)| Gated { rows, d_ff, spread })
        .into()
}

/// With limits inside, above and below the inputs; no input is so near to one that a difference would cross it.
pub(crate) fn gradient() {
    let (be, rows, d_ff) = (Reference, 4, 5);
    for limit in [0.6, 9.0] {
        let params = ClampedGate { alpha: 1.3, limit };
        let clear = |x: f32| if (x.abs() - limit).abs() < 0.02 { x + 0.1 } else { x };
        let x: Vec<f32> = noise(1, rows * 2 * d_ff).into_iter().map(clear).collect();
        let g = noise(2, rows * d_ff);
        let (dh, gate_up) = (Field::holding(&be, rows, d_ff, &g), Field::holding(&be, rows, 2 * d_ff, &x));
        let mut dgate_up = Field::output(&be, rows, 2 * d_ff, Write::Set);
        be.gated_clamped_bwd(dgate_up.view_mut(), dh.view(), gate_up.view(), &params).expect("shapes fit");
        is_gradient("gated_clamped dgate_up", &x, &dgate_up.take(&be), |x| {
            let gate_up = Field::holding(&be, rows, 2 * d_ff, x);
            let mut h = Field::output(&be, rows, d_ff, Write::Set);
            be.gated_clamped(h.view_mut(), gate_up.view(), &params).expect("shapes fit");
            dot(&h.take(&be), &g)
        });
    }
}
