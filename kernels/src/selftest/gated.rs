//! The gate of the feed-forward block.

use super::Case;
use super::rig::{Field, Rig};
use crate::backend::{Activation, Backend, Write};
use crate::error::Result;

struct Shape {
    rows: usize,
    d_ff: usize,
    act: Activation,
    /// Multiplies the inputs: the tails of the activations are as interesting as the middle.
    spread: f32,
}

impl Shape {
    fn all() -> impl Iterator<Item = Self> {
        let sizes = [(1, 8, 1.0), (1, 33, 5.0), (5, 7, 1.0), (33, 129, 20.0), (65, 64, 200.0)];
        let of = move |act| sizes.map(move |(rows, d_ff, spread)| Self { rows, d_ff, act, spread });
        [Activation::Silu, Activation::GeluTanh].into_iter().flat_map(of)
    }

    fn label(&self) -> String {
        let act = if self.act == Activation::Silu { "silu" } else { "gelu" };
        format!("[{}, 2·{}] {act}, inputs times {}", self.rows, self.d_ff, self.spread)
    }

    fn gate_up<B: Backend>(&self, rig: &mut Rig<B>) -> Result<Field<B>> {
        let data: Vec<f32> = rig.noise(self.rows * 2 * self.d_ff).iter().map(|x| x * self.spread).collect();
        rig.field(self.rows, 2 * self.d_ff, &data)
    }
}

pub(super) struct Gated(Shape);

impl Case for Gated {
    fn name(&self) -> String {
        format!("gated {}", self.0.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let (gate_up, mut h) = (self.0.gate_up(rig)?, rig.output(self.0.rows, self.0.d_ff, Write::Set)?);
        rig.be.gated(h.view_mut(), gate_up.view(), self.0.act)?;
        rig.take("h", &h)
    }
}

pub(super) fn gated() -> Vec<Gated> {
    Shape::all().map(Gated).collect()
}

pub(super) struct GatedBackward(Shape);

impl Case for GatedBackward {
    fn name(&self) -> String {
        format!("gated_bwd {}", self.0.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Shape { rows, d_ff, act, .. } = &self.0;
        let (gate_up, dh) = (self.0.gate_up(rig)?, rig.input(rows, d_ff)?);
        let mut dgate_up = rig.output(rows, 2 * d_ff, Write::Set)?;
        rig.be.gated_bwd(dgate_up.view_mut(), dh.view(), gate_up.view(), act)?;
        rig.take("dgate_up", &dgate_up)
    }
}

pub(super) fn backward() -> Vec<GatedBackward> {
    Shape::all().map(GatedBackward).collect()
}
