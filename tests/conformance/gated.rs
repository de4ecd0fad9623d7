//! The gate of the feed-forward block.

use crate::harness::{Case, Field, Outputs, dot, is_gradient, noise};
use peft_kernels::reference::Reference;
use peft_kernels::{Activation, Backend, Result, Write};

#[derive(Debug)]
pub(crate) struct Gated {
    rows: usize,
    d_ff: usize,
    act: Activation,
    /// Multiplies the inputs: the tails of the activations are as interesting as the middle.
    spread: f32,
}

impl Case for Gated {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, d_ff, act, spread } = self;
        let wide: Vec<f32> = noise(1, rows * 2 * d_ff).iter().map(|x| x * spread).collect();
        let gate_up = Field::holding(be, rows, 2 * d_ff, &wide);
        let mut h = Field::output(be, rows, d_ff, Write::Set);
        be.gated(h.view_mut(), gate_up.view(), act)?;
        let dh = Field::noise(be, 2, rows, d_ff);
        let mut dgate_up = Field::output(be, rows, 2 * d_ff, Write::Set);
        be.gated_bwd(dgate_up.view_mut(), dh.view(), gate_up.view(), act)?;
        Ok(vec![("h", h.take(be)), ("dgate_up", dgate_up.take(be))])
    }
}

pub(crate) fn gated() -> Vec<Gated> {
    let mut cases = Vec::new();
    for act in [Activation::Silu, Activation::GeluTanh] {
        for (rows, d_ff, spread) in [(1, 1, 1.0), (1, 33, 5.0), (5, 7, 1.0), (33, 129, 20.0), (129, 64, 200.0)] {
            cases.push(Gated { rows, d_ff, act, spread });
        }
    }
    cases
}

pub(crate) fn gradient() {
    let (be, rows, d_ff) = (Reference, 3, 4);
    for act in [Activation::Silu, Activation::GeluTanh] {
        let (x, g) = (noise(1, rows * 2 * d_ff), noise(2, rows * d_ff));
        let (dh, gate_up) = (Field::holding(&be, rows, d_ff, &g), Field::holding(&be, rows, 2 * d_ff, &x));
        let mut dgate_up = Field::output(&be, rows, 2 * d_ff, Write::Set);
        be.gated_bwd(dgate_up.view_mut(), dh.view(), gate_up.view(), act).expect("shapes fit");
        is_gradient("gated dgate_up", &x, &dgate_up.take(&be), |x| {
            let gate_up = Field::holding(&be, rows, 2 * d_ff, x);
            let mut h = Field::output(&be, rows, d_ff, Write::Set);
            be.gated(h.view_mut(), gate_up.view(), act).expect("shapes fit");
            dot(&h.take(&be), &g)
        });
    }
}
