//! Rotary embedding: whole and partial heads, forward and back.

use crate::harness::{Case, Field, Outputs, dot, is_gradient, nmse, noise};
use peft_kernels::reference::Reference;
use peft_kernels::{Backend, Result, RopeParams, Tensor, Turn};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rope {
    rows: usize,
    heads: usize,
    head_dim: usize,
    rotary_dim: usize,
    turn: Turn,
}

impl Rope {
    fn table<B: Backend>(self, be: &B) -> Tensor<B> {
        let half = self.rotary_dim / 2;
        let angle = |p: usize, j: usize| p as f32 / 50.0_f32.powf(j as f32 / half as f32);
        let data: Vec<f32> = (0..self.rows + 3)
            .flat_map(|p| (0..half).map(move |j| angle(p, j).cos()).chain((0..half).map(move |j| angle(p, j).sin())))
            .collect();
        be.tensor(self.rows + 3, self.rotary_dim, &data).expect("memory for a test")
    }

    /// Out of order, with repetitions, up to the last.
    fn positions(self) -> Vec<u32> {
        (0..self.rows as u32).map(|i| (i * 7 + 2) % (self.rows as u32 + 3)).collect()
    }

    fn turned<B: Backend>(self, be: &B, x: &[f32], turn: Turn) -> Result<Vec<f32>> {
        let mut x = Field::holding(be, self.rows, self.heads * self.head_dim, x);
        let params = RopeParams { head_dim: self.head_dim, rotary_dim: self.rotary_dim };
        be.rope(x.view_mut(), &self.table(be), &self.positions(), &params, turn)?;
        Ok(x.take(be))
    }
}

impl Case for Rope {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        Ok(vec![("x", self.turned(be, &noise(1, self.rows * self.heads * self.head_dim), self.turn)?)])
    }
}

pub(crate) fn rope() -> Vec<Rope> {
    let mut cases = Vec::new();
    let sizes =
        [(1, 1, 2, 2), (1, 3, 64, 64), (5, 2, 6, 4), (7, 1, 128, 128), (33, 5, 96, 24), (129, 4, 10, 10), (3, 2, 8, 0)];
    for (rows, heads, head_dim, rotary_dim) in sizes {
        for turn in [Turn::Forward, Turn::Back] {
            cases.push(Rope { rows, heads, head_dim, rotary_dim, turn });
        }
    }
    cases
}

pub(crate) fn gradient() {
    let (be, case) = (Reference, Rope { rows: 3, heads: 2, head_dim: 6, rotary_dim: 4, turn: Turn::Forward });
    let (x, g) = (noise(1, 36), noise(2, 36));
    let forward = |x: &[f32]| case.turned(&be, x, Turn::Forward).expect("shapes fit");
    let dx = case.turned(&be, &g, Turn::Back).expect("shapes fit");
    is_gradient("rope dx", &x, &dx, |x| dot(&forward(x), &g));
    let there_and_back = case.turned(&be, &forward(&x), Turn::Back).expect("shapes fit");
    assert!(nmse(&there_and_back, &x) < 1e-12, "a turn back undoes a turn");
}
