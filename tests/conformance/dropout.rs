//! Dropout: the same mask everywhere.

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
