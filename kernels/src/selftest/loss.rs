//! The head's loss: values, hits, gradients by the input and by the head; the soft cap alone.

use super::Case;
use super::rig::Rig;
use super::weights::{Held, Storage};
use crate::IGNORE_INDEX;
use crate::backend::{Backend, LossParams, Write};
use crate::error::Result;
use crate::weight::{DType, FourBitKind};

#[derive(Clone, Copy)]
pub(super) struct Head {
    rows: usize,
    d: usize,
    vocab: usize,
    storage: Storage,
    softcap: Option<f32>,
    /// Whether the gradient by the input is wanted, and by the head.
    gradients: (bool, bool),
    /// Every so many rows are ignored; 1: all of them.
    ignored: usize,
}

impl Case for Head {
    fn name(&self) -> String {
        let &Self { rows, d, vocab, storage, softcap, gradients, ignored } = self;
        let word = |is_there, word| if is_there { word } else { "" };
        let words = [
            word(gradients.0, ", dx"),
            word(gradients.1, ", dw"),
            word(softcap.is_some(), ", soft cap"),
            word(ignored == 1, ", nothing trained"),
        ];
        format!("head_loss [{rows}, {d}] by [{vocab}, {d}] {}{}", storage.label(), words.concat())
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let &Self { rows, d, vocab, storage, softcap, gradients, ignored } = self;
        let (x, w) = (rig.input(rows, d)?, Held::draw(rig, storage, vocab, d)?);
        let is_ignored = |i: usize| (i + 1).is_multiple_of(ignored);
        let targets: Vec<i32> =
            (0..rows).map(|i| if is_ignored(i) { IGNORE_INDEX } else { rig.below(vocab) as i32 }).collect();
        let (mut loss, mut correct) = (rig.unset(rows, 1)?, rig.unset(rows, 1)?);
        let (mut dx, mut dw) = (rig.output(rows, d, Write::Set)?, rig.tensor(vocab, d)?);
        let into = (gradients.0.then(|| dx.view_mut()), gradients.1.then_some(&mut dw));
        let params = LossParams { softcap, gradient_scale: 0.125 };
        rig.be.head_loss(&mut loss, &mut correct, into.0, into.1, x.view(), w.matrix(), &targets, &params)?;
        rig.take_tensor("loss", &loss)?;
        rig.take_tensor("correct", &correct)?;
        rig.take_tensor("dw", &dw)?;
        if gradients.0 {
            rig.take("dx", &dx)?;
        }
        Ok(())
    }
}

pub(super) fn head() -> Vec<Head> {
    let storages = [
        Storage::Trainable,
        Storage::Dense(DType::BF16),
        Storage::Dense(DType::F16),
        Storage::Dense(DType::F32),
        Storage::FourBit(FourBitKind::Nf4, true, DType::BF16),
        Storage::FourBit(FourBitKind::Fp4, false, DType::F16),
    ];
    let mut cases = Vec::new();
    for (i, (rows, d, vocab)) in [(5, 33, 7), (9, 64, 129), (33, 48, 700), (20, 7, 3001)].into_iter().enumerate() {
        for (j, storage) in storages.into_iter().enumerate() {
            let gradients = [(true, true), (true, false), (false, true), (false, false)][(i + j) % 4];
            let softcap = [None, Some(4.0)][(i + j / 2) % 2];
            cases.push(Head { rows, d, vocab, storage, softcap, gradients, ignored: [1000, 2, 3][i % 3] });
        }
    }
    // Nothing to learn: zeros everywhere, the gradient of the head untouched.
    cases.push(Head { ignored: 1, gradients: (true, true), ..cases[0] });
    cases
}

pub(super) struct Softcap {
    rows: usize,
    cols: usize,
    cap: f32,
}

impl Case for Softcap {
    fn name(&self) -> String {
        format!("softcap [{}, {}] at {}", self.rows, self.cols, self.cap)
    }

    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()> {
        let mut x = rig.tensor(self.rows, self.cols)?;
        rig.be.softcap(&mut x, self.cap)?;
        rig.take_tensor("x", &x)
    }
}

pub(super) fn softcap() -> Vec<Softcap> {
    [(1, 5, 1.25), (33, 129, 0.2), (129, 70, 30.0)].map(|(rows, cols, cap)| Softcap { rows, cols, cap }).into()
}
