//! Scales and sums by row.

use crate::harness::{Case, Field, Outputs, tensor, unset};
use peft_kernels::{Backend, Result, Write};

#[derive(Debug)]
pub(crate) struct Rows {
    /// Rows and columns.
    shape: (usize, usize),
    write: Write,
}

impl Case for Rows {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { shape: (rows, cols), write } = self;
        let (a, b, s) = (Field::noise(be, 1, rows, cols), Field::noise(be, 2, rows, cols), tensor(be, 3, rows, 1));
        let mut scaled = Field::output(be, rows, cols, write);
        be.scale_rows(scaled.view_mut(), a.view(), &s, write)?;
        let mut dots = unset(be, rows, 1);
        be.row_dots(&mut dots, a.view(), b.view())?;
        Ok(vec![("scale_rows", scaled.take(be)), ("row_dots", be.download(&dots)?)])
    }
}

pub(crate) fn rows() -> Vec<Rows> {
    let of = |shape| [Write::Set, Write::Add].map(|write| Rows { shape, write });
    [(1, 1), (1, 129), (5, 7), (33, 33), (129, 5), (300, 70)].into_iter().flat_map(of).collect()
}
