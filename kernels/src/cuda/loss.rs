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
        let (x, dx, dw) = (x.place(), dx.map(|dx| dx.place()), dw.map(|dw| dw.place()));
        let is_gradient = dx.is_some() || dw.is_some();
        let counted: Vec<u32> = (0u32..).zip(targets).filter(|(_, target)| **target >= 0).map(|(i, _)| i).collect();
        let is_gathered = counted.len() < targets.len();
        if is_gathered {
            // What no loss counts costs nothing: its rows are neither multiplied nor sent back.
            self.fill_rows(loss.place(), loss.rows(), loss.cols(), 0.0)?;
            self.fill_rows(correct.place(), correct.rows(), correct.cols(), 0.0)?;
            dx.map_or(Ok(()), |dx| self.fill_rows(dx, targets.len(), d, 0.0))?;
        }
        let most = (LOGITS / vocab.max(1)).clamp(1, counted.len().max(1));
        let logits = Memory::uninit(&self.device, OP, most * vocab, size_of::<f32>())?;
        let logits = (Place::single(logits.address(), vocab), logits);
        let room = if is_gathered { most * d } else { 0 };
        let (rows_of_x, rows_of_dx) = (self.room(OP, room)?, self.room(OP, if dx.is_some() { room } else { 0 })?);
        let (all_targets, places) = (self.small(OP, targets)?, self.small(OP, &counted)?);
        for first in (0..counted.len()).step_by(most) {
            let rows = most.min(counted.len() - first);
            let chosen = element(places.address(), first);
            let x = if is_gathered {
                let gathered = Place::single(rows_of_x.address(), d);
                self.move_rows(gathered, x, chosen, [rows, d], false)?;
                gathered
            } else {
                x.at_row(first)
            };
            self.times_weight(logits.0, x, w, None, rows, Write::Set)?;
            let call = Call::new(&*self.device, "cross_entropy").whole(loss).whole(correct).address(logits.0.address);
            let call = call.memory(&all_targets).address(chosen).sizes([rows, vocab]);
            let call = call.flag(params.softcap.is_some()).number(params.softcap.unwrap_or(0.0));
            call.number(params.gradient_scale).flag(is_gradient).blocks(rows)?;
            if let Some(dx) = dx {
                let gathered = Place::single(rows_of_dx.address(), d);
                let to = if is_gathered { gathered } else { dx.at_row(first) };
                self.times_weight_back(to, logits.0, w, rows, Write::Set)?;
                if is_gathered {
                    self.move_rows(dx, gathered, chosen, [rows, d], true)?;
                }
            }
            if let Some(dw) = dw {
                let sides = (Side::columns(logits.0), Side::columns(x));
                self.product(dw, sides, None, [vocab, d, rows], 1.0, Write::Add)?;
            }
        }
        Ok(())
    }

    fn room(&self, op: &'static str, count: usize) -> Result<Memory<D>> {
        Memory::uninit(&self.device, op, count, size_of::<f32>())
    }

    /// Rows of `x` whose numbers lie at `chosen` to the rows of `y` in their order, or, `back`, the other way round.
    fn move_rows(&self, y: Place, x: Place, chosen: u64, size: [usize; 2], back: bool) -> Result<()> {
        let call = Call::new(&*self.device, "move_rows").window(&y).window(&x).address(chosen);
        call.sizes(size).flag(back).elements(size[0] * size[1])
    }
}
