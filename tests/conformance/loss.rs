//! The head's loss: values, hits, gradients by the input and by the head.

use crate::harness::{Case, Field, Outputs, is_gradient, noise, tensor, unset};
use crate::weights::{Held, Storage};
use peft_kernels::reference::Reference;
use peft_kernels::{Backend, DType, FourBitKind, IGNORE_INDEX, LossParams, Matrix, Result, Write};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    rows: usize,
    d: usize,
    vocab: usize,
    storage: Storage,
    softcap: Option<f32>,
    dx: bool,
    dw: bool,
    /// Every so many rows are ignored; 1: all of them.
    ignored: usize,
    /// So many rows before the others are ignored, as a question is.
    question: usize,
}

impl Head {
    fn targets(self) -> Vec<i32> {
        let target = |i: usize| ((i * 31 + 7) % self.vocab) as i32;
        let is_ignored = |i: usize| i < self.question || (i + 1).is_multiple_of(self.ignored);
        (0..self.rows).map(|i| if is_ignored(i) { IGNORE_INDEX } else { target(i) }).collect()
    }

    fn params(self) -> LossParams {
        LossParams { softcap: self.softcap, gradient_scale: 0.125 }
    }
}

impl Case for Head {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, d, vocab, storage, .. } = self;
        let (x, w) = (Field::noise(be, 1, rows, d), Held::new(be, storage, 2, vocab, d));
        let (mut loss, mut correct) = (unset(be, rows, 1), unset(be, rows, 1));
        let mut dx = Field::output(be, rows, d, Write::Set);
        let mut dw = tensor(be, 3, vocab, d);
        let into = (self.dx.then(|| dx.view_mut()), self.dw.then_some(&mut dw));
        be.head_loss(&mut loss, &mut correct, into.0, into.1, x.view(), w.matrix(), &self.targets(), &self.params())?;
        let mut outputs =
            vec![("loss", be.download(&loss)?), ("correct", be.download(&correct)?), ("dw", be.download(&dw)?)];
        if self.dx {
            outputs.push(("dx", dx.take(be)));
        }
        Ok(outputs)
    }
}

pub(crate) fn head() -> Vec<Head> {
    let mut cases = Vec::new();
    let storages =
        [Storage::Trainable, Storage::Dense(DType::BF16), Storage::FourBit(FourBitKind::Nf4, true, DType::BF16)];
    for (i, (rows, d, vocab)) in
        [(1, 1, 1), (1, 7, 33), (5, 33, 7), (7, 64, 129), (33, 129, 1000), (129, 5, 3001)].into_iter().enumerate()
    {
        for storage in storages {
            for (dx, dw) in [(false, false), (true, false), (false, true), (true, true)] {
                let softcap = [None, Some(4.0)][i % 2];
                cases.push(Head {
                    rows,
                    d,
                    vocab,
                    storage,
                    softcap,
                    dx,
                    dw,
                    ignored: [1000, 2, 3][i % 3],
                    question: 0,
                });
            }
        }
    }
    let plain = Head {
        rows: 20,
        d: 16,
        vocab: 5000,
        storage: storages[1],
        softcap: Some(30.0),
        dx: true,
        dw: true,
        ignored: 4,
        question: 0,
    };
    // More than one block of the vocabulary, more than one chunk of rows.
    for (dw, softcap) in [(false, None), (true, None), (false, Some(3.0)), (true, Some(3.0))] {
        cases.push(Head { rows: 7, d: 5, vocab: 20_000, softcap, dw, ..plain });
        cases.push(Head { rows: 1100, d: 3, vocab: 33, softcap, dw, ..plain });
        // Rows that follow each other, behind a question and before its end.
        cases.push(Head { question: 9, ignored: 20, softcap, dw, ..plain });
    }
    // Nothing to learn: zeros everywhere, the gradient of the head untouched.
    cases.push(Head { ignored: 1, ..plain });
    cases.push(plain);
    cases
}

pub(crate) fn gradient() {
    let be = Reference;
    for softcap in [None, Some(2.0)] {
        let case = Head {
            rows: 5,
            d: 4,
            vocab: 6,
            storage: Storage::Trainable,
            softcap,
            dx: true,
            dw: true,
            ignored: 3,
            question: 0,
        };
        let (x, w) = (noise(1, case.rows * case.d), noise(2, case.vocab * case.d));
        let run = |x: &[f32], w: &[f32]| {
            let (x, w) = (Field::holding(&be, case.rows, case.d, x), be.tensor(case.vocab, case.d, w).expect("memory"));
            let (mut loss, mut correct) = (unset(&be, case.rows, 1), unset(&be, case.rows, 1));
            let mut dx = Field::output(&be, case.rows, case.d, Write::Set);
            let mut dw = be.zeros(case.vocab, case.d).expect("memory");
            let into = (Some(dx.view_mut()), Some(&mut dw));
            let w = Matrix::Dense(&w);
            be.head_loss(&mut loss, &mut correct, into.0, into.1, x.view(), w, &case.targets(), &case.params())
                .expect("shapes fit");
            let loss = be.download(&loss).expect("download");
            let total = loss.iter().map(|&l| f64::from(l)).sum::<f64>() * f64::from(case.params().gradient_scale);
            (total, dx.take(&be), be.download(&dw).expect("download"))
        };
        let (_, dx, dw) = run(&x, &w);
        is_gradient("head_loss dx", &x, &dx, |x| run(x, &w).0);
        is_gradient("head_loss dw", &w, &dw, |w| run(&x, w).0);
    }
}
