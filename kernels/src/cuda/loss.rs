//! The head's loss: logits of some rows at a time, turned into their gradient where they lie.

use super::Cuda;
use super::call::{Call, Place, Placed, element};
use super::device::Device;
use super::memory::Memory;
use super::product::Side;
use crate::backend::{LossParams, Write};
use crate::error::Result;
use crate::tensor::{In, Out, Tensor};
use crate::weight::Matrix;

/// Logits that exist at once.
const LOGITS: usize = 64 << 20;

impl<D: Device> Cuda<D> {
    /// [`crate::Backend::head_loss`] of shapes that fit.
    pub(super) fn loss_of_head(
        &self,
        loss: &Tensor<Self>,
        correct: &Tensor<Self>,
        dx: Option<Out<Self>>,
        dw: Option<&mut Tensor<Self>>,
        x: In<Self>,
        w: Matrix<Self>,
        targets: &[i32],
        params: &LossParams,
    ) -> Result<()> {
        const OP: &str = "head_loss";
        let (vocab, d) = super::dims(w);
        let most = (LOGITS / vocab.max(1)).clamp(1, targets.len().max(1));
        let logits = Memory::uninit(&self.device, OP, most * vocab, size_of::<f32>())?;
        let logits = (Place { address: logits.address(), stride: vocab }, logits);
        let all_targets = self.small(OP, targets)?;
        let (x, dx, dw) = (x.place(), dx.map(|dx| dx.place()), dw.map(|dw| dw.place()));
        let is_gradient = dx.is_some() || dw.is_some();
        for first in (0..targets.len()).step_by(most) {
            let rows = most.min(targets.len() - first);
            let x = x.from_row(first);
            self.times_weight(logits.0, x, w, None, rows, Write::Set)?;
            let call = Call::new(&*self.device, "cross_entropy").address(element(loss.buf.address(), first));
            let call = call.address(element(correct.buf.address(), first)).address(logits.0.address);
            let call = call.address(element(all_targets.address(), first)).sizes([rows, vocab]);
            let call = call.flag(params.softcap.is_some()).number(params.softcap.unwrap_or(0.0));
            call.number(params.gradient_scale).flag(is_gradient).blocks(rows)?;
            if let Some(dx) = dx {
                self.times_weight_back(dx.from_row(first), logits.0, w, rows, Write::Set)?;
            }
            if let Some(dw) = dw {
                let sides = (Side::columns(logits.0), Side::columns(x));
                self.product(dw, sides, None, [vocab, d, rows], 1.0, Write::Add)?;
            }
        }
        Ok(())
    }
}
