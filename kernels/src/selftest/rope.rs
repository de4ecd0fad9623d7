//! Rotary embedding: whole and partial heads, forward and back.

use super::Case;
use super::rig::Rig;
use crate::backend::{Backend, RopeParams, Turn};
use crate::error::Result;

pub(super) struct Rope {
    rows: usize,
    heads: usize,
    head_dim: usize,
    rotary_dim: usize,
    turn: Turn,
}

impl Case for Rope {
    fn name(&self) -> String {
        let &Self { rows, heads, head_dim, rotary_dim, turn } = self;
        let way = if turn == Turn::Forward { "forward" } else { "back" };
        format!("rope [{rows}, {heads}·{head_dim}], {rotary_dim} turning {way}")
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { rows, heads, head_dim, rotary_dim, turn } = self;
        let (half, places) = (rotary_dim / 2, rows + 3);
        let angles = rig.noise(places * half);
        let row = |p: usize| &angles[p * half..][..half];
        let table: Vec<f32> =
            (0..places).flat_map(|p| row(p).iter().map(|a| a.cos()).chain(row(p).iter().map(|a| a.sin()))).collect();
        let table = rig.be.tensor(places, rotary_dim, &table)?;
        // Out of order, and up to the last.
        let positions: Vec<u32> =
            (0..rows).map(|i| if i == 0 { places - 1 } else { rig.below(places) } as u32).collect();
        let mut x = rig.input(rows, heads * head_dim)?;
        rig.be.rope(x.view_mut(), &table, &positions, &RopeParams { head_dim, rotary_dim }, turn)?;
        rig.take("x", &x)
    }
}

pub(super) fn rope() -> Vec<Rope> {
    let sizes = [(1, 1, 2, 2), (1, 3, 64, 64), (5, 2, 6, 4), (7, 1, 128, 128), (33, 5, 96, 24), (129, 4, 10, 10)];
    let of = |(rows, heads, head_dim, rotary_dim)| {
        [Turn::Forward, Turn::Back].map(|turn| Rope { rows, heads, head_dim, rotary_dim, turn })
    };
    sizes.into_iter().flat_map(of).collect()
}
