//! The gate of gpt-oss: clamped, and gate and other half side by side.

use super::Case;
use super::rig::{Field, Rig};
use crate::backend::{Backend, ClampedGate, Write};
use crate::error::Result;

struct Shape {
    rows: usize,
    d_ff: usize,
    /// Multiplies the inputs: what the limits cut off is as interesting as what they let through.
    spread: f32,
}

const PARAMS: ClampedGate = ClampedGate { alpha: 1.702, limit: 7.0 };

impl Shape {
    fn all() -> impl Iterator<Item = Self> {
        [(1, 8, 1.0), (1, 33, 5.0), (5, 7, 3.0), (33, 129, 20.0), (65, 64, 200.0)]
            .into_iter()
            .map(|(rows, d_ff, spread)| Self { rows, d_ff, spread })
    }

    fn label(&self) -> String {
        format!("[{}, 2·{}], inputs times {}", self.rows, self.d_ff, self.spread)
    }

    fn gate_up<B: Backend>(&self, rig: &mut Rig<B>) -> Result<Field<B>> {
        let data: Vec<f32> = rig.noise(self.rows * 2 * self.d_ff).iter().map(|x| x * self.spread).collect();
        rig.field(self.rows, 2 * self.d_ff, &data)
    }
}

pub(super) struct Gated(Shape);

impl Case for Gated {
    fn name(&self) -> String {
        format!("gated_clamped {}", self.0.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let (gate_up, mut h) = (self.0.gate_up(rig)?, rig.output(self.0.rows, self.0.d_ff, Write::Set)?);
        rig.be.gated_clamped(h.view_mut(), gate_up.view(), &PARAMS)?;
        rig.take("h", &h)
    }
}

pub(super) fn gated() -> Vec<Gated> {
    Shape::all().map(Gated).collect()
}

pub(super) struct GatedBackward(Shape);

impl Case for GatedBackward {
    fn name(&self) -> String {
        format!("gated_clamped_bwd {}", self.0.label())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Shape { rows, d_ff, .. } = &self.0;
        let (gate_up, dh) = (self.0.gate_up(rig)?, rig.input(rows, d_ff)?);
        let mut dgate_up = rig.output(rows, 2 * d_ff, Write::Set)?;
        rig.be.gated_clamped_bwd(dgate_up.view_mut(), dh.view(), gate_up.view(), &PARAMS)?;
        rig.take("dgate_up", &dgate_up)
    }
}

pub(super) fn backward() -> Vec<GatedBackward> {
    Shape::all().map(GatedBackward).collect()
}
